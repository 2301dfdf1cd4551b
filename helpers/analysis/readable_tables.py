"""Tables in a reader's order and form.

In: tables of estimates by group and arm. Out: the same, sorted, labelled, as text.
"""

import pandas as pd

from helpers.analysis.metric_table import ALL, REST
from helpers.data import groups


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of groups sorted for reading, with a `label` that names attribute and group.

    Attributes and runs stay in the order in which they come; bands go from low to high, "unknown"
    comes last.
    """
    attributes = list(dict.fromkeys(table["attribute"]))
    keys = sorted(
        set(zip(table["attribute"], table["group"])),
        key=lambda k: (attributes.index(k[0]), groups.sort_key(k[1])),
    )
    ranks = {key: rank for rank, key in enumerate(keys)}
    rank = [ranks[key] for key in zip(table["attribute"], table["group"])]
    plain = table["attribute"].isin(["sex", ALL])
    group = table["group"].astype(str)  # of another type where there is none
    label = group.where(plain, table["attribute"].astype(str) + " " + group)
    return (
        table.assign(label=label, rank=rank)
        .sort_values("rank", kind="stable", ignore_index=True)
        .drop(columns="rank")
    )


def shown(
    table: pd.DataFrame, form: str = "{:.3f}", missing: str = "not estimable"
) -> pd.DataFrame:
    """Return a table for reading.

    Floats in one form, missing ones said in words, the first column as row names.
    """
    text = table.copy()
    for column in table.select_dtypes("float").columns:
        text[column] = [
            missing if pd.isna(value) else form.format(value) for value in table[column]
        ]
    text = text.astype(object).where(text.notna(), missing)
    return text if any(text.index.names) else text.set_index(text.columns[0])


def with_interval(row: tuple, form: str = "+.3f") -> str:
    """Return "estimate [low, high]" of a row that has the three.

    Args:
        row: of `itertuples`, or a Series.
        form: of the numbers, e.g. "+.3f" of a difference.
    """
    return f"{row.estimate:{form}} [{row.low:{form}}, {row.high:{form}}]"


def estimable(row: tuple, form: str = "+.3f") -> str:
    """Return `with_interval`, or in words that there is no estimate; alone where no interval is.

    Args:
        row, form: see there.
    """
    if pd.isna(row.estimate):
        return "not estimable"
    return f"{row.estimate:{form}}" if pd.isna(row.low) else with_interval(row, form)


def wide(table: pd.DataFrame, columns: str | list[str], rows: str = "label") -> pd.DataFrame:
    """Return the estimates with groups (or findings) as rows and runs as columns, both in the order
    they come.
    """
    if table.empty:  # nothing is estimable
        return pd.DataFrame(index=pd.Index([], name=rows))
    keys = [rows, *([columns] if isinstance(columns, str) else columns)]
    return table.set_index(keys)["estimate"].unstack(keys[1:], sort=False)


def by_group(estimates: pd.DataFrame, sizes: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean over findings of one metric in each group and run, with the group's size in
    its label.

    Args:
        estimates: from `confidence_intervals.summarise` of macro values, with arm_label.
        sizes: from `metric_table.group_sizes`.
        metric: name of the metric.
    """
    rows = estimates[(estimates["metric"] == metric) & (estimates["finding"] == "macro")]
    rows = in_order(
        rows[~rows["group"].str.startswith(REST)].merge(sizes, on=["attribute", "group"])
    )
    return rows.assign(label=with_sizes(rows))


def with_sizes(rows: pd.DataFrame) -> pd.Series:
    """Return labels of groups with their numbers of patients and of positive labels, as far as
    these are shown.
    """
    labels = [
        f"{row.label} ({_number(row.n_patients)} patients, {_number(row.n_positive)} positive)"
        for row in rows.itertuples()
    ]
    return pd.Series(labels, rows.index, dtype=object)


def _number(count: float) -> str:
    """Return a count in words, "?" of one that is not shown."""
    return "?" if pd.isna(count) else f"{count:,.0f}"
