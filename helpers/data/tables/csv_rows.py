"""Whether a file is a CSV table whose every row has the cells that its first row names.

In: the file's bytes, its encoding and separator. Out: nothing. Raises `InputError` for other kinds
of file, another separator, quotes that swallow lines, rows cut short or too long; names the line.
"""

import csv
import io
import re
import sys
from typing import IO

from helpers.core import errors

_TABLES = {b"PK\x03\x04": "a zip or Excel file", b"PAR1": "a Parquet file"}
_COMPRESSED = {
    b"BZh": "a file compressed by bzip2",
    b"\xfd7zXZ": "a file compressed by xz",
    b"\x28\xb5\x2f\xfd": "a file compressed by zstd",
    b"7z\xbc\xaf": "a 7z archive",
}
_OTHER_LINES = (
    "The first line has the names of the columns: remove titles and remarks around the table; a"
    " cell with the separator in it stands in quotes."
)


def kind_of(content: bytes) -> str:
    """Return what a file is by its first bytes, "" for what may be text."""
    kinds = _TABLES | _COMPRESSED | {b"\x1f\x8b": "a file compressed by gzip"}
    return next((kind for mark, kind in kinds.items() if content.startswith(mark)), "")


def refuse_other_content(content: bytes, wanted: str, encoding: str, separator: str) -> None:
    """Accept the beginning of a text file whose first line has the separator, or no other one.

    Args:
        content: the first bytes.
        wanted: what the file should be, for messages.
        encoding: of the text.
        separator: of its cells.

    Raises:
        InputError: another kind of file, or another separator.
    """
    for kinds, do in (
        (_TABLES, "Give it the ending of its kind."),
        (_COMPRESSED, "Unpack it, or compress it by gzip (.csv.gz)."),
    ):
        for beginning, kind in kinds.items():
            if content.startswith(beginning):
                errors.refuse(wanted, f"{kind} by its content", do)
    if b"\0" in content and not encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        errors.refuse(
            wanted, "zero bytes: UTF-16 without a byte order mark, or no text", "Save it as UTF-8."
        )
    lines = content.decode(encoding, errors="ignore").lstrip("\ufeff\r\n").splitlines()
    first_line = lines[0] if lines else ""
    if first_line.strip('"').lower().startswith("sep="):
        mark = first_line.strip('"')[4:5] or "\t"
        further = "" if mark == separator else f", and write `separator: {mark!r}` in `layout`"
        errors.refuse(
            wanted, f"{first_line[:60]!r} as its first line", f"Remove that line{further}."
        )
    others = [mark for mark in ";\t,|" if mark in first_line and separator not in first_line]
    if others:
        errors.refuse(
            wanted,
            f"{first_line[:60]!r} as its first line",
            f"Save it so, or write `separator: {others[0]!r}` in `layout` where there is one; the"
            " first line has the names of the columns.",
        )


def refuse_other_lengths(stream: IO[bytes], name: str, encoding: str, separator: str) -> None:
    """Accept a table whose rows all have as many cells as its first one.

    A text in quotes may run over several lines. Cells at the end of a row may be absent where the
    first row names no column.

    Args:
        stream: of the whole file, at its beginning; stays open.
        name: how messages call it.
        encoding: of the text.
        separator: of its cells, one character.

    Raises:
        InputError: a longer or shorter row, or a quote at the wrong place.
        ValueError: no text in this encoding.
    """
    csv.field_size_limit(sys.maxsize)
    text = io.TextIOWrapper(stream, encoding, newline="")
    rows = csv.reader(text, delimiter=separator, strict=True)
    try:
        first = next((row for row in rows if any(map(str.strip, row))), [])
        most = len(first)
        least = max((k for k, cell in enumerate(first, 1) if cell.strip("\ufeff \t")), default=0)
        line = rows.line_num
        for row in rows:
            if not least <= len(row) <= most and any(map(str.strip, row)):
                _refuse_length(row, rows.line_num, first, name)
            if rows.line_num > line + 1:
                _refuse_swallowed(row, line + 1, separator, name)
            line = rows.line_num
    except csv.Error as error:
        errors.refuse(
            f"quotes around whole cells in {name}",
            f"{error} in line {rows.line_num}",
            "A cell that begins with a quote ends with one, and quotes inside it are doubled:"
            ' "5"" tube". Correct the line, or an earlier one where a quote does not close.',
        )
    finally:
        text.detach()


def _refuse_swallowed(row: list[str], line: int, separator: str, name: str) -> None:
    """Accept a row of several lines unless one of them is a row of its own by its form.

    Raises:
        InputError: a line has as many cells as the row, and its first cell has the same form.
    """
    form = _form(row[0])
    if "0" not in form or "\n" in row[0]:  # no name, but text of its own
        return
    for cell in row[1:]:
        for text in cell.splitlines()[1:]:
            cells = text.split(separator)
            if len(cells) == len(row) > 1 and _form(cells[0]) == form:
                errors.refuse(
                    f"a quote at the end of each cell that begins with one in {name}",
                    f"a cell of several lines from line {line} on, with the row"
                    f" {_shown(cells)} in it",
                    "Close the quote in that line, or double it.",
                )


def _form(cell: str) -> str:
    """Return a cell with "a" for each word and "0" for each number in it."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell.strip().strip('"')))


def _refuse_length(row: list[str], line: int, first: list[str], name: str) -> None:
    """Raise `InputError` for a row that is longer or shorter than the first one."""
    is_cut = len(row) < len(first)
    errors.refuse(
        f"{len(first)} cells in every row of {name}, as in its first line {_shown(first)}",
        f"{len(row)} in line {line}, {_shown(row)}",
        "The file may be cut off there: copy or export it again. " + _OTHER_LINES
        if is_cut
        else _OTHER_LINES,
    )


def _shown(row: list[str]) -> str:
    """Return the first cells of a row for a message."""
    return errors.examples([cell[:30] for cell in row])
