"""Relative paths that stay inside a root, as tables and manifests give them.

In: a root, relative paths written with "/". Out: paths on this disk. Raises `InputError` for paths
that leave the root, also by a link.
"""

import functools
import os
import re
from pathlib import Path

from helpers.core import disk_names, errors


def stay_inside(path: str) -> str:
    """Return a relative path that names something under its root.

    Raises:
        ValueError: absolute, or contains `..`; says what it must be.
    """
    if (
        not path
        or path.startswith(("/", "~"))
        or "\\" in path
        or "\0" in path
        or re.match(r"[A-Za-z]:", path)
        or ".." in path.split("/")
    ):
        raise ValueError(
            "must be a path under the data root, written with '/': not absolute, no '..'"
        )
    return path


def inside(root: Path, relative: str) -> Path:
    """Return `root / relative`, which must not leave the root, also not through links.

    Raises:
        InputError: see `path_inside`.
    """
    return Path(path_inside(root, relative))


def path_inside(root: Path, relative: str) -> str:
    """Return the same as `inside` as text: a path object costs more than a look at the file.

    Raises:
        InputError: absolute, contains `..`, or leads out of the root by a link.
    """
    try:
        stay_inside(relative)
    except ValueError as error:
        errors.refuse(
            "paths under the data root",
            repr(relative),
            f"A path {error}. Correct the table or manifest.",
        )
    path = os.path.join(root, relative)
    if not relative.isascii() and not os.path.lexists(path):
        path = os.path.join(root, disk_names.name_on_disk(root, relative))
    if not _is_in_known_folder(path, str(root)) and not os.path.realpath(path).startswith(
        os.path.realpath(root) + os.sep
    ):
        errors.refuse(
            "paths under the data root",
            f"{relative!r}, a link that leaves it",
            "Copy the file into the data root, or set the data root to the folder that holds it"
            " all.",
        )
    return path


def _is_in_known_folder(path: str, root: str) -> bool:
    """Return whether a path that is no link lies in a folder within the root: one look for each
    file, where links anywhere on its way would take one for each folder above.
    """
    folder = _real_folder(os.path.dirname(path)) + os.sep
    return folder.startswith(_real_folder(root) + os.sep) and not os.path.islink(path)


@functools.lru_cache(maxsize=10_000)
def _real_folder(folder: str) -> str:
    """Return a folder's path without links; remembered until `forget_folders`."""
    return os.path.realpath(folder)


def forget_folders() -> None:
    """Look at folders anew: one may have become a link."""
    _real_folder.cache_clear()
