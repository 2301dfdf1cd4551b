"""The privacy register: every private run on the same patients, and what all of them spent
together.

In: training patients, lines about runs. Out: `spent.jsonl`, append-only, and what it says of the
runs on some patients.
Raises `InputError` for a register that was damaged or cannot be written. What lines mean together
is in `composition`.

The register lies in `<results>/register/`, or where the environment variable PRIVACY_REGISTER
points: a hospital sets that once, so that all its results folders share one. Beside it lie salted
hashes of patients' ids and films: two cohorts that share a patient compose as if they were one, an
upper bound.

A line each: `begin` before a run's first noisy step, `checkpoint` before steps are written to disk,
`taken up`, `end`. A run without an end counts with all its planned steps. `begin` and `taken up`
name the session that may write from then on.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from helpers.core import errors, files, locks, paths
from helpers.privacy.enrolled_patients import EnrolledPatients, disk_errors_said

EVENTS = ("begin", "checkpoint", "taken up", "end")
_without_locks: set[Path] = set()  # registers of which this process has said so


def folder_of(results: Path) -> Path:
    """Return where the register of a results folder lies.

    $PRIVACY_REGISTER, or `register/` in it.
    """
    return named() or (results / "register").expanduser().resolve()


def named() -> Path | None:
    """Return where $PRIVACY_REGISTER points; None where it is not set, or blank.

    Raises:
        InputError: a relative path: it would be another register in each working folder.
    """
    text = os.environ.get("PRIVACY_REGISTER", "").strip()
    if not text:
        return None
    folder = Path(text).expanduser()
    if not folder.is_absolute():
        errors.refuse(
            "a whole path in PRIVACY_REGISTER",
            repr(text),
            "Begin it with / or ~: a relative one is another register in each working folder.",
        )
    return folder.resolve()


class Register(EnrolledPatients):
    """A register's folder.

    Guarantees: a line that `append` returned from is on disk; lines are only ever added, one at a
    time, also by several machines (a network disk would write one over the other); a line torn by a
    kill or a full disk is recognised and hides no other.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Open `folder`; None: $PRIVACY_REGISTER, or `register/` of the present results."""
        super().__init__(folder or folder_of(paths.results_dir()))
        self.path, self._is_held = self.folder / "spent.jsonl", False

    def sharing(self, key: str) -> dict[str, str]:
        """Return {key: what is shared, in words} of the cohorts in the register that have a patient
        or film of these, they included.

        A cohort that was trained on in private and can no longer be compared counts as sharing: an
        upper bound.
        """
        these, shared = self.patients(key), {key: "all"}
        for other in sorted(
            {
                *self.cohort_keys(),
                *(line["patients"] for line in self.lines() if line["event"] == "begin"),
            }
            - {key}
        ):
            members = self.patients(other)
            if not these or not members:
                words = "nobody knows: its hashes are not beside this register"
            else:
                words = " and ".join(
                    f"{n:,} {what}" for what, n in these.shared_with(members).items()
                )
            shared |= {other: words} if words else {}
        return shared

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the register, so that nobody adds a line between looking and adding.

        Where this object holds it already, go on; without locks on the disk, say so once and go on.
        """
        if self._is_held:
            yield
            return
        with disk_errors_said(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / ".lock").open("w")
        with handle:
            if not locks.wait_for(handle) and self.folder not in _without_locks:
                _without_locks.add(self.folder)
                print(
                    "The disk of the privacy register has no locks: see to it that private runs on"
                    " the same patients begin one after the other."
                )
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False

    def append(self, event: str, uuid: str, **fields: object) -> None:
        """Add a line, and return when it is on disk.

        Args:
            event: one of `EVENTS`.
            uuid: of the run.
            fields: what else is known; see `private_runs`.

        Raises:
            InputError: the register cannot be written: nothing may be released then.
        """
        errors.one_of("the event", event, EVENTS)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"event": event, "uuid": uuid, "time": now} | fields).encode() + b"\n"
        with self.held(), disk_errors_said(self.folder):
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(handle).st_size
                is_torn = size and os.pread(handle, 1, size - 1) != b"\n"
                line = b"\n" + line if is_torn else line
                if os.write(handle, line) < len(line):
                    raise OSError("no space left on the disk")
                os.fsync(handle)
            finally:
                os.close(handle)
            files.sync_folder(self.folder)

    def lines(self) -> list[dict]:
        """Return all whole lines, the first first.

        Raises:
            InputError: a line is neither whole nor the beginning of one, or the file is empty: a
                run stands in it before its first step.
        """
        if not self.path.exists():
            return []
        content, lines = self.path.read_bytes(), []
        if not content.strip(b"\0\n"):
            errors.refuse(
                f"lines of JSON in {self.path}",
                f"none in {len(content)} bytes",
                "Restore it from a copy. Only if no private run was ever begun with it, remove it.",
            )
        for number, text in enumerate(content.split(b"\n"), 1):
            text = text.strip(b"\0")  # what a power cut leaves of a line
            try:
                lines.append(json.loads(text)) if text else None
            except ValueError:
                # A torn line is a line's beginning. A run was not begun, or its end not known,
                # which counts as all its steps.
                if not text.startswith(b"{") or text.rstrip().endswith(b"}"):
                    errors.refuse(
                        f"lines of JSON in {self.path}",
                        f"line {number}: {text[:60]!r}",
                        "Restore it from a copy.",
                    )
        return lines

    def runs(self, keys: Collection[str] | None = None) -> list[dict]:
        """Return the private runs begun on the patients of these keys (None: of all): their `begin`
        lines, with what follows.

        noted: steps known to have been written to disk. is_ended, why. session: the last one.
            steps: those that count: `noted`
        where the run has ended, else all planned, or more if more were noted.

        Raises:
            InputError: a run's beginning is missing.
        """
        runs = {}
        for line in self.lines():
            if line["event"] == "begin":
                runs.setdefault(line["uuid"], line | {"noted": 0, "is_ended": False, "why": ""})
            elif line["uuid"] not in runs:
                errors.refuse(
                    f"a beginning of each run in {self.path}",
                    f"none of {line['uuid']}",
                    "Restore it from a copy.",
                )
            else:
                run = runs[line["uuid"]]
                run["session"] = line.get("session", run.get("session"))
                run["noted"] = max(run["noted"], line["steps"])
                run["is_ended"], run["why"] = line["event"] == "end", line.get("why", "")
        return [
            run
            | {
                "steps": (
                    run["noted"] if run["is_ended"] else max(run["noted"], run["steps_planned"])
                )
            }
            for run in runs.values()
            if keys is None or run["patients"] in keys
        ]
