"""Networks that can be trained privately, for radiographs and for CT volumes.

In: sizes. Out: a torch module whose every parameter belongs to a convolution, GroupNorm or Linear
layer and is used once in a forward pass, so that per-patient gradients can be bounded.
Raises `InputError` for widths that GroupNorm cannot divide.
"""

import math
from collections.abc import Collection

import torch
from torch import nn

from helpers.core import errors, random_streams
from helpers.training import head_reading

# of a network that may be trained; the rest is frozen
PARTS = ("all", "last_block", "norms_and_head", "head")


class ACS(nn.Module):
    """The kernels of a 2D convolution used in a volume: a third of them in each of the axial,
    coronal and sagittal planes.

    The planes are three convolutions, each with a part of the 2D kernels, so that each kernel is
    used once.

    Source: Yang et al. (2021), IEEE J Biomed Health Inform 25:3009, "Reinventing 2D convolutions
    for 3D images".
    """

    def __init__(self, n_in: int, n_out: int, size: int, stride: int, padding: int) -> None:
        super().__init__()
        for plane, (share, flat) in planes(n_out).items():
            kernel, around = (
                [1 if axis == flat else size for axis in range(3)],
                [0 if axis == flat else padding for axis in range(3)],
            )
            self.add_module(plane, nn.Conv3d(n_in, len(share), kernel, stride, around, bias=False))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, n_in, depth, height, width) to (batch, n_out, ...), the axial kernels'
        outputs first.
        """
        return torch.cat([plane(features) for plane in self.children()], 1)


def planes(n_out: int) -> dict[str, tuple[range, int]]:
    """Return for each plane which of `n_out` kernels it has, and the axis of (depth, height, width)
    across which they are flat.
    """
    cuts = [0, n_out - 2 * (n_out // 3), n_out - n_out // 3, n_out]
    return {
        plane: (range(*cuts[axis : axis + 2]), axis)
        for axis, plane in enumerate(("axial", "coronal", "sagittal"))
    }


def _convolution(dimensions: int, n_in: int, n_out: int, size: int, stride: int) -> nn.Module:
    """Return a convolution without bias that keeps the size but for its stride.

    Of images, or of volumes by ACS.
    """
    if dimensions == 2:
        return nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)
    if size == 1:
        return nn.Conv3d(n_in, n_out, 1, stride, bias=False)  # the same in every plane
    return ACS(n_in, n_out, size, stride, size // 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Nothing is changed in place, so that hooks see every value.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, dimensions: int) -> None:
        super().__init__()
        self.conv1 = _convolution(dimensions, n_in, n_out, 3, stride)
        self.norm1 = _group_norm(n_out)
        self.conv2 = _convolution(dimensions, n_out, n_out, 3, 1)
        self.norm2 = _group_norm(n_out)
        self.activation = nn.Mish()
        self.shortcut = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                _convolution(dimensions, n_in, n_out, 1, stride), _group_norm(n_out)
            )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, n_in, *size) to (batch, n_out, *size / stride)."""
        changed = self.activation(self.norm1(self.conv1(features)))
        return self.activation(self.norm2(self.conv2(changed)) + self.shortcut(features))


class ResNet9(head_reading.Network):
    """The paper's network: a residual network of four blocks with GroupNorm and Mish; for CT, with
    ACS convolutions.

    At width 64 with 3 channels and 8 findings the 2D one has the paper's 4,909,896 parameters. What
    its head reads is a `head_reading.Reading`; the input of a head of several levels is
    standardised.

    Attributes:
        name: as NETWORK has it.
        stem, blocks: the trunk.

    Source: Tayebi Arasteh et al. (2024), Methods; He et al. (2016) for the blocks; Klause et al.
    (2022) for ResNet9.
    """

    name = "resnet9"

    def __init__(
        self, reading: head_reading.Reading, channels: int, width: int, dimensions: int
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        pool = nn.MaxPool2d if dimensions == 2 else nn.MaxPool3d
        self.stem = nn.Sequential(
            _convolution(dimensions, channels, width, 7, 2),
            _group_norm(width),
            nn.Mish(),
            pool(3, 2, 1),
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(
            *[
                ResidualBlock(n_in, n_out, 1 if n == 0 else 2, dimensions)
                for n, (n_in, n_out) in enumerate(zip(widths, widths[1:]))
            ]
        )
        self.n_channels = 8 * width  # of the last feature map
        n_features = reading.n_features(widths[1:])
        # of another shape for halves than for whole images, so that weights of one head never pass
        # for those of the other
        constants = (n_features,) if reading.head == "halves" else (1, n_features)
        last_block = (f"blocks.{len(self.blocks) - 1}.",)
        self.add_head(reading, n_features, last_block, constants if reading.has_levels else None)

    def trunk_features(self, images: torch.Tensor) -> torch.Tensor:
        """See `head_reading.Network`."""
        level, levels = self._stem(self.reading.rows_of(images)), []
        for block in self.blocks:
            level = block(level)
            levels.append(level)
        return self.reading.pooled(levels)

    def _stem(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the first feature map of a batch."""
        *layers, pool = self.stem
        for layer in layers:
            rows = layer(rows)
        if rows.ndim == 4 and rows.device.type == "cpu" and not torch.is_grad_enabled():
            rows = rows.contiguous(memory_format=torch.channels_last)  # torch pools faster so
        return pool(rows).contiguous()


def _group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with the paper's 32 groups, or as many as half the channels allow."""
    return nn.GroupNorm(math.gcd(32, channels // 2), channels)


def resnet9(
    outputs: list[str] | int,
    channels: int = 1,
    width: int = 16,
    seed: int = 0,
    head: str = "pooled",
    dimensions: int = 2,
    lateral: Collection[str] = (),
) -> ResNet9:
    """Return a ResNet9 with random weights drawn from the study's stream "initial weights".

    Args:
        outputs: canonical names of the findings, with ":right" or ":left" where they have a side;
            or their number, for a head to which names do not matter.
        channels: of the input, 1 or 3 (three equal ones, as in the paper).
        width: channels after the stem, a multiple of 8; paper: 64.
        seed: of the stream.
        head: what the head reads, see `head_reading`; paper: "pooled".
        dimensions: 2 for images, 3 for volumes.
        lateral: findings that can be on one side, see `head_reading`.

    Raises:
        InputError: channels or width out of range, an unknown head, or halves of a volume.
    """
    errors.one_of("CHANNELS", channels, (1, 3))
    names = outputs if isinstance(outputs, list) else list(map(str, range(outputs)))
    reading = head_reading.of(head, names, dimensions, lateral)
    if width < 8 or width % 8:
        errors.refuse(
            "WIDTH to be a multiple of 8",
            repr(width),
            "Use 16 for the demo, 64 for the paper's network.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            int(random_streams.random_stream(seed, "initial weights").integers(2**31))
        )
        model = ResNet9(reading, channels, width, dimensions)
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if dimensions == 3 and device().type == "cpu":  # a quarter faster there
        model.to(memory_format=torch.channels_last_3d)
    return model


def in_planes(weights: dict[str, torch.Tensor], model: ResNet9) -> dict[str, torch.Tensor]:
    """Return the weights of a 2D network as those of a network of volumes.

    Weights that fit already come back as they are.
    """
    fitted = {}
    for name, value in weights.items():
        layer, _, part = name.rpartition(".")
        if f"{layer}.axial.{part}" in model.state_dict() and value.ndim == 4:
            for plane, (share, flat) in planes(len(value)).items():
                fitted[f"{layer}.{plane}.{part}"] = value[share.start : share.stop].unsqueeze(
                    2 + flat
                )
        else:  # a kernel of one pixel is one voxel
            fitted[name] = (
                value.unsqueeze(2) if model.dimensions == 3 and value.ndim == 4 else value
            )
    return fitted


def train_only(model: nn.Module, part: str) -> None:
    """Freeze all of a network but one of `PARTS`; what is frozen needs neither clipping nor noise.

    Raises:
        InputError: an unknown part.
    """
    errors.one_of("TRAINED", part, PARTS)
    for name, module in model.named_modules():
        is_trained = (
            part == "all"
            or name == "head"
            or part == "norms_and_head"
            and isinstance(module, (nn.GroupNorm, nn.LayerNorm))
            or part == "last_block"
            and name.startswith(getattr(model, "last_block", ()))
        )
        if not isinstance(module, head_reading.Network):  # whose own parameters are constants
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(is_trained)


def rows_per_image(model: nn.Module) -> int:
    """Return how many rows of a batch a network makes of an image: 2 where films are halved."""
    return model.reading.rows_per_image if isinstance(model, head_reading.Network) else 1


def sides_of(model: nn.Module) -> dict[str, list[str]]:
    """Return how a network that halves films reads each finding, for identities; {} for others."""
    if rows_per_image(model) == 1:
        return {}
    return {"SIDES": list(model.reading.sides)}


def device() -> torch.device:
    """Return the first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
