"""What trained a network's weights: all cohorts, through any number of starts.

In: a cohort whose training images are learnt from, the lineage of the start. Out: a list, a dict an ancestor, that travels in
the weights' metadata. Refuses: a start that has seen the private patients, under whatever name.

An ancestor has `cohort` (a name) and `patients` (the key of `register.Patients`); {} stands for one that nobody knows. None
in place of a list: weights without metadata.
"""

from collections.abc import Collection

from helpers import checks, register

UNKNOWN: dict = {}


def of_training(cohort: str, patients: register.Patients) -> dict:
    """Return the ancestor that training on a cohort's training split adds."""
    return {"cohort": cohort, "patients": patients.key}


def after(start: list[dict] | None, *trained_on: dict) -> list[dict]:
    """Return the lineage of weights that went on from a start; an unknown origin stays unknown whatever follows."""
    before = [UNKNOWN] if start is None else start
    return before + [ancestor for ancestor in trained_on if ancestor not in before]


def refuse_seen(start: Collection[dict] | None, cohort: str, patients: register.Patients) -> None:
    """Accept a start that has not seen the patients it is to be trained on in private, as far as its lineage tells.

    Args:
        start: lineage of the weights.
        cohort: name of the private cohort.
        patients: of its training split.

    Raises:
        InputError: an ancestor has the cohort's name, or shares a patient or a film with it.
    """
    known = register.Register()
    for ancestor in start or []:
        members = known.patients(ancestor.get("patients", ""))
        shared = "all" if patients.key == ancestor.get("patients") else members.shared_with(patients) if members else ""
        if ancestor and (shared or ancestor.get("cohort") == cohort):
            checks.refuse(f"PRETRAIN that has not seen {cohort}",
                          f"weights trained on {ancestor['cohort']}" + (f", which shares {shared} with it" if shared else ""),
                          "Start from public weights of other patients: what these taught before has no guarantee.")
