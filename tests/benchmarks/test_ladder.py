"""Arms, trials and runs of the ladder; the runs themselves are `make ladder`."""

import collections
import dataclasses
import json

import ladder
import ladder_arms
import ladder_plan
import numpy as np
import pytest
import torch
from ladder_arms import EPSILONS, Settings

from helpers.core import errors
from helpers.data import build_cohort
from helpers.training import networks, recipe_rule, training_set, weight_files


def test_every_tuned_arm_has_equally_many_different_trials_at_each_budget():
    trials = ladder_plan.trials()
    assert len(set(trials)) == len(trials)
    numbers = collections.Counter(
        (trial.arm, trial.epsilon) for trial in trials if "explored" not in trial.arm
    )
    for arm in ("ours, patient", "paper, our start"):
        assert [numbers.pop((arm, epsilon)) for epsilon in EPSILONS] == [5, 5, 5]
    assert numbers.pop(("ceiling", None)) == 5 and numbers.pop(("zero-shot", None)) == 1
    for arm, number in (("ours, random weights", 2), ("ours, image", 1)):  # the latter: its rule
        assert [numbers.pop((arm, epsilon)) for epsilon in EPSILONS] == [number] * 3
    assert numbers == {("ceiling, random weights", None): 2}


def test_what_was_explored_are_longer_schedules_and_other_public_models():
    explored = {trial.arm: trial for trial in ladder_plan.explored() if trial.epsilon}
    longer = [trial for trial in explored.values() if trial.start == ladder_arms.START]
    assert sorted((trial.epochs, trial.batch, trial.epsilon) for trial in longer) == [
        (6, 512, 7.89),
        (16, 1024, 7.89),
        (16, 2048, 7.89),
    ]
    starts = {trial.start for trial in explored.values()} - {ladder_arms.START}
    for name in ("20_passes_inverted", ladder_arms.INVERTED_START):
        assert ladder_arms.STARTS[name]["inverted"] == 0.25
    assert starts == set(ladder_arms.STARTS) - {ladder_arms.START}


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("arm", ["ours, patient", "ours, image", "ours, random weights"])
def test_ours_follows_the_rule(arm, epsilon):
    start = "none" if arm == "ours, random weights" else ladder_arms.START
    n_units = ladder_arms.N_IMAGES if arm == "ours, image" else ladder_arms.N_PATIENTS
    settings = ladder_arms.ours(arm, epsilon, start=start)
    rule, _ = recipe_rule.settle(epsilon, n_units, "unknown" if start == "none" else "alike")
    assert settings.unit == ("image" if arm == "ours, image" else "patient")
    assert {key: value for key, value in settings.recipe.items() if value} == rule


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_trials_of_ours_change_one_setting_of_the_rule(epsilon):
    rule = ladder_arms.ours("ours, patient", epsilon)
    trials = [
        trial
        for trial in ladder_plan.trials()
        if (trial.arm, trial.epsilon) == ("ours, patient", epsilon)
    ]
    assert trials[0] == rule
    for trial in trials[1:]:
        one, other = dataclasses.asdict(rule), dataclasses.asdict(trial)
        assert sum(one[name] != other[name] for name in one) == 1


def test_the_papers_recipe_is_as_published_from_our_start():
    published = ladder_arms.paper("paper, as published", 1.06)
    assert (
        published.unit,
        published.batch,
        published.clip_norm,
        published.learning_rate,
        published.epochs,
        published.schedule,
        published.averaging,
        published.pos_weight,
        published.trained,
    ) == ("image", 128, 1.5, 5e-4, 4, "constant", 0.0, "private", "all")
    tried = [trial for trial in ladder_plan.trials() if trial.arm == "paper, our start"]
    for epsilon in EPSILONS:  # its rate and epochs are among the trials
        as_tried = ladder_arms.paper("paper, our start", epsilon)
        assert as_tried in tried


def with_all_trials(tmp_path, monkeypatch, best=3):
    """Store planted trials, of which this one of each arm and budget is the best."""
    monkeypatch.setattr(ladder_plan, "RESULTS", tmp_path)
    rows, seen = [], collections.Counter()
    for trial in ladder_plan.trials():
        number = seen[trial.arm, trial.epsilon]
        seen[trial.arm, trial.epsilon] += 1
        rows.append(dataclasses.asdict(trial) | {"auroc": 0.8 - 0.01 * abs(number - best)})
    (tmp_path / "ladder_trials.json").write_text(json.dumps(ladder_plan.SAME | {"rows": rows}))
    return rows


def test_arms_take_the_best_of_all_their_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder_plan, "RESULTS", tmp_path)
    with pytest.raises(errors.InputError, match="--tune first"):
        ladder_plan.best_trial("ceiling")
    rows = with_all_trials(tmp_path, monkeypatch)
    of_ceiling = [row for row in rows if row["arm"] == "ceiling"]
    assert ladder_plan.best_trial("ceiling") == {
        "learning_rate": of_ceiling[3]["learning_rate"],
        "epochs": of_ceiling[3]["epochs"],
    }
    rows.remove(of_ceiling[4])
    (tmp_path / "ladder_trials.json").write_text(json.dumps(ladder_plan.SAME | {"rows": rows}))
    with pytest.raises(errors.InputError, match="Expected 5 trials of 'ceiling'.*got 4"):
        ladder_plan.best_trial("ceiling")


def test_the_ladder_has_three_seeds_of_each_arm_from_one_start_and_one_of_pieces(
    tmp_path, monkeypatch
):
    with_all_trials(tmp_path, monkeypatch, best=1)
    runs = ladder_plan.ladder()
    assert len(set(runs)) == len(runs) and {run.arm for run in runs} == set(ladder_arms.ABOUT)
    assert {(run.head, run.shifts) for run in runs} == {("halves", 5)}
    seeds = collections.defaultdict(list)
    for run in runs:
        seeds[run.arm, run.epsilon].append(run.seed)
        inverted = run.arm.endswith(ladder_arms.INVERTED)
        other = "none" if "random weights" in run.arm else None
        assert run.start == (ladder_arms.INVERTED_START if inverted else other or ladder_arms.START)
    untouched = {"zero-shot", "zero-shot" + ladder_arms.INVERTED}
    once = {*untouched, *ladder_arms.OTHER_PARTS, "same recipe", "same recipe, clipped"}
    for (arm, _), numbers in seeds.items():
        assert numbers == ([0] if arm in once else [0, 1, 2])
    random = next(run for run in runs if run.arm == "ours, random weights")
    rule = ladder_arms.ours(random.arm, random.epsilon, start="none")
    assert random.learning_rate == 2 * rule.learning_rate


def test_arms_without_all_their_trials_are_left_out_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ladder_plan, "RESULTS", tmp_path)
    arms = {run.arm for run in ladder_plan.ladder()}
    tuned = {"ceiling", "paper, our start", "ours, random weights", "ceiling, random weights"}
    tuned.add("paper, our start" + ladder_arms.INVERTED)
    assert arms == set(ladder_arms.ABOUT) - tuned
    assert capsys.readouterr().out.count("Left out") == 1 + 3 + 3 + 1


@pytest.mark.parametrize(
    "settings, is_head_alone, parts",
    [
        (ladder_arms.ours("ours, patient", 1.06), True, 1),
        (ladder_arms.ours("all weights, then the head", 7.89, TRAINED="all_then_head"), False, 2),
        (ladder_arms.paper("paper, our start", 7.89), False, 1),
        (Settings("same recipe", ladder_arms.NO_NOISE, clip_norm=1e6), False, 1),
    ],
)
def test_the_private_steps_of_a_run_are_those_of_its_settings(
    settings, is_head_alone, parts, monkeypatch
):
    monkeypatch.setattr(ladder, "DELTA", 1e-3)
    small = dataclasses.replace(settings, batch=min(8, settings.batch))
    data = of_images(20, small.unit)
    model = networks.resnet9(["a:right", "a:left"], 1, 16, head="halves", lateral={"a"})
    networks.train_only(model, recipe_rule.part_of(small.recipe))
    arm = ladder.private_arm(small, model, data)
    assert arm.is_head_alone == is_head_alone and len(arm.promise.runs()) == parts
    if is_head_alone:
        assert (arm.steps, arm.sample_rate) == (small.head_steps, 1.0)
        assert arm.promise.clip_norm == small.head_clip_norm
    else:
        assert arm.promise.clip_norm == small.clip_norm and arm.sample_rate < 1
    noise = arm.promise.noise_multiplier
    assert noise == 0 if small.epsilon == ladder_arms.NO_NOISE else noise > 0


def of_images(n_patients, unit):
    """Return a training set of one image a patient."""
    rng = np.random.default_rng(0)
    return training_set.TrainingSet(
        images=rng.integers(0, 255, (n_patients, 48, 48), dtype=np.uint8),
        rows=np.arange(n_patients),
        labels=torch.from_numpy((rng.random((n_patients, 2)) < 0.5).astype("float32")),
        units=[np.array([n]) for n in range(n_patients)],
        names=[f"p{n}" for n in range(n_patients)],
        unit=unit,
        most_images=1,
    )


def test_a_public_model_is_trained_once_and_standardised_for_the_head(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    build_cohort.build(ladder.PUBLIC, n_patients=24)
    for name in ladder.STARTS:
        monkeypatch.setitem(ladder.STARTS, name, ladder.STARTS[name] | {"epochs": 1})
    ladder.make_start("20_passes")
    path = ladder.start_path("20_passes")
    weights, known = weight_files.load_weights(path)
    assert not any(":" in name for name in known)  # labels without sides
    assert weights["scale"].std() > 0 and weights["centre"].abs().max() > 0
    made = path.stat().st_mtime_ns
    ladder.make_start("20_passes")
    assert path.stat().st_mtime_ns == made
    assert ladder.start_path("20_passes_inverted") != path
