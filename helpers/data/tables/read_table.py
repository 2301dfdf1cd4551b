"""Tables as text: the one reader for manifests and for other people's predictions.

In: the path of a CSV (also compressed, .gz), Excel or Parquet file. Out: a table in which every
cell is stripped text, "" where it is blank; "NA" and "None" are values like any other. Raises
`InputError` for files that are no table and for repeated column names; names the file.
"""

import gzip
import zlib
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from helpers.core import disk_names, errors, text_files
from helpers.data.tables import csv_rows, read_excel, source_text

_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_OTHER_FORMATS = (".xls", ".xlsb", ".ods", ".numbers", ".sav", ".dta", ".sas7bdat", ".json", ".zip")


def read(
    path: str | Path,
    encoding: str = "utf-8",
    separator: str = ",",
    missing: Collection[str] = (),
    name: str | None = None,
    wanted: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return a table with every cell as text.

    Whole numbers have no point, whatever type a file gives them and whether some are missing; text
    is in one Unicode normal form. Columns without a name are left out.

    Args:
        path: a file ending in .parquet or .xlsx; every other one is CSV.
        encoding: of a CSV file without a byte order mark; a mark counts more.
        separator: of a CSV file.
        missing: cells that count as blank.
        name: how messages call the file; None for its path.
        wanted: columns in which no cell of an Excel file may be an error; None for all.

    Raises:
        InputError: no such file; not a table of that kind; two columns of one name; no row.
    """
    path, name = errors.file_exists(Path(path), "Correct the path."), name or str(path)
    ending = path.suffix.lower()
    if ending in _OTHER_FORMATS:
        errors.refuse(f"{name} to be CSV, .xlsx or Parquet", ending, "Save it in one of these.")
    if ending == ".parquet":
        table = _read_parquet(path, name)
    else:
        is_excel = ending in (".xlsx", ".xlsm")
        cells = pd.DataFrame(
            read_excel.read(path, name, missing, wanted)
            if is_excel
            else _read_csv(path, name, encoding, separator),
            dtype=str,
        )
        table = cells.iloc[1:].reset_index(drop=True)
        table.columns = cells.iloc[0] if len(cells) else []
    table = _with_column_names(table, name)
    if table.empty:
        errors.refuse(f"at least one row below the names of columns in {name}", "none", "Fill it.")
    columns = {column: source_text.in_one_form(table[column]) for column in table}
    text = pd.DataFrame(columns, index=table.index)
    return source_text.without_missing(text, missing)


def _with_column_names(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table with stripped names of columns, without those that have none.

    Raises:
        InputError: two columns of one name, or no column.
    """
    names = [disk_names.one_normal_form(str(column)).strip(" \t\ufeff") for column in table]
    repeated = sorted({column for column in names if column and names.count(column) > 1})
    if repeated:
        errors.refuse(
            f"each column name once in {name}",
            f"{errors.examples(repeated)} more than once",
            "Rename one of the columns.",
        )
    if not any(names):
        errors.refuse(f"names of columns in the first row of {name}", "none", "Write them there.")
    return table.set_axis(names, axis=1).loc[:, [bool(column) for column in names]]


# ---- CSV


def read_lines(path: Path, name: str) -> list[str]:
    """Return the lines of a text file, stripped, without blank ones, in one Unicode normal form.

    Raises:
        InputError: not text in UTF-8, nor in an encoding that a byte order mark names.
    """
    with path.open("rb") as stream:
        kind = csv_rows.kind_of(stream.read(8))
    if kind or path.suffix.lower() == ".gz":
        errors.refuse(
            f"{name} to be a text file, an entry a line",
            kind or "a compressed file",
            "Unpack it, or write the list as text in UTF-8.",
        )
    lines = (line.strip() for line in text_files.read(path, name).splitlines())
    return [line for line in lines if line]


def _read_csv(path: Path, name: str, encoding: str, separator: str) -> pd.DataFrame:
    """Return the cells of a CSV file, its first row included.

    Raises:
        InputError: no text in this encoding, another separator, quotes that do not close, or rows
            that are longer or shorter than the first.
    """
    wanted = f"{name} to be a table in {encoding}, separated by {separator!r}"
    is_compressed = path.open("rb").read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if is_compressed else path.open("rb") as stream:
            beginning = stream.read(1 << 16)
            encoding = text_files.encoding_of(beginning) or encoding
            csv_rows.refuse_other_content(beginning, wanted, encoding, separator)
            if len(separator) == 1:
                stream.seek(0)
                csv_rows.refuse_other_lengths(stream, name, encoding, separator)
            stream.seek(0)
            return pd.read_csv(
                stream,
                header=None,  # as data: pandas renames repeated names, and moves longer rows
                dtype=str,
                keep_default_na=False,
                encoding=encoding,
                sep=separator,
                engine="c" if len(separator) == 1 else "python",
            )
    except errors.InputError:
        raise
    except (ValueError, LookupError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        errors.refuse(
            wanted,
            " ".join(str(error).split()),
            "Save it so, or set `encoding` and `separator` in `layout` where there is one.",
        )


# ---- Parquet


def _read_parquet(path: Path, name: str) -> pd.DataFrame:
    """Return a Parquet file's columns as text."""
    try:
        return as_text(pq.read_table(path))
    except pa.ArrowException as error:
        errors.refuse(
            f"{name} to be a whole Parquet file",
            " ".join(str(error).split())[:120],
            "Save it again.",
        )


def as_text(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as text; integers of any length keep their digits.

    Columns of bytes that are no text, and of records, are left out.
    """
    columns = {
        name: _column_text(column) for name, column in zip(table.column_names, table.columns)
    }
    texts = {name: text for name, text in columns.items() if text is not None}
    return pd.DataFrame(texts, index=range(table.num_rows))


def _column_text(column: pa.ChunkedArray) -> pd.Series | None:
    """Return an Arrow column as text, None where it is none."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_floating(kind):
        return _float_text(column)
    if any(is_list(kind) for is_list in _LISTS):
        return source_text.as_text(pd.Series(column.to_pylist(), dtype=object))
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_boolean(kind):
        return source_text.as_text(column.to_pandas())
    try:
        text = pc.fill_null(column.cast(pa.string()), "").to_pandas()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # bytes, records
        return None
    return text.str.replace(r"\.0+$", "", regex=True) if pa.types.is_decimal(kind) else text


def _float_text(column: pa.ChunkedArray) -> pd.Series:
    """Return floats as text, whole numbers without a point; numbers so large that floats skip
    integers are in scientific form.
    """
    values = column.to_pandas()
    is_long = values.abs() >= 2 ** {16: 11, 32: 24, 64: 53}[column.type.bit_width]
    is_whole = (values % 1 == 0) & ~is_long
    text = column.cast(pa.string()).to_pandas().where(values.notna(), "")
    text = text.mask(is_whole, values[is_whole].astype("int64").astype(str))
    return text.mask(is_long, values[is_long].map(lambda value: f"{value:.15e}"))
