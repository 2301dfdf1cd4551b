"""The entries that cells list, between separators or as list literals.

In: a finding's rule with `contains`, its column as text. Out: entries of each different cell; notes
on entries that are nearly the wanted ones. Raises `InputError` for cells in the other form.
"""

import ast
import re

import pandas as pd

from helpers.data.rule_schema import Finding
from helpers.data.tables import source_text

# ['a' 'b'], as numpy writes it: Python would read one entry, 'ab'
_LITERAL = re.compile(r"""[\[({]\s*(["'].*["'])?\s*,?\s*[\])}]""", re.DOTALL)
_WITHOUT_COMMA = re.compile(r"""[^\s,\[({]["']\s+["'](?=[^\s,\])}])""")


def of_cells(finding: str, rule: Finding, text: pd.Series, where: str) -> dict[str, frozenset[str]]:
    """Return the entries that each different cell of a column lists; none for a blank one.

    Args:
        finding: its name, for messages.
        rule: with `contains`; `cell: list` reads list literals, else entries stand between
            separators.
        text: the column.
        where: name of the table.

    Raises:
        InputError: a cell that is no list literal, or one where the rule says separated.
    """
    cells = [cell for cell in text.unique() if cell]
    if rule.cell == "list":
        entries = {cell: _literal_entries(cell) for cell in cells}
        source_text.refuse_values(
            text,
            text.map({cell: listed is None for cell, listed in entries.items()}).eq(True),
            where,
            "list literals such as ['effusion', 'cardiomegaly']",
            f"findings.{finding}.cell",
            "A cell that means unknown belongs in `missing`. ",
        )
    else:
        source_text.refuse_values(
            text,
            text.map({cell: bool(_LITERAL.fullmatch(cell)) for cell in ["", *cells]}),
            where,
            f"entries separated by {rule.separator!r}",
            f"findings.{finding}.separator",
            f"These cells are list literals: set `findings.{finding}.cell: list`. ",
        )
        entries = {
            cell: frozenset(entry.strip() for entry in cell.split(rule.separator)) - {""}
            for cell in cells
        }
    return {"": frozenset()} | entries


def _literal_entries(cell: str) -> frozenset[str] | None:
    """Return the entries of a list literal, as Python or JSON write it; None where it is none."""
    try:
        listed = None if _WITHOUT_COMMA.search(cell) else ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    if not isinstance(listed, (list, tuple, set)) or not all(
        isinstance(entry, (str, int, float)) for entry in listed
    ):
        return None
    return frozenset(str(entry).strip() for entry in listed) - {""}


def near_notes(
    finding: str, rule: Finding, cells: pd.Series, entries: dict[str, frozenset[str]]
) -> list[str]:
    """Return a note on entries with a wanted one as a word in them, where they count as absent."""
    wanted = "|".join(map(re.escape, rule.contains))
    word = re.compile(rf"(?<!\w)(?:{wanted})(?:e?s)?(?!\w)", re.IGNORECASE)
    near = {
        cell: [entry for entry in sorted(listed) if word.search(entry)]
        for cell, listed in entries.items()
        if not listed & set(rule.contains)
    }
    n_rows = int(cells.map({cell: bool(listed) for cell, listed in near.items()}).eq(True).sum())
    if not n_rows:
        return []
    counts = cells.map(near).dropna().explode().dropna().value_counts()
    examples = ", ".join(f"{entry!r} ({n:,})" for entry, n in counts.head(3).items())
    more = f" and {len(counts) - 3} more" if len(counts) > 3 else ""
    return [
        f"{n_rows:,} rows count as without {finding} although column {cells.name!r} lists"
        f" {examples}{more}, which `findings.{finding}.contains` does not name. If these mean"
        " present, name them there."
    ]
