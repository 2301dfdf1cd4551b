"""Cells of a source table as text, so that CSV and parquet are treated alike.

In: columns of any type. Out: stripped text, numbers read from it, templates filled in. Raises
`InputError` for values outside a rule; the message names table, column and value.
"""

import re

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


def refuse_values(text: pd.Series, is_odd: pd.Series, where: str, wanted: str, field: str) -> None:
    """Accept a column without an odd value.

    Args:
        text: the column.
        is_odd: which values lie outside their rule.
        where: name of the table.
        wanted: what the column should hold, for the message.
        field: of the manifest, that says so.

    Raises:
        InputError: a value is odd; names table, column and three values.
    """
    if is_odd.any():
        odd_values = text[is_odd].drop_duplicates().tolist()
        errors.refuse(
            f"column {text.name!r} of {where} to hold {wanted}",
            f"{errors.examples(odd_values)} in {int(is_odd.sum())} rows",
            f"Correct the table, or `{field}` in the manifest.",
        )


def fill_template(template: str, text: pd.DataFrame) -> pd.Series:
    """Return "{folder}/{filename}" with the columns' values in it, a text a row; "" if one is
    blank.
    """
    filled_in = pd.Series("", index=text.index, dtype=object)
    for piece in re.split(r"(\{[^{}]+\})", template):
        filled_in = filled_in + (text[piece[1:-1]] if piece.startswith("{") else piece)
    return filled_in.mask((text[template_columns(template)] == "").any(axis=1), "")
