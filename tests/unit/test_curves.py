"""ROC, calibration and decision curves by group: against scikit-learn, and what is left out."""

import numpy as np
import pandas as pd
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
    points = curves.roc({"run": predictions}, table, "sex", ["a"])
    assert set(points["group"]) == {"female", "male"}
    female = points[points["group"] == "female"]
    rows = predictions[(table["sex"] == "female").to_numpy()]
    assert np.trapezoid(female["sensitivity"], female["false_alarm_rate"]) == pytest.approx(
        roc_auc_score(rows["label"], rows["score"]), abs=0.005
    )
    assert curves.roc({"run": predictions}, table, "sex", ["a"], min_patients=5000).empty


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


def test_net_benefit_by_hand():
    labels, scores = np.repeat([1.0, 0.0], 40), np.tile(np.repeat([0.4, 0.1], 20), 2)
    scores[40:50] = 0.1  # 20 of 40 with it, 10 of 40 without it score 0.4
    table = image_table(np.arange(80), sex="female", a=labels)
    points = curves.net_benefit({"run": predictions_of(table, {"a": scores})}, table, "sex", ["a"])
    row = points.set_index("chance").loc[0.2]
    # of 80: 20 right ones, 10 wrong ones at 0.2 / 0.8 each
    assert row["net_benefit"] == pytest.approx((20 - 10 / 4) / 80)
    assert row["everybody"] == pytest.approx(0.5 - 0.5 / 4)
    assert points.set_index("chance").loc[0.5, "net_benefit"] == 0  # nobody scores 0.5
    assert (points["n_findings"] == 1).all()


def test_net_benefit_counts_scores_that_are_too_high_against_the_model(study):
    table, predictions = study
    points = curves.net_benefit({"run": predictions}, table, "sex", ["a"]).set_index(
        ["group", "chance"]
    )
    too_high = predictions.assign(score=predictions["score"] ** 0.2)
    worse = curves.net_benefit({"run": too_high}, table, "sex", ["a"]).set_index(
        ["group", "chance"]
    )
    assert points["net_benefit"].xs("female").mean() > worse["net_benefit"].xs("female").mean()
    assert points.loc[("female", 0.5), "net_benefit"] > worse.loc[("female", 0.5), "net_benefit"]
    assert curves.net_benefit({"run": predictions}, table, "sex", ["a"], min_patients=5000).empty


def test_a_group_without_one_of_the_findings_has_no_curve(study):
    table, predictions = study
    second = predictions.assign(finding="b")
    second.loc[(table["sex"] == "male").to_numpy(), "label"] = 0.0
    both = {"run": pd.concat([predictions, second], ignore_index=True)}
    for curve in (curves.roc, curves.net_benefit):
        points = curve(both, table, "sex", ["a", "b"])
        assert set(points["group"]) == {"female"} and (points["n_findings"] == 2).all()
        assert set(curve(both, table, "sex", ["a"])["group"]) == {"female", "male"}
