"""Predictions of somebody else's model: two files instead of a study's folders.

In: paths of tables of predictions and of one table of images. Out: what notebooks 04 and 05 read of
a study. Raises `InputError` for wrong columns, scores outside [0, 1], repeated rows, images without
a row in the table, a patient in two splits, an unknown arm, two files of one arm and seed,
identifiers that went through a number type or name no patient. Impossible ages and counts are
unknown, which is printed.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.analysis import foreign_tables
from helpers.core import errors, run_records
from helpers.data.tables import source_text

_KEYS = {"path", "arm", "epsilon", "unit", "seed", "recipe"}


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
            made of: sex ("female", "male" or empty), age_years, n_comorbidities, any further
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
    images, notes = foreign_tables.read_images(table)
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


def _predictions(entry: dict, images: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the predictions of one model, with split and patient_id."""
    rows = foreign_tables.read(entry["path"], ["image_id", "finding", "label", "score"])
    if "split" in [str(column).casefold() for column in rows]:
        errors.has_columns(rows, ["split"], entry["path"], "Rename the column.")
    _refuse_findings_alike(rows["finding"], entry["path"])
    is_strange = ~rows["image_id"].isin(images["image_id"])
    if is_strange.any():
        strangers = rows.loc[is_strange, "image_id"].drop_duplicates()
        errors.refuse(
            f"a row in {table} for every image of {entry['path']}",
            f"{len(strangers)} without, e.g. {errors.examples(sorted(strangers))}",
            "Add them to the table, or leave their predictions out."
            + source_text.likely_cause(
                strangers, images.loc[~images["image_id"].isin(rows["image_id"]), "image_id"]
            ),
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
    truth_values = {"true": "1", "false": "0"}
    rows["label"] = rows["label"].str.casefold().replace(truth_values)
    for column in ("score", "label"):
        rows[column] = foreign_tables.numbers(rows[column], column, entry["path"])
    foreign_tables.refuse_blank(rows, "score", rows["score"].isna(), entry["path"])
    run_records.check_predictions(rows, entry["path"])
    return rows


def _refuse_findings_alike(findings: pd.Series, path: str) -> None:
    """Accept findings that differ by more than letter case, blanks, hyphens and underscores."""
    names = findings.drop_duplicates()
    is_alike = names.map(source_text.plain).duplicated(keep=False)
    if is_alike.any():
        errors.refuse(
            f"one spelling of each finding in {path}",
            errors.examples(sorted(names[is_alike])),
            "Write them alike: they would count as different findings.",
        )


def _record(entry: object) -> dict:
    """Return the record of one model, as far as notebook 04 needs it."""
    wanted = 'each of PREDICTIONS to be like {"path": "ours.csv", "arm": "dp", "epsilon": 8}'
    if not isinstance(entry, dict) or not {"path", "arm"} <= set(entry) <= _KEYS:
        errors.refuse(wanted, repr(entry), f"Keys: {', '.join(sorted(_KEYS))}.")
    errors.one_of("arm", entry["arm"], ("zero_shot", "baseline", "dp"))
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
