"""Trials and arms of the CT benchmark, and its shares; the runs themselves are `make ladder-ct`."""

import dataclasses
import json

import ct
import ladder_arms
import ladder_levels
import ladder_runs
import numpy as np
import pytest
import torch

from helpers.training import networks, recipe_rule, training_set


def rows(name):
    return json.loads((ct.RESULTS / f"{name}.json").read_text())["rows"]


def changed(trial, rule):
    """Names of what differs between two settings."""
    pairs = dataclasses.asdict(trial).items(), dataclasses.asdict(rule).items()
    return {name for (name, one), (_, other) in zip(*pairs) if one != other}


def test_trials_change_one_thing_of_the_rule_at_a_time():
    trials = ct.trials()
    assert len(set(trials)) == len(trials)
    for epsilon in ct.EPSILONS:
        chosen = recipe_rule.recipe_for(epsilon, ct.N_PATIENTS)
        for trained, names, n_trials in (
            ("all", {"batch": "EXPECTED_BATCH_SIZE", "learning_rate": "LEARNING_RATE"}, 4),
            ("head", {"head_steps": "HEAD_STEPS", "head_clip_norm": "HEAD_CLIP_NORM"}, 3),
        ):
            found = [
                t
                for t in trials
                if (t.arm, t.epsilon, t.trained) == ("ours, patient", epsilon, trained)
            ]
            assert all(getattr(found[0], name) == chosen[key] for name, key in names.items())
            assert len(found) == n_trials
            assert all(len(changed(trial, found[0])) == 1 for trial in found[1:])


def test_an_arm_trains_what_its_settings_say():
    rng = np.random.default_rng(0)
    data = training_set.TrainingSet(
        images=rng.integers(0, 256, (3, 16, 32, 32)).astype(np.uint8),
        rows=np.arange(3),
        labels=torch.tensor([[1.0], [0.0], [1.0]]),
        units=[np.array([n]) for n in range(3)],
        names=np.array(["a", "b", "c"]),
        unit="patient",
        most_images=1,
    )
    for trained, steps in (("head", [4]), ("all_then_head", [2, 4])):
        model = networks.resnet9(1, width=8, head="levels", dimensions=3)
        networks.train_only(model, recipe_rule.part_of({"TRAINED": trained}))
        settings = dataclasses.replace(
            ct.ours("ours, patient", 1.0, TRAINED=trained), batch=3, epochs=2, head_steps=4
        )
        parts = ct.private_arm(settings, model, data).promise.parts
        assert [part.steps for part in parts] == steps
        assert parts[-1].clip_norm == settings.head_clip_norm
        assert parts[-1].expected_batch_size == 3  # every patient in each step of the head


def test_stored_trials_without_noise_had_none():
    of_budget = {
        row["epsilon"]: row["noise_multiplier"] for row in rows("ct_trials") if row["epsilon"]
    }
    assert of_budget[ladder_arms.NO_NOISE] == 0 and of_budget[1.06] > of_budget[8.0] > 0.5


@pytest.mark.parametrize("name", ["ct_ladder", "ct_trials"])
def test_rows_of_version_03_had_its_network_and_are_kept(name):
    earlier = [row for row in rows(name) if row["arm"].startswith(ladder_levels.EARLIER)]
    assert len(earlier) == {"ct_ladder": 13, "ct_trials": 34}[name]
    assert {(row["head"], row["shifts"]) for row in earlier} == {("pooled", 1)}
    results = ladder_runs.Results(
        ct.arms_of_ladder(),
        ct.RESULTS / f"{name}.json",
        {"generator_version": 2, "n_patients": ct.N_PATIENTS, "delta": ct.DELTA},
        name == "ct_trials",
    )
    assert {ladder_runs.settings_of(row, ct.Settings) for row in earlier} <= set(results.kept)


def test_the_ladder_has_three_seeds_of_each_arm_but_the_public_model():
    seeds = {}
    for run in ct.arms_of_ladder():
        assert (run.head, run.shifts) == ("levels", 5)
        if run.arm == "ours, patient":
            assert (run.trained, run.epochs) == (ct.TRAINED, ct.EPOCHS)
        seeds.setdefault((run.arm, run.epsilon), []).append(run.seed)
    assert (
        seeds.pop(("zero-shot", None)) == [0]
        and all(arm_seeds == [0, 1, 2] for arm_seeds in seeds.values())
        and len(seeds) == 6
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
    entries = {entry["arm"]: entry for entry in ladder_levels.levels(by_arm)}
    share, low, high = entries["ours, patient"]["chance_corrected"]
    # more than patients alone
    assert share == pytest.approx(0.35 / 0.4) and high - low > 2 * 1.96 * 0.0035 / 0.4
    assert entries["zero-shot"]["chance_corrected"][0] == pytest.approx(0.75)
