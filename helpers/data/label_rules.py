"""The rules of a manifest applied to the text of a source table: who, which finding, which split,
why left out.

In: a manifest and its source columns as text (`as_text`), so that CSV and parquet are treated
alike. Out: columns of a cohort's table. Refuses: values outside a rule, a patient in two given
splits; messages name table, column and value.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data import manifest_schema, manifests

_MEANING = {"positive": 1.0, "negative": 0.0, "unknown": np.nan}


def as_text(column: pd.Series) -> pd.Series:
    """Return a column as stripped text.

    Whole numbers without a decimal point, missing values as "".
    """
    if pd.api.types.is_bool_dtype(column):
        return column.astype(str)
    if pd.api.types.is_numeric_dtype(column):
        return column.map(lambda value: "" if pd.isna(value) else f"{value:.15g}").astype(str)
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def _numbers(text: pd.Series) -> pd.Series:
    """Return text as floats, NaN where it is no number."""
    return pd.to_numeric(text.replace("", np.nan), errors="coerce").astype(float)


def _refuse_values(text: pd.Series, is_odd: pd.Series, where: str, wanted: str, field: str) -> None:
    """Raise `InputError` naming table, column and value if any value is odd."""
    if is_odd.any():
        odd = text[is_odd].drop_duplicates().tolist()
        errors.refuse(
            f"column {text.name!r} of {where} to hold {wanted}",
            f"{errors.examples(odd)} in {int(is_odd.sum())} rows",
            f"Correct the table, or `{field}` in the manifest.",
        )


def fill_template(template: str, text: pd.DataFrame) -> pd.Series:
    """Return "{folder}/{filename}" with the columns' values filled in, one text a row.

    "" where one is blank.
    """
    filled = pd.Series("", index=text.index, dtype=object)
    for piece in re.split(r"(\{[^{}]+\})", template):
        filled = filled + (text[piece[1:-1]] if piece.startswith("{") else piece)
    return filled.mask((text[manifest_schema.template_columns(template)] == "").any(axis=1), "")


def hash_split(patient_id: str, rule: manifest_schema.SplitRule) -> str:
    """Return a patient's split by a stable hash: the same on every machine and whoever else is in
    the data.

    Args:
        patient_id: as recorded.
        rule: with `test_share` and `valid_share`, fractions of all patients.
    """
    draw = (
        int.from_bytes(hashlib.sha256(f"split:{patient_id}".encode()).digest()[:8], "big") / 2**64
    )
    return (
        "test"
        if draw < rule.test_share
        else "valid"
        if draw < rule.test_share + rule.valid_share
        else "train"
    )


def filter_reasons(
    manifest: manifest_schema.Manifest, text: pd.DataFrame, rows: pd.DataFrame
) -> pd.Series:
    """Return the reason for which the row filter leaves a row out, missing where it stays."""
    reason = pd.Series(None, index=text.index, dtype=object)
    for column, values in manifest.keep.items():
        reason[reason.isna() & ~text[column].isin(values)] = (
            f"{column} is not {' or '.join(values)}"
        )
    for column in ("image_id", "patient_id"):
        reason[reason.isna() & (rows[column] == "")] = f"no {column}"
    return reason


def add_person(
    manifest: manifest_schema.Manifest, text: pd.DataFrame, kept: pd.DataFrame, where: str
) -> list[str]:
    """Add sex, age and co-morbidities to the rows kept; return notes."""
    notes = []
    kept["sex"], kept["age_years"], kept["n_comorbidities"] = "unknown", np.nan, np.nan
    if manifest.sex:
        sex = text[manifest.sex.column]
        _refuse_values(
            sex,
            ~sex.isin(["", *manifest.sex.values]),
            where,
            " or ".join(manifest.sex.values),
            "sex.values",
        )
        kept["sex"] = sex.map(manifest.sex.values).fillna("unknown")
    if manifest.age:
        age = text[manifest.age.column]
        numbers = _numbers(age.str.replace(r"^(\d+)[Yy]$", r"\1", regex=True))  # DICOM writes 042Y
        _refuse_values(age, numbers.isna() & (age != ""), where, "numbers", "age")
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
        numbers = _numbers(count)
        is_odd = (count != "") & ~((numbers >= 0) & (numbers % 1 == 0))
        _refuse_values(count, is_odd, where, "counts", "n_comorbidities")
        kept["n_comorbidities"] = numbers
    kept["n_comorbidities"] = kept["n_comorbidities"].astype("Int64")
    return notes


def labels_of(
    finding: str, rule: manifest_schema.Finding, text: pd.DataFrame, where: str
) -> pd.Series:
    """Return 1, 0 or NaN for each row; of several columns 1 if any is 1, else NaN if any is NaN."""
    labels = pd.concat(
        [_rule_of(rule)(finding, rule, text[column], where) for column in rule.columns], axis=1
    )
    return labels.max(axis=1).where(labels.eq(1).any(axis=1) | labels.notna().all(axis=1))


def _rule_of(rule: manifest_schema.Finding) -> Callable:
    """Return the function of the one rule a finding has."""
    return (
        _label_grades
        if rule.positive_grades
        else _label_entries
        if rule.contains
        else _label_values
    )


def _label_grades(
    finding: str, rule: manifest_schema.Finding, text: pd.Series, where: str
) -> pd.Series:
    """Return labels by `positive_grades`."""
    numbers = _numbers(text)
    _refuse_values(
        text,
        (text != "") & ~numbers.isin(rule.grades),
        where,
        f"grades {', '.join(map(str, rule.grades))}",
        f"findings.{finding}.grades",
    )
    return (
        numbers.isin(rule.positive_grades)
        .astype(float)
        .mask(text == "", _MEANING[rule.blank_means])
    )


def _label_entries(
    finding: str, rule: manifest_schema.Finding, text: pd.Series, where: str
) -> pd.Series:
    """Return labels by `contains`: a cell lists entries between separators."""
    entries = {
        cell: {entry.strip() for entry in cell.split(rule.separator)} for cell in text.unique()
    }
    if rule.known:
        _refuse_values(
            text,
            (text != "") & ~text.map(lambda cell: entries[cell] <= set(rule.known)),
            where,
            f"entries known for it, separated by {rule.separator!r}",
            f"findings.{finding}.known",
        )
    positive = text.map(
        {cell: float(bool(found & set(rule.contains))) for cell, found in entries.items()}
    )
    return positive.mask(text == "", _MEANING[rule.blank_means])


def _label_values(
    finding: str, rule: manifest_schema.Finding, text: pd.Series, where: str
) -> pd.Series:
    """Return labels by `values`; numbers are compared as numbers (1.0 is 1)."""

    def plain(value: str) -> str:
        try:
            return f"{float(value):g}"
        except ValueError:
            return value

    means = _MEANING | {"uncertain": _MEANING[rule.uncertain_means]}
    meaning = {plain(value): means[name] for value, name in rule.values.items()} | {
        "": _MEANING[rule.blank_means]
    }
    values = text.map({cell: plain(cell) for cell in text.unique()})
    _refuse_values(
        text,
        ~values.isin(list(meaning)),
        where,
        " or ".join(rule.values),
        f"findings.{finding}.values",
    )
    return values.map(meaning).astype(float)


def renamed(rule: manifest_schema.Named, text: pd.Series) -> pd.Series:
    """Return a further column with its values renamed; blank stays blank."""
    other = text if rule.other is None else rule.other
    return text.map(rule.values).where(text.isin(list(rule.values)), other).mask(text == "", "")


def given_split(
    manifest: manifest_schema.Manifest,
    text: pd.DataFrame,
    image_id: pd.Series,
    where: str,
    root: Path | None,
) -> pd.Series:
    """Return the split each row is given, missing where it has none."""
    rule = manifest.split
    if rule.column:
        column = text[rule.column]
        _refuse_values(
            column,
            ~column.isin(["", *rule.values]),
            where,
            " or ".join(rule.values),
            "split.values",
        )
        return column.map(rule.values)
    split = pd.Series(None, index=image_id.index, dtype=object)
    for name, path in rule.lists.items():
        lines = (
            manifests.inside(root, path).read_text(encoding="utf-8", errors="replace").splitlines()
        )
        is_listed = image_id.isin({line.strip() for line in lines})
        twice = image_id[is_listed & split.notna()].tolist()
        if twice:
            errors.refuse(
                f"each image in one list of {', '.join(rule.lists.values())}",
                f"{len(twice)} in two, e.g. {errors.examples(twice)}",
                "Correct the lists.",
            )
        split[is_listed] = name
    return split


def refuse_patient_in_two_splits(rows: pd.DataFrame, where: str) -> None:
    """Accept a given split only when no patient is in two of its parts."""
    pairs = rows[["patient_id", "split"]].drop_duplicates()
    shared = sorted(pairs.loc[pairs["patient_id"].duplicated(), "patient_id"].unique())
    if shared:
        errors.refuse(
            f"no patient in two splits of {where}",
            f"{len(shared)}, e.g. {errors.examples(shared)}",
            "Correct the split, or remove it from the manifest: patients are then split by a hash.",
        )


def describe(manifest: manifest_schema.Manifest) -> pd.DataFrame:
    """Return the label rules in words.

    One row a finding; finding, canonical, source, positive_if, alternative, blank.
    """

    def grades(values: list[int]) -> str:
        return f"grade {', '.join(map(str, values))}" if values else "-"

    def words(rule: manifest_schema.Finding) -> str:
        positive = [value for value, meaning in rule.values.items() if meaning == "positive"]
        return (
            f"{grades(rule.positive_grades)} of {rule.grades[0]} to {rule.grades[-1]}"
            if rule.grades
            else (
                f"lists {' or '.join(rule.contains)}"
                if rule.contains
                else f"is {' or '.join(positive)}"
            )
        )

    return pd.DataFrame(
        [
            {
                "finding": finding,
                "canonical": rule.meaning,
                "source": " or ".join(rule.columns),
                "positive_if": words(rule),
                "alternative": grades(rule.alternative_positive_grades),
                "blank": rule.blank_means,
            }
            for finding, rule in manifest.findings.items()
        ]
    )
