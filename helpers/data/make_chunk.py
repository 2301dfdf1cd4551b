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
from pathlib import Path

import numpy as np

from helpers.core import files, fingerprints, paths_inside
from helpers.data.images import decode_film, decode_volume, film_pixels, image_limits
from helpers.data.tables import encoded_images


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
    encoded_films = encoded_images.of_rows(task.rows, task.root, task.image_column)
    for index, (row, encoded) in enumerate(zip(task.rows, encoded_films)):
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
        reason, sha256 = None, ""
        try:
            volumes[index], sha256 = _decode_volume(task.root, row, rule)
        except image_limits.UnusableImage as error:
            reason = str(error)
        except OSError:
            reason = "volume cannot be decoded"
        volume_facts.append(_fact(sha256, sha256, reason))
    return volumes, volume_facts


def _decode_volume(root: Path, row: dict, rule: dict) -> tuple[np.ndarray, str]:
    """Return a row's volume, and the hash of its scan."""
    path = encoded_images.scan(root, row)
    if "array" in row:
        from helpers.data.tables import read_arrays

        return read_arrays.volume(path, row["array"], int(row["index_in_array"]), rule["shape"])
    mask = None
    if rule["mask"]:
        mask = paths_inside.inside(root, row["mask"]) if row["mask"] else Path("")
    if isinstance(row.get("sha256"), str):
        _refuse_other_checksum(row, fingerprints.file_hash(path))
    grid = [rule[name] for name in ("shape", "spacing_mm", "window_hu")]
    return decode_volume.decode(path, *grid, mask, tuple(rule["mask_labels"]))


def _refuse_other_checksum(row: dict, sha256: str) -> None:
    """Raise `UnusableImage` for a file that differs from the data set's checksum, if it has one."""
    checksum = row.get("sha256")
    if isinstance(checksum, str) and checksum.strip().lower() != sha256:
        raise image_limits.UnusableImage("image file differs from its checksum")
