"""Clipped sums of the gradients of single units (patients or images), in one backward pass.

In: one loss per image and the unit of each image. Out: the sum over units of their clipped
gradients. Raises `InputError` for networks whose per-unit gradients cannot be bounded (names the
layer), and for losses that are not one number per image.

Parameters ask for no gradient during the pass: hooks keep each layer's input (a) and output
gradient (b), from which `layer_gradients` has the norm of every unit's gradient and then the
sum with one weight a unit ("book-keeping").
"""

import collections
import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from helpers.core import errors
from helpers.privacy import layer_gradients, model_validation, units
from helpers.privacy.layer_record import Record, exact_float32
from helpers.privacy.units import Units


class ClippedSum:
    """Gather gradients g_u of units, clip each to the L2 norm C, and add them up.

    g_u = (1/n_u) sum over the n_u images of unit u of the gradient of the image's loss.

    Guarantees: a unit changes the sum by at most C (1 + 1e-5); a unit whose gradient is not finite
    adds exactly 0 and leaves the others bit for bit as they are; the way in which norms are had
    does not depend on the units at hand; norms and sums come from the same
    a and b, in float32 or better, also where the network computes in bfloat16. All images of a unit
    must be in one call of `add`. Where units share calls (on GPUs), the host never waits for the
    device. All rows of an image, such as the halves of a film, belong to its
    unit, and an image counts once in n_u, whatever its rows.
    """

    def __init__(
        self, model: nn.Module, clip_norm: float, rows_per_image: int = 1, images_per_unit: int = 1
    ) -> None:
        """Hook the model; parameters that ask for no gradient now are frozen and cost nothing.

        Args:
            model: maps a batch of images to anything of which `add` gets one loss an image.
            clip_norm: C, > 0.
            rows_per_image: rows that its trainable layers see of an image, one after the other;
                2 where a film is read as two halves.
            images_per_unit: that a unit may have, declared; see `Units.most`.

        Raises:
            InputError: clip_norm <= 0, or a layer whose gradients cannot be bounded for a unit;
                names it.
        """
        errors.number("CLIP_NORM", clip_norm, 0, 1e6, open_low=True)
        self.clip_norm, self.model = clip_norm, model.train()
        self.rows_per_image, self._n_rows = rows_per_image, 0
        self.images_per_unit = images_per_unit
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._layers = model_validation.trainable_layers(model)
        self.is_batched = units.is_batched_on(self.parameters[0].device)
        self._index = {id(parameter): index for index, parameter in enumerate(self.parameters)}
        self._sums: list[torch.Tensor | None] = [None] * len(self.parameters)
        self._records: list[Record] = []
        self._units: Units | None = None
        self._is_open = self._is_watched = False
        for name, layer in self._layers.items():
            layer.register_forward_hook(self._hook(name), with_kwargs=True)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the model's output, and record each layer's input.

        Raises:
            InputError: a layer was used twice or sees another number of rows than declared, a
                parameter was used outside its own layer, or other parameters train than at first.
        """
        if [id(p) for p in self.model.parameters() if p.requires_grad] != list(self._index):
            errors.refuse(
                "the parameters to train to be those of the beginning",
                "some frozen or unfrozen since",
                "Freeze and unfreeze before the arm is made.",
            )
        self._records, self._is_open = [], True
        self._n_rows = len(images) * self.rows_per_image
        watch = (
            contextlib.nullcontext() if self._is_watched else model_validation.Watch(self._layers)
        )
        try:
            with _without_gradient(self.parameters), watch, torch.enable_grad():
                logits = self.model(images)
        finally:
            self._is_open = False
        self._is_watched = True
        used = collections.Counter(record.name for record in self._records)
        for name in self._layers:
            if used[name] != 1:
                errors.refuse(
                    f"the layer {name} to be used once in a forward pass",
                    f"{used[name]} uses",
                    "Give each use a layer of its own, or freeze it.",
                )
        return logits

    def add(
        self,
        losses: torch.Tensor,
        unit_index: torch.Tensor,
        n_units: int,
    ) -> torch.Tensor:
        """Add the clipped gradients of these units to the sum.

        Args:
            losses: (batch,) float, one value per image, from `logits` of this batch.
            unit_index: (batch,) int64, ascending from 0 to n_units - 1, the unit of each image; on
                the CPU, as its values are read.
            n_units: number of units in this batch.

        Returns:
            (n_units,) norms of g_u before clipping, with a bound of rounding added; not finite
            where a unit was removed.

        Raises:
            InputError: `losses` is not one value per image, a unit has no image, or a layer's
                values changed in place.
        """
        sizes = _sizes(losses, unit_index := unit_index.cpu(), n_units)
        of_images = Units(unit_index, sizes, self.is_batched, self.images_per_unit)
        images_per_unit = torch.tensor(of_images.sizes)[of_images.index]
        self._units = of_images.of_rows(self.rows_per_image).on(losses.device)
        (losses / images_per_unit.to(losses.device, non_blocking=True)).sum().backward()
        records, self._records = self._records, []
        with torch.no_grad(), exact_float32(losses.device.type):
            return self._add(records, self._units.index)

    def _add(self, records: list[Record], unit_index: torch.Tensor) -> torch.Tensor:
        """Norms, weights and weighted sums from the records of one pass."""
        for record in records:
            if not record.is_received:
                errors.refuse(
                    f"the loss to depend on {record.name}",
                    "no gradient at its output",
                    "Freeze it, or use it.",
                )
        small = [
            (getattr(record.layer, name), gradient)
            for record in records
            for name, gradient in record.small.items()
        ]
        squares = [of_one for record in records for of_one in record.squares]
        if small:
            together = torch.cat([gradient.flatten(1) for _, gradient in small], 1)
            squares.append(together.square().sum(1))
        norms = torch.stack(squares).sum(0).sqrt()
        kept = torch.isfinite(norms)
        # The margin keeps float32 rounding below the bound; the smallest number keeps a zero
        # gradient from 0/0.
        weights = torch.where(
            kept, (self.clip_norm * (1 - 2e-6) / norms.clamp(min=1e-30)).clamp(max=1.0), 0.0
        )
        image_weights = weights[unit_index]
        # to look whether all are kept is to wait for the device
        if self.is_batched or not bool(kept.all()):
            gone, images_gone = ~kept, ~kept[unit_index]
            for record in records:
                record.remove(gone, images_gone)
            if small:
                together.masked_fill_(gone[:, None], 0)
        for record in records:
            for parameter, total in record.weighted_sums(weights, image_weights):
                self._add_to(parameter, total)
        if small:
            totals = (weights @ together).split([gradient[0].numel() for _, gradient in small])
            for (parameter, _), total in zip(small, totals):
                self._add_to(parameter, total.view_as(parameter))
        return norms

    def _add_to(self, parameter: nn.Parameter, total: torch.Tensor) -> None:
        """Add to a parameter's sum."""
        index = self._index[id(parameter)]
        before = self._sums[index]
        self._sums[index] = total if before is None else before.add_(total)

    def take(self) -> list[torch.Tensor]:
        """Return the sums, one tensor a parameter, and start again from zero."""
        sums, self._sums = self._sums, [None] * len(self.parameters)
        return [torch.zeros_like(p) if s is None else s for p, s in zip(self.parameters, sums)]

    def _hook(self, name: str):
        """Return the forward hook of a layer."""

        def keep(layer: nn.Module, inputs: tuple, named: dict, output: torch.Tensor) -> None:
            if not self._is_open:
                return
            (a,) = (*inputs, *named.values())
            if len(output) != self._n_rows:
                errors.refuse(
                    f"{self._n_rows} rows in {name}, {self.rows_per_image} of each image",
                    len(output),
                    "Declare how many rows the network makes of an image.",
                )
            # the first trainable layer: nothing before it needs a gradient
            if not output.requires_grad:
                output.requires_grad_()
            remembered = layer_gradients.RULES[type(layer)].remember(layer, output)
            record = Record(
                name, layer, a.detach(), output.detach(), (a._version, output._version), remembered
            )
            output.register_hook(lambda gradient: record.receive(gradient, self._units))
            self._records.append(record)

        return keep


def _sizes(losses: torch.Tensor, unit_index: torch.Tensor, n_units: int) -> list[int]:
    """Return the number of images of each unit.

    Raises:
        InputError: see `ClippedSum.add`.
    """
    if losses.ndim != 1 or len(losses) != len(unit_index):
        errors.refuse(
            f"a loss of shape ({len(unit_index)},), one value per image",
            tuple(losses.shape),
            "Use reduction='none' and reduce over findings only.",
        )
    sizes = torch.bincount(unit_index, minlength=n_units).tolist()
    if len(sizes) != n_units or 0 in sizes:
        errors.refuse(
            f"each of {n_units} units to have an image",
            sizes[:10],
            "Number a batch's units from 0 without gaps.",
        )
    if bool((unit_index[1:] < unit_index[:-1]).any()):
        errors.refuse(
            "the images of a unit one after the other",
            unit_index.tolist()[:10],
            "Sort the images by unit.",
        )
    return sizes


@contextlib.contextmanager
def _without_gradient(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Let parameters ask for no gradient, so that the backward pass computes those of activations
    only.
    """
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
