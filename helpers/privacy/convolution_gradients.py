"""Gradients of single units in a convolution: squared norms, and the sum with one weight a unit.

In: the input a and output gradient b of a convolution, for the images of a batch, and the unit of
each image. Out: see `layer_gradients.LayerRule`. The Gram matrix of a convolution's patches is a
sum of shifted Gram matrices of its pixels, so on a CPU no patch is formed. Elsewhere all units
share each call, since small networks wait for calls (`Units.is_batched`).
"""

import torch
from torch import nn
from torch.nn import functional

from helpers.privacy import gradient_norms
from helpers.privacy.units import Units

_convolution_backward = torch.ops.aten.convolution_backward.default
_MOST_TOGETHER = 4e6  # multiplications of a unit on a CPU for which units share a call, measured
_MOST_COPIED = 2**21  # values, by a convolution whose units share a call on a CPU
_COPIED_TO_KEPT = 2  # elsewhere, as a multiple of the values of a and b


def objection(conv: nn.Conv2d | nn.Conv3d) -> str:
    """Return what about a convolution has no rule."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return (
            f"padding={conv.padding!r} with padding_mode={conv.padding_mode!r}; give numbers and"
            " zeros"
        )
    return ""


def weighted_sum(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
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


def unit_gradients(
    conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor, _: tuple, units: Units
) -> tuple:
    """See `LayerRule.unit_gradients`."""
    gradients = {}
    if prefers_gram(conv, a, b, units):
        squares_of = _patch_gram_squares if units.is_batched else _gram_squares
        squares = units.each_size(lambda a, b: squares_of(conv, a, b), a, b)
        gradients["weight"] = None
    else:
        if units.is_batched or _forms_together(conv, b, units):
            formed = units.each_size(
                lambda a, b: _formed_together(conv, a, b, units.is_batched), a, b
            )
        else:
            formed = units.one_by_one(
                lambda a, b: weighted_sum(conv, a, b), a, b, conv.weight.shape
            )
        squares, gradients["weight"] = None, formed
    if conv.bias is not None:
        gradients["bias"] = units.add_up(b.flatten(2).sum(2))
    return squares, gradients


def _formed_together(
    conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor, is_batched: bool
) -> torch.Tensor:
    """Return (m, *weight) gradients for m units of n images, by products of matrices: of all units
    and some rows of the kernel, or of some units.

    A and b as in `_gram_squares`.
    """
    seen = _patches(conv, a)
    outputs = b.transpose(1, 2).reshape(len(b), conv.groups, conv.out_channels // conv.groups, -1)
    if is_batched:  # copies of about as many values as a and b have, or one row of the kernel
        n_parts = -(-seen.numel() // (_COPIED_TO_KEPT * (a.numel() + b.numel())))
        rows = -(-conv.kernel_size[0] // min(n_parts, conv.kernel_size[0]))
        parts = [_product(outputs, some) for some in seen.split(rows, 3)]
        return torch.cat(parts, 4).flatten(1, 2)
    at_once = max(1, _MOST_COPIED // seen[0].numel())
    pairs = zip(outputs.split(at_once), seen.split(at_once))
    return torch.cat([_product(some, of_units) for some, of_units in pairs]).flatten(1, 2)


def _patches(conv: nn.Conv2d, a: torch.Tensor) -> torch.Tensor:
    """Return what each place of the output sees, a view of (m, groups, inputs of a group, *kernel,
    n, *places).
    """
    seen, n = _padded(conv, a), len(conv.stride)
    for axis in range(n):
        reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
        seen = seen.unfold(3 + axis, reach, conv.stride[axis])[..., :: conv.dilation[axis]]
    seen = seen.permute(0, 2, *range(3 + n, 3 + 2 * n), 1, *range(3, 3 + n))
    return seen.unflatten(1, (conv.groups, conv.in_channels // conv.groups))


def _product(outputs: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return (m, groups, outputs of a group, inputs of a group, *kernel) sums over places of the
    products of (m, groups, outputs of a group, n * places) and of `_patches`, some units or rows.
    """
    kernel = seen.shape[2 : 3 + (seen.ndim - 4) // 2]
    flat = seen.reshape(*seen.shape[:2], kernel.numel(), -1).transpose(2, 3)
    return torch.bmm(outputs.flatten(0, 1), flat.flatten(0, 1)).view(*outputs.shape[:3], *kernel)


def _padded(conv: nn.Conv2d, a: torch.Tensor) -> torch.Tensor:
    """Return the input with the zeros around it that a convolution sees."""
    return functional.pad(
        a, [side for padding in reversed(conv.padding) for side in (padding, padding)]
    )


def prefers_gram(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor, units: Units) -> bool:
    """Return whether the Gram way, which there is for images, is the cheaper one for a unit of as
    many images as one may have.
    """
    if len(conv.stride) != 2 or not _is_plain(conv):
        return False
    n_images = units.most
    places = n_images * b.shape[2:].numel()
    if units.is_batched:
        inputs = conv.weight[0].numel()
        return gradient_norms.is_gram_cheaper(
            places**2 * (inputs + conv.out_channels), 4 * places**2, conv.weight.numel(), 0
        )
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
    beside = gradient_norms.A_CALL
    if _forms_together(conv, b, units):
        beside = 60 * places * conv.weight[0].numel()
    return gradient_norms.is_gram_cheaper(products, values, conv.weight.numel(), beside)


def _is_plain(conv: nn.Conv2d) -> bool:
    """Return whether every output sees every input, at neighbouring pixels."""
    return conv.groups == 1 and set(conv.dilation) == {1}


def _forms_together(conv: nn.Conv2d, b: torch.Tensor, units: Units) -> bool:
    """Return whether the gradients of all units, where they are formed, come from one product of
    matrices.
    """
    multiplications = units.most * b.shape[2:].numel() * conv.weight.numel()
    return _is_plain(conv) and multiplications < _MOST_TOGETHER


def _patch_gram_squares(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return what `_gram_squares` does, in fewer calls and with copies of the patches."""
    seen = _patches(conv, a).reshape(len(a), conv.weight[0].numel(), -1)
    return gradient_norms.product_sum(torch.bmm(seen.transpose(1, 2), seen), _gram(b))


def _gram_squares(conv: nn.Conv2d, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
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
    return gradient_norms.product_sum(total.flatten(1, 3).flatten(2), _gram(b))


def _gram(values: torch.Tensor) -> torch.Tensor:
    """Return (m, n * places, n * places) products of all pairs of places of (m, n, channels,
    height, width) values.
    """
    flat = values.flatten(3).transpose(1, 2).flatten(2)  # (m, channels, n * places)
    return torch.bmm(flat.transpose(1, 2), flat)
