"""The package pydicom, set up for files as hospitals export them, and what a DICOM file looks like.

In: nothing, a file's first bytes, a tag. Out: the module pydicom, a reason. Raises `InputError`
where it is not installed.
"""

import re
import warnings
from types import ModuleType

from helpers.core import errors

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


def pydicom() -> ModuleType:
    """Return the module pydicom, which reads odd values without a warning.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pydicom
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
