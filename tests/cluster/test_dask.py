"""Studies on Dask workers of this machine: one is lost, the command is killed, the code differs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dask
import pandas as pd
import psutil
import pytest
from cluster.conftest import wait_until
from distributed import Client, LocalCluster
from end_to_end.test_private_study import COHORT, N_STEPS, TINY, counted

from helpers.core import files

TRAINING = "03_dp_training-eps7.89-seed0"
DEMO = (*TINY, "03.MODE=demo", "EPSILONS=[7.89, 20]")


def pids(dask_workers, key=""):
    """Process ids of workers that have a task whose name begins so."""
    busy = [
        worker.address
        for worker in dask_workers.scheduler.workers.values()
        if any(task.key.startswith(key) for task in worker.processing)
    ]
    with Client(dask_workers, set_as_default=False) as client:
        return list(client.run(os.getpid, workers=busy).values()) if busy else []


def kill_while_training(dask_workers, begun: Path):
    """Kill the worker of the private step once it has begun."""
    wait_until(begun.exists, 300, "private run")
    (pid,) = pids(dask_workers, TRAINING)
    os.kill(pid, signal.SIGKILL)


def tables_of(out):
    """{name: table} of a results folder, without seconds."""
    paths = sorted(out.glob("tables/*.csv"))
    return {path.name: pd.read_csv(path).drop(columns="seconds", errors="ignore") for path in paths}


@pytest.fixture(scope="module")
def local_out(tmp_path_factory, start_study, finish):
    """The same study on one core of this machine, as each worker has one thread."""
    out = tmp_path_factory.mktemp("local") / "out"
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # inherited
    try:
        study = start_study("smoke", out, settings=DEMO)
    finally:
        os.sched_setaffinity(0, cores)
    assert finish(study).code == 0
    return out


@pytest.mark.slow
def test_a_study_that_loses_a_worker_has_the_tables_of_a_local_one(
    local_out, tmp_path, dask_workers, place, start_study, finish
):
    out = tmp_path / "out"
    study = start_study("smoke", out, "--cluster", place, settings=DEMO)
    kill_while_training(dask_workers, out / ".locks" / f"{COHORT}-dp-eps7.89-seed0.lock")
    done = finish(study)
    assert done.code == 0, done.complaint
    assert set(done.states.values()) == {"done"} and len(done.states) == 6
    assert not done.complaint
    here, there = tables_of(local_out), tables_of(out)
    assert list(here) == list(there) and len(here) > 5
    for name, table in here.items():
        pd.testing.assert_frame_equal(table, there[name], obj=name)


@pytest.mark.slow
def test_a_private_run_whose_worker_is_lost_is_trained_and_spent_once(
    local_out, tmp_path, dask_workers, place, start_study, finish
):
    out = tmp_path / "package" / "out"
    settings = (*TINY, "01.N_PATIENTS=80")
    study = start_study(
        "smoke",
        out,
        *("--cluster", place),
        settings=settings,
        environment={"PRIVACY_REGISTER": ""},
    )
    run = out / "runs" / f"{COHORT}-dp-eps7.89-seed0"
    kill_while_training(dask_workers, run / "private_run.json")
    done = finish(study)
    assert done.code == 0, done.complaint
    assert "This study plans 1 new private run, together epsilon 7.8" in done.said
    # the lost worker's run ended with nothing on disk, or was taken up
    assert counted(out.parent) in ([0, N_STEPS], [N_STEPS])
    assert (run / "record.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_steps_end_with_the_command(how, tmp_path, dask_workers, place, start_study, finish):
    study = start_study("smoke", tmp_path / "out", "--cluster", place, settings=DEMO)
    wait_until(lambda: kernels(dask_workers), 120, "step under way")
    study.send_signal(how)
    assert finish(study).code == (130 if how == signal.SIGTERM else -how)
    wait_until(lambda: not kernels(dask_workers), 10, "end of the step")


def kernels(dask_workers):
    """Processes of steps, and their kernels, below the workers."""
    with Client(dask_workers, set_as_default=False) as client:
        workers = client.run(os.getpid).values()
    return [child for pid in workers for child in psutil.Process(pid).children(recursive=True)]


@pytest.mark.slow
def test_workers_of_other_code_are_refused(tmp_path, place, copy_package, run_study):
    package = copy_package(tmp_path / "package")
    with open(package / "helpers/training/loop.py", "a") as helper:
        helper.write("# changed\n")
    environment = {"PYTHONPATH": str(package)}
    done = run_study(
        "smoke", tmp_path / "out", "--cluster", place, package=package, environment=environment
    )
    assert done.code == 2 and done.complaint.count("\n") == 1
    assert "this package" in done.complaint and "on every worker; got" in done.complaint


@pytest.mark.slow
def test_a_step_that_loses_each_of_its_workers_has_failed(tmp_path, start_study, finish):
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        workers = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0")
    with workers:
        place = workers.scheduler_address.replace("tcp://", "dask://")
        study = start_study("smoke", tmp_path / "out", "--cluster", place, "--only", "01")
        wait_until((tmp_path / "out/cohort").exists, 120, "step under way")
        os.kill(*pids(workers), signal.SIGKILL)
        done = finish(study)
    assert done.code == 1 and done.states == {"01_data_preparation": "FAILED"}
    assert "(step 01_data_preparation) failed: its worker was lost" in done.complaint
    assert done.complaint.count("\n") == 1


@pytest.mark.slow
def test_a_lost_scheduler_ends_command_and_step_in_one_line(tmp_path, start_study, finish):
    command, log = [sys.executable, "-m", "distributed.cli.dask_"], (tmp_path / "log").open("w")
    places = ["--port", "0", "--no-dashboard", "--scheduler-file", str(tmp_path / "place")]
    scheduler = subprocess.Popen([*command[:2], command[2] + "scheduler", *places], stderr=log)
    wait_until((tmp_path / "place").exists, 30, "scheduler")
    address = files.read_json(tmp_path / "place", "")["address"].removeprefix("tcp://")
    words = [address, "--nthreads", "1", "--no-dashboard"]
    worker = subprocess.Popen([*command[:2], command[2] + "worker", *words], stderr=log)
    try:
        words = ["--cluster", f"dask://{address}", "--only", "01"]
        study = start_study("smoke", tmp_path / "out", *words)
        wait_until((tmp_path / "out/cohort").exists, 120, "step under way")
        scheduler.kill()
        done = finish(study)
        assert done.code == 2 and done.complaint.count("\n") == 1
        assert "the scheduler of dask://" in done.complaint
        of_worker = psutil.Process(worker.pid)
        wait_until(lambda: not steps_below(of_worker), 60, "end of the step")
    finally:
        for process in (scheduler, worker):
            process.terminate()
            process.wait()
        log.close()


def steps_below(process):
    """Processes of steps below a worker, as long as it is there."""
    try:
        return [
            child
            for child in process.children(recursive=True)
            if "run_notebook.py" in child.cmdline()
        ]
    except psutil.NoSuchProcess:
        return []
