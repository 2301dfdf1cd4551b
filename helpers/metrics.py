"""AUROC, thresholds and rates, each for many weightings of the same images at once.

In: labels, scores, and weights of images (one column a bootstrap replicate; a column of ones gives the plain estimate).
Out: one number a column. Refuses: thresholds from a single class. A metric without a class is NaN, never 0.
"""

import numpy as np
import pandas as pd

from helpers import checks

RATES = ("accuracy", "sensitivity", "specificity")


def weighted_auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUROC under each weighting: the chance that an image with the finding scores above one without.

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats; a tie counts one half.
        weights: (n, replicates) >= 0, e.g. how often each image's patient was drawn. Sums of float32 weights are exact
            as long as these are integers.

    Returns:
        (replicates,) floats in [0, 1]; NaN where a class has no weight.

    Source: Mann and Whitney (1947); Hanley and McNeil (1982).
    """
    checks.same_length(labels=labels, scores=scores, weights=weights)
    with_it, without = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    without = without[np.argsort(scores[without], kind="stable")]
    below = np.zeros((len(without) + 1, weights.shape[1]), dtype=weights.dtype)
    np.cumsum(weights[without], axis=0, out=below[1:])  # row k: weight of the k lowest images without the finding
    lower, higher = (np.searchsorted(scores[without], scores[with_it], side=side) for side in ("left", "right"))
    wins = np.einsum("ij,ij->j", weights[with_it], below[lower] + below[higher], dtype=np.float64) / 2
    pairs = weights[with_it].sum(0, dtype=np.float64) * below[-1]
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUROC of images, NaN labels left out; NaN with a single class."""
    known = ~np.isnan(np.asarray(labels, dtype=float))
    return float(weighted_auroc(labels[known], scores[known], np.ones((known.sum(), 1)))[0])


def macro_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean AUROC over findings that have both classes; NaN if none has.

    Args:
        labels: (n, n_findings) 1, 0 or NaN.
        scores: (n, n_findings).
    """
    each = [auroc(labels[:, column], scores[:, column]) for column in range(labels.shape[1])]
    return float(np.nanmean(each)) if not np.all(np.isnan(each)) else float("nan")


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the score threshold that maximises sensitivity + specificity - 1.

    Fit it on `valid` and carry it to `test`: a threshold chosen on `test` flatters every rate.

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats.

    Returns:
        One of `scores`; the decision is score >= threshold. Of equally good ones the largest.

    Raises:
        InputError: a single class.

    Source: Youden (1950), Cancer 3:32-35.
    """
    checks.same_length(labels=labels, scores=scores)
    n_positive, n_negative = int((labels == 1).sum()), int((labels == 0).sum())
    if not n_positive or not n_negative:
        checks.refuse("both classes in labels", f"{n_positive} positive and {n_negative} negative",
                      "Merge groups or leave this finding out.")
    candidates = np.unique(scores)[::-1]
    sensitivity = 1 - np.searchsorted(np.sort(scores[labels == 1]), candidates) / n_positive
    false_alarms = 1 - np.searchsorted(np.sort(scores[labels == 0]), candidates) / n_negative
    return float(candidates[np.argmax(np.round(sensitivity - false_alarms, 12))])


def weighted_rates(labels: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rates of right decisions under each weighting.

    Args:
        labels: (n,) 1 or 0.
        decisions: (n,) 1 or 0.
        weights: (n, replicates) >= 0.

    Returns:
        accuracy (of all images), sensitivity (of those with the finding) and specificity (of those without), each
        (replicates,) floats in [0, 1]; NaN where no image has weight.
    """
    checks.same_length(labels=labels, decisions=decisions, weights=weights)
    right = labels == decisions
    counted = np.stack([labels == 1, labels == 0, (labels == 1) & right, (labels == 0) & right]).astype(weights.dtype)
    positive, negative, right_positive, right_negative = (counted @ weights).astype(np.float64)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)

    return {"accuracy": share(right_positive + right_negative, positive + negative),
            "sensitivity": share(right_positive, positive), "specificity": share(right_negative, negative)}


def patient_weights(patients: np.ndarray, n_bootstrap: int, stream: np.random.Generator) -> np.ndarray:
    """Return how often each image counts in each bootstrap replicate when *patients* are drawn with replacement.

    Resampling images instead would make intervals too narrow, since the images of a patient resemble each other.

    Args:
        patients: (n,) patient of each image.
        n_bootstrap: number of replicates.
        stream: source of the draws.

    Returns:
        (n, 1 + n_bootstrap) float32; column 0 is all ones (the plain estimate); images of one patient weigh alike.
    """
    names, codes = np.unique(patients, return_inverse=True)
    draws = stream.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_bootstrap)
    counts = np.vstack([np.ones(len(names)), draws]).T.astype(np.float32)
    return counts[codes]


def auroc_by_finding(predictions: dict[str, pd.DataFrame], split: str) -> pd.DataFrame:
    """Return the AUROC of each finding (a row) in each run (a column), without intervals; NaN with one class."""
    parts = {run: rows[rows["split"] == split].groupby("finding", sort=False).apply(
        lambda part: auroc(part["label"].to_numpy(), part["score"].to_numpy()))
        for run, rows in predictions.items()}
    return pd.DataFrame(parts).rename_axis("finding").reset_index()
