"""Fetch the files of open data sets, by checksum, into the data root.

In: a manifest with `download`, a data root. Out: its files there, archives unpacked. Raises
`InputError` for a data set that may not be fetched by everybody, a file that cannot be fetched or
is not the one meant, an archive that `archives` refuses. What lies in the data root is never
overwritten.

A file is whole when it is named: it is written beside, compared with its checksum, then moved. What
was fetched of it stays in `.downloads` and is gone on with.
"""

import filecmp
import shutil
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO

import pooch
import urllib3

from helpers.core import errors, files, machine, progress
from helpers.data import manifest_schema
from helpers.data.first_look import archives
from helpers.data.tables import source_files

STORE = ".downloads"  # below the data root
TIMEOUT_SECONDS = 60


def fetch(manifest: manifest_schema.Manifest, root: Path) -> list[str]:
    """Fetch what is not there yet, and return a sentence for each file.

    Args:
        manifest: with `download`.
        root: the data root; made if it is not there.

    Raises:
        InputError: see the module.
    """
    how = f"How to get it: {' '.join(manifest.how_to_get.split())}"
    if manifest.access != "open":
        errors.refuse(
            f"an open data set for --download, or files of {manifest.name} that you have",
            f"access: {manifest.access}",
            how,
        )
    if not manifest.download:
        errors.refuse(f"`download` in the manifest of {manifest.name}", "none", how)
    with source_files.readable():
        (root / STORE).mkdir(parents=True, exist_ok=True)
        return [_fetch_one(entry, root) for entry in manifest.download]


def _fetch_one(entry: manifest_schema.Download, root: Path) -> str:
    """Fetch one file, unless it is there; return what was done."""
    algorithm, _, digest = entry.checksum.partition(":")
    # paths of an archive's files are looked at one by one, and `to` may be the root itself
    target = root if entry.unpack else source_files.inside(root, entry.to)
    listing = root / STORE / f"{digest}.json"
    if _is_there(entry, target, listing, root):
        return f"{entry.to}: there"
    if not entry.unpack and target.exists():
        errors.refuse(
            f"no other file at {target}",
            "one of another checksum",
            "Move it away, or keep it and leave out --download.",
        )
    machine.refuse_full_disk(root, _bytes_needed(entry, root / STORE, digest), entry.to)
    pooch.get_logger().setLevel("WARNING")  # what is done is said by us
    name = f"{digest}.whole"
    try:
        pooch.retrieve(
            entry.url,
            known_hash=entry.checksum,
            fname=name,
            path=root / STORE,
            downloader=Resumed(root / STORE / f"{digest}.part", entry.max_bytes),
        )
    except ValueError as error:
        if isinstance(error, errors.InputError):
            raise
        errors.refuse(
            f"the file of {entry.url} to have the {algorithm} of the manifest",
            "another",
            "It was removed. The publisher may have changed it: see how_to_get.",
        )
    except (OSError, urllib3.exceptions.HTTPError) as error:  # requests' are OSErrors
        errors.refuse(
            f"to fetch {entry.url}",
            f"{type(error).__name__}: {error}",
            "Give the same command again: it goes on where it was.",
        )
    whole = root / STORE / name
    if not entry.unpack:
        target.parent.mkdir(parents=True, exist_ok=True)
        whole.replace(target)
        return f"{entry.to}: fetched"
    n_files = _unpack(whole, root, listing, entry)
    return f"{entry.to}: {n_files:,} files fetched"


def _is_there(entry: manifest_schema.Download, target: Path, listing: Path, root: Path) -> bool:
    """Return whether the file, or all files of the archive, are there and whole."""
    if not entry.unpack:
        return (
            target.is_file()
            and pooch.file_hash(str(target), alg=entry.checksum.partition(":")[0])
            == entry.checksum.partition(":")[2]
        )
    if not listing.exists():
        return False
    sizes = files.read_json(listing, "Remove the file.")
    return all(
        (path := source_files.inside(root, f"{entry.to}/{name}")).is_file()
        and path.stat().st_size == size
        for name, size in sizes.items()
    )


def _unpack(archive: Path, root: Path, listing: Path, entry: manifest_schema.Download) -> int:
    """Unpack beside the target, move all files into place, return how many; the archive goes."""
    folder = archive.with_suffix(".unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        names = archives.unpack(archive, folder, entry.max_bytes)
        sizes = {name: (folder / name).stat().st_size for name in names}
        targets = {name: source_files.inside(root, f"{entry.to}/{name}") for name in names}
        for name, target in targets.items():
            _refuse_other_file(folder / name, target)
        for name, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / name).replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    files.write_json(listing, sizes)
    archive.unlink()
    return len(names)


def _refuse_other_file(new: Path, there: Path) -> None:
    """Accept a place that is free, or has the same file.

    Raises:
        InputError: another file is there, or a link.
    """
    if there.is_symlink() or there.exists() and not filecmp.cmp(new, there, shallow=False):
        errors.refuse(f"no other file at {there}", "one", "Move it away, or leave out --download.")


def _bytes_needed(entry: manifest_schema.Download, store: Path, digest: str) -> int:
    """Return how many bytes a file may still take: what is not fetched yet, and, beside an archive,
    its content.
    """
    there = [store / f"{digest}.{state}" for state in ("whole", "part")]
    n_there = max(path.stat().st_size if path.exists() else 0 for path in there)
    rest = 0 if there[0].exists() else max(entry.max_bytes - n_there, 0)
    return rest + (entry.max_bytes if entry.unpack else 0)


class Resumed:
    """A downloader for pooch that goes on with what is in a part file.

    Call it with a URL (http, https or file) and where the whole file is to lie.
    """

    def __init__(self, part: Path, max_bytes: int):
        """Name the part file, and the most bytes it may have."""
        self.part, self.max_bytes = part, max_bytes

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Fetch the rest of a file, and move it to `output_file`.

        Raises:
            InputError: it has more bytes than allowed, or a URL of another kind.
        """
        had = self.part.stat().st_size if self.part.exists() else 0
        stream, had, total = _open(url, had)
        if had:
            print(f"{url}: {had:,} bytes were there", flush=True)
        label = urllib.parse.urlsplit(url).path.rpartition("/")[2]
        with stream, open(self.part, "ab" if had else "wb") as file:
            bar = progress.progress(total, label, had)
            while piece := stream.read(archives.CHUNK_BYTES):
                had += len(piece)
                if had > self.max_bytes:
                    file.close()
                    self.part.unlink()
                    errors.refuse(
                        f"at most {self.max_bytes:,} bytes from {url}", "more", "Do not use it."
                    )
                file.write(piece)
                bar.update(len(piece))
            bar.close()
        if total and had < total:
            raise ConnectionError(f"{had:,} of {total:,} bytes came")
        self.part.replace(output_file)


def _open(url: str, had: int) -> tuple[BinaryIO, int, int]:
    """Return a stream of the rest of a file, how much of it is had, and its size (0: not said)."""
    kind = urllib.parse.urlsplit(url).scheme
    if kind == "file":
        path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
        stream, size = path.open("rb"), path.stat().st_size
        had = had if had <= size else 0
        stream.seek(had)
        return stream, had, size
    if kind not in ("http", "https"):
        errors.refuse("a URL with https", repr(url), "Correct `download` in the manifest.")
    import requests  # pooch needs it

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    answer = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
    if answer.status_code == 416:  # the part is as long as the file
        return _open(url, 0)
    answer.raise_for_status()
    had = had if answer.status_code == 206 else 0
    length = int(answer.headers.get("Content-Length", 0))
    return answer.raw, had, had + length if length else 0
