"""AUROC of images, its variance when images come from patients, and thresholds.

In: labels and scores. Out: one number. Raises `InputError` for thresholds from a single class. A
metric without a class is NaN, never 0. All other metrics, under resamples of patients, are in
`bootstrap`.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from helpers.core import errors


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUROC of images, NaN labels left out; NaN with a single class."""
    known = ~np.isnan(np.asarray(labels, dtype=float))
    return (
        float(roc_auc_score(labels[known], scores[known]))
        if len(set(labels[known])) == 2
        else float("nan")
    )


def macro_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean AUROC over findings that have both classes; NaN if none has.

    Args:
        labels: (n, n_findings) 1, 0 or NaN.
        scores: (n, n_findings).
    """
    aurocs = [auroc(labels[:, column], scores[:, column]) for column in range(labels.shape[1])]
    return float(np.nanmean(aurocs)) if not np.all(np.isnan(aurocs)) else float("nan")


def clustered_auroc_variance(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> float:
    """Return the variance of the AUROC over the choice of patients, in closed form: a check of the
    bootstrap.

    With one image a patient it is DeLong's (1988).

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats; a tie counts one half.
        patients: (n,) patient of each image.

    Returns:
        A float >= 0, 0 where all pairs are in order; NaN with fewer than two patients with, or
        without, the finding.

    Source: Obuchowski (1997), Biometrics 53:567-578, equations 3 to 5.
    """
    errors.same_length(labels=labels, scores=scores, patients=patients)
    codes = np.unique(patients, return_inverse=True)[1]
    of_label = {label: np.flatnonzero(labels == label) for label in (1, 0)}
    n_images = {label: len(rows) for label, rows in of_label.items()}
    n_patients = {label: len(np.unique(codes[rows])) for label, rows in of_label.items()}
    if min(n_patients.values()) < 2:
        return float("nan")
    deviations = {}
    for label, rows in of_label.items():
        others = np.sort(scores[of_label[1 - label]])
        lower = (
            np.searchsorted(others, scores[rows], "left")
            + np.searchsorted(others, scores[rows], "right")
        ) / 2
        # share of pairs in the right order
        placements = lower / len(others) if label else 1 - lower / len(others)
        deviations[label] = np.bincount(
            codes[rows], placements - placements.mean(), codes.max() + 1
        )
    n = codes.max() + 1
    return float(
        sum(
            n_patients[label]
            / (n_patients[label] - 1)
            * (deviations[label] ** 2).sum()
            / n_images[label] ** 2
            for label in (1, 0)
        )
        + 2 * n / (n - 1) * (deviations[1] * deviations[0]).sum() / (n_images[1] * n_images[0])
    )


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
    errors.same_length(labels=labels, scores=scores)
    n_positive, n_negative = int((labels == 1).sum()), int((labels == 0).sum())
    if not n_positive or not n_negative:
        errors.refuse(
            "both classes in labels",
            f"{n_positive} positive and {n_negative} negative",
            "Merge groups or leave this finding out.",
        )
    candidates = np.unique(scores)[::-1]
    sensitivity = 1 - np.searchsorted(np.sort(scores[labels == 1]), candidates) / n_positive
    false_alarms = 1 - np.searchsorted(np.sort(scores[labels == 0]), candidates) / n_negative
    return float(candidates[np.argmax(np.round(sensitivity - false_alarms, 12))])


def sensitivity_threshold(labels: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """Return the largest score threshold whose sensitivity is at least the one wanted.

    Fit it on `valid` and carry it to `test`.

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats.
        sensitivity: wanted, in (0, 1].

    Returns:
        One of the scores of images with the finding; the decision is score >= threshold.

    Raises:
        InputError: no image with the finding.
    """
    errors.same_length(labels=labels, scores=scores)
    with_it = np.sort(scores[labels == 1])[::-1]
    if not len(with_it):
        errors.refuse(
            "images with the finding in labels", "none", "Merge groups or leave this finding out."
        )
    return float(with_it[int(np.ceil(np.round(sensitivity * len(with_it), 9))) - 1])


def auroc_by_finding(predictions: dict[str, pd.DataFrame], split: str) -> pd.DataFrame:
    """Return the AUROC of each finding (a row) in each run (a column), without intervals.

    NaN with one class.
    """
    parts = {
        run: (
            rows[rows["split"] == split]
            .groupby("finding", sort=False)
            .apply(lambda part: auroc(part["label"].to_numpy(), part["score"].to_numpy()))
        )
        for run, rows in predictions.items()
    }
    return pd.DataFrame(parts).rename_axis("finding").reset_index()
