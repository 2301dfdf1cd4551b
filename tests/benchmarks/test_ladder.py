"""The ladder's arms, trials and intervals; the runs themselves are `make ladder`."""

import collections
import dataclasses
import json

import benchmark_figures
import draw
import ladder
import ladder_tables
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from helpers.core import errors
from helpers.training import recipe_rule


def test_every_tuned_arm_has_equally_many_different_trials_at_each_budget():
    trials = ladder.trials()
    assert len(set(trials)) == len(trials)
    numbers = collections.Counter((trial.arm, trial.epsilon) for trial in trials)
    # which takes the rule
    tuned = {number for (arm, _), number in numbers.items() if arm != "ours, image"}
    assert tuned == {5} and len(numbers) == 1 + 4 * len(ladder.EPSILONS)


def test_ours_follows_the_rule_and_trials_change_one_knob_of_it():
    for epsilon in ladder.EPSILONS:
        settings, rule = (
            ladder.ours("ours, patient", epsilon),
            recipe_rule.recipe_for(epsilon, ladder.N_PATIENTS),
        )
        assert [settings.batch, settings.epochs, settings.learning_rate] == [
            rule[name] for name in ("EXPECTED_BATCH_SIZE", "EPOCHS", "LEARNING_RATE")
        ]
    rows = [
        dataclasses.asdict(trial) | {"auroc": 0.8 + 0.001 * number}
        for number, trial in enumerate(ladder.trials())
    ]
    first = ladder_tables.sensitivity(rows).sort_values(["epsilon", "change"], ignore_index=True)
    table = ladder_tables.sensitivity(rows[::-1]).sort_values(
        ["epsilon", "change"], ignore_index=True
    )  # they finish in any order
    pd.testing.assert_frame_equal(first, table)
    assert set(table["change"]) == {
        "learning rate x 0.5",
        "learning rate x 2",
        "expected batch x 0.5",
        "clip norm x 3",
    }
    assert len(table) == 4 * len(ladder.EPSILONS) and table["difference"].min() == pytest.approx(
        0.001
    )
    ax = benchmark_figures.plot_sensitivity(table)
    assert sum(len(line.get_xdata()) for line in ax.lines) == len(table) + 2


def test_rows_of_another_generator_are_run_again(tmp_path):
    out, about = (
        tmp_path / "ladder.json",
        {
            "generator_version": 2,
            "n_patients": 1000,
            "delta": 5e-5,
        },
    )
    assert ladder.rows_of(out, about) == []
    out.write_text(json.dumps(about | {"rows": [{"arm": "ceiling"}]}))
    assert ladder.rows_of(out, about) == [{"arm": "ceiling"}]
    for name in about:
        assert ladder.rows_of(out, about | {name: 3}) == []
    assert len(ladder.rows_of(ladder.RESULTS / "ladder.json", ladder.SAME)) > 50


def test_the_ladders_table_names_what_each_run_took():
    stored = {
        "rows": [
            {"arm": arm, "epsilon": epsilon, "train_seconds": seconds}
            for arm, epsilon, seconds in (
                ("ceiling", None, 5.0),
                ("ours", 1.06, 7.0),
                ("ours", 1.06, 9.0),
                ("zero-shot", None, None),
            )
        ],
        "levels": [
            {"arm": "ceiling", "epsilon": None, "seeds": [0.9], "auroc": [0.9, 0.8, 1.0]},
            {
                "arm": "ours",
                "epsilon": 1.06,
                "seeds": [0.7, 0.8],
                "auroc": [0.75, 0.7, 0.8],
                "share": [0.5, 0.4, 0.6],
            },
            {
                "arm": "ours",
                "epsilon": 8.0,
                "seeds": [0.7],
                "auroc": [0.75, 0.7, 0.8],
                "share": [0.5, -9.0, 9.0],
            },
        ],
    }
    table = ladder_tables.ladder_table(stored)
    assert table["seconds"].tolist()[:2] == [5.0, 8.0] and table["n_seeds"].tolist() == [1, 2, 1]
    assert (
        table["share"].tolist() == ["", "0.500 [0.400, 0.600]", "not resolved"]
        and table["auroc"][1] == "0.750 [0.700, 0.800]"
    )


def test_the_papers_recipe_is_as_published():
    published = ladder.paper("paper, as published", 1.06)
    assert (
        published.unit,
        published.batch,
        published.clip_norm,
        published.learning_rate,
        published.schedule,
        published.pos_weight,
        published.head,
        published.start,
    ) == ("image", 128, 1.5, 5e-4, "constant", "private", "pooled", "plain")
    assert (
        ladder.paper("paper, our start", 1.06).start == "strong"
        and ladder.paper("paper, our start", 1.06).head == "sided"
    )


def test_arms_take_the_best_of_all_their_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "RESULTS", tmp_path)
    with pytest.raises(errors.InputError, match="--tune first"):
        ladder.best_trial("ceiling", None)
    ceiling_trials = [trial for trial in ladder.trials() if trial.arm == "ceiling"]
    rows = [
        dataclasses.asdict(trial) | {"auroc": 0.8 + (trial == ceiling_trials[3])}
        for trial in ceiling_trials
    ]
    (tmp_path / "ladder_trials.json").write_text(json.dumps(ladder.SAME | {"rows": rows}))
    assert ladder.best_trial("ceiling", None) == {
        "learning_rate": ceiling_trials[3].learning_rate,
        "epochs": ceiling_trials[3].epochs,
    }
    (tmp_path / "ladder_trials.json").write_text(json.dumps(ladder.SAME | {"rows": rows[:-1]}))
    with pytest.raises(errors.InputError, match="Expected 5 trials of 'ceiling'.*got 4"):
        ladder.best_trial("ceiling", None)


def replicates(estimates, patients):
    """(seeds, 1 + replicates): the same resamples move all seeds alike."""
    return np.array(estimates)[:, None] + np.concatenate([[0], patients])


def test_intervals_hold_patients_and_the_seeds_of_both_arms():
    rng = np.random.default_rng(0)
    common, arm_noise = 0.01 * rng.standard_normal(4000), 0.004 * rng.standard_normal(4000)
    entries = {
        (entry["arm"], entry["epsilon"]): entry
        for entry in ladder.levels(
            {
                ("zero-shot", None): replicates([0.70], common),
                ("ceiling", None): replicates([0.89, 0.90, 0.91], common),
                ("ours, patient", 1.06): replicates([0.79, 0.80, 0.81], common + arm_noise),
                ("paper, tuned", 1.06): replicates([0.77, 0.78, 0.79], common),
            }
        )
    }
    ours, of_seeds = entries["ours, patient", 1.06], 0.01**2 / 3

    def half(name):
        estimate, low, high = ours[name]
        return estimate, (high - low) / 2 / 1.96

    assert half("auroc") == (
        pytest.approx(0.80),
        pytest.approx(np.sqrt(0.01**2 + 0.004**2 + of_seeds), rel=0.03),
    )
    assert half("minus_zero_shot") == (
        pytest.approx(0.10),
        pytest.approx(np.sqrt(0.004**2 + of_seeds), rel=0.03),
    )
    assert half("minus paper, tuned") == (
        pytest.approx(0.02),
        pytest.approx(np.sqrt(0.004**2 + 2 * of_seeds), rel=0.03),
    )
    assert half("minus_ceiling")[0] == pytest.approx(-0.10)
    assert half("share") == (
        pytest.approx(0.5),
        pytest.approx(np.sqrt((0.004**2 + of_seeds * (1 + 0.25)) / 0.2**2), rel=0.03),
    )
    assert entries["zero-shot", None]["share"][0] == 0 and "share" not in entries["ceiling", None]


def test_replicates_resample_whole_patients_and_begin_with_the_estimate():
    rng = np.random.default_rng(0)
    one = pd.DataFrame(
        {
            "patient_id": np.repeat([f"p{n}" for n in range(150)], 4),
            "label": np.repeat(rng.random(150) < 0.4, 4).astype(float),
            "score": np.repeat(rng.random(150), 4),
        }
    )
    predictions = pd.concat(
        [one.assign(finding="a"), one.assign(finding="b", score=1 - one["score"])]
    )
    macro_aurocs = ladder.replicates_of(predictions)
    # a and b mirror each other in each resample
    assert macro_aurocs.shape == (1 + ladder.N_BOOTSTRAP,) and macro_aurocs == pytest.approx(0.5)
    alone = ladder.replicates_of(one.assign(finding="a"))
    assert alone[0] == pytest.approx(roc_auc_score(one["label"], one["score"]))
    positives = one.groupby("patient_id")["label"].first().sum()
    # of patients; of images it would be half
    hanley = np.sqrt(1 / 12 * (1 / positives + 1 / (150 - positives)))
    assert alone[1:].std() == pytest.approx(hanley, rel=0.15)


def test_plot_ladder_draws_levels_seeds_and_bounds():
    table = pd.DataFrame(
        {
            "arm": ["zero-shot", "ceiling", "ours, patient", "ours, patient"],
            "epsilon": [np.nan, np.nan, 1.06, 7.89],
            "estimate": [0.7, 0.9, 0.8, 0.85],
            "low": [0.69, 0.89, 0.79, 0.84],
            "high": [0.71, 0.91, 0.81, 0.86],
            "seeds": [[0.7], [0.9], [0.79, 0.81], [0.85]],
        }
    )
    ax = draw.plot_ladder(table)
    assert ax.containers[0][0].get_ydata().tolist() == [0.8, 0.85]
    assert {0.79, 0.81} <= {float(value) for line in ax.lines for value in line.get_ydata()}
