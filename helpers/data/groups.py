"""Groups of patients: sex, age bands or quartiles, co-morbidities, their crossing, any further
column of a cohort's table.

In: a cohort's table. Out: the same rows with one text column an attribute. Raises `InputError` for
an unknown attribute and for values outside the bands. A missing value is the group "unknown": shown
and counted, never dropped.
"""

import numpy as np
import pandas as pd

from helpers.core import errors

AGE_EDGES_YEARS = (0, 30, 60, 70, 80, np.inf)  # the paper's bands, the last one open
COMORBIDITY_EDGES = (0, 1, 3, np.inf)  # 0; 1-2; 3 and more
UNKNOWN = "unknown"
# columns of a cohort's table that name images and patients, or are groups by another name
_NO_GROUPS = (
    "image_id",
    "patient_id",
    "split",
    "age_years",
    "n_comorbidities",
    "film_sha256",
    "pixels_sha256",
)
ATTRIBUTES = ("sex", "age", "age quartile", "comorbidities", "sex x age")


def bands(values: pd.Series, edges: tuple[float, ...]) -> pd.Series:
    """Return the half-open band [low, high) of each value as text, e.g. "[60, 70)", ">= 80", or
    "unknown".

    Args:
        values: (n,) floats, NaN where unknown.
        edges: increasing; a last infinite edge makes an open band.

    Raises:
        InputError: a value lies below the first edge or at or above the last.
    """
    names = [
        f"[{low:g}, {high:g})" if np.isfinite(high) else f">= {low:g}"
        for low, high in zip(edges, edges[1:])
    ]
    numbers = pd.to_numeric(values).astype(float)
    outside = numbers[(numbers < edges[0]) | (numbers >= edges[-1])]
    if len(outside):
        errors.refuse(
            f"{values.name} in [{edges[0]:g}, {edges[-1]:g})",
            errors.examples(outside.tolist()),
            "Correct the table or the band edges.",
        )
    cut = pd.cut(numbers, list(edges), right=False, labels=names)
    return cut.astype(object).where(numbers.notna(), UNKNOWN).astype(str)


def sort_key(group: str) -> tuple:
    """Return the sorting key of a group's name.

    Bands from low to high, then other names, "unknown" last.
    """
    edge = group.strip("[>= ").split(",")[0].split(" ")[0]
    is_band = group.startswith(("[", ">=")) and edge.replace(".", "").isdigit()
    return (group.startswith(UNKNOWN), not is_band, float(edge) if is_band else 0.0, group)


def is_unknown(names: pd.Series) -> np.ndarray:
    """Return which names of groups are "unknown", or a crossing with it."""
    return np.array([UNKNOWN in name.split(" x ") for name in names], dtype=bool)


def add_groups(
    table: pd.DataFrame, attributes: list[str], age_edges: list[float] | None = None
) -> pd.DataFrame:
    """Return the cohort's table with a text column `group_<attribute>` for each attribute.

    Args:
        table: a cohort's table.
        attributes: of `ATTRIBUTES`, or a further column's name. Quartiles of age are those of the
            test patients whose age is known.
        age_edges: lower edges of the age bands in years, increasing, the last band open; None for
            the paper's.

    Raises:
        InputError: an attribute that is neither of these.
    """
    grouped = table.copy()
    for attribute in attributes:
        grouped[f"group_{attribute}"] = _group(table, attribute, age_edges)
    return grouped


def _group(table: pd.DataFrame, attribute: str, age_edges: list[float] | None) -> pd.Series:
    """Return the group of each row for one attribute."""
    if attribute == "age":
        return bands(table["age_years"], (*age_edges, np.inf) if age_edges else AGE_EDGES_YEARS)
    if attribute == "age quartile":
        patients = table[table["split"] == "test"].drop_duplicates("patient_id")
        inner = np.unique(patients["age_years"].dropna().quantile([0.25, 0.5, 0.75]).round(1))
        return bands(table["age_years"], (0, *inner[inner > 0], np.inf))
    if attribute == "comorbidities":
        return bands(table["n_comorbidities"], COMORBIDITY_EDGES)
    if attribute == "sex x age":
        return _group(table, "sex", None) + " x " + _group(table, "age", age_edges)
    if attribute in _NO_GROUPS or attribute not in table:
        errors.one_of("group attribute", attribute, [*ATTRIBUTES, *_groupable(table)])
    column = table[attribute]
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")  # code 2 is "2" also where another one is missing
    column = column.astype(object)
    return column.where(column.notna() & (column != ""), UNKNOWN).astype(str)


def _groupable(table: pd.DataFrame) -> list[str]:
    """Return the further columns that make groups: no identifiers, no labels of 0 and 1."""
    return [
        column
        for column in table
        if column not in _NO_GROUPS
        and column not in ATTRIBUTES
        and not str(column).startswith("group_")
        and not (
            pd.api.types.is_numeric_dtype(table[column])
            and table[column].dropna().isin([0, 1]).all()
        )
    ]
