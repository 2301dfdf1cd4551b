"""One encoded image file in, one grey 8-bit square out.

In: the bytes of a PNG, JPEG, TIFF, BMP or GIF (8 or 16 bit grey, RGB, RGBA, palette, inverted), or
of a DICOM file (`decode_dicom`).
Out: (px, px) uint8. Raises `UnusableImage`, with a reason that can be counted, for damaged,
truncated, oversized and constant images. Everything done to an image is a function of that image
alone.
"""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from helpers.data import decode_dicom, dicom_library
from helpers.data.image_limits import MAX_BYTES, MAX_PIXELS, UnusableImage

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")  # no format that starts another program


def decode(
    encoded: bytes, px: int, aspect: str = "pad", equalise: bool = False, inverted: bool = False
) -> np.ndarray:
    """Return an image as an 8-bit grey square.

    In the paper's order: grey, resize, minimum to 0 and maximum to 255, inversion, histogram
    equalisation. Alpha is ignored, and of several frames the first is used.

    Args:
        encoded: content of the image file.
        px: height and width of the result.
        aspect: "pad" (default) keeps proportions and centres the image on black, because the width
            of the heart relative to the chest is a finding and the costophrenic angles at the
            border hold effusions; "stretch" is the paper's plain resize to a square, which keeps
            neither proportion nor needs padding.
        equalise: spread the grey values evenly (before padding, so that padding does not count).
        inverted: high values mean dark (MONOCHROME1; a DICOM file that says so itself is inverted
            once).

    Returns:
        (px, px) uint8, bright = dense.

    Raises:
        UnusableImage: not decodable, too large, of one grey value only, or with infinite values.
    """
    if len(encoded) > MAX_BYTES:
        raise UnusableImage("image file too large")
    if dicom_library.is_dicom(encoded[: dicom_library.HEAD_BYTES]):
        grey = Image.fromarray(decode_dicom.grey(encoded, inverted))
        inverted = False  # settled together with the file's own MONOCHROME1
    else:
        grey = _opened(encoded)
    size = (px, px) if aspect == "stretch" else _fitted(grey.size, px)
    values = np.asarray(grey.resize(size, Image.Resampling.BILINEAR))
    low, high = values.min(), values.max()
    if not high > low:  # also when a value is not a number
        raise UnusableImage("image has one grey value only")
    if not max(high, -low) < 1e38:  # would overflow below, and leave an image of one value
        raise UnusableImage("image with infinite grey values")
    eight_bit = np.rint((values - low) / (high - low) * 255).astype(np.uint8)
    eight_bit = 255 - eight_bit if inverted else eight_bit
    return _centred(spread(eight_bit) if equalise else eight_bit, px)


def spread(image: np.ndarray) -> np.ndarray:
    """Return the histogram-equalised image: grey value v becomes the share of pixels up to v, from
    0 to 255.

    Args:
        image: uint8, any shape. An image of one grey value is returned unchanged.
    """
    up_to = np.bincount(image.ravel(), minlength=256).cumsum()
    lowest = up_to[image.min()]
    if lowest == image.size:
        return image
    table = np.clip(np.rint((up_to - lowest) / (image.size - lowest) * 255), 0, 255).astype(
        np.uint8
    )
    return table[image]


def _opened(encoded: bytes) -> Image.Image:
    """Return a file that is not DICOM as 32-bit float grey."""
    try:
        with warnings.catch_warnings():
            # the size is checked below, odd metadata does not matter
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return _grey(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise UnusableImage("image has too many pixels") from None
    except Exception:  # a damaged file can raise almost anything
        raise UnusableImage("image cannot be decoded") from None


def _grey(image: Image.Image) -> Image.Image:
    """Return an image of any mode as 32-bit float grey, keeping all 16 bits where there are 16."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image).astype(np.float32))
    return image.convert("L").convert("F")


def _fitted(size: tuple[int, int], px: int) -> tuple[int, int]:
    """Return (width, height) with the longer side `px` and the proportions kept."""
    longer = max(size)
    return max(1, round(size[0] * px / longer)), max(1, round(size[1] * px / longer))


def _centred(image: np.ndarray, px: int) -> np.ndarray:
    """Return the image in the middle of a black square."""
    square = np.zeros((px, px), np.uint8)
    top, left = (px - image.shape[0]) // 2, (px - image.shape[1]) // 2
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square
