"""One encoded image file in, one grey 8-bit square out.

In: the bytes of a PNG, JPEG, TIFF, BMP or GIF (8 bits, 16 bits, 32 bits or float grey, RGB, RGBA,
palette, inverted), or of a DICOM file (`decode_dicom`). Out: a `film_pixels.Film` at its native
size, and (px, px) uint8. Raises `UnusableImage`, with a reason that can be counted, for damaged,
truncated, oversized and constant images. Everything done to an image is a function of that image
alone.
"""

import io
import re
import warnings

import numpy as np
from PIL import Image, ImageOps

from helpers.data.images import decode_dicom, dicom_library, film_pixels
from helpers.data.images.image_limits import MAX_BYTES, MAX_PIXELS, UnusableImage

MIN_LEVELS = 128  # of a picture of which only the upper 8 of 16 bits can be read
_NOT_READ = {
    "WebP": rb"RIFF....WEBP",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "HEIF or AVIF": rb"....ftyp(heic|heix|hevc|mif1|msf1|avif)",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "JPEG XR": rb"II\xbc",
}
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")  # no format that starts another program


def decode(
    encoded: bytes, px: int, aspect: str = "pad", equalise: bool = False, inverted: bool = False
) -> np.ndarray:
    """Return an image as an 8-bit grey square: see `read` and `square`."""
    return square(read(encoded, inverted), px, aspect, equalise)


def read(encoded: bytes, inverted: bool = False) -> film_pixels.Film:
    """Return a film at its native size, in grey; alpha is ignored, of several frames the first is
    used, and a turn by EXIF is carried out.

    Args:
        encoded: content of the image file.
        inverted: high values mean dark; a DICOM file that says so itself is inverted once.

    Raises:
        UnusableImage: not decodable, too large, or with values that are infinite or not numbers.
    """
    if len(encoded) > MAX_BYTES:
        raise UnusableImage("image file too large")
    if dicom_library.is_dicom(encoded[: dicom_library.HEAD_BYTES]):
        return _of_dicom(decode_dicom.read(encoded, inverted))
    grey = _opened(encoded)
    if grey.dtype.kind == "f":
        _refuse_not_finite(grey)
    return film_pixels.film_of(grey, inverted)


def _of_dicom(radiograph: decode_dicom.Radiograph) -> film_pixels.Film:
    """Return the film of a DICOM file, compared with others by its values as stored."""
    _refuse_not_finite(radiograph.grey_as_shown)
    film = film_pixels.film_of(radiograph.grey_as_shown)  # the file's own inversion is carried out
    film.picture = film_pixels.film_of(radiograph.stored)
    film.pixel_aspect = radiograph.pixel_aspect
    return film


def square(
    film: film_pixels.Film, px: int, aspect: str = "pad", equalise: bool = False
) -> np.ndarray:
    """Return a film as an 8-bit grey square.

    In the paper's order: resize, minimum to 0 and maximum to 255, inversion, histogram
    equalisation. A film of more than 256 grey values is first cut to its `grey_range`, so that one
    hot pixel, a marker or a border does not leave the lungs a few grey values; it is equalised in
    16 bits and only then rounded to 8.

    Args:
        film: see `read`.
        px: height and width of the result.
        aspect: "pad" (default) keeps proportions and centres the image on black, because the width
            of the heart relative to the chest is a finding and the costophrenic angles at the
            border hold effusions; "stretch" is the paper's plain resize to a square, which keeps
            neither proportion nor needs padding.
        equalise: spread the grey values evenly (before padding, so that padding does not count).

    Returns:
        (px, px) uint8, bright = dense.

    Raises:
        UnusableImage: of one grey value only.

    Guarantees: of a film of 256 grey values or fewer, nothing is cut.
    """
    if film.grey.dtype == np.uint8:
        image = film.image.convert("F")
    else:
        grey = film.grey.astype(np.float32, copy=False)
        image = Image.fromarray(
            np.clip(grey, *film_pixels.grey_range(film)) if film.is_deep else grey
        )
    proportions = (image.width, image.height * film.pixel_aspect)
    size = (px, px) if aspect == "stretch" else _fitted(proportions, px)
    values = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    low, high = values.min(), values.max()
    if not high > low:
        raise UnusableImage("image has one grey value only")
    type_ = np.uint16 if equalise and film.is_deep else np.uint8
    white = np.iinfo(type_).max
    levels = np.rint((values - low) / (high - low) * white).astype(type_)
    levels = white - levels if film.inverted else levels
    return _centred(spread(levels) if equalise else levels, px)


def spread(image: np.ndarray) -> np.ndarray:
    """Return the histogram-equalised image: grey value v becomes the share of pixels up to v, from
    0 to 255.

    Args:
        image: uint8 or uint16, any shape. An image of one grey value keeps its upper 8 bits.
    """
    up_to = np.bincount(image.ravel(), minlength=256).cumsum()
    lowest = up_to[image.min()]
    if lowest == image.size:
        return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
    table = np.clip(np.rint((up_to - lowest) / (image.size - lowest) * 255), 0, 255).astype(
        np.uint8
    )
    return table.take(image)


def _refuse_not_finite(grey: np.ndarray) -> None:
    """Accept floats whose differences can be formed."""
    low, high = float(grey.min()), float(grey.max())
    if np.isnan(low):
        raise UnusableImage("image with grey values that are not numbers")
    if not max(high, -low) < 1e38:
        raise UnusableImage("image with infinite grey values")


def _bits_of_a_colour(image: Image.Image, encoded: bytes) -> int:
    """Return the bits of a channel of a picture of several channels, of which Pillow keeps 8; 8 of
    all others.
    """
    if image.mode.startswith(("I", "F")) or len(image.getbands()) == 1:
        return 8
    if image.format == "PNG":
        return encoded[24]
    return max(image.tag_v2.get(258, (8,))) if image.format == "TIFF" else 8


def _opened(encoded: bytes) -> np.ndarray:
    """Return the grey values of a file that is not DICOM."""
    try:
        with warnings.catch_warnings():
            # the size is checked below, odd metadata does not matter
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                bits = _bits_of_a_colour(image, encoded)
                ImageOps.exif_transpose(image, in_place=True)
                grey = _grey(image)
    except Image.DecompressionBombError:
        raise UnusableImage("image has too many pixels") from None
    except Exception:  # a damaged file can raise almost anything
        raise UnusableImage(_reason(encoded[:16])) from None
    if bits > 8 and int(grey.max()) - int(grey.min()) < MIN_LEVELS:
        raise UnusableImage("colour image of 16 bits, whose upper 8 hold hardly anything")
    return grey


def _reason(head: bytes) -> str:
    """Return why a file that begins with these bytes cannot be decoded."""
    other = next((name for name, begins in _NOT_READ.items() if re.match(begins, head, re.S)), "")
    if not other:
        return "image cannot be decoded"
    return f"{other} image; read are {', '.join(_FORMATS)} and DICOM"


def _grey(image: Image.Image) -> np.ndarray:
    """Return an image of any mode in grey, keeping all bits where there are more than 8."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def _fitted(size: tuple[float, float], px: int) -> tuple[int, int]:
    """Return (width, height) with the longer side `px` and the proportions kept."""
    longer = max(size)
    return max(1, round(size[0] * px / longer)), max(1, round(size[1] * px / longer))


def _centred(image: np.ndarray, px: int) -> np.ndarray:
    """Return the image in the middle of a black square."""
    square = np.zeros((px, px), np.uint8)
    top, left = (px - image.shape[0]) // 2, (px - image.shape[1]) // 2
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square
