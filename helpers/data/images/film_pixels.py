"""A film's grey values at its native size: its picture's hash, and the range that is shown.

In: decoded grey values. Out: a `Film`, and what follows from its pixels alone. Raises nothing.
"""

import dataclasses
import functools
import hashlib

import numpy as np
from PIL import Image

OUTLIERS = 0.005  # share of the pixels at either end that decide nothing about the contrast
MARGIN = 0.1  # of the distance between these percentiles, kept beyond either
FAR = 2.0
SAMPLED_PIXELS = 2**12  # at least, evenly spaced; percentiles need no more


@dataclasses.dataclass(eq=False)
class Film:
    """A decoded film at its native size.

    grey: (height, width) uint8, uint16 or (fractions, or more than 65,536 values) float32, finite.
    inverted: high values mean dark.
    picture: what the film is compared with others by, where that is not `grey`: the values of a
        DICOM file as they are stored, before its window.
    pixel_aspect: height of a pixel over its width.
    """

    grey: np.ndarray
    inverted: bool = False
    picture: "Film | None" = None
    pixel_aspect: float = 1.0

    @functools.cached_property
    def image(self) -> Image.Image:
        """Return the film for Pillow."""
        return Image.fromarray(self.grey)

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Return how many pixels have each of the 256 grey values of a film of 8 bits: quicker than
        a look at all pixels for each question.
        """
        return np.array(self.image.histogram())

    @functools.cached_property
    def values(self) -> np.ndarray:
        """Return the grey values that occur in a film of 8 bits, in order."""
        return np.flatnonzero(self.counts)

    @functools.cached_property
    def ends(self) -> tuple[float, float]:
        """Return the lowest and the highest grey value."""
        if self.grey.dtype == np.uint8:
            return self.values[0].item(), self.values[-1].item()
        return self.grey.min().item(), self.grey.max().item()

    @functools.cached_property
    def sample(self) -> np.ndarray:
        """Return the grey values of evenly spaced pixels, sorted."""
        stride = max(1, int((self.grey.size / SAMPLED_PIXELS) ** 0.5))
        return np.sort(self.grey[stride // 2 :: stride, stride // 2 :: stride], None, "stable")

    @functools.cached_property
    def step(self) -> int:
        """Return the greatest common divisor of all differences of whole grey values.

        It is 16 for 12 bits that were shifted to 16, 257 for 8 bits that were stretched.
        """
        if self.grey.dtype == np.uint8:
            differences = np.diff(self.values)
            return 1 if 1 in differences else int(np.gcd.reduce(differences, initial=0)) or 1
        differences = np.diff(self.sample)
        if (differences == 1).any():
            return 1
        step = int(np.gcd.reduce(differences, initial=0))
        above = self.grey - self.grey.dtype.type(self.ends[0])
        if step > 1 and (above // step * step == above).all():
            return step
        return int(np.gcd.reduce(np.unique(above), initial=0)) or 1

    @functools.cached_property
    def is_deep(self) -> bool:
        """Return whether the film has more than the 256 grey values that fit into 8 bits."""
        if self.grey.dtype == np.uint8:
            return False
        low, high = self.ends
        return self.grey.dtype == np.float32 or (high - low) // self.step > 255


def film_of(grey: np.ndarray, inverted: bool = False) -> Film:
    """Return a film of decoded grey values.

    Args:
        grey: (height, width) integers or floats, finite.
        inverted: high values mean dark.
    """
    if grey.dtype in (np.uint8, np.uint16):
        return Film(grey, inverted)
    low = grey.min()
    if float(grey.max()) - float(low) <= 65535 and (
        grey.dtype.kind != "f" or (grey == np.rint(grey)).all()
    ):
        return Film((grey - low).astype(np.uint16), inverted)
    return Film(grey.astype(np.float32, copy=False), inverted)


def grey_range(film: Film) -> tuple[float, float]:
    """Return the grey values that become black and white: the percentiles 0.5 and 99.5 of the
    pixels, widened by a tenth of their distance, within the film's own values.

    Pixels of the film's lowest and of its highest value do not count for the percentiles: there may
    be any number of them, as in a border of 0 or 65535, a dead line or a burnt-in marker. Nor does
    up to a quarter of the others at either end that lies far from the rest, as a marker of several
    values or a noisy border: there, a hundredth of the pixels spans more than `FAR` times the range
    of all that lie between it and the other end. A film without outliers keeps its minimum and
    maximum, or nearly.
    """
    least, most = film.ends
    inner = film.sample[(film.sample > least) & (film.sample < most)]
    if not inner.size:
        return least, most
    inner = -_without_far(-_without_far(inner.astype(np.float64))[::-1])[::-1]
    low, high = _between(inner, OUTLIERS)
    if not high > low:
        return least, most
    margin = MARGIN * (high - low)
    return max(least, low - margin), min(most, high + margin)


def _without_far(values: np.ndarray) -> np.ndarray:
    """Return a sorted sample without those at its upper end that lie far from the rest, see
    `grey_range`.
    """
    n, window = len(values), max(1, len(values) // 100)
    lower = values[n - n // 4 - 1 : n - window]
    spans = values[n - n // 4 - 1 + window :] - lower
    ranges = lower - values[int(OUTLIERS * n)]
    far = np.flatnonzero((spans > FAR * ranges) & (ranges > 0))
    return values[: n - n // 4 + far[0]] if far.size else values


def pixels_sha256(film: Film) -> str:
    """Return the hash of the picture at its native size, before anything is done to it.

    It is the same for one picture as PNG, BMP or TIFF, as grey, RGB or palette, turned by EXIF or
    in fact, in 8 bits or in 16 (as it is, shifted or stretched), and as its negative: what counts
    is each pixel's grey value above the lowest, in steps of the film. A picture that was resized or
    compressed with loss has another, and so has one that was exported through a window.
    """
    film = film.picture or film
    digest = hashlib.sha256(repr(film.grey.shape).encode())
    if film.grey.dtype == np.float32:
        digest.update(film.grey.astype("<f4").tobytes())
        return digest.hexdigest()
    type_, (low, high) = film.grey.dtype.type, film.ends
    levels = film.grey if low == 0 else film.grey - type_(low)
    levels = levels if film.step == 1 else levels // type_(film.step)
    brightest = (high - low) // film.step
    if 2 * _total_levels(film, levels) > brightest * levels.size:  # of a negative pair, one
        levels = type_(brightest) - levels
    levels = levels.astype("u1" if brightest < 256 else "<u2", copy=False)
    digest.update(np.ascontiguousarray(levels))
    return digest.hexdigest()


def _total_levels(film: Film, levels: np.ndarray) -> int:
    """Return the sum of a film's grey values above the lowest, in its steps."""
    if film.grey.dtype != np.uint8:
        return int(levels.sum(dtype=np.int64))
    return int(film.counts[film.values] @ (film.values - film.ends[0])) // film.step


def is_nearly_uniform(film: Film) -> bool:
    """Return whether 98 % of the pixels lie within 4 grey values: what shows is noise."""
    if film.grey.dtype == np.uint8:
        up_to, beyond = film.counts.cumsum(), int(0.01 * film.grey.size)
        low, high = np.searchsorted(up_to, (beyond, film.grey.size - 1 - beyond), "right").tolist()
    else:
        low, high = _between(film.sample, 0.01)
    return high - low <= (0 if film.grey.dtype == np.float32 else 4 * film.step)


def _between(values: np.ndarray, share: float) -> tuple[float, float]:
    """Return the values of a sorted sample between which all but a share at either end lie."""
    beyond = int(share * len(values))
    return values[beyond].item(), values[-1 - beyond].item()
