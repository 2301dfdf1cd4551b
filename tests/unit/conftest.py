"""Factories of tables, predictions and run records, and a small cohort in memory."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import study_arms
from helpers.data import cohorts


def image_table(patients, **columns):
    """A cohort's table: a row an image of the numbered patients; `columns` replace or add some."""
    defaults = {
        "image_id": [f"i{k}" for k in range(len(patients))],
        "patient_id": [f"p{patient}" for patient in patients],
        "split": "test",
        "sex": "female",
        "age_years": 50.0,
    }
    return pd.DataFrame(defaults | columns)


def predictions_of(table, scores):
    """Predictions of one run for every image of a table, from finding -> scores."""
    images = table[["image_id", "patient_id", "split"]]
    return pd.concat(
        [
            images.assign(finding=finding, label=table[finding], score=score)
            for finding, score in scores.items()
        ],
        ignore_index=True,
    )


def logistic(logits):
    """Scores in (0, 1)."""
    return 1 / (1 + np.exp(-logits))


def run_record(run, arm, epsilon=None, **changes):
    """The record of a run, as far as notebook 04 reads it."""
    unit = "patient" if arm == "dp" else None
    record = {"run": run, "arm": arm, "epsilon_target": epsilon, "unit": unit}
    return record | {"seed": 0, "seconds": 1.0} | changes


def arms_of(*runs):
    """A table of arms, from arguments of `run_record`: (run, arm, epsilon) or a record."""
    return study_arms.arm_table(
        [run if isinstance(run, dict) else run_record(*run) for run in runs]
    )


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder of the test's own."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def small_cohort():
    """40 training, 10 valid and 10 test patients of 1-4 images of 16 px.

    Finding "bright" can be seen.
    """
    rng = np.random.default_rng(8)
    patients = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    n = len(patients)
    bright = (rng.random(n) < 0.5).astype(float)
    images = rng.integers(0, 120, (n, 16, 16)).astype(np.uint8)
    images[:, 2:14, 2:7] += (100 * bright[:, None, None]).astype(np.uint8)
    split = np.select([patients < 40, patients < 50], ["train", "valid"], "test")
    dull = (rng.random(n) < 0.5).astype(float)
    table = image_table(patients, split=split, bright=bright, dull=dull)
    return cohorts.Cohort(
        name="small",
        images=images,
        table=table,
        findings=["bright", "dull"],
        canonical={"bright": "bright", "dull": "dull"},
        record={"data_hash": "small", "access": "embedded"},
    )


@pytest.fixture
def mixed_cohort(small_cohort):
    """The same images in another order.

    A patient's rows do not lie together, nor do those of a split; one label is unknown.
    """
    order = np.random.default_rng(3).permutation(len(small_cohort.table))
    small_cohort.table = small_cohort.table.iloc[order].reset_index(drop=True)
    small_cohort.images = small_cohort.images[order]
    small_cohort.table.loc[np.flatnonzero(small_cohort.table["split"] == "train")[0], "dull"] = (
        np.nan
    )
    return small_cohort
