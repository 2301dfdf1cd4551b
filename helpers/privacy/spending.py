"""What private runs on the same patients have spent together, as tables and sentences.

In: a private run, or records of runs, and the privacy register. Out: tables and sentences. Needs no
torch.
"""

from collections.abc import Collection

import pandas as pd

from helpers.core import run_records
from helpers.privacy import composition, private_runs, register

NO_BOUND = (
    "A model trained on the same patients without privacy (the baseline, and the same recipe"
    " without noise) has no bound at all:"
    " released beside a private one, it alone decides what can be learnt of a patient."
)


def register_in_words() -> str:
    """Return of which register a total speaks."""
    return (
        "the privacy register"
        + ("" if register.named() else " of this results folder")
        + ", on these patients"
    )


def of_run(run: private_runs.PrivateRun | None) -> tuple[pd.DataFrame, str]:
    """Return what all private runs on the patients of a run have spent, this one included: a row a
    run, and the total in words.

    Args:
        run: of a session; None in demo mode and without noise, where nothing is spent.
    """
    if not run:
        return (
            composition.table([]),
            "Not in private mode: nothing is spent, and nothing entered in the privacy register.",
        )
    shared = run.register.sharing(run.patients)
    lines = run.register.runs(shared)
    return composition.table(lines), in_words(lines, shared)


def in_words(lines: Collection[dict], shared: dict[str, str]) -> str:
    """Return the total of private runs on the same patients in a sentence or two.

    Args:
        lines: of the register.
        shared: see `Register.sharing`.
    """
    others = [
        f"{words}"
        for key, words in shared.items()
        if words != "all" and any(line["patients"] == key for line in lines)
    ]
    return (
        f"{len(lines)} private run{'s' * (len(lines) != 1)} in {register_in_words()}: together"
        f" {composition.in_words(lines)}."
        + (
            " Runs on other cohorts that share patients with this one count as if they were on the"
            f" same ({'; '.join(others)})."
            if others
            else ""
        )
    )


def without_privacy(cohort: str) -> str:
    """Return in words which runs of a cohort were trained on the same patients without privacy, for
    the ledger.
    """
    names = [
        record["run"]
        for record in map(run_records.read_record, run_records.runs_of(cohort))
        if record["arm"] in run_records.WITHOUT_PRIVACY
    ]
    return (", ".join(names) + ": " if names else "none here; ") + NO_BOUND


def spent(records: Collection[dict]) -> tuple[pd.DataFrame, str]:
    """Return what the private runs on the patients of a study spent: a row a run, and the total in
    words.

    Runs in demo mode spend nothing; where there are no others, the arithmetic is shown for what it
    would be.

    Args:
        records: of the study's runs; those without privacy are counted in the words.
    """
    with_ledger = [record for record in records if record.get("ledger")]
    private = [record for record in with_ledger if record["ledger"]["mode"] == "private"]
    if not with_ledger:
        is_known = all(record["arm"] != "dp" for record in records)
        return composition.table([]), (
            "No private run: nothing was spent."
            if is_known
            else "What these models spent is not known here."
        )
    known, shared = register.Register(), {}
    for record in private:
        shared |= known.sharing(record["patients"]) if "patients" in record else {}
    lines = known.runs(shared) if private else []
    uuids = {line["uuid"] for line in lines}
    lines += [
        _line_of_record(record)
        for record in private or with_ledger
        if not private or record.get("uuid") not in uuids
    ]
    words = (
        in_words(lines, shared)
        if private
        else (
            "In demo mode nothing is promised and nothing spent. By the arithmetic alone, the"
            f" {len(lines)} runs shown have together {composition.in_words(lines)}."
        )
    )
    return composition.table(lines), (
        f"{words} {NO_BOUND}"
        if any(record["arm"] in run_records.WITHOUT_PRIVACY for record in records)
        else words
    )


def _line_of_record(record: dict) -> dict:
    """Return what the register would have of a run that it does not know."""
    entries, cap = record["ledger"], record["parameters"]["max_images_per_patient"]
    why = "not in this register" if entries["mode"] == "private" else "demo: no guarantee"
    parts = [part | {"steps": part["steps_planned"]} for part in entries.get("parts", [entries])]
    of_promise = {
        "steps": parts[0]["steps"],
        "head": parts[1] if len(parts) > 1 else None,
        "max_images_per_patient": cap,
    }
    return composition.line_of(entries | of_promise, entries["steps_done"]) | {
        "run": record["run"],
        "time": "",
        "patients": "",
        "is_ended": True,
        "why": why,
    }
