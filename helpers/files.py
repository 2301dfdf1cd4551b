"""Whole files, fingerprints of contents, and which code decides a result.

In: content to be stored, files to be compared. Out: files that are whole or absent, SHA-256 digests.
Refuses: a missing file (says what makes it), a file that is not JSON.
"""

import ast
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import checks

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
            os.fsync(written.fileno())  # before the name: after a power cut it must not name an empty file
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
        return json.loads(checks.file_exists(path, made_by).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        checks.refuse(f"JSON in {path}", str(error), f"Delete the file. {made_by}")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def table_hash(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table's values, in hexadecimal: of column names and values, in order, as JSON.

    Args:
        table: columns of text, numbers, booleans and missing values, of any type; the index does not count.

    Guarantees: does not depend on a file's format, on the types of columns (whole numbers are equal as int64, Int64 or float64) or on
    the kind of missing value. Text and numbers differ ("1" is not 1).
    """
    digest = hashlib.sha256()
    for name in table.columns:
        column = table[name].astype(object)
        values = [int(value) if isinstance(value, float) and value.is_integer() else value for value in column.where(column.notna(), None)]
        digest.update(json.dumps([name, values]).encode())
    return digest.hexdigest()


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


def helper_sources(modules: Iterable[str]) -> list[Path]:
    """Return the files of the named helper modules and of all helpers they import, sorted.

    Args:
        modules: names within `helpers`, e.g. {"training"}.
    """
    folder = Path(__file__).parent
    found, waiting = set(), set(modules)
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= helpers_imported((folder / f"{module}.py").read_text(encoding="utf-8")) - found
    return sorted(folder / f"{module}.py" for module in found)


def helpers_imported(source: str) -> set[str]:
    """Return the names of the helper modules that a piece of Python imports directly."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("helpers.")}
    return names


def fingerprint(content: dict, modules: Iterable[str] = ()) -> str:
    """Return one SHA-256 over JSON-like content and the sources of helper modules and what they import.

    Guarantees: depends on contents only; touching a file changes nothing.
    """
    digest = hashlib.sha256(json.dumps(plain(content), sort_keys=True).encode())
    for path in helper_sources(modules):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
