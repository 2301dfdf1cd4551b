"""The first sheet of an Excel file as text, every cell as Excel shows it.

In: the path of an .xlsx file. Out: rows of text. Raises `InputError` for what has no value of its
own: merged cells, formulas that were never calculated, error cells; the message names the cells.
"""

import datetime
import functools
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path
from zipfile import BadZipFile

from helpers.core import disk_names, errors

# of a number format: a text in quotes, one character behind a backslash, a digit, a plain character
_FORMAT_PARTS = re.compile(r'"([^"]*)"|\\(.)|(0|#)|([-/ ()])')


def read(
    path: Path,
    name: str,
    missing: Collection[str] = (),
    wanted: Collection[str] | None = None,
) -> list[list[str]]:
    """Return the cells of the first sheet, row by row, "" where blank; blank rows are left out.

    Args:
        path: of the file.
        name: how messages call it.
        missing: cells that mean blank; an error cell that is listed here is accepted.
        wanted: columns in which no cell may be an error; None for all that have a name.

    Raises:
        InputError: not an Excel file, merged cells, formulas without values, error cells, the
            table is in another sheet, or in several sheets.
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
    _refuse_error_cells(sheet, name, missing, wanted)
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
    _refuse_further_tables(sheet, name)
    return rows


def _refuse_error_cells(
    sheet: object, name: str, missing: Collection[str], wanted: Collection[str] | None
) -> None:
    """Accept a sheet without error cells in the wanted columns."""
    names = _names_of_columns(sheet)
    is_wanted = [bool(column) and (wanted is None or column in wanted) for column in names]
    wrong = [
        f"{cell.coordinate} {cell.value}"
        for row in sheet.iter_rows()
        for cell, is_read in zip(row, is_wanted)
        if is_read and cell.data_type == "e" and cell.value not in missing
    ]
    if wrong:
        errors.refuse(
            f"no error cells in {name}",
            errors.examples(wrong),
            "Correct the formulas, or empty the cells.",
        )


def _refuse_further_tables(sheet: object, name: str) -> None:
    """Accept a workbook in which no further sheet continues the table of the first one.

    Raises:
        InputError: a sheet that is not hidden has the same columns, and rows below them.
    """
    columns = sorted(filter(None, _names_of_columns(sheet)))
    others = [
        other.title
        for other in sheet.parent.worksheets
        if other is not sheet and other.sheet_state == "visible"
        if sorted(filter(None, _names_of_columns(other))) == columns and other.max_row > 1
    ]
    if others:
        errors.refuse(
            f"one table in {name}",
            f"the columns of its first sheet {sheet.title!r} also in {errors.examples(others)}",
            "Only the first sheet is read: copy the rows into one sheet, or save each sheet as a"
            " file of its own; hide or remove a sheet that is no part of the data.",
        )


def _names_of_columns(sheet: object) -> list[str]:
    """Return the cells of a sheet's first row that is not blank, as names of columns."""
    rows = ([cell_text(value) for value in row] for row in sheet.iter_rows(values_only=True))
    first = next((row for row in rows if any(row)), [])
    return [disk_names.one_normal_form(cell).strip() for cell in first]


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
    except (AttributeError, TypeError) as error:  # sheets of charts, and what openpyxl cannot read
        errors.refuse(
            f"an Excel file of tables only in {name}",
            f"a chart sheet or another part that cannot be read ({error})",
            "Remove it, or save the table as CSV.",
        )
    except (BadZipFile, LookupError, ValueError, OSError, ET.ParseError) as error:
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
        number_format: of Excel; "00000" shows 7 as 00007, '"P"0000' as P0007.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 10**15):
        value = f"{float(value):.15g}"
    if re.fullmatch(r"\d+", str(value)):
        return _as_shown(str(value), number_format)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ") if value.time() != datetime.time() else str(value.date())
    return str(value)


@functools.lru_cache(maxsize=1000)
def _format_parts(number_format: str) -> tuple[tuple[str, bool], ...]:
    """Return the texts and digits of a number format that spells identifiers, each with whether it
    is a digit; none of another format.

    Such a format has two and more zeros, or a text before or between the digits.
    """
    first = number_format.split(";")[0]
    matches = list(_FORMAT_PARTS.finditer(first))
    if "".join(match.group() for match in matches) != first:
        return ()
    parts = [("0" if m[3] else m[1] or m[2] or m[4] or "", bool(m[3])) for m in matches]
    while parts and not parts[-1][1] and not re.search(r"\w", parts[-1][0]):
        parts.pop()  # blanks behind the digits
    is_digit = [digit for _, digit in parts]
    if not any(is_digit):
        return ()
    first_digit, last_digit = is_digit.index(True), len(parts) - is_digit[::-1].index(True)
    has_text = any(re.search(r"\w", text) for text, _ in parts[:first_digit])  # not "€"
    has_text |= not all(is_digit[first_digit:last_digit])
    n_zeros = sum(match.group() == "0" for match in matches)
    return tuple(parts) if has_text or n_zeros > 1 else ()


def _as_shown(digits: str, number_format: str) -> str:
    """Return a whole number as its format shows it, where that spells an identifier."""
    parts = _format_parts(number_format)
    n_digits = sum(is_digit for _, is_digit in parts)
    if not parts:
        return digits
    filled_in, first = list(digits.zfill(n_digits)), True
    shown = []
    for text, is_digit in parts:
        if not is_digit:
            shown.append(text)
        elif first:  # more digits than the format has stand at its first one
            first = False
            shown += filled_in[: len(filled_in) - n_digits + 1]
            filled_in = filled_in[len(filled_in) - n_digits + 1 :]
        else:
            shown.append(filled_in.pop(0))
    return "".join(shown)
