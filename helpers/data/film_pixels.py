"""A film's grey values at its native size: its picture's hash, and the range that is shown.

In: decoded grey values. Out: a `Film`, and what follows from its pixels alone. Raises nothing.
"""

import dataclasses
import functools
import hashlib

import numpy as np
from PIL import Image

OUTLIERS_PERCENT = 0.5  # of the pixels, at either end, decide nothing about the contrast
MARGIN = 0.1  # of the distance of the percentiles, kept beyond either


@dataclasses.dataclass(eq=False)
class Film:
    """A decoded film at its native size.

    grey: (height, width) uint8, uint16, int32 or float32, finite.
    lowest: the grey value of the first of `counts`.
    counts: pixels with the grey values from `lowest` on; None where values are no integers, or more
        than 65,536 lie between them.
    inverted: high values mean dark.
    """

    grey: np.ndarray
    lowest: int
    counts: np.ndarray | None
    inverted: bool = False

    @functools.cached_property
    def present(self) -> np.ndarray:
        """Return the places in `counts` of the grey values that occur."""
        return np.flatnonzero(self.counts)

    @functools.cached_property
    def step(self) -> int:
        """Return the greatest common divisor of all differences of grey values.

        It is 16 for 12 bits that were shifted to 16, 257 for 8 bits that were stretched.
        """
        return int(np.gcd.reduce(np.diff(self.present), initial=0)) or 1

    @property
    def is_deep(self) -> bool:
        """Return whether the film has more than the 256 grey values that fit into 8 bits."""
        if self.counts is None:
            return True
        return int(self.present[-1] - self.present[0]) // self.step > 255


def film_of(grey: np.ndarray, inverted: bool = False) -> Film:
    """Return a film of decoded grey values.

    Args:
        grey: (height, width) integers or floats, finite.
        inverted: high values mean dark.
    """
    if grey.dtype == np.uint8:
        return Film(grey, 0, np.array(Image.fromarray(grey).histogram()), inverted)
    low, high = float(grey.min()), float(grey.max())
    if high - low > 65535 or (grey.dtype.kind == "f" and (grey != np.rint(grey)).any()):
        return Film(grey.astype(np.float32, copy=False), 0, None, inverted)
    if grey.dtype != np.uint16:
        counts = np.bincount((grey - low).astype(np.uint16).ravel())
        return Film(grey, int(low), counts, inverted)
    return Film(grey, 0, np.bincount(grey.ravel()), inverted)


def grey_range(film: Film) -> tuple[float, float]:
    """Return the grey values that become black and white: the percentiles 0.5 and 99.5 of the
    pixels, widened by a tenth of their distance, within the film's own values.

    Pixels of the film's lowest and of its highest value do not count for the percentiles: there may
    be any number of them, as in a border of 0 or 65535, a dead line or a burnt-in marker. A film
    without outliers keeps its minimum and maximum, or nearly.
    """
    percents = [OUTLIERS_PERCENT, 100 - OUTLIERS_PERCENT]
    if film.counts is None:
        least, most = float(film.grey.min()), float(film.grey.max())
        inner = film.grey[(film.grey > least) & (film.grey < most)]
        low, high = map(float, np.percentile(inner, percents)) if inner.size else (least, most)
    else:
        least, most = (int(film.present[end]) + film.lowest for end in (0, -1))
        inner = film.counts.copy()
        inner[film.present[[0, -1]]] = 0
        low, high = _percentiles(inner if inner.any() else film.counts, percents)
        low, high = low + film.lowest, high + film.lowest
    if not high > low:
        return least, most
    margin = MARGIN * (high - low)
    return max(least, low - margin), min(most, high + margin)


def pixels_sha256(film: Film) -> str:
    """Return the hash of the picture at its native size, before anything is done to it.

    It is the same for one picture as PNG, BMP or TIFF, as grey, RGB or palette, turned by EXIF or
    in fact, in 8 bits or in 16 (as it is, shifted or stretched), and as its negative: what counts
    is each pixel's grey value above the lowest, in steps of the film. A picture that was resized or
    compressed with loss has another.
    """
    digest = hashlib.sha256(repr(film.grey.shape).encode())
    if film.counts is None:
        digest.update(film.grey.astype("<f4").tobytes())
        return digest.hexdigest()
    levels = (np.arange(len(film.counts)) - film.present[0]) // film.step
    brightest = int(levels[film.present[-1]])
    if 2 * int(film.counts @ levels) > brightest * film.grey.size:  # of a negative pair, one
        levels = brightest - levels
    levels = levels.astype("u1" if brightest < 256 else "<u2")
    if film.grey.dtype == np.uint8:
        digest.update(film.grey.tobytes().translate(levels.tobytes()))
    else:
        digest.update(levels[(film.grey - film.grey.dtype.type(film.lowest)).astype(int)].tobytes())
    return digest.hexdigest()


def is_nearly_uniform(film: Film) -> bool:
    """Return whether 98 % of the pixels lie within 4 grey values: what shows is noise."""
    low, high = (
        np.percentile(film.grey, [1, 99])
        if film.counts is None
        else np.array(_percentiles(film.counts, [1, 99])) / film.step
    )
    return bool(high - low <= (0 if film.counts is None else 4))


def _percentiles(counts: np.ndarray, percents: list[float]) -> list[int]:
    """Return the places in a histogram up to which so many percent of the pixels lie."""
    up_to = counts.cumsum()
    return [int(np.searchsorted(up_to, percent / 100 * up_to[-1])) for percent in percents]
