"""Predictions of somebody else's model: two files instead of a study's folders.

In: paths of tables of predictions and of one table of images. Out: what notebooks 04 and 05 read of
a study. Raises `InputError` for wrong columns, scores outside [0, 1], repeated rows, images without
a row in the table, a patient in two splits, an unknown arm, two files of one arm and seed.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors, run_records

_KEYS = {"path", "arm", "epsilon", "unit", "seed", "recipe"}


def study(
    predictions: list[dict], table: str
) -> tuple[pd.DataFrame, list[dict], dict[str, pd.DataFrame]]:
    """Return the table of images, the records of runs, and their predictions.

    Args:
        predictions: an entry a model: `path` of a CSV or Parquet file with image_id, finding, label
            (1, 0 or empty) and score (0 to 1), and optionally split ("valid" or "test"; all "test"
            where absent, and then no threshold is fitted); `arm`: "baseline" (no privacy), "dp" or
            "zero_shot"; for "dp" also `epsilon`; optional `unit` ("patient" or "image"), `seed`,
            `recipe`.
        table: path of a CSV or Parquet file with a row an image: image_id, patient_id, and what
            groups are made of: sex ("female", "male"; else unknown), age_years, n_comorbidities,
            any further column.

    Raises:
        InputError: see above; the message names the file.
    """
    if not table:
        errors.refuse(
            "TABLE, the path of the table of images, where PREDICTIONS are given",
            "none",
            "Set TABLE.",
        )
    images = _images(table)
    patients = images.set_index("image_id")["patient_id"]
    records = [_record(entry) for entry in predictions]
    tables = {
        record["run"]: _predictions(entry, patients, table)
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


def _images(table: str) -> pd.DataFrame:
    """Return the table of images, with sex, age_years and n_comorbidities filled in if absent."""
    images = _read(table, ["image_id", "patient_id"])
    twice = images["image_id"].duplicated()
    if twice.any():
        errors.refuse(
            f"one row an image in {table}",
            f"{int(twice.sum())} repeated, e.g. {images.loc[twice, 'image_id'].iloc[0]!r}",
            "Remove the repeated rows.",
        )
    images = images.assign(
        **{
            column: default
            for column, default in (
                ("sex", "unknown"),
                ("age_years", np.nan),
                ("n_comorbidities", pd.NA),
            )
            if column not in images
        }
    )
    if (
        odd := images["sex"].notna() & ~images["sex"].isin(["female", "male", "unknown", ""])
    ).any():
        errors.refuse(
            f"sex female, male or empty in {table}",
            errors.examples(sorted(set(images.loc[odd, "sex"].astype(str)))),
            "Rename the values.",
        )
    images["sex"] = images["sex"].where(images["sex"].isin(["female", "male"]), "unknown")
    for column in ("age_years", "n_comorbidities"):
        images[column] = _numbers(images[column], column, table)
    if images["patient_id"].isna().any():
        errors.refuse(
            f"a patient_id in every row of {table}",
            f"{int(images['patient_id'].isna().sum())} without",
            "Fill them in.",
        )
    return images.assign(patient_id=images["patient_id"].astype(str))


def _predictions(entry: dict, patients: pd.Series, table: str) -> pd.DataFrame:
    """Return the predictions of one model, with split and patient_id."""
    rows = _read(entry["path"], ["image_id", "finding", "label", "score"])
    strangers = sorted(set(rows["image_id"].astype(str)) - set(patients.index))
    if strangers:
        errors.refuse(
            f"a row in {table} for every image of {entry['path']}",
            f"{len(strangers)} without, e.g. {errors.examples(strangers)}",
            "Add them to the table, or leave their predictions out.",
        )
    rows = rows.assign(
        split=rows.get("split", "test"),
        patient_id=rows["image_id"].map(patients),
    )
    if not rows["split"].isin(["valid", "test"]).all():
        errors.refuse(
            f"split valid or test in {entry['path']}",
            errors.examples(sorted(set(rows["split"].astype(str)))),
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
    if rows["score"].isna().any():
        errors.refuse(
            f"a score in every row of {entry['path']}",
            f"{int(rows['score'].isna().sum())} without",
            "Fill them in, or leave the rows out everywhere.",
        )
    run_records.check_predictions(rows, entry["path"])
    return rows


def _read(path: str, columns: list[str]) -> pd.DataFrame:
    """Return a table with identifiers as text."""
    errors.file_exists(Path(path), "Correct the path.")
    try:
        table = (
            pd.read_parquet(path)
            if str(path).endswith(".parquet")
            else pd.read_csv(path, dtype={"image_id": str, "patient_id": str})
        )
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        errors.refuse(
            f"{path} to be a CSV or Parquet table",
            " ".join(str(error).split())[:120],
            "Correct the file.",
        )
    errors.has_columns(table, columns, str(path))
    return table.assign(image_id=table["image_id"].astype(str))


def _numbers(column: pd.Series, name: str, path: str) -> pd.Series:
    """Return a column as numbers, empty ones missing."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    if (odd := numbers.isna() & column.notna()).any():
        errors.refuse(
            f"numbers in {name} of {path}",
            errors.examples(column[odd].tolist()),
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
