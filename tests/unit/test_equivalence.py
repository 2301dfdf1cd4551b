"""Verdicts, planned comparisons and Holm: by hand, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, image_table, predictions_of, run_record
from scipy.stats import norm

from helpers.analysis import (
    equivalence,
    group_contrasts,
    metric_table,
    planned_comparisons,
    study_arms,
)
from helpers.analysis.metric_table import LEVELS


def table_of(rows, n=4000):
    """Replicates of gap_change around the given (run, attribute, group).

    (estimate, standard error).
    """
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_tuples(
        [(run, "auroc", "macro", attribute, group) for run, attribute, group in rows], names=LEVELS
    )
    draws = [
        np.r_[estimate, estimate + error * rng.standard_normal(n)]
        for estimate, error in rows.values()
    ]
    return pd.DataFrame(draws, index=index).assign(**dict.fromkeys(study_arms.BETWEEN_SEEDS, 0.0))


@pytest.mark.parametrize(
    "limits_95, limits_90, expected",
    [
        ((-0.09, -0.03), (-0.08, -0.04), "worse by more than the margin, for the group"),
        ((0.03, 0.09), (0.04, 0.08), "worse by more than the margin, for the rest"),
        ((-0.021, 0.015), (-0.019, 0.012), "equivalent"),  # the 90 % interval decides
        ((-0.03, -0.001), (-0.028, -0.003), "inconclusive"),  # told from 0, but not from the margin
        ((-0.06, 0.05), (-0.05, 0.04), "inconclusive"),
        ((np.nan, np.nan), (np.nan, np.nan), "not estimable"),
    ],
)
def test_verdict_is_where_the_interval_lies_relative_to_the_margin(limits_95, limits_90, expected):
    assert equivalence.verdict(*limits_95, *limits_90, 0.02) == expected


def test_of_changes_finds_what_was_planted_and_says_what_could_have_been_seen():
    changes = equivalence.of_changes(
        table_of(
            {
                ("dp", "sex", "female - male"): (-0.06, 0.01),
                ("dp", "age", ">= 80 - rest"): (0.0, 0.005),
                ("dp", "site", "B - A"): (-0.02, 0.02),
            }
        ),
        0.02,
    )
    assert changes["verdict"].tolist() == [
        "worse by more than the margin, for the group",
        "equivalent",
        "inconclusive",
    ]
    assert changes["minimum_detectable"].to_numpy() == pytest.approx(
        2.8016 * np.array([0.01, 0.005, 0.02]), rel=0.05
    )
    assert equivalence.minimum_detectable_change(0.01, 4) == pytest.approx(
        0.01 * (norm.ppf(1 - 0.05 / 8) + norm.ppf(0.8))
    )
    assert equivalence.of_changes(table_of({("dp", "sex", "f - m"): (0, 1)}).iloc[:0], 0.02).empty


def test_minimum_detectable_change_is_detected_in_four_of_five_studies():
    rng = np.random.default_rng(3)
    estimates = equivalence.minimum_detectable_change(1.0) + rng.standard_normal(20_000)
    assert (estimates - 1.96 > 0).mean() == pytest.approx(0.8, abs=0.01)


def test_bootstrap_p_by_hand():
    assert equivalence.bootstrap_p(np.array([1, 2, 3, 4, -1, np.nan])) == pytest.approx(2 * 2 / 6)
    assert equivalence.bootstrap_p(np.full(9999, 0.1)) == pytest.approx(2 / 10_000)
    assert equivalence.bootstrap_p(np.zeros(5)) == 1
    assert np.isnan(equivalence.bootstrap_p(np.array([np.nan])))


def test_holm_by_hand_and_missing_ones_count():
    assert equivalence.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    assert equivalence.holm(np.array([0.02, np.nan])) == pytest.approx([0.04, np.nan], nan_ok=True)
    assert equivalence.holm(np.array([0.6, 0.9])).max() <= 1
    assert len(equivalence.holm(np.array([]))) == 0


def test_planned_table_keeps_every_hypothesis_in_its_order():
    changes = table_of(
        {
            ("dp1", "sex", "female - male"): (-0.08, 0.01),
            ("dp1", "age", ">= 80 - rest"): (0.001, 0.01),
            ("other", "sex", "female - male"): (0.5, 0.01),
        }
    )
    arms = arms_of(
        run_record("other", "dp", 1.0, unit="image"),
        ("dp1", "dp", 1.0),
        run_record("third", "dp", 1.0, recipe="theirs"),
    )
    planned = [
        ["age", ">= 80 - rest", 1],
        ["sex", "female - male", 1.0],
        ["sex", "female - male", 8.0],
        ["scanner", "B - A", 1.0],
    ]
    comparisons = planned_comparisons.planned_table(changes, arms, planned, 0.02)
    assert comparisons["verdict"].tolist() == [
        "equivalent",
        "worse by more than the margin, for the group",
        "budget not run",
        "no such contrast here",
    ]
    assert comparisons["arm_label"].tolist()[:2] == ["epsilon 1"] * 2
    only_images = arms_of(run_record("other", "dp", 1.0, unit="image"))
    # the only way there is
    assert (
        planned_comparisons.planned_table(changes, only_images, planned, 0.02).loc[1, "estimate"]
        == 0.5
    )
    assert comparisons.loc[1, "estimate"] == -0.08
    assert comparisons.loc[1, "p_holm"] == pytest.approx(4 * comparisons.loc[1, "p"])
    assert comparisons["p"].isna().tolist() == [False, False, True, True]
    assert planned_comparisons.planned_table(changes, arms, [], 0.02).empty


def test_only_scores_above_chance_predict():
    assert equivalence.predicts(0.51)
    assert not equivalence.predicts(0.5)
    assert not equivalence.predicts(float("nan"))


def test_in_words_says_whether_the_interval_excludes_zero():
    assert "CI includes 0" in equivalence.in_words(-0.02, -0.05, 0.01, "a gap")
    assert "the 95 % CI excludes 0" in equivalence.in_words(-0.02, -0.03, -0.01, "a gap")
    assert "not estimable" in equivalence.in_words(float("nan"), 0, 0, "a gap")


def test_planned_changes_go_on_with_the_resamples_of_the_table_of_metrics(monkeypatch):
    rng = np.random.default_rng(5)
    female, label = rng.random(300) < 0.5, (rng.random(300) < 0.4).astype(float)
    table = image_table(np.arange(300) // 2, sex=np.where(female, "female", "male"), a=label)
    predictions = {run: predictions_of(table, {"a": rng.random(300)}) for run in ("base", "dp")}
    runs_table = arms_of(("base", "baseline"), ("dp", "dp", 1.0))
    monkeypatch.setattr(planned_comparisons, "N_BOOTSTRAP", 60)

    def planned(replicates):
        return planned_comparisons.planned_changes(
            predictions,
            table,
            runs_table,
            "base",
            [["sex", "female - male", 1.0]],
            replicates,
            min_patients=5,
            age_edges=None,
            seed=3,
        )

    def drawn(attributes, n_bootstrap):
        return metric_table.replicate(
            predictions, table, attributes, n_bootstrap=n_bootstrap, min_patients=5, seed=3
        )

    contrasts = group_contrasts.macro(group_contrasts.contrasts(drawn(["sex"], 60)))
    changes = group_contrasts.changes(study_arms.pool(contrasts, runs_table), "base")
    key = ("dp", "auroc", "macro", "sex", "female - male")
    # gone on with; an attribute that the table has not; more than are needed
    for replicates in (drawn(["sex"], 25), drawn([], 25), drawn(["sex"], 60)):
        pd.testing.assert_series_equal(planned(replicates).loc[key], changes.loc[key])
