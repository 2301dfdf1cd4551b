"""What is refused before and on a cluster, and what a step asks its workers for."""

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Client, LocalCluster

import run_all
from helpers.core import errors, locks
from helpers.study import (
    batches,
    cluster,
    cluster_task,
    notebook_files,
    plan,
    step_cache,
    step_process,
)


def step_of(number, results):
    """A step of a notebook, and its work."""
    step = plan.Step(f"{number}_step", notebook_files.notebooks()[number], {"SEED": 1})
    return step, step_process.work_of(step, results, results / "log")


@pytest.fixture
def no_wait(monkeypatch):
    """An answer is not waited for."""
    monkeypatch.setattr(cluster, "SECONDS", 0.5)


@pytest.fixture
def scheduler():
    """A scheduler in this process, which has no workers yet."""
    with LocalCluster(
        n_workers=0, processes=False, dashboard_address=":0", protocol="tcp", host="127.0.0.1"
    ) as made:
        yield made


@pytest.mark.parametrize(
    "words, message",
    [
        (["--cluster", "tcp://here:8786"], "dask://HOST:PORT or slurm; got 'tcp://here:8786'"),
        (["--cluster", "dask://here"], "dask://HOST:PORT or slurm; got 'dask://here'"),
        (["--cluster", "slurm"], "--jobs with --cluster slurm"),
    ],
)
def test_a_place_that_is_none_is_refused(words, message, tmp_path, capsys):
    assert run_all.main(["--profile", "smoke", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_without_the_extra_ordinary_studies_go_on_and_clusters_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    cluster.check(None, None)
    with pytest.raises(errors.InputError, match="the extra `cluster`; got .* without distributed"):
        cluster.check("dask://here:8786", None)


def test_an_address_without_a_scheduler_is_refused_in_one_line(no_wait, tmp_path, capsys):
    words = ["--cluster", "dask://127.0.0.1:1", "--out", str(tmp_path / "out")]
    for more in ([], ["--dry-run"]):
        assert run_all.main(["--profile", "smoke", *words, *more]) == 2
        said = capsys.readouterr().err
        assert "a Dask scheduler at 127.0.0.1:1; got none that answers" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_scheduler_without_workers_is_refused(no_wait, scheduler, tmp_path):
    address = scheduler.scheduler_address.removeprefix("tcp://")
    with (
        pytest.raises(errors.InputError, match=f"workers of the scheduler at {address}; got none"),
        cluster.workers(f"dask://{address}", None, tmp_path),
    ):
        pass


def test_slurm_where_there_is_none_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(errors.InputError, match="Slurm's sbatch for --cluster slurm; got none"),
        cluster.workers("slurm", 2, tmp_path),
    ):
        pass


def test_slurm_that_takes_no_job_is_refused_with_what_it_said(monkeypatch, tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        pytest.raises(errors.InputError, match="Slurm to take a job; got .*invalid partition"),
        cluster.workers("slurm", 2, tmp_path / "out"),
    ):
        pass
    assert not (tmp_path / "out").exists()


# ---- on a worker


def test_a_folder_that_nobody_holds_is_refused(tmp_path):
    cluster_task.token_path(tmp_path, "ab").touch()
    with pytest.raises(errors.InputError, match="to be the folder that run_all.py holds"):
        cluster_task.check_folders(tmp_path, "", "ab")
    (tmp_path / ".lock").write_text("process 1 on another disk\n")
    with pytest.raises(errors.InputError, match="locks do not reach other machines"):
        cluster_task.check_folders(tmp_path, "", "ab")
    locks.hold(tmp_path / ".lock", "", "")
    try:
        cluster_task.check_folders(tmp_path, "", "ab")
        for register, token in (("", "cd"), (str(tmp_path / "register"), "ab")):
            with pytest.raises(errors.InputError, match="to be that of run_all.py; got another"):
                cluster_task.check_folders(tmp_path, register, token)
    finally:
        locks.release(tmp_path / ".lock")


def test_results_and_register_have_the_token_as_long_as_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "register"))
    with cluster._token_in(tmp_path / "results") as token:
        for folder in ("results", "register"):
            assert cluster_task.token_path(tmp_path / folder, token).is_file()
    assert not list(tmp_path.glob("*/.cluster-*"))


def test_other_code_or_versions_are_refused_by_name(tmp_path):
    notebook = step_of("03", tmp_path)[1].notebook
    here = cluster_task.code_and_versions(notebook)
    cluster_task.check_code(notebook, here)
    with pytest.raises(errors.InputError, match="torch 1.0 on every worker; got 2"):
        cluster_task.check_code(notebook, here | {"torch": "1.0"})
    other = cluster_task.code_and_versions(step_of("02", tmp_path)[1].notebook)
    with pytest.raises(errors.InputError, match="this package [0-9a-f]{12} on every worker; got"):
        cluster_task.check_code(notebook, other)


def test_the_register_of_the_command_goes_with_each_step(tmp_path, monkeypatch):
    monkeypatch.delenv("PRIVACY_REGISTER", raising=False)
    assert step_of("03", tmp_path)[1].register == ""
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "hospital"))
    step, work = step_of("03", tmp_path)
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "of the worker"))
    started = []
    monkeypatch.setattr(
        step_process.subprocess.Popen,
        "__init__",
        lambda process, command, env, **named: started.append(env),
    )
    step_process.StepProcess(work, threads=1)
    assert started[0]["PRIVACY_REGISTER"] == str(tmp_path / "hospital")


@pytest.mark.parametrize(
    "declared, number, asked",
    [
        ({}, "03", {}),
        ({"GPU": 2, "MEMORY": 8e9}, "03", {"GPU": 1, "MEMORY": step_process.BYTES_PER_JOB}),
        ({"GPU": 2}, "04", {}),
    ],
)
def test_a_step_asks_for_what_workers_declare(declared, number, asked, scheduler, tmp_path):
    with Client(scheduler, set_as_default=False) as client:
        scheduler.scale(1)
        client.wait_for_workers(1)
        (worker,) = scheduler.workers.values()
        client.sync(worker.set_resources, **declared)
        workers = cluster.Workers(client, "dask://here:1", None, contextlib.ExitStack())
        process = workers.start(*step_of(number, tmp_path))
        with pytest.raises(errors.InputError, match="to be the folder that run_all.py holds"):
            while process.poll() is None:  # nobody holds it
                pass
        task = scheduler.scheduler.tasks[process.future.key]
        assert (task.resource_restrictions or {}) == asked


def test_an_error_of_dask_on_a_worker_is_one_line(scheduler, tmp_path):
    with Client(scheduler, set_as_default=False) as client:
        scheduler.scale(1)
        future = client.submit(cluster_task.run_step, {"notebook": "x"}, {})
        process = cluster.RemoteProcess(future, tmp_path / "log", "dask://here:1")
        with pytest.raises(errors.InputError, match="workers of dask://here:1 to run the step"):
            while process.poll() is None:
                pass


def test_work_survives_the_way_to_a_worker(tmp_path):
    work = step_of("02", tmp_path)[1]
    assert step_process.Work(**dataclasses.asdict(work)) == work
    assert not work.notebook.startswith("/")


def test_what_a_worker_has_written_may_be_seen_here_a_little_later(tmp_path, monkeypatch, capsys):
    step = plan.Step(
        "09_x", notebook_files.notebooks()["01"], {}, outputs=[Path("tables/09_x.csv")]
    )
    batch = batches.Batch(step_cache.Results(tmp_path), [step], [step])
    ended = SimpleNamespace(poll=lambda: 0, seconds=3.0)
    batch.workers, batch.running = (
        True,
        [batches.Execution(step, "key", ended, 1, tmp_path / "log")],
    )
    batch.gather()
    assert batch.running and not capsys.readouterr().out
    for path in [*step.outputs, *step_cache.pages(step)]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("contents")
    batch.gather()
    assert not batch.running and "09_x" in capsys.readouterr().out and not batch.complaints
    (tmp_path / step.outputs[0]).unlink()
    (tmp_path / "log").touch()
    batch.running = [batches.Execution(step, "key", ended, 1, tmp_path / "log")]
    monkeypatch.setattr(batches, "SHARED_DISK_SECONDS", 0)
    batch.gather()
    assert "it did not write 'tables/09_x.csv'" in batch.complaints[0]
