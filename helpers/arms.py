"""The two arms of training: which images enter a step, and the gradient of the step.

In: a training set, a network, the parameters of an arm. Out: gradients in `parameter.grad`, step by step.
Refuses: a batch larger than the cohort, delta too large, networks that cannot be clipped, private mode without noise.

The baseline arm goes through shuffled images with ordinary gradients; the private arm draws units by chance (Poisson)
and adds noise to their clipped sum. `training` drives both with one loop.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from helpers import accounting, checks, clipping, privacy, runs, training_sets, units


def image_losses(logits: torch.Tensor, labels: torch.Tensor, pos_weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return one loss per image: the binary cross-entropy, averaged over the image's known findings.

    Args:
        logits: (batch, n_findings) float.
        labels: (batch, n_findings) float, 1, 0, or NaN where unknown.
        pos_weight: (n_findings,) factor on the loss of positive labels; None for 1.

    Returns:
        (batch,) float32 or better; 0 for an image of which no finding is known.
    """
    known, logits = ~labels.isnan(), logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.0).to(logits.dtype), reduction="none",
                                                         pos_weight=pos_weight)
    return (losses * known).sum(1) / known.sum(1).clamp(min=1)


def pos_weight(labels: torch.Tensor) -> torch.Tensor:
    """Return (n_findings,) negatives / positives of (n, n_findings) labels; 1 for a finding without both.

    From private labels this is outside any guarantee: the paper's recipe has it so, and the ledger says so.
    """
    positives, negatives = (labels == 1).sum(0), (labels == 0).sum(0)
    return torch.where((positives > 0) & (negatives > 0), negatives / positives.clamp(min=1), 1.0)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network computes: PRECISION "float32", or "bfloat16" where torch has it so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class BaselineArm:
    """Ordinary training: every epoch goes once through the images in random order.

    AUGMENTATION "shift" moves images by up to a sixteenth, as the private arm does; "strong" varies them as
    `training_sets.vary` does.
    """

    shows_diagnostics = True

    def __init__(self, data: training_sets.TrainingSet, model: nn.Module, *, channels: int, batch_size: int, seed: int,
                 precision: str = "float32", augmentation: str = "shift", physical_batch_size: int = 256) -> None:
        self.physical_batch_size = physical_batch_size
        self.data, self.model, self.channels, self.seed, self.precision = data, model, channels, seed, precision
        self.augmentation = checks.one_of("AUGMENTATION", augmentation, ("shift", "strong"))
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
        stream = runs.random_stream(self.seed, "augmentation", step)
        moves, loss_sum = self.data.moves(len(positions), stream), 0.0
        self.model.zero_grad()
        for piece in units.pieces([1] * len(positions), self.physical_batch_size):
            images, labels = self.data.batch(positions[piece], moves[piece], self.channels, device)
            if self.augmentation == "strong":
                images = training_sets.vary(images, stream)
            with autocast(device, self.precision):
                losses = image_losses(self.model(images), labels)
            (losses.sum() / len(positions)).backward()
            loss_sum += float(losses.detach().sum())
        return loss_sum, len(positions)


class PrivateArm:
    """Private training: units drawn by chance, their gradients clipped and summed, noise added once a step.

    Guarantees: neighbouring data sets differ in the sum by what `ClippedSum` bounds, since the augmentation of an image
    follows from its own unit and the step, not from who else was drawn; a step begins without sums of another; noise
    of `noise_multiplier` x `clip_norm` is added to every step, also one in which no unit was drawn; the divisor is the
    declared expected number; nothing but the noisy mean reaches the optimizer.
    """

    def __init__(self, data: training_sets.TrainingSet, model: nn.Module, *, channels: int, epsilon: float, delta: float,
                 clip_norm: float, epochs: int, expected_batch_size: int, max_images_per_patient: int,
                 physical_batch_size: int, mode: str, seed: int, views_per_image: int = 1, precision: str = "float32",
                 noise_multiplier: float | None = None, weighting: tuple[str, torch.Tensor | None] = ("none", None),
                 allow_weak_delta: bool = False) -> None:
        """Calibrate the noise and hook the network.

        Args:
            data: the training images, gathered by the unit of the promise.
            model: on the device where it is to be trained.
            channels: of the model's input.
            epsilon, delta: the budget.
            clip_norm: L2 norm to which a unit's gradient is clipped, > 0.
            epochs: expected passes through the units.
            expected_batch_size: units in a step on average, q x N; a declared constant.
            max_images_per_patient: of a drawn patient in one step; of any patient in `data` where the unit is an image.
            physical_batch_size: images in memory at a time; decides speed, not results.
            mode, seed: see `privacy.Randomness`.
            views_per_image: moved copies of each image in one step; the unit's gradient is the mean over all.
            precision: see `autocast`.
            noise_multiplier: in place of the calibrated one; private mode keeps the budget all the same.
            allow_weak_delta: delta may be 1 / number of units or more; the ledger then says that the guarantee is not valid.
            weighting: where the weight of positive labels comes from ("none", "public", "private labels"), and the weight.

        Raises:
            InputError: a budget that promises nothing or is not kept, or a network that cannot be clipped.
        """
        n_units, unit = len(data.units), data.unit
        if expected_batch_size > n_units:
            checks.refuse(f"EXPECTED_BATCH_SIZE of at most {n_units} training {unit}s", expected_batch_size,
                          "Lower EXPECTED_BATCH_SIZE.")
        checks.number("EXPECTED_BATCH_SIZE", expected_batch_size, 1, n_units, integer=True)
        for name, value in (("MAX_IMAGES_PER_PATIENT", max_images_per_patient), ("VIEWS_PER_IMAGE", views_per_image)):
            checks.number(name, value, 1, 10_000, integer=True)
        if unit == "image" and data.most_images > max_images_per_patient:
            checks.refuse(f"at most MAX_IMAGES_PER_PATIENT = {max_images_per_patient} training images of any patient",
                          data.most_images, "Make the training set with this limit, or raise it.")
        self.warning = privacy.check_delta(delta, n_units, unit, allow_weak_delta)
        self.data, self.model, self.channels, self.seed, self.precision = data, model, channels, seed, precision
        self.randomness, self.physical_batch_size = privacy.Randomness(mode, seed), physical_batch_size
        self.sample_rate = expected_batch_size / n_units
        self.steps_per_epoch = max(1, round(n_units / expected_batch_size))
        self.steps = epochs * self.steps_per_epoch
        self.clipped = clipping.ClippedSum(model, clip_norm)
        weighted_by, self.pos_weight = weighting
        self.promise = dict(
            unit=unit, n_units=n_units, expected_batch_size=expected_batch_size, steps=self.steps, clip_norm=clip_norm,
            delta=delta, epsilon=epsilon, mode=mode, views_per_image=views_per_image, pos_weight=weighted_by,
            max_images_per_unit=max_images_per_patient if unit == "patient" else 1,
            max_images_per_patient=max_images_per_patient,
            noise_multiplier=self._noise_multiplier(noise_multiplier, epsilon, delta, mode))
        self.shows_diagnostics = mode == "demo"
        self.diagnostics: list[dict] = []  # outside the promise

    def _noise_multiplier(self, given: float | None, epsilon: float, delta: float, mode: str) -> float:
        """Return the calibrated noise multiplier, or the given one where it keeps the budget or nothing is promised."""
        if given is None:
            return accounting.noise_multiplier_for(epsilon, delta, self.sample_rate, self.steps)
        checks.number("NOISE_MULTIPLIER", given, 0, 1e6)
        spent = accounting.epsilon_spent(given, self.sample_rate, self.steps, delta)
        if mode == "private" and spent > epsilon:
            checks.refuse(f"NOISE_MULTIPLIER that keeps EPSILON = {epsilon:g} in private mode",
                          f"{given:g}, which spends {spent:.4g}", "Leave it None: the budget decides.")
        return given

    def draw(self, step: int) -> dict[int, np.ndarray]:
        """Return the units that enter this step, each with the positions of its images that enter."""
        drawn = self.randomness.draw_units(len(self.data.units), self.sample_rate, step)
        images = [self.data.units[unit] for unit in drawn]
        return dict(zip(drawn, self.randomness.choose_images(images, self.promise["max_images_per_unit"], step)))

    def set_gradients(self, step: int) -> tuple[float, int]:
        """Set the noisy mean of clipped gradients; return the sum of losses and the number of images.

        Both are 0 in private mode: they are outside the promise, and a checkpoint holds them.
        """
        self.clipped.take()  # what an interrupted attempt at this step left
        views = self.promise["views_per_image"]
        drawn = {unit: np.repeat(own, views) for unit, own in self.draw(step).items()}
        loss_sum, norms = self.add_units(drawn, step)
        signal, noise = self.set_noisy_mean(step)
        if not self.shows_diagnostics:
            return 0.0, 0
        clipped = (norms > self.promise["clip_norm"]).float()
        self.diagnostics.append({"units": len(norms), "clipped_fraction": float(clipped.sum()) / max(1, len(norms)),
                                 "signal_to_noise": signal / noise if noise else math.nan})
        return loss_sum, sum(len(own) for own in drawn.values())

    def add_units(self, drawn: dict[int, np.ndarray], step: int) -> tuple[float, torch.Tensor]:
        """Add the clipped gradients of some units, whole ones at a time; return the sum of losses and the norms."""
        positions = list(drawn.values())
        moves = [self.data.moves(len(own), runs.random_stream(self.seed, f"augmentation {self.data.names[unit]}", step))
                 for unit, own in drawn.items()]
        loss_sum, norms = 0.0, [torch.zeros(0)]
        for piece in units.pieces([len(own) for own in positions], self.physical_batch_size):
            device = next(self.model.parameters()).device
            images, labels = self.data.batch(np.concatenate(positions[piece]), np.concatenate(moves[piece]),
                                             self.channels, device)
            sizes = [len(own) for own in positions[piece]]
            unit_index = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(device)
            with autocast(device, self.precision):
                losses = image_losses(self.clipped.logits(images), labels, self.pos_weight)
            norms.append(self.clipped.add(losses, unit_index, len(sizes)).cpu())
            loss_sum += float(losses.detach().nansum())
        return loss_sum, torch.cat(norms)

    def set_noisy_mean(self, step: int) -> tuple[float, float]:
        """Set gradients to (sum + noise) / expected number of units, and clear the sum; return both L2 norms (demo mode)."""
        sums = self.clipped.take()
        noise = self.randomness.noise(sums, self.promise["noise_multiplier"] * self.promise["clip_norm"], step)
        norms = [math.sqrt(sum(float(t.square().sum()) for t in parts)) for parts in (sums, noise)] \
            if self.shows_diagnostics else [math.nan, math.nan]
        self.model.zero_grad()  # nothing but noisy sums may reach the optimizer
        for parameter, total, added in zip(self.clipped.parameters, sums, noise):
            parameter.grad = total.add_(added).div_(self.promise["expected_batch_size"])
        return norms[0], norms[1]

    def epsilon_spent(self, steps_done: int) -> float:
        """Return epsilon (PLD) after some steps."""
        return accounting.epsilon_spent(self.promise["noise_multiplier"], self.sample_rate, steps_done, self.promise["delta"])

    def ledger(self, steps_done: int, **handled: str) -> dict:
        """Return the privacy ledger after some steps; `handled` says how this run handled what the promise does not cover."""
        return privacy.ledger(steps_done=steps_done, handled=handled, **self.promise)
