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
    """Return a column as stripped text.

    Whole numbers without a decimal point, missing values as "".
    """
    if pd.api.types.is_bool_dtype(column):
        return column.astype(str)
    if pd.api.types.is_numeric_dtype(column):
        return column.map(lambda value: "" if pd.isna(value) else f"{value:.15g}").astype(str)
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def numbers(text: pd.Series) -> pd.Series:
    """Return text as floats, NaN where it is no number."""
    return pd.to_numeric(text.replace("", np.nan), errors="coerce").astype(float)


def refuse_values(text: pd.Series, is_odd: pd.Series, where: str, wanted: str, field: str) -> None:
    """Raise `InputError` naming table, column and value if any value is odd."""
    if is_odd.any():
        odd = text[is_odd].drop_duplicates().tolist()
        errors.refuse(
            f"column {text.name!r} of {where} to hold {wanted}",
            f"{errors.examples(odd)} in {int(is_odd.sum())} rows",
            f"Correct the table, or `{field}` in the manifest.",
        )


def fill_template(template: str, text: pd.DataFrame) -> pd.Series:
    """Return "{folder}/{filename}" with the columns' values filled in, one text a row.

    "" where one is blank.
    """
    filled = pd.Series("", index=text.index, dtype=object)
    for piece in re.split(r"(\{[^{}]+\})", template):
        filled = filled + (text[piece[1:-1]] if piece.startswith("{") else piece)
    return filled.mask((text[template_columns(template)] == "").any(axis=1), "")
