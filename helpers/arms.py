"""The two arms of training: which images enter a step, and the gradient of the step.

In: a cohort's training split, a network, the parameters of an arm. Out: gradients in `parameter.grad`, step by step.
Refuses: cohorts without training images, a batch larger than the cohort, delta too large, networks that cannot be clipped.

The baseline arm goes through shuffled images with ordinary gradients; the private arm draws units by chance (Poisson)
and adds noise to their clipped sum. `training` drives both with one loop.
"""

import dataclasses
import math

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from helpers import checks, clipping, cohorts, models, privacy, runs


def image_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return one loss per image: the binary cross-entropy, averaged over the image's known findings.

    Args:
        logits: (batch, n_findings) float.
        labels: (batch, n_findings) float, 1, 0, or NaN where unknown.

    Returns:
        (batch,) float; 0 for an image of which no finding is known.
    """
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.0), reduction="none")
    return (losses * known).sum(1) / known.sum(1).clamp(min=1)


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


@dataclasses.dataclass
class TrainingSet:
    """The training images of a cohort.

    Attributes:
        images: (n, height, width) uint8, memory-mapped, all images of the cohort.
        rows: (n_train,) rows of `images` in the training split.
        labels: (n_train, n_findings) float32, NaN unknown.
        units: list over units of the positions (in `rows`) of its images.
        names: (n_units,) patient_id or image_id of each unit.
    """

    images: np.ndarray
    rows: np.ndarray
    labels: torch.Tensor
    units: list[np.ndarray]
    names: np.ndarray

    @classmethod
    def of(cls, cohort: cohorts.Cohort, unit: str) -> "TrainingSet":
        """Return the training split of a cohort, its images gathered by `unit` ("patient" or "image").

        Raises:
            InputError: the split is empty.
        """
        rows = np.flatnonzero(cohort.table["split"] == "train")
        if not len(rows):
            checks.refuse(f"training images in {cohort.name}", "none", "Check the split rule of its manifest.")
        labels = torch.from_numpy(cohort.table[cohort.findings].to_numpy(np.float32)[rows])
        codes, names = pd.factorize(cohort.table[f"{unit}_id"].iloc[rows])
        order = np.argsort(codes, kind="stable")
        units = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        return cls(cohort.images, rows, labels, units, np.asarray(names))

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


class BaselineArm:
    """Ordinary training: every epoch goes once through the images in random order."""

    shows_diagnostics = True

    def __init__(self, data: TrainingSet, model: nn.Module, *, channels: int, batch_size: int, seed: int) -> None:
        self.data, self.model, self.channels, self.seed = data, model, channels, seed
        self.batch_size = min(batch_size, len(data.rows))
        self.steps_per_epoch = len(data.rows) // self.batch_size

    def draw(self, step: int) -> np.ndarray:
        """Return the positions of this step's images."""
        epoch, part = divmod(step, self.steps_per_epoch)
        order = runs.random_stream(self.seed, "order", epoch).permutation(len(self.data.rows))
        return order[part * self.batch_size:(part + 1) * self.batch_size]

    def set_gradients(self, step: int) -> tuple[float, int]:
        """Set the gradients of the mean loss; return the sum of losses and the number of images."""
        positions, device = self.draw(step), next(self.model.parameters()).device
        moves = self.data.moves(len(positions), runs.random_stream(self.seed, "augmentation", step))
        images, labels = self.data.batch(positions, moves, self.channels, device)
        losses = image_losses(self.model(images), labels)
        self.model.zero_grad()
        losses.mean().backward()
        return float(losses.detach().sum()), len(losses)


class PrivateArm:
    """Private training: units drawn by chance, their gradients clipped and summed, noise added once a step.

    Guarantees: neighbouring data sets differ in the sum by at most `clip_norm`, since the augmentation of an image
    follows from its own unit and the step, not from who else was drawn; noise of `noise_multiplier` x
    `clip_norm` is added to every step, also one in which no unit was drawn; the divisor is the declared expected number.
    """

    def __init__(self, data: TrainingSet, model: nn.Module, *, channels: int, unit: str, epsilon: float, delta: float,
                 clip_norm: float, epochs: int, expected_batch_size: int, max_images_per_unit: int,
                 physical_batch_size: int, mode: str, seed: int) -> None:
        n_units = len(data.units)
        checks.number("EXPECTED_BATCH_SIZE", expected_batch_size, 1, n_units, integer=True)
        self.warning = privacy.check_delta(delta, n_units, unit)
        self.data, self.model, self.channels, self.seed = data, model, channels, seed
        self.randomness, self.physical_batch_size = privacy.Randomness(mode, seed), physical_batch_size
        self.sample_rate = expected_batch_size / n_units
        self.steps_per_epoch = max(1, round(n_units / expected_batch_size))
        steps = epochs * self.steps_per_epoch
        self.promise = dict(unit=unit, n_units=n_units, expected_batch_size=expected_batch_size, steps=steps,
                            clip_norm=clip_norm, delta=delta, epsilon=epsilon, max_images_per_unit=max_images_per_unit,
                            mode=mode,
                            noise_multiplier=privacy.noise_multiplier_for(epsilon, delta, self.sample_rate, steps))
        self.clipped = clipping.ClippedSum(model, clip_norm)
        self.shows_diagnostics = mode == "demo"
        self.diagnostics: list[dict] = []  # outside the promise

    def draw(self, step: int) -> dict[int, np.ndarray]:
        """Return the units that enter this step, each with the positions of its images that enter."""
        drawn = self.randomness.draw_units(len(self.data.units), self.sample_rate, step)
        images = [self.data.units[unit] for unit in drawn]
        return dict(zip(drawn, self.randomness.choose_images(images, self.promise["max_images_per_unit"], step)))

    def set_gradients(self, step: int) -> tuple[float, int]:
        """Set the noisy mean of clipped gradients; return the sum of losses and the number of images.

        Both are 0 in private mode: they are outside the promise, and a checkpoint holds them.
        """
        drawn = self.draw(step)
        positions = list(drawn.values())
        moves = [self.data.moves(len(own), runs.random_stream(self.seed, f"augmentation {self.data.names[unit]}", step))
                 for unit, own in drawn.items()]
        loss_sum, norms = 0.0, [torch.zeros(0)]
        for piece in clipping.pieces([len(own) for own in positions], self.physical_batch_size):
            losses, piece_norms = self._add(positions[piece], moves[piece])
            loss_sum += float(losses.nansum())
            norms.append(piece_norms.cpu())
        sums = self.clipped.take()
        noise = self.randomness.noise(sums, self.promise["noise_multiplier"] * self.promise["clip_norm"], step)
        for parameter, clipped_sum, added in zip(self.clipped.parameters, sums, noise):
            parameter.grad = (clipped_sum + added) / self.promise["expected_batch_size"]
        if not self.shows_diagnostics:
            return 0.0, 0
        self._look(torch.cat(norms), sums, noise)
        return loss_sum, sum(len(own) for own in positions)

    def _add(self, units: list[np.ndarray], moves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the clipped gradients of some whole units to the sum; return the images' losses and the units' norms."""
        device = next(self.model.parameters()).device
        images, labels = self.data.batch(np.concatenate(units), np.concatenate(moves), self.channels, device)
        unit_index = torch.from_numpy(np.repeat(np.arange(len(units)), [len(unit) for unit in units])).to(device)
        losses = image_losses(self.clipped.logits(images), labels)
        return losses.detach(), self.clipped.add(losses, unit_index, len(units))

    def _look(self, norms: torch.Tensor, sums: list[torch.Tensor], noise: list[torch.Tensor]) -> None:
        """Keep what the embedded cohort may show: these numbers depend on private images without protection."""
        signal, disturbance = (math.sqrt(sum(float(t.square().sum()) for t in parts)) for parts in (sums, noise))
        clipped = (norms > self.promise["clip_norm"]).float()
        self.diagnostics.append({"units": len(norms), "clipped_fraction": float(clipped.sum()) / max(1, len(norms)),
                                 "signal_to_noise": signal / disturbance})

    def epsilon_spent(self, steps_done: int) -> float:
        """Return epsilon (PLD) after some steps."""
        return privacy.epsilon_spent(self.promise["noise_multiplier"], self.sample_rate, steps_done, self.promise["delta"])

    def ledger(self, steps_done: int) -> dict:
        """Return the privacy ledger after some steps."""
        return privacy.ledger(steps_done=steps_done, **self.promise)
