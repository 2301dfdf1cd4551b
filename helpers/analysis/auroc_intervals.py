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

import dataclasses

import numpy as np
from scipy import special, stats

from helpers.core import errors

Limits = tuple[np.ndarray, np.ndarray]
# columns of a table of influences: patients of the smaller class, findings averaged, error that
# influences do not show, see `hidden_error`
N_SMALLER, N_AVERAGED, HIDDEN = ABOUT = ("n_smaller", "n_averaged", "hidden_error")


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


def hidden_error(estimate: float, n_smaller: int) -> float:
    """Return a standard error of an AUROC of 0 or 1, of which influences show none, else 0.

    All pairs are in order, or none: nothing is known of the spread but that it is small. It is
    taken from Wilson's limit, as in `of_level`.

    Args:
        estimate: AUROC.
        n_smaller: patients of the smaller class.
    """
    z = stats.norm.isf(0.025)
    return float(z / (n_smaller + z**2)) if estimate in (0.0, 1.0) else 0.0


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


@dataclasses.dataclass(frozen=True)
class Spread:
    """Standard errors of estimates, each with its degrees of freedom: over the choice of patients,
    and over training again.

    The latter is 0 where there is one seed.
    """

    patients: np.ndarray
    patients_freedom: np.ndarray
    seeds: np.ndarray | float = 0.0
    seeds_freedom: np.ndarray | float = np.inf

    def __getitem__(self, rows: np.ndarray) -> "Spread":
        """Return those of some rows."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Spread(*(np.broadcast_to(value, np.shape(self.patients))[rows] for value in values))

    @property
    def alone(self) -> "Spread":
        """Return those over patients alone."""
        return Spread(self.patients, self.patients_freedom)

    def of_seeds(self, tail: float | np.ndarray) -> np.ndarray:
        """Return the distance from the estimate to a limit, over training again alone."""
        return stats.t.isf(tail, np.maximum(1, self.seeds_freedom)) * self.seeds

    def margin(self, tail: float | np.ndarray) -> np.ndarray:
        """Return the distance from the estimate to a limit.

        Guarantees: the interval covers at least as often as it says, at any level and however few
        the seeds. Student's t of the sum of both variances (Satterthwaite) does not with few seeds,
        least of all at Holm's level. So the two distances are added as squares (Banerjee 1960,
        Sankhya 22:357-358), which is exact where one of them is 0.

        Args:
            tail: probability beyond that limit, in (0, 0.5]; 0.025 of a 95 % interval.
        """
        of_patients = stats.t.isf(tail, np.maximum(1, self.patients_freedom)) * self.patients
        return np.hypot(of_patients, self.of_seeds(tail))

    def p(self, estimate: np.ndarray) -> np.ndarray:
        """Return the two-sided p of "no difference": 1 minus the level of the widest interval
        about the estimate that excludes 0.
        """
        low, high = np.full(np.shape(estimate), -99.0), np.zeros(np.shape(estimate))
        for _ in range(40):  # halves of log10(p)
            middle = (low + high) / 2
            excludes = self.margin(10**middle / 2) < np.abs(estimate)
            low, high = np.where(excludes, low, middle), np.where(excludes, middle, high)
        return np.where(np.isnan(self.margin(0.5) + estimate), np.nan, 10**high)


def of_level(
    estimate: np.ndarray, spread: Spread, n_smaller: np.ndarray, percent: float = 95
) -> Limits:
    """Return the interval of an AUROC, or of a mean of several: Student's t on the logit scale.

    Where all pairs are in order nothing is known of the spread: the lower limit is then that of
    Wilson's interval for n successes of n, n / (n + z^2), the upper one 1; where none is, the
    reverse.

    Args:
        estimate: (...) AUROC.
        spread: of the estimate; degrees of freedom of one finding `n_smaller` - 1, of a mean over
            findings `effective_patients`.
        n_smaller: (...) patients of the smaller class.
        percent: of the interval.
    """
    tail = (100 - percent) / 200
    with np.errstate(divide="ignore", invalid="ignore"):
        half = spread.margin(tail) / (estimate * (1 - estimate))
        place = special.logit(estimate)
        low, high = special.expit(place - half), special.expit(place + half)
    wilson = stats.norm.isf(tail) ** 2 / (n_smaller + stats.norm.isf(tail) ** 2)
    ends = [estimate >= 1, estimate <= 0]
    # constant scores have no spread, and half of all pairs in order: the limits are the estimate
    low, high = (np.where(spread.margin(tail) == 0, estimate, limit) for limit in (low, high))
    return np.select(ends, [1 - wilson, 0.0], low), np.select(ends, [1.0, wilson], high)


def of_contrast(
    group: np.ndarray,
    of_group: Limits,
    rest: np.ndarray,
    of_rest: Limits,
    correlation: np.ndarray | float = 0.0,
    of_seeds: np.ndarray | float = 0.0,
) -> Limits:
    """Return the interval of group - rest from the limits of both.

    Each limit takes the distances of that side (MOVER; Zou and Donner 2008, Statistics in Medicine
    27:1693-1702): near 1 an AUROC can be much lower than estimated, but hardly higher.

    Args:
        group, rest: (...) AUROC.
        of_group, of_rest: their limits, over patients alone.
        correlation: of both estimates; 0 where they share no patient, as all groups of patients do.
            Groups of images, such as views, share some.
        of_seeds: distance over training again, of the contrast.
    """

    def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        squared = one**2 + other**2 - 2 * correlation * one * other
        return np.hypot(np.sqrt(np.maximum(0.0, squared)), of_seeds)

    difference = group - rest
    below = joined(group - of_group[0], of_rest[1] - rest)
    return difference - below, difference + joined(of_group[1] - group, rest - of_rest[0])


def correlation(
    one: np.ndarray, other: np.ndarray, error: np.ndarray, other_error: np.ndarray
) -> np.ndarray:
    """Return the correlation of two estimates over the choice of patients; 0 where one of them does
    not vary.

    Args:
        one, other: (..., n_patients) influences.
        error, other_error: (...) standard errors, hidden ones included, which are of nobody.
    """
    scale, shared = error * other_error, (one * other).sum(axis=-1)
    return np.divide(shared, scale, out=np.zeros_like(scale), where=scale > 0)
