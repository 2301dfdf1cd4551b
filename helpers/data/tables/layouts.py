"""Read a data set's own tables, one reader for each *kind* of layout.

In: a manifest, the data root (none for drawn cohorts), the options of a build. Out: the raw table
as text, and what finds each row's image: `file` under the data root (with `sha256` where the data
set has checksums), with `row_group` and `row_in_group` in a parquet shard, `array` and
`index_in_array` in an npz file; `block` and `image_in_block` of a drawn cohort; `slices` of a DICOM
series. Raises `InputError` for tables that cannot be read, columns that are absent, identifiers
that are damaged, joins that leave rows.
"""

from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.core import disk_names, errors
from helpers.data.layout_schema import Join, template_columns
from helpers.data.manifest_schema import Manifest
from helpers.data.synthetic import generators
from helpers.data.tables import (
    damaged_identifiers,
    dicom_tags,
    file_names,
    joins,
    read_arrays,
    read_excel,
    read_table,
    source_columns,
    source_files,
    source_text,
)

LOCATION_COLUMNS = (
    "file",
    "sha256",
    "row_group",
    "row_in_group",
    "array",
    "index_in_array",
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
        raw: the rows as they are, every cell text, "" where blank (any types in a drawn cohort).
        locations: some of `LOCATION_COLUMNS`, same index as `raw`.

    Raises:
        InputError: see the module.
    """
    layout = manifest.layout
    if layout.kind == "synthetic":
        return generators.draw_source(manifest, options)
    reader = {
        "table_and_images": _read_tables,
        "parquet_images": _read_shards,
        "folders": _read_folders,
        "arrays": _read_npz,
        "dicom_files": dicom_tags.read_files,
    }[layout.kind]
    raw, locations = reader(manifest, root)
    raw = source_text.without_missing(raw, manifest.missing)
    no_images = locations.index[locations["unusable"] != ""] if "unusable" in locations else ()
    raw = _joined(manifest, root, raw, no_images)
    locations = locations.loc[raw.index].reset_index(drop=True)
    raw = raw.reset_index(drop=True)
    _refuse_absent_columns(manifest, root, raw)
    where = source_files.table_name(manifest)
    templates = [manifest.image_id, getattr(layout, "image_path", "")]
    identifiers = [column for template in templates for column in template_columns(template)]
    for column in dict.fromkeys([*identifiers, manifest.patient_id]):
        if column in raw:
            damaged_identifiers.refuse(raw[column], where)
    if layout.kind == "table_and_images":
        locations = _image_files(manifest, root, raw)
    return raw, locations


def _read_tables(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables one below the other, with the name of each row's table in `table_file`, and
    no location yet.

    Raises:
        InputError: the tables differ in their columns.
    """
    tables = [_read_one(manifest, root, name) for name in manifest.layout.tables]
    for name, table in zip(manifest.layout.tables, tables):
        if odd := sorted(set(table) ^ set(tables[0])):
            errors.refuse(
                f"the columns of {manifest.layout.tables[0]} in {name}",
                f"{errors.examples(odd)} in one of them only",
                "Tables that stand one below the other have the same columns; add others by"
                " `joins`.",
            )
    raw = pd.concat(
        [
            table if "table_file" in table else table.assign(table_file=name)
            for name, table in zip(manifest.layout.tables, tables)
        ],
        ignore_index=True,
    )
    return raw, pd.DataFrame(index=raw.index)


def _read_one(manifest: Manifest, root: Path, name: str, rule: Join | None = None) -> pd.DataFrame:
    """Return one table under the data root, with the encoding and separator of its rule."""
    form, wanted = rule or manifest.layout, set(manifest.source_columns)
    for join in getattr(manifest.layout, "joins", []):
        wanted |= {*join.keys, *join.keys.values()}
    if manifest.layout.kind == "folders":
        wanted.add("name")
    path = source_files.inside(root, name)
    return read_table.read(path, form.encoding, form.separator, manifest.missing, name, wanted)


def _joined(
    manifest: Manifest, root: Path, raw: pd.DataFrame, no_images: Collection[int]
) -> pd.DataFrame:
    """Return the rows with the columns of further tables; the index says which row each was."""
    layout, where = manifest.layout, source_files.table_name(manifest)
    rules = list(getattr(layout, "joins", []))
    if layout.kind == "folders" and layout.table:
        rules = [Join(table=layout.table, by=["name"], unmatched=layout.unmatched)]
    for rule in rules:
        tables = [_read_one(manifest, root, name, rule) for name in rule.tables]
        if len(tables) > 1 and rule.columns:  # they may differ in columns that are not added
            wanted = list(dict.fromkeys([*rule.keys.values(), *rule.columns]))
            for name, table in zip(rule.tables, tables):
                errors.has_columns(table, wanted, name)
            tables = [table[wanted] for table in tables]
        table = pd.concat(tables, ignore_index=True).fillna("")
        raw = joins.join(raw, table, rule, where, manifest.rows is not None, no_images)
    return raw


def _refuse_absent_columns(manifest: Manifest, root: Path, raw: pd.DataFrame) -> None:
    """Accept a table that has all columns which the manifest's rules read.

    Raises:
        InputError: some are absent; names further sheets of an Excel file.
    """
    absent = [column for column in manifest.source_columns if column not in raw]
    files = source_files.expected_files(manifest) if absent else []
    sheets = [
        f"{name}: {errors.examples(names[1:])}"
        for name in files
        if name.lower().endswith((".xlsx", ".xlsm"))
        and len(names := read_excel.sheet_names(source_files.inside(root, name))) > 1
    ]
    where = " and ".join(getattr(manifest.layout, "tables", [source_files.table_name(manifest)]))
    do = (
        f"Only the first sheet is read, not {'; '.join(sheets)}: move the wanted one to the front."
        if sheets
        else ""
    )
    named = (
        raw
        if "table_file" in manifest.source_columns
        else raw.drop(columns="table_file", errors="ignore")
    )
    source_columns.check(manifest, named.columns, where, do)


def _image_files(manifest: Manifest, root: Path, raw: pd.DataFrame) -> pd.DataFrame:
    """Return the `file` of each row as it is on the disk and, where the data set has checksums, its
    `sha256`.
    """
    layout = manifest.layout
    names = set(template_columns(layout.image_path))
    for name, rule in reversed(manifest.extract.items()):  # a rule reads earlier ones only
        names |= {rule.column} if name in names else set()
    needed = {name: rule for name, rule in manifest.extract.items() if name in names}
    text = source_text.with_extracted(raw, needed, source_files.table_name(manifest))
    names = source_text.fill_template(layout.image_path, text)
    find = file_names.anywhere if layout.anywhere else file_names.on_disk
    locations = pd.DataFrame({"file": find(names, root)})
    if layout.checksums:
        checksums = read_table.read(
            source_files.inside(root, layout.checksums), name=layout.checksums
        )
        errors.has_columns(checksums, ["path", "sha256"], layout.checksums)
        sha256_of = checksums.drop_duplicates("path").set_index("path")["sha256"]
        locations["sha256"] = locations["file"].map(disk_names.one_normal_form).map(sha256_of)
    return locations


def _read_folders(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the folders' and files' names say of each image, and its `file`."""
    raw, paths = file_names.of_pattern(root, manifest.layout.pattern)
    return raw, pd.DataFrame({"file": paths})


def _read_npz(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the labels of all images, and `file`, `array` and `index_in_array` of each."""
    layout = manifest.layout
    path = source_files.inside(root, layout.file)
    raw, locations = read_arrays.read(path, layout.prefixes, bool(manifest.volume))
    errors.has_columns(raw, manifest.source_columns, layout.file)
    return raw, locations.assign(file=layout.file)


def _read_shards(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all shards' columns but the images, and `file`, `row_group` and `row_in_group` of each
    row.
    """
    tables, locations = [], []
    for path in sorted({path for pattern in manifest.layout.shards for path in root.glob(pattern)}):
        file = path.relative_to(root).as_posix()
        try:
            with pq.ParquetFile(source_files.inside(root, file)) as shard:
                columns = pd.DataFrame(columns=shard.schema_arrow.names)
                source_columns.check(manifest, columns.columns, file)
                errors.has_columns(columns, [manifest.layout.image_column], file)
                for number in range(shard.num_row_groups):
                    row_group = shard.read_row_group(number, columns=manifest.source_columns)
                    tables.append(read_table.as_text(row_group))
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
    raw = pd.concat(tables, ignore_index=True)
    return raw.apply(source_text.in_one_form), pd.concat(locations, ignore_index=True)
