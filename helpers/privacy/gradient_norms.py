"""Squared norms of units' gradients, from the gradients or from Gram matrices.

In: gradients of units, or two Gram matrices of each unit. Out: squared L2 norms, not below the
truth but for their last digits; and which of the two ways costs less.
"""

import torch

A_CALL = 2.5e6  # multiplications in the time of a call, as measured on a CPU
_ROUNDING = 8  # of a sum of products, in units of the type's precision; see `product_sum`


def squares_of(gradients: torch.Tensor) -> torch.Tensor:
    """Return (units,) squared norms of (units, outputs, ...) gradients.

    In two stages: torch's float32 norm of half a million values at once is wrong in the fifth
    digit.
    """
    if gradients.ndim > 2:  # of one output, by what is before the last dimension
        rows = gradients.flatten(2) if gradients.shape[1] > 1 else gradients.flatten(1, -2)
        gradients = torch.linalg.vector_norm(rows, dim=2)
    return gradients.square().sum(1)


def is_gram_cheaper(products: float, values: float, size: int, beside: float) -> bool:
    """Return whether a unit's Gram matrix costs less than forming its gradient.

    To form gradients replaces the ordinary weight gradient, nearly for nothing; what is left was
    measured on a CPU in units of one multiplication in a matrix product: 35 for a value of the Gram
    matrix each time it is read or written, 60 for a value of the gradient, `A_CALL` for a call of
    its own. On a GPU, where all units share each call, the same numbers serve unmeasured: by its
    data sheet an H200 makes 7 float32 multiplications in the time of a byte, 28 in that of a value.

    Args:
        products: multiplications for the Gram matrices.
        values: how often a value of a Gram matrix is read or written.
        size: of the gradient.
        beside: what else it costs to form it.
    """
    return products + 35 * values < 60 * size + beside


def product_sum(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
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
