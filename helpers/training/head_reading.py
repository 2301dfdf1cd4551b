"""What a network's head reads of an image, and how its outputs become the findings' logits.

In: the findings' canonical names, the feature maps of the blocks. Out: the head's input; logits;
`Network`, which every network is.
Raises `InputError` for an unknown head, and for halves of a volume.

- "pooled": the mean over the last feature map. The paper's head.
- "sided": the means over the four quarters of the last map (a volume's eight corners).
- "levels": means over cells of the last three maps, so that fine structure reaches the head.
- "halves": the same, of a film's two overlapping halves, the left one mirrored. One trunk and one
  head serve both. A finding of the right or left is read from its own half; one of the midline is
  the mean of both; a lateral finding whose label has no side is "right or left" (noisy-or), so that
  labels without a side teach sides (weak supervision; multiple-instance learning).

Source of noisy-or: Pearl (1988); Ilse et al. (2018) for multiple-instance learning.
"""

import dataclasses
import math
from collections.abc import Collection, Sequence

import torch
from torch import nn
from torch.nn import functional

from helpers.core import errors

HEADS = ("pooled", "sided", "levels", "halves")
# cells (rows, columns) of the last three maps; of a volume as many along each axis as columns
_LEVELS = ((3, 2), (3, 2), (2, 1))
_HALF = 7 / 12  # of a film's columns: halves overlap, since nobody is centred exactly


@dataclasses.dataclass(frozen=True)
class Reading:
    """From images to the head's input, and from its outputs to logits. No parameters.

    Attributes:
        head: one of `HEADS`.
        bases: names of the head's outputs; findings without their sides where films are halved.
        column: of each finding among them.
        sides: of each finding, "right", "left", "either" (noisy-or) or "both" (mean); "" where
            films are whole.
        dimensions: 2 for images, 3 for volumes.
    """

    head: str
    bases: tuple[str, ...]
    column: tuple[int, ...]
    sides: tuple[str, ...]
    dimensions: int

    @property
    def rows_per_image(self) -> int:
        """Return how many rows of a batch an image becomes: 2 where it is halved."""
        return 2 if self.head == "halves" else 1

    @property
    def has_levels(self) -> bool:
        """Return whether it reads several levels, whose features differ in scale."""
        return self.head in ("levels", "halves")

    @property
    def cells(self) -> tuple[tuple[int, ...], ...]:
        """Return for each of the last maps the cells along its axes over which it is averaged."""
        if not self.has_levels:
            return ((1 if self.head == "pooled" else 2,) * self.dimensions,)
        if self.dimensions == 3:
            return tuple((columns,) * 3 for _, columns in _LEVELS)
        return _LEVELS

    def n_features(self, widths: Sequence[int]) -> int:
        """Return the features of a row.

        `widths`: channels of the blocks' maps, the last one last.
        """
        return sum(
            width * math.prod(cells) for width, cells in zip(widths[-len(self.cells) :], self.cells)
        )

    def rows_of(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, *size) to the trunk's input.

        Halved films become (2 x batch, channels, height, columns of a half): of each film first the
        patient's right, which is the viewer's left, then the left, mirrored.
        """
        if self.head != "halves":
            return images
        # a multiple of 4, the stride of the stem
        columns = min(images.shape[-1], max(4, 4 * round(images.shape[-1] * _HALF / 4)))
        halves = torch.stack([images[..., :columns], images.flip(-1)[..., :columns]], 1)
        return halves.flatten(0, 1)

    def pooled(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the blocks' feature maps, each (rows, channels, *size), to (rows, n_features)."""
        mean = (
            functional.adaptive_avg_pool2d
            if self.dimensions == 2
            else functional.adaptive_avg_pool3d
        )
        maps = zip(levels[-len(self.cells) :], self.cells)
        return torch.cat([mean(level, cells).flatten(1) for level, cells in maps], 1)

    def logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Map the head's outputs, (rows, bases), to logits (batch, findings)."""
        if self.head != "halves":
            return outputs
        right, left = outputs.unflatten(0, (-1, 2))[:, :, list(self.column)].unbind(1)
        by_side = {
            "right": lambda n: right[:, n],
            "left": lambda n: left[:, n],
            "both": lambda n: (right[:, n] + left[:, n]) / 2,
            "either": lambda n: _either(right[:, n], left[:, n]),
        }
        return torch.stack([by_side[side](n) for n, side in enumerate(self.sides)], 1)


def _either(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the logit of "one or the other", of two independent logits (noisy-or)."""
    neither = functional.logsigmoid(-one.float()) + functional.logsigmoid(-other.float())
    return torch.log(-torch.expm1(neither.clamp(max=-1e-6))) - neither


def of(
    head: str, outputs: Sequence[str], dimensions: int = 2, lateral: Collection[str] = ()
) -> Reading:
    """Return how a head reads images for some findings.

    Args:
        head: one of `HEADS`.
        outputs: canonical names of the findings, with ":right" or ":left" where they have a side.
        dimensions: 2 for images, 3 for volumes.
        lateral: canonical names, without side, of findings that can be on one side.

    Raises:
        InputError: an unknown head, or halves of a volume.
    """
    errors.one_of("HEAD", head, HEADS)
    if head != "halves":
        columns = tuple(range(len(outputs)))
        return Reading(head, tuple(outputs), columns, ("",) * len(outputs), dimensions)
    if dimensions != 2:
        errors.refuse("HEAD = 'levels' for volumes", "'halves'", "Halves are of films.")
    names = [name.partition(":") for name in outputs]
    bases = tuple(dict.fromkeys(base for base, _, _ in names))
    sides = tuple(side or ("either" if base in lateral else "both") for base, _, side in names)
    return Reading(head, bases, tuple(bases.index(base) for base, _, _ in names), sides, dimensions)


class Network(nn.Module):
    """A trunk and a head: one Linear layer, the same for every row of an image.

    Attributes:
        reading: from images to the head's input, and from its output to logits.
        last_block: how the names of the last block's layers, and of what follows it, begin.
        centre, scale: constants that standardise the head's input, by public images; never
            trained. None for a head whose input is not standardised.
        head: the Linear layer.
    """

    def add_head(
        self,
        reading: Reading,
        n_features: int,
        last_block: tuple[str, ...],
        constants: tuple[int, ...] | None,
    ) -> None:
        """Add what follows the trunk, which has its layers by now: they are drawn in this order.

        Args:
            reading, last_block: see `Network`.
            n_features: of a row.
            constants: shape of centre and scale, which are 0 and 1 at first; None: there are none.
        """
        self.reading, self.last_block = reading, last_block
        for name, value in (("centre", 0.0), ("scale", 1.0)):
            constant = constants and nn.Parameter(torch.full(constants, value), requires_grad=False)
            self.register_parameter(name, constant)
        self.head = nn.Linear(n_features, len(reading.bases))

    @property
    def is_standardised(self) -> bool:
        """Return whether the head's input is standardised by public images."""
        return self.scale is not None and bool((self.scale != 1).any())

    def trunk_features(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, *size) to (batch x rows per image, n_features), not
        standardised.
        """
        raise NotImplementedError

    def fitted(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return weights of a related network under this one's names; others as they are."""
        return weights

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, *size) to the head's input (batch x rows per image, n_features)."""
        features = self.trunk_features(images)
        return features if self.scale is None else (features - self.centre) * self.scale

    def read(self, features: torch.Tensor) -> torch.Tensor:
        """Map the head's input, (batch x rows per image, n_features), to logits (batch,
        n_findings).
        """
        return self.reading.logits(self.head(features))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width), or (batch, channels, depth, height, width), to
        logits (batch, n_findings).
        """
        return self.read(self.features(images))

    @torch.no_grad()
    def standardise(self, centre: torch.Tensor, scale: torch.Tensor) -> None:
        """Set the constants that standardise the head's input, and the head so that every logit
        stays as it is.

        Args:
            centre, scale: (n_features,), of public images; scale > 0.
        """
        weight, bias = self.head.weight, self.head.bias
        weight.mul_(self.scale / scale)
        bias.add_(weight @ (scale * (centre - self.centre).flatten()))
        self.centre.copy_(centre)
        self.scale.copy_(scale)
