"""Networks in which the gradient of one patient cannot be bounded are refused by the name of the
layer.
"""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from helpers.core import errors
from helpers.privacy import clipping, model_validation
from helpers.training import networks

IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    """Two layers, used as a test says."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.head, self.how = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 3), forward

    def forward(self, images):
        return self.how(self, images)


class Scale(nn.Module):
    """A parameter beside layers."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images * self.factor


class OwnConv(nn.Conv2d):
    """A subclass may do anything."""


def shared():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


def half_frozen():
    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    network[0].bias.requires_grad_(False)
    return network


@pytest.mark.parametrize(
    "network, message",
    [
        (
            lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
            r"1 \(BatchNorm2d\).*mixes the patients.*GroupNorm",
        ),
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False)), "BatchNorm2d"),
        (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3))), "parametrised"),
        (lambda: nn.Sequential(nn.Linear(4, 3), Scale()), r"1 \(Scale\): parameters of its own"),
        (lambda: nn.Sequential(OwnConv(1, 2, 3)), r"0 \(OwnConv\)"),
        (lambda: nn.Sequential(nn.LSTM(4, 3)), "LSTM"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Bilinear(2, 2, 2)), "Bilinear"),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), nn.ChannelShuffle(2)),
            r"1 \(ChannelShuffle\): unknown",
        ),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), "padding='same'"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), "reflect"),
        (shared, "one shared by 0 and 1"),
        (half_frozen, "only some of its parameters are frozen"),
        (lambda: nn.Sequential(nn.Linear(4, 3).requires_grad_(False)), "all are frozen"),
    ],
    ids=lambda value: value if isinstance(value, str) else "network",
)
def test_networks_that_cannot_be_bounded_are_refused_by_name(network, message):
    with pytest.raises(errors.InputError, match=message):
        model_validation.trainable_layers(network())


def test_the_shipped_network_is_accepted_with_all_its_parameters():
    network = networks.resnet9(8)
    layers = model_validation.trainable_layers(network)
    assert sum(p.numel() for layer in layers.values() for p in layer.parameters()) == sum(
        p.numel() for p in network.parameters()
    )


def by_functional(net, images):
    return net.head(nn.functional.conv2d(net.conv(images), net.conv.weight, padding=1).flatten(1))


def by_arithmetic(net, images):
    return net.head(net.conv(images).flatten(1)) + net.conv.weight.sum()


def in_a_list(net, images):
    return net.head(net.conv(images).flatten(1)) + torch.cat([net.conv.bias, net.conv.bias]).sum()


@pytest.mark.parametrize("forward", [by_functional, by_arithmetic, in_a_list])
def test_a_weight_used_outside_its_layer_is_refused_by_name(forward):
    clipped = clipping.ClippedSum(Net(forward), 1.0)
    with pytest.raises(
        errors.InputError, match=r"conv\.(weight|bias) to be used by its own layer only"
    ):
        clipped.logits(IMAGES)


def test_questions_about_a_parameter_are_no_use_of_it():
    clipped = clipping.ClippedSum(
        Net(lambda net, images: net.head(net.conv(images.to(net.conv.weight.device)).flatten(1))),
        1.0,
    )
    assert clipped.logits(IMAGES).shape == (2, 3)


@pytest.mark.parametrize(
    "forward, message",
    [
        (
            lambda net, images: net.head(net.conv(net.conv(images)).flatten(1)),
            "conv to be used once in a forward pass; got 2",
        ),
        (
            lambda net, images: net.head(images.flatten(1)),
            "conv to be used once in a forward pass; got 0",
        ),
    ],
)
def test_a_layer_used_twice_or_never_is_refused_by_name(forward, message):
    with pytest.raises(errors.InputError, match=message):
        clipping.ClippedSum(Net(forward), 1.0).logits(IMAGES)


def test_a_buffer_that_could_keep_what_it_sees_is_refused_by_name():
    network = Net(by_functional)
    network.register_buffer("memory", torch.zeros(1))
    with pytest.raises(errors.InputError, match=r"the network \(Net\): a buffer"):
        model_validation.trainable_layers(network)


def test_flattening_patients_together_is_refused():
    with pytest.raises(errors.InputError, match="1 .Flatten.: it mixes the patients"):
        model_validation.trainable_layers(nn.Sequential(nn.Linear(4, 3), nn.Flatten(0)))


def test_a_layer_may_be_called_by_keyword():
    clipped = clipping.ClippedSum(
        Net(lambda net, images: net.head(net.conv(input=images).flatten(1))), 1.0
    )
    assert clipped.logits(IMAGES).shape == (2, 3)
