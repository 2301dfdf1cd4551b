"""AUROC of images, and whether it can be estimated.

In: labels and scores. Out: one number. A metric without a class is NaN, never 0. All other metrics,
under resamples of patients, are in `bootstrap`.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score


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


def is_estimable(labels: np.ndarray, patients: np.ndarray, min_patients: int) -> bool:
    """Return whether there are enough patients with a finding, enough without it, and as many
    distinct ones: ten patients who have both labels are not ten and ten.

    Args:
        labels: (n,) 1 or 0.
        patients: (n,) patient of each image.
        min_patients: fewest of either kind; twice as many distinct ones.
    """
    of_label = [len(np.unique(patients[labels == label])) for label in (1, 0)]
    return min(of_label) >= min_patients and len(np.unique(patients)) >= 2 * min_patients


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
