"""Verdicts on changes of gaps between groups, against an equivalence margin fixed before looking.

In: influences of `gap_change` (`estimate_tables.gap_changes`). Out: tables with a verdict a row,
and p of few comparisons adjusted for their number.

A difference between two arms that "is not significant" says nothing: it may be absent, or the study
too small. Verdicts follow from where the interval lies relative to the equivalence margin.
"""

import numpy as np
import pandas as pd

from helpers.analysis import auroc_intervals, confidence_intervals

WORSE, EQUIVALENT, INCONCLUSIVE = "worse by more than the margin", "equivalent", "inconclusive"
DIFFERENT = "differs from 0, not beyond the margin"
ALPHA, POWER = 0.05, 0.80


def verdict(low_95: float, high_95: float, low_90: float, high_90: float, margin: float) -> str:
    """Return what intervals of a gap_change say against the margin; "not estimable" where there is
    none.

    Worse by more than the margin: the whole 95 % interval lies beyond it, on the side of the group
    ("for the group") or of those it is compared with ("for the rest"). Equivalent: the 90 %
    interval lies inside the margin, which is two one-sided tests at 5 % (Schuirmann 1987).
    Different: the 95 % interval excludes 0, and neither of these is shown. Else inconclusive.
    """
    if np.isnan([low_95, high_95, low_90, high_90]).any():
        return "not estimable"
    if high_95 < -margin:
        return f"{WORSE}, for the group"
    if low_95 > margin:
        return f"{WORSE}, for the rest"
    if -margin < low_90 and high_90 < margin:
        return EQUIVALENT
    return DIFFERENT if low_95 > 0 or high_95 < 0 else INCONCLUSIVE


def of_changes(changes: pd.DataFrame, margin: float, n_planned: int = 1) -> pd.DataFrame:
    """Return estimate, 95 % interval, unadjusted p and verdict of each row, and what could have
    been shown.

    minimum_detectable: the true change whose 95 % interval excludes 0 with 80 % power, at the level
    of Holm's first step. smallest_margin: the smallest one within which these data would be
    equivalent. p_margin: of a change no larger than the margin. margin: the one given.
    patients_needed: test patients, see `patients_needed`.

    Args:
        changes: influences of gap_change, see `estimate_tables.gap_changes`.
        margin: the largest change that does not matter, AUROC, > 0; fixed before looking.
        n_planned: hypotheses that share the 5 %.
    """
    wide = confidence_intervals.of_changes(changes)
    narrow = confidence_intervals.of_changes(changes, 90)
    verdicts = [
        verdict(*limits, margin)
        for limits in zip(wide["low"], wide["high"], narrow["low"], narrow["high"])
    ]
    spread, n_patients = (part(changes) for part in (confidence_intervals.spread, _n_patients))
    return wide.assign(
        verdict=verdicts,
        p_margin=spread.p(np.maximum(0.0, wide["estimate"].abs().to_numpy() - margin)),
        smallest_margin=np.maximum(-narrow["low"], narrow["high"]),
        minimum_detectable=minimum_detectable_change(spread, n_planned),
        margin=margin,
        patients_needed=patients_needed(spread, n_patients, margin, n_planned),
    )


def _n_patients(changes: pd.DataFrame) -> int:
    """Return how many test patients a table of influences is of."""
    return confidence_intervals.influences_of(changes).shape[1]


def minimum_detectable_change(spread: auroc_intervals.Spread, n_planned: int = 1) -> np.ndarray:
    """Return the true difference detected with 80 % power at a two-sided level of 5 % / n_planned:
    the distances of the estimate to both quantiles.
    """
    return spread.margin(ALPHA / (2 * max(1, n_planned))) + spread.margin(1 - POWER)


def patients_needed(
    spread: auroc_intervals.Spread, n_patients: int, margin: float, n_planned: int = 1
) -> np.ndarray:
    """Return how many test patients, of the same groups in the same shares, tell with 80 % power: a
    true change of the margin is detected, and of no true change equivalence is shown.

    Distances shrink with the square root of the number of patients: n (distance / margin)^2. Those
    over training again do not, so that with several seeds the number is a lower bound.

    Args:
        spread: of the changes, in these patients.
        n_patients: test patients.
        margin, n_planned: see `of_changes`.

    Returns:
        (n,) floats; NaN where a change is not estimable.

    Source: Julious (2004), Statistics in Medicine 23:1921-1986 (both sample sizes).
    """
    equivalence = spread.margin(ALPHA) + spread.margin((1 - POWER) / 2)
    distance = np.maximum(minimum_detectable_change(spread, n_planned), equivalence)
    return n_patients * (distance / margin) ** 2


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
