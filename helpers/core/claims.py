"""Claims of a results folder, each with the verdict of somebody who looked again.

In: what is stored, and the same computed anew. Out: claims that hold, differ (by how much), or
cannot be checked (why).
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

import pandas as pd

HOLDS, DIFFERS, UNCHECKED = VERDICTS = "holds", "differs", "cannot be checked"
# of numbers that were written as text and read again, or summed in another order
RELATIVE, ABSOLUTE = 1e-6, 1e-13


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim: what it is about, one of `VERDICTS`, and by how much it differs, or why not."""

    about: str
    verdict: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:18} {self.about}" + (f": {self.detail}" if self.detail else "")


def of_parts(about: str, differences: Iterable[str], unchecked: str = "") -> Claim:
    """Return a claim of several parts, which holds where none differs.

    Args:
        about: what is claimed.
        differences: in words, one a part that differs.
        unchecked: why some part could not be looked at; counts where nothing differs.
    """
    all_of_them = list(differences)
    if all_of_them:
        more = f" (+{len(all_of_them) - 3} more)" if len(all_of_them) > 3 else ""
        return Claim(about, DIFFERS, "; ".join(all_of_them[:3]) + more)
    return Claim(about, UNCHECKED if unchecked else HOLDS, unchecked)


def guarded(
    about: str, compute: Callable[..., Iterable[Claim]], *arguments: object
) -> Iterator[Claim]:
    """Yield the claims that a function of these arguments returns; where it fails, as on a damaged
    file, a last one that differs.

    Of the error its kind alone is said: a message may name a patient.
    """
    try:
        yield from compute(*arguments)
    except Exception as error:  # noqa: BLE001  whatever somebody's file makes a library raise
        yield Claim(about, DIFFERS, f"its files cannot be read ({type(error).__name__})")


def difference(name: str, stored: object, again: object) -> list[str]:
    """Return in words how a stored value differs from the one computed anew; none where it does
    not.

    Numbers may differ by `RELATIVE` or `ABSOLUTE`; within lists and mappings each part is compared.
    """
    if isinstance(stored, dict) and isinstance(again, dict):
        return [
            words
            for key in dict.fromkeys([*stored, *again])
            for words in difference(f"{name} {key}".strip(), stored.get(key), again.get(key))
        ]
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        pairs = enumerate(zip(stored, again), 1)
        return [words for k, pair in pairs for words in difference(f"{name} {k}", *pair)]
    if is_same(stored, again):
        return []
    return [f"{name} is {_short(stored)}, computed {_short(again)}"]


def is_same(stored: object, again: object) -> bool:
    """Return whether two values are equal, numbers but for rounding; NaN equals NaN."""
    numbers = [
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in (stored, again)
    ]
    if not all(numbers):
        return type(stored) is type(again) and stored == again
    if math.isnan(stored) or math.isnan(again):
        return math.isnan(stored) and math.isnan(again)
    return math.isclose(stored, again, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def differences_of_tables(stored: pd.DataFrame, again: pd.DataFrame) -> list[str]:
    """Return in words how a stored table differs from the one computed anew: columns, rows, and the
    first cell of each column that differs.
    """
    if list(stored) != list(again) or len(stored) != len(again):
        return [f"{len(stored)} rows of {list(stored)}, computed {len(again)} of {list(again)}"]
    cells = []
    for column in stored:
        rows = zip(stored[column].tolist(), again[column].tolist())
        first = next(((k, *pair) for k, pair in enumerate(rows, 1) if not is_same(*pair)), None)
        if first:
            cells += difference(f"row {first[0]}, {column}", *first[1:])
    return cells


def _short(value: object) -> str:
    """Return a value as text that fits a line."""
    text = f"{value:.7g}" if isinstance(value, float) else repr(value)
    return text if len(text) < 60 else text[:57] + "..."
