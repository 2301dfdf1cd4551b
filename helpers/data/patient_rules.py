"""Who a patient is: sex, age and co-morbidities, by a manifest's rules.

In: a manifest and its source columns as text. Out: columns of a cohort's table. Raises `InputError`
for values outside a rule; an impossible age becomes unknown, and is counted.
"""

import numpy as np
import pandas as pd

from helpers.data import source_text
from helpers.data.manifest_schema import Manifest


def add_patients(
    manifest: Manifest, text: pd.DataFrame, kept: pd.DataFrame, where: str
) -> list[str]:
    """Add sex, age and co-morbidities to the rows kept; return notes."""
    notes = []
    kept["sex"], kept["age_years"], kept["n_comorbidities"] = "unknown", np.nan, np.nan
    if manifest.sex:
        sex = text[manifest.sex.column]
        source_text.refuse_values(
            sex,
            ~sex.isin(["", *manifest.sex.values]),
            where,
            " or ".join(manifest.sex.values),
            "sex.values",
        )
        kept["sex"] = sex.map(manifest.sex.values).fillna("unknown")
    if manifest.age:
        age = text[manifest.age.column]
        numbers = source_text.numbers(
            age.str.replace(r"^(\d+)[Yy]$", r"\1", regex=True)
        )  # DICOM writes 042Y
        source_text.refuse_values(age, numbers.isna() & (age != ""), where, "numbers", "age")
        years = numbers / 365.25 if manifest.age.unit == "days" else numbers
        impossible = (years < 0) | (years > manifest.age.max_years)
        kept["age_years"] = years.mask(impossible)
        if impossible.any():
            notes.append(
                f"{int(impossible.sum())} rows with an impossible age (below 0 or above "
                f"{manifest.age.max_years:g} years) count as age unknown."
            )
    if manifest.n_comorbidities:
        count = text[manifest.n_comorbidities]
        numbers = source_text.numbers(count)
        is_odd = (count != "") & ~((numbers >= 0) & (numbers % 1 == 0))
        source_text.refuse_values(count, is_odd, where, "counts", "n_comorbidities")
        kept["n_comorbidities"] = numbers
    kept["n_comorbidities"] = kept["n_comorbidities"].astype("Int64")
    return notes
