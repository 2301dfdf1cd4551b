"""Tables and sentences of notebook 04."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, image_table, logistic, predictions_of

from helpers.analysis import (
    conclusions,
    equivalence,
    estimate_tables,
    group_contrasts,
    influence_table,
    paper_comparison,
    planned_comparisons,
    planted_effects,
    readable_tables,
    study_arms,
    study_results,
    study_summary,
)
from helpers.analysis.metric_table import replicate
from helpers.core import errors, run_records


def test_in_order_sorts_bands_from_low_to_high_and_names_the_attribute():
    table = pd.DataFrame(
        {
            "attribute": ["sex", "sex", "age", "age", "age", "age"],
            "group": ["male", "female", ">= 80", "unknown", "[30, 60)", "[0, 30)"],
        }
    )
    assert readable_tables.in_order(table)["label"].tolist() == [
        "female",
        "male",
        "age [0, 30)",
        "age [30, 60)",
        "age >= 80",
        "age unknown",
    ]


def test_in_order_sorts_contrasts_by_their_band():
    table = pd.DataFrame(
        {"attribute": "age", "group": [">= 80 - rest", "[0, 30) - rest", "[30, 60) - rest"]}
    )
    assert readable_tables.in_order(table)["group"].tolist() == [
        "[0, 30) - rest",
        "[30, 60) - rest",
        ">= 80 - rest",
    ]


def test_shown_says_missing_values_in_words():
    table = pd.DataFrame({"group": ["a", "b"], "auroc": [0.5, np.nan], "n": [1, 2]})
    shown = readable_tables.shown(table)
    assert shown.loc["a", "auroc"] == "0.500"
    assert shown.loc["b", "auroc"] == "not estimable"
    assert shown.loc["b", "n"] == 2


@pytest.mark.parametrize("columns", ["arm_label", ["metric", "arm_label"]])
def test_wide_of_nothing_is_an_empty_table_that_can_be_shown(columns):
    table = pd.DataFrame({"label": ["a"], "arm_label": "x", "metric": "auroc", "estimate": np.nan})
    wide = readable_tables.wide(table.dropna(subset="estimate"), columns)
    assert readable_tables.shown(wide).empty


COLUMNS = ["run", "arm", "arm_label", "unit", "recipe", "epsilon", "macro_auroc", "low", "high"]
SUMMARY = pd.DataFrame(
    [
        ["zero", "zero_shot", "zero-shot", None, "default", np.nan, 0.77, 0.75, 0.79],
        ["base", "baseline", "no privacy", None, "default", np.nan, 0.88, 0.86, 0.90],
        ["dp", "dp", "epsilon 2", "patient", "default", 2.0, 0.80, 0.78, 0.82],
    ],
    columns=COLUMNS,
)


def said(prices, gains=(), planned=(), changes=(), summary=SUMMARY):
    """The conclusions from rows (run, estimate, low, high) and others."""
    interval = ["run", "estimate", "low", "high"]
    return conclusions.conclusions(
        summary,
        pd.DataFrame(prices, columns=interval),
        pd.DataFrame(gains, columns=interval),
        pd.DataFrame(
            planned,
            columns=[
                "group",
                "epsilon",
                "estimate",
                "low",
                "high",
                "p_holm",
                "verdict",
                "minimum_detectable",
            ],
        ).assign(arm_label="epsilon 2", attribute="sex"),
        pd.DataFrame(changes, columns=["run", "label", "verdict"]).assign(estimate=-0.0321),
    )


def test_conclusions_follow_the_numbers():
    price, gain, spread, planned = said(
        [("dp", -0.08, -0.09, -0.07)],
        [("dp", 0.03, -0.01, 0.07)],
        [
            (
                "female - male",
                2.0,
                -0.05,
                -0.08,
                -0.03,
                0.004,
                "worse by more than the margin, for the group",
                0.02,
            ),
            ("B - A", 9.0, np.nan, np.nan, np.nan, np.nan, "budget not run", np.nan),
        ],
        [
            ("dp", "female - male", "inconclusive"),
            ("dp", "B - A", "worse by more than the margin, for the group"),
            ("dp", "age", "inconclusive"),
            ("other", "age", "equivalent"),
        ],
    )
    assert price.startswith("epsilon 2 per patient: mean AUROC 0.800")
    assert "the price of privacy, -0.080 [-0.090, -0.070]: the 95 % CI excludes 0" in price
    assert "added to the public model, +0.030 [-0.010, +0.070]: the 95 % CI includes 0" in gain
    assert spread.endswith(
        "Of 3 contrasts between groups: 2 inconclusive, 1 worse by more than the margin, for the"
        " group (B - A -0.032)."
    )
    assert (
        "Planned: sex female - male at epsilon 2: gap_change -0.050 [-0.080, -0.030],"
        " p 0.004 after Holm; worse by more than the margin, for the group" in planned
    )


def test_conclusions_say_what_the_price_is_made_of_where_it_is_known():
    price = pd.DataFrame([("dp", -0.08, -0.09, -0.07)], columns=["run", "estimate", "low", "high"])
    empty = pd.DataFrame(columns=["run", "estimate", "low", "high", "verdict"])
    lines = conclusions.conclusions(
        SUMMARY, price, empty, empty, empty, made_of="Of the mean AUROC that privacy costs ..."
    )
    assert lines[-1] == "Of the mean AUROC that privacy costs ..."
    assert not any("Of the mean" in line for line in said([("dp", -0.08, -0.09, -0.07)]))


def test_conclusions_say_when_a_run_has_another_recipe():
    price, *others = said(
        [("dp", -0.08, -0.09, -0.07)],
        [("dp", 0.03, 0.01, 0.05)],
        summary=SUMMARY.assign(recipe=["default", "default", "theirs"]),
    )
    assert "the price of privacy" not in price
    assert "another recipe" in price
    # its start may have been another one
    assert not any("added to the public model" in line for line in others)


def test_conclusions_say_of_each_arm_that_predicts_nothing_and_go_on_with_the_others():
    first, price, *_ = said(
        [("dp", -0.38, -0.40, -0.36)], summary=SUMMARY.assign(low=[0.49, 0.86, 0.78])
    )
    assert first.startswith("zero-shot: no finding is predicted")
    assert "does not lie above 0.5" in first
    assert price.startswith("epsilon 2 per patient")
    below = said([], summary=SUMMARY.assign(low=0.3, high=0.4))
    assert len(below) == 3
    assert all("lies below 0.5" in line for line in below)
    assert (
        "not estimable"
        in said([], summary=SUMMARY.assign(macro_auroc=np.nan, low=np.nan, high=np.nan))[0]
    )


def test_conclusions_of_one_run_say_what_is_missing():
    assert "needs a baseline run" in said([], summary=SUMMARY.iloc[:1])[0]


def test_permuted_test_labels_turn_the_first_verdict_into_nothing_is_predicted():
    table, predictions = study()
    assert "mean AUROC" in conclusions_of(table, predictions)[0]
    for rows in predictions.values():
        is_test = rows["split"] == "test"
        for finding in ("a", "b"):  # one order for both arms
            here = is_test & (rows["finding"] == finding)
            rows.loc[here, "label"] = np.random.default_rng(finding == "a").permutation(
                rows.loc[here, "label"]
            )
    conclusion_lines = conclusions_of(table, predictions)
    assert [line.split(":")[:2] for line in conclusion_lines] == [
        ["no privacy", " no finding is predicted"],
        ["epsilon 2", " no finding is predicted"],
    ]


def test_planted_gaps_are_found_and_equal_groups_are_not_called():
    table, predictions = study(weaker=0.25)  # the private scores of women know much less
    conclusion_lines = conclusions_of(table, predictions)
    assert any(
        "female - male" in line and "worse by more than the margin, for the group" in line
        for line in conclusion_lines
    )
    table, predictions = study()
    assert not any("worse by more" in line for line in conclusions_of(table, predictions))


def study(weaker=1.0):
    """Table and predictions of two arms on 500 patients of 3 images.

    `weaker` scales the private evidence in women.
    """
    rng = np.random.default_rng(2)
    n, patients = 1500, np.repeat(np.arange(500), 3)
    female = rng.random(500)[patients] < 0.5
    labels = dict.fromkeys(("a", "b"))
    scores = {"base": {}, "dp": {}}
    for finding in labels:
        labels[finding] = (rng.random(n) < 0.4).astype(float)
        common = rng.normal(size=n)
        for run, strength in (("base", 1.6), ("dp", np.where(female, 1.4 * weaker, 1.4))):
            noise = common + 0.2 * rng.normal(size=n)
            scores[run][finding] = logistic(strength * labels[finding] + noise)
    table = image_table(
        patients,
        split=np.where(patients % 5, "test", "valid"),
        sex=np.where(female, "female", "male"),
        **labels,
    )
    return table, {run: predictions_of(table, of_run) for run, of_run in scores.items()}


def test_differences_of_everybody_are_those_of_the_levels_paired_by_patient():
    table, predictions = study()
    runs_table = arms_of(("base", "baseline"), ("dp", "dp", 2.0))
    tables = replicate(predictions, table, ["sex"], n_bootstrap=100, seed=0)
    influences = influence_table.of_auroc(predictions, table, ["sex"])
    means = group_contrasts.averaged(tables)
    tables, influences = (group_contrasts.with_means(rows, means) for rows in (tables, influences))
    levels = estimate_tables.levels(tables, influences, runs_table)
    levels = levels[(levels["finding"] == "macro") & (levels["attribute"] == "all")]
    paired = estimate_tables.changes_of_everybody(tables, influences, runs_table, "base")
    assert paired["metric"].tolist() == ["auroc", "sensitivity"]
    for row in paired.itertuples():
        of_arms = levels[levels["metric"] == row.metric].set_index("run")
        estimates = of_arms["estimate"]
        assert row.estimate == pytest.approx(estimates["dp"] - estimates["base"])
        widths = of_arms["high"] - of_arms["low"]
        assert row.low < row.estimate < row.high
        assert row.high - row.low < 0.7 * np.hypot(*widths)  # both arms have much in common
    assert estimate_tables.changes_of_everybody(tables, influences, runs_table, None).empty


def conclusions_of(table, predictions):
    """What notebook 04 would conclude."""
    influences = group_contrasts.with_means(influence_table.of_auroc(predictions, table, ["sex"]))
    runs_table = arms_of(("base", "baseline"), ("dp", "dp", 2.0))
    arms = study_arms.pooled_arms(runs_table)
    changes = estimate_tables.gap_changes(influences, runs_table, "base")
    prices = estimate_tables.auroc_changes(influences, runs_table, "base")
    prices = prices[(prices["group"] == "all") & (prices["finding"] == "macro")]
    planned = planned_comparisons.planned_table(changes, arms, [["sex", "female - male", 2]], 0.02)
    return conclusions.conclusions(
        study_summary.summary(runs_table, influences),
        prices,
        prices.iloc[:0],
        planned,
        readable_tables.in_order(equivalence.of_changes(changes, 0.02)),
    )


def test_conclusions_of_the_papers_measures_count_what_the_tables_hold():
    parity = pd.DataFrame({"arm_label": "epsilon 8", "low": [-0.2, -0.1], "high": [-0.1, 0.1]})
    sides = pd.DataFrame(
        {
            "run": "dp",
            "images": ["all images"] * 3 + ["one image each"] * 3,
            "label": ["sex", "age", "old"] * 2,
            "low": [0.01, -0.1, 0.1, -0.01, -0.1, np.nan],
            "high": [0.1, 0.1, 0.2, 0.1, 0.1, np.nan],
        }
    )
    shortcut = pd.DataFrame(
        {
            "column": ["scanner"],
            "arm_label": "no privacy",
            "alone": 0.75,
            "model": 0.9,
            "within": 0.8,
        }
    )
    sentences = paper_comparison.conclusions(
        parity,
        sides,
        pd.DataFrame({"ratio": [0.9, 1.1]}),
        shortcut,
        pd.DataFrame({"printed": [40, 20], "attainable": [18, 19]}),
    )
    assert "at epsilon 8: 1 of 2 have a 95 % CI that excludes 0" in sentences[0]
    # "sex" changes, "age" does not, "old" is not estimable with one image each
    assert "changes in 1 of 2 AUROC contrasts" in sentences[1]
    assert "0.90 to 1.10 times" in sentences[2]
    assert "scanner alone: AUROC 0.750; no privacy 0.900, among" in sentences[3]
    assert "Of 60 AUROCs" in sentences[4]
    assert "23 cannot be" in sentences[4]


def test_findings_per_image_are_counted_by_age_and_sex():
    table = pd.DataFrame(
        {
            "split": ["test"] * 4 + ["train"],
            "sex": ["female", "female", "male", "unknown", "male"],
            "age_years": [20, 25, 85, np.nan, 20],
            "a": [1, 0, 1, 1, 1],
            "b": [1, 0, 1, np.nan, 1],
            "patient_id": list("pqrst"),
        }
    )
    means = paper_comparison.findings_per_image(table, ["a", "b"], None, "open").set_index("age")
    assert means.index.tolist() == ["[0, 30)", ">= 80", "unknown"]
    assert means.loc["[0, 30)", "female"] == "1.00 +- 1.41 (n=2)"
    assert means.loc["[0, 30)", "male"] == ""
    assert means.loc["unknown", "unknown"] == "1.00 (n=1)"


def test_standard_errors_of_bootstrap_and_closed_form_agree():
    table, predictions = study()
    errors = paper_comparison.standard_errors(
        replicate(predictions, table, [], n_bootstrap=800, names=("auroc",)),
        influence_table.of_auroc(predictions, table, []),
    )
    assert errors["ratio"].between(0.9, 1.1).all()
    assert len(errors) == 4


def test_beside_published_draws_only_what_is_verified():
    contrasts = pd.DataFrame(
        {
            "run": "dp",
            "arm": "dp",
            "recipe": "default",
            "attribute": ["sex", "age", "age"],
            "epsilon": 2.0,
            "estimate": [0.1, 0.2, 0.3],
            "group": ["female - male", "[0, 30) - rest", ">= 80 - rest"],
            "label": ["female - male", "young", "old"],
        }
    )
    curves, others = paper_comparison.beside_published(
        SUMMARY, contrasts, ["pdac", "uka_domain_transfer"]
    )
    assert set(curves["study"]) == {"pdac", "uka_domain_transfer", "this study"}
    this_study = curves[curves["study"] == "this study"].iloc[0]
    assert this_study["difference"] == pytest.approx(-0.08)
    assert this_study["chance_corrected_ratio"] == pytest.approx(0.30 / 0.38)
    assert others.loc[others["study"] == "this study", "contrast"].tolist() == [0.1, 0.3]


def test_calibration_shift_by_hand():
    columns = ["arm_label", "finding", "metric", "estimate", "low", "high"]
    here = pd.DataFrame([["dp", "a", "calibration_slope", 1.0, 0.7, 1.2]], columns=columns)
    there = pd.DataFrame([["dp", "a", "calibration_slope", 0.5, 0.1, 0.8]], columns=columns)
    row = study_results.calibration_shift(here, there).iloc[0]
    assert row["shift"] == pytest.approx(-0.5)
    assert row["low"] == pytest.approx(-0.5 - np.hypot(0.4, 0.2))
    assert row["high"] == pytest.approx(-0.5 + np.hypot(0.3, 0.3))


def test_records_of_refuses_no_run_and_a_run_of_other_data(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(errors.InputError, match="Run notebook 02 or 03"):
        study_results.records_of("small", [], "hash")
    monkeypatch.setattr(
        run_records,
        "read_record",
        lambda name: {"run": name, "cohort": "small", "data_hash": "old"},
    )
    with pytest.raises(errors.InputError, match="other data"):
        study_results.records_of("small", ["small-baseline-seed0"], "hash")


def test_opened_puts_image_level_runs_last(tmp_path):
    images = image_table(range(6), a=[0, 1] * 3)
    images.to_csv(tmp_path / "table.csv", index=False)
    entries = [
        {"path": "image1", "arm": "dp", "epsilon": 1, "unit": "image"},
        {"path": "free", "arm": "baseline"},
        {"path": "patient8", "arm": "dp", "epsilon": 8},
    ]
    for entry in entries:
        entry["path"] = str(tmp_path / f"{entry['path']}.csv")
        predictions_of(images, {"a": 0.5}).to_csv(entry["path"], index=False)
    _, _, records, predictions = study_results.opened("", [], entries, str(tmp_path / "table.csv"))
    assert [record["run"] for record in records] == ["free", "patient8", "image1"]
    assert list(predictions) == ["free", "patient8", "image1"]


def test_planted_beside_estimates_is_empty_for_real_data():
    assert planted_effects.planted_beside_estimates({"access": "private"}, pd.DataFrame()).empty


@pytest.mark.parametrize(
    "columns, words",
    [
        (dict(sex="unknown", age_years=np.nan), "below, sex and age are unknown, and confidence"),
        (dict(sex="female", age_years=np.nan), "below, age is unknown, and confidence"),
        (dict(sex="female", age_years=40.0), "below, and confidence"),
    ],
)
def test_without_patients_only_what_is_unknown_is_called_so(columns, words, monkeypatch, capsys):
    table, record = pd.DataFrame({"image_id": ["a", "b"], **columns}), {"data_hash": "x"}
    monkeypatch.setattr(study_results.manifests, "name_of", lambda name: name)
    monkeypatch.setattr(study_results.cohorts, "read_table", lambda name: (table, record))
    monkeypatch.setattr(study_results.cohorts, "patients_are_known", lambda record: False)
    monkeypatch.setattr(study_results, "records_of", lambda *_: [])
    study_results.opened("ward", [], [], "")
    assert words in capsys.readouterr().out
