"""Read a data set's own table, one reader for each *kind* of layout.

In: a manifest, the data root (none for drawn cohorts), the options of a build. Out: the raw table,
and what finds each row's image: `file` under the data root (with `sha256` where the data set has
checksums), with `row_group` and `row_in_group` in a parquet shard; `block` and `image_in_block` of
a drawn cohort; `slices` of a DICOM series. Raises `InputError` for tables that cannot be read and
columns that are absent.
"""

import re
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.core import errors
from helpers.data import dicom_tags, source_files, source_text
from helpers.data.manifest_schema import Manifest
from helpers.data.synthetic import generators

LOCATION_COLUMNS = (
    "file",
    "sha256",
    "row_group",
    "row_in_group",
    "block",
    "image_in_block",
    "slices",
)


def read(manifest: Manifest, root: Path | None, options: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a data set's raw table, and the location of each row's image.

    Args:
        manifest: its layout says where the table is.
        root: the data root; None for a drawn cohort.
        options: how many patients are drawn, with which seed (drawn cohorts only).

    Returns:
        raw: one row an image, any column types.
        locations: some of `LOCATION_COLUMNS`, same index as `raw`.

    Raises:
        InputError: see the module.
    """
    kind = manifest.layout.kind
    if kind == "synthetic":
        return generators.draw_source(manifest, options)
    if kind == "parquet_images":
        return _read_shards(manifest, root)
    if kind == "folders":
        return _read_folders(manifest, root)
    if kind == "dicom_files":
        return dicom_tags.read_files(manifest, root)
    return _read_csv(manifest, root)


def _read_csv(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table as text, and `file` and, where the data set has checksums, `sha256` of each
    row.
    """
    layout = manifest.layout
    raw = _read_text_table(manifest, root, layout.table, layout.encoding, layout.separator)
    errors.has_columns(raw, manifest.source_columns, layout.table)
    text = raw[manifest.source_columns].apply(source_text.as_text)
    locations = pd.DataFrame({"file": source_text.fill_template(layout.image_path, text)})
    if layout.anywhere:
        path_of_name = {
            path.name: path.relative_to(root).as_posix()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        locations["file"] = locations["file"].map(lambda name: path_of_name.get(name, name))
    if layout.checksums:
        checksums = _read_text_table(manifest, root, layout.checksums, "utf-8", ",")
        errors.has_columns(checksums, ["path", "sha256"], layout.checksums)
        locations["sha256"] = locations["file"].map(
            checksums.drop_duplicates("path").set_index("path")["sha256"]
        )
    return raw, locations


def _read_text_table(
    manifest: Manifest, root: Path, name: str, encoding: str, separator: str
) -> pd.DataFrame:
    """Return a CSV file, or the first sheet of an Excel file, with every cell as text."""
    try:
        if name.endswith(".xlsx"):
            return pd.read_excel(source_files.inside(root, name), dtype=str, keep_default_na=False)
        return pd.read_csv(
            source_files.inside(root, name),
            dtype=str,
            keep_default_na=False,
            encoding=encoding,
            sep=separator,
        )
    except (
        UnicodeDecodeError,
        LookupError,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        EOFError,
        ValueError,
        BadZipFile,
        ImportError,
    ) as error:
        errors.refuse(
            f"{name} to be a table in {encoding}, separated by {separator!r}",
            str(error),
            f"Download it again, or correct `layout` in the manifest {manifest.name}.",
        )


def _read_folders(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the folders' and files' names say of each image, with the columns of the table if
    there is one, and its `file`.
    """
    layout = manifest.layout
    form = re.compile(
        "".join(
            f"(?P<{part[1:-1]}>[^/]+?)" if part.startswith("{") else re.escape(part)
            for part in re.split(r"(\{[^{}]+\})", layout.pattern)
        )
    )
    paths = sorted(
        path.relative_to(root).as_posix()
        for path in root.glob(re.sub(r"\{[^{}]+\}", "*", layout.pattern))
    )
    raw = pd.DataFrame([form.fullmatch(path).groupdict() for path in paths])
    if layout.table:
        table = _read_text_table(manifest, root, layout.table, "utf-8", ",")
        errors.has_columns(table, ["name"], layout.table)
        table = (
            table.assign(name=table["name"].str.strip())
            .drop(columns=[column for column in raw if column in table and column != "name"])
            .drop_duplicates()
        )
        if len(repeated := table.loc[table["name"].duplicated(), "name"].tolist()):
            errors.refuse(
                f"one row a name in {layout.table}",
                f"{len(repeated)} names with rows that differ, e.g. {errors.examples(repeated)}",
                "Correct the table.",
            )
        raw = raw.merge(table, on="name", how="left")
    return raw, pd.DataFrame({"file": paths})


def _read_shards(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all shards' columns but the images, and `file`, `row_group` and `row_in_group` of each
    row.
    """
    tables, locations = [], []
    for path in sorted({path for pattern in manifest.layout.shards for path in root.glob(pattern)}):
        file = path.relative_to(root).as_posix()
        try:
            with pq.ParquetFile(source_files.inside(root, file)) as shard:
                errors.has_columns(
                    pd.DataFrame(columns=shard.schema_arrow.names),
                    [*manifest.source_columns, manifest.layout.image_column],
                    file,
                )
                for number in range(shard.num_row_groups):
                    row_group = shard.read_row_group(number, columns=manifest.source_columns)
                    tables.append(row_group.to_pandas())
                    locations.append(
                        pd.DataFrame(
                            {
                                "file": file,
                                "row_group": number,
                                "row_in_group": range(len(tables[-1])),
                            }
                        )
                    )
        except pa.ArrowException as error:
            errors.refuse(f"{file} to be a whole parquet file", str(error), "Download it again.")
    return pd.concat(tables, ignore_index=True), pd.concat(locations, ignore_index=True)
