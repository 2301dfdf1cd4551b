"""Where the images of a table lie: in folders beside it, or in the table itself.

In: the path of a table, its cells, a folder if one is named. Out: a `Location`, which says
whether files were found. Raises nothing.
"""

import dataclasses
import os
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.data.first_look import column_guesses

MOST_NAMES = 500_000  # of files and folders that are looked at
N_ROWS = 50  # whose images are looked for


@dataclasses.dataclass
class Location:
    """Where images lie.

    root: the data root: a folder that holds table and images.
    table: path of the table under it.
    column: that names the image; None where none does.
    template: `image_path`; found: whether files were seen there; anywhere: in several folders.
    image_column: of a Parquet file that holds the images.
    form: encoding and separator of a table that differ from the usual ones.
    """

    root: Path
    table: str
    column: str | None
    template: str
    found: bool = False
    anywhere: bool = False
    image_column: str | None = None
    form: dict[str, str] = dataclasses.field(default_factory=dict)


def locate(table: Path, images: Path | None, cells: pd.DataFrame, form: dict[str, str]) -> Location:
    """Return where the images of the first rows lie.

    Args:
        table: absolute path.
        images: absolute path of a folder, or None to look beside the table, then in the folders
            beside its own.
        cells: of the table, as text.
        form: how it was read.
    """
    column = column_guesses.file_column(cells)
    root = Path(os.path.commonpath([table.parent, images])) if images else table.parent
    place = Location(root, "", column, f"images/{{{column or 'file'}}}")
    place.image_column, place.form = _image_column(table), form
    if column and not place.image_column:
        values = [value for value in cells[column].head(N_ROWS) if value]
        above = [root, *root.parents[:2]]
        place.root = next((folder for folder in above if _all_files(folder, values)), root)
        if _all_files(place.root, values):
            place.template, place.found = f"{{{column}}}", True
        else:
            _search(place, values, images or root)
        if not place.found and not images:
            beside = dataclasses.replace(place, root=root.parent)
            _search(beside, values, root.parent)
            place = beside if beside.found else place
    place.table = table.relative_to(place.root).as_posix()
    return place


def _image_column(table: Path) -> str | None:
    """Return the column of a Parquet file that holds bytes, alone or in a struct with `bytes`."""
    if table.suffix.lower() != ".parquet":
        return None
    for field in pq.read_schema(table):
        kind = field.type
        if pa.types.is_struct(kind) and (number := kind.get_field_index("bytes")) >= 0:
            kind = kind.field(number).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return field.name
    return None


def _all_files(folder: Path, values: list[str]) -> bool:
    """Return whether each value is a file's path under a folder."""
    return bool(values) and all(os.path.isfile(os.path.join(folder, value)) for value in values)


def _search(place: Location, values: list[str], folder: Path) -> None:
    """Look for files of the values' names below a folder, with the value's ending or another."""
    paths_of, suffixes = defaultdict(list), {""}
    for path in _image_files(folder, place.root):
        name = path.rpartition("/")[2]
        paths_of[name].append(path)
        suffixes.add(re.search(column_guesses.IMAGE_SUFFIX, name, re.I).group())
    for suffix in sorted(suffixes):
        files = {
            value: [
                path
                for path in paths_of[(value + suffix).rpartition("/")[2]]
                if f"/{path}".endswith(f"/{value}{suffix}")
            ]
            for value in values
        }
        n_found = sum(map(bool, files.values()))
        if n_found and n_found >= len(files) / 2:
            folders = {
                path.removesuffix(value + suffix) for value in files for path in files[value]
            }
            place.found, place.anywhere = True, len(folders) > 1
            before = "" if place.anywhere else folders.pop()
            place.template = f"{before}{{{place.column}}}{suffix}"
            return


def _image_files(folder: Path, root: Path) -> list[str]:
    """Return paths of image files below a folder, relative to the root."""
    paths, n_names = [], 0
    for parent, folders, names in os.walk(folder):
        relative = Path(parent).relative_to(root)
        paths += [
            (relative / name).as_posix()
            for name in names
            if re.search(column_guesses.IMAGE_SUFFIX, name, re.I)
        ]
        n_names += len(names) + len(folders)
        if n_names > MOST_NAMES:
            break
    return paths
