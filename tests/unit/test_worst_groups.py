"""Simultaneous bounds of groups, the worst of them, and cells drawn towards their mean."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.analysis import study_arms, worst_groups
from helpers.analysis.metric_table import LEVELS


def means_of(estimates, errors, n=400, seed=0):
    """Influences of mean AUROCs of groups that share no patient."""
    rng = np.random.default_rng(seed)
    names = [f"g{k}" for k in range(len(estimates))]
    index = pd.MultiIndex.from_tuples(
        [("r", "auroc", "macro", "site", name) for name in names], names=LEVELS
    )
    influence = np.zeros((len(names), n * len(names)))
    for k, error in enumerate(errors):
        part = rng.standard_normal(n)
        influence[k, n * k : n * (k + 1)] = error * part / np.linalg.norm(part)
    table = pd.DataFrame(influence, index, range(1, influence.shape[1] + 1))
    table.insert(0, 0, estimates)
    return table.assign(n_smaller=100, n_averaged=2, hidden_error=0.0)


def test_bounds_hold_for_all_groups_at_once_and_the_worst_is_covered():
    rng, truth = np.random.default_rng(3), np.full(5, 0.85)
    at_once, of_worst, alone = [], [], []
    for seed in range(200):
        estimates = truth + 0.02 * rng.standard_normal(5)
        of_groups = worst_groups.bounds(means_of(estimates, [0.02] * 5, 100, seed))
        inside = (of_groups["low"] <= 0.85) & (of_groups["high"] >= 0.85)
        at_once.append(inside.all())
        row = worst_groups.worst(of_groups).iloc[0]
        of_worst.append(row["low"] <= 0.85 <= row["high"])
        alone.append(abs(estimates.min() - 0.85) < 1.96 * 0.02)
    assert 0.91 < np.mean(at_once) < 0.99
    assert np.mean(of_worst) > 0.94
    assert np.mean(alone) < 0.92  # the interval of the one that was picked


def test_the_worst_is_named_and_groups_that_are_no_groups_are_left_out():
    means = means_of([0.9, 0.7, 0.8, np.nan, 0.1, 0.2], [0.01] * 6)
    names = [("site", "A"), ("site", "B"), ("site", "C"), ("site", "D"), ("site", "not: A")]
    tuples = [("r", "auroc", "macro", *name) for name in (*names, ("all", "all"))]
    means.index = pd.MultiIndex.from_tuples(tuples, names=LEVELS)
    of_groups = worst_groups.bounds(means)
    assert of_groups["group"].tolist() == ["A", "B", "C"]
    row = worst_groups.worst(of_groups).iloc[0]
    assert (row["group"], row["n_groups"], row["estimate"]) == ("B", 3, 0.7)
    single = stats.t.ppf(1 - (1 - 0.95 ** (1 / 3)) / 2, 200) * 0.01
    assert of_groups.loc[1, "high"] - of_groups.loc[1, "low"] == pytest.approx(2 * single, rel=0.05)
    assert worst_groups.worst(worst_groups.bounds(means.iloc[3:])).empty


def test_cells_are_drawn_to_their_mean_by_how_little_they_vary_beyond_chance():
    alike = worst_groups.shrunk(np.array([0.84, 0.85, 0.86]), np.full(3, 0.05))
    assert alike == pytest.approx(np.full(3, 0.85))
    apart = worst_groups.shrunk(np.array([0.6, 0.8, 0.9]), np.array([0.01, 0.01, 0.1]))
    assert apart[:2] == pytest.approx([0.6, 0.8], abs=0.005)
    assert apart[2] < 0.87  # the uncertain one most
    rng, errors = np.random.default_rng(0), np.array([0.01, 0.03, 0.05, 0.05, 0.08, 0.08])
    raw, better = [], []
    for _ in range(300):
        truth = 0.85 + 0.02 * rng.standard_normal(6)
        seen = truth + errors * rng.standard_normal(6)
        raw.append(((seen - truth) ** 2).mean())
        better.append(((worst_groups.shrunk(seen, errors) - truth) ** 2).mean())
    assert np.mean(better) < 0.5 * np.mean(raw)


def test_a_group_s_change_against_no_privacy_is_paired_and_missing_without_it():
    base, private = means_of([0.9, 0.8], [0.02, 0.03]), means_of([0.85, 0.5], [0.02, 0.03])
    private.iloc[1, 1:401] += base.iloc[1, 401:801].to_numpy() / 3  # of patients of the other group
    base, private = (
        means.rename({"r": run}).assign(**dict(zip(study_arms.BETWEEN_SEEDS, (0.0, 0.0, 1.0))))
        for means, run in ((base, "base"), (private, "dp"))
    )
    runs = pd.concat([base, private])
    arms = pd.DataFrame({"run": ["base", "dp"], "arm": ["baseline", "dp"], "arm_label": ["a", "b"]})
    table = worst_groups.cells(runs, arms).set_index(["run", "group"])
    assert table.loc["base", "change"].isna().all()
    assert table.loc["dp", "change"].tolist() == pytest.approx([-0.05, -0.3])
    # the influences of group 0 cancel: paired, its change has no spread
    same, other = (table.loc[("dp", group)] for group in ("g0", "g1"))
    assert same.change_high - same.change_low == pytest.approx(0)
    assert other.change_high - other.change_low == pytest.approx(2 * 1.96 * 0.01, rel=0.05)
    without = worst_groups.cells(private, arms.iloc[1:])
    changed = [name for name in table if "change" in name]
    assert len(changed) == 6 and len(without) == 2 and without[changed].isna().all().all()
    # those not in group 0 are group 1
    rests = runs.rename({"g0": "not: g1", "g1": "not: g0"}, level="group")
    table = worst_groups.cells(pd.concat([runs, rests]), arms).set_index(["run", "group"]).loc["dp"]
    of_rest, of_group = (
        table[[f"{name}{end}" for end in ("", "_low", "_high")]].to_numpy()
        for name in ("rest_change", "change")
    )
    assert len(table) == 2 and of_rest == pytest.approx(of_group[::-1])
