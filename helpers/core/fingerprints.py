"""SHA-256 fingerprints: of files, of tables by their values, of parameters, and of the code that
decides a result.

In: contents. Out: hexadecimal digests that depend on contents only, never on times or file formats.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.core import files

if TYPE_CHECKING:
    import pandas as pd

_HELPERS = Path(__file__).resolve().parents[1]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def table_hash(table: "pd.DataFrame") -> str:
    """Return the SHA-256 of a table's values, in hexadecimal: of column names and values, in order,
    as JSON.

    Args:
        table: columns of text, numbers, booleans and missing values, of any type; the index does
            not count.

    Guarantees: does not depend on a file's format, on the types of columns (whole numbers are equal
    as int64, Int64 or float64) or on the kind of missing value. Text and numbers differ ("1" is not
    1).
    """
    digest = hashlib.sha256()
    for name in table.columns:
        column = table[name].astype(object)
        values = [
            int(value) if isinstance(value, float) and value.is_integer() else value
            for value in column.where(column.notna(), None)
        ]
        digest.update(json.dumps([name, values]).encode())
    return digest.hexdigest()


def helper_sources(modules: Iterable[str]) -> list[Path]:
    """Return the files of the named helper modules and of all helpers they import, sorted.

    Args:
        modules: dotted names within `helpers`, e.g. {"training.loop"}.
    """
    reached, waiting = set(), set(modules)
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= helpers_imported(_source_path(module).read_text(encoding="utf-8")) - reached
    return sorted(map(_source_path, reached))


def _source_path(module: str) -> Path:
    """Return the file of a helper module, by its dotted name within `helpers`."""
    return _HELPERS.joinpath(*module.split(".")).with_suffix(".py")


def helpers_imported(source: str) -> set[str]:
    """Return the dotted names, within `helpers`, of the modules that a piece of Python imports."""
    return {name for name in _names_imported(source) if _source_path(name).is_file()}


@functools.cache
def _names_imported(source: str) -> list[str]:
    """Return what a piece of Python imports from `helpers`, modules and what they hold."""
    candidates = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            candidates |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            candidates |= {alias.name for alias in node.names}
    return [name.removeprefix("helpers.") for name in candidates if name.startswith("helpers.")]


def fingerprint(content: dict, modules: Iterable[str] = ()) -> str:
    """Return one SHA-256 over JSON-like content and the sources of helper modules and what they
    import.

    Guarantees: depends on contents only; touching a file changes nothing.
    """
    digest = hashlib.sha256(json.dumps(files.plain(content), sort_keys=True).encode())
    for path in helper_sources(modules):
        digest.update(path.relative_to(_HELPERS).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
