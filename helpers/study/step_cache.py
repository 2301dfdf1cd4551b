"""The results folder: which steps are done, by the contents of what they read and wrote.

In: steps, the folder. Out: whether a step's results still hold; what was stored of it. A state that
cannot be read means that the step runs again.
"""

import shutil
from pathlib import Path

from helpers.core import files, fingerprints, paths, run_records
from helpers.privacy import private_run_files
from helpers.study import plan

# bigger files are hashed again only when their size or time of change differ
BIG_BYTES = 64 * 1024**2


class Results:
    """A results folder and, in its `.state/`, what is known of each finished step.

    Key, hashes of outputs, seconds.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._big_files = files.readable_json(out / ".state" / "hashes.json")

    def state(self, step: plan.Step) -> dict:
        """Return what was stored when a step succeeded; empty if it never did."""
        return files.readable_json(self._state_path(step))

    def content_hash(self, path: Path) -> str | None:
        """Return the hash of a file's contents; of a folder, of the names and sizes of its files
        that are no results of this package; None if nothing is there.

        Args:
            path: relative ones are meant within the results folder.
        """
        path = self.out / path
        if path.is_dir():
            names = [p for p in paths.files_below(path, self.out) if p.is_file()]
            return fingerprints.fingerprint(
                {p.relative_to(path).as_posix(): p.stat().st_size for p in names}
            )
        if not path.is_file():
            return None
        status = path.stat()
        if status.st_size <= BIG_BYTES:
            return fingerprints.file_hash(path)
        size_and_time = [status.st_size, status.st_mtime_ns]
        if self._big_files.get(str(path), [])[:2] != size_and_time:
            self._big_files[str(path)] = size_and_time + [fingerprints.file_hash(path)]
            files.write_json(self.out / ".state" / "hashes.json", self._big_files)
        return self._big_files[str(path)][2]

    def key(self, step: plan.Step) -> str:
        """Return the fingerprint of all that decides a step's results, as it is now."""
        return plan.step_key(step, {str(path): self.content_hash(path) for path in step.inputs})

    def is_done(self, step: plan.Step) -> bool:
        """Return whether nothing that decides a step has changed, and what it wrote is there,
        unchanged.

        Executed notebooks only have to be there: opening and saving one in JupyterLab is no reason
        to train again.
        """
        state = self.state(step)
        return (
            "key" in state  # before many inputs are hashed for nothing
            and state["key"] == self.key(step)
            and all((self.out / page).is_file() for page in pages(step))
            and all(
                self.content_hash(Path(path)) == value
                for path, value in state.get("outputs", {"": ""}).items()
            )
        )

    def clear(self, step: plan.Step, everything: bool) -> None:
        """Remove what must not be taken for a result of the coming execution.

        A run's or cohort's folder stays unless `everything` is to go: its notebook goes on from it
        where it can. A file in it that is not what was written goes in any case.

        Guarantees: nothing of a private run goes, whatever `everything` says: it could not be made
        again for nothing.
        """
        state, kept = self.state(step), self.private_runs(step)
        damaged = [
            Path(path)
            for path, value in state.get("outputs", {}).items()
            if self.content_hash(Path(path)) != value
        ]
        damaged = [path for path in damaged if path.parts[:2] not in kept]
        for path in (
            self._tables_and_figures(step)
            + pages(step)
            + damaged
            + [Path(f"notebooks/{step.id}.failed.ipynb")]
        ):
            (self.out / path).unlink(missing_ok=True)
        for folder in {
            path.parent
            for path in step.outputs
            if path.parts[0] in ("cohort", "runs") and everything and path.parts[:2] not in kept
        }:
            shutil.rmtree(self.out / folder, ignore_errors=True)
        files.write_json(self._state_path(step), {"seconds": state.get("seconds")})

    def private_runs(self, step: plan.Step) -> set[tuple[str, str]]:
        """Return the folders ("runs", name) of a step that hold a private run, begun or finished,
        its predictions elsewhere, its start, or the record of its network.
        """
        folders = {path.parts[:2] for path in step.outputs if path.parts[0] == "runs"}
        private = {
            folder
            for folder in folders
            if "-dp-" in folder[1] and private_run_files.note_of(self.out.joinpath(*folder))
        }
        elsewhere = {
            folder for folder in folders for _, run in private if folder[1].endswith(f"-from-{run}")
        }
        starts = {
            (top, name)
            for top, name in folders
            for ending in ("-zero_shot", "-network")
            if name.endswith(ending)
            and run_records.private_runs_of(self.out, name.removesuffix(ending))
        }
        return private | elsewhere | starts

    def missing(self, step: plan.Step) -> list[str]:
        """Return the outputs of a step that are not there."""
        return [str(path) for path in step.outputs + pages(step) if not (self.out / path).is_file()]

    def store(self, step: plan.Step, key: str, seconds: float) -> None:
        """Note that a step is done.

        Args:
            step: the step.
            key: its fingerprint when it began: a helper edited meanwhile counts as changed.
            seconds: how long it took.
        """
        outputs = {
            str(path): self.content_hash(path)
            for path in step.outputs + self._tables_and_figures(step)
        }
        shown = {str(page): self.content_hash(page) for page in pages(step)}  # for verify.py
        state = {"key": key, "outputs": outputs, "pages": shown, "seconds": seconds}
        state["parameters"] = fingerprints.fingerprint(step.parameters)  # what took so long
        files.write_json(self._state_path(step), state)

    def _tables_and_figures(self, step: plan.Step) -> list[Path]:
        """Return the tables and figures of a step that are there."""
        return [
            path.relative_to(self.out)
            for folder in ("tables", "figures")
            for mark in step.marks
            for path in sorted(self.out.glob(f"{folder}/{mark}*"))
        ]

    def _state_path(self, step: plan.Step) -> Path:
        """Return where the state of a step is stored."""
        return self.out / ".state" / f"{step.id}.json"


def pages(step: plan.Step) -> list[Path]:
    """Return the executed notebook of a step and its page, within the results folder."""
    return [Path("notebooks", step.id + ending) for ending in (".ipynb", ".html")]
