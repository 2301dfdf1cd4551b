"""The table of metrics by group, its reductions, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame
from sklearn.metrics import accuracy_score, roc_auc_score

from helpers import checks, fairness, metrics
from helpers.replicates import group_sizes, replicate

N_PATIENTS = 400


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(N_PATIENTS), rng.integers(1, 5, N_PATIENTS))
    sex = np.where(rng.random(N_PATIENTS) < 0.4, "female", "male").astype(object)
    sex[:60] = "unknown"
    age = rng.uniform(20, 95, N_PATIENTS)
    n = len(patients)
    return pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "patient_id": [f"p{p}" for p in patients],
                         "split": np.where(patients % 2, "valid", "test"), "sex": sex[patients],
                         "age_years": age[patients], "n_comorbidities": pd.array([1] * n, dtype="Int64"),
                         "edema": (rng.random(n) < 0.4).astype(float), "mass": (rng.random(n) < 0.3).astype(float)})


def predictions_of(table, seed, strength):
    rng = np.random.default_rng(seed)
    parts = []
    for finding in ("edema", "mass"):
        weaker = np.where(table["sex"] == "female", 0.3, 1.0)
        logits = strength * weaker * (table[finding] - 0.5) * 2 + rng.normal(size=len(table))
        parts.append(table[["image_id", "patient_id", "split"]].assign(finding=finding, label=table[finding],
                                                                       score=1 / (1 + np.exp(-logits))))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def replicates(table):
    predictions = {"base": predictions_of(table, 1, 1.5), "dp": predictions_of(table, 2, 0.8)}
    return replicate(predictions, table, ["sex", "age"], n_bootstrap=200, seed=3).sort_index()


def test_replicates_estimates_agree_with_sklearn_and_fairlearn(table, replicates):
    predictions = predictions_of(table, 1, 1.5)
    edema = predictions[predictions["finding"] == "edema"].merge(table[["image_id", "sex"]])
    valid, test = edema[edema["split"] == "valid"], edema[edema["split"] == "test"]
    threshold = metrics.youden_threshold(valid["label"].to_numpy(), valid["score"].to_numpy())
    frame = MetricFrame(metrics=accuracy_score, y_true=test["label"], y_pred=test["score"] >= threshold,
                        sensitive_features=test["sex"])
    for sex in ("female", "male"):
        rows = test[test["sex"] == sex]
        assert replicates.loc[("base", "auroc", "edema", "sex", sex), 0] == pytest.approx(
            roc_auc_score(rows["label"], rows["score"]))
        assert replicates.loc[("base", "accuracy", "edema", "sex", sex), 0] == pytest.approx(frame.by_group[sex])


def test_replicates_of_unknown_sex_are_counted_but_outside_the_contrast(replicates):
    shown = replicates.xs(("base", "auroc", "edema", "sex")).index
    assert {"female", "male", "unknown"} <= set(shown) and "not: unknown" not in shown
    pair = replicates.xs(("base", "auroc", "edema", "sex"))
    pd.testing.assert_series_equal(pair.loc["not: female"], pair.loc["male"], check_names=False)


def test_contrasts_are_group_minus_rest_and_keep_their_sign(replicates):
    found = fairness.contrasts(replicates)
    row = found.loc[("base", "auroc", "edema", "sex", "female - male"), 0]
    female, male = (replicates.loc[("base", "auroc", "edema", "sex", sex), 0] for sex in ("female", "male"))
    assert row == pytest.approx(female - male) and row < 0  # planted: weaker in women
    assert "male - rest" not in found.index.get_level_values("group")
    assert ">= 80 - rest" in found.index.get_level_values("group")


def test_gap_changes_are_paired_differences_of_contrasts(replicates):
    found = fairness.contrasts(replicates)
    change = fairness.gap_changes(found, "base")
    key = ("auroc", "mass", "sex", "female - male")
    expected = found.loc[("dp", *key)] - found.loc[("base", *key)]
    np.testing.assert_allclose(change.loc[("dp", *key)], expected)
    assert "base" not in change.index.get_level_values("run")


def test_macro_is_the_mean_over_findings_in_every_replicate(replicates):
    key = ("base", "auroc", "all", "all")
    got = fairness.macro(replicates).xs(("base", "auroc", "macro", "all", "all"))
    by_hand = (replicates.loc[("base", "auroc", "edema", "all", "all")] + replicates.loc[("base", "auroc", "mass", "all", "all")]) / 2
    np.testing.assert_allclose(got, by_hand)
    summary = fairness.summarise(fairness.macro(replicates))
    row = summary[(summary["run"] == key[0]) & (summary["metric"] == "auroc") & (summary["group"] == "all")].iloc[0]
    assert row["low"] < row["estimate"] < row["high"] and row["n_replicates"] == 200


def test_small_groups_are_not_estimable_rather_than_zero_or_gone(table):
    found = replicate({"base": predictions_of(table, 1, 1.5)}, table, ["age"], n_bootstrap=30, min_patients=60)
    young = found.loc[("base", "auroc", "edema", "age", "[0, 30)")]
    assert young.isna().all()
    summary = fairness.summarise(fairness.macro(found))
    assert summary.loc[summary["group"] == "[0, 30)", "estimate"].isna().all()
    assert (summary["group"] == "[0, 30)").any()


def test_intervals_of_resampled_patients_are_wider_than_of_images(table):
    # Four identical images a patient carry one patient's information, so the interval must be about twice as wide.
    rng = np.random.default_rng(9)
    labels = np.repeat(rng.integers(0, 2, 150), 4)
    scores = np.repeat(rng.random(150), 4) + 0.3 * labels
    by_patient = metrics.patient_weights(np.repeat(np.arange(150), 4), 500, np.random.default_rng(1))
    by_image = metrics.patient_weights(np.arange(600), 500, np.random.default_rng(1))
    ratio = metrics.weighted_auroc(labels, scores, by_patient).std() / metrics.weighted_auroc(labels, scores, by_image).std()
    assert 1.7 < ratio < 2.3


def test_pearson_agrees_with_numpy_and_needs_three_pairs():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(6, 50)), rng.normal(size=6)
    found = fairness.pearson(pd.DataFrame(x), y)
    assert found["estimate"] == pytest.approx(np.corrcoef(x[:, 0], y)[0, 1])
    assert found["low"] <= found["high"] and found["n"] == 6
    assert np.isnan(fairness.pearson(pd.DataFrame(x[:2]), y[:2])["estimate"])


def test_replicates_refuse_runs_on_other_images_and_strangers(table):
    whole, short = predictions_of(table, 1, 1.5), predictions_of(table[table["split"] == "valid"], 1, 1.5)
    with pytest.raises(checks.InputError, match="same test images"):
        replicate({"a": whole, "b": short}, table, ["sex"])
    with pytest.raises(checks.InputError, match="row in the cohort's table"):
        replicate({"a": whole}, table.iloc[:10], ["sex"])


def test_group_sizes_count_test_patients_once(table):
    sizes = group_sizes(table, ["edema", "mass"], ["sex"]).set_index("group")
    test = table[table["split"] == "test"]
    assert sizes.loc["all", "n_patients"] == test["patient_id"].nunique()
    assert sizes.loc[["female", "male", "unknown"], "n_images"].sum() == len(test)


def test_contrasts_of_two_bands_are_the_older_minus_the_younger(table):
    old = table[(table["age_years"] >= 70)]
    predictions = {"base": predictions_of(table, 1, 1.5)}
    predictions["base"] = predictions["base"][predictions["base"]["image_id"].isin(old["image_id"])]
    found = fairness.contrasts(replicate(predictions, old, ["age"], n_bootstrap=20, min_patients=3))
    assert set(found.index.get_level_values("group")) == {">= 80 - [70, 80)"}


def test_contrasts_of_one_known_group_are_none_and_everything_after_still_works(table):
    unknown = table.assign(sex="unknown")
    found = replicate({"base": predictions_of(table, 1, 1.5)}, unknown, ["sex"], n_bootstrap=20)
    contrasts = fairness.contrasts(found)
    assert contrasts.empty and fairness.summarise(fairness.macro(contrasts)).empty
    rows = fairness.summary(fairness.arm_table([record_of("base", "baseline")]), found)
    assert rows["sex_contrast"].isna().all() and rows["macro_auroc"].notna().all()


def test_gap_changes_without_a_baseline_or_without_others_are_empty(replicates):
    found = fairness.macro(fairness.contrasts(replicates))
    only = found[found.index.get_level_values("run") == "base"]
    assert fairness.summarise(fairness.gap_changes(found, None)).empty
    assert fairness.summarise(fairness.gap_changes(only, "base")).empty


def record_of(run, arm, epsilon=None, seed=0):
    return {"run": run, "arm": arm, "epsilon_target": epsilon, "unit": None, "seed": seed, "seconds": 1.0}


def test_summary_has_one_row_a_run_with_the_contrasts_of_sex_and_of_the_oldest(replicates):
    arms = fairness.arm_table([record_of("base", "baseline"), record_of("dp", "dp", 2.0)])
    rows = fairness.summary(arms, replicates).set_index("run")
    macro = fairness.macro(fairness.contrasts(replicates))
    for attribute, group in (("sex", "female - male"), ("age", ">= 80 - rest")):
        assert rows.loc["dp", f"{attribute}_contrast"] == macro.loc[("dp", "auroc", "macro", attribute, group), 0]
    assert (rows["low"] < rows["macro_auroc"]).all() and rows.loc["dp", "arm_label"] == "epsilon 2"


def test_arm_table_tells_seeds_of_one_budget_apart():
    arms = fairness.arm_table([record_of("a", "dp", 1.0, 0), record_of("b", "dp", 1.0, 1), record_of("c", "baseline")])
    assert arms["arm_label"].tolist() == ["epsilon 1, seed 0", "epsilon 1, seed 1", "no privacy"]
    other = record_of("d", "dp", 1.0, 0) | {"recipe": "mine"}
    assert fairness.arm_table([record_of("a", "dp", 1.0, 0), other])["arm_label"].tolist() == ["epsilon 1", "epsilon 1, mine"]


def test_in_words_says_whether_the_interval_leaves_zero_out():
    assert "not resolved" in fairness.in_words(-0.02, -0.05, 0.01, "a gap")
    assert "is resolved" in fairness.in_words(-0.02, -0.03, -0.01, "a gap")
    assert "not estimable" in fairness.in_words(float("nan"), 0, 0, "a gap")
