"""The encoded image of each row of a chunk, wherever it lies: in a file, a parquet shard, an npz.

In: rows with the locations of their images, the data root. Out: bytes, one image at a time, empty
where there is none; the paths of a scan. Raises `InputError` for paths outside the data root.

A worker imports this module before its first image: what only some rows need is imported there.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from helpers.core import paths_inside
from helpers.data.images import image_limits


def of_rows(rows: list[dict], root: Path, image_column: str | None) -> Iterator[bytes]:
    """Return what yields the encoded image of each row, in order.

    Args:
        rows: with `file`; and `row_group`, `row_in_group` (of one row group of one shard), or
            `array`, `index_in_array`.
        root: the data root.
        image_column: of parquet shards; None for other files.
    """
    if "array" in rows[0]:
        return _from_arrays(rows, root)
    return (
        _from_files(rows, root)
        if image_column is None
        else _from_row_group(rows, root, image_column)
    )


def scan(root: Path, row: dict) -> Path | list[Path]:
    """Return the path of a row's file, or the paths of the slices of its DICOM series."""
    if slices := row.get("slices"):
        return [paths_inside.inside(root, file) for file in slices.split("\n")]
    return paths_inside.inside(root, row["file"])


def _from_arrays(rows: list[dict], root: Path) -> Iterator[bytes]:
    """Yield the encoded image of each row of an npz file."""
    from helpers.data.tables import read_arrays

    for row in rows:
        yield read_arrays.film(scan(root, row), row["array"], int(row["index_in_array"]))


def _from_files(rows: list[dict], root: Path) -> Iterator[bytes]:
    """Yield the content of each row's file: empty if it cannot be read, cut if it is too large."""
    for row in rows:
        try:
            path = paths_inside.path_inside(root, row["file"])
            with open(path, "rb", buffering=0) as stream:
                # asked for the largest size, `read` would first take as much memory
                size = min(os.fstat(stream.fileno()).st_size, image_limits.MAX_BYTES)
                yield stream.read(size + 1)
        except OSError:
            yield b""


def _from_row_group(rows: list[dict], root: Path, image_column: str) -> Iterator[bytes]:
    """Yield the encoded image of each row of one row group, empty if there is none; a few are read
    at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows_wanted, row_in_group = {row["row_in_group"] for row in rows}, 0
    with pq.ParquetFile(scan(root, rows[0])) as shard:
        row_group = int(rows[0]["row_group"])
        for batch in shard.iter_batches(
            batch_size=64, row_groups=[row_group], columns=[image_column]
        ):
            column = batch.column(0)
            column = column.field("bytes") if pa.types.is_struct(column.type) else column
            for value in column:
                if row_in_group in rows_wanted:
                    yield value.as_py() or b""
                row_in_group += 1
