"""Refusals that a user can act on: `InputError`, and the small checks that raise it.

In: values a user can get wrong. Out: nothing, or the value itself. Raises `InputError`, whose
one-line message says what was expected, what came instead and what to do; `run_all.py` prints it
without a traceback.
"""

import difflib
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FEW = 6  # values that are read at a glance


class InputError(ValueError):
    """A parameter, path, file or table that the user can put right."""


def refuse(expected: str, got: object, do: str) -> None:
    """Raise `InputError` with the house's one-line message.

    Raises:
        InputError: always.
    """
    raise InputError(f"Expected {expected}; got {got}. {do}")


def examples(values: Collection, most: int = 3) -> str:
    """Return at most `most` of the values as text, with the number left out."""
    shown = ", ".join(repr(value) for value in list(values)[:most])
    return shown + (f" (+{len(values) - most} more)" if len(values) > most else "")


def nearest(value: object, allowed: Collection) -> str:
    """Return "Did you mean 'this'?" with the closest allowed value, "" where none is close.

    Upper and lower case, blanks, points, hyphens and underscores make no difference.
    """
    plain = {re.sub(r"[\W_]", "", str(name).casefold()): str(name) for name in allowed}
    close = difflib.get_close_matches(re.sub(r"[\W_]", "", str(value).casefold()), plain, n=1)
    return f"Did you mean {plain[close[0]]!r}?" if close else ""


def one_of(name: str, value: object, allowed: Collection) -> object:
    """Return `value` if it is one of `allowed`.

    Raises:
        InputError: it is not; names the closest allowed value, before the list where that is long.
    """
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        hint = nearest(value, allowed)
        if hint and len(allowed) > FEW:
            refuse(f"{name} to be a known one", repr(value), f"{hint} Known are {names}.")
        refuse(f"{name} to be one of {names}", repr(value), hint or "Choose one of these.")
    return value


def number(
    name: str, value: object, low: float, high: float, integer: bool = False, open_low: bool = False
) -> float:
    """Return `value` if it is a finite number in [low, high], or in (low, high] with `open_low`.

    Raises:
        InputError: another type, not finite, or outside the range.
    """
    kind = "an integer" if integer else "a number"
    wanted = (
        f"{name} to be {kind} in {'(' if open_low else '['}{low:g},"
        f" {high:g}{']' if high < math.inf else ')'}"
    )
    is_number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if (
        not is_number
        or not math.isfinite(value)
        or value > high
        or value < low
        or (open_low and value == low)
    ):
        refuse(
            wanted, repr(value), f"Set {name} in the parameters cell, the profile or with --set."
        )
    return value


def same_length(**arrays: Collection) -> None:
    """Accept arrays of one common length.

    Raises:
        InputError: lengths differ; names each array and its length.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        refuse(
            f"{' and '.join(lengths)} of one length",
            lengths,
            "Pass arrays of the same images in the same order.",
        )


def has_columns(
    table: "pd.DataFrame",
    columns: Collection[str],
    where: str,
    do: str = "Correct the file, or the column names in the manifest.",
) -> None:
    """Accept a table that has all `columns`.

    Raises:
        InputError: some are absent; names them and the columns there are.
    """
    absent = [column for column in columns if column not in table.columns]
    if absent:
        hints = [nearest(column, table.columns) for column in absent[:3]]
        refuse(
            f"columns {examples(absent)} in {where}",
            f"columns {examples(list(table.columns), 12)}",
            " ".join([do, *filter(None, hints)]),
        )


def file_exists(path: Path, made_by: str) -> Path:
    """Return `path` if a file or folder is there.

    Args:
        path: the file or folder needed.
        made_by: what makes it, as an instruction ("Run notebook 01 first").

    Raises:
        InputError: nothing is there.
    """
    if not Path(path).exists():
        refuse(f"a file at {path}", "nothing there", made_by)
    return Path(path)
