"""Make one chunk of a cohort: some images in one file, and what was noticed of each in another.

In: a `Task`, small enough to send to another process. Out: `<n>.npy` (uint8) and `<n>.json` in the
chunks' folder. The facts are written last, with the hash of the images, so a chunk whose facts fit
its images is whole. An image that cannot be used is a fact, no error. Raises `InputError` for paths
outside the data root.

A worker imports this module before its first image: what only some tasks need is imported there.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helpers.core import files, fingerprints, paths_inside
from helpers.data.images import decode_film, decode_volume, film_pixels, image_limits


@dataclasses.dataclass
class Task:
    """What one chunk is made of.

    number: of the chunk. options: image_px, aspect, equalise; or volume (see
    `manifest_schema.VolumeRule`). rows: source rows with the locations of their images, all with
    the same names. root: the data root, of files. image_column: of parquet shards. block: of drawn
    images, see `generators.blocks`.
    """

    number: int
    options: dict
    rows: list[dict]
    root: Path | None = None
    image_column: str | None = None
    block: dict | None = None


def make(folder: Path, task: Task) -> None:
    """Make one chunk. Runs in a worker; must not depend on anything but its arguments."""
    if task.block:
        chunk_images, chunk_facts = _draw(task)
    elif "volume" in task.options and "array" in task.rows[0]:
        chunk_images, chunk_facts = _cut_volumes(task)
    elif "volume" in task.options:
        chunk_images, chunk_facts = _decode_volumes(task)
    else:
        chunk_images, chunk_facts = _decode_films(task)
    path = folder / f"{task.number}.npy"
    with files.atomic_path(path, is_durable=False) as part, open(part, "wb") as stream:
        np.save(stream, chunk_images)
    is_constant = chunk_images.reshape(len(chunk_images), -1)
    is_constant = is_constant.min(1) == is_constant.max(1)
    content = {
        "images_sha256": images_sha256(chunk_images),
        "row": [row["row"] for row in task.rows],
        **{name: [fact[name] for fact in chunk_facts] for name in chunk_facts[0]},
        "is_constant": is_constant.tolist(),
    }
    path = folder / f"{task.number}.json"
    with files.atomic_path(path, is_durable=False) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def images_sha256(chunk_images: np.ndarray) -> str:
    """Return the hash of the images of a chunk, by which damage shows."""
    return hashlib.sha256(np.ascontiguousarray(chunk_images)).hexdigest()


def end_with_parent() -> None:
    """Let this worker end, not wait for work, when the process that started it is killed."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _fact(
    sha256: str, pixels_sha256: str, reason: str | None = None, is_nearly_uniform: bool = False
) -> dict:
    """Return what was noticed of one image while it was made."""
    return {
        "sha256": sha256,
        "pixels_sha256": pixels_sha256,
        "reason": reason,
        "is_nearly_uniform": is_nearly_uniform,
    }


def _draw(task: Task) -> tuple[np.ndarray, list[dict]]:
    """Return the images of a block's rows, and the facts of each; both hashes are of its pixels."""
    from helpers.data.synthetic import generators

    index = [row["image_in_block"] for row in task.rows]
    drawn = generators.draw_images(task.block, task.options)[index]
    if volume := task.options.get("volume"):
        drawn = decode_volume.window(drawn, volume["window_hu"])
    elif task.options["equalise"]:
        drawn = np.stack([decode_film.spread(image) for image in drawn])
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in drawn]
    return drawn, [_fact(sha256, sha256) for sha256 in hashes]


def _decode_films(task: Task) -> tuple[np.ndarray, list[dict]]:
    """Return the images of a chunk's rows (black where unusable), and the facts of each; one hash
    is of its file, one of its pixels.
    """
    px, aspect, equalise = (task.options[name] for name in ("image_px", "aspect", "equalise"))
    films, film_facts = np.zeros((len(task.rows), px, px), np.uint8), []
    for index, (row, encoded) in enumerate(zip(task.rows, _encoded(task))):
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
        film_facts.append(_fact(sha256, pixels_sha256, reason, is_uniform))
    return films, film_facts


def _decode_volumes(task: Task) -> tuple[np.ndarray, list[dict]]:
    """Return the volumes of a chunk's rows (black where unusable), and the facts of each; one is
    open at a time.

    Both hashes are of the scan, not of the file: one scan may come in several files that are packed
    or typed differently.
    """
    rule, volume_facts = task.options["volume"], []
    volumes = np.zeros((len(task.rows), *rule["shape"]), np.uint8)
    for index, row in enumerate(task.rows):
        path, reason, sha256 = _scan(task.root, row), None, ""
        mask = None
        if rule["mask"]:
            mask = paths_inside.inside(task.root, row["mask"]) if row["mask"] else Path("")
        try:
            if isinstance(row.get("sha256"), str):
                _refuse_other_checksum(row, fingerprints.file_hash(path))
            volumes[index], sha256 = decode_volume.decode(
                path,
                rule["shape"],
                rule["spacing_mm"],
                rule["window_hu"],
                mask,
                tuple(rule["mask_labels"]),
            )
        except image_limits.UnusableImage as error:
            reason = str(error)
        except OSError:
            reason = "volume cannot be decoded"
        volume_facts.append(_fact(sha256, sha256, reason))
    return volumes, volume_facts


def _cut_volumes(task: Task) -> tuple[np.ndarray, list[dict]]:
    """Return the volumes of rows of an npz file, and the facts of each; the hash is of all its
    voxels.
    """
    from helpers.data.tables import read_arrays

    shape, volume_facts = task.options["volume"]["shape"], []
    volumes = np.zeros((len(task.rows), *shape), np.uint8)
    for index, row in enumerate(task.rows):
        volume = _array(task.root, row)
        volumes[index] = read_arrays.volume(*volume, shape)
        sha256 = hashlib.sha256(read_arrays.voxels(*volume).tobytes()).hexdigest()
        is_constant = volumes[index].min() == volumes[index].max()
        reason = "volume has one grey value only" if is_constant else None
        volume_facts.append(_fact(sha256, sha256, reason))
    return volumes, volume_facts


def _scan(root: Path, row: dict) -> Path | list[Path]:
    """Return the path of a row's file, or the paths of the slices of its DICOM series."""
    if slices := row.get("slices"):
        return [paths_inside.inside(root, file) for file in slices.split("\n")]
    return paths_inside.inside(root, row["file"])


def _refuse_other_checksum(row: dict, sha256: str) -> None:
    """Raise `UnusableImage` for a file that differs from the data set's checksum, if it has one."""
    checksum = row.get("sha256")
    if isinstance(checksum, str) and checksum.strip().lower() != sha256:
        raise image_limits.UnusableImage("image file differs from its checksum")


def _encoded(task: Task) -> Iterator[bytes]:
    """Return what yields the encoded image of each row."""
    if "array" in task.rows[0]:
        return _from_arrays(task)
    return _from_files(task) if task.image_column is None else _from_row_group(task)


def _from_arrays(task: Task) -> Iterator[bytes]:
    """Yield the encoded image of each row of an npz file."""
    from helpers.data.tables import read_arrays

    for row in task.rows:
        yield read_arrays.film(*_array(task.root, row))


def _array(root: Path, row: dict) -> tuple[Path, str, int]:
    """Return where a row's image lies in an npz file: the file, the array, the index in it."""
    return paths_inside.inside(root, row["file"]), row["array"], int(row["index_in_array"])


def _from_files(task: Task) -> Iterator[bytes]:
    """Yield the content of each row's file: empty if it cannot be read, cut if it is too large."""
    for row in task.rows:
        try:
            path = paths_inside.path_inside(task.root, row["file"])
            with open(path, "rb", buffering=0) as stream:
                # asked for the largest size, `read` would first take as much memory
                size = min(os.fstat(stream.fileno()).st_size, image_limits.MAX_BYTES)
                yield stream.read(size + 1)
        except OSError:
            yield b""


def _from_row_group(task: Task) -> Iterator[bytes]:
    """Yield the encoded image of each row of one row group, empty if there is none; a few are read
    at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows_wanted, row_in_group = {row["row_in_group"] for row in task.rows}, 0
    path = paths_inside.inside(task.root, task.rows[0]["file"])
    with pq.ParquetFile(path) as shard:
        row_group = int(task.rows[0]["row_group"])
        for batch in shard.iter_batches(
            batch_size=64, row_groups=[row_group], columns=[task.image_column]
        ):
            column = batch.column(0)
            column = column.field("bytes") if pa.types.is_struct(column.type) else column
            for value in column:
                if row_in_group in rows_wanted:
                    yield value.as_py() or b""
                row_in_group += 1
