"""The table of metrics by group, its reductions, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, image_table, logistic, predictions_of, run_record
from fairlearn.metrics import MetricFrame, demographic_parity_difference, equalized_odds_difference
from scipy import stats
from sklearn.metrics import accuracy_score, roc_auc_score

from helpers.analysis import (
    confidence_intervals,
    group_contrasts,
    metrics,
    study_arms,
    study_summary,
)
from helpers.analysis.metric_table import LEVELS, METRICS, group_sizes, one_image_each, replicate
from helpers.core import errors

N_PATIENTS = 400


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(N_PATIENTS), rng.integers(1, 5, N_PATIENTS))
    sex = np.where(rng.random(N_PATIENTS) < 0.4, "female", "male").astype(object)
    sex[:60] = "unknown"
    age = rng.uniform(20, 95, N_PATIENTS)
    n = len(patients)
    return image_table(
        patients,
        split=np.where(patients % 2, "valid", "test"),
        sex=sex[patients],
        age_years=age[patients],
        edema=(rng.random(n) < 0.4).astype(float),
        mass=(rng.random(n) < 0.3).astype(float),
    )


def scored(table, seed, strength):
    """Predictions that know less of women."""
    rng = np.random.default_rng(seed)
    evidence = strength * np.where(table["sex"] == "female", 0.3, 1.0)
    return predictions_of(
        table,
        {
            finding: logistic(evidence * (table[finding] - 0.5) * 2 + rng.normal(size=len(table)))
            for finding in ("edema", "mass")
        },
    )


@pytest.fixture(scope="module")
def replicates(table):
    predictions = {"base": scored(table, 1, 1.5), "dp": scored(table, 2, 0.8)}
    return replicate(predictions, table, ["sex", "age"], n_bootstrap=200, seed=3).sort_index()


def test_replicates_estimates_agree_with_sklearn_and_fairlearn(table, replicates):
    predictions = scored(table, 1, 1.5)
    edema = predictions[predictions["finding"] == "edema"].merge(table[["image_id", "sex"]])
    valid, test = edema[edema["split"] == "valid"], edema[edema["split"] == "test"]
    threshold = metrics.youden_threshold(valid["label"].to_numpy(), valid["score"].to_numpy())
    frame = MetricFrame(
        metrics=accuracy_score,
        y_true=test["label"],
        y_pred=test["score"] >= threshold,
        sensitive_features=test["sex"],
    )
    for sex in ("female", "male"):
        rows = test[test["sex"] == sex]
        assert replicates.loc[("base", "auroc", "edema", "sex", sex), 0] == pytest.approx(
            roc_auc_score(rows["label"], rows["score"])
        )
        assert replicates.loc[("base", "accuracy", "edema", "sex", sex), 0] == pytest.approx(
            frame.by_group[sex]
        )


def test_replicates_have_every_metric_of_every_finding_and_group(replicates):
    names = replicates.index.to_frame(index=False)
    assert set(names["metric"]) == set(METRICS)
    assert not replicates.loc[("base", slice(None), slice(None), "all")].isna().any().any()
    assert (
        names.groupby(["run", "finding", "attribute", "group"]).size().unstack("finding")["edema"]
        == len(METRICS) - 1
    ).all()


def test_replicates_of_unknown_sex_are_counted_but_outside_the_contrast(replicates):
    shown = replicates.xs(("base", "auroc", "edema", "sex")).index
    assert {"female", "male", "unknown"} <= set(shown)
    assert "not: unknown" not in shown
    pair = replicates.xs(("base", "auroc", "edema", "sex"))
    pd.testing.assert_series_equal(pair.loc["not: female"], pair.loc["male"], check_names=False)


def test_contrasts_are_group_minus_rest_and_keep_their_sign(replicates):
    contrasts = group_contrasts.contrasts(replicates)
    row = contrasts.loc[("base", "auroc", "edema", "sex", "female - male"), 0]
    female, male = (
        replicates.loc[("base", "auroc", "edema", "sex", sex), 0] for sex in ("female", "male")
    )
    # planted: weaker in women
    assert row == pytest.approx(female - male)
    assert row < 0
    assert "male - rest" not in contrasts.index.get_level_values("group")
    assert ">= 80 - rest" in contrasts.index.get_level_values("group")


ARMS = (("base", "baseline"), ("dp", "dp", 2.0))


def test_changes_are_paired_differences_of_contrasts(replicates):
    contrasts = study_arms.pool(group_contrasts.contrasts(replicates), arms_of(*ARMS))
    change = group_contrasts.changes(contrasts, "base").drop(columns=study_arms.BETWEEN_SEEDS)
    key = ("auroc", "mass", "sex", "female - male")
    expected = (contrasts.loc[("dp", *key)] - contrasts.loc[("base", *key)]).drop(
        study_arms.BETWEEN_SEEDS
    )
    np.testing.assert_allclose(change.loc[("dp", *key)], expected)
    assert "base" not in change.index.get_level_values("run")


def test_pool_takes_the_mean_over_seeds_and_adds_their_variance():
    rng = np.random.default_rng(1)
    draws = 0.01 * rng.standard_normal(4000)
    index = pd.MultiIndex.from_tuples(
        [(run, "auroc", "macro", "all", "all") for run in ("a", "b", "c", "base")], names=LEVELS
    )
    table = pd.DataFrame(
        [np.r_[mean, mean + draws] for mean in (0.79, 0.80, 0.84, 0.9)], index=index
    )
    seeds = [run_record(run, "dp", 1.0, seed=seed) for seed, run in enumerate("abc")]
    arms = arms_of(*seeds, ("base", "baseline"))
    pooled = study_arms.pool(table, arms)
    between = np.var([0.79, 0.80, 0.84], ddof=1) / 3
    row = confidence_intervals.summarise(pooled).set_index("run").loc["a"]
    assert row["estimate"] == pytest.approx(0.81)
    assert len(pooled) == 2
    degrees = (0.01**2 + between) ** 2 / (between**2 / 2)  # Satterthwaite, two of the seeds
    half = stats.t.ppf(0.975, degrees) * np.sqrt(0.01**2 + between)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.05)
    # patients cancel here: the seeds alone are left
    change = confidence_intervals.summarise(group_contrasts.changes(pooled, "base")).iloc[0]
    assert change["estimate"] == pytest.approx(-0.09)
    assert (change["high"] - change["low"]) / 2 == pytest.approx(
        stats.t.ppf(0.975, 2) * np.sqrt(between), rel=0.01
    )
    assert study_arms.seed_values(table, arms)["estimate"].tolist() == [0.79, 0.80, 0.84]
    alone = study_arms.pool(table.loc[["base"]], arms)
    assert (alone[study_arms.BETWEEN_SEEDS] == 0).all().all()
    assert study_arms.seed_values(table.loc[["base"]], arms).empty


@pytest.mark.parametrize("n_seeds, ratio", [(2, 1.0), (3, 2.0)])
def test_intervals_over_few_seeds_cover(n_seeds, ratio):
    rng = np.random.default_rng(3)
    arms = arms_of(*(run_record(f"r{seed}", "dp", 1.0, seed=seed) for seed in range(n_seeds)))
    index = pd.MultiIndex.from_tuples(
        [(f"r{seed}", "auroc", "macro", "all", "all") for seed in range(n_seeds)], names=LEVELS
    )
    covered = []
    for _ in range(300):
        error = 0.01 * rng.standard_normal()  # of the choice of patients, common to all seeds
        estimates = 0.8 + error + ratio * 0.01 * rng.standard_normal(n_seeds)
        draws = 0.01 * rng.standard_normal(300)
        row = confidence_intervals.summarise(
            study_arms.pool(
                pd.DataFrame([np.r_[value, value + draws] for value in estimates], index=index),
                arms,
            )
        ).iloc[0]
        covered.append(row["low"] <= 0.8 <= row["high"])
    assert np.mean(covered) > 0.92  # with the normal in place of t: 0.92, 0.90


def test_described_gaps_keep_findings_where_a_group_has_only_sick_patients(table):
    few = table[
        (table["split"] != "test")
        | (table["sex"] != "female")
        | (table.groupby("sex").cumcount() < 40)
    ]
    few = few.assign(
        edema=few["edema"].mask((few["sex"] == "female") & (few["split"] == "test"), 1.0)
    )
    gaps = group_contrasts.described_gaps(
        replicate(
            {"base": scored(few, 1, 1.5)},
            few,
            ["age", "sex"],
            n_bootstrap=20,
            min_patients=5,
        )
    )
    assert gaps.set_index("attribute").loc["age", "n_findings"] == 2
    assert gaps["auroc_gap"].notna().any()


def test_described_gaps_where_nothing_is_estimable_are_missing(table):
    gaps = group_contrasts.described_gaps(
        replicate(
            {"base": scored(table, 1, 1.5)},
            table,
            ["sex"],
            n_bootstrap=20,
            min_patients=10_000,
        )
    )
    assert gaps["auroc_gap"].isna().all()
    assert gaps["worst_group"].isna().all()
    assert (gaps["n_findings"] == 0).all()


def test_described_gaps_agree_with_fairlearn(table, replicates):
    gaps = group_contrasts.described_gaps(replicates).set_index(["run", "attribute"])
    predictions = scored(table, 1, 1.5).merge(table[["image_id", "sex"]])
    odds, parity, aurocs = [], [], []
    for _, rows in predictions.groupby("finding"):
        valid, test = (
            rows[rows["split"] == "valid"],
            rows[(rows["split"] == "test") & (rows["sex"] != "unknown")],
        )
        called = test["score"] >= metrics.youden_threshold(
            valid["label"].to_numpy(), valid["score"].to_numpy()
        )
        odds.append(
            equalized_odds_difference(test["label"], called, sensitive_features=test["sex"])
        )
        parity.append(
            demographic_parity_difference(test["label"], called, sensitive_features=test["sex"])
        )
        aurocs.append(
            [roc_auc_score(part["label"], part["score"]) for _, part in test.groupby("sex")]
        )
    row = gaps.loc[("base", "sex")]
    assert row["equalised_odds_difference"] == pytest.approx(np.mean(odds))
    assert row["statistical_parity_difference"] == pytest.approx(np.mean(parity))
    assert row["auroc_gap"] == pytest.approx(np.ptp(aurocs, axis=1).mean())
    assert row["worst_group"] == "female"
    assert row["n_findings"] == 2


def test_contrast_of_selection_rate_is_the_signed_statistical_parity_difference(table, replicates):
    parity_differences = group_contrasts.contrasts(replicates).xs(
        ("selection_rate", "female - male"), level=["metric", "group"]
    )[0]
    rates = replicates[0].xs(("base", "selection_rate", "mass", "sex"))
    assert parity_differences.loc["base", "mass"].iloc[0] == pytest.approx(
        rates["female"] - rates["male"]
    )


def test_underdiagnosis_rate_is_the_share_of_sick_images_for_which_nothing_is_called(
    table, replicates
):
    predictions = scored(table, 1, 1.5)
    wide = predictions.pivot(index="image_id", columns="finding", values="score").loc[
        table["image_id"]
    ]
    called = np.zeros(len(table), dtype=bool)
    for finding in ("edema", "mass"):
        valid = (table["split"] == "valid").to_numpy()
        called |= (
            wide[finding]
            >= metrics.youden_threshold(
                table.loc[valid, finding].to_numpy(), wide.loc[valid, finding].to_numpy()
            )
        ).to_numpy()
    sick = (
        ((table["edema"] == 1) | (table["mass"] == 1))
        & (table["split"] == "test")
        & (table["sex"] == "female")
    )
    rate = replicates.loc[("base", "underdiagnosis_rate", "any finding", "sex", "female"), 0]
    assert rate == pytest.approx((~called)[sick].mean())
    assert 0 < rate < 1


def test_thresholds_reach_a_sensitivity_on_valid_when_one_is_asked_for(table):
    predictions = scored(table, 1, 1.5)
    sensitivities = replicate(
        {"base": predictions}, table, [], n_bootstrap=20, sensitivity=0.9, names=("sensitivity",)
    )
    for finding, rows in predictions.groupby("finding"):
        valid, test = (
            rows[(rows["split"] == split) & (rows["label"] == 1)]["score"]
            for split in ("valid", "test")
        )
        threshold = valid[valid >= np.sort(valid)[::-1][int(np.ceil(0.9 * len(valid))) - 1]].min()
        assert sensitivities.loc[
            ("base", "sensitivity", finding, "all", "all"), 0
        ] == pytest.approx((test >= threshold).mean())
    assert set(sensitivities.index.get_level_values("metric")) == {"sensitivity"}


def test_one_image_each_keeps_one_random_test_image_of_every_patient(table):
    chosen = one_image_each(table, 0)
    test = chosen[chosen["split"] == "test"]
    assert not test["patient_id"].duplicated().any()
    assert set(test["patient_id"]) == set(table.loc[table["split"] == "test", "patient_id"])
    assert (chosen["split"] == "valid").sum() == (table["split"] == "valid").sum()
    partly = table.assign(
        split=table["split"].mask(
            (np.arange(len(table)) % 3 == 0) & (table["split"] == "test"), "train"
        )
    )
    there = set(partly.loc[partly["split"] == "test", "patient_id"])
    # images that are not test do not take the place
    assert set(one_image_each(partly, 0).query("split == 'test'")["patient_id"]) == there
    assert (
        test["image_id"].tolist()
        != one_image_each(table, 1).query("split == 'test'")["image_id"].tolist()
    )


def test_macro_is_the_mean_over_findings_in_every_replicate(replicates):
    key = ("base", "auroc", "all", "all")
    got = group_contrasts.macro(replicates).xs(("base", "auroc", "macro", "all", "all"))
    by_hand = (
        replicates.loc[("base", "auroc", "edema", "all", "all")]
        + replicates.loc[("base", "auroc", "mass", "all", "all")]
    ) / 2
    np.testing.assert_allclose(got, by_hand)
    summary = confidence_intervals.summarise(group_contrasts.macro(replicates))
    row = summary[
        (summary["run"] == key[0]) & (summary["metric"] == "auroc") & (summary["group"] == "all")
    ].iloc[0]
    assert row["low"] < row["estimate"] < row["high"]
    assert row["n_replicates"] == 200


def test_small_groups_are_not_estimable_rather_than_zero_or_gone(table):
    age_replicates = replicate(
        {"base": scored(table, 1, 1.5)}, table, ["age"], n_bootstrap=30, min_patients=60
    )
    young = age_replicates.loc[("base", "auroc", "edema", "age", "[0, 30)")]
    assert young.isna().all()
    summary = confidence_intervals.summarise(group_contrasts.macro(age_replicates))
    assert summary.loc[summary["group"] == "[0, 30)", "estimate"].isna().all()
    assert (summary["group"] == "[0, 30)").any()


def test_replicates_refuse_runs_on_other_images_and_strangers(table):
    whole, short = (
        scored(table, 1, 1.5),
        scored(table[table["split"] == "valid"], 1, 1.5),
    )
    with pytest.raises(errors.InputError, match="same test images"):
        replicate({"a": whole, "b": short}, table, ["sex"])
    with pytest.raises(errors.InputError, match="row in the cohort's table"):
        replicate({"a": whole}, table.iloc[:10], ["sex"])


def test_replicates_refuse_runs_with_other_findings_or_other_labels(table):
    whole = scored(table, 1, 1.5)
    with pytest.raises(
        errors.InputError, match=r"same findings in every run \(edema, mass\); got mass in b"
    ):
        replicate({"a": whole, "b": whole[whole["finding"] == "mass"]}, table, ["sex"])
    with pytest.raises(
        errors.InputError, match="same labels in every run; got others, or rows left out, in b"
    ):
        replicate({"a": whole, "b": whole.assign(label=1 - whole["label"])}, table, ["sex"])


def test_replicates_accept_that_rows_of_unknown_labels_are_left_out(table):
    gone = table["split"].eq("test") & (np.arange(len(table)) % 7 == 0)
    whole = scored(table.assign(mass=table["mass"].mask(gone)), 1, 1.5)
    known_labels, same = (
        replicate({"a": rows}, table, ["sex"], n_bootstrap=20)
        for rows in (whole.dropna(subset="label"), whole)
    )
    # which knows decisions of unknown labels, too
    rows = known_labels.index.get_level_values("metric") != "underdiagnosis_rate"
    pd.testing.assert_frame_equal(known_labels[rows], same[rows])


def test_a_group_whose_name_contains_unknown_is_a_group(table):
    named = table.assign(site=np.where(np.arange(len(table)) % 2, "unknown_vendor", "known"))
    groups_found = set(
        replicate(
            {"a": scored(table, 1, 1.5)}, named, ["site"], n_bootstrap=20
        ).index.get_level_values("group")
    )
    assert "not: unknown_vendor" in groups_found


def test_group_sizes_count_test_patients_once(table):
    sizes = group_sizes(table, ["edema", "mass"], ["sex"]).set_index("group")
    test = table[table["split"] == "test"]
    assert sizes.loc["all", "n_patients"] == test["patient_id"].nunique()
    assert sizes.loc[["female", "male", "unknown"], "n_images"].sum() == len(test)


def test_contrasts_of_two_bands_are_the_older_minus_the_younger(table):
    old = table[(table["age_years"] >= 70)]
    predictions = {"base": scored(table, 1, 1.5)}
    predictions["base"] = predictions["base"][predictions["base"]["image_id"].isin(old["image_id"])]
    contrasts = group_contrasts.contrasts(
        replicate(predictions, old, ["age"], n_bootstrap=20, min_patients=3)
    )
    assert set(contrasts.index.get_level_values("group")) == {">= 80 - [70, 80)"}


def test_contrasts_of_one_known_group_are_none_and_everything_after_still_works(table):
    unknown = table.assign(sex="unknown")
    sex_replicates = replicate({"base": scored(table, 1, 1.5)}, unknown, ["sex"], n_bootstrap=20)
    contrasts = group_contrasts.contrasts(sex_replicates)
    assert contrasts.empty
    assert confidence_intervals.summarise(group_contrasts.macro(contrasts)).empty
    rows = study_summary.summary(arms_of(("base", "baseline")), sex_replicates)
    assert rows["sex_contrast"].isna().all()
    assert rows["macro_auroc"].notna().all()


def test_changes_without_a_baseline_or_without_others_are_empty(replicates):
    contrasts = study_arms.pool(
        group_contrasts.macro(group_contrasts.contrasts(replicates)), arms_of(*ARMS)
    )
    only = contrasts[contrasts.index.get_level_values("run") == "base"]
    assert confidence_intervals.summarise(group_contrasts.changes(contrasts, None)).empty
    assert confidence_intervals.summarise(group_contrasts.changes(only, "base")).empty


def test_summary_has_one_row_a_run_with_the_contrasts_of_sex_and_of_the_oldest(replicates):
    arms = arms_of(*ARMS)
    rows = study_summary.summary(arms, replicates).set_index("run")
    macro = group_contrasts.macro(group_contrasts.contrasts(replicates))
    for attribute, group in (("sex", "female - male"), ("age", ">= 80 - rest")):
        assert (
            rows.loc["dp", f"{attribute}_contrast"]
            == macro.loc[("dp", "auroc", "macro", attribute, group), 0]
        )
    assert (rows["low"] < rows["macro_auroc"]).all()
    assert rows.loc["dp", "arm_label"] == "epsilon 2"


def test_summary_says_that_the_oldest_group_is_not_estimable_rather_than_taking_the_next(table):
    few_old = table[
        (table["age_years"] < 80)
        | (table["split"] != "test")
        | (table["patient_id"].isin(table.loc[table["age_years"] >= 80, "patient_id"].unique()[:3]))
    ]
    few_old_replicates = replicate(
        {"base": scored(few_old, 1, 1.5)}, few_old, ["sex", "age"], n_bootstrap=20
    )
    row = study_summary.summary(arms_of(("base", "baseline")), few_old_replicates).iloc[0]
    assert np.isnan(row["age_contrast"])
    assert np.isfinite(row["sex_contrast"])


def test_one_way_takes_the_default_for_patients_and_never_mixes():
    arms = arms_of(
        ("a", "dp", 1.0),
        *(run_record(f"i{e}", "dp", float(e), unit="image") for e in (1, 2, 3)),
        ("base", "baseline"),
    )
    assert study_arms.one_way(arms)["run"].tolist() == ["a"]
    assert study_arms.one_way(arms[arms["unit"] != "patient"])["run"].tolist() == ["i1", "i2", "i3"]
    assert study_arms.one_way(arms[arms["arm"] == "baseline"]).empty


def test_arm_table_says_which_runs_are_seeds_of_one_arm():
    arms = arms_of(("a", "dp", 1.0), run_record("b", "dp", 1.0, seed=1), ("c", "baseline"))
    assert arms["arm_label"].tolist() == ["epsilon 1", "epsilon 1", "no privacy"]
    assert arms["pool"].tolist() == ["a", "a", "c"]
    assert arms["n_seeds"].tolist() == [2, 2, 1]
    assert study_arms.pooled_arms(arms)["run"].tolist() == ["a", "c"]
    other = run_record("d", "dp", 1.0, recipe="mine")
    assert arms_of(("a", "dp", 1.0), other)["arm_label"].tolist() == [
        "epsilon 1",
        "epsilon 1, mine",
    ]
