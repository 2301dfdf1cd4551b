"""The first sheet of an Excel file as text, every cell as Excel shows it.

In: the path of an .xlsx file. Out: rows of text. Raises `InputError` for what has no value of its
own: merged cells, formulas that were never calculated, error cells; the message names the cells.
"""

import datetime
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path
from zipfile import BadZipFile

from helpers.core import errors


def read(path: Path, name: str, missing: Collection[str] = ()) -> list[list[str]]:
    """Return the cells of the first sheet, row by row, "" where blank; blank rows are left out.

    Args:
        path: of the file.
        name: how messages call it.
        missing: cells that mean blank; an error cell that is listed here is accepted.

    Raises:
        InputError: not an Excel file, merged cells, formulas without values, error cells, the
            table is in another sheet.
    """
    sheet = _first_sheet(path, name, as_formulas=True)
    if merged := sorted(map(str, sheet.merged_cells.ranges)):
        errors.refuse(
            f"a value in every cell of {name}",
            f"merged cells {errors.examples(merged)}",
            "Unmerge them, and write the value into each of them; the first row has the names of"
            " the columns.",
        )
    formulas = [cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
    if formulas:
        sheet = _first_sheet(path, name, as_formulas=False)
        # a formula whose stored result is the empty text has the type of a text
        uncalculated = [
            cell.coordinate
            for cell in formulas
            if sheet[cell.coordinate].value is None and sheet[cell.coordinate].data_type == "n"
        ]
        if uncalculated:
            errors.refuse(
                f"formulas with stored values in {name}",
                f"none in {errors.examples(uncalculated)}",
                "Open the file in a spreadsheet program and save it, or paste the values.",
            )
    wrong = [
        f"{cell.coordinate} {cell.value}"
        for row in sheet.iter_rows()
        for cell in row
        if cell.data_type == "e" and cell.value not in missing
    ]
    if wrong:
        errors.refuse(
            f"no error cells in {name}",
            errors.examples(wrong),
            "Correct the formulas, or empty the cells.",
        )
    rows = [
        [cell_text(cell.value, cell.number_format) for cell in row] for row in sheet.iter_rows()
    ]
    rows = [row for row in rows if any(row)]
    if len(rows) < 2 and len(sheets := sheet_names(path)) > 1:
        errors.refuse(
            f"a table in the first sheet of {name}",
            f"{len(rows)} rows in {sheet.title!r}; the sheets are {errors.examples(sheets)}",
            "Only the first sheet is read: move the wanted one to the front.",
        )
    return rows


def sheet_names(path: Path) -> list[str]:
    """Return the names of all sheets of an Excel file that can be read."""
    import openpyxl

    return openpyxl.load_workbook(path, read_only=True).sheetnames


def _first_sheet(path: Path, name: str, as_formulas: bool) -> object:
    """Return the first sheet that is not hidden, with formulas or with their stored results.

    Raises:
        InputError: no Excel file, or the package that reads it is absent.
    """
    try:
        import openpyxl

        sheets = openpyxl.load_workbook(path, data_only=not as_formulas).worksheets
        return [sheet for sheet in sheets if sheet.sheet_state == "visible"][0]
    except ImportError:
        errors.refuse(
            f"the package openpyxl, which reads {name}", "none", 'Install it: pip install ".[ct]".'
        )
    except (BadZipFile, KeyError, IndexError, ValueError, EOFError, ET.ParseError) as error:
        errors.refuse(
            f"{name} to be a table of Excel (.xlsx) without a password",
            str(error),
            "Save it again as .xlsx or as CSV.",
        )


def cell_text(value: object, number_format: str = "General") -> str:
    """Return a cell as text: whole numbers without a point, dates as 2024-01-31.

    Numbers from 10**15 on, of which Excel keeps 15 digits only, are in scientific form.

    Args:
        value: as stored.
        number_format: of Excel; "00000" shows 7 as 00007.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        value = f"{value:.15g}"
    if re.fullmatch("0{2,}", number_format) and re.fullmatch(r"\d+", str(value)):
        return str(value).zfill(len(number_format))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ") if value.time() != datetime.time() else str(value.date())
    return str(value)
