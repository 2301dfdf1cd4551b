"""Networks of torchvision that can be trained privately, for whole radiographs.

In: a network's name, the findings, the images' size; weights of torchvision. Out: a network whose
layers are converted (`layer_conversion`) and whose head is replaced. Raises `KeyError` for weights
of another network. Nothing is downloaded.
"""

import dataclasses
import re
from collections.abc import Callable

import torch
from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import interpolate_embeddings

from helpers.training import head_reading, layer_conversion


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where things are in a network of torchvision.

    Attributes:
        build: function that returns it with random weights.
        head: name of its classifier, a Linear layer.
        first: name of its first convolution.
        last_block: how the names of its last block's layers, and of what follows, begin.
        patch_px: pixels of a patch, of a network that has a place for each; None elsewhere.
    """

    build: Callable[..., nn.Module]
    head: str
    first: str
    last_block: tuple[str, ...]
    patch_px: int | None = None


LAYOUTS = {
    "resnet18": Layout(models.resnet18, "fc", "conv1", ("layer4.1.",)),
    "resnet50": Layout(models.resnet50, "fc", "conv1", ("layer4.2.",)),
    "densenet121": Layout(
        models.densenet121,
        "classifier",
        "features.conv0",
        ("features.denseblock4.", "features.norm5."),
    ),
    "convnext_tiny": Layout(
        models.convnext_tiny, "classifier.2", "features.0.0", ("features.7.2.", "classifier.")
    ),
    "vit_b_16": Layout(
        models.vit_b_16,
        "heads.head",
        "conv_proj",
        ("encoder.layers.encoder_layer_11.", "encoder.ln."),
        16,
    ),
}


class TorchvisionNetwork(head_reading.Network):
    """A network of torchvision, converted, with one Linear layer for the findings.

    Attributes:
        name: one of `LAYOUTS`.
        trunk: the network without its classifier.
        image_px: height and width of the images.
    """

    dimensions = 2

    def __init__(
        self, name: str, reading: head_reading.Reading, channels: int, image_px: int
    ) -> None:
        super().__init__()
        self.name, self.image_px, layout = name, image_px, LAYOUTS[name]
        size = {"image_size": image_px} if layout.patch_px else {}
        self.trunk = layout.build(**size)
        self.n_channels = self.trunk.get_submodule(layout.head).in_features
        self.trunk.set_submodule(layout.head, nn.Identity())
        first = self.trunk.get_submodule(layout.first)
        if channels != first.in_channels:
            self.trunk.set_submodule(layout.first, _of_channels(first, channels))
        layer_conversion.convert(self.trunk)
        last_block = tuple(f"trunk.{prefix}" for prefix in layout.last_block)
        self.add_head(reading, self.n_channels, last_block, (1, self.n_channels))

    def trunk_features(self, images: torch.Tensor) -> torch.Tensor:
        """See `head_reading.Network`."""
        return self.trunk(images)

    def fitted(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return torchvision's own weights under this network's names; weights of this package as
        they are.

        The classifier's weights are left out, and the head is 0. With one channel the first
        convolution has the sum over its three. Position embeddings are interpolated to the images'
        size.

        Raises:
            KeyError: weights of another network.
        """
        if "head.weight" in weights:
            return weights
        layout, trunk = LAYOUTS[self.name], {}
        weights = {_OLD_NAME.sub(r"\1\2", name): value for name, value in weights.items()}
        if layout.patch_px:
            weights = interpolate_embeddings(self.image_px, layout.patch_px, dict(weights))
        for name in [name for name in weights if name.endswith("in_proj_weight")]:
            weights |= layer_conversion.unpacked(weights, name.removesuffix("in_proj_weight"))
        first = f"{layout.first}.weight"
        if self.trunk.get_parameter(first).shape[1] == 1:
            weights[first] = weights[first].sum(1, keepdim=True)
        for name in self.trunk.state_dict():
            beside = name.removesuffix(".weight")  # a parameter that torchvision has beside layers
            trunk[f"trunk.{name}"] = weights[name if name in weights else beside]
        own = {name: value.detach() for name, value in self.named_parameters(recurse=False)}
        head = {f"head.{name}": torch.zeros_like(w) for name, w in self.head.state_dict().items()}
        return trunk | own | head


_OLD_NAME = re.compile(
    r"(denselayer\d+\.(?:norm|conv))\.(\d)"
)  # of norm1 in DenseNet's files: norm.1


def _of_channels(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a convolution of other input channels, with new random weights of the same spread."""
    other = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        bias=conv.bias is not None,
    )
    nn.init.normal_(other.weight, std=float(conv.weight.detach().std()))
    return other
