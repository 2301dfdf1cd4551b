"""One DICOM radiograph in, its grey values out, as they are shown: bright = dense.

In: the bytes of a DICOM file of one frame, 8 to 32 bit, in any transfer syntax that pydicom and
pylibjpeg decode. Out: (rows, columns) float32. Raises `UnusableImage`, with a reason that can be
counted, for files without an image, of several frames, in colour, too large, damaged, or in a
transfer syntax without a decoder; `InputError` where pydicom is not installed. No tag but those
that say how the values are stored and shown is read.
"""

import io
import re
from typing import NamedTuple

import numpy as np

from helpers.data.images import dicom_library, dicom_windows
from helpers.data.images.image_limits import MAX_BYTES, MAX_PIXELS, UnusableImage

_JPEG, _END_OF_JPEG = "1.2.840.10008.1.2.4.", b"\xff\xd9"  # 50 to 81; JPEG 2000 begins at 90
# of a colour picture whose content is grey: how far red, green and blue differ, and where they may
_GREY_DIFFERENCE, _COLOURED_SHARE = 16, 0.01


def grey(encoded: bytes, inverted: bool = False) -> np.ndarray:
    """Return the grey values of a radiograph, as a viewer would show them at first: see `read`.

    Returns:
        (rows, columns) float32; of 0 to 1 with a window, else in the unit of the rescale.
    """
    return read(encoded, inverted).grey_as_shown


class Radiograph(NamedTuple):
    """What a DICOM file holds.

    grey_as_shown: (rows, columns) float32, see `grey`.
    stored: (rows, columns) the values in the file, before anything is done to them; of a colour
        picture, its grey values.
    pixel_aspect: height of a pixel over its width.
    """

    grey_as_shown: np.ndarray
    stored: np.ndarray
    pixel_aspect: float


def read(encoded: bytes, inverted: bool = False) -> Radiograph:
    """Return a radiograph as a viewer would show it at first, and as it is stored.

    In DICOM's order: stored values, modality LUT or rescale, VOI LUT or window, inversion of
    MONOCHROME1. Of several windows the first counts; one that hides the film is ignored, see
    `dicom_windows.shown`, as is a damaged one. Padding becomes black.

    Args:
        encoded: content of the DICOM file.
        inverted: a table says that high values mean dark. The file's own MONOCHROME1 says the
            same: an image is inverted once, whoever says so.

    Raises:
        UnusableImage, InputError: see the module.
    """
    library = dicom_library.pydicom()
    try:
        file = _read(library, encoded)
        stored = _decompressed(library, file)
        aspect = _pixel_aspect(file)
        if stored.ndim == 3:
            values = _of_colours(stored, inverted)
            return Radiograph(values, values, aspect)
        values = dicom_windows.rescaled(file, stored)
        values = dicom_windows.shown(file, values)
        if inverted or file.PhotometricInterpretation == "MONOCHROME1":
            values = values.max() + values.min() - values
        return Radiograph(_without_padding(file, stored, values), stored, aspect)
    except UnusableImage:
        raise
    except Exception:  # a damaged file can raise almost anything
        raise UnusableImage("image cannot be decoded") from None


def _read(library, encoded: bytes):
    """Return the tags of a file, after what they say of its size is checked."""
    if dicom_library.inflates_beyond(io.BytesIO(encoded), MAX_BYTES):
        raise UnusableImage("image file too large")
    file = library.dcmread(io.BytesIO(encoded), force=True)
    if not len(file):  # cut off inside the pixels: pydicom gives up all of it
        raise UnusableImage("image cannot be decoded")
    if not file.get("Rows") or not file.get("Columns") or not _has_pixels(file):
        raise UnusableImage(dicom_library.without_image(file.get("Modality")))
    if int(file.get("NumberOfFrames") or 1) > 1:
        raise UnusableImage("DICOM image of several frames")
    if file.Rows * file.Columns > MAX_PIXELS:
        raise UnusableImage("image has too many pixels")
    return file


def _has_pixels(file) -> bool:
    """Return whether a file has one of DICOM's three elements of pixels, with something in it."""
    names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    return any(name in file and len(file[name].value or b"") > 0 for name in names)


def _decompressed(library, file) -> np.ndarray:
    """Return the stored values: (rows, columns), or (rows, columns, 3) of 8 bit in colour."""
    if not file.file_meta.get("TransferSyntaxUID"):
        file.file_meta.TransferSyntaxUID = _syntax_without_meta(library, file)
    syntax = file.file_meta.TransferSyntaxUID
    try:
        is_available = library.pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        is_available = False
    if not is_available:
        name = syntax.name if re.fullmatch("[0-9.]{1,64}", syntax) else "of a damaged file"
        raise UnusableImage(f"no decoder for the DICOM transfer syntax {name}")
    is_jpeg = syntax.startswith(_JPEG) and syntax < _JPEG + "90"
    if is_jpeg and _END_OF_JPEG not in file.PixelData[-64:]:
        raise UnusableImage("image cannot be decoded")  # libjpeg would fill up with grey
    stored = _right_aligned(library, file, syntax)
    if file.PhotometricInterpretation == "PALETTE COLOR":
        colours = library.pixels.apply_color_lut(stored, file)
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    return stored


def _right_aligned(library, file, syntax) -> np.ndarray:
    """Return the stored values, also where they lie in the upper bits, up to `HighBit`.

    pydicom takes the lower bits. A file whose values do not reach above these has a wrong `HighBit`
    and right values.
    """
    bits, shift = file.BitsStored, int(file.get("HighBit") or 0) + 1 - file.BitsStored
    is_whole = not syntax.is_encapsulated or syntax == library.uid.RLELossless
    if shift <= 0 or bits + shift > file.BitsAllocated or not is_whole:
        return library.pixels.pixel_array(file)
    file.BitsStored, sign = file.BitsAllocated, file.PixelRepresentation
    words = library.pixels.pixel_array(file)
    file.BitsStored = bits
    above = file.BitsAllocated - bits - shift  # unused bits
    is_upper = not (words & (2**shift - 1)).any() if sign else words.max() >= 2**bits
    if not is_upper:
        return library.pixels.pixel_array(file)
    return words << above >> above + shift


def _pixel_aspect(file) -> float:
    """Return the height of a pixel over its width, 1 where nothing is said of it."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        numbers = file.get(name)
        if numbers is None or isinstance(numbers, str) or len(numbers) != 2:
            continue
        height, width = (float(number or 0) for number in numbers)
        if not min(height, width) > 0:  # some devices write 0 for a spacing they do not know
            continue
        if not 0.25 < height / width < 4:
            raise UnusableImage("pixels are not square, by more than a factor of 4")
        return height / width
    return 1.0


def _syntax_without_meta(library, file) -> str:
    """Return the transfer syntax of a file that does not state it: it must be uncompressed."""
    is_implicit, is_little = file.original_encoding
    if is_implicit:
        return library.uid.ImplicitVRLittleEndian
    return library.uid.ExplicitVRLittleEndian if is_little else library.uid.ExplicitVRBigEndian


def _of_colours(colours: np.ndarray, inverted: bool) -> np.ndarray:
    """Return the grey values of a picture stored in colour, whose content must be grey."""
    difference = colours.max(-1).astype(int) - colours.min(-1)
    if (difference > _GREY_DIFFERENCE).mean() > _COLOURED_SHARE:
        raise UnusableImage("colour image")
    values = colours.mean(-1, dtype=np.float32)
    return 255 - values if inverted else values


def _without_padding(file, stored: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the values with padding as dark as the darkest pixel of the image."""
    ends = [file.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if stored.dtype.kind not in "iu" or not isinstance(ends[0], int):
        return values
    # a sign may be lost in a file whose value has the wrong type
    low, high = sorted(
        int(np.array(end if isinstance(end, int) else ends[0]).astype(stored.dtype)) for end in ends
    )
    is_padding = (stored >= low) & (stored <= high)
    if is_padding.all() or not is_padding.any():
        return values
    return np.where(is_padding, values[~is_padding].min(), values)
