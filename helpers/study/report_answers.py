"""The first page of a study's report: what it found, in plain values.

In: tables of notebook 04. Out: lists of dicts for the template. Nothing is computed
here that a table does not have, but findings missed, 100 times one minus sensitivity.
A difference whose interval includes 0 says so.
"""

import math

import pandas as pd

from helpers.analysis import equivalence, readable_tables, study_arms
from helpers.analysis.metric_table import REST
from helpers.study import report_words

NOT_KNOWN = "not in these tables"
REFERENCES = {"no privacy": "baseline", "zero-shot": "zero_shot"}  # compared with, and its arm
CHANCE = 0.5  # AUROC of random scores


def models(summary: pd.DataFrame, metrics: pd.DataFrame, paired: pd.DataFrame) -> list[dict]:
    """Return each main arm's AUROC, its paired differences, and findings missed.

    Args:
        summary: `04_summary.csv`.
        metrics: `04_metrics.csv`.
        paired: `04_paired_differences.csv`, or without a row.

    Returns:
        name, arm_label, auroc, minus_no_privacy, minus_public, missed and missed_more (of 100
        images with a finding); "reference" for the arm that others are compared with.
    """
    of_all = metrics[(metrics["finding"] == "macro") & (metrics["attribute"] == "all")]
    sensitivity = of_all[of_all["metric"] == "sensitivity"].set_index("run")
    return [
        level
        | {
            "minus_no_privacy": _paired(paired, arm, "auroc", "no privacy"),
            "minus_public": _paired(paired, arm, "auroc", "zero-shot"),
            "missed": _missed(sensitivity.loc[arm.run], ".1f", of_level=True),
            "missed_more": _paired(paired, arm, "sensitivity", "no privacy"),
        }
        for arm, level in zip(study_arms.main_arms(summary).itertuples(), levels(summary))
    ]


def levels(summary: pd.DataFrame) -> list[dict]:
    """Return each main arm's AUROC as text: name, arm_label, auroc.

    Args:
        summary: `04_summary.csv`, or of another hospital's patients `04_elsewhere.csv`; maybe
            without a row.
    """
    if summary.empty:
        return []
    renamed = study_arms.main_arms(summary).rename(columns={"macro_auroc": "estimate"})
    return [
        {
            "name": report_words.arm_name(row),
            "arm_label": row.arm_label,
            "auroc": readable_tables.estimable(row, ".3f"),
        }
        for row in renamed.itertuples()
    ]


def _paired(paired: pd.DataFrame, arm: tuple, metric: str, against: str) -> str:
    """Return a paired difference of an arm, of sensitivity as findings missed."""
    if arm.arm == REFERENCES[against]:
        return "reference"
    if paired.empty:
        return NOT_KNOWN
    is_asked = (paired["metric"] == metric) & (paired["against"] == against)
    rows = paired[(paired["run"] == arm.run) & is_asked]
    if rows.empty:
        return NOT_KNOWN
    row = rows.iloc[0]
    return _of_difference(
        row, _missed(row, "+.1f") if metric == "sensitivity" else readable_tables.estimable(row)
    )


def _of_difference(row: pd.Series, text: str) -> str:
    """Return a difference's text, with a word where its interval includes 0."""
    return f"{text}, {report_words.INCLUDES_0}" if report_words.includes_0(row) else text


def _missed(row: pd.Series, form: str, *, of_level: bool = False) -> str:
    """Return sensitivity, or its difference, as findings missed of 100 that are there."""
    whole = 100 if of_level else 0
    values = {"estimate": row.estimate, "low": row.high, "high": row.low}
    turned = pd.Series({name: whole - 100 * value for name, value in values.items()})
    return readable_tables.estimable(turned, form)


def worst_groups(
    worst: pd.DataFrame,
    of_groups: pd.DataFrame,
    sizes: pd.DataFrame,
    changes: pd.DataFrame,
    metrics: pd.DataFrame,
) -> list[dict]:
    """Return the groups with the smallest AUROC of any private arm, each with its AUROC in all main
    arms.

    Args:
        worst: `04_worst_groups.csv`.
        of_groups: `04_groups_at_once.csv`, intervals of all groups of an attribute at once; an
            older one has no changes.
        sizes: `04_group_sizes.csv`.
        changes: `04_gap_changes.csv`.
        metrics: `04_metrics.csv`.

    Returns:
        name, n_patients, where (its AUROC is the smallest), level (of alarm), pays_more, rows (of
        name, arm_label, auroc, remark, change: AUROC minus that without privacy; missed: of 100
        images with a finding; rest_change and rest_missed: the same of all others).
    """
    means = metrics[(metrics["finding"] == "macro") & (metrics["metric"] == "sensitivity")]
    sensitivity = means.set_index(["run", "attribute", "group"])["estimate"]
    private = worst[worst["arm"] == "dp"].dropna(subset="estimate")
    lowest = private.loc[private.groupby("run", sort=False)["estimate"].idxmin()]
    found, by_group = [], lowest.groupby(["attribute", "group"], sort=False)
    for (attribute, group), where in by_group:
        cells = of_groups[(of_groups["attribute"] == attribute) & (of_groups["group"] == group)]
        known = [name for name in ("run", "arm", "unit", "mode") if name in worst]
        arms = study_arms.main_arms(cells.merge(worst.drop_duplicates("run")[known], on="run"))
        rows = [
            {
                "name": report_words.arm_name(row),
                "arm_label": row.arm_label,
                "auroc": readable_tables.estimable(row, ".3f"),
                "remark": _beside_chance(row),
                "change": _change(row, "change"),
                "rest_change": _change(row, "rest_change"),
                "missed": _missed_of(sensitivity, row.run, attribute, group),
                "rest_missed": _missed_of(sensitivity, row.run, attribute, REST + group),
            }
            for row in arms.itertuples()
        ]
        pays_more = _is_worse_for(changes, attribute, group)
        fails = any(row["remark"] and row["name"].startswith("private") for row in rows)
        found.append(
            {
                "name": report_words.group_name(attribute, group),
                "n_patients": report_words.count(_size(sizes, attribute, group)),
                "where": "under privacy"
                if by_group.ngroups == 1
                else "in " + "; ".join(map(report_words.arm_name, where.itertuples())),
                "level": report_words.BAD if fails or pays_more else report_words.UNSURE,
                "pays_more": pays_more,
                "rows": rows,
            }
        )
    return found


def worst_without_privacy(worst: pd.DataFrame) -> str:
    """Return which group has the smallest AUROC without privacy, and how large; "" if not known.

    Args:
        worst: `04_worst_groups.csv`.
    """
    rows = worst[worst["arm"] == REFERENCES["no privacy"]].dropna(subset="estimate")
    if rows.empty:
        return ""
    row = rows.loc[rows["estimate"].idxmin()]
    return f"{report_words.group_name(row['attribute'], row['group'])} ({row['estimate']:.3f})"


def _missed_of(sensitivity: pd.Series, *key: str) -> str:
    """Return findings missed of 100 that are there, in words where that is not estimable."""
    value = sensitivity.get(key, math.nan)
    return "not estimable" if pd.isna(value) else f"{100 - 100 * value:.1f}"


def _change(row: tuple, name: str) -> str:
    """Return AUROC minus that without privacy, of a row with columns name, name_low, name_high."""
    if row.arm == REFERENCES["no privacy"]:
        return "reference"
    values = [getattr(row, name + end, math.nan) for end in ("", "_low", "_high")]
    if pd.isna(values).all():
        return NOT_KNOWN
    change = pd.Series(values, ["estimate", "low", "high"])
    return _of_difference(change, readable_tables.estimable(change))


def _beside_chance(row: tuple) -> str:
    """Return in words that an AUROC is not shown to be above that of random scores, else ""."""
    if pd.isna(row.low) or equivalence.predicts(row.low):
        return ""
    return "worse than chance" if row.high < CHANCE else "not shown above chance"


def _is_worse_for(changes: pd.DataFrame, attribute: str, group: str) -> bool:
    """Return whether a verdict says of any private arm that a group pays more than the margin."""
    rows = changes[
        (changes["attribute"] == attribute)
        & changes["verdict"].astype(str).str.startswith(equivalence.WORSE)
    ]
    return any(report_words.side_that_loses(row) == group for row in rows.itertuples())


def _size(sizes: pd.DataFrame, attribute: str, group: str) -> float:
    """Return the number of test patients of a group, NaN where it is not shown."""
    rows = sizes[(sizes["attribute"] == attribute) & (sizes["group"] == group)]
    return rows["n_patients"].iloc[0] if len(rows) else math.nan


# ---- before use


def to_check(
    is_drawn: bool,
    banner: dict,
    worst: list[dict],
    pays: list[dict],
    summary: pd.DataFrame,
    there: set[str],
) -> list[str]:
    """Return what remains to be checked before anybody uses a model.

    Args:
        is_drawn: whether the images are drawn.
        banner: see `report_privacy.banner`.
        worst: from `worst_groups`.
        pays: from `who_pays`.
        summary: `04_summary.csv`.
        there: names of tables that the results folder has.
    """
    items = [
        "Use no model here for patients as it is: none is a medical device. One of your own needs"
        " what follows, and approval as such."
    ]
    if is_drawn:
        items.append("Train and test on images of patients: these models learnt from drawings.")
    if not banner["is_guaranteed"]:
        items.append("Train in private mode: only there is a patient promised anything.")
    items += [
        f"{group['name']}: look at its images and labels, and do not use a model for it before the"
        " cause is known."
        for group in worst
        if group["level"] == report_words.BAD
    ]
    beyond, unclear = (
        ", ".join(
            of["attribute"] for of in pays if level in {one["level"] for one in of["answers"]}
        )
        for level in (report_words.BAD, report_words.UNSURE)
    )
    if beyond:
        items.append(f"Privacy costs one group more than the margin by {beyond}: find out why.")
    if unclear:
        items.append(
            f"Whether privacy costs some groups more by {unclear}: test more patients (numbers"
            " above)."
        )
    if (summary["n_seeds"] <= 1).any():
        items.append("Train again with further seeds: some intervals hold for one model only.")
    if "04_elsewhere" not in there:
        items.append("Test on patients of another hospital: not done here.")
    if not any(name.startswith("06_") for name in there):
        items.append("Attack the models (notebook 06): not done here.")
    return items + [
        "Fit thresholds, and check calibration by group, on patients of the place of use."
    ]
