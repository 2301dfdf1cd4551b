"""The ladder's arms, trials and intervals; the runs themselves are `make ladder`."""

import collections
import json
import sys

import numpy as np
import pandas as pd
import pytest

from helpers import checks, recipes, runs

sys.path.insert(0, str(runs.repository_root() / "benchmarks"))
import draw
import ladder


def test_every_tuned_arm_has_equally_many_different_trials_at_each_budget():
    trials = ladder.trials()
    assert len(set(trials)) == len(trials)
    numbers = collections.Counter((trial.arm, trial.epsilon) for trial in trials)
    assert len(set(numbers.values())) == 1 and len(numbers) == 1 + 4 * len(ladder.EPSILONS)


def test_ours_follows_the_rule_and_trials_change_one_knob_of_it():
    for epsilon in ladder.EPSILONS:
        settings, rule = ladder.ours("ours, patient", epsilon), recipes.recipe_for(epsilon, ladder.N_PATIENTS)
        assert [settings.batch, settings.epochs, settings.learning_rate] == [
            rule[name] for name in ("EXPECTED_BATCH_SIZE", "EPOCHS", "LEARNING_RATE")]
    rows = [vars(trial) | {"auroc": 0.8 + 0.001 * number} for number, trial in enumerate(ladder.trials())]
    table = draw.sensitivity(rows)
    assert set(table["change"]) == {"learning rate x 0.5", "learning rate x 2", "expected batch x 2", "epochs x 2", "clip norm x 3"}
    assert len(table) == 5 * len(ladder.EPSILONS) and table.loc[0, "difference"] == pytest.approx(0.001)
    ax = draw.plot_sensitivity(table)
    assert sum(len(line.get_xdata()) for line in ax.lines) == len(table) + 2


def test_the_papers_recipe_is_as_published():
    published = ladder.paper("paper, as published", 1.06)
    assert (published.unit, published.batch, published.clip_norm, published.learning_rate, published.schedule, published.pos_weight,
            published.head, published.start) == ("image", 128, 1.5, 5e-4, "constant", "private", "pooled", "plain")
    assert ladder.paper("paper, our start", 1.06).start == "strong" and ladder.paper("paper, our start", 1.06).head == "sided"


def test_arms_take_the_best_of_their_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "RESULTS", tmp_path)
    with pytest.raises(checks.InputError, match="--tune first"):
        ladder.best_trial("ceiling", None)
    rows = [dict(arm="ceiling", epsilon=None, learning_rate=rate, epochs=6, auroc=auroc) for rate, auroc in ((1e-3, 0.8), (2e-3, 0.9))]
    (tmp_path / "ladder_trials.json").write_text(json.dumps({"rows": rows}))
    assert ladder.best_trial("ceiling", None) == {"learning_rate": 2e-3, "epochs": 6}
    with pytest.raises(checks.InputError, match="no|none"):
        ladder.best_trial("paper, tuned", 1.06)


def test_the_interval_holds_patients_and_seeds():
    rng = np.random.default_rng(0)
    patients = 0.01 * rng.standard_normal(4000)  # the same resamples move all seeds alike
    seeds = np.array([0.79, 0.80, 0.81])[:, None] + np.concatenate([[0], patients])
    estimate, low, high = ladder.interval(seeds)
    assert estimate == pytest.approx(0.80)
    assert (high - low) / 2 / 1.96 == pytest.approx(np.sqrt(0.01**2 + 0.01**2 / 3), rel=0.03)
    assert ladder.interval(seeds[:1])[2] - 0.79 == pytest.approx(1.96 * 0.01, rel=0.03)


def test_plot_ladder_draws_levels_seeds_and_bounds():
    table = pd.DataFrame({"arm": ["zero-shot", "ceiling", "ours, patient", "ours, patient"], "epsilon": [np.nan, np.nan, 1.06, 7.89],
                          "estimate": [0.7, 0.9, 0.8, 0.85], "low": [0.69, 0.89, 0.79, 0.84], "high": [0.71, 0.91, 0.81, 0.86],
                          "seeds": [[0.7], [0.9], [0.79, 0.81], [0.85]]})
    ax = draw.plot_ladder(table)
    assert ax.containers[0][0].get_ydata().tolist() == [0.8, 0.85]
    assert {0.79, 0.81} <= {float(value) for line in ax.lines for value in line.get_ydata()}
