"""Rows of a cohort's images: copies in memory of what lies on disk.

In: images, which may be memory-mapped; rows. Out: an array. A process holds of a mapped file no
more than the rows it is reading.
"""

import math
import mmap

import numpy as np

from helpers.core import thread_workers


def read(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return copies of some rows, `images[rows]`, and let go of the file's pages.

    Guarantees: after it, no page of a file that is mapped read-only counts as this process's
    memory; the system's cache of the file stays.

    Args:
        images: (n, *size), may be memory-mapped.
        rows: (m,) integers from 0 to n - 1, in the order wanted.

    Returns:
        (m, *size).
    """
    every, size = np.asarray(images), images.shape[1:]  # plain arrays are quicker than maps
    copies = np.empty((len(rows), *size), images.dtype)

    def copy(part: slice) -> None:
        for to, row in zip(copies[part], rows[part]):
            to[:] = every[row]

    thread_workers.share(copy, len(rows), math.prod(size))
    _let_go(images)
    return copies


def _let_go(images: np.ndarray) -> None:
    """Give the pages of a file that is mapped read-only back to the system."""
    mapped = getattr(images, "_mmap", None)
    if mapped is not None and images.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
