"""The training images of a cohort: who owns which, and a batch of them as a network's input.

In: a cohort. Out: its training images gathered by unit (patient or image), batches moved at random.
Refuses: cohorts without training images.
"""

import dataclasses
import hashlib

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from helpers import checks, cohorts, models, runs


def shift(images: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Return each image moved, its edge repeated. No flips: sides matter.

    Args:
        images: (batch, height, width).
        moves: (batch, 2) integers, pixels down and to the right.
    """
    batch, height, width = images.shape
    rows = np.clip(np.arange(height) - moves[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) - moves[:, 1:], 0, width - 1)
    return images[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]


def vary(images: torch.Tensor, stream: np.random.Generator) -> torch.Tensor:
    """Return images as other machines and positions might have shown them: scale, tilt, place, tone, sharpness.

    Wider than what sites do to their films, so that features learnt in one hospital hold in another. No flips.

    Args:
        images: (batch, channels, height, width), each standardised.
        stream: gives six numbers an image.

    Returns:
        The same shape, each image standardised again.
    """
    draws = torch.from_numpy(stream.standard_normal((6, len(images), 1, 1, 1), dtype=np.float32)).to(images.device)
    size, tilt, down, right, tone, sharp = draws
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    shown = ((images - low) / (high - low).clamp(min=1e-6)) ** torch.exp(0.35 * tone)
    shown = shown + (0.45 + 0.45 * sharp) * (shown - functional.avg_pool2d(functional.pad(shown, (3,) * 4, mode="replicate"), 7, 1))
    size, tilt, down, right = (value[:, 0, 0, 0] for value in (torch.exp(0.08 + 0.12 * size), 0.1 * tilt, 0.08 * down, 0.08 * right))
    turn = torch.stack([size * tilt.cos(), -size * tilt.sin(), right, size * tilt.sin(), size * tilt.cos(), down], 1)
    grid = functional.affine_grid(turn.view(-1, 2, 3), list(images.shape), align_corners=False)
    shown = functional.grid_sample(shown, grid, padding_mode="border", align_corners=False)
    return (shown - shown.mean((1, 2, 3), keepdim=True)) / shown.std((1, 2, 3), keepdim=True).clamp(min=1e-6)


@dataclasses.dataclass
class TrainingSet:
    """The training images of a cohort.

    Attributes:
        images: (n, height, width) uint8, memory-mapped, all images of the cohort.
        rows: (n_train,) rows of `images` in the training split.
        labels: (n_train, n_findings) float32, NaN unknown.
        units: list over units of the positions (in `rows`) of its images.
        names: (n_units,) patient_id or image_id of each unit.
        unit: "patient" or "image".
        most_images: of any one patient.
    """

    images: np.ndarray
    rows: np.ndarray
    labels: torch.Tensor
    units: list[np.ndarray]
    names: np.ndarray
    unit: str
    most_images: int

    @classmethod
    def of(cls, cohort: cohorts.Cohort, unit: str, max_images_per_patient: int | None = None, seed: int = 0) -> "TrainingSet":
        """Return the training split of a cohort, its images gathered by `unit` ("patient" or "image").

        Args:
            cohort: whose training images.
            unit: "patient" or "image".
            max_images_per_patient: leave out further images of a patient; the choice depends on that patient alone.
            seed: of that choice.

        Raises:
            InputError: the split is empty.
        """
        rows = np.flatnonzero(cohort.table["split"] == "train")
        if not len(rows):
            checks.refuse(f"training images in {cohort.name}", "none", "Check the split rule of its manifest.")
        images, patients = (cohort.table[f"{name}_id"].to_numpy() for name in ("image", "patient"))
        if max_images_per_patient is not None:
            # A fixed order of a patient's images: another image that comes or goes changes at most one other.
            order = [hashlib.sha256(f"{seed} {image}".encode()).digest() for image in images[rows]]
            place = pd.Series(order).groupby(patients[rows]).rank(method="first")
            rows = rows[(place <= max_images_per_patient).to_numpy()]
        labels = torch.from_numpy(cohort.table[cohort.findings].to_numpy(np.float32)[rows])
        codes, names = pd.factorize({"image": images, "patient": patients}[unit][rows])
        order = np.argsort(codes, kind="stable")
        units = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        most_images = int(pd.Series(patients[rows]).value_counts().max())
        return cls(cohort.images, rows, labels, units, np.asarray(names), unit, most_images)

    def moves(self, n_images: int, stream: np.random.Generator) -> np.ndarray:
        """Return (n_images, 2) random moves for `shift`, up to a sixteenth of the image."""
        most_px = max(1, self.images.shape[-1] // 16)
        return stream.integers(-most_px, most_px + 1, size=(n_images, 2))

    def batch(self, positions: np.ndarray, moves: np.ndarray, channels: int,
              device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input (batch, channels, height, width), moved by `shift`, and labels of images, on the device."""
        images = shift(self.images[self.rows[positions]], moves)
        labels = self.labels[torch.from_numpy(positions)]
        return models.to_input(torch.from_numpy(images).to(device), channels), labels.to(device)
