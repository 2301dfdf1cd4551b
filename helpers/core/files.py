"""Files written whole or not at all; JSON and tables.

In: content to be stored. Out: files that are whole or absent, with the rights that the process'
umask leaves. Raises `InputError` for a missing file (says what makes it) or one that is damaged.
"""

import contextlib
import itertools
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers.core import errors

if TYPE_CHECKING:  # a worker that reads no table need not wait for it
    import pandas as pd


@contextlib.contextmanager
def atomic_path(path: Path, mode: int = 0o666, is_durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved over it only when the block succeeds.

    Args:
        path: of the file.
        mode: its rights, less those that the process' umask withholds.
        is_durable: wait until the file is on disk; without, a power cut may leave a damaged one.

    Guarantees: a reader sees the old file or the whole new one, never a part, also after a kill or
        (if `is_durable`) a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    rights = stat.S_IMODE(part.stat().st_mode)
    try:
        yield part
        part.chmod(rights)  # safetensors puts another file in its place
        if is_durable:
            with open(part, "rb+") as written:
                # before the name: after a power cut it must not name an empty file
                os.fsync(written.fileno())
        os.replace(part, path)
        if is_durable:
            sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk's message does not name it
        raise
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, where its file system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `<name>.damaged`, or `.damaged2` and so on beside earlier ones;
    return where it is.
    """
    names = (f"{path.name}.damaged{number if number > 1 else ''}" for number in itertools.count(1))
    damaged = next(copy for copy in map(path.with_name, names) if not copy.exists())
    os.replace(path, damaged)
    return damaged


def write_text(path: Path, text: str, is_durable: bool = True) -> None:
    """Write a text file whole or not at all; `is_durable` as in `atomic_path`."""
    with atomic_path(path, is_durable=is_durable) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict, is_durable: bool = True) -> None:
    """Write a JSON file whole or not at all; NaN and infinity become null; `is_durable` as in
    `atomic_path`.
    """
    text = json.dumps(plain(content), indent=1, allow_nan=False) + "\n"
    write_text(path, text, is_durable)


def write_table(path: Path, table: "pd.DataFrame") -> None:
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
        content = json.loads(errors.file_exists(path, made_by).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        errors.refuse(f"JSON in {path}", str(error), f"Delete the file. {made_by}")
    if not isinstance(content, dict):
        errors.refuse(f"JSON with names in {path}", content, f"Delete the file. {made_by}")
    return content


def readable_json(path: Path) -> dict:
    """Return the content of a JSON file; {} where it is absent or damaged."""
    with contextlib.suppress(errors.InputError, OSError):
        return read_json(path, "")
    return {}


def read_parquet(path: Path, made_by: str) -> "pd.DataFrame":
    """Return the table in a Parquet file.

    Raises:
        InputError: absent (says what makes it), or damaged.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(errors.file_exists(path, made_by))
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, errors.InputError):
            raise
        first_line = (str(error).splitlines() or ["damaged"])[0]
        errors.refuse(f"a whole Parquet file at {path}", first_line, f"Delete it. {made_by}")


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
