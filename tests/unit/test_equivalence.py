"""Verdicts, planned comparisons and Holm: by hand, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, run_record
from scipy.stats import norm

from helpers.analysis import equivalence, planned_comparisons
from helpers.analysis.auroc_intervals import Spread
from helpers.analysis.metric_table import LEVELS


def table_of(rows, n=4000):
    """Influences of gap_change of the given (run, attribute, group).

    (estimate, standard error), of n patients.
    """
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_tuples(
        [(run, "auroc", "macro", attribute, group) for run, attribute, group in rows], names=LEVELS
    )
    draws = rng.standard_normal((len(rows), n))
    draws *= np.array([[error] for _, error in rows.values()]) / np.linalg.norm(
        draws, axis=1, keepdims=True
    )
    table = pd.DataFrame(draws, index, range(1, n + 1))
    table.insert(0, 0, [estimate for estimate, _ in rows.values()])
    table = table.assign(n_smaller=100.0, n_averaged=2.0, hidden_error=0.0)
    return table.assign(seed_variance=0.0, seed_doubt=0.0, n_seeds=1.0)


@pytest.mark.parametrize(
    "limits_95, limits_90, expected",
    [
        ((-0.09, -0.03), (-0.08, -0.04), "worse by more than the margin, for the group"),
        ((0.03, 0.09), (0.04, 0.08), "worse by more than the margin, for the rest"),
        ((-0.021, 0.015), (-0.019, 0.012), "equivalent"),  # the 90 % interval decides
        ((-0.03, -0.001), (-0.028, -0.003), "differs from 0, not beyond the margin"),
        ((-0.018, -0.001), (-0.016, -0.003), "equivalent"),  # and differs from 0
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
    assert changes["smallest_margin"].to_numpy() == pytest.approx(
        np.array([0.06, 0, 0.02]) + 1.645 * np.array([0.01, 0.005, 0.02]), rel=0.01
    )
    assert changes["p"].tolist()[1:] == pytest.approx([1, 2 * norm.sf(1)], rel=0.01)
    assert equivalence.minimum_detectable_change(Spread(0.01, np.inf), 4) == pytest.approx(
        0.01 * (norm.ppf(1 - 0.05 / 8) + norm.ppf(0.8))
    )
    assert equivalence.of_changes(table_of({("dp", "sex", "f - m"): (0, 1)}).iloc[:0], 0.02).empty


def test_patients_needed_worked_by_hand_and_at_that_number_the_margin_is_told():
    spread = Spread(np.array([0.01, np.nan]), np.array([np.inf, np.nan]))
    needed = equivalence.patients_needed(spread, 900, 0.02)
    # two one-sided tests ask for more than detection: 1.645 + 1.282 against 1.960 + 0.842
    assert needed[0] == pytest.approx(900 * (0.01 * (1.6449 + 1.2816) / 0.02) ** 2, rel=1e-3)
    assert np.isnan(needed[1])
    # of six planned comparisons detection does: 2.638 + 0.842
    planned = equivalence.patients_needed(spread, 900, 0.02, 6)
    assert planned[0] == pytest.approx(900 * (0.01 * (2.6383 + 0.8416) / 0.02) ** 2, rel=1e-3)
    rng = np.random.default_rng(0)
    error = 0.01 * np.sqrt(900 / needed[0])
    of_none = error * rng.standard_normal(40_000)
    of_margin = 0.02 + error * rng.standard_normal(40_000)
    assert np.mean(np.abs(of_none) + 1.6449 * error < 0.02) == pytest.approx(0.8, abs=0.01)
    assert np.mean(np.abs(of_margin) > 1.96 * error) > 0.8
    row = equivalence.of_changes(table_of({("dp", "sex", "female - male"): (0.0, 0.01)}), 0.02)
    assert row.loc[0, "margin"] == 0.02
    assert row.loc[0, "patients_needed"] == pytest.approx(needed[0] * 4000 / 900, rel=0.05)


def test_minimum_detectable_change_is_detected_in_four_of_five_studies():
    rng = np.random.default_rng(3)
    estimates = equivalence.minimum_detectable_change(Spread(1.0, np.inf)) + rng.standard_normal(
        20_000
    )
    assert (estimates - 1.96 > 0).mean() == pytest.approx(0.8, abs=0.01)


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
    # p 0.021 alone, 0.085 after Holm for four
    weak = table_of({("dp1", "sex", "female - male"): (-0.046, 0.02)})
    assert equivalence.of_changes(weak, 0.02).loc[0, "verdict"].startswith("differs from 0")
    adjusted = planned_comparisons.planned_table(weak, arms, planned, 0.02).loc[1]
    assert adjusted["p_holm"] > 0.05 and adjusted["verdict"] == "inconclusive"
    # 2.2 errors beyond the margin: worse alone, and different from 0 among four
    beyond = table_of({("dp1", "sex", "female - male"): (-0.02 - 0.022, 0.01)})
    assert equivalence.of_changes(beyond, 0.02).loc[0, "verdict"].startswith("worse")
    adjusted = planned_comparisons.planned_table(beyond, arms, planned, 0.02).loc[1]
    assert adjusted["verdict"] == "differs from 0, not beyond the margin"
    assert "p_margin" not in adjusted
    assert planned_comparisons.planned_table(changes, arms, [], 0.02).empty


def test_only_scores_above_chance_predict():
    assert equivalence.predicts(0.51)
    assert not equivalence.predicts(0.5)
    assert not equivalence.predicts(float("nan"))


def test_in_words_says_whether_the_interval_excludes_zero():
    assert "CI includes 0" in equivalence.in_words(-0.02, -0.05, 0.01, "a gap")
    assert "the 95 % CI excludes 0" in equivalence.in_words(-0.02, -0.03, -0.01, "a gap")
    assert "not estimable" in equivalence.in_words(float("nan"), 0, 0, "a gap")
