"""A Dask scheduler in this process, whose workers are Slurm jobs.

In: a folder for logs, how many jobs; Dask's configuration (`jobqueue.slurm`). Out: the
scheduler. Raises `InputError` where Slurm is not here or takes no job.
"""

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import errors, paths
from helpers.study import step_process

if TYPE_CHECKING:
    import distributed


@contextlib.contextmanager
def jobs_of(logs: Path) -> Iterator["distributed.SpecCluster"]:
    """Yield a scheduler in this process for Slurm jobs, each a worker for one step at a time, which
    has all of the job's cores. Dask's configuration has the rest. None is submitted before `begin`.

    Args:
        logs: folder for the logs of jobs, in `.state/` of the results.

    Raises:
        InputError: Slurm is not here, or would not take a job: then nothing is left of `logs`.
    """
    import dask
    import dask_jobqueue

    is_here()
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
    with (
        _removed_if_empty(logs),
        dask_jobqueue.SLURMCluster(
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
            scheduler_options={"dashboard": False, "dashboard_address": ":0"}
            | setting["scheduler-options"],
        ) as cluster,
    ):
        _takes(cluster.job_script())
        yield cluster


@contextlib.contextmanager
def _removed_if_empty(logs: Path) -> Iterator[None]:
    """Remove the folder of logs afterwards, and those around it that were not there before, where
    nothing is in them.
    """
    absent = [folder for folder in (logs, *logs.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in absent:
            with contextlib.suppress(OSError):
                folder.rmdir()


def is_here() -> None:
    """Accept a machine that has Slurm.

    Raises:
        InputError: it has not.
    """
    if not shutil.which("sbatch"):
        errors.refuse("Slurm's sbatch for --cluster slurm", "none in PATH", "Log in where it is.")


def begin(cluster: "distributed.SpecCluster", jobs: int) -> None:
    """Submit jobs, one at least and `jobs` at most, as steps ask for them."""
    # Dask's own guess of a task's time, half a second, would leave all steps to one job.
    cluster.adapt(minimum_jobs=1, maximum_jobs=jobs, target_duration="1ms")


def _takes(script: str) -> None:
    """Accept a job that Slurm would run; none is submitted.

    Raises:
        InputError: it would not.
    """
    tried = subprocess.run(["sbatch", "--test-only"], input=script, text=True, capture_output=True)
    if tried.returncode:
        errors.refuse(
            "Slurm to take a job",
            (tried.stderr.strip().splitlines() or ["no message"])[-1],
            "Run it where `sbatch` works, or correct `jobqueue.slurm` in Dask's configuration.",
        )
