"""Cells of a source table as text, so that CSV and parquet are treated alike.

In: columns of any type. Out: stripped text, numbers read from it, templates filled in. Raises
`InputError` for values outside a rule; the message names table, column and value.
"""

import difflib
import re
from collections.abc import Collection

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.layout_schema import template_columns


def as_text(column: pd.Series) -> pd.Series:
    """Return a column as stripped text: whole numbers without a point, missing values as ""."""
    if pd.api.types.is_bool_dtype(column):
        return column.astype(str)
    if pd.api.types.is_numeric_dtype(column):
        return column.map(lambda value: "" if pd.isna(value) else f"{value:.15g}").astype(str)
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


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


def fill_template(template: str, text: pd.DataFrame) -> pd.Series:
    """Return "{folder}/{filename}" with the columns' values in it, a text a row; "" if one is
    blank.
    """
    filled_in = pd.Series("", index=text.index, dtype=object)
    for piece in re.split(r"(\{[^{}]+\})", template):
        filled_in = filled_in + (text[piece[1:-1]] if piece.startswith("{") else piece)
    return filled_in.mask((text[template_columns(template)] == "").any(axis=1), "")
