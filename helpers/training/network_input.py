"""A network's input: images, each standardised by itself.

In: 8-bit images or volumes. Out: float32 tensors. Nothing is shared between patients.
"""

import math

import numpy as np
import torch

from helpers.core import thread_workers


def to_input(images: np.ndarray | torch.Tensor, channels: int = 1) -> torch.Tensor:
    """Return a network's input, each image or volume standardised by its own mean and standard
    deviation.

    Guarantees: an image's input depends on that image alone, never on other patients.

    Args:
        images: (batch, height, width) or (batch, depth, height, width) uint8.
        channels: 1, or 3 equal ones.

    Returns:
        (batch, channels, *size) float32; a constant image becomes 0.
    """
    pixels = torch.as_tensor(images)
    every = tuple(range(1, pixels.ndim))
    if not pixels.is_cpu:
        pixels = pixels.to(torch.float32)
        spread = pixels.std(every, keepdim=True).clamp(min=1.0)  # in grey levels
        standardised = (pixels - pixels.mean(every, keepdim=True)) / spread
        return standardised[:, None].expand(-1, channels, *pixels.shape[1:]).contiguous()
    inputs = _empty(len(pixels), channels, *pixels.shape[1:])

    def fill(part: slice) -> None:
        first = inputs[part, 0].copy_(pixels[part])
        spread = _spread(first).clamp(min=1.0)
        first.sub_(first.mean(every, keepdim=True)).div_(spread)
        inputs[part, 1:] = first[:, None]

    thread_workers.share(fill, len(pixels), math.prod(pixels.shape[1:]))
    return inputs


def _empty(*shape: int) -> torch.Tensor:
    """Return float32 memory on the CPU, aligned to 64 bytes as torch's own.

    Torch asks for aligned memory, and glibc before 2.38 does not find such where it was freed: with
    batches of changing size the memory of a process would grow to several batches.
    """
    n_bytes = 4 * math.prod(shape)
    memory = np.empty(n_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory[start : start + n_bytes].view(np.float32).reshape(shape))


def _spread(pixels: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of each image on the CPU, as `torch.std` does, but sooner.

    Sums are exact and so of any order: of 256 squares of up to 255 in float32, of all in float64.

    Args:
        pixels: (batch, *size) float32, whole numbers from 0 to 255.

    Returns:
        (batch, 1, ...) float32.
    """
    flat = pixels.flatten(1).numpy()
    n = flat.shape[1]
    runs = flat.reshape(len(flat), -1, 256) if n % 256 == 0 else flat[:, None].astype(np.float64)
    ones = np.ones(runs.shape[2], runs.dtype)
    sums, squares = (np.vecdot(runs, other).sum(1, dtype=np.float64) for other in (ones, runs))
    variance = np.maximum(squares - sums**2 / n, 0) / (n - 1)
    spread = torch.from_numpy(np.sqrt(variance).astype(np.float32))
    return spread.view(-1, *[1] * (pixels.ndim - 1))
