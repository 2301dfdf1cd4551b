"""Each layer's two ways to the gradients of units, against autograd on one unit at a time in
float64.
"""

import copy

import pytest
import torch
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from helpers.privacy import (
    convolution_gradients,
    gradient_norms,
    layer_gradients,
    transformer_gradients,
    units,
)

SIZES = [3, 1, 2, 5, 1]  # images of each unit
INDEX = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
LAYERS = {
    "conv": (nn.Conv2d(3, 5, 3, padding=1), (3, 6, 7)),
    "conv_stride_2": (nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), (4, 9, 8)),
    "conv_stem": (nn.Conv2d(1, 8, 7, stride=2, padding=3, bias=False), (1, 16, 16)),
    "conv_1x1_stride_2": (nn.Conv2d(4, 6, 1, stride=2), (4, 7, 7)),
    "conv_no_padding": (nn.Conv2d(2, 3, (2, 3), bias=False), (2, 5, 5)),
    "conv_uneven": (nn.Conv2d(2, 3, (3, 2), stride=(3, 1), padding=(2, 0)), (2, 7, 5)),
    "conv_groups": (nn.Conv2d(4, 6, 3, groups=2), (4, 6, 6)),
    "conv_dilation": (nn.Conv2d(2, 3, 3, dilation=2), (2, 8, 8)),
    "conv3d": (nn.Conv3d(2, 4, 3, padding=1), (2, 4, 5, 3)),
    "conv3d_flat": (
        nn.Conv3d(3, 5, (1, 3, 3), stride=2, padding=(0, 1, 1), bias=False),
        (3, 4, 6, 7),
    ),
    "conv3d_stem": (
        nn.Conv3d(1, 4, (7, 1, 7), stride=2, padding=(3, 0, 3), bias=False),
        (1, 9, 8, 10),
    ),
    "conv3d_groups": (nn.Conv3d(4, 6, 2, groups=2), (4, 3, 4, 3)),
    "linear": (nn.Linear(7, 4), (7,)),
    "linear_no_bias": (nn.Linear(7, 4, bias=False), (7,)),
    "linear_places": (nn.Linear(5, 3), (6, 5)),
    "group_norm": (nn.GroupNorm(3, 6), (6, 5, 4)),
    "group_norm_many_places": (nn.GroupNorm(2, 4), (4, 9, 9)),
    "group_norm_no_places": (nn.GroupNorm(2, 8), (8,)),
    "conv_depthwise": (nn.Conv2d(6, 6, 7, padding=3, groups=6), (6, 8, 5)),
    "conv_patches": (nn.Conv2d(1, 5, 4, stride=4), (1, 12, 8)),
    "layer_norm": (nn.LayerNorm(5, eps=1e-6), (4, 5)),
    "layer_norm_no_bias": (nn.LayerNorm(5, bias=False), (5,)),
    "layer_norm_of_maps": (nn.LayerNorm([3, 2]), (4, 3, 2)),
    "channel_norm": (transformer_gradients.ChannelNorm(6), (6, 3, 4)),
    "layer_scale": (transformer_gradients.LayerScale(torch.ones(6, 1, 1)), (6, 3, 4)),
    "position": (transformer_gradients.PositionEmbedding(torch.ones(1, 4, 5)), (4, 5)),
    "class_token": (transformer_gradients.ClassToken(torch.ones(1, 1, 5)), (4, 5)),
}


@pytest.fixture(params=LAYERS, ids=str)
def case(request):
    """A layer with random parameters, its input, output and the gradient at its output."""
    torch.manual_seed(4)
    layer, shape = copy.deepcopy(LAYERS[request.param][0]), LAYERS[request.param][1]
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    a = torch.randn(len(INDEX), *shape).requires_grad_()
    output = layer(a)
    return layer, a, output, torch.randn(output.shape)


def one_unit_at_a_time(layer, a, b):
    """{parameter: (units, *shape)} by autograd in float64."""
    exact = copy.deepcopy(layer).double()
    names = [name for name, _ in exact.named_parameters()]
    unit_gradients = []
    for unit in range(len(SIZES)):
        inside = unit == INDEX
        total = (exact(a[inside].detach().double()) * b[inside].double()).sum()
        unit_gradients.append(torch.autograd.grad(total, list(exact.parameters())))
    return {
        name: torch.stack([of_unit[k] for of_unit in unit_gradients]).float()
        for k, name in enumerate(names)
    }


def squares_of_all(squares, formed):
    """(units,) squared norms of a layer's gradients, from what its rule returns."""
    of_formed = [gradient_norms.squares_of(g) for g in formed.values() if g is not None]
    assert (squares is None) == (None not in formed.values())
    return sum([*of_formed, *([] if squares is None else [squares])])


WAYS = ["gram", "together", "one_by_one", "by_cost", "batched", "batched_gram", "batched_by_cost"]


@pytest.mark.parametrize("way", WAYS)
def test_squares_and_gradients_equal_one_unit_at_a_time(case, way, monkeypatch):
    layer, a, output, b = case
    monkeypatch.setattr(gradient_norms, "_ROUNDING", 0)
    if not way.endswith("by_cost"):
        monkeypatch.setattr(gradient_norms, "is_gram_cheaper", lambda *_: way.endswith("gram"))
    if way == "together":
        monkeypatch.setattr(
            convolution_gradients, "_MOST_COPIED", 3000
        )  # several calls for some layers
    if way == "one_by_one":
        monkeypatch.setattr(convolution_gradients, "_MOST_TOGETHER", 0)
    if way == "batched":
        monkeypatch.setattr(convolution_gradients, "_COPIED_TO_KEPT", 1)  # rows of the kernel
    rule = layer_gradients.RULES[type(layer)]
    expected = one_unit_at_a_time(layer, a, b)
    of = units.Units(INDEX, SIZES, way.startswith("batched"), max(SIZES))
    squares, formed = rule.unit_gradients(layer, a.detach(), b, rule.remember(layer, output), of)
    wanted = sum(g.double().flatten(1).square().sum(1) for g in expected.values()).float()
    torch.testing.assert_close(squares_of_all(squares, formed), wanted, rtol=1e-5, atol=0)
    weights = torch.tensor([0.3, 1.0, 0.0, 0.7, 0.11])
    for name, gradient in formed.items():
        total = torch.einsum("u,u...->...", weights, expected[name])
        if gradient is None:
            spread = weights[INDEX].view(-1, *[1] * (b.ndim - 1))
            torch.testing.assert_close(
                rule.weighted_sum(layer, a.detach(), spread * b), total, rtol=1e-4, atol=1e-4
            )
        else:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4)


def test_squares_are_never_too_small_where_images_nearly_cancel(monkeypatch):
    monkeypatch.setattr(gradient_norms, "is_gram_cheaper", lambda *_: True)
    torch.manual_seed(3)
    of = units.Units(torch.zeros(2, dtype=torch.int64), [2], most=2)
    for layer, shape in (
        (nn.Linear(4096, 8, bias=False), (4096,)),
        (nn.Conv2d(512, 64, 3, padding=1, bias=False), (512, 2, 2)),
    ):
        for likeness in (0.0, 1e-6, 1e-5, 1e-4, 1e-3):
            one = torch.rand(1, *shape)
            a = torch.cat([one, one + likeness * torch.randn_like(one)])
            b = torch.randn(1, *layer(one).shape[1:])
            b = torch.cat([b, -b])
            squares, _ = layer_gradients.RULES[type(layer)].unit_gradients(layer, a, b, (), of)
            exact = copy.deepcopy(layer).double()
            (gradient,) = torch.autograd.grad(
                (exact(a.double()) * b.double()).sum(), [exact.weight]
            )
            assert float(squares) >= float(gradient.square().sum())


def test_both_ways_of_a_convolution_are_taken_by_cost():
    single_image_units = units.Units(torch.arange(8), [1] * 8)
    deep, shallow = nn.Conv2d(256, 256, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    assert convolution_gradients.prefers_gram(
        deep, torch.zeros(8, 256, 4, 4), torch.zeros(8, 256, 4, 4), single_image_units
    )
    assert not convolution_gradients.prefers_gram(
        shallow, torch.zeros(8, 8, 32, 32), torch.zeros(8, 8, 32, 32), single_image_units
    )


def test_groups_and_dilation_have_no_gram_way():
    single_image_units = units.Units(torch.arange(8), [1] * 8)
    for conv in (
        nn.Conv2d(256, 256, 3, padding=1, groups=2),
        nn.Conv2d(256, 256, 3, padding=2, dilation=2),
    ):
        assert not convolution_gradients.prefers_gram(
            conv, torch.zeros(8, 256, 4, 4), torch.zeros(8, 256, 4, 4), single_image_units
        )


def test_group_norm_takes_the_statistics_of_the_forward_pass_or_its_own():
    layer, a = nn.GroupNorm(2, 4), torch.randn(11, 4, 8, 8)
    rule, of, b = (
        layer_gradients.RULES[nn.GroupNorm],
        units.Units(INDEX[:11], [3, 1, 2, 5]),
        torch.randn(11, 4, 8, 8),
    )
    remembered = rule.remember(layer, layer(a.requires_grad_()))
    assert len(remembered) == 2
    squares = [rule.unit_gradients(layer, a.detach(), b, kept, of)[0] for kept in (remembered, ())]
    torch.testing.assert_close(*squares, rtol=1e-6, atol=0)


def test_squares_are_exact_for_large_gradients():
    gradient = torch.randn(2, 512, 1200, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        gradient_norms.squares_of(gradient),
        gradient.double().square().sum((1, 2)).float(),
        rtol=1e-6,
        atol=0,
    )


def test_channel_norm_is_torchvisions_layer_norm_of_maps():
    theirs, a = LayerNorm2d(6, eps=1e-6), torch.randn(2, 6, 3, 4)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = transformer_gradients.ChannelNorm(6, eps=1e-6)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(a), theirs(a), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 1, 1025, 768), (2, 1, 3, 500, 500), (2, 64, 4000), (2, 900)])
def test_squares_of_many_equal_values_are_right_to_the_last_digits(shape):
    gradients = torch.full(shape, 0.123)
    exact = gradients.double().flatten(1).square().sum(1)
    error = (gradient_norms.squares_of(gradients).double() - exact) / exact
    assert error.abs().max() < 1e-5  # vector_norm of all at once: 9e-4
