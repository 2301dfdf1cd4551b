"""What of a private run is on disk: its note, its record, its checkpoint; and its identity.

In: a run's folder, two identities. Out: what lies there, and in words what differs. Raises
`InputError` for damaged files, and for a run without privacy that would take a private one's name.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from helpers.core import errors, paths

# in place of a uuid: of a checkpoint that an earlier version of the package wrote
EARLIER = "earlier"


NOTE = "private_run.json"  # in the run's folder: uuid and identity of the run begun last


# there, too: the weights it started from, should the public model be lost
START = "start.safetensors"


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """What lies in a private run's folder beside its notes, as the session found it.

    Attributes:
        checkpoint_of: uuid in the checkpoint, `EARLIER` without one; None without a readable
            checkpoint.
        checkpoint_steps: releases in it.
        checkpoint_identity: of its run.
        weights_hash: of the finished weights, see `weight_files.weights_hash`; None without
            readable ones.
        live_of, live_steps: uuid and releases of an earlier session that this very process still
            holds.
    """

    checkpoint_of: str | None = None
    checkpoint_steps: int = 0
    checkpoint_identity: dict = dataclasses.field(default_factory=dict)
    weights_hash: str | None = None
    live_of: str | None = None
    live_steps: int = 0

    def steps_of(self, uuid: str) -> int:
        """Return the releases of a run that are known from here."""
        return max(
            self.checkpoint_steps if self.checkpoint_of == uuid else 0,
            self.live_steps if self.live_of == uuid else 0,
        )


def note_of(folder: Path) -> dict | None:
    """Return uuid and identity of the private run that was begun last in a run's folder; None if
    none was.

    A finished one of which only the record is left has them from there.

    Raises:
        InputError: the note or the record is damaged.
    """
    if (folder / NOTE).exists():
        return _read(folder / NOTE)
    record = finished_record(folder)
    return record and {"uuid": record.get("uuid"), "identity": record.get("identity", {})}


def finished_record(folder: Path) -> dict | None:
    """Return the record of a finished private run, None if there is none in this folder.

    Raises:
        InputError: the record is damaged.
    """
    record = _read(folder / "record.json") if (folder / "record.json").exists() else {}
    is_private = (record.get("ledger") or {}).get(
        "mode"
    ) == "private" and "trained_on" not in record
    return record if is_private else None


def _read(path: Path) -> dict:
    """Return the content of a file that only a private run has."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        errors.refuse(
            f"JSON in {path}",
            str(error),
            "Restore it from a copy, or remove the run's folder by hand: the register keeps what it"
            " spent.",
        )


def refuse_other(run: str) -> None:
    """Accept a run's name for a run that is not private.

    Raises:
        InputError: a private run has that name.
    """
    if note_of(paths.run_dir(run)):
        errors.refuse(
            f"a name other than {run} for a run that is not private",
            "a private run of that name",
            "Choose another RECIPE or another results folder: what was spent on it would be lost.",
        )


def differences(before: Mapping, now: Mapping) -> Iterator[str]:
    """Yield in words what differs between two identities.

    What only one of two versions declares does not, except for a second part: a promise without
    `head` has none, whatever version made it.
    """
    if not before:
        yield "all that identifies it"
    for part in ("promise", "parameters"):
        old, new = before.get(part, {}), now[part]
        if part == "promise" and old:
            old, new = {"head": None} | old, {"head": None} | new
        for name in sorted({*old} & {*new}):
            if old[name] != new[name]:
                yield f"{name} ({old[name]!r} then, {new[name]!r} now)"
    for part, words in (
        ("data", "the training images or labels"),
        (
            "start",
            f"the weights it starts from (those of then: {START} in its folder, for PRETRAIN)",
        ),
    ):
        if before and before.get(part) != now[part]:
            yield words
