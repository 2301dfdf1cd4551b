"""Gradients of single units, layer by layer: squared norms, and the sum with one weight a unit.

In: a layer's input a and output gradient b, for the images of a batch, and the unit of each image.
Out: for each unit the squared L2 norm of its gradient; the weighted sum of the units' gradients.
`RULES` names every layer type that is understood; one of another type, or used in another way, has
no rule: `model_validation` refuses it.

With T positions a unit (images x places), D inputs of a kernel and p outputs, a unit's weight
gradient is G = sum_t b_t a_t^T. There are two ways to its squared norm, and the cheaper is taken:
  instantiate: form G, cost T D p, which the ordinary weight gradient costs too; the sum is then
  made of the G kept
  Gram:        sum_{t,t'} (a_t . a_t') (b_t . b_t'), without G; the sum costs one ordinary weight
  gradient
Source: Goodfellow (2015), arXiv:1510.01799; Bu et al. (2022), arXiv:2205.10683 and arXiv:2210.00038
(book-keeping).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from helpers.privacy import convolution_gradients, gradient_norms, transformer_gradients
from helpers.privacy.units import Units

_group_norm_backward = torch.ops.aten.native_group_norm_backward.default


class LayerRule(NamedTuple):
    """How gradients of units are had for one type of layer.

    Attributes:
        objection: (module) -> what cannot be bounded in the way it is set, or "".
        remember: (module, output) -> tensors to keep from the forward pass.
        unit_gradients: (module, a, b, remembered, units) -> (squares, gradients): for each
            parameter by name its (units, *shape) gradients, or None where they were not formed; of
            the one that was not, (units,) squared norms, not below the truth but for their last
            digits; None where all were formed.
        weighted_sum: (module, a, b) -> sum over the images, for the parameter whose gradients were
            not formed.
    """

    objection: Callable[[nn.Module], str]
    remember: Callable[[nn.Module, torch.Tensor], tuple]
    unit_gradients: Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor | None]]]
    weighted_sum: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


# ---- group norm


def _group_norm_statistics(norm: nn.GroupNorm, output: torch.Tensor) -> tuple:
    """Return mean and 1 / standard deviation of each image and group of the forward pass."""
    node = output.grad_fn
    return (node._saved_result1, node._saved_result2) if hasattr(node, "_saved_result1") else ()


def _group_norm_gradients(
    norm: nn.GroupNorm, a: torch.Tensor, b: torch.Tensor, remembered: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`."""
    n, channels = a.shape[:2]
    a, b = (x.reshape(n, channels, -1).contiguous() for x in (a, b))
    places, groups = a.shape[2], norm.num_groups
    mean, scale = (
        remembered
        or torch.native_group_norm(a, None, None, n, channels, places, groups, norm.eps)[1:]
    )
    mean, scale = mean.to(a.dtype), scale.to(a.dtype)
    if places < 32 and not units.is_batched:  # torch's own way is slow on short rows
        mean, scale = (
            x.view(n, groups).repeat_interleave(channels // groups, 1) for x in (mean, scale)
        )
        ones = b.new_ones(places)
        bias = b @ ones
        weight = ((a * b) @ ones - bias * mean) * scale
    else:  # images stand as further channels, so that torch sums over none of them
        _, weight, bias = _group_norm_backward(
            b.view(1, n * channels, places),
            a.view(1, n * channels, places),
            mean.view(1, -1),
            scale.view(1, -1),
            a.new_ones(n * channels),
            1,
            n * channels,
            places,
            n * groups,
            [False, True, True],
        )
    return None, {
        "weight": units.add_up(weight.view(n, channels)),
        "bias": units.add_up(bias.view(n, channels)),
    }


# ---- linear


def _linear_sum(linear: nn.Linear, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the weight gradient of some images together."""
    return b.flatten(0, -2).T @ a.flatten(0, -2)


def _linear_gradients(
    linear: nn.Linear, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`. Places are all dimensions between the first and the last."""
    a, b = (x.reshape(len(x), -1, x.shape[-1]) for x in (a, b))
    positions = units.most * a.shape[1]
    if gradient_norms.is_gram_cheaper(
        positions**2 * (a.shape[2] + b.shape[2]),
        3 * positions**2,
        linear.weight.numel(),
        0 if units.is_batched else gradient_norms.A_CALL,
    ):

        def gram(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return gradient_norms.product_sum(
                *(torch.bmm(x, x.transpose(1, 2)) for x in (a.flatten(1, 2), b.flatten(1, 2)))
            )

        squares, gradients = units.each_size(gram, a, b), {"weight": None}
    else:
        formed = units.each_size(
            lambda a, b: torch.bmm(b.flatten(1, 2).transpose(1, 2), a.flatten(1, 2)), a, b
        )
        squares, gradients = None, {"weight": formed}
    if linear.bias is not None:
        gradients["bias"] = units.add_up(b.sum(1))
    return squares, gradients


def _nothing(*_: object) -> tuple:
    """Return what a layer without need of its forward pass remembers."""
    return ()


# Types are matched exactly: a subclass may do anything.
RULES: dict[type[nn.Module], LayerRule] = {
    **dict.fromkeys(
        (nn.Conv2d, nn.Conv3d),
        LayerRule(
            convolution_gradients.objection,
            _nothing,
            convolution_gradients.unit_gradients,
            convolution_gradients.weighted_sum,
        ),
    ),
    nn.GroupNorm: LayerRule(
        lambda norm: "" if norm.affine else "affine=False, which torch treats apart",
        _group_norm_statistics,
        _group_norm_gradients,
        None,
    ),
    nn.Linear: LayerRule(lambda linear: "", _nothing, _linear_gradients, _linear_sum),
    **{
        kind: LayerRule(lambda layer: "", _nothing, unit_gradients, None)
        for kind, unit_gradients in transformer_gradients.UNIT_GRADIENTS.items()
    },
}
