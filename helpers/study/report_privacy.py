"""What data a study's report is about, and what it promises to whom.

In: records of the cohort and the runs, the table of budgets. Out: text for the template.
"""

from collections.abc import Collection

import pandas as pd

from helpers.core import small_counts
from helpers.privacy import privacy_ledger, statement
from helpers.study import report_words

DRAWN = "The images are drawn by a program: no patient is in them."
NOBODY_MERGED = ("merged patients", privacy_ledger.NOT_COVERED["merged patients"])


def banner(cohort: dict, modes: Collection[str], has_private: bool) -> dict:
    """Return what the data are, and whether anything is guaranteed.

    Args:
        cohort: its record; {} of other people's predictions.
        modes: of the private runs, as in `04_summary.csv`, missing ones left out.
        has_private: whether there are private runs.

    Returns:
        headline, is_guaranteed, is_theirs (trained elsewhere), about (of the data).
    """
    access = cohort.get("access")
    data = {
        "embedded": DRAWN,
        "open": "Public data of patients.",
        None: "Predictions of models trained elsewhere.",
    }.get(access, "Data of patients that are not public.")
    kinds, is_guaranteed = set(modes), set(modes) == {"private"}
    if not has_private:
        promise = "No model was trained with privacy: nothing is guaranteed."
    elif not kinds:
        promise = "No privacy ledger came with them: whether anything is guaranteed is not known."
    elif is_guaranteed:
        promise = "Private mode: the models below have the guarantees that this page states."
    elif kinds == {"demo"}:
        promise = "Demo mode: nothing is guaranteed to anyone."
    else:
        promise = "Not every private model has a guarantee: see the table of budgets."
    about = "The table of images and the predictions were given; nothing else is known of them."
    if cohort:
        about = (
            f"{cohort['title']}: {cohort['n_images']:,} images of {cohort['n_patients']:,}"
            f" {'drawn ' if access == 'embedded' else ''}patients; {small_counts.left_out(cohort)}."
            f" Access: {access}; licence: {cohort['licence']}."
            " Use no model here for patients as it is."
        )
    return {
        "headline": f"{data} {promise}",
        "is_guaranteed": is_guaranteed,
        "is_theirs": not cohort,
        "about": about,
    }


def statements(records: dict[str, dict], names: dict[str, str]) -> list[dict]:
    """Return each private run's promise in sentences, in the order of `names`.

    Args:
        records: of the runs, by name.
        names: run -> name of its arm.

    Returns:
        name, text, is_valid.
    """
    return [
        {
            "name": names[run],
            "text": statement.privacy_statement(records[run]["ledger"]),
            "is_valid": privacy_ledger.is_valid(records[run]["ledger"]),
        }
        for run in names
        if records.get(run, {}).get("ledger")
    ]


def not_covered(records: dict[str, dict]) -> dict[str, str]:
    """Return what the promises do not cover, of all private runs; where they differ, each once,
    with the runs' names. Where no patients were merged nothing is said of them.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for run, record in records.items():
        for name, words in ((record.get("ledger") or {}).get("not_covered", {})).items():
            if (name, words) != NOBODY_MERGED:
                found.setdefault(name, {}).setdefault(words, []).append(run)
    return {
        name: "; ".join(
            words if len(by_words) == 1 else f"{words} ({', '.join(runs)})"
            for words, runs in by_words.items()
        )
        for name, by_words in found.items()
    }


def budgets(spent: pd.DataFrame, arms: pd.DataFrame) -> list[dict]:
    """Return what each private run spent, as text.

    Args:
        spent: `04_spent.csv`.
        arms: `04_summary.csv`.
    """
    modes = {row.run: report_words.of_mode(row) for row in arms.itertuples()}
    return [
        {
            "run": row.run,
            "unit": row.unit,
            "steps": f"{row.steps:,}",
            "epsilon": privacy_ledger.number_in_words(row.epsilon) + modes.get(row.run, ""),
            "delta": f"{row.delta:g}",
            "state": row.state,
        }
        for row in spent.itertuples()
    ]
