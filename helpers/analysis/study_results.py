"""The runs of a study, or other people's predictions, opened for analysis.

In: a cohort's name or files. Out: table of images, records of runs, their predictions. Raises
`InputError` for runs of another cohort or of other data.

Arms whose privacy unit is the image come last, in every table and figure: their epsilon is another
promise, not one more budget of the patient-level arms.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from helpers.analysis import (
    confidence_intervals,
    external_predictions,
    group_contrasts,
    influence_table,
    metric_table,
    study_arms,
    study_summary,
)
from helpers.core import errors, run_records
from helpers.data import cohorts, manifests

CALIBRATION = ("calibration_intercept", "calibration_slope")


def opened(
    cohort: str, names: list[str], predictions: list[dict], table_path: str
) -> tuple[pd.DataFrame, dict, list[dict], dict[str, pd.DataFrame]]:
    """Return table of images, cohort's record, records of runs and their predictions: of a study,
    or of other models.

    Args:
        cohort, names: of a study's runs, see `records_of`.
        predictions, table_path: of other models, see `external_predictions.study`; used where there
            are any.

    Raises:
        InputError: see there.
    """
    if predictions:
        table, records, tables = external_predictions.study(predictions, table_path)
        findings = list(
            dict.fromkeys(finding for rows in tables.values() for finding in rows["finding"])
        )
        labels = (
            pd.concat(tables.values())
            .drop_duplicates(["image_id", "finding"])
            .pivot(index="image_id", columns="finding", values="label")
        )
        return (
            table.drop(columns=findings, errors="ignore").join(labels, on="image_id"),
            {"access": "outside", "findings": findings},
            *_image_level_last(records, tables),
        )
    cohort = manifests.name_of(cohort)
    table, record = cohorts.read_table(cohort)
    if not cohorts.patients_are_known(record):
        print(
            f"The data of {cohort} do not say whose an image is: every image is called a patient"
            f" below,{_unknown(table)} and confidence intervals are too narrow where one person has"
            " several images."
        )
    records = records_of(cohort, names, record["data_hash"])
    read = {of_run["run"]: run_records.read_predictions(of_run["run"]) for of_run in records}
    return table, record, *_image_level_last(records, read)


def _unknown(table: pd.DataFrame) -> str:
    """Return " sex and age are unknown," for those that no image has."""
    unknown = ["sex"] * bool((table["sex"] == "unknown").all())
    unknown += ["age"] * bool(table["age_years"].isna().all())
    return f" {' and '.join(unknown)} {'are' if unknown[1:] else 'is'} unknown," if unknown else ""


def _image_level_last(
    records: list[dict], predictions: dict[str, pd.DataFrame]
) -> tuple[list[dict], dict[str, pd.DataFrame]]:
    """Return records and predictions with image-level runs after all others."""
    ordered = sorted(records, key=lambda record: record["unit"] == "image")
    return ordered, {record["run"]: predictions[record["run"]] for record in ordered}


def records_of(cohort: str, names: list[str], data_hash: str) -> list[dict]:
    """Return the records of a cohort's runs: zero-shot, baselines, private runs by budget.

    Args:
        cohort: name of the cohort.
        names: runs wanted; [] for all finished ones.
        data_hash: of the cohort as it is now.

    Raises:
        InputError: no run, a run that is not there, or one that was made with other data.
    """
    records = [run_records.read_record(name) for name in names or run_records.runs_of(cohort)]
    if not records:
        errors.refuse(
            f"at least one finished run of {cohort}", "none", "Run notebook 02 or 03 first."
        )
    for record in records:
        if record["cohort"] != cohort or record["data_hash"] != data_hash:
            errors.refuse(
                f"runs made with {cohort} as it is now",
                f"{record['run']}, made with other data",
                "Run it again, or name the wanted ones in RUNS.",
            )
    return records


def elsewhere(
    cohort: str,
    records: list[dict],
    *,
    n_bootstrap: int,
    min_patients: int,
    age_edges: list[float],
    seed: int,
    given: Collection[str] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `study_summary.summary` of the same models among the patients of another cohort, and
    their calibration there, by arm and finding.

    Args:
        cohort: where the models were tried, see `other_cohort.try_elsewhere`.
        records: of the models' runs.
        n_bootstrap, min_patients, age_edges, seed: see `metric_table.replicate`.
        given: findings that means are over, as far as they are known there.

    Returns:
        The summary; run, arm_label, finding, metric (of `CALIBRATION`), estimate, low, high.

    Raises:
        InputError: a model was not tried there, or on other data.
    """
    name = manifests.name_of(cohort)
    table, record = cohorts.read_table(name)
    evaluations = records_of(
        name,
        [run_records.elsewhere_name(of_run["run"], name) for of_run in records],
        record["data_hash"],
    )
    predictions = {
        evaluation["run"]: run_records.read_predictions(evaluation["run"])
        for evaluation in evaluations
    }
    influences = influence_table.of_auroc(
        predictions, table, ["sex", "age"], min_patients=min_patients, age_edges=age_edges
    )
    arms = study_arms.arm_table(evaluations)
    calibration = study_arms.pool(
        metric_table.replicate(
            predictions,
            table,
            [],
            n_bootstrap=n_bootstrap,
            min_patients=min_patients,
            seed=seed,
            names=CALIBRATION,
        ),
        arms,
    )
    known = set(given) & set(influences.index.unique("finding"))
    influences = group_contrasts.with_means(
        influences, group_contrasts.averaged(influences, sorted(known))
    )
    return (
        study_summary.summary(arms, influences),
        confidence_intervals.summarise(calibration).merge(arms[["run", "arm_label"]], on="run"),
    )


def calibration_shift(here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """Return by how much calibration differs among the patients of another cohort: what a model
    would have to be recalibrated by there.

    Args:
        here: estimates of everybody by arm_label, finding and metric, with low and high.
        there: of the other cohort's patients, see `elsewhere`; nobody is in both.

    Returns:
        arm_label, finding, metric, here, there, shift, low, high (of the shift, by MOVER).
    """
    both = here.merge(there, on=["arm_label", "finding", "metric"], suffixes=("_here", "_there"))
    ends = {
        side: (both[f"low_{side}"], both[f"estimate_{side}"], both[f"high_{side}"])
        for side in ("here", "there")
    }
    (low, value, high), (low_there, value_there, high_there) = ends["here"], ends["there"]
    shift = value_there - value
    return both[["arm_label", "finding", "metric"]].assign(
        here=value,
        there=value_there,
        shift=shift,
        low=shift - np.hypot(value_there - low_there, high - value),
        high=shift + np.hypot(high_there - value_there, value - low),
    )
