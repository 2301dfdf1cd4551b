"""The study in one row an arm: mean AUROC, and its contrasts by sex and of the oldest group.

In: replicates of single runs. Out: the table that is kept as `expected/*.csv`.
"""

import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts, study_arms
from helpers.analysis.metric_table import ALL


def summary(arms: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the study in one row an arm: mean AUROC, and its contrasts by sex and of the oldest
    group, with intervals.

    Args:
        arms: from `study_arms.arm_table`.
        table: from `metric_table.replicate`, of single runs.

    Returns:
        The columns of `study_arms.arm_table`, one row an arm, macro_auroc, low, high, and for sex
        and age <name>_contrast, <name>_low, <name>_high.
    """
    aurocs = table[table.index.get_level_values("metric") == "auroc"]
    everybody = _of(
        confidence_intervals.summarise(study_arms.pool(group_contrasts.macro(aurocs), arms)), ALL
    ).rename(columns={"estimate": "macro_auroc"})
    rows = study_arms.pooled_arms(arms).merge(
        everybody[["run", "macro_auroc", "low", "high"]], on="run"
    )
    contrasts = confidence_intervals.summarise(
        study_arms.pool(group_contrasts.macro(group_contrasts.contrasts(aurocs)), arms)
    )
    for attribute in ("sex", "age"):
        named = {
            "estimate": f"{attribute}_contrast",
            "low": f"{attribute}_low",
            "high": f"{attribute}_high",
        }
        # a band that is not estimable stays the oldest
        if attribute == "age":
            of_ages = _of(contrasts, group_contrasts.age_attribute(contrasts))
            shown = of_ages[of_ages["group"] == group_contrasts.oldest(of_ages["group"])]
        else:
            shown = _of(contrasts, attribute)
        rows = rows.merge(
            shown.rename(columns=named)[["run", *named.values()]], on="run", how="left"
        )
    return rows


def _of(table: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Return the rows of one attribute."""
    return table[table["attribute"] == attribute]
