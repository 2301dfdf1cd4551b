"""Who a patient is: sex, age and co-morbidities, by a manifest's rules.

In: a manifest and its source columns as text. Out: columns of a cohort's table. Raises `InputError`
for values outside a rule; an impossible age becomes unknown, and is counted.
"""

import numpy as np
import pandas as pd

from helpers.data.manifest_schema import Manifest
from helpers.data.tables import patient_ages, source_text

MOST_COMORBIDITIES = 90  # above it a number is a code, such as 99 or 999


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
        is_odd = ~sex.isin(["", *manifest.sex.values])
        source_text.refuse_values(
            sex,
            is_odd,
            where,
            " or ".join(manifest.sex.values),
            "sex.values",
            source_text.nearest(sex[is_odd].iloc[0], list(manifest.sex.values))
            if is_odd.any()
            else "",
        )
        rows["sex"] = sex.map(manifest.sex.values).fillna("unknown")
    if manifest.age:
        rows["age_years"], notes = patient_ages.ages(manifest.age, text, where)
    if manifest.n_comorbidities:
        count = text[manifest.n_comorbidities]
        numbers = source_text.numbers(count)
        is_odd = (count != "") & ~(numbers.between(0, MOST_COMORBIDITIES) & (numbers % 1 == 0))
        source_text.refuse_values(
            count,
            is_odd,
            where,
            f"counts from 0 to {MOST_COMORBIDITIES}",
            "n_comorbidities",
            "A cell that means unknown belongs in `missing`. ",
        )
        rows["n_comorbidities"] = numbers
    rows["n_comorbidities"] = rows["n_comorbidities"].astype("Int64")
    if not manifest.patient_id:
        notes.append(
            "The data set does not say whose an image is: every image counts as a patient of its"
            " own, and images of one person can be in two splits."
        )
    return notes
