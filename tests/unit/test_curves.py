"""ROC and calibration by group: against scikit-learn, and what is left out."""

import numpy as np
import pytest
from conftest import image_table, predictions_of
from sklearn.metrics import roc_auc_score

from helpers.analysis import curves


@pytest.fixture
def study():
    rng = np.random.default_rng(1)
    n = 3000
    sex = rng.choice(["female", "male", "unknown"], n)
    truth = rng.uniform(0.05, 0.95, n)
    label = (rng.random(n) < truth).astype(float)
    table = image_table(np.arange(n) // 3, sex=sex, a=label)
    return table, predictions_of(table, {"a": np.where(sex == "female", truth, truth**2)})


def test_roc_has_the_area_of_auroc_and_no_unknown_group(study):
    table, predictions = study
    points = curves.roc({"run": predictions}, table, "sex")
    assert set(points["group"]) == {"female", "male"}
    female = points[points["group"] == "female"]
    rows = predictions[(table["sex"] == "female").to_numpy()]
    assert np.trapezoid(female["sensitivity"], female["false_alarm_rate"]) == pytest.approx(
        roc_auc_score(rows["label"], rows["score"]), abs=0.005
    )
    assert curves.roc({"run": predictions}, table, "sex", min_patients=5000).empty


def test_calibration_lies_on_the_diagonal_only_where_scores_are_probabilities(
    study,
):
    table, predictions = study
    bins = curves.calibration({"run": predictions}, table, "sex")
    female, male = (bins[bins["group"] == sex] for sex in ("female", "male"))
    inside = (female["low"] <= female["mean_score"]) & (female["mean_score"] <= female["high"])
    assert inside.mean() >= 0.75
    assert len(female) == curves.N_BINS
    assert (male["share"] > male["mean_score"]).mean() > 0.8  # their scores are squared: too low
    assert (
        bins.groupby("group")["n"].sum().to_dict()
        == table["sex"].value_counts()[["female", "male"]].to_dict()
    )
