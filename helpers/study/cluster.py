"""Steps on a cluster: each is a task of Dask, on a worker that shares the results folder.

In: the address of a Dask scheduler, or "slurm"; steps. Out: processes like those of this machine
(`step_process`). A step whose worker is lost begins again on another one, at most as often as
Dask's `distributed.scheduler.allowed-failures` says. Raises `InputError` for an address without a
scheduler or workers, and for workers of other code, another folder or a disk without locks.
"""

import contextlib
import dataclasses
import logging
import re
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import errors, paths
from helpers.study import cluster_task, plan, step_process

if TYPE_CHECKING:
    import distributed

SLURM, ADDRESS = "slurm", re.compile(r"dask://([\w.-]+|\[[\da-fA-F:]+\]):(\d{1,5})")
SECONDS = 10  # to wait for an answer


def check(where: str | None, jobs: int | None) -> None:
    """Accept what --cluster and --jobs say.

    Raises:
        InputError: neither an address nor "slurm", no number of jobs for Slurm, or the extra is
            not installed.
    """
    if where is None:
        return
    if where != SLURM and not ADDRESS.fullmatch(where):
        errors.refuse(
            "--cluster to be dask://HOST:PORT or slurm", repr(where), "Correct the command."
        )
    if where == SLURM and jobs is None:
        errors.refuse(
            "--jobs with --cluster slurm, the most Slurm jobs at a time", "none", "Set it."
        )
    try:
        import dask_jobqueue  # noqa: F401 - here, because ordinary users have neither
        import distributed  # noqa: F401
    except ImportError as error:
        errors.refuse(
            "the packages of the extra `cluster`",
            f"an environment without {error.name}",
            "pip install distributed dask-jobqueue -c constraints.txt",
        )


@contextlib.contextmanager
def workers(where: str | None, jobs: int | None, results: Path) -> Iterator["Workers | None"]:
    """Yield the workers of a cluster, None where `where` is None; end the Slurm jobs afterwards.

    Args:
        where, jobs: from the command line, see `check`.
        results: the results folder, where Slurm jobs write their logs.

    Raises:
        InputError: no scheduler or worker answers, or Slurm takes no job.
    """
    if where is None:
        yield None
        return
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said in one line
    with contextlib.ExitStack() as open_until_the_end:
        scheduler = address = where.removeprefix("dask://")
        if where == SLURM:
            logs = results / ".state" / "slurm"
            scheduler = open_until_the_end.enter_context(_slurm(jobs, logs))
        try:
            client = distributed.Client(scheduler, timeout=SECONDS, set_as_default=False)
        except (OSError, ValueError):
            errors.refuse(
                f"a Dask scheduler at {address}",
                f"none that answers in {SECONDS} s",
                "Start it (dask scheduler), or correct --cluster.",
            )
        open_until_the_end.enter_context(client)
        if where != SLURM:
            _has_workers(client, address)
        yield Workers(client, where, jobs)


def _has_workers(client: "distributed.Client", address: str) -> None:
    """Accept a scheduler with workers.

    Raises:
        InputError: there are none, nor come in `SECONDS`.
    """
    try:
        client.wait_for_workers(1, timeout=SECONDS)
    except TimeoutError:
        errors.refuse(
            f"workers of the scheduler at {address}",
            f"none in {SECONDS} s",
            f"Start them from this environment: dask worker {address}",
        )


@contextlib.contextmanager
def _slurm(jobs: int, logs: Path) -> Iterator["distributed.SpecCluster"]:
    """Yield a scheduler in this process with up to `jobs` Slurm jobs, each a worker for one step at
    a time, which has all of the job's cores. Dask's configuration has the rest.

    Raises:
        InputError: Slurm is not here, or does not take the first job.
    """
    import dask
    import dask_jobqueue

    if not shutil.which("sbatch"):
        errors.refuse("Slurm's sbatch for --cluster slurm", "none in PATH", "Log in where it is.")
    setting = {
        name: dask.config.get(f"jobqueue.slurm.{name}")
        for name in (
            "cores",
            "memory",
            "job-script-prologue",
            "log-directory",
            "scheduler-options",
        )
    }
    cores = setting["cores"] or 1
    with dask_jobqueue.SLURMCluster(
        cores=1,
        processes=1,
        job_cpu=cores,
        memory=setting["memory"] or f"{step_process.BYTES_PER_JOB}B",
        log_directory=setting["log-directory"] or str(logs),
        job_script_prologue=[
            *setting["job-script-prologue"],
            f"export OMP_NUM_THREADS={cores}",
            f"export PYTHONPATH={shlex.quote(str(paths.repository_root()))}",
        ],
        scheduler_options={"dashboard": False} | setting["scheduler-options"],
    ) as cluster:
        _slurm_takes(cluster.job_script())
        # Dask's own guess of a task's time, half a second, would leave all steps to one job.
        cluster.adapt(minimum_jobs=1, maximum_jobs=jobs, target_duration="1ms")
        yield cluster


def _slurm_takes(script: str) -> None:
    """Accept a job that Slurm would run; none is submitted.

    Raises:
        InputError: it would not.
    """
    tried = subprocess.run(["sbatch", "--test-only"], input=script, text=True, capture_output=True)
    if tried.returncode:
        errors.refuse(
            "Slurm to take a job",
            (tried.stderr.strip().splitlines() or ["no message"])[-1],
            "Correct `jobqueue.slurm` in Dask's configuration.",
        )


class Workers:
    """The workers of a cluster."""

    def __init__(self, client: "distributed.Client", where: str, jobs: int | None) -> None:
        self.client, self.where, self.jobs = client, where, jobs

    def slots(self) -> int:
        """Return how many steps to hand over: --jobs, or as many as workers have threads."""
        return self.jobs or max(1, sum(self.client.nthreads().values()))

    def start(self, step: plan.Step, work: step_process.Work) -> "RemoteProcess":
        """Hand a step over. It asks for the resources GPU (1, where it trains) and MEMORY (bytes),
        each where a worker declares it.
        """
        known = self.client.scheduler_info()["workers"].values()
        declared = {name for worker in known for name in worker["resources"]}
        wanted = {"MEMORY": step_process.BYTES_PER_JOB} | ({"GPU": 1} if step.trains else {})
        future = self.client.submit(
            cluster_task.run_step,
            dataclasses.asdict(work),
            cluster_task.code_and_versions(work.notebook),
            key=f"{step.id}-{secrets.token_hex(4)}",
            resources={name: n for name, n in wanted.items() if name in declared},
            pure=False,
        )
        return RemoteProcess(future, Path(work.log), self.where)


class RemoteProcess:
    """A step under way on a worker, or waiting for one."""

    def __init__(self, future: "distributed.Future", log: Path, where: str) -> None:
        self.future, self.log, self.where = future, log, where
        self.started, self.seconds_on_worker = time.monotonic(), None

    @property
    def seconds(self) -> float:
        """Those its process took on the worker; before it has ended, since it was handed over."""
        return self.seconds_on_worker or time.monotonic() - self.started

    def poll(self) -> int | None:
        """Return the exit code of the step's process, None while there is none.

        Raises:
            InputError: the worker refused the step, or the scheduler is lost.
        """
        status, code = self.future.status, None
        if status == "finished":
            with contextlib.suppress(TimeoutError):  # its worker was lost before it could say so
                code, self.seconds_on_worker = self.future.result(timeout=SECONDS)
        elif status != "pending":
            code = self._lost(self.future.exception(timeout=SECONDS) if status == "error" else None)
        return code

    def _lost(self, error: Exception | None) -> int:
        """Return 1 where worker after worker was lost with the step; raise what else went wrong."""
        import distributed

        if isinstance(error, distributed.KilledWorker):
            self.log.write_text("its worker was lost, and those of its next trials, too")
            return 1
        if isinstance(error, errors.InputError):
            raise error
        errors.refuse(
            f"the workers of {self.where} to run the step",
            f"{type(error).__name__}: {error}" if error else "a scheduler that is lost",
            "Start all of it from this environment, and give the same command again.",
        )
        return 1

    def stop(self) -> None:
        """Have the step ended on its worker."""
        self.future.cancel()
