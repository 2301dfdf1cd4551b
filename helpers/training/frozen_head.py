"""The head alone: frozen features of the training images, computed once, and a network that reads
them.

In: a network whose trunk is frozen, its training set. Out: a training set of features in the place
of images, and the part of the network that is trained.

A private step of the head is a step of the whole network in which only the head's weights ask for a
gradient; since nothing before the head changes, its input is computed once and not augmented.
"""

import dataclasses

import numpy as np
import torch
from torch import nn

from helpers.training import head_reading, image_loss, image_rows, network_input, training_set

IMAGES_AT_A_TIME = 256


class FeatureReader(nn.Module):
    """The head of a network, on features: (batch, rows per image, n_features) to logits."""

    def __init__(self, network: head_reading.Network) -> None:
        super().__init__()
        self.head = network.head  # the network's own: what trains one trains the other
        self._read = [network.read]  # in a list, so that the trunk is no part of this module

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, rows per image, n_features) to logits (batch, n_findings)."""
        return self._read[0](features.flatten(0, 1))


def is_head_alone(model: nn.Module) -> bool:
    """Return whether of a network nothing but its head is trained."""
    if not isinstance(model, head_reading.Network):
        return False
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    return trained == {id(p) for p in model.head.parameters()}


@torch.no_grad()
def features_of(
    network: head_reading.Network,
    images: np.ndarray,
    rows: np.ndarray,
    channels: int,
    precision: str = "float32",
) -> torch.Tensor:
    """Return (m, rows per image, n_features) float32 features of images, on the CPU.

    Args:
        network: whose trunk computes them.
        images: (n, *size) uint8, may be memory-mapped.
        rows: (m,) of them.
        channels: of the network's input.
        precision: see `image_loss.autocast`.
    """
    device = next(network.parameters()).device
    per_image = network.reading.rows_per_image
    whole = torch.empty(len(rows), per_image, network.head.in_features)
    step = max(1, IMAGES_AT_A_TIME // (8 if images.ndim == 4 else 1))  # volumes are larger
    for start in range(0, len(rows), step):
        part = torch.from_numpy(image_rows.read(images, rows[start : start + step])).to(device)
        with image_loss.autocast(device, precision):
            features = network.features(network_input.to_input(part, channels))
        whole[start : start + step] = features.float().unflatten(0, (-1, per_image)).cpu()
    return whole


@dataclasses.dataclass
class FrozenFeatures(training_set.TrainingSet):
    """The training images of a cohort as features of a network's trunk.

    Guarantees: features of an image depend on that image and the trunk alone; they are computed
    when first asked for, and again after `forget`.

    Attributes:
        network: whose trunk computes them.
        channels, precision: of its input.
    """

    network: head_reading.Network | None = None
    channels: int = 1
    precision: str = "float32"
    _features: torch.Tensor | None = None

    lightness = 16

    @classmethod
    def of_images(
        cls,
        data: training_set.TrainingSet,
        network: head_reading.Network,
        channels: int,
        precision: str,
    ) -> "FrozenFeatures":
        """Return a training set's images as features; nothing is computed yet."""
        fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
        return cls(**fields | dict(network=network, channels=channels, precision=precision))

    def forget(self) -> None:
        """Let the features go: the trunk has changed."""
        self._features = None

    def batch(
        self, positions: np.ndarray, moves: np.ndarray, channels: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (batch, rows per image, n_features) and labels of images, on the
        device.
        """
        if self._features is None:
            self._features = features_of(
                self.network, self.images, self.rows, self.channels, self.precision
            )
        places = torch.from_numpy(positions)
        if len(places) and bool((places.diff() == 1).all()):
            places = slice(int(places[0]), int(places[-1]) + 1)  # a view; a full batch is large
        return self._features[places].to(device), self.labels[places].to(device)


@torch.no_grad()
def public_moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the centre and scale with which a row of features has mean 0 and an average L2 norm
    of 1.

    A feature is divided by the square root of its standard deviation: half way between features as
    they are, of which few have most of the variance, and whitened ones, which noise drowns.

    Args:
        features: (n, rows per image, n_features) of public images; of private ones they would be
            outside any guarantee.
    """
    rows = features.flatten(0, 1)
    centre, spread = rows.mean(0), rows.std(0)
    scale = spread.clamp(min=1e-3 * float(spread.max())).rsqrt()
    return centre, scale / ((rows - centre) * scale).norm(dim=1).mean()
