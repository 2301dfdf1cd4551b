"""Scores of a trained network, and its predictions as a table.

In: a network and a cohort. Out: scores in [0, 1], or a row an image and finding.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers.data import cohorts
from helpers.training import network_input


@torch.no_grad()
def predict(
    model: nn.Module, images: np.ndarray, rows: np.ndarray, channels: int, batch_size: int = 256
) -> np.ndarray:
    """Return scores, the probabilities of each finding.

    Args:
        model: maps (batch, channels, height, width) to logits.
        images: (n, height, width) or (n, depth, height, width) uint8, may be memory-mapped.
        rows: (m,) rows of `images`, in the order wanted.
        channels: of the model's input.
        batch_size: images at a time.

    Returns:
        (m, n_findings) float32 in [0, 1].
    """
    if not len(rows):
        return np.zeros((0, model.head.out_features), dtype=np.float32)
    model.eval()
    device = next(model.parameters()).device
    batch_size = max(1, batch_size // (8 if images.ndim == 4 else 1))  # volumes are larger
    parts = [
        torch.sigmoid(
            model(
                network_input.to_input(
                    torch.from_numpy(images[rows[i : i + batch_size]]).to(device), channels
                )
            )
        )
        for i in range(0, len(rows), batch_size)
    ]
    return torch.cat(parts).cpu().numpy()


def predictions_of(
    model: nn.Module,
    cohort: cohorts.Cohort,
    channels: int,
    splits: tuple[str, ...] = ("valid", "test"),
) -> pd.DataFrame:
    """Return the table of predictions of some splits; training images are not predicted unless
    asked for.

    Returns:
        `run_records.PREDICTION_COLUMNS`, a row an image and finding.
    """
    rows = np.flatnonzero(cohort.table["split"].isin(splits))
    scores = predict(model, cohort.images, rows, channels)
    images = cohort.table.iloc[rows]
    parts = [
        images[["image_id", "patient_id", "split"]].assign(
            finding=finding,
            label=images[finding].astype(float),
            score=scores[:, column].astype(float),
        )
        for column, finding in enumerate(cohort.findings)
    ]
    return pd.concat(parts, ignore_index=True)


def labels_and_scores(
    model: nn.Module, cohort: cohorts.Cohort, split: str, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores of one split, e.g. for `metrics.macro_auroc`.

    Returns:
        Labels (m, n_findings), 1, 0 or NaN; scores of the same shape in [0, 1].
    """
    rows = np.flatnonzero(cohort.table["split"] == split)
    labels = cohort.table[cohort.findings].to_numpy(float)[rows]
    return labels, predict(model, cohort.images, rows, channels)
