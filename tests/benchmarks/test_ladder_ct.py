"""Trials and arms of the CT benchmark, and its shares; the runs themselves are `make ladder-ct`."""

import dataclasses
import json

import ct
import ladder
import numpy as np
import pytest
import torch

from helpers.training import networks, recipe_rule, training_set


def changed(trial, rule):
    """Names of what differs between two settings."""
    pairs = dataclasses.asdict(trial).items(), dataclasses.asdict(rule).items()
    return {name for (name, one), (_, other) in zip(*pairs) if one != other}


def test_trials_of_the_head_change_one_thing_of_the_rule_at_a_time():
    trials = ct.trials()
    assert len(set(trials)) == len(trials)
    for epsilon in ct.EPSILONS:
        rule = ct.ours(epsilon, "head")
        chosen = recipe_rule.recipe_for(epsilon, ct.N_PATIENTS)
        assert (rule.head_steps, rule.head_rate, rule.head_clip) == tuple(
            chosen[name] for name in ("HEAD_STEPS", "HEAD_LEARNING_RATE", "HEAD_CLIP_NORM")
        )
        of_head = [trial for trial in trials if (trial.epsilon, trial.trained) == (epsilon, "head")]
        assert of_head[0] == rule and len(of_head) == 5
        assert all(len(changed(trial, rule)) == 1 for trial in of_head[1:])


def test_trials_of_the_pooled_head_change_one_thing_of_its_rule_or_of_smaller_batches():
    trials = ct.pooled_trials()
    for epsilon, rate in ct.POOLED_RATES.items():
        rule, *others = [trial for trial in trials if trial.epsilon == epsilon]
        assert (rule.batch, rule.epochs, rule.learning_rate) == (256, 8, rate)
        for trial in others:
            knobs = changed(trial, rule)
            assert (
                len(knobs) == 1
                or "batch" in knobs
                and (len(knobs) == 2 or trial.batch == ct.N_PATIENTS)
            )
    assert {"all", "last_block", "norms_and_head"} == {
        trial.trained for trial in trials if trial.epsilon == 1.06
    }
    assert {trial.start for trial in trials} == {"public", "radiographs", "none"}
    assert {trial.shifts for trial in trials} == {1}


def _three_patients():
    rng = np.random.default_rng(0)
    return training_set.TrainingSet(
        images=rng.integers(0, 256, (3, 16, 32, 32)).astype(np.uint8),
        rows=np.arange(3),
        labels=torch.tensor([[1.0], [0.0], [1.0]]),
        units=[np.array([n]) for n in range(3)],
        names=np.array(["a", "b", "c"]),
        unit="patient",
        most_images=1,
    )


def test_an_arm_trains_what_its_settings_say():
    data, model = _three_patients(), networks.resnet9(1, width=8, head="levels", dimensions=3)
    for trained, parts in (("head", 1), ("all_then_head", 2)):
        networks.train_only(model, recipe_rule.part_of({"TRAINED": trained}))
        settings = dataclasses.replace(
            ct.ours(8.0, trained), batch=3, epochs=2, head_steps=4, epsilon=1.0
        )
        arm = ct.private_arm(settings, data, model)
        assert len(arm.promise.parts) == parts
        last = arm.promise.parts[-1]
        assert (last.steps, last.clip_norm, last.expected_batch_size) == (
            4,
            settings.head_clip,
            3,
        )


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
        and seeds.pop(("zero-shot, pooled head", None)) == [0]
        and all(arm_seeds == [0, 1, 2] for arm_seeds in seeds.values())
        and len(seeds) == 9
    )


def test_stored_rows_of_version_03_are_arms_of_the_ladder_still():
    wanted = set(ct.arms_of_ladder()) | set(ct.trials())
    for name in ("ct_ladder", "ct_trials"):
        rows = json.loads((ct.RESULTS / f"{name}.json").read_text())["rows"]
        stored = {ladder.settings_of(row, ct.Settings) for row in rows}
        assert stored <= wanted and any("pooled" in settings.arm for settings in stored)


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
