"""A private run on disk and in the register: begun once, taken up or refused, never spent twice by accident.

In: what a run promises, its data, its start and its declared parameters (its identity). Out: whether it begins, goes on or is
finished. Refuses: another identity under one name, another session in one folder, a total beyond the budget.

Sources, versions, commit and hardware are noted in the record and decide nothing: to train again would spend again.
"""

import dataclasses
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from helpers import checks, files, register, runs

EARLIER = "earlier"  # in place of a uuid: of a checkpoint that an earlier version of the package wrote
NOTE = "private_run.json"  # in the run's folder: identity, uuid and present session of the run begun last


@dataclasses.dataclass
class PrivateRun:
    """A private run that this session may train.

    Attributes:
        run: its name.
        uuid: under which the register knows it.
        patients: the key of its training patients there.
        released: noisy steps that earlier sessions released.
        is_finished: its record stands: it is read, not trained.
    """

    run: str
    uuid: str
    patients: str
    identity: dict
    register: register.Register
    released: int = 0
    is_finished: bool = False
    _session: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    _noted: int = 0

    def write_note(self) -> None:
        """Make this session the one that may write; an earlier one is refused at its next checkpoint."""
        files.write_json(runs.run_dir(self.run) / NOTE, {"uuid": self.uuid, "session": self._session, "identity": self.identity})

    def check_owner(self) -> None:
        """Accept that this session is the run's last one.

        Raises:
            InputError: another session, or kernel, has begun or taken up the run since.
        """
        note = note_of(runs.run_dir(self.run))
        if not note or note["session"] != self._session:
            checks.refuse(f"{self.run} for this session alone", "another session that has taken it up since, or a folder that was removed",
                          "Run the notebook from the top: it goes on from what the other has written.")

    def before_checkpoint(self, steps: int) -> None:
        """Note that `steps` releases are about to be on disk.

        Raises:
            InputError: see `check_owner`.
        """
        self.check_owner()
        if steps > self._noted:
            self.register.append("checkpoint", self.uuid, steps=steps)
            self._noted = steps

    def taken_up_after(self, steps: int) -> int:
        """Note that the run goes on from a checkpoint with `steps` releases; return the releases that count.

        They are more where the register knows of a later checkpoint than the one that lies there.
        """
        self.released = self._noted = max(self.released, steps)
        self.register.append("taken up", self.uuid, steps=self.released)
        return self.released

    def end(self, steps: int) -> None:
        """Note that the run is finished after `steps` releases."""
        self.register.append("end", self.uuid, steps=steps, why="finished")
        self.is_finished = True


def note_of(folder: Path) -> dict | None:
    """Return the note of the private run that was begun last in a run's folder; None if none was.

    A finished one of which only the record is left has it from there.

    Raises:
        InputError: the note or the record is damaged.
    """
    if (folder / NOTE).exists():
        return files.read_json(folder / NOTE, "Restore it, or remove the run's folder by hand: the register keeps what it spent.")
    record = finished_record(folder)
    return record and {"uuid": record.get("uuid"), "session": "", "identity": record.get("identity", {})}


def finished_record(folder: Path) -> dict | None:
    """Return the record of a finished private run, None if there is none in this folder."""
    path = folder / "record.json"
    record = files.read_json(path, "Restore it from a copy.") if path.exists() else {}
    is_private = (record.get("ledger") or {}).get("mode") == "private" and "trained_on" not in record
    return record if is_private else None


def refuse_other(run: str) -> None:
    """Accept a run's name for a run that is not private.

    Raises:
        InputError: a private run has that name.
    """
    if note_of(runs.run_dir(run)):
        checks.refuse(f"a name other than {run} for a run that is not private", "a private run of that name",
                      "Choose another RECIPE or another results folder: what was spent on it would be lost.")


def begin(run: str, promise: Mapping, identity: dict, patients: register.Patients, cohort: str, *, checkpoint_of: str | None,
          stored_weights: str | None, checkpoint_steps: int = 0, spend_again: bool = False, budget: float | None = None) -> PrivateRun:
    """Begin a private run, or take up the one that was begun or finished with the same identity.

    Guarantees: a line in the register stands before this returns; a run that was begun or finished with another identity, or
    whose weights or checkpoint are lost, is neither trained again nor replaced unless `spend_again`, and then the register
    keeps its line.

    Args:
        run: its name.
        promise: see `promise.settle`.
        identity: promise, data, start, parameters; fit for JSON.
        patients: of its training set.
        cohort: its name, for the reader.
        checkpoint_of, checkpoint_steps: uuid in the checkpoint that lies in its folder, None without a readable one; and its steps,
            which a kill may have kept from the register.
        stored_weights: `models.weights_hash` of the weights that lie there; None without readable ones.
        spend_again: begin anew where the run cannot be taken up.
        budget: most epsilon of all private runs on these patients together; None for no limit.

    Raises:
        InputError: the run cannot be taken up (says why, and the ways on), or a budget that would be exceeded.
    """
    own, folder, identity = register.Register(), runs.run_dir(run), files.plain(identity)
    note, record = note_of(folder), finished_record(folder)
    line = next((line for line in own.runs() if note and line["uuid"] == note["uuid"]), None)
    noted = max(line["noted"] if line else 0, checkpoint_steps if note and checkpoint_of == note["uuid"] else 0)
    is_finished = bool(record) and bool(note) and record.get("uuid") == note["uuid"]
    reason = _why_not(note, identity, noted, record if is_finished else None, checkpoint_of, stored_weights)
    if reason and not spend_again:
        checks.refuse(f"the private run {run} as it was {'finished' if is_finished else 'begun'}", reason, (
            "To train again would spend again. Restore what is lost or changed, give the new run another RECIPE, set SPEND_AGAIN = True "
            "(the register keeps what this one spent), or remove its folder by hand." if noted or is_finished or not note else
            "Nothing of it is on disk: SPEND_AGAIN = True begins anew and counts nothing of it."))
    if note and not reason and (is_finished or checkpoint_of == note["uuid"]):
        taken_up = PrivateRun(run, note["uuid"], patients.key, identity, own, record["ledger"]["steps_done"] if is_finished else noted, is_finished)
        _register_again(taken_up, line, dict(cohort=cohort, patients=patients.key, **register.line_of(promise)))
        return taken_up
    fresh = PrivateRun(run, secrets.token_hex(8), patients.key, identity, own)
    with own.held():
        is_given_up = line is not None and not line["is_ended"]
        others = [other | ({"steps": noted} if is_given_up and other["uuid"] == note["uuid"] else {})
                  for other in own.runs(own.sharing(patients))]
        check_budget(budget, others + [register.line_of(promise)], promise["delta"])
        if is_given_up:
            own.append("end", note["uuid"], steps=noted, why="given up" if noted else "nothing was written to disk")
        runs.remove_checkpoints(run)
        fresh.write_note()
        own.append("begin", fresh.uuid, run=run, cohort=cohort, patients=patients.key, **register.line_of(promise))
    return fresh


def _why_not(note: dict | None, identity: dict, noted: int, record: dict | None, checkpoint_of: str | None,
             stored_weights: str | None) -> str:
    """Return why what lies in a run's folder cannot be taken up, "" if it can, or if there is nothing."""
    if checkpoint_of is not None and checkpoint_of != (note and note["uuid"]) and not record:
        return "a checkpoint of another private run, or of an earlier version of this package"
    if not note:
        return ""
    if not note["identity"]:
        return "a private run of an earlier version of this package, which did not keep what identifies it"
    if changed := list(differences(note["identity"], identity)):
        return f"a run that differs in {'; '.join(changed)}"
    if record and stored_weights != record["weights_hash"]:
        return "weights.safetensors damaged or gone"
    return f"{noted} steps written to a checkpoint that is damaged or gone" if not record and noted and checkpoint_of is None else ""


def _register_again(taken_up: PrivateRun, line: dict | None, first: dict) -> None:
    """Bring the register up to date with a run that goes on or is read, and make this session its owner."""
    own, uuid = taken_up.register, taken_up.uuid
    if not line:  # begun under another register, or with one that was lost
        own.append("begin", uuid, run=taken_up.run, **first)
    if not taken_up.is_finished:
        taken_up.write_note()
    elif not line or not line["is_ended"]:
        taken_up.end(taken_up.released)  # killed between record and line
    if taken_up.is_finished:
        runs.remove_checkpoints(taken_up.run)


def check_budget(budget: float | None, lines: list[dict], delta: float) -> float:
    """Return epsilon of private runs together.

    Raises:
        InputError: it exceeds the budget.
    """
    together = register.epsilon_together(lines, delta)
    if budget is not None and together > budget:
        checks.refuse(f"private runs that together keep BUDGET = {budget:g}",
                      f"{len(lines)} on these patients, together epsilon {together:.4g} at delta {delta:g}",
                      "Plan fewer or smaller budgets, or raise BUDGET. Nothing was trained.")
    return together


def differences(before: Mapping, now: Mapping) -> Iterator[str]:
    """Yield in words what differs between two identities."""
    for part in ("promise", "parameters"):
        old, new = before.get(part) or {}, now[part]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                yield f"{name} ({old.get(name)!r} then, {new.get(name)!r} now)"
    for part, words in (("data", "the training images or labels"), ("start", "the weights it starts from")):
        if before.get(part) != now[part]:
            yield words
