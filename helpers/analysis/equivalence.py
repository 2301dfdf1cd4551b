"""Verdicts on changes of gaps between groups, against an equivalence margin fixed before looking.

In: replicates of `gap_change` (`group_contrasts.changes` of contrasts). Out: tables with a verdict
a row, and p of few comparisons adjusted for their number.

A difference between two arms that "is not significant" says nothing: it may be absent, or the study
too small. Three verdicts follow from where the interval lies relative to the equivalence margin.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from helpers.analysis import confidence_intervals, study_arms

WORSE, EQUIVALENT, INCONCLUSIVE = "worse by more than the margin", "equivalent", "inconclusive"
ALPHA, POWER = 0.05, 0.80


def verdict(low_95: float, high_95: float, low_90: float, high_90: float, margin: float) -> str:
    """Return what intervals of a gap_change say against the margin; "not estimable" where there is
    none.

    Worse by more than the margin: the whole 95 % interval lies beyond it, on the side of the group
    ("for the group") or of those it is compared with ("for the rest"). Equivalent: the 90 %
    interval lies inside the margin, which is two one-sided tests at 5 % (Schuirmann 1987). Else
    inconclusive.
    """
    if np.isnan([low_95, high_95, low_90, high_90]).any():
        return "not estimable"
    if high_95 < -margin:
        return f"{WORSE}, for the group"
    if low_95 > margin:
        return f"{WORSE}, for the rest"
    return EQUIVALENT if -margin < low_90 and high_90 < margin else INCONCLUSIVE


def of_changes(changes: pd.DataFrame, margin: float, n_planned: int = 1) -> pd.DataFrame:
    """Return estimate, 95 % interval, verdict and the minimum detectable change of each row.

    minimum_detectable: the true change whose 95 % interval excludes 0 with 80 % power, at the level
    of Holm's first step.

    Args:
        changes: replicates of gap_change, see `group_contrasts.changes`.
        margin: the largest change that does not matter, AUROC, > 0; fixed before looking.
        n_planned: hypotheses that share the 5 %.
    """
    wide, narrow = (
        confidence_intervals.summarise(changes),
        confidence_intervals.summarise(changes, 90),
    )
    verdicts = [
        verdict(*limits, margin)
        for limits in zip(wide["low"], wide["high"], narrow["low"], narrow["high"])
    ]
    spread = (
        study_arms.with_seeds(changes).drop(columns=0).std(axis=1).to_numpy()
        if len(changes)
        else []
    )
    return wide.assign(
        verdict=verdicts,
        minimum_detectable=minimum_detectable_change(np.asarray(spread, float), n_planned),
    )


def minimum_detectable_change(standard_error: np.ndarray, n_planned: int = 1) -> np.ndarray:
    """Return the true difference detected with 80 % power at a two-sided level of 5 % / n_planned.

    (z + z) standard errors.
    """
    return (norm.ppf(1 - ALPHA / (2 * max(1, n_planned))) + norm.ppf(POWER)) * standard_error


def bootstrap_p(draws: np.ndarray) -> float:
    """Return the two-sided p of "no difference" from replicates: 2 min(1 + #{d <= 0}, 1 + #{d >=
    0}) / (B + 1), at most 1.

    Args:
        draws: (B,) replicates; NaN ones are left out.

    Source: Davison and Hinkley (1997), "Bootstrap Methods and their Application", section 4.2
    (adding 1 for the data).
    """
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return float("nan")
    return float(min(1.0, 2 * (1 + min((draws <= 0).sum(), (draws >= 0).sum())) / (len(draws) + 1)))


def holm(p: np.ndarray) -> np.ndarray:
    """Return p adjusted for their number, so that 5 % is the chance of any false alarm. Missing
    ones count, and stay missing.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    order = np.argsort(p)  # NaN last
    raised = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, raised)
    return adjusted


def predicts(low: float) -> bool:
    """Return whether a mean AUROC's interval lies above 0.5, the AUROC of random scores."""
    return bool(low > 0.5)


def in_words(estimate: float, low: float, high: float, what: str) -> str:
    """Return one clause on a difference: its size, its interval, and whether that excludes 0."""
    if np.isnan(estimate):
        return f"{what} is not estimable"
    if np.isnan(low):
        return f"{what}, {estimate:+.3f}, has no interval"
    says = "the 95 % CI excludes 0" if low > 0 or high < 0 else "the 95 % CI includes 0"
    return f"{what}, {estimate:+.3f} [{low:+.3f}, {high:+.3f}]: {says}"
