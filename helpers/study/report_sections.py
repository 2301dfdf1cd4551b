"""What stands behind the first page of a study's report, in plain values.

In: tables of notebooks 01 and 04, the cohort's record. Out: lists and dicts for the template;
what a table does not have is "not shown".
"""

import pandas as pd

from helpers.analysis import price_parts, readable_tables
from helpers.core import small_counts
from helpers.figures import house_style
from helpers.study import report_words


def cohort_table(splits: pd.DataFrame, present: pd.DataFrame, cohort: str) -> list[list[str]]:
    """Return who is in a cohort, by split: a row a characteristic, train, valid and test beside it.

    Args:
        splits: `01_by_split.csv`.
        present: `01_prevalence_by_split.csv`.
        cohort: its name.
    """
    if splits.empty:
        return []
    order = ["train", "valid", "test"]
    by_split = splits[splits["cohort"] == cohort].set_index("split").reindex(order)
    rows = [
        ["patients", *_cells(by_split["patients"], ",.0f")],
        ["images", *_cells(by_split["images"], ",.0f")],
        ["images per patient, mean", *_cells(by_split["images_per_patient"], ".1f")],
        ["women, % of those of known sex", *_cells(by_split["female_percent"], ".1f")],
        ["sex unknown, patients", *_cells(by_split["sex_unknown"], ",.0f")],
        ["age in years, median", *_cells(by_split["age_years_median"], ".1f")],
        ["age in years, youngest", *_cells(by_split["age_years_min"], ".0f")],
        ["age in years, oldest", *_cells(by_split["age_years_max"], ".0f")],
        ["age unknown, patients", *_cells(by_split["age_unknown"], ",.0f")],
    ]
    of_cohort = present[present["cohort"] == cohort]
    for finding, part in of_cohort.groupby("finding", sort=False):
        found = part.set_index("split").reindex(order)
        shares = (100 * found[["prevalence", "low", "high"]]).set_axis(
            ["estimate", "low", "high"], axis=1
        )
        cells = [
            report_words.NOT_SHOWN
            if pd.isna(row.estimate)
            else readable_tables.with_interval(row, ".1f")
            for row in shares.itertuples()
        ]
        rows.append([f"{finding.replace('_', ' ')}, % of images [95 % CI]", *cells])
    return rows


def _cells(values: pd.Series, form: str) -> list[str]:
    """Return numbers as text."""
    return [report_words.NOT_SHOWN if pd.isna(value) else f"{value:{form}}" for value in values]


def group_sizes(sizes: pd.DataFrame) -> list[list[str]]:
    """Return the groups of test patients: name, patients, images, share of positive labels.

    Args:
        sizes: `04_group_sizes.csv`.
    """
    shares = _cells(100 * sizes["positive_fraction"], ".1f")
    numbers = (_cells(sizes[column], ",.0f") for column in ("n_patients", "n_images"))
    names = [
        "all patients"
        if row.attribute == "all"
        else report_words.group_name(row.attribute, row.group)
        for row in sizes.itertuples()
    ]
    return [list(row) for row in zip(names, *numbers, shares)]


def small_groups(cohort: dict) -> str:
    """Return in words which counts are not shown; "" of open data.

    Args:
        cohort: its record; {} of other people's predictions, which are not open.
    """
    if small_counts.is_open(cohort.get("access")):
        return ""
    return (
        f"Counts of fewer than {small_counts.FEWEST} patients, and what they would follow from,"
        " are not shown."
    )


# ---- prices, plans, limits


def parts(table: pd.DataFrame, arms: pd.DataFrame) -> list[dict]:
    """Return what the price of privacy is made of: a row a part, no row of another recipe.

    Args:
        table: `04_price_parts.csv`.
        arms: `04_summary.csv`.
    """
    shown = price_parts.shown(table)
    if shown.empty:  # without a private run
        return []
    way = ["epsilon", "unit", "recipe"]
    modes = arms.loc[arms["arm"] == "dp", [*way, "mode"]]
    return [
        {
            "budget": report_words.budget(row)
            + (f", {house_style.recipe_name(row.recipe)}" if row.recipe != "default" else "")
            + (f", {row.of_seeds}" if row.of_seeds and isinstance(row.of_seeds, str) else ""),
            "part": row.part,
            "difference": row.difference,
            "lost": readable_tables.estimable(row)
            + (f", {report_words.INCLUDES_0}" if report_words.includes_0(row) else ""),
        }
        for row in shown.merge(modes, "left", on=way).itertuples()
    ]


def planned_rows(planned: pd.DataFrame, changes: pd.DataFrame, arms: pd.DataFrame) -> list[dict]:
    """Return the comparisons planned before, as text, with what could have been detected.

    Args:
        planned: `04_planned.csv`.
        changes: `04_gap_changes.csv`.
        arms: `04_summary.csv`.
    """
    modes = {row.arm_label: report_words.of_mode(row) for row in arms.itertuples()}
    keys = ["attribute", "group", "arm_label"]
    needed = changes[[*keys, *({"patients_needed"} & set(changes))]]
    merged = planned.merge(needed, "left", on=keys)
    return [
        {
            "contrast": report_words.contrast_name(row.attribute, row.group),
            "budget": f"{row.epsilon:g}{modes.get(row.arm_label, '')}",
            "change": readable_tables.estimable(row),
            "p_holm": "" if pd.isna(row.p_holm) else f"{row.p_holm:.3f}",
            "verdict": row.verdict,
            "detectable": ""
            if pd.isna(row.minimum_detectable)
            else f"{row.minimum_detectable:.3f}",
            "needed": report_words.rounded(getattr(row, "patients_needed", float("nan"))),
        }
        for row in merged.itertuples()
    ]


def not_estimable(changes: pd.DataFrame) -> list[str]:
    """Return the names of the contrasts that no private arm has an estimate of.

    Args:
        changes: `04_gap_changes.csv`.
    """
    is_known = changes.groupby(["attribute", "group"], sort=False)["estimate"].apply(
        lambda estimates: estimates.notna().any()
    )
    return [report_words.contrast_name(*key) for key, known in is_known.items() if not known]


def averaged(means: pd.DataFrame) -> list[dict]:
    """Return which findings a mean AUROC is over, by attribute.

    Args:
        means: `04_findings_averaged.csv`.
    """
    of_auroc = means[means["metric"] == "auroc"]
    return [
        {
            "attribute": "all patients" if row.attribute == "all" else row.attribute,
            "n": int(row.n_findings),
            "findings": str(row.findings).replace("_", " ") if row.n_findings else "none",
        }
        for row in of_auroc.itertuples()
    ]
