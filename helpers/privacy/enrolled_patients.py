"""Training patients as the privacy register knows them: salted hashes of their ids and films.

In: patient ids, films as they came, films by their pixels. Out: the key of a cohort's training
patients, and what two cohorts share. Raises `InputError` for a folder that cannot be written,
damaged hashes, or a salt that is gone.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from helpers.core import errors, files

# of the salt and of what it hashes: whoever has both can test who is among the patients
PRIVATE_MODE = 0o660
SALT_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Patients:
    """The training patients of a cohort, as a register knows them.

    Attributes:
        key: SHA-256 over ids and films of all of them, in no order. Whoever knows all but one of
            the patients can test the last with it: it never goes into the weights of a private run.
        mark: of the key, with the register's salt: for those weights.
        ids, films, pixels: salted hashes, sorted, 64 bits each; `pixels` of the pictures, whatever
            files they came in (empty where an earlier version enrolled them).
    """

    key: str
    mark: str
    ids: np.ndarray
    films: np.ndarray
    pixels: np.ndarray

    def shared_with(self, other: "Patients") -> dict[str, int]:
        """Return how many "patient ids" and "films" two cohorts share; {} for none.

        A film is shared by its file or by its pixels, whichever shows more.
        """
        ids, films, pixels = (
            len(np.intersect1d(getattr(self, what), getattr(other, what), assume_unique=True))
            for what in ("ids", "films", "pixels")
        )
        counts = {"patient ids": ids, "films": max(films, pixels)}
        return {what: n for what, n in counts.items() if n}


class EnrolledPatients:
    """The salted hashes beside a register, a file for each cohort that was enrolled."""

    def __init__(self, folder: Path) -> None:
        """Open `folder`; nothing is written yet."""
        self.folder = folder

    def enrol(
        self,
        patients: Collection[str],
        films: Collection[str],
        pixels: Collection[str] | None = None,
    ) -> Patients:
        """Return a cohort's training patients, and keep their salted hashes beside the register.

        Args:
            patients: (n_images,) patient ids.
            films: (n_images,) hashes of the images as they came.
            pixels: (n_images,) hashes of their pictures; None: nobody knows them. They have no say
                in the key.

        Raises:
            InputError: the folder cannot be written, or its salt is gone.
        """
        rows = sorted(set(zip(map(str, patients), map(str, films))))
        key = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        salt = self._salt()
        ids, films = zip(*rows)
        kinds = {"patient": ids, "film": films, "pixels": () if pixels is None else pixels}
        enrolled = Patients(
            key,
            self.mark(key),
            *(
                np.unique(
                    np.array(
                        [_salted(salt, kind, str(value)) for value in set(values)], dtype=np.uint64
                    )
                )
                for kind, values in kinds.items()
            ),
        )
        earlier = self.patients(key)
        if earlier:  # of tables with and without hashes of pixels: what either of them knows
            pixels = np.union1d(earlier.pixels, enrolled.pixels)
            enrolled = dataclasses.replace(enrolled, pixels=pixels)
        if not earlier or len(enrolled.pixels) > len(earlier.pixels):
            with (
                disk_errors_said(self.folder),
                files.atomic_path(self._members_path(key), PRIVATE_MODE) as part,
                open(part, "wb") as stream,
            ):
                np.savez(
                    stream,
                    ids=enrolled.ids,
                    films=enrolled.films,
                    pixels=enrolled.pixels,
                    salted_with=_hash_of(salt),
                )
        return enrolled

    def patients(self, key: str) -> Patients | None:
        """Return the patients of a key.

        None where they were not enrolled here, or with another salt.
        """
        path = self._members_path(key)
        if not path.exists():
            return None
        try:
            with np.load(path) as stored:
                is_comparable = str(stored["salted_with"]) == _hash_of(self._salt())
                pixels = stored["pixels"] if "pixels" in stored else np.array([], np.uint64)
                return (
                    Patients(key, self.mark(key), stored["ids"], stored["films"], pixels)
                    if is_comparable
                    else None
                )
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            errors.refuse(
                f"salted hashes in {path}",
                "a damaged file",
                "Restore it: without it no overlap is seen.",
            )

    def mark(self, key: str) -> str:
        """Return what stands for a key in the weights of a private run.

        It tells nothing without the salt.
        """
        return hashlib.sha256(self._salt() + b"cohort\0" + key.encode()).hexdigest()

    def cohort_keys(self) -> list[str]:
        """Return the keys of all cohorts enrolled here."""
        return sorted(
            path.stem.removeprefix("patients-") for path in self.folder.glob("patients-*.npz")
        )

    def _members_path(self, key: str) -> Path:
        """Return where the salted hashes of a cohort's patients lie."""
        return self.folder / f"patients-{key}.npz"

    def _salt(self) -> bytes:
        """Return the register's salt, made with its first use.

        Of two processes that make one, the first wins.
        """
        path = self.folder / "salt"
        if not path.exists():
            if self.cohort_keys():
                errors.refuse(
                    f"the salt of the patients' hashes at {path}",
                    "nothing there",
                    "Restore it: without it no overlap is seen.",
                )
            with disk_errors_said(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                _make_salt(path)
        with disk_errors_said(self.folder):
            salt = path.read_bytes()
        if len(salt) != SALT_BYTES:
            errors.refuse(
                f"{SALT_BYTES} bytes, the salt of the patients' hashes, in {path}",
                f"{len(salt)} bytes, a damaged file",
                "Restore it from a copy: without it no overlap is seen.",
            )
        return salt


def _make_salt(path: Path) -> None:
    """Write a salt, whole and on disk, unless another process has just done so."""
    part = path.with_name(f".salt.{secrets.token_hex(8)}.part")
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE)
    try:
        os.write(handle, secrets.token_bytes(SALT_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError:  # a disk without hard links
        if not path.exists():
            os.rename(part, path)
    part.unlink(missing_ok=True)
    files.sync_folder(path.parent)


def _hash_of(salt: bytes) -> str:
    """Return what tells two salts apart."""
    return hashlib.sha256(b"salt" + salt).hexdigest()


def _salted(salt: bytes, kind: str, value: str) -> int:
    """Return 64 bits of a salted hash."""
    return int.from_bytes(
        hashlib.sha256(salt + kind.encode() + b"\0" + value.encode()).digest()[:8], "big"
    )


@contextlib.contextmanager
def disk_errors_said(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into a message."""
    try:
        yield
    except OSError as error:
        errors.refuse(
            f"a privacy register in {folder}",
            str(error),
            "Make the folder writable, or let PRIVACY_REGISTER name another: no private step is"
            " made unregistered.",
        )
