"""Counts of few patients, kept out of tables about data that are not open.

In: a table with counts. Out: the same without small ones, and without as many more that nothing
hidden follows from a total that is shown.

Source: Hundepool et al. (2012), "Statistical disclosure control", ch. 4 (thresholds, secondary
suppression).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.core import errors

OPEN = ("embedded", "open")  # access of data whose single patients, images and counts may be shown
FEWEST = 10  # patients, or images, of a cell that is shown; 0 is shown


def is_open(access: str | None) -> bool:
    """Return whether everything about a cohort may be shown.

    Args:
        access: of the cohort's manifest or record; None, where a record has none, is private.
    """
    return access in OPEN


def left_out(record: dict) -> str:
    """Return in words how many of the source's rows were left out; of data that are not open no
    number of few.

    Args:
        record: a cohort's record.
    """
    n_left_out = sum(record["exclusions"].values())
    if 0 < n_left_out < FEWEST and not is_open(record.get("access")):
        return f"fewer than {FEWEST} rows of its source were left out"
    return f"{n_left_out:,} of the {record['n_source_rows']:,} rows of its source were left out"


def without_small(
    table: pd.DataFrame,
    counts: Sequence[str],
    hide: Sequence[str],
    totals: Sequence[str | None] = (None,),
) -> pd.DataFrame:
    """Return a table whose small counts, and what could tell them, are missing.

    Guarantees: no count of 1 to `FEWEST` - 1 is shown, and none follows from a total: of the rows
    that add up to one, none are hidden, or at least two whose hidden counts sum to `FEWEST` or more
    (as far as there are as many rows).

    Args:
        table: a row a group of patients.
        counts: columns; a row is hidden where one of them is small.
        hide: columns that become missing in hidden rows.
        totals: columns whose equal values have a total that is known, e.g. "attribute" of a table
            by attribute and group; None: all rows together. Of a table of two margins, both.
    """
    numbers = table[list(counts)].fillna(0)
    is_small = (numbers > 0) & (numbers < FEWEST)
    hidden = is_small.any(axis=1)
    n_before = -1
    while n_before < hidden.sum():
        n_before = hidden.sum()
        for total in totals:
            keys = table[total] if total else pd.Series("", table.index)
            for _, rows in numbers.groupby(keys, sort=False):
                for count in counts:
                    hidden |= _one_more(rows[count], hidden)
    result = table.copy()
    for column in hide:
        if pd.api.types.is_integer_dtype(result[column]):
            result[column] = result[column].astype("Int64")
    result.loc[hidden, list(hide)] = pd.NA if len(result) else np.nan
    return result


def _one_more(numbers: pd.Series, hidden: pd.Series) -> pd.Series:
    """Return where a further count of one total has to be hidden: the smallest shown one above 0,
    while one count alone is hidden, or all hidden ones together are small.
    """
    inside = numbers[hidden[numbers.index] & (numbers > 0)]
    others = numbers[~hidden[numbers.index] & (numbers > 0)]
    chosen = pd.Series(False, hidden.index)
    if len(inside) and len(others) and (len(inside) < 2 or inside.sum() < FEWEST):
        chosen[others.idxmin()] = True
    return chosen


def estimable_fits(min_patients: int, access: str | None) -> None:
    """Refuse estimates from few patients, which are counts by another name.

    Args:
        min_patients: fewest patients with and without a finding of a group that is estimable.
        access: see `is_open`.

    Raises:
        InputError: fewer than `FEWEST`, and data that are not open.
    """
    if min_patients < FEWEST and not is_open(access):
        errors.refuse(
            f"MIN_PATIENTS of at least {FEWEST} on data that are not open",
            min_patients,
            f"Set MIN_PATIENTS={FEWEST}: estimates from fewer patients tell of single ones.",
        )
