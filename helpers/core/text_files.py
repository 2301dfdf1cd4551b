"""Text files in whatever Unicode encoding they were saved.

In: the path of a file. Out: its text, in one Unicode normal form. Raises `InputError` for what is
neither UTF-8 nor in an encoding that a byte order mark names; the message names file and line.
"""

import unicodedata
from pathlib import Path

from helpers.core import errors

_BYTE_ORDER_MARKS = {  # the longer one first: UTF-32 begins as UTF-16 does
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def encoding_of(content: bytes) -> str | None:
    """Return the encoding that a file's byte order mark names, None without one."""
    marked = (mark for mark in _BYTE_ORDER_MARKS if content.startswith(mark))
    return _BYTE_ORDER_MARKS.get(next(marked, b""))


def read(path: Path, name: str) -> str:
    """Return a file's text in the normal form NFC, without byte order marks.

    Args:
        path: of the file.
        name: how messages call it.

    Raises:
        InputError: no text in UTF-8, nor in an encoding that a byte order mark names.
    """
    content = path.read_bytes()
    encoding = encoding_of(content) or "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        errors.refuse(f"{name} to be text in UTF-8", f"{error} (line {line})", "Save it as UTF-8.")
    if "\0" in text:
        errors.refuse(
            f"{name} to be text in UTF-8",
            "zero bytes: UTF-16 without a byte order mark, or no text",
            "Save it as UTF-8.",
        )
    return unicodedata.normalize("NFC", text).replace("\ufeff", "")
