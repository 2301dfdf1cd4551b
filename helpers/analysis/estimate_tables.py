"""What notebooks show: levels and contrasts of every metric with their intervals.

In: replicates of all metrics and influences on AUROC, both with means, of single runs. Out: a row
an estimate. AUROC has intervals from influences, all other metrics percentile intervals, but for
the expected calibration error: it is above 0 by construction, the more so the fewer images, so that
it has no interval, and no contrast.
"""

import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts, study_arms
from helpers.analysis.metric_table import ALL

NO_INTERVAL = ("ece",)


def levels(replicates: pd.DataFrame, influences: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return every metric of every arm, finding and group, means over findings first.

    Args:
        replicates: `group_contrasts.with_means` of `metric_table.replicate`.
        influences: the same of `influence_table.of_auroc`.
        arms: from `study_arms.arm_table`.

    Returns:
        The index levels, estimate, low, high, remark, and the columns of `study_arms.pooled_arms`.
    """
    auroc = confidence_intervals.of_levels(study_arms.pool(influences, arms))
    others = confidence_intervals.summarise(study_arms.pool(_others(replicates), arms))
    no_interval = others["metric"].isin(NO_INTERVAL)
    others[["low", "high"]] = others[["low", "high"]].mask(no_interval)
    return _together(auroc, others, arms)


def contrasts(
    replicates: pd.DataFrame, influences: pd.DataFrame, arms: pd.DataFrame, of_means: pd.DataFrame
) -> pd.DataFrame:
    """Return contrasts between groups, means over findings, of every metric of every arm.

    Args:
        replicates, influences, arms: as in `levels`.
        of_means: from `group_contrasts.averaged`.

    Returns:
        As `levels`, and n_findings and findings that the mean is over.
    """
    others = group_contrasts.only_means(_others(replicates))
    others = others[~others.index.get_level_values("metric").isin(NO_INTERVAL)]
    others = group_contrasts.contrasts(others)
    others = confidence_intervals.summarise(study_arms.pool(others, arms))
    rows = _together(auroc_contrasts(influences, arms), others, arms)
    return group_contrasts.with_findings(rows, of_means)


def auroc_contrasts(influences: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return contrasts of AUROC between groups, means over findings, with their intervals.

    Args:
        influences, arms: as in `levels`.
    """
    means = group_contrasts.only_means(influences)
    pooled = study_arms.pool(means, arms)
    contrasted = study_arms.pool(group_contrasts.contrasts(means), arms)
    return confidence_intervals.of_contrasts(
        pooled, contrasted, group_contrasts.pairs(pooled.index)
    )


def gap_changes(influences: pd.DataFrame, arms: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return influences of the change of every contrast of AUROC against the arm without privacy.

    Args:
        influences, arms: as in `levels`.
        baseline: name of the arm without privacy; None gives no rows.
    """
    contrasted = group_contrasts.contrasts(group_contrasts.only_means(influences))
    return group_contrasts.changes(study_arms.pool(contrasted, arms), baseline)


def auroc_changes(
    influences: pd.DataFrame, arms: pd.DataFrame, baseline: str | None, *, is_given: bool = False
) -> pd.DataFrame:
    """Return by how much the AUROC of each arm, finding and group differs from that of an arm, with
    its interval and p.

    Args:
        influences, arms: as in `levels`.
        baseline, is_given: see `group_contrasts.changes`.
    """
    pooled = study_arms.pool(influences, arms)
    changed = group_contrasts.changes(pooled, baseline, is_given=is_given)
    return confidence_intervals.of_changes(changed)


def changes_of_everybody(
    replicates: pd.DataFrame,
    influences: pd.DataFrame,
    arms: pd.DataFrame,
    against: str | None,
    *,
    is_given: bool = False,
) -> pd.DataFrame:
    """Return by how much AUROC and sensitivity of all patients, means over findings, differ from
    those of an arm, paired by patient.

    Args:
        replicates, influences, arms: as in `levels`.
        against: name of the arm compared with; None gives no rows.
        is_given: see `group_contrasts.changes`.

    Returns:
        As `levels`, with p of AUROC; sensitivity is missing where no threshold could be fitted.
    """
    is_sensitivity = replicates.index.get_level_values("metric") == "sensitivity"
    means = (group_contrasts.only_means(rows) for rows in (influences, replicates[is_sensitivity]))
    of_auroc, of_sensitivity = (
        group_contrasts.changes(
            study_arms.pool(rows[rows.index.get_level_values("attribute") == ALL], arms),
            against,
            is_given=is_given,
        )
        for rows in means
    )
    auroc = confidence_intervals.of_changes(of_auroc)
    return _together(auroc, confidence_intervals.summarise(of_sensitivity), arms)


def _others(replicates: pd.DataFrame) -> pd.DataFrame:
    """Return the replicates of all metrics but AUROC."""
    return replicates[replicates.index.get_level_values("metric") != "auroc"]


def _together(auroc: pd.DataFrame, others: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return estimates of AUROC, then those of other metrics, with what the arms are."""
    rows = pd.concat([part for part in (auroc, others) if len(part)] or [auroc])
    rows = rows.assign(remark=rows["remark"].fillna(""))
    return rows.merge(study_arms.pooled_arms(arms), on="run")
