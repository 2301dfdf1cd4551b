"""A private run on disk and in the register: begun once, taken up or refused, never spent twice by
accident.

In: what a run promises, its data, its start and its declared parameters (its identity). Out:
whether it begins, goes on or is finished. Raises `InputError` for another identity under one name,
another session in one run, and a total beyond the budget.

Sources, versions, commit and hardware are noted in the record and decide nothing: to train again
would spend again.
"""

import dataclasses
import secrets

from helpers.core import errors, files, paths, run_records
from helpers.privacy import (
    composition,
    enrolled_patients,
    private_run_files,
    promise,
    register,
)

_WAYS_ON = (
    "To train again would spend again. Restore what is lost or changed, give the new run another"
    ' RECIPE, set CONFIRM = ["spend again"] (the register keeps what this one spent), or remove its'
    " folder by hand."
)


@dataclasses.dataclass
class PrivateRun:
    """A private run that this session may train, or has read.

    Attributes:
        run: its name.
        uuid: under which the register knows it.
        patients: the key of its training patients there.
        identity: promise, data, start, parameters.
        register: where its lines are.
        released: noisy steps that earlier sessions released.
        is_finished: its record stands: it is read, not trained.
        session: token of this session; the register has that of the last one.
    """

    run: str
    uuid: str
    patients: str
    identity: dict
    register: register.Register
    released: int = 0
    is_finished: bool = False
    session: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))

    def check_owner(self) -> dict:
        """Accept that this session is the run's last one; return what the register has of the run.

        Raises:
            InputError: another session, kernel or copy of the folder has taken up the run since, or
                the register lost it.
        """
        line = line_of_run(self.register, self.uuid)
        if not line or line["session"] != self.session or line["is_ended"]:
            errors.refuse(
                f"{self.run} for this session alone",
                "another one that has taken it up since, or a register that does not know it",
                "Run the notebook from the top: it goes on from what is on disk.",
            )
        return line

    def before_checkpoint(self, steps: int) -> None:
        """Note that `steps` releases are about to be on disk.

        Raises:
            InputError: see `check_owner`.
        """
        with self.register.held():
            if steps > self.check_owner()["noted"]:
                self.register.append("checkpoint", self.uuid, steps=steps)

    def end(self, steps: int) -> None:
        """Note that the run is finished after `steps` releases."""
        self.register.append("end", self.uuid, steps=steps, why="finished")
        self.is_finished = True


def line_of_run(spent: register.Register, uuid: str | None) -> dict | None:
    """Return what a register has of a run, see `Register.runs`; None if it does not know it."""
    return next((line for line in spent.runs() if line["uuid"] == uuid), None)


def begin(
    run: str,
    promised: promise.Promise,
    identity: dict,
    patients: enrolled_patients.Patients,
    cohort: str,
    on_disk: private_run_files.OnDisk,
    *,
    spend_again: bool = False,
    budget: float | None = None,
) -> PrivateRun:
    """Begin a private run, or take up the one that was begun or finished with the same identity.

    Guarantees: a line in the register stands before this returns, and no run of another mode than
    private is entered; a run that was begun or finished with another identity, or whose weights or
    checkpoint are lost, is neither trained again nor replaced unless `spend_again`, and then the
    register keeps its line.

    Args:
        run: its name.
        promised: see `promise.settle`.
        identity: promise, data, start, parameters; fit for JSON.
        patients: of its training set.
        cohort: its name, for the reader.
        on_disk: what the session found in the run's folder.
        spend_again: begin anew where the run cannot be taken up.
        budget: most epsilon of all private runs on these patients together; None for no limit.

    Raises:
        InputError: the run cannot be taken up (says why, and the ways on), a budget that would be
            exceeded, or a promise of another mode than private.
    """
    errors.one_of("MODE of a private run", promised.mode, ("private",))
    spent, folder, identity = register.Register(), paths.run_dir(run), files.plain(identity)
    about = {"run": run, "cohort": cohort, "patients": patients.key}
    planned = composition.line_of(promised.as_dict())
    note, record = private_run_files.note_of(folder), private_run_files.finished_record(folder)
    if (
        record
        and not list(private_run_files.differences(record.get("identity", {}), identity))
        and record.get("weights_hash") == on_disk.weights_hash
    ):
        return _read_finished(
            PrivateRun(
                run,
                record["uuid"],
                patients.key,
                identity,
                spent,
                record["ledger"]["steps_done"],
                True,
            ),
            note,
            about | planned,
        )
    line = line_of_run(spent, on_disk.checkpoint_of)
    if (
        not note
        and on_disk.checkpoint_identity
        and on_disk.checkpoint_of != private_run_files.EARLIER
        and (not line or line["run"] == run)
    ):  # the note is lost, what it said is in the checkpoint
        note = {"uuid": on_disk.checkpoint_of, "identity": on_disk.checkpoint_identity}
    reason = _why_not(note, record, identity, on_disk, spent)
    if reason and not spend_again:
        is_finished = bool(record) and record.get("uuid") == note["uuid"]
        errors.refuse(
            f"the private run {run} as it was {'finished' if is_finished else 'begun'}",
            reason,
            _WAYS_ON,
        )
    with spent.held():
        begun = _line_of_begun(spent, note, on_disk, about)
        others = [
            line
            for line in spent.runs(spent.sharing(patients.key))
            if not begun or line["uuid"] != begun["uuid"]
        ]
        if begun and not reason and on_disk.checkpoint_of == begun["uuid"]:
            composition.check_budget(budget, others + [planned])
            taken_up = PrivateRun(
                run, begun["uuid"], patients.key, note["identity"], spent, begun["noted"]
            )
            spent.append("taken up", begun["uuid"], steps=begun["noted"], session=taken_up.session)
            files.write_json(folder / private_run_files.NOTE, note)
            return taken_up
        left = (
            [begun | {"steps": begun["noted"]}]
            if begun and begun["is_known"]
            else [begun]
            if begun
            else []
        )
        composition.check_budget(budget, others + left + [planned])
        if begun and begun["is_known"] and not begun["is_ended"]:
            spent.append(
                "end",
                begun["uuid"],
                steps=begun["noted"],
                why="given up" if begun["noted"] else "nothing was written to disk",
            )
        run_records.remove_checkpoints(run)
        fresh = PrivateRun(run, secrets.token_hex(8), patients.key, identity, spent)
        files.write_json(
            folder / private_run_files.NOTE, {"uuid": fresh.uuid, "identity": identity}
        )
        spent.append("begin", fresh.uuid, session=fresh.session, **about | planned)
    return fresh


def _read_finished(finished: PrivateRun, note: dict | None, first: dict) -> PrivateRun:
    """Return a finished run with its lines in the register.

    A kill may have come between its record and the rest.
    """
    line = line_of_run(finished.register, finished.uuid)
    if not line:  # finished under another register, or with one that was lost
        finished.register.append("begin", finished.uuid, session=finished.session, **first)
    if not line or not line["is_ended"]:
        finished.end(finished.released)
    if note and note["uuid"] == finished.uuid:
        run_records.remove_checkpoints(finished.run)
    return finished


def _line_of_begun(
    spent: register.Register, note: dict | None, on_disk: private_run_files.OnDisk, about: dict
) -> dict | None:
    """Return the line of a run that was begun, brought up to date with what is on disk and in this
    process.

    `is_known`: the register was there when it began, so that `noted` is all that was ever written.
    """
    if not note or not note["identity"]:
        return None
    if not (line := line_of_run(spent, note["uuid"])):
        spent.append(
            "begin",
            note["uuid"],
            session="",
            **about | composition.line_of(note["identity"]["promise"]),
        )
        line = line_of_run(spent, note["uuid"]) | {"is_known": False}
    noted = max(line["noted"], on_disk.steps_of(note["uuid"]))
    if noted > line["noted"]:
        spent.append("checkpoint", note["uuid"], steps=noted)
    return {"is_known": True} | line | {"noted": noted}


def _why_not(
    note: dict | None,
    record: dict | None,
    identity: dict,
    on_disk: private_run_files.OnDisk,
    spent: register.Register,
) -> str:
    """Return why what lies in a run's folder cannot be taken up, "" if it can, or if there is
    nothing.
    """
    is_finished = bool(record) and bool(note) and record.get("uuid") == note["uuid"]
    if (
        on_disk.checkpoint_of is not None
        and on_disk.checkpoint_of != (note and note["uuid"])
        and not is_finished
    ):
        return "a checkpoint of another private run, or of an earlier version of this package"
    if not note:
        return ""
    if not note["identity"]:
        return (
            "a private run of an earlier version of this package, which did not keep what"
            " identifies it"
        )
    if changed := list(private_run_files.differences(note["identity"], identity)):
        return f"a run that differs in {'; '.join(changed)}"
    if (
        on_disk.checkpoint_of == note["uuid"]
        and on_disk.checkpoint_identity != note["identity"]
        and not is_finished
    ):
        return "a checkpoint that is not as it was written"
    if is_finished:
        return "weights.safetensors damaged or gone"
    line = line_of_run(spent, note["uuid"])
    steps = max(line["noted"] if line else 0, on_disk.steps_of(note["uuid"]))
    return (
        f"{steps} steps written to a checkpoint that is damaged or gone (checkpoint.pt)"
        if on_disk.checkpoint_of is None and steps
        else ""
    )
