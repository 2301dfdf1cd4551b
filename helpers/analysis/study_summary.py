"""The study in one row an arm: mean AUROC, and its contrasts by sex and of the oldest group.

In: influences of patients on single runs. Out: the table that is kept as `expected/*.csv`.
"""

import pandas as pd

from helpers.analysis import (
    confidence_intervals,
    estimate_tables,
    group_contrasts,
    study_arms,
)
from helpers.analysis.metric_table import ALL


def summary(arms: pd.DataFrame, influences: pd.DataFrame) -> pd.DataFrame:
    """Return the study in one row an arm: mean AUROC, and its contrasts by sex and of the oldest
    group, with intervals.

    Args:
        arms: from `study_arms.arm_table`.
        influences: from `influence_table.of_auroc`, with means.

    Returns:
        The columns of `study_arms.arm_table`, one row an arm, macro_auroc, low, high, and for sex
        and age <name>_contrast, <name>_low, <name>_high.
    """
    means = study_arms.pool(group_contrasts.only_means(influences), arms)
    everybody = _of(confidence_intervals.of_levels(means), ALL).rename(
        columns={"estimate": "macro_auroc"}
    )
    rows = study_arms.pooled_arms(arms).merge(
        everybody[["run", "macro_auroc", "low", "high"]], on="run"
    )
    contrasts = estimate_tables.auroc_contrasts(influences, arms)
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
