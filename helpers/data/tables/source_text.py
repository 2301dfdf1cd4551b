"""Cells of a source table as text, so that CSV, Excel and Parquet are treated alike.

In: columns of any type. Out: stripped text, numbers read from it, templates filled in, the likely
cause where identifiers do not match. Raises `InputError` for values outside a rule; the message
names table, column and value.
"""

import difflib
import re
from collections.abc import Collection

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.layout_schema import template_columns
from helpers.data.rule_schema import Extract

# blanks of no width and marks of the direction of writing
_INVISIBLE = "[\u200b\u200e\u200f\u2060\ufeff]"
# what may differ between two spellings of one identifier, and the spelling without it
_CAUSES = (
    ("leading zeros, which spreadsheets drop: export the column as text", r"(?<!\d)0+(?=\d)"),
    ("the file ending", r"\.[A-Za-z]\w{1,4}(?:\.gz)?$"),
    ("folders in front of the name", r"^.*[/\\]"),
    ("blanks, quotes or commas", r"[\s'\",;]+"),
    ("'.0' at the end", r"\.0+$"),
    ("hyphens, underscores or points", r"[-_.]+"),
    ("folders in front of the name and the file ending", r"^.*[/\\]|\.[A-Za-z]\w{1,4}(?:\.gz)?$"),
)
# so loose that it is named only where it explains all
_NUMBER_ALONE = ("letters and zeros around the number", r"\D+|(?<!\d)0+(?=\d)")


def as_text(column: pd.Series) -> pd.Series:
    """Return a column as stripped text: whole numbers without a point, missing values as ""."""
    if pd.api.types.is_bool_dtype(column) and not column.hasnans:
        return column.astype(str)
    if pd.api.types.is_integer_dtype(column):
        return column.astype("string").fillna("").astype(str)
    if pd.api.types.is_float_dtype(column):
        return column.map(_number_text).astype(str)
    if pd.api.types.is_datetime64_any_dtype(column):  # cell by cell: no cell changes another
        moments = column.dt.strftime("%Y-%m-%d %H:%M:%S").astype(object).where(column.notna(), "")
        return moments.astype(str).str.removesuffix(" 00:00:00")
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def _number_text(value: float) -> str:
    """Return a float as text; from 2**53 on, where floats skip integers, in scientific form."""
    if pd.isna(value):
        return ""
    if float(value).is_integer() and abs(value) < 2**53:
        return str(int(value))
    return f"{value:.15g}"


def in_one_form(text: pd.Series) -> pd.Series:
    """Return text stripped, in one Unicode normal form (NFC), whole numbers without ".0".

    Each cell by itself: an identifier must not be spelt by what is in other patients' rows.
    """
    text = text.str.strip()
    if text.str.startswith('="').any():  # how spreadsheets keep "001" in a CSV file
        text = text.str.replace(r'^="(.*)"$', r"\1", regex=True)
    if not text.str.isascii().all():
        text = text.str.normalize("NFC").str.replace(_INVISIBLE, "", regex=True).str.strip()
    has_point = text.str.endswith(".0")
    if has_point.any():
        whole = text[has_point].str.replace(r"^(-?\d{1,15})\.0$", r"\1", regex=True)
        text = text.copy()
        text[has_point] = whole.replace("-0", "0")
    return text


def without_missing(table: pd.DataFrame, missing: Collection[str]) -> pd.DataFrame:
    """Return a table with "" for the cells that mean missing.

    A number counts however many zeros follow its point: -999 is also -999.0 and -999.00. Leading
    zeros make another identifier, 099 is not 99.
    """
    if not len(missing):
        return table
    cells = set(missing)
    for cell in missing:
        if re.fullmatch(r"-?\d+(\.\d*)?", cell):
            number = cell.rstrip("0").rstrip(".") if "." in cell else cell
            point = "" if "." in number else "."
            cells |= {number} | {number + point + "0" * n for n in range(7)}
    return table.mask(table.isin(list(cells)), "")


def numbers(text: pd.Series) -> pd.Series:
    """Return text as floats, NaN where it is no number."""
    return pd.to_numeric(text.replace("", np.nan), errors="coerce").astype(float)


def plain(name: str) -> str:
    """Return a name without what often differs by mistake: case, blanks, hyphens, underscores."""
    return re.sub(r"[\s_-]+" if re.search(r"[^\W\d_]", name) else r"\s+", "", name).casefold()


def refuse_lookalikes(
    listed: Collection[str], existing: Collection[str], where: str, field: str
) -> None:
    """Accept names unless one that is not listed differs from a listed one by case or blanks only.

    Raises:
        InputError: there is one; it would silently count as another name.
    """
    by_plain = {plain(name): name for name in listed}
    others = [name for name in existing if name not in listed and plain(name) in by_plain]
    if others:
        errors.refuse(
            f"one spelling of {by_plain[plain(others[0])]!r} in {where}",
            f"also {errors.examples(others)}",
            f"Correct the table, or name every spelling in `{field}` of the manifest.",
        )


def nearest(name: str, existing: Collection[str]) -> str:
    """Return "Did you mean 'X'? " for the existing names that are like one, else ""."""
    alike = [other for other in existing if other and plain(other) == plain(name)]
    names = [str(other) for other in existing if other]
    alike = alike or difflib.get_close_matches(name, names, n=2)
    alike = alike or [other for other in names if plain(name) in plain(other)][:2]
    return f"Did you mean {' or '.join(map(repr, alike[:2]))}? " if alike else ""


def commonest(text: pd.Series, most: int = 5) -> str:
    """Return the commonest cells of a column with their counts, blank ones as blank."""
    counts = text.value_counts()
    shown = [f"{cell!r} ({n:,})" if cell else f"blank ({n:,})" for cell, n in counts.items()]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" * (len(shown) > most))


def refuse_values(
    text: pd.Series, is_odd: pd.Series, where: str, wanted: str, field: str, hint: str = ""
) -> None:
    """Accept a column without an odd value.

    Args:
        text: the column.
        is_odd: which values lie outside their rule.
        where: name of the table.
        wanted: what the column should hold, for the message.
        field: of the manifest, that says so.
        hint: what to do first, as a sentence with a blank behind it.

    Raises:
        InputError: a value is odd; names table, column and three values.
    """
    if is_odd.any():
        odd_values = text[is_odd].drop_duplicates().tolist()
        errors.refuse(
            f"column {text.name!r} of {where} to hold {wanted}",
            f"{errors.examples(odd_values)} in {int(is_odd.sum())} rows",
            f"{hint}Correct the table, or `{field}` in the manifest.",
        )


def likely_cause(values: pd.Series, others: pd.Series) -> str:
    """Return why identifiers may not match others: " 5 would match but for letter case." or "".

    Args:
        values: identifiers without a partner.
        others: those among which a partner was looked for, without those that have one.
    """
    values, others = values.drop_duplicates().astype(str), others.drop_duplicates().astype(str)
    folded = {"letter case": (values.str.casefold(), others.str.casefold())} | {
        cause: tuple(text.str.replace(form, "", regex=True) for text in (values, others))
        for cause, form in (*_CAUSES, _NUMBER_ALONE)
    }
    matching = {
        cause: int((ours.isin(theirs) & (ours != "")).sum())
        for cause, (ours, theirs) in folded.items()
    }
    if matching[_NUMBER_ALONE[0]] < len(values):
        del matching[_NUMBER_ALONE[0]]
    cause = max(matching, key=matching.get)
    return f" {matching[cause]} would match but for {cause}." if matching[cause] else ""


def fill_template(template: str, text: pd.DataFrame) -> pd.Series:
    """Return "{folder}/{filename}" with the columns' values in it, a text a row; "" if one is
    blank.
    """
    filled_in = pd.Series("", index=text.index, dtype=object)
    for piece in re.split(r"(\{[^{}]+\})", template):
        filled_in = filled_in + (text[piece[1:-1]] if piece.startswith("{") else piece)
    return filled_in.mask((text[template_columns(template)] == "").any(axis=1), "")


def with_extracted(text: pd.DataFrame, rules: dict[str, Extract], where: str) -> pd.DataFrame:
    """Return source columns with those that regular expressions take out of others.

    Args:
        text: source columns.
        rules: name of the further column -> its rule; a rule can read the column of an earlier one.
        where: name of the table, for messages.

    Raises:
        InputError: the column is absent, or a cell that is not blank does not match.
    """
    for name, rule in rules.items():
        errors.has_columns(text, [rule.column], where)
        cells = text[rule.column]
        different = pd.Series(cells.unique(), dtype=str)
        parts = different.str.extract(rule.pattern, expand=False).fillna("").str.strip()
        extracted = cells.map(dict(zip(different, parts)))
        refuse_values(
            cells,
            (extracted == "") & (cells != ""),
            where,
            f"text in which {rule.pattern!r} is found",
            f"extract.{name}.pattern",
        )
        text = text.assign(**{name: extracted})
    return text
