"""What trained a network's weights: all cohorts, through any number of starts.

In: a cohort that is trained on, the lineage of the start. Out: a list, a dict an ancestor, that
travels in the weights' metadata. Raises `InputError` for a start that was trained on the private
patients, under whatever name.

An ancestor has `cohort` (a name) and `patients`, the key of `enrolled_patients.Patients`; of a
private run `mark` in its place, since its weights may be given away; and `doubt` where nobody can
tell whether it was trained on the private patients. {} stands for an ancestor that nobody knows;
None in place of a list for weights that do not say.
"""

from collections.abc import Collection

from helpers.core import errors
from helpers.privacy import enrolled_patients, register

UNKNOWN: dict = {}


def of_training(
    cohort: str, patients: enrolled_patients.Patients, is_private: bool = False
) -> dict:
    """Return the ancestor that training on a cohort's training split adds.

    Guarantees: that of a private run holds nothing from which a patient's presence could be tested
    without the register's salt.
    """
    return {"cohort": cohort} | (
        {"mark": patients.mark} if is_private else {"patients": patients.key}
    )


def after(start: list[dict] | None, *trained_on: dict) -> list[dict]:
    """Return the lineage of weights that went on from a start.

    An unknown origin stays unknown whatever follows.
    """
    before = [UNKNOWN] if start is None else start
    return before + [ancestor for ancestor in trained_on if ancestor not in before]


def checked(
    start: Collection[dict] | None, cohort: str, patients: enrolled_patients.Patients
) -> list[dict] | None:
    """Return the lineage of a start with its doubts, which the guarantee then names, if it has not
    seen the private patients.

    Equal patient ids alone are a doubt, no reason to refuse: many data sets count from 1.

    Args:
        start: lineage of the weights.
        cohort: name of the private cohort.
        patients: of its training split.

    Raises:
        InputError: an ancestor has the cohort's name, the same patients, or a film in common.
    """
    if start is None:
        return None
    known, ancestors = register.Register(), []
    by_mark = {known.mark(key): key for key in known.cohort_keys()}
    for ancestor in start:
        key = ancestor.get("patients") or by_mark.get(ancestor.get("mark"), "")
        members = known.patients(key)
        shared = members.shared_with(patients) if members else {}
        if ancestor and (
            key == patients.key or "films" in shared or ancestor.get("cohort") == cohort
        ):
            errors.refuse(
                f"PRETRAIN that has not seen {cohort}",
                f"weights trained on {ancestor.get('cohort')}"
                + (
                    f", which shares {shared['films']:,} films with it" if "films" in shared else ""
                ),
                "Start from public weights of other patients: what these taught before has no"
                " guarantee.",
            )
        doubt = (
            f"{shared['patient ids']:,} patient ids are equal"
            if shared
            else ""
            if members
            else "its patients are not in this privacy register"
        )
        kept = {name: value for name, value in ancestor.items() if name != "doubt"}
        ancestors.append(kept | {"doubt": doubt} if ancestor and doubt else kept)
    return ancestors
