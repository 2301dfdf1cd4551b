"""Files written whole or not at all; JSON and tables.

In: content to be stored. Out: files that are whole or absent. Raises `InputError` for a missing
file (says what makes it) or one that is not JSON.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved over it only when the block succeeds.

    Guarantees: a reader sees the old file or the whole new one, never a part, also after a kill.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        with open(part, "rb+") as written:
            # before the name: after a power cut it must not name an empty file
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file whole or not at all; NaN and infinity become null."""
    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as `.parquet` or `.csv` (by the path's ending), whole or not at all."""
    with atomic_path(path) as part:
        if path.suffix == ".parquet":
            table.to_parquet(part, index=False)
        else:
            table.to_csv(part, index=False)


def read_json(path: Path, made_by: str) -> dict:
    """Return the content of a JSON file.

    Raises:
        InputError: absent (says what makes it), or not JSON.
    """
    try:
        return json.loads(errors.file_exists(path, made_by).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        errors.refuse(f"JSON in {path}", str(error), f"Delete the file. {made_by}")


def plain(value: object) -> object:
    """Turn numpy scalars, tuples and non-finite floats into what JSON knows."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
