"""Make one part of a cohort: some images in one file, and the facts found while making them in
another.

In: a `Task`, small enough to send to another process. Out: `<n>.npy` (uint8) and `<n>.parquet` in
the parts' folder. The facts are written last and whole, so a part with facts is whole. An image
that cannot be used is a fact, no error.
"""

import dataclasses
import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.core import errors, files, fingerprints
from helpers.data import decode_film, decode_volume, manifest_schema, manifests
from helpers.data.synthetic import abdomen_cohort, chest_cohort

IMAGES_PER_PART, VOLUMES_PER_PART = 64, 8


@dataclasses.dataclass
class Task:
    """What one part is made of.

    number: of the part. options: image_px, aspect, equalise; or volume (see
    `manifest_schema.VolumeRule`). block: arguments of a generator's `draw_block`. root, rows: data
    root and source rows, for files; parquet shards with `image_column`.
    """

    number: int
    options: dict
    block: dict | None = None
    root: Path | None = None
    rows: pd.DataFrame | None = None
    image_column: str | None = None


def generator_tasks(
    manifest: manifest_schema.Manifest, options: dict, data_root: object
) -> list[Task]:
    """Return a task for each block of patients.

    Raises:
        InputError: a data root was given, or the manifest was written for another generator.
    """
    layout, generator = manifest.layout, generator_of(manifest)
    if data_root:
        errors.refuse(
            f"no data root for {manifest.name}, which is drawn, not read",
            repr(str(data_root)),
            "Leave it out.",
        )
    if layout.generator_version != generator.GENERATOR_VERSION:
        errors.refuse(
            f"generator_version {generator.GENERATOR_VERSION} in the manifest {manifest.name}",
            layout.generator_version,
            "Use the release of the package that this manifest belongs to.",
        )
    size = (
        {name: options["volume"][name] for name in ("shape", "spacing_mm")}
        if "volume" in options
        else {"image_px": options["image_px"]}
    )
    blocks = [
        dict(
            site=layout.site,
            split=split,
            index=index,
            seed=options["generator_seed"],
            **size,
            n_patients=min(generator.BLOCK_PATIENTS, count - start),
        )
        for split, count in options["patients"].items()
        for index, start in enumerate(range(0, count, generator.BLOCK_PATIENTS))
    ]
    return [Task(number, options, block=block) for number, block in enumerate(blocks)]


def generator_of(manifest: manifest_schema.Manifest):
    """Return the module that draws a manifest's site."""
    return abdomen_cohort if manifest.volume else chest_cohort


def file_tasks(
    manifest: manifest_schema.Manifest, options: dict, root: Path, rows: pd.DataFrame
) -> list[Task]:
    """Return a task for each row group of a parquet shard, or for some image files.

    `IMAGES_PER_PART`, `VOLUMES_PER_PART`.
    """
    rows = rows[
        [
            "row",
            *rows.columns.intersection(["file", "mask", "sha256", "inverted", "group", "place"]),
        ]
    ]
    if manifest.layout.kind == "parquet_images":
        pieces = [piece for _, piece in rows.groupby(["file", "group"], sort=False)]
    else:
        n = VOLUMES_PER_PART if manifest.volume else IMAGES_PER_PART
        pieces = [rows.iloc[start : start + n] for start in range(0, len(rows), n)]
    column = getattr(manifest.layout, "image_column", None)
    return [
        Task(number, options, root=root, rows=piece, image_column=column)
        for number, piece in enumerate(pieces)
    ]


def is_made(folder: Path, task: Task) -> bool:
    """Return whether a part is whole."""
    return (folder / f"{task.number}.parquet").exists()


def facts(folder: Path, task: Task) -> pd.DataFrame:
    """Return a part's facts.

    `part`, `at` (place in it); `row`, `sha256`, `reason`, `is_constant` for files, the table for
    blocks.
    """
    return pd.read_parquet(folder / f"{task.number}.parquet")


def images(folder: Path, number: int) -> np.ndarray:
    """Return a part's images, memory-mapped."""
    return np.load(folder / f"{number}.npy", mmap_mode="r")


def make(folder: Path, task: Task) -> None:
    """Make one part. Runs in a worker; must not depend on anything but its arguments."""
    made, found = (
        _draw(task)
        if task.block
        else _read_volumes(task)
        if "volume" in task.options
        else _decode(task)
    )
    with files.atomic_path(folder / f"{task.number}.npy") as path, open(path, "wb") as stream:
        np.save(stream, made)
    files.write_table(
        folder / f"{task.number}.parquet", found.assign(part=task.number, at=range(len(found)))
    )


def end_with_parent() -> None:
    """Let this worker end when the process that started it is killed.

    Otherwise it would wait for work for ever.
    """

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _draw(task: Task) -> tuple[np.ndarray, pd.DataFrame]:
    """Return a block's images and its table with the split."""
    if volume := task.options.get("volume"):
        made, table = abdomen_cohort.draw_block(**task.block)
        return decode_volume.window(made, volume["window_hu"]), table.assign(
            split=task.block["split"]
        )
    made, table = chest_cohort.draw_block(**task.block)
    if task.options["equalise"]:
        made = np.stack([decode_film.spread(image) for image in made])
    return made, table.assign(split=task.block["split"])


def _decode(task: Task) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the images of a part's rows (black where unusable), and of each its hash, its reason
    and whether it is of one value.
    """
    px, aspect, equalise = (task.options[name] for name in ("image_px", "aspect", "equalise"))
    made, found = np.zeros((len(task.rows), px, px), np.uint8), []
    read = _from_files if task.image_column is None else _from_row_group
    for at, (row, encoded) in enumerate(zip(task.rows.to_dict("records"), read(task))):
        sha256, reason = hashlib.sha256(encoded).hexdigest(), None
        known = row.get("sha256")
        try:
            if isinstance(known, str) and known.strip().lower() != sha256:
                raise decode_film.UnusableImage("image file differs from its checksum")
            made[at] = decode_film.decode(
                encoded, px, aspect, equalise, inverted=bool(row.get("inverted", False))
            )
        except decode_film.UnusableImage as error:
            reason = str(error)
        found.append(
            {
                "row": row["row"],
                "sha256": sha256,
                "reason": reason,
                "is_constant": bool(made[at].min() == made[at].max()),
            }
        )
    return made, pd.DataFrame(found).astype({"reason": object})


def _read_volumes(task: Task) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the volumes of a part's rows (black where unusable), and of each what `_decode`
    returns; one is open at a time.

    The hash is of the scan, not of the file: one scan may come in several files that are packed or
    typed differently.
    """
    rule, found = task.options["volume"], []
    made = np.zeros((len(task.rows), *rule["shape"]), np.uint8)
    for at, row in enumerate(task.rows.to_dict("records")):
        path, reason, sha256 = manifests.inside(task.root, row["file"]), None, ""
        mask = (
            None
            if not rule["mask"]
            else manifests.inside(task.root, row["mask"])
            if row["mask"]
            else Path("")
        )
        try:
            if isinstance(
                known := row.get("sha256"), str
            ) and known.strip().lower() != fingerprints.file_hash(path):
                raise decode_film.UnusableImage("image file differs from its checksum")
            made[at], sha256 = decode_volume.decode(
                path,
                rule["shape"],
                rule["spacing_mm"],
                rule["window_hu"],
                mask,
                tuple(rule["mask_labels"]),
            )
        except decode_film.UnusableImage as error:
            reason = str(error)
        except OSError:
            reason = "volume cannot be decoded"
        found.append(
            {
                "row": row["row"],
                "sha256": sha256,
                "reason": reason,
                "is_constant": bool(made[at].min() == made[at].max()),
            }
        )
    return made, pd.DataFrame(found).astype({"reason": object})


def _from_files(task: Task) -> Iterator[bytes]:
    """Yield the content of each row's file.

    Empty where it cannot be read, cut where it is too large.
    """
    for file in task.rows["file"]:
        try:
            with open(manifests.inside(task.root, file), "rb") as stream:
                yield stream.read(decode_film.MAX_BYTES + 1)
        except OSError:
            yield b""


def _from_row_group(task: Task) -> Iterator[bytes]:
    """Yield the encoded image of each row of one row group, read a few at a time.

    Empty where there is none.
    """
    wanted, place = set(task.rows["place"]), 0
    path = manifests.inside(task.root, task.rows["file"].iloc[0])
    with pq.ParquetFile(path) as shard:
        group = int(task.rows["group"].iloc[0])
        for batch in shard.iter_batches(
            batch_size=64, row_groups=[group], columns=[task.image_column]
        ):
            column = batch.column(0)
            column = column.field("bytes") if pa.types.is_struct(column.type) else column
            for value in column:
                if place in wanted:
                    yield value.as_py() or b""
                place += 1
