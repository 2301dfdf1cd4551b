"""Gradients of single units in layer norm, and in layers that are one parameter each.

In: a layer's input a and output gradient b, for the images of a batch, and the unit of each image.
Out: see `layer_gradients.LayerRule`; `UNIT_GRADIENTS` has the rule of each type.

Transformers keep some parameters beside their layers (a scale, an embedding, a class token). Here
each is a layer of its own, so that its input and output gradient are seen.
"""

import torch
from torch import nn
from torch.nn import functional

from helpers.privacy.units import Units


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place, the same as torchvision's LayerNorm2d."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)


class _OneParameter(nn.Module):
    """A layer that is one parameter."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())


class LayerScale(_OneParameter):
    """A factor for each channel; weight (channels, 1, 1)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return self.weight * features


class PositionEmbedding(_OneParameter):
    """A vector added at each place; weight (1, places, features)."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, places, features) to the same shape."""
        return tokens + self.weight


class ClassToken(_OneParameter):
    """A token put before those of each image; weight (1, 1, features)."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, places, features) to (batch, 1 + places, features)."""
        return torch.cat([self.weight.expand(len(tokens), -1, -1), tokens], 1)


def _of_layer_norm(
    norm: nn.LayerNorm, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`. Places are the dimensions between the first and the
    normalised ones.
    """
    shape = norm.normalized_shape
    standardised = functional.layer_norm(a, shape, eps=norm.eps)
    parts = {"weight": standardised * b} | ({} if norm.bias is None else {"bias": b})
    return None, {
        name: units.add_up(part.reshape(len(part), -1, *shape).sum(1))
        for name, part in parts.items()
    }


def _of_channel_norm(
    norm: ChannelNorm, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`."""
    return _of_layer_norm(norm, a.movedim(1, -1), b.movedim(1, -1), _, units)


def _of_layer_scale(
    scale: LayerScale, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`."""
    return _formed(scale, (a * b).flatten(2).sum(2), units)


def _of_position_embedding(
    embedding: PositionEmbedding, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`."""
    return _formed(embedding, b, units)


def _of_class_token(
    token: ClassToken, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`."""
    return _formed(token, b[:, 0], units)


def _formed(layer: _OneParameter, of_images: torch.Tensor, units: Units) -> tuple:
    """Return gradients of units from (batch, *shape) gradients of images."""
    return None, {"weight": units.add_up(of_images).reshape(-1, *layer.weight.shape)}


UNIT_GRADIENTS = {
    nn.LayerNorm: _of_layer_norm,
    ChannelNorm: _of_channel_norm,
    LayerScale: _of_layer_scale,
    PositionEmbedding: _of_position_embedding,
    ClassToken: _of_class_token,
}
