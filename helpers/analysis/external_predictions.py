"""Predictions of somebody else's model: two files instead of a study's folders.

In: paths of tables of predictions and of one table of images. Out: what notebooks 04 and 05 read of
a study. Raises `InputError` for wrong columns, scores outside [0, 1], repeated rows, images without
a row in the table, a patient in two splits, an unknown arm, two files of one arm and seed,
identifiers that went through a number type. Impossible ages and counts are unknown, which is
printed.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors, run_records
from helpers.data import read_table, source_files, source_text

_KEYS = {"path", "arm", "epsilon", "unit", "seed", "recipe"}
# what programs write for a missing number; in a column of names these are names
_MISSING_NUMBERS = ("na", "n/a", "nan", "null", "none", "<na>")
_POSSIBLE = {"age_years": (0, 120), "n_comorbidities": (0, 60)}
# columns that hold the same under another name
_OTHER_NAMES = {
    "age_years": ({"age", "alter"}, {"group", "band", "bin", "category", "quartile", "range"}),
    "sex": ({"sex", "gender", "geschlecht"}, set()),
    "n_comorbidities": ({"comorbidities", "comorbidity"}, {"group", "band"}),
}


def study(
    predictions: list[dict], table: str
) -> tuple[pd.DataFrame, list[dict], dict[str, pd.DataFrame]]:
    """Return the table of images, the records of runs, and their predictions.

    Args:
        predictions: an entry a model: `path` of a CSV, Excel or Parquet file with image_id,
            finding, label (1, 0 or empty) and score (0 to 1), and optionally split ("valid" or
            "test"; all "test" where absent, and then no threshold is fitted); `arm`: "baseline"
            (no privacy), "dp" or "zero_shot"; for "dp" also `epsilon`; optional `unit` ("patient"
            or "image"), `seed`, `recipe`.
        table: path of such a file with a row an image: image_id, patient_id, and what groups are
            made of: sex ("female", "male"; else unknown), age_years, n_comorbidities, any further
            column, which is text.

    Prints a sentence on ages and counts that cannot be and count as unknown.

    Raises:
        InputError: see above; the message names the file.
    """
    if not table:
        errors.refuse(
            "TABLE, the path of the table of images, where PREDICTIONS are given",
            "none",
            "Set TABLE.",
        )
    images, notes = _images(table)
    print(*notes, sep="\n", end="\n" if notes else "")
    records = [_record(entry) for entry in predictions]
    tables = {
        record["run"]: _predictions(entry, images, table)
        for record, entry in zip(records, predictions)
    }
    keys = [
        tuple(str(record[name]) for name in ("arm", "epsilon_target", "unit", "recipe", "seed"))
        for record in records
    ]
    if len(set(keys)) < len(keys):
        errors.refuse(
            "PREDICTIONS that differ in arm, epsilon, unit, recipe or seed",
            "two that do not",
            "Give the second another seed, or a recipe.",
        )
    if len(tables) < len(records):
        errors.refuse(
            "predictions in files of different names",
            errors.examples([entry["path"] for entry in predictions], 9),
            "Rename one.",
        )
    splits = pd.concat(tables.values()).drop_duplicates("image_id").set_index("image_id")["split"]
    images["split"] = images["image_id"].map(splits).fillna("train")
    return images, records, tables


def _images(table: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of images, with sex, age_years and n_comorbidities unknown if absent, and
    notes.
    """
    images = _read(table, ["image_id", "patient_id"])
    if (twice := images["image_id"].duplicated()).any():
        errors.refuse(
            f"one row an image in {table}",
            f"{int(twice.sum())} repeated, e.g. {images.loc[twice, 'image_id'].iloc[0]!r}",
            "Remove the repeated rows.",
        )
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


def _refuse_other_name(images: pd.DataFrame, column: str, table: str) -> None:
    """Accept a table that has a column, or none that looks like it.

    Raises:
        InputError: its groups would be unknown although another column seems to hold them.
    """
    words, not_with = _OTHER_NAMES[column]
    meaning = {"age_years": " (ages in years)", "sex": " (female, male or empty)"}
    names = {name: set(_words_of(name)) for name in images}
    similar = [name for name, parts in names.items() if parts & words and not parts & not_with]
    if column not in images and similar:
        errors.refuse(
            f"the column {column} in {table}",
            f"{errors.examples(similar)} in its place",
            f"Rename it to {column}{meaning.get(column, '')}.",
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
    values, (low, high) = _numbers(images[column], column, table), _POSSIBLE[column]
    is_impossible = (values < low) | (values > high)
    if is_impossible.sum() > values.notna().sum() / 2:
        errors.refuse(
            f"{column} from {low} to {high} in {table}",
            f"{errors.examples(sorted(set(values[is_impossible])))} in {int(is_impossible.sum())}"
            f" of {int(values.notna().sum())} rows",
            "Give ages in years." if column == "age_years" else "Give the number of diseases.",
        )
    examples = errors.examples(sorted({f"{value:g}" for value in values[is_impossible]}))
    note = (
        f"{int(is_impossible.sum())} images of {Path(table).name} have {column} below {low} or"
        f" above {high}, e.g. {examples}: they count as unknown."
    )
    return values.mask(is_impossible), [note] if is_impossible.any() else []


def _predictions(entry: dict, images: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the predictions of one model, with split and patient_id."""
    rows = _read(entry["path"], ["image_id", "finding", "label", "score"])
    is_strange = ~rows["image_id"].isin(images["image_id"])
    if is_strange.any():
        strangers = rows.loc[is_strange, "image_id"].drop_duplicates()
        errors.refuse(
            f"a row in {table} for every image of {entry['path']}",
            f"{len(strangers)} without, e.g. {errors.examples(sorted(strangers))}",
            "Add them to the table, or leave their predictions out."
            + source_text.likely_cause(strangers, images["image_id"]),
        )
    rows = rows.assign(
        split=rows.get("split", "test"),
        patient_id=rows["image_id"].map(images.set_index("image_id")["patient_id"]),
    )
    if not rows["split"].isin(["valid", "test"]).all():
        errors.refuse(
            f"split valid or test in {entry['path']}",
            errors.examples(sorted(set(rows["split"]) - {"valid", "test"})),
            "Rename them.",
        )
    if (parts := rows.groupby("patient_id")["split"].nunique()).gt(1).any():
        errors.refuse(
            f"each patient in one split of {entry['path']}",
            f"{int(parts.gt(1).sum())} in several, e.g."
            f" {errors.examples(list(parts[parts > 1].index))}",
            "Split patients, not images.",
        )
    for column in ("score", "label"):
        rows[column] = _numbers(rows[column], column, entry["path"])
    _refuse_blank(rows, "score", rows["score"].isna(), entry["path"])
    run_records.check_predictions(rows, entry["path"])
    return rows


def _read(path: str, columns: list[str]) -> pd.DataFrame:
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
            _refuse_blank(table, column, is_blank, path)
            source_text.refuse_identifiers(table[column], str(path))
    return table


def _refuse_blank(table: pd.DataFrame, column: str, is_blank: pd.Series, path: str) -> None:
    """Accept a column without blank cells, and a table with rows."""
    if table.empty:
        errors.refuse(f"at least one row in {path}", "none", "Correct the file.")
    if is_blank.any():
        errors.refuse(
            f"a {column} in every row of {path}",
            f"{int(is_blank.sum())} without",
            "Fill them in, or leave the rows out everywhere.",
        )


def _numbers(column: pd.Series, name: str, path: str) -> pd.Series:
    """Return a column as numbers, empty ones missing."""
    column = column.mask(column.str.casefold().isin(_MISSING_NUMBERS), "")
    numbers = source_text.numbers(column)
    if (odd := numbers.isna() & (column != "")).any():
        errors.refuse(
            f"numbers in {name} of {path}",
            errors.examples(column[odd].drop_duplicates().tolist()),
            "Correct the file.",
        )
    return numbers


def _record(entry: object) -> dict:
    """Return the record of one model, as far as notebook 04 needs it."""
    wanted = 'each of PREDICTIONS to be like {"path": "ours.csv", "arm": "dp", "epsilon": 8}'
    if not isinstance(entry, dict) or not {"path", "arm"} <= set(entry) <= _KEYS:
        errors.refuse(wanted, repr(entry), f"Keys: {', '.join(sorted(_KEYS))}.")
    errors.one_of("arm", entry["arm"], run_records.ARMS)
    if (entry["arm"] == "dp") != (entry.get("epsilon") is not None):
        errors.refuse("epsilon for arm dp, and only there", repr(entry), "Correct PREDICTIONS.")
    errors.one_of("unit", entry.get("unit", "patient"), ("patient", "image"))
    if entry["arm"] == "dp":
        errors.number("epsilon", entry["epsilon"], 0, np.inf, open_low=True)
    return {
        "run": Path(entry["path"]).stem,
        "arm": entry["arm"],
        "epsilon_target": entry.get("epsilon"),
        "unit": entry.get("unit", "patient") if entry["arm"] == "dp" else None,
        "seed": entry.get("seed", 0),
        "recipe": entry.get("recipe", "default"),
        "seconds": np.nan,
        "ledger": None,
    }
