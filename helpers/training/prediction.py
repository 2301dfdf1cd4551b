"""Scores of a trained network, and its predictions as a table.

In: a network and a cohort. Out: scores in [0, 1], or a row an image and finding. Raises
`InputError` for a number of shifts that there is not.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers.core import errors
from helpers.data import cohorts
from helpers.training import image_augmentation, image_rows, network_input

N_SHIFTS = (1, 5)  # of an image at prediction: as it is; and moved down, up, right, left


@torch.no_grad()
def predict(
    model: nn.Module,
    images: np.ndarray,
    rows: np.ndarray,
    channels: int,
    batch_size: int = 256,
    *,
    shifts: int = 1,
) -> np.ndarray:
    """Return scores, the probabilities of each finding: of the mean logit over small shifts.

    The same for every arm. It reads trained weights and the image alone, so that it costs a private
    run no privacy (post-processing).

    Args:
        model: maps (batch, channels, height, width) to logits.
        images: (n, height, width) or (n, depth, height, width) uint8, may be memory-mapped.
        rows: (m,) rows of `images`, in the order wanted.
        channels: of the model's input.
        batch_size: images at a time.
        shifts: 1 or 5, see `moves`.

    Returns:
        (m, n_findings) float32 in [0, 1].

    Raises:
        InputError: another number of shifts.
    """
    errors.one_of("SCORE_SHIFTS", shifts, N_SHIFTS)
    if not len(rows):
        return np.zeros((0, len(model.reading.column)), dtype=np.float32)
    model.eval()
    batch_size = max(1, batch_size // (8 if images.ndim == 4 else 1))  # volumes are larger
    chosen = moves(images.shape[1:])[:shifts]
    parts = [
        torch.sigmoid(
            _mean_logits(model, image_rows.read(images, rows[i : i + batch_size]), chosen, channels)
        )
        for i in range(0, len(rows), batch_size)
    ]
    return torch.cat(parts).cpu().numpy()


def moves(size: tuple[int, ...]) -> np.ndarray:
    """Return (5, dimensions) moves of an image or volume of a size: none, down, up, right, left.

    Each by 1/24 of the size, at least 1 pixel; a volume is moved in plane, never along its depth.
    """
    down, right = np.maximum(1, np.array(size[-2:]) // 24)
    in_plane = [(0, 0), (down, 0), (-down, 0), (0, right), (0, -right)]
    return np.pad(np.array(in_plane), ((0, 0), (len(size) - 2, 0)))


def _mean_logits(
    model: nn.Module, images: np.ndarray, chosen: np.ndarray, channels: int
) -> torch.Tensor:
    """Return (batch, n_findings) logits, the mean over images moved each way."""
    device, logits = next(model.parameters()).device, []
    for move in chosen:
        every = np.broadcast_to(move, (len(images), len(move)))
        moved = image_augmentation.shift(images, every) if move.any() else images
        logits.append(model(network_input.to_input(torch.from_numpy(moved).to(device), channels)))
    return torch.stack(logits).mean(0)


def shifts_of(record: dict) -> int:
    """Return the number of shifts with which a run was predicted; 1 of those before version 0.4.

    Args:
        record: of the run.
    """
    return record["parameters"].get("SCORE_SHIFTS", 1)


def with_shifts(parameters: dict, shifts: int) -> dict:
    """Return a run's parameters with this number of shifts: named only where it is not 1, as runs
    of earlier versions know no other.
    """
    others = {name: value for name, value in parameters.items() if name != "SCORE_SHIFTS"}
    return others if shifts == 1 else others | {"SCORE_SHIFTS": shifts}


def predictions_of(
    model: nn.Module,
    cohort: cohorts.Cohort,
    channels: int,
    splits: tuple[str, ...] = ("valid", "test"),
    *,
    shifts: int = 1,
) -> pd.DataFrame:
    """Return the table of predictions of some splits, see `predict`; training images are not
    predicted unless asked for.

    Returns:
        `run_records.PREDICTION_COLUMNS`, a row an image and finding.
    """
    rows = np.flatnonzero(cohort.table["split"].isin(splits))
    scores = predict(model, cohort.images, rows, channels, shifts=shifts)
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
    model: nn.Module, cohort: cohorts.Cohort, split: str, channels: int, *, shifts: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores of one split, see `predict`, e.g. for `metrics.macro_auroc`.

    Returns:
        Labels (m, n_findings), 1, 0 or NaN; scores of the same shape in [0, 1].
    """
    rows = np.flatnonzero(cohort.table["split"] == split)
    labels = cohort.table[cohort.findings].to_numpy(float)[rows]
    return labels, predict(model, cohort.images, rows, channels, shifts=shifts)
