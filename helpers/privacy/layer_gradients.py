"""Gradients of single units, layer by layer: their squared norms, and their sum with one weight a
unit.

In: what a layer saw (a) and the gradient at its output (b), for the images of a batch, and the unit
of each image.
Out: for each unit the squared L2 norm of its gradient; the weighted sum of the units' gradients.
Refuses: by `RULES`, which names every layer type that is understood; a layer of any other type, or
used in another way, has no rule.

With T positions a unit (images x places), D inputs of a kernel and p outputs, a unit's weight
gradient is G = sum_t b_t a_t^T. There are two ways to its squared norm, and the cheaper is taken:
  instantiate: form G, cost T D p, which the ordinary weight gradient costs too; the sum is then
  made of the G kept
  Gram:        sum_{t,t'} (a_t . a_t') (b_t . b_t'), without G; the sum costs one ordinary weight
  gradient
The Gram matrix of a convolution's patches is a sum of shifted Gram matrices of its pixels, so no
patch is formed.

Source: Goodfellow (2015), arXiv:1510.01799; Bu et al. (2022), arXiv:2205.10683 and arXiv:2210.00038
(book-keeping).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from helpers.privacy.units import Units

_convolution_backward = torch.ops.aten.convolution_backward.default
_group_norm_backward = torch.ops.aten.native_group_norm_backward.default
# multiplications of a unit for which units share one call, as measured; elsewhere 1e8, a guess
_MOST_TOGETHER = {"cpu": 4e6}
_MOST_COPIED = 2**21  # values, by a convolution whose units share a call
_ROUNDING = 8  # of a sum of products, in units of the type's precision; see `_product_sum`


class LayerRule(NamedTuple):
    """How gradients of units are had for one type of layer.

    Attributes:
        objection: (module) -> what cannot be bounded in the way it is set, or "".
        remember: (module, output) -> tensors to keep from the forward pass.
        unit_gradients: (module, a, b, remembered, units) -> (squares, gradients): (units,) squared
            norms of the unit's gradient, not below the truth but for its last digits; and for each
            parameter by name its (units, *shape) gradients, or None where they were not formed.
        weighted_sum: (module, a, b) -> sum over the images, for the parameter whose gradients were
            not formed.
    """

    objection: Callable[[nn.Module], str]
    remember: Callable[[nn.Module, torch.Tensor], tuple]
    unit_gradients: Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor | None]]]
    weighted_sum: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def _squares(gradients: torch.Tensor) -> torch.Tensor:
    """Return (units,) squared norms of (units, outputs, ...) gradients.

    In two stages: torch's float32 norm of half a million values at once is wrong in the fifth
    digit.
    """
    by_output = (
        torch.linalg.vector_norm(gradients.flatten(2), dim=2) if gradients.ndim > 2 else gradients
    )
    return by_output.square().sum(1)


def _is_gram_cheaper(products: float, values: float, size: int, beside: float = 2.5e6) -> bool:
    """Return whether a unit's Gram matrix costs less than forming its gradient.

    To form gradients replaces the ordinary weight gradient, nearly for nothing; what is left was
    measured on a CPU in units of one multiplication in a matrix product: 35 for a value of the Gram
    matrix each time it is read or written, 60 for a value of the gradient, 2.5 million for a call
    of its own.

    Args:
        products: multiplications for the Gram matrices.
        values: how often a value of a Gram matrix is read or written.
        size: of the gradient.
        beside: what else it costs to form it.
    """
    return products + 35 * values < 60 * size + beside


# ---- convolution


def _convolution_objection(conv: nn.Conv2d | nn.Conv3d) -> str:
    """Return what about a convolution has no rule."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return (
            f"padding={conv.padding!r} with padding_mode={conv.padding_mode!r}; give numbers and"
            " zeros"
        )
    return ""


def _convolution_sum(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the weight gradient of some images together."""
    return _convolution_backward(
        b,
        a,
        conv.weight.detach(),
        None,
        conv.stride,
        conv.padding,
        conv.dilation,
        False,
        [0] * len(conv.stride),
        conv.groups,
        [False, True, False],
    )[1]


def _convolution_gradients(
    conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`."""
    gradients = {}
    if _convolution_prefers_gram(conv, a, b, units):
        squares, gradients["weight"] = (
            units.each_size(lambda a, b: _convolution_gram(conv, a, b), a, b),
            None,
        )
    else:
        if _forms_together(conv, b, units):
            formed = units.each_size(lambda a, b: _convolution_together(conv, a, b), a, b)
        else:
            formed = units.one_by_one(
                lambda a, b: _convolution_sum(conv, a, b), a, b, conv.weight.shape
            )
        squares, gradients["weight"] = _squares(formed), formed
    if conv.bias is not None:
        gradients["bias"] = units.add_up(b.flatten(2).sum(2))
        squares = squares + _squares(gradients["bias"])
    return squares, gradients


def _convolution_together(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return (m, *weight) gradients for m units of n images, by one product of matrices.

    A and b as in `_convolution_gram`.
    """
    padded, n = _padded(conv, a), len(conv.stride)
    for dimension in range(n):
        padded = padded.unfold(3 + dimension, conv.kernel_size[dimension], conv.stride[dimension])
    # (m, inputs, *kernel, n, *places); a view, copied some units at a time
    seen = padded.permute(0, 2, *range(3 + n, 3 + 2 * n), 1, *range(3, 3 + n))
    at_once = max(1, _MOST_COPIED // seen[0].numel())
    return torch.cat(
        [
            torch.bmm(
                b_part.transpose(1, 2).flatten(2),
                seen_part.flatten(2 + n).flatten(1, 1 + n).transpose(1, 2),
            )
            for b_part, seen_part in zip(b.split(at_once), seen.split(at_once))
        ]
    ).view(len(a), *conv.weight.shape)


def _padded(conv: nn.Conv2d, a: torch.Tensor) -> torch.Tensor:
    """Return the input with the zeros around it that a convolution sees."""
    return functional.pad(
        a, [side for padding in reversed(conv.padding) for side in (padding, padding)]
    )


def _convolution_prefers_gram(
    conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor, units: Units
) -> bool:
    """Return whether the Gram way, which there is for images, is the cheaper one, by the images of
    an average unit.
    """
    if len(conv.stride) != 2 or not _is_plain(conv):
        return False
    n_images = len(a) / len(units.sizes)
    places = n_images * b.shape[2:].numel()
    padded = [size + 2 * padding for size, padding in zip(a.shape[2:], conv.padding)]
    phases = min(conv.stride[0], conv.kernel_size[0]) * min(conv.stride[1], conv.kernel_size[1])
    pixels = n_images * padded[0] * padded[1] / (conv.stride[0] * conv.stride[1])
    products = phases * pixels**2 * conv.in_channels + places**2 * conv.out_channels
    values = (
        phases * (2 * pixels * conv.in_channels + 2 * pixels**2 + places**2)
        + sum(conv.kernel_size) / 2 * (pixels + places) * places
        + 2 * places**2
    )
    # copies, or a call
    beside = 60 * places * conv.weight[0].numel() if _forms_together(conv, b, units) else 2.5e6
    return _is_gram_cheaper(products, values, conv.weight.numel(), beside)


def _is_plain(conv: nn.Conv2d) -> bool:
    """Return whether every output sees every input, at neighbouring pixels."""
    return conv.groups == 1 and set(conv.dilation) == {1}


def _forms_together(conv: nn.Conv2d, b: torch.Tensor, units: Units) -> bool:
    """Return whether the gradients of all units, where they are formed, come from one product of
    matrices.
    """
    multiplications = b.shape[0] * b.shape[2:].numel() * conv.weight.numel()
    return _is_plain(conv) and multiplications < len(units.sizes) * _MOST_TOGETHER.get(
        b.device.type, 1e8
    )


def _convolution_gram(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return (m,) bounds of squared norms for m units of n images.

    A (m, n, inputs, height, width), b (m, n, outputs, ...).
    """
    (m, n), (rows, columns) = a.shape[:2], b.shape[3:]
    padded = _padded(conv, a)
    total = b.new_zeros(m, n, rows, columns, n, rows, columns)
    for row, column in [
        (i, j)
        for i in range(min(conv.stride[0], conv.kernel_size[0]))
        for j in range(min(conv.stride[1], conv.kernel_size[1]))
    ]:
        # the pixels that meet these kernel places
        phase = padded[..., row :: conv.stride[0], column :: conv.stride[1]]
        gram = _gram(phase).view(m, n, *phase.shape[3:], n, *phase.shape[3:])
        down = range(len(range(row, conv.kernel_size[0], conv.stride[0])))
        right = range(len(range(column, conv.kernel_size[1], conv.stride[1])))
        by_row = sum(gram[:, :, i : i + rows, :, :, i : i + rows] for i in down)
        total += sum(by_row[:, :, :, j : j + columns, :, :, j : j + columns] for j in right)
    return _product_sum(total.flatten(1, 3).flatten(2), _gram(b))


def _product_sum(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return an upper bound of the (m,) sums over products of two (m, T, T) Gram matrices: squared
    norms of m gradients.

    Where a unit's images nearly cancel, rounding can leave a sum far below the truth. Its error was
    at most 2 eps (sum_t |a_t| |b_t|)^2 in trials made to be bad; four times as much is added. Where
    nothing cancels that is some millionths of the sum.
    """
    lengths = (
        (first.diagonal(dim1=1, dim2=2).clamp(min=0) * second.diagonal(dim1=1, dim2=2))
        .sqrt()
        .sum(1)
    )
    exact = (first.flatten(1) * second.flatten(1)).sum(1).clamp(min=0)
    return exact + _ROUNDING * torch.finfo(first.dtype).eps * lengths.square()


def _gram(values: torch.Tensor) -> torch.Tensor:
    """Return (m, n * places, n * places) products of all pairs of places of (m, n, channels,
    height, width) values.
    """
    flat = values.flatten(3).transpose(1, 2).flatten(2)  # (m, channels, n * places)
    return torch.bmm(flat.transpose(1, 2), flat)


# ---- group norm


def _group_norm_statistics(norm: nn.GroupNorm, output: torch.Tensor) -> tuple:
    """Return mean and 1 / standard deviation of each image and group, as the forward pass had them."""
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
    if places < 32:  # torch's own way is slow on short rows
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
    gradients = {
        "weight": units.add_up(weight.view(n, channels)),
        "bias": units.add_up(bias.view(n, channels)),
    }
    return _squares(gradients["weight"]) + _squares(gradients["bias"]), gradients


# ---- linear


def _linear_sum(linear: nn.Linear, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the weight gradient of some images together."""
    return b.flatten(0, -2).T @ a.flatten(0, -2)


def _linear_gradients(
    linear: nn.Linear, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`. Places are all dimensions between the first and the last."""
    a, b = (x.reshape(len(x), -1, x.shape[-1]) for x in (a, b))
    positions = len(a) / len(units.sizes) * a.shape[1]
    if _is_gram_cheaper(
        positions**2 * (a.shape[2] + b.shape[2]), 3 * positions**2, linear.weight.numel()
    ):

        def gram(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return _product_sum(
                *(torch.bmm(x, x.transpose(1, 2)) for x in (a.flatten(1, 2), b.flatten(1, 2)))
            )

        squares, gradients = units.each_size(gram, a, b), {"weight": None}
    else:
        formed = units.each_size(
            lambda a, b: torch.bmm(b.flatten(1, 2).transpose(1, 2), a.flatten(1, 2)), a, b
        )
        squares, gradients = _squares(formed), {"weight": formed}
    if linear.bias is not None:
        gradients["bias"] = units.add_up(b.sum(1))
        squares = squares + _squares(gradients["bias"])
    return squares, gradients


def _nothing(*_: object) -> tuple:
    """Return what a layer without need of its forward pass remembers."""
    return ()


# Types are matched exactly: a subclass may do anything.
RULES: dict[type[nn.Module], LayerRule] = {
    **dict.fromkeys(
        (nn.Conv2d, nn.Conv3d),
        LayerRule(_convolution_objection, _nothing, _convolution_gradients, _convolution_sum),
    ),
    nn.GroupNorm: LayerRule(
        lambda norm: "" if norm.affine else "affine=False, which torch treats apart",
        _group_norm_statistics,
        _group_norm_gradients,
        None,
    ),
    nn.Linear: LayerRule(lambda linear: "", _nothing, _linear_gradients, _linear_sum),
}
