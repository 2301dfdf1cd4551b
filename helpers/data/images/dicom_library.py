"""The package pydicom, set up for files as hospitals export them, and what a DICOM file looks like.

In: nothing, a file's first bytes, a tag. Out: the module pydicom, a reason. Raises `InputError`
where it is not installed.
"""

import re
import warnings
import zlib
from types import ModuleType
from typing import BinaryIO

from helpers.core import errors

_DEFLATED = "1.2.840.10008.1.2.1.99"
HEAD_BYTES = 132  # of a file, enough for `is_dicom`
# a file without the preamble begins with group 0002 or 0008; no other image format does
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def is_dicom(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is DICOM, with or without a preamble."""
    return head[128:132] == b"DICM" or head[:2] in _FIRST_GROUPS and head[3:4] == b"\x00"


def without_image(modality: object) -> str:
    """Return the reason of a file without an image.

    Args:
        modality: the tag; where it is no code, as in a damaged file, it may hold other tags' text.
    """
    code = str(modality or "").strip(" \0")
    is_code = re.fullmatch(r"[A-Z0-9_]{1,16}", code)
    return f"DICOM file without an image ({code if is_code else 'modality not said'})"


def inflates_beyond(stream: BinaryIO, most: int) -> bool:
    """Return whether a DICOM file is deflated, and longer than so many bytes when inflated; no more
    than these are inflated. The stream is at its start afterwards.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(HEAD_BYTES if head[128:] == b"DICM" else 0)
    meta = pydicom().filereader.read_dataset(
        stream, False, True, stop_when=lambda tag, *_: tag.group != 2
    )
    is_longer = False
    if str(meta.get("TransferSyntaxUID", "")).strip(" \0") == _DEFLATED:
        content = zlib.decompressobj(-zlib.MAX_WBITS)
        is_longer = len(content.decompress(stream.read(), most + 1)) > most
    stream.seek(0)
    return is_longer


def pydicom() -> ModuleType:
    """Return the module pydicom, which reads odd values without a warning.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pydicom
        import pydicom.filereader
        import pydicom.pixels
    except ImportError:
        errors.refuse(
            "the package pydicom, which reads DICOM files",
            "an environment without it",
            "pip install .[dicom]",
        )
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module="pydicom")
    return pydicom
