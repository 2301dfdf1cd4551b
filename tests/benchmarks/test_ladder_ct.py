"""Trials and arms of the CT benchmark, and its shares; the runs themselves are `make ladder-ct`."""

import json

import ct
import ladder
import numpy as np
import pytest

from helpers.training import recipe_rule


def test_trials_differ_and_change_one_thing_of_the_rule_or_of_smaller_batches_at_a_time():
    trials = ct.trials()
    assert len(set(trials)) == len(trials)
    for epsilon in ct.EPSILONS:
        rule = recipe_rule.recipe_for(epsilon, ct.N_PATIENTS)
        budget_trials = [trial for trial in trials if trial.epsilon == epsilon]
        assert (
            budget_trials[0].batch,
            budget_trials[0].epochs,
            budget_trials[0].learning_rate,
        ) == tuple(rule[name] for name in ("EXPECTED_BATCH_SIZE", "EPOCHS", "LEARNING_RATE"))
        knobs = (
            "trained",
            "learning_rate",
            "views",
            "batch",
            "epochs",
            "start",
            "clip_norm",
            "averaging",
        )
        for trial in budget_trials[1:]:
            changed = {
                knob for knob in knobs if getattr(trial, knob) != getattr(budget_trials[0], knob)
            }
            assert (
                len(changed) == 1
                or "batch" in changed
                and (len(changed) == 2 or trial.batch == ct.N_PATIENTS)
            )
    assert {"all", "last_block", "norms_and_head", "head"} == {
        trial.trained for trial in trials if trial.epsilon == 1.06
    }
    assert {trial.start for trial in trials} == {"public", "radiographs", "none"}


def test_stored_trials_without_noise_had_none():
    rows = json.loads((ct.RESULTS / "ct_trials.json").read_text())["rows"]
    of_budget = {row["epsilon"]: row["noise_multiplier"] for row in rows if row["epsilon"]}
    assert of_budget[ladder.NO_NOISE] == 0 and of_budget[1.06] > of_budget[8.0] > 0.5


def test_the_ladder_has_three_seeds_of_each_arm_but_the_public_model():
    seeds = {}
    for run in ct.arms_of_ladder():
        seeds.setdefault((run.arm, run.epsilon), []).append(run.seed)
    assert (
        seeds.pop(("zero-shot", None)) == [0]
        and all(arm_seeds == [0, 1, 2] for arm_seeds in seeds.values())
        and len(seeds) == 4
    )


def test_shares_are_corrected_for_chance_and_hold_patients_and_seeds():
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal(1001)
    noise[0] = 0
    by_arm = {
        ("zero-shot", None): np.array([0.8 + noise]),
        ("ceiling", None): np.array([0.9 + noise, 0.9 + noise]),
        ("ours, patient", 1.06): np.array([0.84 + noise, 0.86 + noise]),
    }
    entries = {entry["arm"]: entry for entry in ladder.levels(by_arm)}
    share, low, high = entries["ours, patient"]["chance_corrected"]
    # more than patients alone
    assert share == pytest.approx(0.35 / 0.4) and high - low > 2 * 1.96 * 0.0035 / 0.4
    assert entries["zero-shot"]["chance_corrected"][0] == pytest.approx(0.75)
