"""Data augmentation: shifts of images; strong variation and inversion for public training.

In: images, a generator. Out: images of the same shape. An image's augmentation never depends on
other patients. No flips: sides matter.
"""

import math

import numpy as np
import torch
from torch.nn import functional

from helpers.core import thread_workers


def shift(images: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Return each image or volume moved, its edge repeated. No flips: sides matter.

    Args:
        images: (batch, *size), e.g. (batch, height, width).
        moves: (batch, dimensions) integers, pixels towards the end of each dimension (down and to
            the right).
    """
    moved = np.empty(images.shape, images.dtype)
    size = np.array(images.shape[1:])
    moves = np.clip(moves, 1 - size, size - 1)  # further ones show the edge alone, too

    def move(part: slice) -> None:
        for to, image, pixels in zip(moved[part], images[part], moves[part].tolist()):
            _move(to, image, pixels)

    thread_workers.share(move, len(images), math.prod(images.shape[1:]))
    return moved


def _move(to: np.ndarray, image: np.ndarray, pixels: list[int]) -> None:
    """Write an image, moved by less than its size along each axis, and its edge repeated."""
    ends = list(zip(image.shape, pixels))
    inside = tuple(slice(max(px, 0), length + min(px, 0)) for length, px in ends)
    to[inside] = image[tuple(slice(max(-px, 0), length - max(px, 0)) for length, px in ends)]
    for axis, kept in enumerate(inside):
        along = to.swapaxes(0, axis)
        along[: kept.start] = along[kept.start]
        along[kept.stop :] = along[kept.stop - 1]


def invert(images: torch.Tensor, is_inverted: np.ndarray) -> torch.Tensor:
    """Return images of which some are inverted, bright for dark.

    Some scanners export inverted films (PhotometricInterpretation MONOCHROME1). A film v of 8 bits,
    inverted to 255 - v, is standardised to the same values with the other sign.

    Args:
        images: (batch, channels, *size), each standardised.
        is_inverted: (batch,) which are.

    Returns:
        The same shape.
    """
    chosen = torch.from_numpy(is_inverted).to(images.device)
    return torch.where(chosen.view(-1, *[1] * (images.ndim - 1)), -images, images)


def numbers(n_images: int, dimensions: int, stream: np.random.Generator) -> np.ndarray:
    """Return the (6, n_images) random numbers of `vary`, 7 for volumes.

    Args:
        n_images: how many images.
        dimensions: 2 for images, 3 for volumes.
        stream: gives them.
    """
    return stream.standard_normal((4 + dimensions, n_images), dtype=np.float32)


def vary(images: torch.Tensor, numbers: np.ndarray) -> torch.Tensor:
    """Return images or volumes as other machines and positions might have shown them: scale, tilt,
    place, tone, sharpness.

    Wider than what sites do to their films, so that features learnt in one hospital hold in
    another. No flips.

    Args:
        images: (batch, channels, *size), each standardised.
        numbers: (6, batch), or (7, batch) of volumes, see `numbers`.

    Returns:
        The same shape, each image standardised again.
    """
    every, is_volume = tuple(range(2, images.ndim)), images.ndim == 5
    draws = torch.from_numpy(numbers).to(images.device)
    tone, sharp = (value.view(-1, *[1] * (images.ndim - 1)) for value in draws[4:6])
    low, high = images.amin(every, keepdim=True), images.amax(every, keepdim=True)
    shown = ((images - low) / (high - low).clamp(min=1e-6)) ** torch.exp(0.35 * tone)
    mean = functional.avg_pool3d if is_volume else functional.avg_pool2d
    shown = shown + (0.45 + 0.45 * sharp) * (
        shown - mean(functional.pad(shown, (3,) * 2 * len(every), mode="replicate"), 7, 1)
    )
    grid = functional.affine_grid(_turn(draws, len(every)), list(images.shape), align_corners=False)
    shown = functional.grid_sample(shown, grid, padding_mode="border", align_corners=False)
    every = tuple(range(1, images.ndim))
    return (shown - shown.mean(every, keepdim=True)) / shown.std(every, keepdim=True).clamp(
        min=1e-6
    )


def _turn(draws: torch.Tensor, dimensions: int) -> torch.Tensor:
    """Return (batch, dimensions, dimensions + 1) maps that scale, tilt (a volume about its long
    axis) and move.
    """
    size, tilt, down, right = (
        torch.exp(0.08 + 0.12 * draws[0]),
        0.1 * draws[1],
        0.08 * draws[2],
        0.08 * draws[3],
    )
    across, along = (size * tilt.cos(), -size * tilt.sin()), (size * tilt.sin(), size * tilt.cos())
    if dimensions == 2:
        return torch.stack([*across, right, *along, down], 1).view(-1, 2, 3)
    none = torch.zeros_like(size)
    return torch.stack(
        [*across, none, right, *along, none, down, none, none, size, 0.08 * draws[6]], 1
    ).view(-1, 3, 4)
