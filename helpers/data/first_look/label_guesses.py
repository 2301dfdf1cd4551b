"""Which columns of a table are findings, and how their cells say so.

In: a table with every cell as text, "" where blank. Out: guesses of `findings` and `rows` of a
manifest. Raises nothing.
"""

import ast
import re

import pandas as pd

from helpers.data.first_look.column_guesses import MOST_ENTRIES, Guess, meanings, plain

_LABELS = {
    "positive": "1 true yes y positive pos present ja j oui si sí vorhanden",
    "negative": "0 false no n negative neg absent nein non keine",
    "uncertain": "-1 uncertain equivocal",
}
_LABEL_NAME = r"label|finding|diagnos|disease|class|patholog|target"
_NO_LABEL_NAME = r"id$|^id|uid|date|number|count|follow|width|height|pixel|spacing|^view|fold"
# in names of findings that can be on one side of the chest
_LATERAL = (
    r"effusion|pneumothora|atelecta|infiltrat|pneumoni|consolidat|opaci|nodul|mass|lesion|fibros"
    r"|thicken|fractur"
)
_NAMES_SIDE = r"(^|_)(right|left|r|l)(_|$)"
_NORMAL = r"(no finding|normal|none|healthy|no .*|non-.*|negative)$"


def rows(table: pd.DataFrame, image: pd.Series | None) -> tuple[Guess | None, list[Guess]]:
    """Guess how several rows of one image become one (None where each has one), and the findings.

    Args:
        table: columns that no other rule reads.
        image: what names the image of each row.
    """
    guesses = findings(table)
    n_repeated = 0 if image is None else int(image.duplicated().sum())
    if not n_repeated:
        return None, guesses
    why = f"{n_repeated:,} rows name an image that an earlier row names; "
    listed = [guess for guess in guesses if "contains" in guess.value]
    if not listed or len({guess.column for guess in listed}) > 1 or "separator" in listed[0].value:
        rule = {"readers": "majority"}
        return Guess("rows", rule, why + "labels by majority, any or all of them"), guesses
    column = listed[0].column
    values = [guess for guess in guesses if "values" in guess.value and guess.column != column]
    rule = {"long": {"finding": column} | ({"value": values[0].column} if values else {})}
    means = values[0].value["values"] if values else {"1": "positive"}
    return Guess("rows", rule, why + "a row a finding", column), [
        Guess(
            guess.field,
            {"column": guess.field, "values": means, "blank_means": "negative"},
            guess.why,
            column,
        )
        for guess in listed
    ]


def findings(table: pd.DataFrame) -> list[Guess]:
    """Guess the findings of columns that no other rule reads: 1 and 0, grades, or lists."""
    guesses = []
    for column in table:
        cells = table.loc[table[column] != "", column]
        is_label = re.search(_LABEL_NAME, column, re.I)
        if cells.empty or (re.search(_NO_LABEL_NAME, plain(column)) and not is_label):
            continue
        blank_is_absent = {"blank_means": "negative"}
        means = meanings(cells, _LABELS)
        numbers = pd.to_numeric(cells, "coerce")
        if means and "positive" in means.values() and cells.nunique() <= 4:
            only_positive = "negative" not in means.values()
            rule = {"column": column, "values": means} | (blank_is_absent if only_positive else {})
            why = "blank counts as unknown; blank_means: negative if it means not mentioned"
            guesses.append(Guess(column, rule, why, column))
        elif _are_grades(numbers):
            grades = list(range(int(numbers.min()), int(numbers.max()) + 1))
            rule = {"column": column, "grades": grades, "positive_grades": grades[2:]}
            guesses.append(Guess(column, rule, "which grades are positive?", column))
        elif is_label:
            guesses += _entries(column, cells)
    return guesses


def is_lateral(name: str) -> bool:
    """Guess whether a finding of a chest radiograph can be on one side while its name says none.

    Args:
        name: of the finding, as `column_guesses.slug` has it.
    """
    return bool(re.search(_LATERAL, name)) and not re.search(_NAMES_SIDE, name)


def _are_grades(numbers: pd.Series) -> bool:
    """Return whether all cells are small whole numbers, three to six different ones from 0 or 1."""
    return bool(
        numbers.notna().all()
        and (numbers % 1 == 0).all()
        and numbers.min() in (0, 1)
        and numbers.max() <= 5
        and 3 <= numbers.nunique() <= 6
    )


def _entries(column: str, cells: pd.Series) -> list[Guess]:
    """Guess a finding for each entry that cells list."""
    form, entries = {}, cells
    if cells.str.startswith("[").mean() > 0.9:
        form = {"cell": "list"}
        entries = cells.map(_literal).explode().dropna().astype(str)
    else:
        separator = max("|;,", key=lambda mark: cells.str.contains(mark, regex=False).sum())
        if cells.str.contains(separator, regex=False).any():
            form = {"separator": separator}
            entries = cells.str.split(separator).explode()
    counts = entries.str.strip().value_counts().drop("", errors="ignore")
    if not 2 <= len(counts) <= MOST_ENTRIES or len(counts) > len(cells) / 2:
        return []
    return [
        Guess(entry, {"column": column, "contains": [entry], **form}, f"listed in {column}", column)
        for entry in counts.index
        if not re.match(_NORMAL, entry, re.I)
    ]


def _literal(cell: str) -> list:
    """Return the entries of a list literal, none where it is not one."""
    try:
        return list(ast.literal_eval(cell))
    except (ValueError, SyntaxError, TypeError):
        return []
