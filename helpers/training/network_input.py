"""A network's input: images, each standardised by itself.

In: 8-bit images or volumes. Out: float32 tensors. Nothing is shared between patients.
"""

import numpy as np
import torch


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
    pixels = torch.as_tensor(images).to(torch.float32)
    every = tuple(range(1, pixels.ndim))
    mean = pixels.mean(every, keepdim=True)
    spread = pixels.std(every, keepdim=True).clamp(min=1.0)  # in grey levels
    return ((pixels - mean) / spread)[:, None].expand(-1, channels, *pixels.shape[1:]).contiguous()
