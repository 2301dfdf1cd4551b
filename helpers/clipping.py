"""Clipped sums of the gradients of single units (patients or images).

In: one loss per image and the unit of each image. Out: the sum over units of their clipped gradients. Refuses:
networks whose gradients cannot be bounded, losses that are not one number per image.

Per-image gradients come from opacus' hooks and are gathered by unit here; what a caller sees (`ClippedSum`) does not
depend on how they are computed.
"""

import warnings
from collections.abc import Iterator

import torch
from opacus import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn

from helpers import checks

_HARMLESS = "Full backward hook is firing"  # the image itself needs no gradient


class ClippedSum:
    """Gather gradients g_u of units, clip each to the L2 norm C, and add them up.

    g_u = (1/n_u) sum over the n_u images of unit u of the gradient of the image's loss.

    Guarantees: a unit changes the sum by at most `clip_norm`; a unit whose gradient is not finite adds exactly 0
    and leaves the others as they are. All images of a unit must be in one call of `add`.
    """

    def __init__(self, model: nn.Module, clip_norm: float) -> None:
        """Hook the model.

        Raises:
            InputError: clip_norm <= 0, or a layer (e.g. BatchNorm) that mixes patients; names it.
        """
        checks.number("CLIP_NORM", clip_norm, 0, 1e6, open_low=True)
        problems = ModuleValidator.validate(model.train(), strict=False)
        if problems:
            checks.refuse("a network in which no layer mixes patients", checks.examples([str(p) for p in problems]),
                          "Replace BatchNorm by GroupNorm.")
        self.clip_norm = clip_norm
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._hooked = GradSampleModule(model, loss_reduction="sum")
        self._sums = [torch.zeros_like(p) for p in self.parameters]

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the model's output with what is needed for per-image gradients recorded."""
        return self._hooked(images)

    def add(self, losses: torch.Tensor, unit_index: torch.Tensor, n_units: int) -> torch.Tensor:
        """Add the clipped gradients of these units to the sum.

        Args:
            losses: (batch,) float, one value per image, from `logits` of this batch.
            unit_index: (batch,) int64 in [0, n_units), the unit of each image; every unit has an image.
            n_units: number of units in this batch.

        Returns:
            (n_units,) norms of g_u before clipping; not finite where a unit was removed.

        Raises:
            InputError: `losses` is not one value per image, or a unit has no image.
        """
        if losses.ndim != 1 or len(losses) != len(unit_index):
            checks.refuse(f"a loss of shape ({len(unit_index)},), one value per image", tuple(losses.shape),
                          "Use reduction='none' and reduce over findings only.")
        images_per_unit = torch.bincount(unit_index, minlength=n_units)
        if len(images_per_unit) != n_units or bool((images_per_unit == 0).any()):
            checks.refuse(f"each of {n_units} units to have an image", images_per_unit.tolist()[:10],
                          "Number the units of a batch from 0 without gaps.")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_HARMLESS)
            (losses / images_per_unit[unit_index]).sum().backward()
        unit_gradients = [torch.zeros(n_units, p.numel(), device=p.device).index_add_(0, unit_index, g.flatten(1))
                          for p, g in zip(self.parameters, self._per_image_gradients())]
        by_parameter = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in unit_gradients])
        norms = torch.linalg.vector_norm(by_parameter, dim=0)
        kept = torch.isfinite(norms)
        # The margin keeps float32 rounding below the bound; the smallest number keeps a zero gradient from 0/0.
        coefficients = torch.where(kept, (self.clip_norm * (1 - 1e-5) / norms.clamp(min=1e-30)).clamp(max=1.0), 0.0)
        for total, gradient in zip(self._sums, unit_gradients):
            gradient[~kept] = 0  # 0 x NaN is NaN: a coefficient alone would not remove a unit
            total += (coefficients @ gradient).view_as(total)
        return norms

    def take(self) -> list[torch.Tensor]:
        """Return the sums, one tensor a parameter, and start again from zero."""
        sums, self._sums = self._sums, [torch.zeros_like(p) for p in self.parameters]
        return sums

    def _per_image_gradients(self) -> Iterator[torch.Tensor]:
        """Yield opacus' (batch, *shape) gradient of each parameter and clear it."""
        for parameter in self.parameters:
            gradient, parameter.grad_sample, parameter.grad = parameter.grad_sample, None, None
            yield gradient.detach()


def pieces(images_per_unit: list[int], physical_batch_size: int) -> list[slice]:
    """Cut a logical batch into runs of whole units that hold at most `physical_batch_size` images.

    Guarantees: the slices cover every unit once; a unit is never split. A unit larger than the limit is a piece alone.

    Args:
        images_per_unit: images of each drawn unit, each >= 1.
        physical_batch_size: images that fit into memory, >= 1.
    """
    cuts, start, held = [], 0, 0
    for unit, n_images in enumerate(images_per_unit):
        if held and held + n_images > physical_batch_size:
            cuts.append(slice(start, unit))
            start, held = unit, 0
        held += n_images
    if held:
        cuts.append(slice(start, len(images_per_unit)))
    return cuts
