"""Add the columns of one table to the rows of another, by equal identifiers.

In: two tables of text and a rule. Out: the rows with further columns. Raises `InputError` for rows
without a partner on either side, identifiers with several partners, columns that contradict each
other; the message says how many, shows some of both sides and names the likely cause.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.layout_schema import Join
from helpers.data.tables import damaged_identifiers, source_text


def join(
    rows: pd.DataFrame,
    table: pd.DataFrame,
    rule: Join,
    where: str,
    several: bool = False,
    optional: Collection[int] = (),
) -> pd.DataFrame:
    """Return the rows with the further table's columns, "" where a row has no partner.

    Where rows without one are expected, a column "in <table>" says "yes" or "no".

    Args:
        rows: text; any index, which is kept (and repeated where a row has several partners).
        table: text; its blank rows do not count, nor do its repeated rows unless `several`, where
            two readers may say the same.
        rule: which columns must be equal, which are added, what may stay without a partner.
        where: name of the table that the rows come from.
        several: a row may have several partners, and is then repeated.
        optional: index of rows that may be without one, such as files that are no images.

    Raises:
        InputError: see the module.
    """
    errors.has_columns(rows, rule.keys, where)
    errors.has_columns(table, [*rule.keys.values(), *rule.columns], rule.name)
    for column, partner in rule.keys.items():
        damaged_identifiers.refuse(rows[column], where)
        damaged_identifiers.refuse(table[partner], rule.name)
    wanted = rule.columns or list(table)
    table = table[list(dict.fromkeys([*rule.keys.values(), *wanted]))]
    table = table if several else table.drop_duplicates()
    table = table[(table != "").any(axis=1)].reset_index(drop=True)
    keys = pd.DataFrame(
        {"key": _key(rows, list(rule.keys)), "row": np.arange(len(rows))}
    ).reset_index(drop=True)
    partners = pd.DataFrame(
        {"key": _key(table, list(rule.keys.values())), "partner": np.arange(len(table))}
    )
    is_optional = rows.index.isin(list(optional))
    _refuse_unmatched(keys["key"], partners["key"], is_optional, rule, where)
    repeated = partners["key"].duplicated() & _has_partner(partners["key"], keys["key"])
    if repeated.any() and not several:
        errors.refuse(
            f"one row for each {' and '.join(rule.keys.values())} in {rule.name}",
            f"{int(repeated.sum())} more, e.g. {_shown(partners.loc[repeated, 'key'])}",
            "Correct the table, name the wanted `columns`, or say under `rows` how several rows of"
            " an image become one.",
        )
    pairs = keys.merge(partners[partners["key"] != ""], on="key", how="left")
    added = table.reindex(pairs["partner"].fillna(-1).astype(int)).fillna("")
    joined = rows.iloc[pairs["row"]]
    added.index = joined.index
    names = [column for column in wanted if column not in rule.keys or column in rule.columns]
    _refuse_contradictions(joined, added[names], pairs["partner"].notna().to_numpy(), rule, where)
    columns = {name: added[name] for name in names if name not in joined}
    if "rows" in rule.unmatched:
        columns[f"in {rule.name}"] = np.where(pairs["partner"].notna(), "yes", "no")
    return joined.assign(**columns)


def _key(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Return one text a row for the columns that identify it; "" where one of them is blank."""
    key = table[columns[0]]
    for column in columns[1:]:
        key = key + "\n" + table[column]
    return key.mask((table[columns] == "").any(axis=1), "")


def _has_partner(keys: pd.Series, others: pd.Series) -> pd.Series:
    """Return which keys are among the others; a blank one never is."""
    known = set(others.tolist()) - {""}  # faster than `isin`, which goes through Arrow row by row
    return pd.Series([key in known for key in keys.tolist()], index=keys.index, dtype=bool)


def _shown(keys: Collection[str]) -> str:
    """Return some identifiers for a message."""
    return errors.examples([key.replace("\n", ", ") for key in keys])


def _refuse_unmatched(
    keys: pd.Series, partners: pd.Series, is_optional: np.ndarray, rule: Join, where: str
) -> None:
    """Accept rows and table when all of them have a partner, but for the sides that the rule names.

    Raises:
        InputError: some have none.
    """
    of_rows = keys[~_has_partner(keys, partners) & ~is_optional]
    of_table = partners[~_has_partner(partners, keys)]
    absent = {"rows": (where, of_rows), "table": (rule.name, of_table)}
    sides = [side for side, (_, lone) in absent.items() if len(lone) and side not in rule.unmatched]
    if sides:
        got = "; ".join(
            f"{len(lone):,} rows of {name} without one, e.g. {_shown(lone.drop_duplicates())}"
            for name, lone in absent.values()
            if len(lone)
        )
        blank = int((of_rows == "").sum() + (of_table == "").sum())
        errors.refuse(
            f"a partner for every row of {where} and of {rule.name}, by"
            f" {', '.join(f'{a} = {b}' if a != b else a for a, b in rule.keys.items())}",
            got + (f" ({blank:,} blank)" if blank else ""),
            "Correct the tables, or write"
            f" `unmatched: [{', '.join(dict.fromkeys([*rule.unmatched, *sides]))}]` where that is"
            f" as it should be.{source_text.likely_cause(of_rows, of_table)}",
        )


def _refuse_contradictions(
    rows: pd.DataFrame, added: pd.DataFrame, is_matched: np.ndarray, rule: Join, where: str
) -> None:
    """Accept columns of one name in both tables when their cells are equal.

    Raises:
        InputError: they differ.
    """
    for name in added:
        if name in rows:
            differs = (rows[name] != added[name]).to_numpy() & is_matched
            if differs.any():
                examples = [
                    f"{ours} and {theirs}"
                    for ours, theirs in zip(rows.loc[differs, name], added.loc[differs, name])
                ]
                errors.refuse(
                    f"column {name!r} to be the same in {where} and in {rule.name}",
                    f"{int(differs.sum())} rows that differ, e.g. {errors.examples(examples)}",
                    "Rename it in one of them, or name the `columns` to be added.",
                )
