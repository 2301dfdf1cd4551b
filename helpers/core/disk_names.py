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
from collections.abc import Iterable
from pathlib import Path

from helpers.core import errors

# of Windows and macOS, beside hidden files (.DS_Store, ._1.png)
_LEFT_OVERS = ("__MACOSX", "Thumbs.db", "desktop.ini")


def one_normal_form(name: str) -> str:
    """Return a name in the Unicode normal form in which names are compared, NFC."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    """Return whether a name on the disk is text; one in another encoding than UTF-8 is not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_other_encoding(names: Iterable[str], where: Path) -> None:
    """Accept names that are text.

    Raises:
        InputError: names in another encoding than UTF-8, as old archives leave them.
    """
    others = [ascii(name) for name in names if not is_text(name)]
    if others:
        errors.refuse(
            f"names of files in UTF-8 below {where}",
            f"{len(others)} in another encoding, e.g. {errors.examples(others)}",
            "Rename them (convmv does it), or unpack the archive again with its encoding.",
        )


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
    folder = Path(root)
    for name in relative.split("/"):
        folder = folder / only_one(names_in(folder), name, folder)
    return folder.relative_to(root).as_posix()


def names_in(folder: Path) -> dict[str, list[str]]:
    """Return the names in a folder by their Unicode normal form; none where it is not there."""
    try:
        return _names_then(str(folder), os.stat(folder).st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}


def only_one(names: dict[str, list[str]], name: str, folder: Path) -> str:
    """Return the one spelling of a name among those of a folder; an absent one unchanged.

    Args:
        names: from `names_in`.
        name: in whatever normal form.
        folder: for the message.

    Raises:
        InputError: two names on the disk differ in their Unicode form only.
    """
    spelt = names.get(one_normal_form(name), [name])
    if len(spelt) > 1:
        errors.refuse(
            f"names that differ in more than their Unicode form in {folder}",
            errors.examples([ascii(name) for name in spelt]),
            "Rename or remove one of them.",
        )
    return spelt[0]


@functools.lru_cache(maxsize=1000)
def _names_then(folder: str, changed_ns: int) -> dict[str, list[str]]:
    """Return the names in a folder by their Unicode normal form, as the folder was at a time."""
    names = {}
    for name in os.listdir(folder):
        names.setdefault(one_normal_form(name), []).append(name)
    return names
