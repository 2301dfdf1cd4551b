"""What one layer keeps of a forward and backward pass, for the clipped sum.

In: the layer's input a and output gradient b. Out: squared norms of the units' gradients of this
layer, and their weighted sum, in float32. Raises `InputError` for values changed in place.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

from helpers.core import errors
from helpers.privacy import gradient_norms, layer_gradients
from helpers.privacy.units import Units

SMALL = 4096  # values of a parameter whose gradients wait for those of others


@dataclasses.dataclass
class Record:
    """One layer in one pass: its input a, the gradient b at its output, and the gradients of units
    where they were formed.

    `a` and `b` are let go where the sum no longer needs them. `squares` are of gradients that are
    not small; those wait for those of other layers, so that they share calls (`small`).
    """

    name: str
    layer: nn.Module
    a: torch.Tensor | None
    output: torch.Tensor | None
    versions: tuple[int, int]
    remembered: tuple
    b: torch.Tensor | None = None
    squares: list[torch.Tensor] = dataclasses.field(default_factory=list)
    formed: dict[str, torch.Tensor | None] = dataclasses.field(default_factory=dict)
    small: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)

    def receive(self, gradient: torch.Tensor, units: Units) -> None:
        """Take the gradient at the output, and from it the squared norms of this layer's gradients
        of units.

        Raises:
            InputError: the layer's input or output was changed in place since.
        """
        if (self.a._version, self.output._version) != self.versions:
            errors.refuse(
                "values that nothing changes in place",
                f"the input or output of {self.name} changed",
                "Write out = out + shortcut for out += shortcut, and inplace=False.",
            )
        with torch.no_grad(), exact_float32(gradient.device.type):
            self.a, self.b = (
                x.float() if x.dtype.itemsize < 4 else x for x in (self.a, gradient.detach())
            )
            rule = layer_gradients.RULES[type(self.layer)]
            of_gram, gradients = rule.unit_gradients(
                self.layer, self.a, self.b, self.remembered, units
            )
            for name, gradient_of_units in gradients.items():
                if gradient_of_units is None:
                    self.squares.append(of_gram)
                elif getattr(self.layer, name).numel() <= SMALL:
                    self.small[name] = gradient_of_units
                    continue
                else:
                    self.squares.append(gradient_norms.squares_of(gradient_of_units))
                self.formed[name] = gradient_of_units
        self.output, self.remembered = None, ()
        if None not in gradients.values():
            self.a = self.b = None

    @property
    def is_received(self) -> bool:
        """Return whether the gradient at the output came."""
        return bool(self.formed or self.small)

    def remove(self, units_gone: torch.Tensor, images_gone: torch.Tensor) -> None:
        """Set all that belongs to some units to exact 0.

        0 x NaN is NaN, a weight alone would not remove them.
        """
        for gradient in self.formed.values():
            if gradient is not None:
                gradient.masked_fill_(_as_column(units_gone, gradient), 0)
        if self.b is not None:
            self.a, self.b = (
                x.masked_fill(_as_column(images_gone, x), 0) for x in (self.a, self.b)
            )

    def weighted_sums(
        self, weights: torch.Tensor, image_weights: torch.Tensor
    ) -> Iterator[tuple[nn.Parameter, torch.Tensor]]:
        """Yield each parameter that is not small with the weighted sum of its gradients of
        units.
        """
        for name, gradient in self.formed.items():
            if gradient is not None:
                total = (weights @ gradient.flatten(1)).view(gradient.shape[1:])
            else:
                weighted = self.b * _as_column(image_weights, self.b)
                total = layer_gradients.RULES[type(self.layer)].weighted_sum(
                    self.layer, self.a, weighted
                )
            yield getattr(self.layer, name), total


def _as_column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return (batch,) values with as many dimensions as `like`, to be spread over its others."""
    return values.view(-1, *[1] * (like.ndim - 1))


@contextlib.contextmanager
def exact_float32(device_type: str) -> Iterator[None]:
    """Compute in full float32: no autocast, no TF32 on GPUs."""
    switches = [(torch.backends.cuda.matmul, "ieee"), (torch.backends.cudnn.conv, "ieee")]
    before = [switch.fp32_precision for switch, _ in switches]
    try:
        for switch, precision in switches:
            switch.fp32_precision = precision
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for (switch, _), precision in zip(switches, before):
            switch.fp32_precision = precision
