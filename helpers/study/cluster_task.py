"""What a worker of a cluster does with a step: looks whether it may run it here, and runs it.

In: a step's work, and the code and versions with which it was planned. Out: the exit code and
seconds of its process. Raises `InputError` for other code, another folder, or a disk without locks.
"""

import socket
import time
from pathlib import Path

from helpers.core import errors, fingerprints, locks, machine, paths, run_records
from helpers.study import notebook_files, step_process


def run_step(work: dict[str, str], expected: dict[str, str], token: str) -> tuple[int, float]:
    """Run a step on this worker; return the exit code of its process, and its seconds.

    Guarantees: the process ends with this worker, and when the task is cancelled, as it is when the
        submitting command is gone; a worker that closes gives it back to the scheduler.

    Args:
        work: the fields of a `step_process.Work`.
        expected: see `code_and_versions`.
        token: see `check_folders`.

    Raises:
        InputError: see `check_folders` and `check_code`.
    """
    import distributed  # here, because ordinary users do not have it
    from distributed import core

    settled = step_process.Work(**work)
    check_folders(Path(settled.results), settled.register, token)
    check_code(settled.notebook, expected)
    worker = distributed.get_worker()
    tasks, task = worker.state.tasks, worker.get_current_task()
    process = step_process.StepProcess(settled, machine.threads())
    try:
        while (code := process.poll()) is None:
            is_at_work = worker.status in (core.Status.running, core.Status.paused)
            if tasks[task].state == "cancelled" or not is_at_work:
                raise distributed.Reschedule
            time.sleep(0.1)
        return code, process.seconds
    finally:
        if process.poll() is None:
            process.stop()


def token_path(folder: Path, token: str) -> Path:
    """Return the file by which a worker knows the folders of the submitting command."""
    return folder / f".cluster-{token}"


def check_folders(results: Path, register: str, token: str) -> None:
    """Accept the results folder and the privacy register of the submitting command, as seen from
    here.

    Guarantees: a lock on this disk keeps processes of other machines out, so that no two of them
        train one run; what is spent stands in the register that the command has looked into.

    Args:
        results: the folder.
        register: its folder, "" where it lies in the results.
        token: of the command, which has written a file of that name into both.

    Raises:
        InputError: they are other folders, or locks do not reach them.
    """
    if not locks.is_taken(results / ".lock"):
        errors.refuse(
            f"{results} on {socket.gethostname()} to be the folder that run_all.py holds",
            "another folder, or a disk whose locks do not reach other machines",
            "Put --out on a disk with such locks that all workers share, under the same path.",
        )
    for folder in filter(None, (str(results), register)):
        if not token_path(Path(folder), token).is_file():
            errors.refuse(
                f"{folder} on {socket.gethostname()} to be that of run_all.py",
                "another folder",
                "Put it on a disk that all workers share, under the same path.",
            )


def check_code(notebook: str, expected: dict[str, str]) -> None:
    """Accept this worker's code and versions.

    Raises:
        InputError: they differ from those with which the step was planned.
    """
    found = code_and_versions(notebook)
    different = [name for name in expected if found.get(name) != expected[name]]
    if different:
        errors.refuse(
            f"{' and '.join(f'{name} {expected[name]}' for name in different)} on every worker",
            f"{', '.join(str(found.get(name)) for name in different)} on {socket.gethostname()}",
            "Start workers from the environment and the copy of the package of run_all.py.",
        )


def code_and_versions(notebook: str) -> dict[str, str]:
    """Return what must be the same on a worker: a hash of the package's code and manifests and of a
    notebook's code, and the versions of packages that decide numbers.
    """
    root = paths.repository_root()
    sources = [*root.glob("helpers/**/*.py"), *root.glob("data_manifests/*.yaml")]
    hashes = {
        path.relative_to(root).as_posix(): fingerprints.file_hash(path)
        for path in [*sources, root / "run_notebook.py"]
    }
    cells = notebook_files.code_cells(root / notebook)
    code = fingerprints.fingerprint({"files": hashes, "notebook": cells})
    return {"this package": code[:12]} | run_records.versions()
