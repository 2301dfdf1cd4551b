"""The chunks of a cohort: what each is made of, whether it is on disk, what is in it.

In: a manifest, its source rows; the chunks' folder. Out: tasks for `make_chunk.make`; facts and
images of chunks that were made. Raises nothing of its own.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import manifest_schema
from helpers.data.make_chunk import Task, images_sha256
from helpers.data.synthetic import generators
from helpers.data.tables import layouts

IMAGES_PER_CHUNK, VOLUMES_PER_CHUNK = 256, 8  # at most
BYTES_PER_CHUNK = 16 * 2**20  # of images, as far as that is at least `FEWEST_PER_CHUNK`
FEWEST_PER_CHUNK, CHUNKS_WANTED = 16, 32  # so many chunks, for as many cores to share


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
            Task(number, options, rows_of_block.to_dict("records"), block=blocks[number])
            for number, rows_of_block in rows.groupby("block")
        ]
    if manifest.layout.kind == "parquet_images":
        rows_of_chunks = [chunk for _, chunk in rows.groupby(["file", "row_group"], sort=False)]
    else:
        n = VOLUMES_PER_CHUNK if manifest.volume else _images_per_chunk(options, len(rows))
        rows_of_chunks = [rows.iloc[first : first + n] for first in range(0, len(rows), n)]
    image_column = getattr(manifest.layout, "image_column", None)
    return [
        Task(number, options, chunk.to_dict("records"), root=root, image_column=image_column)
        for number, chunk in enumerate(rows_of_chunks)
    ]


def _images_per_chunk(options: dict, n_images: int) -> int:
    """Return how many images make a chunk: each chunk costs some milliseconds more."""
    by_size = BYTES_PER_CHUNK // options["image_px"] ** 2
    most = min(IMAGES_PER_CHUNK, n_images // CHUNKS_WANTED, by_size)
    return max(min(FEWEST_PER_CHUNK, IMAGES_PER_CHUNK), most)


def is_made(folder: Path, task: Task) -> bool:
    """Return whether a chunk is whole: its facts fit its rows, and its images are those that were
    made.
    """
    if not (folder / f"{task.number}.json").exists():
        return False
    try:
        stored = _stored(folder, task.number)
        is_whole = stored["row"] == [row["row"] for row in task.rows]
        is_whole &= stored["images_sha256"] == images_sha256(images(folder, task.number))
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        print(f"Chunk {folder.parent.name}/{folder.name}/{task.number} is damaged: made again.")
    return is_whole


def facts(folder: Path, tasks: list[Task]) -> pd.DataFrame:
    """Return what was noticed of the images of chunks, a row each.

    Returns:
        row (of the source); sha256; pixels_sha256, of the picture whatever its file ("" where it
        cannot be used); reason, why it cannot be used, else missing; is_nearly_uniform (before its
        contrast was spread); is_constant (of one grey value); chunk; index_in_chunk.
    """
    columns = {}
    for number in (task.number for task in tasks):
        stored = _stored(folder, number)
        n = len(stored["row"])
        for name, values in (stored | {"chunk": [number] * n, "index_in_chunk": range(n)}).items():
            columns.setdefault(name, []).extend(values)
    del columns["images_sha256"]
    return pd.DataFrame(columns).astype({"reason": object})


def _stored(folder: Path, number: int) -> dict:
    """Return the facts of a chunk as columns, and the hash of its images."""
    return json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))


def images(folder: Path, number: int) -> np.ndarray:
    """Return a chunk's images, memory-mapped."""
    return np.load(folder / f"{number}.npy", mmap_mode="r")
