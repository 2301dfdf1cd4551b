"""Bootstrap of patients: every metric of a set of images under all resamples at once.

In: the patient of each image, labels, scores, thresholds. Out: one number a resample, the plain
estimate first. Raises `InputError` for arrays of unequal length. A resample in which a metric is
undefined is NaN, never 0.

Patients are drawn, not images: the images of a patient resemble each other, and resampling them
singly would make intervals too narrow. One sort of the scores serves all resamples: a resample is a
weight of each patient, and what metrics need are weighted counts, summed up along the sorted
scores.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from scipy import sparse, special

from helpers.core import errors

RANKED = ("auroc", "auprc")
RATES = ("accuracy", "sensitivity", "specificity", "ppv", "selection_rate")
PROBABILITIES = ("brier", "calibration_slope", "calibration_intercept", "ece")
N_BINS = 10  # of scores, equally wide
_MOST_SLOPE = 20  # a calibration slope beyond it means labels that scores part without error
# patients times resamples at a time: their running sums stay in the processor's cache
_TOGETHER = 300_000


@dataclasses.dataclass(frozen=True)
class Draws:
    """How often each image counts in each resample.

    `patients` (n,) integer code of each image's patient; `counts` uint8 arrays (n_patients, some
    resamples), side by side one column a resample, the first of them all ones (the plain estimate).
    """

    patients: np.ndarray
    counts: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, patients: np.ndarray, n_bootstrap: int, stream: np.random.Generator) -> "Draws":
        """Return draws of patients with replacement, as many as there are.

        Guarantees: images of one patient weigh alike in every resample.

        Args:
            patients: (n,) patient of each image.
            n_bootstrap: number of resamples.
            stream: source of the draws.
        """
        names, codes = np.unique(patients, return_inverse=True)
        even, counts = np.full(len(names), 1 / len(names)), [np.ones((len(names), 1), np.uint8)]
        together = max(32, _TOGETHER // len(names))
        for first in range(0, n_bootstrap, together):
            drawn = stream.multinomial(len(names), even, size=min(together, n_bootstrap - first))
            # nobody is drawn 256 times
            counts.append(np.ascontiguousarray(drawn.T.astype(np.uint8)))
        return cls(codes, tuple(counts))

    @property
    def n(self) -> int:
        """Number of columns: 1 + resamples."""
        return sum(part.shape[1] for part in self.counts)

    @property
    def n_patients(self) -> int:
        """Number of patients, also of those without an image here."""
        return len(self.counts[0])

    def present(self) -> "Draws":
        """Return the draws of the same images without the patients who have none here: a small
        group has few of all.
        """
        present, codes = np.unique(self.patients, return_inverse=True)
        if len(present) == self.n_patients:
            return self
        return Draws(codes, tuple(part[present] for part in self.counts))

    def weights(self, dtype: type = np.float64) -> Iterator[np.ndarray]:
        """Yield (n_patients, some resamples) floats, how often each patient counts."""
        yield from (part.astype(dtype) for part in self.counts)

    def __getitem__(self, images: np.ndarray) -> "Draws":
        """Return the draws of some of the images, by mask or positions.

        The resamples stay the same.
        """
        return dataclasses.replace(self, patients=self.patients[images])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return (k, resamples) weighted sums over images of each row of values (k, n)."""
        here = self.present()
        of_patients = np.stack([np.bincount(here.patients, row, here.n_patients) for row in values])
        return np.hstack([of_patients @ weights for weights in here.weights()])


def ranked(
    labels: np.ndarray, scores: np.ndarray, draws: Draws, names: tuple[str, ...] = RANKED
) -> dict[str, np.ndarray]:
    """Return metrics of the order of scores, for each resample.

    auroc: the chance that an image with the finding scores above one without, a tie counting one
    half (Mann and Whitney 1947; Hanley and McNeil 1982). auprc: average precision, the mean over
    images with the finding of the precision at their score (Davis and Goadrich 2006; not
    interpolated, as in scikit-learn).

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats.
        draws: of the same images.
        names: which of `RANKED`.

    Returns:
        (1 + resamples,) floats in [0, 1] each; NaN where a class has no weight.
    """
    errors.same_length(labels=labels, scores=scores, patients=draws.patients)
    draws, parts = draws.present(), {name: [] for name in names}
    dtype = _of_counts(len(labels))
    with_it, without = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    # the scores at which something is counted
    levels, level = np.unique(scores[with_it], return_inverse=True)
    # first level above each image without
    above = np.searchsorted(levels, scores[without], side="right")
    tied = (
        np.flatnonzero((above > 0) & (levels[np.maximum(above - 1, 0)] == scores[without]))
        if len(levels)
        else above[:0]
    )

    def at(rows: np.ndarray, images: np.ndarray, n_rows: int) -> sparse.csr_array:
        return sparse.csr_array(
            (np.ones(len(rows), dtype), (rows, draws.patients[images])), (n_rows, draws.n_patients)
        )

    positives, negatives = at(level, with_it, len(levels)), at(above, without, len(levels) + 1)
    ties = at(above[tied] - 1, without[tied], len(levels)) if len(tied) else None
    for weights in draws.weights(dtype):
        hits, below = positives @ weights, negatives @ weights  # (levels, resamples)
        # below[k]: weight of images without the finding that score below level k
        np.cumsum(below, axis=0, out=below)
        n_with, n_without = hits.sum(axis=0, dtype=float), below[-1].astype(float)
        if "auroc" in names:
            wins = _summed(hits, below[:-1])
            if ties is not None:
                wins += _summed(hits, ties @ weights) / 2
            parts["auroc"].append(_share(wins, n_with * n_without))
        if "auprc" in names:
            hits_above = np.cumsum(hits[::-1], axis=0)[::-1]
            called = np.maximum(hits_above + below[-1] - below[:-1], 1)  # 0 only without a hit
            precision = np.divide(hits_above, called, dtype=np.float64)
            value = _share(_summed(hits, precision), n_with)
            parts["auprc"].append(np.where(n_without > 0, value, np.nan))
    return {name: np.concatenate(values) for name, values in parts.items()}


def rates(
    labels: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, draws: Draws
) -> dict[str, np.ndarray]:
    """Return rates of decisions, for each resample with its own threshold.

    accuracy: right decisions of all images; sensitivity: of those with the finding; specificity: of
    those without; ppv (positive predictive value): right ones of the positive decisions;
    selection_rate: positive decisions of all images.

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats; a decision is positive from the threshold on.
        thresholds: (1 + resamples,), see `operating_points.thresholds`.
        draws: of the same images.

    Returns:
        (1 + resamples,) floats in [0, 1] each; NaN where no image has weight, or without threshold.
    """
    errors.same_length(labels=labels, scores=scores, patients=draws.patients)
    draws = draws.present()
    levels, rank = np.unique(thresholds, return_inverse=True)  # NaN last
    level = np.searchsorted(levels, scores, side="right")  # thresholds that a score reaches
    called, counted, dtype = {}, {}, _of_counts(len(labels))
    for label in (1, 0):
        images = np.flatnonzero(labels == label)
        at_level = sparse.csr_array(
            (np.ones(len(images), dtype), (level[images], draws.patients[images])),
            (len(levels) + 1, draws.n_patients),
        )
        above, first = [], 0
        for weights in draws.weights(dtype):
            reached = np.cumsum((at_level @ weights)[::-1], axis=0)[::-1]
            columns = np.arange(weights.shape[1])
            above.append((reached[rank[first + columns] + 1, columns], reached[0]))
            first += len(columns)
        called[label], counted[label] = (
            np.concatenate(parts, dtype=float) for parts in zip(*above)
        )
        called[label][np.isnan(thresholds)] = np.nan
    positive, n = called[1] + called[0], counted[1] + counted[0]
    return {
        "accuracy": _share(called[1] + counted[0] - called[0], n),
        "sensitivity": _share(called[1], counted[1]),
        "specificity": _share(counted[0] - called[0], counted[0]),
        "ppv": _share(called[1], positive),
        "selection_rate": _share(positive, n),
    }


def probabilities(labels: np.ndarray, scores: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
    """Return how far scores are right as probabilities, for each resample.

    brier: mean squared difference of score and label (Brier 1950). calibration_slope: of the
    logistic regression of the label on the logit of the score, 1 where scores are as extreme as
    they should be, below 1 where they are too extreme (Cox 1958). calibration_intercept: of the
    same with slope 1, on the logit scale, 0 where scores are as large as they should be on average,
    below 0 where they are too large. Resamples of both are one Newton step away from the estimate,
    not fitted anew: right to first order, which is for groups of some hundred images; the standard
    error is that of the sandwich formula clustered by patient. ece: expected calibration error, the
    mean over images of the distance of mean score and share of labels in ten equally wide bins
    (Naeini et al. 2015); above 0 by construction, the more so the fewer images.

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) in [0, 1]; logits are cut at +-13.8 (scores of 1e-6).
        draws: of the same images.

    Returns:
        (1 + resamples,) floats each; NaN where there is no image, for intercept and slope with a
        single class, for the slope also without spread of scores, or with labels that scores part
        (almost) without error: no finite slope fits them.
    """
    errors.same_length(labels=labels, scores=scores, patients=draws.patients)
    logits = special.logit(np.clip(scores, 1e-6, 1 - 1e-6))
    line = np.stack([np.ones(len(logits)), logits])  # intercept, slope
    has_both = len(set(labels)) == 2
    beta = _logistic_fit(line, labels) if has_both and np.ptp(logits) > 1e-9 else np.full(2, np.nan)
    alone = _intercept(logits, labels) if has_both else np.nan
    of_line, of_alone = (
        special.expit(np.nan_to_num(beta) @ line),
        special.expit(logits + np.nan_to_num(alone)),
    )
    bins = np.minimum((np.asarray(scores) * N_BINS).astype(int), N_BINS - 1)
    in_bin = bins == np.unique(bins)[:, None]
    squared, everybody, positive, u0, u1, i00, i01, i11, score, information, *apart = draws.sums(
        np.stack(
            [
                (scores - labels) ** 2,
                line[0],
                labels,
                *(line * (labels - of_line)),
                *(line[[0, 0, 1]] * line[[0, 1, 1]] * of_line * (1 - of_line)),
                labels - of_alone,
                of_alone * (1 - of_alone),
                *(in_bin * (labels - scores)),
            ]
        )
    )
    slope = np.full(draws.n, np.nan)
    if abs(beta[1]) < _MOST_SLOPE:
        slope = beta[1] + _share(i00 * u1 - i01 * u0, i00 * i11 - i01**2)
        slope[(positive == 0) | (positive == everybody)] = np.nan
    return {
        "brier": _share(squared, everybody),
        "calibration_slope": slope,
        "calibration_intercept": alone + _share(score, information),
        "ece": _share(np.abs(apart).sum(axis=0), everybody),
    }


def _intercept(logits: np.ndarray, labels: np.ndarray, steps: int = 50) -> float:
    """Return the intercept of the logistic regression of labels on logits with slope 1."""
    intercept = 0.0
    for _ in range(steps):
        expected = special.expit(logits + intercept)
        move = (labels - expected).sum() / (expected * (1 - expected)).sum()
        intercept += float(np.clip(move, -2, 2))
        if abs(move) < 1e-9:
            break
    return intercept


def _logistic_fit(line: np.ndarray, labels: np.ndarray, steps: int = 50) -> np.ndarray:
    """Return intercept and slope by Newton's method, NaN where it does not converge; a vanishing
    ridge keeps separable labels finite.

    A step is halved until the likelihood grows: on scores that are far too extreme a whole one can
    lead away for good.
    """

    def likelihood(beta: np.ndarray) -> float:
        return labels @ (beta @ line) - np.logaddexp(0, beta @ line).sum()

    beta = np.zeros(2)
    for _ in range(steps):
        expected = special.expit(beta @ line)
        information = (line * (expected * (1 - expected))) @ line.T + 1e-6 * np.eye(2)
        move = np.linalg.solve(information, line @ (labels - expected))
        if np.abs(move).max() < 1e-8:
            return beta
        while likelihood(beta + move) < likelihood(beta) and np.abs(move).max() > 1e-9:
            move = move / 2
        beta = beta + move
    return np.full(2, np.nan)


def _of_counts(n_images: int) -> type:
    """Return a type of floats in which counts of resampled images are exact: single precision,
    which is faster, is up to 2^24, and a resample may have 16 times the images.
    """
    return np.float32 if n_images < 2**20 else np.float64


def _summed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the sum over rows of the product of two arrays, in double precision."""
    return np.einsum("ij,ij->j", one, other, dtype=np.float64)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
