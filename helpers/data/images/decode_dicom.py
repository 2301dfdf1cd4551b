"""One DICOM radiograph in, its grey values out, as they are shown: bright = dense.

In: the bytes of a DICOM file of one frame, 8 to 32 bit, in any transfer syntax that pydicom and
pylibjpeg decode. Out: (rows, columns) float32. Raises `UnusableImage`, with a reason that can be
counted, for files without an image, of several frames, in colour, too large, damaged, or in a
transfer syntax without a decoder; `InputError` where pydicom is not installed. No tag but those
that say how the values are stored and shown is read.
"""

import io
import re
import zlib

import numpy as np

from helpers.data.images import dicom_library
from helpers.data.images.image_limits import MAX_BYTES, MAX_PIXELS, UnusableImage

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_JPEG, _END_OF_JPEG = "1.2.840.10008.1.2.4.", b"\xff\xd9"  # 50 to 81; JPEG 2000 begins at 90
# of a colour picture whose content is grey: how far red, green and blue differ, and where they may
_GREY_DIFFERENCE, _COLOURED_SHARE = 16, 0.01


def grey(encoded: bytes, inverted: bool = False) -> np.ndarray:
    """Return the grey values of a radiograph, as a viewer would show them at first.

    In DICOM's order: stored values, modality LUT or rescale, VOI LUT or window, inversion of
    MONOCHROME1. Of several windows the first counts; one that leaves a single value is ignored, as
    is a damaged one. Padding becomes black.

    Args:
        encoded: content of the DICOM file.
        inverted: a table says that high values mean dark. The file's own MONOCHROME1 says the
            same: an image is inverted once, whoever says so.

    Returns:
        (rows, columns) float32; of 0 to 1 with a window, else in the unit of the rescale.

    Raises:
        UnusableImage, InputError: see the module.
    """
    library = dicom_library.pydicom()
    try:
        file = _read(library, encoded)
        stored = _decompressed(library, file)
        if stored.ndim == 3:
            return _of_colours(stored, inverted)
        values = _rescaled(file, stored)
        values = _shown(file, values)
        if inverted or file.PhotometricInterpretation == "MONOCHROME1":
            values = values.max() + values.min() - values
        return _without_padding(file, stored, values)
    except UnusableImage:
        raise
    except Exception:  # a damaged file can raise almost anything
        raise UnusableImage("image cannot be decoded") from None


def _read(library, encoded: bytes):
    """Return the tags of a file, after what they say of its size is checked."""
    _refuse_inflation(encoded)
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


def _refuse_inflation(encoded: bytes) -> None:
    """Refuse a deflated file whose content is larger than a file may be, before it is inflated."""
    if _DEFLATED not in encoded[:1024]:
        return
    begins = 144 + int.from_bytes(encoded[140:144], "little")  # after the header's stated length
    content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded[begins:], MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UnusableImage("image file too large")


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
    stored = library.pixels.pixel_array(file)
    if file.PhotometricInterpretation == "PALETTE COLOR":
        colours = library.pixels.apply_color_lut(stored, file)
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    return stored


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


def _rescaled(file, stored: np.ndarray) -> np.ndarray:
    """Return the stored values after the modality LUT, or the rescale."""
    if tables := file.get("ModalityLUTSequence"):
        return _looked_up(stored, tables[0], file.original_encoding[1])
    slope, intercept = (
        _first_number(file.get(name), otherwise)
        for name, otherwise in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    return stored.astype(np.float32) * np.float32(slope or 1) + np.float32(intercept)


def _shown(file, values: np.ndarray) -> np.ndarray:
    """Return the values after the first VOI LUT or window, unless it leaves one value."""
    shown = None
    if tables := file.get("VOILUTSequence"):
        shown = _looked_up(np.rint(values).astype(np.int64), tables[0], file.original_encoding[1])
    else:
        centre, width = (
            _first_number(file.get(name), np.nan) for name in ("WindowCenter", "WindowWidth")
        )
        function = str(file.get("VOILUTFunction") or "LINEAR").strip().upper()
        if np.isfinite(centre) and width >= (1 if function == "LINEAR" else 1e-6):
            shown = window(values, centre, width, function)
    return values if shown is None or shown.min() == shown.max() else shown


def window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Return values from 0 to 1 by a window.

    Args:
        values: float32, any shape.
        centre, width: in the unit of `values`; a width of at least 1 for LINEAR, above 0 else.
        function: LINEAR, LINEAR_EXACT or SIGMOID; any other counts as LINEAR.

    Source: DICOM PS3.3 C.11.2.1.2.1, C.11.2.1.3.
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - np.float32(centre)) / width, -80, 80)))
    if function != "LINEAR_EXACT":
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return np.clip((values - np.float32(centre)) / np.float32(width) + np.float32(0.5), 0, 1)


def _looked_up(values: np.ndarray, table, is_little_endian: bool) -> np.ndarray:
    """Return the entries of a look-up table; values beyond its ends have the entry at the end.

    pydicom's own function counts in the type of the entries, so tables of 8 bit wrap around.
    """
    n_entries, first, _ = (int(number) for number in table.LUTDescriptor)
    n_entries = n_entries or 2**16
    if first > 2**15 - 1 and values.min() < 0:  # a negative number, stored as if unsigned
        first -= 2**16
    entries = table.LUTData
    if isinstance(entries, bytes):
        words = "<u2" if is_little_endian else ">u2"
        entries = np.frombuffer(entries, words if len(entries) >= 2 * n_entries else np.uint8)
    entries = np.asarray(entries, np.float32)[:n_entries]
    return entries[np.clip(values.astype(np.int64) - first, 0, len(entries) - 1)]


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


def _first_number(value: object, otherwise: float) -> float:
    """Return a tag's value, the first of several; `otherwise` where it is blank or no number."""
    try:
        return float(value[0] if hasattr(value, "__getitem__") else value)
    except (TypeError, ValueError, IndexError):
        return float(otherwise)
