"""Images and labels in one npz file, as MedMNIST's: arrays `<prefix>_images` and `<prefix>_labels`.

In: the path of the npz file, the prefixes. Out: a row an image (split, number, label_0, ...), where
its image lies, and the image itself. Raises `InputError` for files that are no npz file, for arrays
that are absent, of another length or of another form than images of 8 or 16 bit or volumes of 8;
`UnusableImage` for a volume of one grey value.

An array is decompressed as a whole, and the last one is kept: its size is the memory needed.
"""

import functools
import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers.core import errors
from helpers.data.images.image_limits import UnusableImage
from helpers.data.tables import source_text

CHANNELS = (1, 3)


def read(path: Path, prefixes: list[str], are_volumes: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the labels of all images as a table, and the location of each image.

    Args:
        path: of the npz file.
        prefixes: of the names of its arrays, such as train, val, test.
        are_volumes: each image has a depth, so that three dimensions are no colours.

    Returns:
        raw: one row an image, all text: `split` (the prefix), `number` (in its array, from 0),
            `label_0`, `label_1`, ...
        locations: `array` (its name) and `index_in_array`; same index.

    Raises:
        InputError: see the module.
    """
    tables, locations = [], []
    for prefix in prefixes:
        images = _array(path, f"{prefix}_images")
        _refuse_other_form(path, f"{prefix}_images", images, are_volumes)
        labels = _array(path, f"{prefix}_labels")
        if len(images) != len(labels):
            errors.refuse(
                f"as many rows in {prefix}_labels as in {prefix}_images of {path.name}",
                f"{len(labels):,} and {len(images):,}",
                "Download the file again.",
            )
        if not len(images):
            errors.refuse(
                f"images in {prefix}_images of {path.name}",
                "none",
                f"Leave {prefix!r} out of `layout.prefixes` in the manifest.",
            )
        labels = labels.reshape(len(labels), -1)
        cells = {f"label_{k}": _as_text(labels[:, k]) for k in range(labels.shape[1])}
        numbers = range(len(images))
        tables.append(pd.DataFrame({"split": prefix, "number": map(str, numbers)} | cells))
        locations.append(pd.DataFrame({"array": f"{prefix}_images", "index_in_array": numbers}))
    return (
        pd.concat(tables, ignore_index=True).fillna(""),
        pd.concat(locations, ignore_index=True),
    )


def _as_text(labels: np.ndarray) -> list[str]:
    """Return one label an image as text: numbers with all their digits, truth values as 1 and 0."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind == "b":
        labels = labels.astype(int)
    return source_text.as_text(pd.Series(labels)).tolist()


def film(path: Path, array: str, index: int) -> bytes:
    """Return one image as the bytes of a BMP file (8 bit) or TIFF file (16 bit), without loss.

    Args:
        path: of the npz file.
        array: name of the array of images.
        index: of the image in it.
    """
    image, stream = _array(path, array)[index], io.BytesIO()
    grey_or_colours = image[..., 0] if image.shape[-1] == 1 and image.ndim == 3 else image
    Image.fromarray(grey_or_colours).save(stream, "BMP" if image.dtype == np.uint8 else "TIFF")
    return stream.getvalue()


def volume(
    path: Path, array: str, index: int, shape: tuple[int, int, int]
) -> tuple[np.ndarray, str]:
    """Return one volume of 8 bit, cropped or padded with 0 around its middle.

    Args:
        path: of the npz file.
        array: name of the array of volumes.
        index: of the volume in it.
        shape: depth, height, width in voxels, of the spacing that the file has.

    Returns:
        uint8 of that shape, with grey values and spacing as they are; the SHA-256 of all voxels.

    Raises:
        UnusableImage: of one grey value only.
    """
    whole = _array(path, array)[index]
    first = [max(0, (have - want) // 2) for have, want in zip(whole.shape, shape)]
    cropped = whole[tuple(slice(low, low + want) for low, want in zip(first, shape))]
    missing = [want - have for have, want in zip(cropped.shape, shape)]
    if cropped.min() == cropped.max():
        raise UnusableImage("volume of one grey value only")
    sha256 = hashlib.sha256(repr(whole.shape).encode() + whole.tobytes()).hexdigest()
    return np.pad(cropped, [(n // 2, n - n // 2) for n in missing]), sha256


def _array(path: Path, name: str) -> np.ndarray:
    """Return an array of an npz file."""
    status = path.stat()
    return _loaded(path, name, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)  # images and labels; a changed file is read again
def _loaded(path: Path, name: str, mtime_ns: int, n_bytes: int) -> np.ndarray:
    """Return an array of an npz file that was not changed since."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if name not in arrays:
                errors.refuse(
                    f"an array {name} in {path.name}",
                    errors.examples(sorted(arrays), 12),
                    "Correct `layout.prefixes` in the manifest.",
                )
            return np.atleast_1d(arrays[name])
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, TypeError) as error:
        if isinstance(error, errors.InputError):
            raise
        errors.refuse(f"{path.name} to be a whole npz file", str(error), "Download it again.")


def _refuse_other_form(path: Path, name: str, images: np.ndarray, are_volumes: bool) -> None:
    """Accept arrays of images of 8 or 16 bit, or of volumes of 8 bit."""
    if are_volumes:
        form, is_right = "volumes (n, depth, height, width) of 8 bit", images.dtype == np.uint8
        is_right &= images.ndim == 4
    else:
        form = "images (n, height, width), also with 1 or 3 colours, of 8 or 16 bit"
        is_right = images.dtype in (np.uint8, np.uint16) and (
            images.ndim == 3
            or (images.ndim == 4 and images.shape[3] in CHANNELS and images.dtype == np.uint8)
        )
    if not is_right:
        errors.refuse(
            f"{form} in {name} of {path.name}",
            f"shape {images.shape}, type {images.dtype}",
            "Correct the manifest: `volume` is for volumes, `image` for images.",
        )
