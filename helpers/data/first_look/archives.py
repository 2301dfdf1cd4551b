"""Unpack an archive that was fetched: regular files only, none outside its folder, none too large.

In: a .zip or .tar (.tar.gz, .tgz, .tar.bz2, .tar.xz), an empty folder. Out: the files in it. Raises
`InputError` for an archive that is damaged or cut, for a member that is a link or device, whose
path is absolute or contains `..`, that is there twice, and for more content than allowed, declared
or real.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path
from typing import BinaryIO

from helpers.core import errors
from helpers.core.paths_inside import stay_inside

CHUNK_BYTES = 1 << 20
MOST_MEMBERS = 2_000_000
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
)


def unpack(archive: Path, folder: Path, max_bytes: int) -> list[str]:
    """Unpack an archive into a folder, and return its files' paths relative to it.

    Args:
        archive: its kind follows from its content, not from its name.
        folder: where nothing lies yet.
        max_bytes: of the content; what a member says of itself is checked and what it holds.

    Raises:
        InputError: see the module; what was unpacked so far is left to the caller to remove.
    """
    opened = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    paths, left = [], max_bytes
    try:
        for name, declared, stream in opened(archive):
            path = _safe(name, archive, folder)
            if declared > left or len(paths) >= MOST_MEMBERS:
                _refuse_size(archive, max_bytes)
            path.parent.mkdir(parents=True, exist_ok=True)
            with stream, open(path, "xb") as file:
                left -= _copy(stream, file, left, archive, max_bytes)
            paths.append(path.relative_to(folder).as_posix())
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        errors.refuse(f"each member of {archive.name} once", error.filename, "Do not use it.")
    except errors.InputError:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno:  # no space, no permission
            raise
        errors.refuse(
            f"{archive.name} to be a whole .zip or .tar archive", str(error), "Fetch it again."
        )
    return paths


def _zip_members(archive: Path) -> Iterator[tuple[str, int, BinaryIO]]:
    """Yield name, declared size and stream of each file of a zip archive."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = member.external_attr >> 28  # of Unix: 8 a regular file, 4 a folder, 0 not said
            if kind not in (0, 4, 8):
                _refuse_kind(member.filename, archive)
            if not member.is_dir():
                yield member.filename, member.file_size, opened.open(member)


def _tar_members(archive: Path) -> Iterator[tuple[str, int, BinaryIO]]:
    """Yield name, declared size and stream of each file of a tar archive."""
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            if member.isreg():
                yield member.name, member.size, opened.extractfile(member)
            elif not member.isdir():
                _refuse_kind(member.name, archive)


def _safe(name: str, archive: Path, folder: Path) -> Path:
    """Return where a member goes.

    Raises:
        InputError: outside the folder.
    """
    try:
        return folder / stay_inside(name)
    except ValueError as error:
        errors.refuse(f"paths inside {archive.name}", repr(name), f"A path {error}. Do not use it.")


def _copy(stream: BinaryIO, file: BinaryIO, left: int, archive: Path, max_bytes: int) -> int:
    """Copy a member in pieces, and return its size.

    Raises:
        InputError: it holds more than is left.
    """
    size = 0
    while piece := stream.read(CHUNK_BYTES):
        size += len(piece)
        if size > left:
            _refuse_size(archive, max_bytes)
        file.write(piece)
    return size


def _refuse_size(archive: Path, max_bytes: int) -> None:
    """Refuse more content than allowed."""
    errors.refuse(
        f"at most {max_bytes:,} bytes in {archive.name}",
        "more",
        "Do not use it, or correct `max_bytes` in the manifest.",
    )


def _refuse_kind(name: str, archive: Path) -> None:
    """Refuse a link or a device."""
    errors.refuse(
        f"files and folders in {archive.name}", f"{name!r}, a link or device", "Do not use it."
    )
