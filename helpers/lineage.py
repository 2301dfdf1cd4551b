"""What trained a network's weights: all cohorts, through any number of starts.

In: a cohort whose training images are learnt from, the lineage of the start. Out: a list, a dict an ancestor, that travels in
the weights' metadata. Refuses: a start that has seen the private patients, under whatever name.

An ancestor has `cohort` (a name) and `patients`, the key of `register.Patients`; of a private run `mark` in its place, since
its weights may be given away. {} stands for an ancestor that nobody knows; None in place of a list for weights that do not say.
"""

from collections.abc import Collection

from helpers import checks, register

UNKNOWN: dict = {}


def of_training(cohort: str, patients: register.Patients, is_private: bool = False) -> dict:
    """Return the ancestor that training on a cohort's training split adds.

    Guarantees: that of a private run holds nothing from which a patient's presence could be tested without the register's salt.
    """
    return {"cohort": cohort} | ({"mark": patients.mark} if is_private else {"patients": patients.key})


def after(start: list[dict] | None, *trained_on: dict) -> list[dict]:
    """Return the lineage of weights that went on from a start; an unknown origin stays unknown whatever follows."""
    before = [UNKNOWN] if start is None else start
    return before + [ancestor for ancestor in trained_on if ancestor not in before]


def refuse_seen(start: Collection[dict] | None, cohort: str, patients: register.Patients) -> None:
    """Accept a start that has not seen the patients it is to be trained on in private, as far as its lineage tells.

    Equal patient ids alone are no reason to refuse: many data sets count from 1.

    Args:
        start: lineage of the weights.
        cohort: name of the private cohort.
        patients: of its training split.

    Raises:
        InputError: an ancestor has the cohort's name, the same patients, or a film in common.
    """
    own = register.Register()
    by_mark = {own.mark(key): key for key in own.keys()}
    for ancestor in filter(None, start or []):
        key = ancestor.get("patients") or by_mark.get(ancestor.get("mark"), "")
        members = own.patients(key)
        n_films = members.shared_with(patients).get("films", 0) if members else 0
        if key == patients.key or n_films or ancestor.get("cohort") == cohort:
            checks.refuse(f"PRETRAIN that has not seen {cohort}",
                          f"weights trained on {ancestor.get('cohort')}" + (f", which shares {n_films:,} films with it" if n_films else ""),
                          "Start from public weights of other patients: what these taught before has no guarantee.")
