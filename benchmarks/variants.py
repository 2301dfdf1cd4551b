"""What is compared: settings, the variants of a training step, and the gradient they must give.

In: a setting, a memory format, a clip norm. Out: objects whose `step` is one whole training step.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch.nn import functional

from helpers.core import errors
from helpers.privacy import clipping, sampling_and_noise
from helpers.training import image_loss, networks

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
N_FINDINGS, LEARNING_RATE = 8, 1e-4
IMAGES_PER_PATIENT = 4


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network and a batch of noise images with random labels, the same in every process."""

    name: str
    channels: int
    image_px: int
    batch: int
    width: int = 64

    def model(self) -> torch.nn.Module:
        """Return the network, on the device."""
        return networks.resnet9(N_FINDINGS, self.channels, self.width, seed=0).to(DEVICE)

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (batch, channels, px, px) and labels (batch, findings), on the device."""
        source = torch.Generator().manual_seed(1)
        images = torch.randn(
            self.batch, self.channels, self.image_px, self.image_px, generator=source
        )
        return images.to(DEVICE), (
            torch.rand(self.batch, N_FINDINGS, generator=source) < 0.3
        ).float().to(DEVICE)


SETTINGS = [
    Setting("64px_1ch", 1, 64, 128),
    Setting("64px_3ch", 3, 64, 128),
    Setting("224px_1ch", 1, 224, 16),
    Setting("224px_3ch", 3, 224, 16),
    Setting("demo", 1, 48, 256, width=16),
    Setting("512px_3ch", 3, 512, 128),
]


def chosen_settings(texts: list[str] | None) -> list[Setting]:
    """Return the settings that are asked for; without a wish all, the large one only on a GPU."""
    if texts is None:
        return [
            setting
            for setting in SETTINGS
            if DEVICE.type == "cuda" or not setting.name.startswith("512px")
        ]
    named_settings = [
        setting for setting in SETTINGS if any(text in setting.name for text in texts)
    ]
    return named_settings or errors.refuse(
        "settings", texts, f"There are {[setting.name for setting in SETTINGS]}."
    )


# ---- variants


class NonPrivate:
    """Ordinary training; the private variants replace `set_gradients`."""

    images_per_unit = 0  # of what is clipped; 0: nothing is
    formats = tuple(FORMATS)  # in which the gradient is right

    def __init__(
        self, setting: Setting, memory_format: str, foreach: bool, clip_norm: float
    ) -> None:
        self.memory_format, self.foreach, self.clip_norm = memory_format, foreach, clip_norm
        images, self.labels = setting.data()
        self.images = images.to(memory_format=FORMATS[memory_format])
        self.model = setting.model().to(memory_format=FORMATS[memory_format])
        self.optimizer = torch.optim.NAdam(
            self.model.parameters(), lr=LEARNING_RATE, foreach=foreach
        )  # has no `fused`
        self.prepare()

    def prepare(self) -> None:
        """Wrap the model where the variant needs it."""

    def set_gradients(self, noise_multiplier: float) -> None:
        """Set `parameter.grad` to the mean over units, with noise where the variant is private."""
        image_loss.image_losses(self.model(self.images), self.labels).mean().backward()

    def clear(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad()

    def step(self) -> None:
        """Do what is timed."""
        self.set_gradients(1.0)
        self.optimizer.step()
        self.clear()


class OpacusHooks(NonPrivate):
    """opacus' default: hooks that keep every image's gradient."""

    images_per_unit, functorch = 1, False
    # opacus 1.6 unfolds channels_last images as if they were contiguous: wrong, without a warning
    formats = ("contiguous",)

    def prepare(self) -> None:
        self.wrapped = GradSampleModule(
            self.model, loss_reduction="sum", force_functorch=self.functorch
        )
        self.private = DPOptimizer(
            self.optimizer,
            noise_multiplier=1.0,
            max_grad_norm=self.clip_norm,
            expected_batch_size=len(self.images),
        )

    def set_gradients(self, noise_multiplier: float) -> None:
        self.private.noise_multiplier = noise_multiplier
        self.backward(image_loss.image_losses(self.wrapped(self.images), self.labels))
        self.private.pre_step()  # all of DPOptimizer.step but the wrapped optimizer's

    def backward(self, losses: torch.Tensor) -> None:
        """Leave each image's gradient in `grad_sample`."""
        losses.sum().backward()

    def clear(self) -> None:
        self.private.zero_grad(set_to_none=True)


class OpacusFunctorch(OpacusHooks):
    """opacus' grad_sample_mode="functorch"."""

    functorch, formats = True, tuple(FORMATS)


class OpacusGhost(OpacusHooks):
    """opacus' ghost clipping: two backward passes, the second one with weighted losses."""

    def prepare(self) -> None:
        self.wrapped = GradSampleModuleFastGradientClipping(
            self.model, loss_reduction="sum", max_grad_norm=self.clip_norm
        )
        self.private = DPOptimizerFastGradientClipping(
            self.optimizer,
            noise_multiplier=1.0,
            max_grad_norm=self.clip_norm,
            expected_batch_size=len(self.images),
        )

    def backward(self, losses: torch.Tensor) -> None:
        """Leave the clipped sum in `grad`.

        A loss of shape (batch, 1) would go through unclipped, without a warning.
        """
        assert losses.ndim == 1
        DPTensorFastGradientClipping(self.wrapped, self.private, losses, "sum").backward()


class OursByImage(NonPrivate):
    """This package; whom the promise protects is an image."""

    images_per_unit = 1

    def prepare(self) -> None:
        self.clipped = clipping.ClippedSum(
            self.model, self.clip_norm, images_per_unit=self.images_per_unit
        )
        # of a benchmark, which plans nothing
        self.randomness = sampling_and_noise.Randomness("private", 0, steps=10**9)
        self.unit_index = torch.arange(len(self.images), device=DEVICE) // self.images_per_unit
        self.n_units = int(self.unit_index[-1]) + 1

    def set_gradients(self, noise_multiplier: float) -> None:
        losses = image_loss.image_losses(self.clipped.logits(self.images), self.labels)
        self.clipped.add(losses, self.unit_index, self.n_units)
        sums = self.clipped.take()
        noise = self.randomness.noise(sums, noise_multiplier * self.clip_norm)
        for parameter, clipped_sum, added in zip(self.clipped.parameters, sums, noise):
            parameter.grad = (clipped_sum + added) / self.n_units


class OursByPatient(OursByImage):
    """This package; whom the promise protects is a patient of 4 images."""

    images_per_unit = IMAGES_PER_PATIENT


OURS = {"ours, image": OursByImage, "ours, patient": OursByPatient}
PRIVATE = {
    "opacus hooks": OpacusHooks,
    "opacus functorch": OpacusFunctorch,
    "opacus ghost": OpacusGhost,
} | OURS
VARIANTS = {"non-private": NonPrivate} | PRIVATE


def bare_loop(setting: Setting, memory_format: str, foreach: bool) -> Iterator[None]:
    """Train without privacy and without `NonPrivate`, a step at each `next`, to show that
    `NonPrivate` is no slower.
    """
    images, labels = setting.data()
    images = images.to(memory_format=FORMATS[memory_format])
    model = setting.model().to(memory_format=FORMATS[memory_format])
    optimizer = torch.optim.NAdam(model.parameters(), lr=LEARNING_RATE, foreach=foreach)
    while True:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model(images), labels)
        loss.backward()
        optimizer.step()
        yield


# ---- correctness, before timing


def right_gradient(setting: Setting, images_per_unit: int) -> tuple[torch.Tensor, float]:
    """Return the mean over units of clipped gradients by autograd on one unit at a time, and the
    clip norm.

    The clip norm is the median over some units, so that about half are clipped. 0 images per unit:
    nothing is clipped.
    """
    model, (images, labels) = setting.model(), setting.data()

    def gradient(unit: torch.Tensor) -> torch.Tensor:
        loss = image_loss.image_losses(model(images[unit]), labels[unit]).mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    units = torch.arange(setting.batch, device=DEVICE).split(images_per_unit or 16)
    clip_norm = (
        float(torch.stack([gradient(unit).norm() for unit in units[:9]]).median())
        if images_per_unit
        else np.inf
    )
    total = sum(g * min(1.0, clip_norm / float(g.norm())) for g in map(gradient, units))
    return total / len(units), clip_norm


def relative_error(variant: NonPrivate, right: torch.Tensor) -> float:
    """Return the error of a fresh variant's gradient without noise, relative to the right one."""
    variant.set_gradients(0.0)
    got = torch.cat([parameter.grad.flatten() for parameter in variant.model.parameters()])
    variant.clear()
    return float((got - right).norm() / right.norm())
