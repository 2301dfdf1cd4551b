"""Replicates of notebook 04 as notebook 05 reads them, and when it must not."""

import numpy as np
import pandas as pd
import pytest
from conftest import image_table, predictions_of

from helpers.analysis import metric_table, stored_replicates
from helpers.core import errors

PARAMETERS = {"ATTRIBUTES": ["sex"], "AGE_EDGES": [0, 60], "N_BOOTSTRAP": 20, "SEED": 0}


@pytest.fixture
def stored(results):
    """Table, predictions and replicates, the last written."""
    rng = np.random.default_rng(0)
    sex = np.where(rng.random(90) < 0.5, "female", "male")
    table = image_table(np.arange(90) // 3, sex=sex, a=(rng.random(90) < 0.5).astype(float))
    predictions = {run: predictions_of(table, {"a": rng.random(90)}) for run in ("base", "dp")}
    replicates = metric_table.replicate(predictions, table, ["sex"], n_bootstrap=20, min_patients=5)
    stored_replicates.write(replicates, predictions, table, thresholds="Youden's", **PARAMETERS)
    return table, predictions, replicates


def test_read_returns_exactly_what_was_written_of_the_metrics_needed(stored):
    table, predictions, replicates = stored
    kept = replicates[replicates.index.isin(stored_replicates.METRICS, level="metric")]
    read, thresholds = stored_replicates.read(predictions, table, **PARAMETERS)
    assert thresholds == "Youden's"
    pd.testing.assert_frame_equal(read, kept, check_exact=True)


@pytest.mark.parametrize(
    "name, value", [("SEED", 1), ("N_BOOTSTRAP", 30), ("ATTRIBUTES", ["age"]), ("AGE_EDGES", [0])]
)
def test_read_refuses_replicates_of_other_parameters(stored, name, value):
    table, predictions, _ = stored
    with pytest.raises(errors.InputError, match=f"others: {name}. Run notebook 04"):
        stored_replicates.read(predictions, table, **PARAMETERS | {name: value})


def test_read_refuses_replicates_of_other_runs_scores_and_tables(stored):
    table, predictions, _ = stored
    other_scores = predictions | {"dp": predictions["dp"].assign(score=0.5)}
    for others in ({"base": predictions["base"]}, other_scores):
        with pytest.raises(errors.InputError, match="others: RUNS"):
            stored_replicates.read(others, table, **PARAMETERS)
    with pytest.raises(errors.InputError, match="others: table of images"):
        stored_replicates.read(predictions, table.assign(sex="male"), **PARAMETERS)
    with pytest.raises(errors.InputError, match="others: table of images"):
        renamed = table.rename(columns={"sex": "gender"})
        stored_replicates.read(predictions, renamed, **PARAMETERS)


def test_read_refuses_replicates_that_other_code_drew(stored, monkeypatch):
    table, predictions, _ = stored
    monkeypatch.setattr(stored_replicates.fingerprints, "fingerprint", lambda *_: "other")
    with pytest.raises(errors.InputError, match="others: code"):
        stored_replicates.read(predictions, table, **PARAMETERS)


def test_read_refuses_a_damaged_file(stored, results):
    table, predictions, _ = stored
    (results / stored_replicates.FILE).write_bytes(b"PAR1")
    with pytest.raises(errors.InputError, match="a whole Parquet file at .* Run notebook 04"):
        stored_replicates.read(predictions, table, **PARAMETERS)


def test_read_without_notebook_04_says_what_to_do(results):
    with pytest.raises(errors.InputError, match="Run notebook 04 with the same runs first"):
        stored_replicates.read({}, image_table([1]), **PARAMETERS)
