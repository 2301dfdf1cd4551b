"""Intervals of AUROC, of its contrasts between groups and of changes between arms, from what each
patient has to do with the estimate.

In: labels, scores, the patient of each image. Out: influence values, a number a patient, whose
squares add up to the variance of the estimate; and intervals from them.

Percentile intervals of resampled patients are too narrow where a group has few patients with or
without a finding, and lie on one side. Here a level is placed on the logit scale, a contrast takes
the two levels' own limits, and the quantile is Student's. Influence values are linear: those of a
mean over findings or seeds, of a contrast and of a change are the mean and the difference of
theirs.
"""

import numpy as np
from scipy import special, stats

from helpers.core import errors

Limits = tuple[np.ndarray, np.ndarray]


def influences(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, n_patients: int
) -> tuple[float, np.ndarray]:
    """Return the AUROC of images, and the influence of each patient on it.

    The sum of squares of the influences is the variance of the AUROC over the choice of patients,
    that of Obuchowski (1997, Biometrics 53:567-578) but for the factor of the covariance between a
    patient's images with and without the finding; with one image a patient it is DeLong's (1988).

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats; a tie counts one half.
        patients: (n,) integer code of each image's patient, 0 to n_patients - 1.
        n_patients: length of the result; a patient without an image has no influence.

    Returns:
        The estimate and (n_patients,) floats; both NaN with fewer than two patients with, or
        without, the finding.
    """
    errors.same_length(labels=labels, scores=scores, patients=patients)
    of_label = {label: np.flatnonzero(labels == label) for label in (1, 0)}
    n_of = {label: len(np.unique(patients[rows])) for label, rows in of_label.items()}
    if min(n_of.values()) < 2:
        return float("nan"), np.full(n_patients, np.nan)
    whole = np.zeros(n_patients)
    for label, rows in of_label.items():
        others = np.sort(scores[of_label[1 - label]])
        lower = (
            np.searchsorted(others, scores[rows], "left")
            + np.searchsorted(others, scores[rows], "right")
        ) / (2 * len(others))
        in_order = lower if label else 1 - lower  # share of pairs
        estimate = in_order.mean()
        factor = np.sqrt(n_of[label] / (n_of[label] - 1)) / len(rows)
        whole += factor * np.bincount(patients[rows], in_order - estimate, n_patients)
    return float(estimate), whole


def standard_error(influence: np.ndarray) -> np.ndarray:
    """Return the standard error of each estimate, from (..., n_patients) influences."""
    return np.sqrt((influence**2).sum(axis=-1))


def effective_patients(influence: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom of each standard error: how many patients tell it.

    The variance is a sum of squares, of patients of unequal weight: Satterthwaite's (1946,
    Biometrics Bulletin 2:110-114) degrees of freedom of such a sum are (sum of variances)^2 / sum
    of squared variances, and a patient's squared variance is a third of the fourth moment.

    Args:
        influence: (..., n_patients).

    Returns:
        (...) floats >= 1; NaN where nobody has an influence.
    """
    squares, fourths = (influence**2).sum(axis=-1), (influence**4).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.maximum(1.0, 3 * squares**2 / np.where(fourths > 0, fourths, np.nan))


def of_level(
    estimate: np.ndarray,
    error: np.ndarray,
    freedom: np.ndarray,
    n_smaller: np.ndarray,
    percent: float = 95,
) -> Limits:
    """Return the interval of an AUROC, or of a mean of several: Student's t on the logit scale.

    Where all pairs are in order nothing is known of the spread: the lower limit is then that of
    Wilson's interval for n successes of n, n / (n + z^2), the upper one 1.

    Args:
        estimate: (...) AUROC.
        error: (...) standard error.
        freedom: (...) degrees of freedom: of one finding `n_smaller` - 1, of a mean over findings
            `effective_patients`.
        n_smaller: (...) patients of the smaller class.
        percent: of the interval.
    """
    tail = 0.5 + percent / 200
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.t.ppf(tail, np.maximum(1, freedom)) * error / (estimate * (1 - estimate))
        place = special.logit(estimate)
        low, high = special.expit(place - half), special.expit(place + half)
    is_end = (error <= 0) | (estimate >= 1)
    z = stats.norm.ppf(tail)
    return np.where(is_end, n_smaller / (n_smaller + z**2), low), np.where(is_end, 1.0, high)


def of_contrast(group: np.ndarray, of_group: Limits, rest: np.ndarray, of_rest: Limits) -> Limits:
    """Return the interval of group - rest, which share no patient, from the limits of both.

    Each limit takes the distances of that side (MOVER; Zou and Donner 2008, Statistics in Medicine
    27:1693-1702): near 1 an AUROC can be much lower than estimated, but hardly higher.
    """
    difference = group - rest
    low = difference - np.hypot(group - of_group[0], of_rest[1] - rest)
    high = difference + np.hypot(of_group[1] - group, rest - of_rest[0])
    return low, high


def of_change(
    estimate: np.ndarray, error: np.ndarray, freedom: np.ndarray, percent: float = 95
) -> Limits:
    """Return the interval of a paired change, of a level or of a contrast: Student's t."""
    half = stats.t.ppf(0.5 + percent / 200, np.maximum(1, freedom)) * error
    return estimate - half, estimate + half


def p_of_change(estimate: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return the two-sided p of "no change", of the same t as the interval at every level."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * stats.t.sf(np.abs(estimate) / error, np.maximum(1, freedom))
