"""Names of files as a disk spells them.

In: names as tables and manifests give them. Out: the names on the disk, compared in one Unicode
normal form: macOS takes "ü" apart into a letter and dots. Raises `InputError` for two names that
differ in that form only.
"""

import functools
import glob
import os
import re
import unicodedata
from pathlib import Path

from helpers.core import errors

# of Windows and macOS, beside hidden files (.DS_Store, ._1.png)
_LEFT_OVERS = ("__MACOSX", "Thumbs.db", "desktop.ini")


def one_normal_form(name: str) -> str:
    """Return a name in the Unicode normal form in which names are compared, NFC."""
    return unicodedata.normalize("NFC", name)


def listing(pattern: str) -> str:
    """Return the glob pattern that lists all files of a template, such as "*/*.nii" for
    "{split}/{name}.nii"; names that are not ASCII may be spelt otherwise on the disk.
    """
    return "/".join(
        re.sub(r"\{[^{}]+\}", "*", glob.escape(name)) if name.isascii() else "*"
        for name in pattern.split("/")
    )


def is_left_over(name: str) -> bool:
    """Return whether a file or folder is hidden, or left there by an operating system."""
    return name.startswith(".") or name in _LEFT_OVERS


def name_on_disk(root: Path, relative: str) -> str:
    """Return a relative path as it is spelt on the disk, in whatever Unicode normal form; one that
    is not there unchanged.

    Raises:
        InputError: two names on the disk differ in their Unicode form only.
    """
    spelt = ""
    for name in relative.split("/"):
        folder = os.path.join(root, spelt)
        try:
            changed_ns = os.stat(folder).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return relative
        names = _names_in(folder, changed_ns).get(one_normal_form(name), [name])
        if len(names) > 1:
            errors.refuse(
                f"names that differ in more than their Unicode form in {folder}",
                errors.examples([ascii(name) for name in names]),
                "Rename or remove one of them.",
            )
        spelt = f"{spelt}/{names[0]}" if spelt else names[0]
    return spelt


@functools.lru_cache(maxsize=1000)
def _names_in(folder: str, changed_ns: int) -> dict[str, list[str]]:
    """Return the names in a folder by their Unicode normal form, as the folder was at a time."""
    names = {}
    for name in os.listdir(folder):
        names.setdefault(one_normal_form(name), []).append(name)
    return names
