"""Identifiers that a spreadsheet or a number type has changed.

In: a column of text. Out: nothing. Raises `InputError` for numbers in scientific form, lost digits,
error cells and one identifier in two spellings; the message names table, column and values.
"""

import pandas as pd

from helpers.core import errors

_DIGITS_OF_EXCEL = 15
# 1.6768E+15, as spreadsheets and pandas write numbers; 12e45 may be a hexadecimal identifier
_SCIENTIFIC = r"[+-]?(?:\d[eE]\+|\d[.,]\d+[eE]\+?)\d+(?:\.[A-Za-z]\w*)?"
_FROM_FLOAT = r"\d{16,}\.0+"
_ERROR_CELL = r"#(?:N/A|REF!|NAME\?|VALUE!|DIV/0!|NUM!|NULL!|#+)"


def refuse(text: pd.Series, where: str) -> None:
    """Accept a column of identifiers that went through no number type on their way.

    Args:
        text: the column; "" where blank.
        where: name of the table, for the message.

    Raises:
        InputError: scientific form, digits lost, error cells of a spreadsheet, or one identifier
            with and without an apostrophe before it, or in full-width characters.
    """
    values = text[text != ""].drop_duplicates()
    _refuse_two_spellings(values, where)
    damaged = values[values.str.fullmatch(f"{_SCIENTIFIC}|{_FROM_FLOAT}|{_ERROR_CELL}")]
    cause = "are numbers or errors of a spreadsheet: different identifiers became one"
    do = "Export the column again from its source as text, and let no spreadsheet open it."
    if damaged.empty:
        long_numbers = values[values.str.fullmatch(r"\d{16,}")]
        if len(long_numbers) and _lost_digits(long_numbers.tolist()):
            damaged = long_numbers
            cause = "have lost their last digits in a spreadsheet or a table of numbers"
            do += " If the source numbers them so, write a letter before each of them."
    if len(damaged):
        errors.refuse(
            f"identifiers as text in column {text.name!r} of {where}",
            f"{errors.examples(damaged.tolist())}, which {cause}",
            do,
        )


def _refuse_two_spellings(values: pd.Series, where: str) -> None:
    """Accept different identifiers that stay different without what programs add to text."""
    is_odd = values.str.startswith("'") | ~values.map(str.isascii).astype(bool)
    if not is_odd.any():
        return
    simple = values[is_odd].str.normalize("NFKC").str.removeprefix("'")
    both = pd.concat([values[~is_odd], simple])
    if (is_twice := both.duplicated(keep=False)).any():
        pair = values[both[is_twice].index][both[is_twice] == both[is_twice].iloc[0]]
        errors.refuse(
            f"one spelling of each identifier in column {values.name!r} of {where}",
            f"{errors.examples(pair.tolist())}, which differ by an apostrophe or the width of"
            " their characters",
            "Correct the table: they would count as different ones.",
        )


def _lost_digits(identifiers: list[str]) -> bool:
    """Return whether numbers of 16 and more digits show that a number type has rounded them.

    Excel leaves zeros after 15 digits. Floats keep 53 bits: all are then multiples of a power of
    two, which by chance happens once in a thousand columns at most.
    """
    if all(not number[_DIGITS_OF_EXCEL:].strip("0") for number in identifiers):
        return True
    multiples = [2 ** max(int(number).bit_length() - 53, 0) for number in identifiers]
    bits = sum(multiple.bit_length() - 1 for multiple in multiples)
    return bits >= 10 and not any(
        int(number) % multiple for number, multiple in zip(identifiers, multiples)
    )
