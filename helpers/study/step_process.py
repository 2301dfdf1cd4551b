"""A step as a process of its own, which executes its notebook (`run_notebook.py`).

In: a step's work: notebook, parameters, folders. Out: a process that can be asked whether it has
ended, and be stopped with its kernel.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from helpers.core import paths, progress
from helpers.privacy import register
from helpers.study import plan

BYTES_PER_JOB = 2 * 1024**3  # of memory, at most, but for large models and volumes
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step's process is told, in words that another machine understands too.

    Attributes:
        notebook: path within the repository.
        parameters: as JSON.
        page: path without ending of the executed notebook.
        results: the results folder.
        register: the folder of the privacy register that $PRIVACY_REGISTER names here; "" where it
            names none.
        log: file for standard error.
    """

    notebook: str
    parameters: str
    page: str
    results: str
    register: str
    log: str


def work_of(step: plan.Step, results: Path, log: Path) -> Work:
    """Return the work of a step.

    Guarantees: the process writes to the privacy register in which `planned_spending` looks, on
        whatever machine it runs.
    """
    root = paths.repository_root()
    is_own = step.notebook.is_relative_to(root)
    return Work(
        notebook=str(step.notebook.relative_to(root) if is_own else step.notebook),
        parameters=json.dumps(step.parameters),
        page=str(results / "notebooks" / step.id),
        results=str(results),
        register=str(register.named() or ""),
        log=str(log),
    )


def progress_path(log: Path) -> Path:
    """Return the file in which a step's progress bars say how far they are."""
    return log.with_suffix(".progress")


class StepProcess(subprocess.Popen):
    """A step under way on this machine, in a process group of its own; ends when this process does.

    Args:
        work: see `work_of`.
        threads: to compute with.
    """

    def __init__(self, work: Work, threads: int) -> None:
        self.started = time.monotonic()
        with open(work.log, "w") as stream:
            super().__init__(
                [
                    sys.executable,
                    "run_notebook.py",
                    work.notebook,
                    "--parameters",
                    work.parameters,
                    "--to",
                    work.page,
                    "--end-with-parent",
                ],
                cwd=paths.repository_root(),
                env=os.environ
                | {name: str(threads) for name in THREAD_VARIABLES}
                | {"RESULTS_DIR": work.results, "PRIVACY_REGISTER": work.register}
                | {progress.VARIABLE: str(progress_path(Path(work.log)))},
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stream,
            )

    @property
    def seconds(self) -> float:
        """The time since it was started."""
        return time.monotonic() - self.started

    def stop(self) -> None:
        """Kill the step with its kernel."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for member in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        self.kill()
        self.wait()
