"""A small cohort in memory, for tests of training."""

import numpy as np
import pandas as pd
import pytest

from helpers.data import cohorts


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
    table = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "patient_id": [f"p{p}" for p in patients],
            "split": split,
            "sex": "female",
            "age_years": 50.0,
            "bright": bright,
            "dull": (rng.random(n) < 0.5).astype(float),
        }
    )
    return cohorts.Cohort(
        name="small",
        images=images,
        table=table,
        findings=["bright", "dull"],
        canonical={"bright": "bright", "dull": "dull"},
        record={"data_hash": "small"},
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
