"""Make one chunk of a cohort: some images in one file, and what was noticed of each in another.

In: a `Task`, small enough to send to another process. Out: `<n>.npy` (uint8) and `<n>.parquet` in
the chunks' folder. The facts are written last and whole, so a chunk with facts is whole. An image
that cannot be used is a fact, no error. Raises `InputError` for paths outside the data root.
"""

import dataclasses
import hashlib
import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from helpers.core import files, fingerprints
from helpers.data import manifest_schema
from helpers.data.images import decode_film, decode_volume, film_pixels, image_limits
from helpers.data.synthetic import generators
from helpers.data.tables import encoded_images, layouts, read_arrays, source_files

IMAGES_PER_CHUNK, VOLUMES_PER_CHUNK = 256, 8  # at most
BYTES_PER_CHUNK = 16 * 2**20  # of images, as far as that is at least `FEWEST_PER_CHUNK`
FEWEST_PER_CHUNK, CHUNKS_WANTED = 16, 32  # so many chunks, for as many cores to share


@dataclasses.dataclass
class Task:
    """What one chunk is made of.

    number: of the chunk. options: image_px, aspect, equalise; or volume (see
    `manifest_schema.VolumeRule`). rows: source rows with the locations of their images. root: the
    data root, of files. image_column: of parquet shards. block: of drawn images, see
    `generators.blocks`.
    """

    number: int
    options: dict
    rows: pd.DataFrame
    root: Path | None = None
    image_column: str | None = None
    block: dict | None = None


def tasks(
    manifest: manifest_schema.Manifest, options: dict, root: Path | None, rows: pd.DataFrame
) -> list[Task]:
    """Return a task for each block of drawn patients, for each row group of a parquet shard, or for
    `IMAGES_PER_CHUNK` or `VOLUMES_PER_CHUNK` files.
    """
    rows = rows[
        ["row", *rows.columns.intersection([*layouts.LOCATION_COLUMNS, "mask", "inverted"])]
    ]
    if manifest.layout.kind == "synthetic":
        blocks = generators.blocks(manifest, options)
        return [
            Task(number, options, rows_of_block, block=blocks[number])
            for number, rows_of_block in rows.groupby("block")
        ]
    if manifest.layout.kind == "parquet_images":
        rows_of_chunks = [chunk for _, chunk in rows.groupby(["file", "row_group"], sort=False)]
    else:
        n = VOLUMES_PER_CHUNK if manifest.volume else _images_per_chunk(options, len(rows))
        rows_of_chunks = [rows.iloc[first : first + n] for first in range(0, len(rows), n)]
    image_column = getattr(manifest.layout, "image_column", None)
    return [
        Task(number, options, chunk, root=root, image_column=image_column)
        for number, chunk in enumerate(rows_of_chunks)
    ]


def _images_per_chunk(options: dict, n_images: int) -> int:
    """Return how many images make a chunk: each chunk costs some milliseconds more."""
    by_size = BYTES_PER_CHUNK // options["image_px"] ** 2
    most = min(IMAGES_PER_CHUNK, n_images // CHUNKS_WANTED, by_size)
    return max(min(FEWEST_PER_CHUNK, IMAGES_PER_CHUNK), most)


def is_made(folder: Path, task: Task) -> bool:
    """Return whether a chunk is whole: both files can be read and hold as many images as rows."""
    if not (folder / f"{task.number}.parquet").exists():
        return False
    try:
        n_facts, n_images = len(facts(folder, task)), len(images(folder, task.number))
    except (OSError, ValueError, EOFError, pa.ArrowException):
        n_facts = n_images = -1
    is_whole = n_facts == n_images == len(task.rows)
    if not is_whole:
        print(f"Chunk {folder.parent.name}/{folder.name}/{task.number} is damaged: made again.")
    return is_whole


def facts(folder: Path, task: Task) -> pd.DataFrame:
    """Return what was noticed of a chunk's images, a row each.

    Returns:
        row (of the source); sha256; pixels_sha256, of the picture whatever its file ("" where it
        cannot be used); reason, why it cannot be used, else missing; is_constant (of one grey
        value); is_nearly_uniform (before its contrast was spread); chunk; index_in_chunk.
    """
    return pd.read_parquet(folder / f"{task.number}.parquet")


def images(folder: Path, number: int) -> np.ndarray:
    """Return a chunk's images, memory-mapped."""
    return np.load(folder / f"{number}.npy", mmap_mode="r")


def make(folder: Path, task: Task) -> None:
    """Make one chunk. Runs in a worker; must not depend on anything but its arguments."""
    if task.block:
        chunk_images, chunk_facts = _draw(task)
    elif "volume" in task.options:
        chunk_images, chunk_facts = _decode_volumes(task)
    else:
        chunk_images, chunk_facts = _decode_films(task)
    with files.atomic_path(folder / f"{task.number}.npy") as path, open(path, "wb") as stream:
        np.save(stream, chunk_images)
    files.write_table(
        folder / f"{task.number}.parquet",
        pd.DataFrame(chunk_facts)
        .astype({"reason": object})
        .assign(chunk=task.number, index_in_chunk=range(len(chunk_facts))),
    )


def end_with_parent() -> None:
    """Let this worker end, not wait for work, when the process that started it is killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _fact(
    row: int,
    image: np.ndarray,
    sha256: str,
    pixels_sha256: str,
    reason: str | None = None,
    is_nearly_uniform: bool = False,
) -> dict:
    """Return what was noticed of one image."""
    return {
        "row": row,
        "sha256": sha256,
        "pixels_sha256": pixels_sha256,
        "reason": reason,
        "is_constant": bool(image.min() == image.max()),
        "is_nearly_uniform": is_nearly_uniform,
    }


def _draw(task: Task) -> tuple[np.ndarray, list[dict]]:
    """Return the images of a block's rows, and the facts of each; both hashes are of its pixels."""
    drawn = generators.draw_images(task.block, task.options)[task.rows["image_in_block"]]
    if volume := task.options.get("volume"):
        drawn = decode_volume.window(drawn, volume["window_hu"])
    elif task.options["equalise"]:
        drawn = np.stack([decode_film.spread(image) for image in drawn])
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in drawn]
    return drawn, [
        _fact(row, image, sha256, sha256)
        for row, image, sha256 in zip(task.rows["row"], drawn, hashes)
    ]


def _decode_films(task: Task) -> tuple[np.ndarray, list[dict]]:
    """Return the images of a chunk's rows (black where unusable), and the facts of each; one hash
    is of its file, one of its pixels.
    """
    px, aspect, equalise = (task.options[name] for name in ("image_px", "aspect", "equalise"))
    films, film_facts = np.zeros((len(task.rows), px, px), np.uint8), []
    encoded_films = encoded_images.of_rows(task.rows, task.root, task.image_column)
    rows = task.rows.to_dict("records")
    for index, (row, encoded) in enumerate(zip(rows, encoded_films)):
        sha256, pixels_sha256 = hashlib.sha256(encoded).hexdigest(), ""
        reason, is_uniform = None, False
        try:
            _refuse_other_checksum(row, sha256)
            film = decode_film.read(encoded, inverted=bool(row.get("inverted", False)))
            films[index] = decode_film.square(film, px, aspect, equalise)
            pixels_sha256 = film_pixels.pixels_sha256(film)
            is_uniform = film_pixels.is_nearly_uniform(film)
        except image_limits.UnusableImage as error:
            reason = str(error)
        film_facts.append(
            _fact(row["row"], films[index], sha256, pixels_sha256, reason, is_uniform)
        )
    return films, film_facts


def _decode_volumes(task: Task) -> tuple[np.ndarray, list[dict]]:
    """Return the volumes of a chunk's rows (black where unusable), and the facts of each; one is
    open at a time.

    Both hashes are of the scan, not of the file: one scan may come in several files that are packed
    or typed differently.
    """
    rule, volume_facts = task.options["volume"], []
    volumes = np.zeros((len(task.rows), *rule["shape"]), np.uint8)
    for index, row in enumerate(task.rows.to_dict("records")):
        reason, sha256 = None, ""
        try:
            volumes[index], sha256 = _decode_volume(task.root, row, rule)
        except image_limits.UnusableImage as error:
            reason = str(error)
        except OSError:
            reason = "volume cannot be decoded"
        volume_facts.append(_fact(row["row"], volumes[index], sha256, sha256, reason))
    return volumes, volume_facts


def _decode_volume(root: Path, row: dict, rule: dict) -> tuple[np.ndarray, str]:
    """Return a row's volume, and the hash of its scan."""
    path = encoded_images.scan(root, row)
    if "array" in row:
        return read_arrays.volume(path, row["array"], int(row["index_in_array"]), rule["shape"])
    mask = None
    if rule["mask"]:
        mask = source_files.inside(root, row["mask"]) if row["mask"] else Path("")
    if isinstance(row.get("sha256"), str):
        _refuse_other_checksum(row, fingerprints.file_hash(path))
    grid = [rule[name] for name in ("shape", "spacing_mm", "window_hu")]
    return decode_volume.decode(path, *grid, mask, tuple(rule["mask_labels"]))


def _refuse_other_checksum(row: dict, sha256: str) -> None:
    """Raise `UnusableImage` for a file that differs from the data set's checksum, if it has one."""
    checksum = row.get("sha256")
    if isinstance(checksum, str) and checksum.strip().lower() != sha256:
        raise image_limits.UnusableImage("image file differs from its checksum")
