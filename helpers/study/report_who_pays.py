"""Whether privacy costs some groups of patients more, for a study's report.

In: tables of notebook 04. Out: an answer for each attribute and budget. "Yes" and "no" stand only
where a row has such a verdict.
"""

import pandas as pd

from helpers.analysis import equivalence, readable_tables, study_arms
from helpers.study import report_words

TOO_FEW = "Too few patients to tell"


def who_pays(
    changes: pd.DataFrame, planned: pd.DataFrame, arms: pd.DataFrame, n_test: float
) -> list[dict]:
    """Return of each attribute, and each budget, whether privacy costs one group more.

    Where comparisons were planned, they alone decide, with their adjusted verdicts; else the
    contrast with the strongest verdict does: worse, different, inconclusive (that which needs most
    patients), equivalent. Of several contrasts of an attribute the answer says which is shown, and
    why.

    Args:
        changes: `04_gap_changes.csv`.
        planned: `04_planned.csv`.
        arms: `04_summary.csv`.
        n_test: test patients; NaN where that is not shown.

    Returns:
        attribute, answers: arm_label, name, level, answer, contrast, change, needed (test patients,
        "" where none are, or where the answer says so), is_planned, why (that contrast, "" where it
        is the only one), left_out (contrasts that are not estimable, "" without any).
    """
    private = study_arms.one_way(arms)
    return [
        {
            "attribute": attribute,
            "answers": [
                _answer(arm, changes[changes["attribute"] == attribute], planned, n_test)
                for arm in private.itertuples()
            ],
        }
        for attribute in dict.fromkeys(changes["attribute"])
    ]


def _answer(arm: tuple, changes: pd.DataFrame, planned: pd.DataFrame, n_test: float) -> dict:
    """Return whether one arm costs a group of an attribute more."""
    of_arm = changes[(changes["run"] == arm.run) & changes["estimate"].notna()]
    decided = planned[planned["arm_label"] == arm.arm_label][["attribute", "group", "verdict"]]
    both = of_arm.drop(columns="verdict").merge(decided, on=["attribute", "group"])
    asked = both if len(both) else of_arm
    row = _strongest(asked)
    without = changes[(changes["run"] == arm.run) & changes["estimate"].isna()]
    shown = {
        "arm_label": arm.arm_label,
        "name": report_words.arm_name(arm),
        "is_planned": len(both) > 0,
        "left_out": ", ".join(
            report_words.contrast_name(one.attribute, one.group) for one in without.itertuples()
        ),
    }
    if row is None:
        answer = {
            "level": report_words.UNSURE,
            "answer": "Too few patients to estimate",
            "needed": "",
        }
        return shown | answer | {"contrast": "", "change": "", "why": ""}
    level, words = _in_words(row)
    is_unsure = level == report_words.UNSURE and "patients_needed" in changes
    needed = report_words.rounded(row.patients_needed) if is_unsure else ""
    if needed and words == TOO_FEW and row.patients_needed <= n_test:  # as many might have told
        words, needed = "Inconclusive", ""
    elif needed and words == TOO_FEW:
        about = "~" if arm.n_seeds == 1 else ">"  # more seeds give a lower bound
        words, needed = f"Too few patients: need {about}{needed}", ""
    return shown | {
        "level": level,
        "answer": words,
        "contrast": report_words.contrast_name(row.attribute, row.group),
        "change": readable_tables.with_interval(row),
        "why": _why(row, asked, len(of_arm)),
        "needed": needed,
    }


def _strongest(rows: pd.DataFrame) -> tuple | None:
    """Return the row that decides of an attribute; None without rows."""
    order = [equivalence.WORSE, equivalence.DIFFERENT, equivalence.INCONCLUSIVE]

    def rank(row: tuple) -> tuple:
        place = next((i for i, name in enumerate(order) if row.verdict.startswith(name)), 3)
        size = getattr(row, "patients_needed", 0.0) if place == 2 else abs(row.estimate)
        return place, -size

    return min(rows.itertuples(), key=rank, default=None)


def _why(row: tuple, asked: pd.DataFrame, n_contrasts: int) -> str:
    """Return in words how many contrasts have this verdict, and why this one is shown of them, ""
    of a single one.

    Args:
        row: from `_strongest`.
        asked: the contrasts that could have been shown.
        n_contrasts: all that the arm has an estimate of.
    """
    if n_contrasts == 1:
        return ""
    if len(asked) == 1:
        return f"the one planned of {n_contrasts} contrasts"
    kinds = asked["verdict"].str.split(",").str[0]
    said = row.verdict.split(",")[0]
    n_alike = (kinds == said).sum()
    alike = f"{n_alike} of {len(asked)}" if n_alike < len(asked) else f"all {len(asked)}"
    if n_alike == 1:
        return f"{alike} contrasts"
    which = "changes most"
    if said == equivalence.INCONCLUSIVE:
        which = "needs most" if "patients_needed" in asked else "stands first"
    return f"{alike} contrasts; this one {which}"


def _in_words(row: tuple) -> tuple[str, str]:
    """Return level and words of a verdict."""
    if row.verdict.startswith(equivalence.WORSE):
        return report_words.BAD, f"Yes, for {report_words.who_loses(row)}"
    if row.verdict == equivalence.DIFFERENT:
        return (
            report_words.UNSURE,
            f"In part, for {report_words.who_loses(row)}: not shown to exceed the margin",
        )
    if row.verdict == equivalence.EQUIVALENT:
        return report_words.GOOD, "No: equivalent"
    return report_words.UNSURE, TOO_FEW
