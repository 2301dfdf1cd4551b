"""The table of metrics by group, its reductions, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, image_table, logistic, predictions_of, run_record
from fairlearn.metrics import MetricFrame, demographic_parity_difference, equalized_odds_difference
from scipy import stats
from sklearn.metrics import accuracy_score, roc_auc_score

from helpers.analysis import (
    auroc_intervals,
    bootstrap,
    confidence_intervals,
    equivalence,
    estimate_tables,
    group_contrasts,
    influence_table,
    operating_points,
    study_arms,
    study_summary,
)
from helpers.analysis.metric_table import (
    LEVELS,
    METRICS,
    OF_IMAGES,
    group_sizes,
    of_many_images,
    one_image_each,
    prevalences,
    replicate,
)
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


def threshold_of(valid):
    """False alarms 0.2, see test_operating_points."""
    labels, scores = valid["label"].to_numpy(float), valid["score"].to_numpy()
    draws = bootstrap.Draws.of(np.arange(len(labels)), 0, np.random.default_rng(0))
    return operating_points.thresholds(labels, scores, draws, "false alarms 0.2")[0]


def test_replicates_estimates_agree_with_sklearn_and_fairlearn(table, replicates):
    predictions = scored(table, 1, 1.5)
    edema = predictions[predictions["finding"] == "edema"].merge(table[["image_id", "sex"]])
    valid, test = edema[edema["split"] == "valid"], edema[edema["split"] == "test"]
    threshold = threshold_of(valid)
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
        == len(METRICS) - len(OF_IMAGES)
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
    half = np.hypot(1.96 * 0.01, stats.t.ppf(0.975, 2) * np.sqrt(between))
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.05)
    # patients cancel here: the seeds alone are left, those of the given model 0, or 3 against 1
    for is_given, factor in ((True, 1), (False, 4)):
        changed = group_contrasts.changes(pooled, "base", is_given=is_given)
        change = confidence_intervals.summarise(changed).iloc[0]
        assert change["estimate"] == pytest.approx(-0.09)
        assert (change["high"] - change["low"]) / 2 == pytest.approx(
            stats.t.ppf(0.975, 2) * np.sqrt(factor * between), rel=0.01
        )
    assert study_arms.seed_values(table, arms)["estimate"].tolist() == [0.79, 0.80, 0.84]
    alone = study_arms.pool(table.loc[["base"]], arms)
    assert alone[study_arms.BETWEEN_SEEDS].to_numpy().tolist() == [[0, 0, 1]]
    assert study_arms.seed_values(table.loc[["base"]], arms).empty


@pytest.mark.parametrize("n_seeds, ratio", [(2, 1.0), (3, 2.0)])
def test_percentile_intervals_over_few_seeds_cover(n_seeds, ratio):
    rng, n = np.random.default_rng(3), 400
    arms = arms_of(*(run_record(f"r{seed}", "dp", 1.0, seed=seed) for seed in range(n_seeds)))
    error = 0.01 * rng.standard_normal(n)  # of the choice of patients, common to all seeds
    estimates = 0.8 + error + ratio * 0.01 * rng.standard_normal((n_seeds, n))
    draws = 0.01 * rng.standard_normal((n, 300))
    cohorts = [f"cohort {number}" for number in range(n)]
    index = pd.MultiIndex.from_product(
        [arms["run"], ["brier"], ["macro"], ["all"], cohorts], names=LEVELS
    )
    table = pd.DataFrame((estimates[..., None] + draws).reshape(-1, 300), index, range(1, 301))
    table.insert(0, 0, estimates.ravel())
    rows = confidence_intervals.summarise(study_arms.pool(table, arms))
    covered = rows["low"].le(0.8) & rows["high"].ge(0.8)
    assert covered.mean() > 0.94  # with the normal in place of t: 0.92, 0.90


@pytest.mark.parametrize("n_private, n_baseline", [(3, 1), (10, 1), (1, 3), (4, 4)])
def test_a_single_seed_borrows_the_other_arms_variance_and_intervals_cover(n_private, n_baseline):
    """At the 5 % level and at Holm's first step for six; with variance 0: 80 and 66 %."""
    rng, n_cohorts = np.random.default_rng(5), 800
    arms = arms_of(
        *(run_record(f"b{seed}", "baseline", seed=seed) for seed in range(n_baseline)),
        *(run_record(f"p{seed}", "dp", 1.0, seed=seed) for seed in range(n_private)),
    )
    runs = arms["run"].tolist()
    influence = 0.001 * rng.standard_normal((2, n_cohorts, 100))  # of the patients, on both arms
    influence = influence[(arms["arm"] == "dp").astype(int)]
    estimates = influence.sum(axis=2) + 0.02 * rng.standard_normal((len(runs), n_cohorts))
    cohorts = [f"cohort {number}" for number in range(n_cohorts)]
    index = pd.MultiIndex.from_product([runs, ["auroc"], ["macro"], ["all"], cohorts], names=LEVELS)
    table = pd.DataFrame(influence.reshape(-1, 100), index, range(1, 101))
    table.insert(0, 0, 0.8 + estimates.ravel())
    table = table.assign(n_smaller=50, n_averaged=2, hidden_error=0.0)
    changed = group_contrasts.changes(study_arms.pool(table, arms), "b0")
    rows = confidence_intervals.of_changes(changed)
    assert 0.94 < rows["low"].le(0).mul(rows["high"].ge(0)).mean() < 0.99
    assert (rows["p"] < 0.05 / 6).mean() < 0.05 / 6 + 0.005


def test_seeds_are_said_in_words():
    arms = arms_of(
        ("base", "baseline"),
        ("dp", "dp", 2.0),
        run_record("dp1", "dp", 2.0, seed=1),
        ("other", "dp", 8.0),
    )
    pooled = study_arms.pooled_arms(arms)
    words = study_arms.seeds_in_words(pooled, "base")
    assert words["dp"] == "2 and 1: the single one borrows the other's variance"
    assert words["other"] == "1 each: these models only"


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
        called = test["score"] >= threshold_of(valid)
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


def test_error_rates_of_images_are_those_of_a_loop_over_findings(table, replicates):
    predictions = scored(table, 1, 1.5)
    wide = predictions.pivot(index="image_id", columns="finding", values="score")
    wide = wide.loc[table["image_id"]].reset_index(drop=True)
    valid, largest = table["split"] == "valid", wide.max(axis=1)
    sick = (table["edema"] == 1) | (table["mass"] == 1)
    called = pd.Series(False, index=table.index)
    for finding in ("edema", "mass"):
        rows = pd.DataFrame({"label": table[finding], "score": wide[finding]})
        called |= wide[finding] >= threshold_of(rows[valid])
    of_any = largest >= threshold_of(pd.DataFrame({"label": sick, "score": largest})[valid])
    women = (table["split"] == "test") & (table["sex"] == "female")
    for name, wrong, among in (
        ("underdiagnosis_rate", ~called, sick),
        ("overdiagnosis_rate", called, ~sick),
        ("underdiagnosis_rate_of_no_finding", ~of_any, sick),
        ("overdiagnosis_rate_of_no_finding", of_any, ~sick),
    ):
        rate = replicates.loc[("base", name, "any finding", "sex", "female"), 0]
        assert rate == pytest.approx(wrong[women & among].mean())
        assert 0 < rate < 1


def test_an_image_without_findings_is_healthy_only_where_all_labels_are_known(table):
    gone = (table["split"] == "test") & (np.arange(len(table)) % 3 == 0)
    unknown = table.assign(mass=table["mass"].mask(gone))
    predictions = {"base": scored(table, 1, 1.5)}  # the same scores
    whole = predictions["base"]
    is_mass = whole["finding"] == "mass"
    labels = whole["label"].where(~is_mass, np.tile(unknown["mass"], 2))
    for rows in (whole.assign(label=labels), whole.assign(label=labels).dropna(subset="label")):
        rates = replicate(
            {"base": rows}, unknown, [], n_bootstrap=20, names=("overdiagnosis_rate",)
        )
        known = (table["split"] == "test") & ~gone & (table["edema"] == 0) & (table["mass"] == 0)
        everybody = replicate(
            {
                "base": whole[
                    whole["image_id"].isin(table.loc[known, "image_id"])
                    | (whole["split"] == "valid")
                ]
            },
            table,
            [],
            n_bootstrap=20,
            names=("overdiagnosis_rate",),
        )
        assert rates[0].iloc[0] == pytest.approx(everybody[0].iloc[0])


@pytest.mark.parametrize("operating_point", ["sensitivity 0.9", "false alarms 0.1"])
def test_arms_are_compared_at_the_operating_point_that_is_asked_for(table, operating_point):
    rates = replicate(
        two_arms(table),
        table,
        [],
        n_bootstrap=20,
        operating_point=operating_point,
        names=("sensitivity", "specificity"),
    )[0]
    of_all = rates.unstack("metric")
    wanted = (
        of_all["sensitivity"] - 0.9 if "sens" in operating_point else 0.9 - of_all["specificity"]
    )
    assert wanted.abs().max() < 0.08  # carried from valid to test


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
    rows = ~known_labels.index.get_level_values("metric").isin(OF_IMAGES)
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
    sizes = group_sizes(table, ["edema", "mass"], ["sex"], None, "open").set_index("group")
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
    influences = with_means_of({"base": scored(table, 1, 1.5)}, unknown, ["sex"])
    rows = study_summary.summary(arms_of(("base", "baseline")), influences)
    assert rows["sex_contrast"].isna().all()
    assert rows["macro_auroc"].notna().all()


def test_changes_without_a_baseline_or_without_others_are_empty(replicates):
    contrasts = study_arms.pool(
        group_contrasts.macro(group_contrasts.contrasts(replicates)), arms_of(*ARMS)
    )
    only = contrasts[contrasts.index.get_level_values("run") == "base"]
    assert confidence_intervals.summarise(group_contrasts.changes(contrasts, None)).empty
    assert confidence_intervals.summarise(group_contrasts.changes(only, "base")).empty


def with_means_of(predictions, table, attributes, **options):
    """Influences with their means over findings."""
    influences = influence_table.of_auroc(predictions, table, attributes, **options)
    return group_contrasts.with_means(influences)


def two_arms(table):
    return {"base": scored(table, 1, 1.5), "dp": scored(table, 2, 0.8)}


def test_influences_and_replicates_are_of_the_same_estimates(table, replicates):
    influences = influence_table.of_auroc(two_arms(table), table, ["sex", "age"]).sort_index()
    of_auroc = replicates[replicates.index.get_level_values("metric") == "auroc"]
    pd.testing.assert_series_equal(influences[0], of_auroc[0])
    spread = pd.Series(confidence_intervals.spread(influences).patients, influences.index)
    ratio = (of_auroc.drop(columns=0).std(axis=1) / spread)[influences["n_smaller"] >= 30]
    assert ratio.between(0.8, 1.25).all() and len(ratio) > 10


def test_summary_has_one_row_a_run_with_the_contrasts_of_sex_and_of_the_oldest(table):
    influences = with_means_of(two_arms(table), table, ["sex", "age"])
    rows = study_summary.summary(arms_of(*ARMS), influences).set_index("run")
    means = group_contrasts.contrasts(group_contrasts.only_means(influences)).sort_index()
    for attribute, group in (("sex", "female - male"), ("age", ">= 80 - rest")):
        assert (
            rows.loc["dp", f"{attribute}_contrast"]
            == means.loc[("dp", "auroc", "macro", attribute, group), 0]
        )
        assert (rows[f"{attribute}_low"] < rows[f"{attribute}_contrast"]).all()
    assert (rows["low"] < rows["macro_auroc"]).all()
    assert rows.loc["dp", "arm_label"] == "epsilon 2"


def test_summary_says_that_the_oldest_group_is_not_estimable_rather_than_taking_the_next(table):
    few_old = table[
        (table["age_years"] < 80)
        | (table["split"] != "test")
        | (table["patient_id"].isin(table.loc[table["age_years"] >= 80, "patient_id"].unique()[:3]))
    ]
    influences = with_means_of({"base": scored(few_old, 1, 1.5)}, few_old, ["sex", "age"])
    row = study_summary.summary(arms_of(("base", "baseline")), influences).iloc[0]
    assert np.isnan(row["age_contrast"])
    assert np.isfinite(row["sex_contrast"])


def test_a_group_never_changes_which_findings_its_attribute_is_compared_by(table):
    """Women have only sick images of edema: both sexes are compared by mass alone."""
    of_women = (table["sex"] == "female") & (table["split"] == "test")
    one_class = table.assign(edema=table["edema"].mask(of_women, 1.0))
    influences = influence_table.of_auroc(two_arms(one_class), one_class, ["sex", "age"])
    of_means = group_contrasts.averaged(influences).set_index("attribute")
    assert of_means.loc["sex", "findings"] == ("mass",)
    assert of_means.loc["all", "findings"] == ("edema", "mass")
    means = group_contrasts.macro(influences)[0].sort_index()
    alone = influences[0].sort_index()
    for sex in ("female", "male", "unknown"):
        mean = means.loc["base", "auroc", "macro", "sex", sex]
        assert mean == alone.loc["base", "auroc", "mass", "sex", sex]
    rows = group_contrasts.with_findings(
        pd.DataFrame({"metric": ["auroc"], "attribute": ["sex"]}), of_means.reset_index()
    )
    assert rows.loc[0, ["n_findings", "findings"]].tolist() == [1, "mass"]


def test_findings_given_before_are_kept_and_a_group_without_one_has_no_mean(table):
    of_women = (table["sex"] == "female") & (table["split"] == "test")
    one_class = table.assign(edema=table["edema"].mask(of_women, 1.0))
    influences = influence_table.of_auroc(two_arms(one_class), one_class, ["sex"])
    of_means = group_contrasts.averaged(influences, ["edema", "mass"])
    assert (of_means["findings"] == ("edema", "mass")).all()
    means = group_contrasts.macro(influences, of_means)[0].xs("base", level="run")
    of_sex = means.xs("sex", level="attribute").droplevel(["metric", "finding"])
    assert np.isnan(of_sex["female"]) and np.isfinite(of_sex["male"])


def test_a_group_with_few_findings_has_no_mean_and_takes_none_from_the_others():
    index = pd.MultiIndex.from_tuples(
        [("r", "auroc", finding, "site", site) for site in "ABC" for finding in "abcd"],
        names=LEVELS,
    )
    values = np.full((3, 4), 0.8)
    values[2, 1:] = np.nan  # C is estimable for one finding of four
    table = pd.DataFrame({0: values.ravel()}, index=index)
    assert group_contrasts.averaged(table)["findings"].tolist() == [("a", "b", "c", "d")]
    means = group_contrasts.macro(table)[0].droplevel(["run", "metric", "finding", "attribute"])
    assert means["A"] == means["B"] == 0.8 and np.isnan(means["C"])
    table.loc[("r", "auroc", "b", "site", "B"), 0] = np.nan  # B for three of four
    assert group_contrasts.averaged(table)["findings"].tolist() == [("a", "c", "d")]


def test_a_finding_that_one_arm_lacks_is_not_averaged_in_another(table):
    influences = influence_table.of_auroc(two_arms(table), table, [])
    fewer = influences.drop(index=[("dp", "auroc", "mass", "all", "all")])
    assert group_contrasts.averaged(fewer)["findings"].tolist() == [("edema",)]


def test_limits_of_a_contrast_are_mover_of_both_levels_and_the_seeds(table):
    """By hand, from the influences of two seeds on women and men."""
    predictions = two_arms(table) | {"dp1": scored(table, 3, 0.8)}
    arms = arms_of(("base", "baseline"), ("dp", "dp", 2.0), run_record("dp1", "dp", 2.0, seed=1))
    influences = influence_table.of_auroc(predictions, table, ["sex"])
    rows = estimate_tables.auroc_contrasts(group_contrasts.with_means(influences), arms)
    row = rows.set_index("run").loc["dp"]
    of_seed, values = {}, {}
    for sex in ("female", "male"):
        cells = influences.loc[
            [(run, "auroc", f, "sex", sex) for run in ("dp", "dp1") for f in ("edema", "mass")]
        ]
        of_seed[sex] = cells[0].to_numpy().reshape(2, 2).mean(axis=1)
        influence = cells[range(1, cells.shape[1] - 3)].to_numpy().mean(axis=0)
        spread = auroc_intervals.Spread(
            auroc_intervals.standard_error(influence), auroc_intervals.effective_patients(influence)
        )
        smaller = cells["n_smaller"].min()
        values[sex] = cells[0].mean(), auroc_intervals.of_level(cells[0].mean(), spread, smaller)
    (women, of_women), (men, of_men) = values["female"], values["male"]
    apart = of_seed["female"] - of_seed["male"]
    seeds = stats.t.ppf(0.975, 1) * apart.std(ddof=1) / np.sqrt(2)
    assert row["estimate"] == pytest.approx(women - men)
    below = np.hypot(women - of_women[0], of_men[1] - men)
    above = np.hypot(of_women[1] - women, men - of_men[0])
    assert row["low"] == pytest.approx(women - men - np.hypot(below, seeds))
    assert row["high"] == pytest.approx(women - men + np.hypot(above, seeds))
    assert row["remark"] == ""


def test_few_patients_near_1_are_remarked():
    index = pd.MultiIndex.from_tuples(
        [("r", "auroc", "a", "site", name) for name in "ABCD"], names=LEVELS
    )
    influence = np.random.default_rng(0).normal(0, 0.003, (4, 60))
    table = pd.DataFrame(influence, index, range(1, 61)).assign(
        n_smaller=[12, 12, 30, 12], n_averaged=[1, 1, 1, 8], hidden_error=0.0
    )
    table.insert(0, 0, [0.95, 0.8, 0.95, 0.95])
    remarks = confidence_intervals.of_levels(table)["remark"].tolist()
    assert remarks == [confidence_intervals.TOO_NARROW, "", "", confidence_intervals.TOO_NARROW]
    assert (confidence_intervals.of_changes(table)["remark"] == "").all()


def test_groups_of_images_have_the_interval_of_estimates_that_share_patients(table):
    view = np.where(np.arange(len(table)) % 2, "AP", "PA")
    seen = table.assign(view=view)
    influences = with_means_of({"base": scored(table, 1, 1.5)}, seen, ["view"])
    row = estimate_tables.auroc_contrasts(influences, arms_of(("base", "baseline"))).iloc[0]
    means = group_contrasts.only_means(influences).xs("view", level="attribute")
    pa, ap = (means.xs(name, level="group") for name in ("PA", "AP"))
    assert row["group"] == "PA - AP"
    values = [confidence_intervals.influences_of(part)[0] for part in (pa, ap)]
    errors_of = [auroc_intervals.standard_error(value) for value in values]
    shared = auroc_intervals.correlation(*values, *errors_of)
    assert abs(shared) > 0.01
    limits = [
        confidence_intervals.of_levels(part)[["low", "high"]].to_numpy()[0] for part in (pa, ap)
    ]
    low, high = auroc_intervals.of_contrast(
        pa[0].iloc[0], tuple(limits[0]), ap[0].iloc[0], tuple(limits[1]), shared
    )
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))


def test_a_perfect_group_is_uncertain_and_its_change_is_not_equivalent():
    rng, n = np.random.default_rng(0), 60
    label = np.tile([1.0, 0.0], n)
    table = image_table(np.arange(2 * n), sex=np.repeat(["female", "male"], n), a=label)
    predictions = {
        run: predictions_of(table, {"a": label + 0.1 * rng.random(2 * n)}) for run in ("base", "dp")
    }
    influences = with_means_of(predictions, table, ["sex"])
    arms = arms_of(("base", "baseline"), ("dp", "dp", 2.0))
    level = confidence_intervals.of_levels(influences).iloc[0]
    assert (level["estimate"], level["high"]) == (1, 1) and level["low"] < 0.97
    change = estimate_tables.gap_changes(influences, arms, "base")
    row = equivalence.of_changes(change, 0.02).iloc[0]
    assert row["estimate"] == 0 and row["low"] < -0.02 < 0.02 < row["high"]
    assert row["verdict"] == "inconclusive"


def test_perfect_findings_have_hidden_errors_in_means_contrasts_and_changes():
    """Two findings, both perfect in both arms; one image of each view of every patient."""
    rng, n = np.random.default_rng(1), 120
    label = np.tile(rng.permutation(np.tile([1.0, 0.0], n // 2)), 2)
    view = np.repeat(["AP", "PA"], n)
    table = image_table(np.tile(np.arange(n), 2), view=view, a=label, b=label)
    perfect = predictions_of(table, {"a": label + 0.1 * rng.random(2 * n), "b": label})
    influences = with_means_of({"base": perfect, "dp": perfect}, table, ["view"])
    arms = arms_of(("base", "baseline"), ("dp", "dp", 2.0))
    changed = estimate_tables.gap_changes(influences, arms, "base")
    row = equivalence.of_changes(changed, 0.02).iloc[0]
    assert row["low"] < 0 < row["high"] and np.isfinite(row["p"])
    # of one perfect finding nothing is lent to the correlation of the views
    rough = predictions_of(table, {"a": label, "b": label + 2 * rng.standard_normal(2 * n)})
    influences = with_means_of({"base": rough}, table, ["view"])
    alone = group_contrasts.contrasts(group_contrasts.only_means(influences))
    row = estimate_tables.auroc_contrasts(influences, arms_of(("base", "baseline"))).iloc[0]
    margin = confidence_intervals.spread(alone).margin(0.025)[0]
    assert (row["high"] - row["low"]) / 2 == pytest.approx(margin, rel=0.15)


@pytest.mark.parametrize("value, limits", [(0.5, (0.5, 0.5)), ("inverted", (0.0, None))])
def test_scores_that_tell_nothing_or_the_reverse_have_no_interval_above_chance(value, limits):
    label = np.tile([1.0, 0.0], 200)
    table = image_table(np.arange(400), a=label)
    score = 1 - label if value == "inverted" else np.full(400, value)
    row = confidence_intervals.of_levels(
        with_means_of({"r": predictions_of(table, {"a": score})}, table, [])
    ).iloc[0]
    assert row["low"] == limits[0]
    assert row["high"] == limits[1] if limits[1] else 0 < row["high"] < 0.05


def test_low_scores_in_one_group_do_not_change_which_findings_are_averaged(table):
    """Nobody is called for mass among women: PPV has no value there, and women no mean PPV."""
    predictions = two_arms(table)
    rows = predictions["dp"]
    women = rows["image_id"].isin(table.loc[table["sex"] == "female", "image_id"])
    rows.loc[women & (rows["finding"] == "mass"), "score"] = 0.0
    drawn = replicate(predictions, table, ["sex"], n_bootstrap=20)
    of_means = group_contrasts.averaged(drawn).set_index(["metric", "attribute"])["findings"]
    assert of_means["ppv", "sex"] == of_means["auroc", "sex"] == ("edema", "mass")
    means = group_contrasts.macro(drawn)[0].xs("ppv", level="metric").sort_index()
    assert np.isnan(means["dp", "macro", "sex", "female"])
    assert np.isfinite(means["dp", "macro", "sex", "male"])


def test_the_expected_calibration_error_has_no_interval_and_no_contrast(table):
    drawn = group_contrasts.with_means(replicate(two_arms(table), table, ["sex"], n_bootstrap=20))
    influences, arms = with_means_of(two_arms(table), table, ["sex"]), arms_of(*ARMS)
    of_means = group_contrasts.averaged(drawn.drop("macro", level="finding"))
    levels = estimate_tables.levels(drawn, influences, arms)
    of_ece = levels[levels["metric"] == "ece"]
    assert of_ece["estimate"].notna().any() and of_ece[["low", "high"]].isna().all().all()
    contrasts = estimate_tables.contrasts(drawn, influences, arms, of_means)
    assert "ece" not in set(contrasts["metric"]) and "brier" in set(contrasts["metric"])
    assert set(contrasts["findings"]) == {"edema, mass", "any finding"}


def test_male_is_a_group_like_any_other_where_the_other_is_not_female(table):
    diverse = table.assign(sex=table["sex"].replace({"female": "diverse"}))
    influences = influence_table.of_auroc(two_arms(table), diverse, ["sex"])
    names = group_contrasts.contrasts(influences).index.unique("group")
    assert list(names) == ["male - diverse"]


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


def test_a_patient_with_a_hundred_times_the_median_number_of_images_is_named():
    patients = np.r_[np.arange(30), np.full(120, 99)]
    assert of_many_images(image_table(patients)).to_dict() == {"p99": 120}
    assert of_many_images(image_table(np.arange(30))).empty


def test_prevalences_are_of_known_labels_in_groups_and_rests(table):
    shares = prevalences(table, ["edema", "mass"], ["sex"])
    women = table[(table["split"] == "test") & (table["sex"] == "female")]
    assert shares["sex", "female", "edema"] == pytest.approx(women["edema"].mean())
    men = table[(table["split"] == "test") & (table["sex"] == "male")]
    assert shares["sex", "not: female", "mass"] == pytest.approx(men["mass"].mean())


def test_groups_that_are_served_alike_differ_in_accuracy_where_a_finding_is_commoner_in_one():
    """A planted table of base rates: AUROC says alike, accuracy, PPV and selection rate do not."""
    rng, n = np.random.default_rng(4), 12_000
    female = rng.random(n) < 0.5
    label = (rng.random(n) < np.where(female, 0.5, 0.1)).astype(float)
    sex, split = np.where(female, "female", "male"), np.where(np.arange(n) % 4, "test", "valid")
    table = image_table(np.arange(n), sex=sex, split=split, a=label)
    predictions = {"base": predictions_of(table, {"a": logistic(label + rng.standard_normal(n))})}
    drawn = replicate(predictions, table, ["sex"], n_bootstrap=100)
    of_means = group_contrasts.averaged(drawn)
    influences, arms = with_means_of(predictions, table, ["sex"]), arms_of(("base", "baseline"))
    drawn = group_contrasts.with_means(drawn)
    rows = estimate_tables.contrasts(drawn, influences, arms, of_means).set_index("metric")
    for name in ("accuracy", "ppv", "selection_rate"):
        assert rows.loc[name, "low"] > 0 or rows.loc[name, "high"] < 0
    for name in ("auroc", "sensitivity", "specificity"):
        assert rows.loc[name, "low"] < 0.01 and rows.loc[name, "high"] > -0.01


def test_identical_arms_have_no_change_with_certainty(table):
    same = scored(table, 1, 1.5)
    influences = with_means_of({"base": same, "dp": same}, table, ["sex", "age"])
    changed = estimate_tables.gap_changes(influences, arms_of(*ARMS), "base")
    changes = equivalence.of_changes(changed, 0.02)
    known = changes[changes["estimate"].notna()]
    assert (known[["estimate", "low", "high"]] == 0).all().all() and (known["p"] == 1).all()
    assert (known["verdict"] == "equivalent").all() and len(known) > 3


def test_a_finding_of_two_in_a_thousand_is_estimable_and_uncertain():
    rng, n = np.random.default_rng(7), 6000
    label = np.zeros(n)
    label[:12] = 1  # 0.2 %
    table = image_table(np.arange(n), sex=np.where(np.arange(n) % 2, "female", "male"), a=label)
    predictions = {"base": predictions_of(table, {"a": 1.5 * label + rng.standard_normal(n)})}
    influences = with_means_of(predictions, table, ["sex"])
    row = confidence_intervals.of_levels(influences).iloc[0]
    assert row["high"] - row["low"] > 0.1
    contrasts = estimate_tables.auroc_contrasts(influences, arms_of(("base", "baseline")))
    assert contrasts["estimate"].isna().all()  # six women with it
