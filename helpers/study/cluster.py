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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import errors, files
from helpers.privacy import register
from helpers.study import cluster_task, plan, slurm, step_process

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
    """Yield the workers of a cluster, None where `where` is None; they are let go afterwards.

    Guarantees: where they are refused, nothing was written.

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

    for name in ("distributed", "distributed.client"):  # what matters is said in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as open_until_the_end:
        scheduler = address = where.removeprefix("dask://")
        if where == SLURM:
            scheduler = open_until_the_end.enter_context(slurm.jobs_of(_logs(results)))
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
        yield Workers(client, where, jobs, open_until_the_end)


@contextlib.contextmanager
def at_work(known: "Workers | None", results: Path) -> Iterator[None]:
    """Have workers at hand for a results folder that this process holds; end Slurm jobs after."""
    if known is None:
        yield
        return
    with known.open_until_the_end, _token_in(results) as known.token:
        if known.where == SLURM:
            # a command that was refused may have removed it
            _logs(results).mkdir(parents=True, exist_ok=True)
            slurm.begin(known.client.cluster, known.jobs)
        yield


def _logs(results: Path) -> Path:
    """Return where Slurm jobs write their logs."""
    return results / ".state" / "slurm"


@contextlib.contextmanager
def _token_in(results: Path) -> Iterator[str]:
    """Give results folder and privacy register a file by which workers know them, as long as the
    command runs.
    """
    token = secrets.token_hex(8)
    written = [
        cluster_task.token_path(folder, token) for folder in (results, register.named()) if folder
    ]
    try:
        for path in written:
            files.write_text(path, "a command is running steps on a cluster\n")
        yield token
    finally:
        for path in written:
            path.unlink(missing_ok=True)


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
def scheduler_of(where: str) -> Iterator[None]:
    """Say in one line that the scheduler is lost."""
    try:
        yield
    except OSError:
        refuse_lost(where)


def refuse_lost(where: str) -> None:
    """Refuse a scheduler that was there.

    Raises:
        InputError: always.
    """
    errors.refuse(
        f"the scheduler of {where} to go on",
        "none that answers",
        "Start it again, and give the same command: it goes on from here.",
    )


class Workers:
    """The workers of a cluster."""

    def __init__(
        self,
        client: "distributed.Client",
        where: str,
        jobs: int | None,
        open_until_the_end: contextlib.ExitStack,
    ) -> None:
        self.client, self.where, self.jobs = client, where, jobs
        self.open_until_the_end, self.token = open_until_the_end, ""

    def slots(self) -> int:
        """Return how many steps to hand over: --jobs, or as many as workers have threads."""
        with scheduler_of(self.where):
            return self.jobs or max(1, sum(self.client.nthreads().values()))

    def start(self, step: plan.Step, work: step_process.Work) -> "RemoteProcess":
        """Hand a step over. It asks for the resources GPU (1, where it trains) and MEMORY (bytes),
        each where a worker declares it.
        """
        with scheduler_of(self.where):
            known = self.client.scheduler_info()["workers"].values()
        declared = {name for worker in known for name in worker["resources"]}
        wanted = {"MEMORY": step_process.BYTES_PER_JOB} | ({"GPU": 1} if step.trains else {})
        future = self.client.submit(
            cluster_task.run_step,
            dataclasses.asdict(work),
            cluster_task.code_and_versions(work.notebook),
            self.token,
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
        if status in ("cancelled", "lost"):
            refuse_lost(self.where)
        if status == "finished":
            with contextlib.suppress(TimeoutError):  # its worker was lost before it could say so
                code, self.seconds_on_worker = self.future.result(timeout=SECONDS)
        elif status != "pending":
            code = self._failed(self.future.exception(timeout=SECONDS))
        return code

    def _failed(self, error: Exception) -> int:
        """Return 1 where worker after worker was lost with the step; raise what else went wrong."""
        import distributed

        if isinstance(error, distributed.KilledWorker):
            self.log.write_text("its worker was lost, and those of its next trials, too")
            return 1
        if isinstance(error, errors.InputError):
            raise error
        errors.refuse(
            f"the workers of {self.where} to run the step",
            f"{type(error).__name__}: {error}",
            "Start all of it from this environment, and give the same command again.",
        )
        return 1

    def stop(self) -> None:
        """Have the step ended on its worker."""
        self.future.cancel()
