"""Tables that somebody else wrote, as analyses need them: identifiers, ages, sexes, groups.

In: the path of a CSV, Excel or Parquet file. Out: a table of text, with numbers where they are
meant. Raises `InputError` for columns that are absent or called otherwise, identifiers that are
blank or damaged, repeated images, values outside their range; the message names the file.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.tables import (
    damaged_identifiers,
    patient_checks,
    patient_rules,
    read_table,
    source_files,
    source_text,
)

# what programs write for a missing number; in a column of names these are names
_MISSING_NUMBERS = ("na", "n/a", "nan", "null", "none", "<na>")
_POSSIBLE = {"age_years": (0, 120), "n_comorbidities": (0, patient_rules.MOST_COMORBIDITIES)}
# what is written in place of a patient's identifier
_PLACEHOLDERS = {
    *_MISSING_NUMBERS,
    "-",
    "?",
    "unknown",
    "unk",
    "anonymous",
    "anonymized",
    "missing",
}
# columns that hold the same under another name: the words that say so, and those that may stand
# beside them ("scanner_age", "age_group" and "female_reader" are other columns)
_OTHER_NAMES = {
    "age_years": (
        {"age", "alter"},
        {"patient", "subject", "at", "of", "in", "study", "exam", "scan", "image", "diagnosis"}
        | {"years", "year", "yrs", "y"},
    ),
    "sex": (
        {"sex", "gender", "geschlecht", "female", "male"},
        {"patient", "subject", "is", "of", "code"},
    ),
    "n_comorbidities": (
        {"comorbidities", "comorbidity"},
        {"n", "number", "of", "count", "total", "patient", "num", "index"},
    ),
}
_OTHER_UNITS = {"days", "day", "months", "month", "weeks", "week", "d", "m"}


def read_images(table: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of images, with sex, age_years and n_comorbidities unknown if absent, and
    notes.
    """
    images = read(table, ["image_id", "patient_id"])
    if (twice := images["image_id"].duplicated()).any():
        errors.refuse(
            f"one row an image in {table}",
            f"{int(twice.sum())} repeated, e.g. {images.loc[twice, 'image_id'].iloc[0]!r}",
            "Remove the repeated rows.",
        )
    _refuse_no_patients(images, table)
    for column in _OTHER_NAMES:
        _refuse_other_name(images, column, table)
    sex = images.get("sex", pd.Series("", index=images.index))
    is_odd = ~sex.isin(["female", "male", "unknown", ""]) & ~sex.str.casefold().isin(
        _MISSING_NUMBERS
    )
    if is_odd.any():
        errors.refuse(
            f"sex female, male or empty in {table}",
            errors.examples(sorted(set(sex[is_odd]))),
            "Rename the values.",
        )
    images["sex"] = sex.where(sex.isin(["female", "male"]), "unknown")
    notes = []
    for column in _POSSIBLE:
        images[column], of_column = _possible(images, column, table)
        notes += of_column
    return images, notes


def _refuse_no_patients(images: pd.DataFrame, table: str) -> None:
    """Accept patient ids that can tell whose an image is.

    Raises:
        InputError: every image has a patient of its own by name, or several have a placeholder.
    """
    patients = images["patient_id"]
    is_image = (patients == images["image_id"]).all()
    if is_image and len(images) > patient_checks.MIN_ROWS_TO_JUDGE:
        errors.refuse(
            f"patient_id to say whose an image is in {table}",
            f"the image's own id in all {len(images):,} rows",
            "Give the patients' ids: intervals are drawn over patients. If each has one image,"
            ' write a letter before each id, such as "p".',
        )
    is_placeholder = patients.str.casefold().isin(_PLACEHOLDERS)
    if is_placeholder.sum() > 1:
        errors.refuse(
            f"the id of a patient in every row of {table}",
            f"{errors.examples(sorted(set(patients[is_placeholder])))} in"
            f" {int(is_placeholder.sum())} rows, which would be one patient",
            "Fill them in, or leave the rows out everywhere.",
        )


def _refuse_other_name(images: pd.DataFrame, column: str, table: str) -> None:
    """Accept a table that has a column, or none that looks like it.

    Raises:
        InputError: its groups would be unknown although another column seems to hold them.
    """
    words, beside = _OTHER_NAMES[column]
    meaning = {"age_years": " (ages in years)", "sex": " (female, male or empty)"}
    units = _OTHER_UNITS if column == "age_years" else set()
    names = {name: set(_words_of(name)) for name in images}
    similar = [
        name for name, parts in names.items() if parts & words and parts <= words | beside | units
    ]
    if column in images or not similar:
        return
    is_other_unit = bool(names[similar[0]] & units)
    errors.refuse(
        f"the column {column} in {table}",
        f"{errors.examples(similar)} in its place",
        "Write the ages in years into a column age_years."
        if is_other_unit
        else f"Rename it to {column}{meaning.get(column, '')}.",
    )


def _words_of(name: str) -> list[str]:
    """Return the words of a column's name: "PatientAge" and "patient_age" are patient, age."""
    return re.findall("[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).casefold())


def _possible(images: pd.DataFrame, column: str, table: str) -> tuple[pd.Series, list[str]]:
    """Return a column of numbers, missing where they are impossible, and a note on how many are.

    Raises:
        InputError: no numbers, or most of them impossible: another unit.
    """
    if column not in images:
        return pd.Series(np.nan, index=images.index), []
    values, (low, high) = numbers(images[column], column, table), _POSSIBLE[column]
    is_impossible = (values < low) | (values > high)
    codes = set(values[is_impossible])
    if len(codes) > 3 and is_impossible.sum() > values.notna().sum() / 2:
        errors.refuse(
            f"{column} from {low} to {high} in {table}",
            f"{errors.examples(sorted(codes))} in {int(is_impossible.sum())}"
            f" of {int(values.notna().sum())} rows",
            "Give ages in years." if column == "age_years" else "Give the number of diseases.",
        )
    examples = errors.examples([f"{code:g}" for code in sorted(codes)])
    note = (
        f"{int(is_impossible.sum())} images of {Path(table).name} have {column} below {low} or"
        f" above {high}, e.g. {examples}: they count as unknown."
    )
    return values.mask(is_impossible), [note] if is_impossible.any() else []


def read(path: str, columns: list[str]) -> pd.DataFrame:
    """Return a table as text, with whole identifiers in every row.

    Raises:
        InputError: no table, a column is absent, or an identifier is blank or damaged.
    """
    with source_files.readable():
        table = read_table.read(path)
    errors.has_columns(table, columns, str(path), "Correct the file.")
    for column in ("image_id", "patient_id", "finding"):
        if column in table:
            is_blank = table[column].eq("")
            if column == "patient_id":
                is_blank |= table[column].str.casefold().isin(_MISSING_NUMBERS)
            refuse_blank(table, column, is_blank, path)
            damaged_identifiers.refuse(table[column], str(path))
    return table


def refuse_blank(table: pd.DataFrame, column: str, is_blank: pd.Series, path: str) -> None:
    """Accept a column without blank cells."""
    if is_blank.any():
        errors.refuse(
            f"a {column} in every row of {path}",
            f"{int(is_blank.sum())} without",
            "Fill them in, or leave the rows out everywhere.",
        )


def numbers(column: pd.Series, name: str, path: str) -> pd.Series:
    """Return a column as numbers, empty ones missing."""
    column = column.mask(column.str.casefold().isin(_MISSING_NUMBERS), "")
    values = source_text.numbers(column)
    if (odd := values.isna() & (column != "")).any():
        errors.refuse(
            f"numbers in {name} of {path}",
            errors.examples(column[odd].drop_duplicates().tolist()),
            "Correct the file.",
        )
    return values
