"""Who a patient is: sex, age and co-morbidities, by a manifest's rules.

In: a manifest and its source columns as text. Out: columns of a cohort's table. Raises `InputError`
for values outside a rule; an impossible age becomes unknown, and is counted.
"""

import numpy as np
import pandas as pd

from helpers.data import source_text
from helpers.data.manifest_schema import Manifest


def add_patient_columns(
    manifest: Manifest, text: pd.DataFrame, rows: pd.DataFrame, where: str
) -> list[str]:
    """Add sex, age_years and n_comorbidities to rows, in place; return notes.

    Args:
        manifest: the rules; without one a column is unknown.
        text: source columns; same index as `rows`.
        rows: of a cohort's table.
        where: name of the table, for messages.

    Raises:
        InputError: a value outside its rule.
    """
    notes = []
    rows["sex"], rows["age_years"], rows["n_comorbidities"] = "unknown", np.nan, np.nan
    if manifest.sex:
        sex = text[manifest.sex.column]
        source_text.refuse_values(
            sex,
            ~sex.isin(["", *manifest.sex.values]),
            where,
            " or ".join(manifest.sex.values),
            "sex.values",
        )
        rows["sex"] = sex.map(manifest.sex.values).fillna("unknown")
    if manifest.age:
        age = text[manifest.age.column]
        without_unit = age.str.replace(r"^(\d+)[Yy]$", r"\1", regex=True)  # DICOM writes 042Y
        numbers = source_text.numbers(without_unit)
        source_text.refuse_values(age, numbers.isna() & (age != ""), where, "numbers", "age")
        years = numbers / 365.25 if manifest.age.unit == "days" else numbers
        is_impossible = (years < 0) | (years > manifest.age.max_years)
        rows["age_years"] = years.mask(is_impossible)
        if is_impossible.any():
            notes.append(
                f"{int(is_impossible.sum())} rows with an impossible age (below 0 or above "
                f"{manifest.age.max_years:g} years) count as age unknown."
            )
    if manifest.n_comorbidities:
        count = text[manifest.n_comorbidities]
        numbers = source_text.numbers(count)
        is_odd = (count != "") & ~((numbers >= 0) & (numbers % 1 == 0))
        source_text.refuse_values(count, is_odd, where, "counts", "n_comorbidities")
        rows["n_comorbidities"] = numbers
    rows["n_comorbidities"] = rows["n_comorbidities"].astype("Int64")
    return notes
