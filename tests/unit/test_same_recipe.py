"""The recipe of a private run without noise or clipping: the same steps, and never a promise."""

import json
import math

import numpy as np
import private_arms
import pytest
import torch

from helpers.core import errors, paths, run_records
from helpers.privacy import (
    privacy_ledger,
    private_run_files,
    private_runs,
    promise,
    register,
    sampling_and_noise,
    spending,
)
from helpers.study import notebook_files
from helpers.training import (
    finished_runs,
    image_loss,
    loop,
    networks,
    private_step,
    same_recipe,
    training_session,
    training_set,
)

BUDGET = promise.PrivacyBudget(5.0, 1e-4, 0.05)
BATCHING = promise.Batching(10, 2, 3, physical_batch_size=7)
HEAD = promise.HeadSteps(steps=3, clip_norm=0.02, share=0.3)
NOISE, BOTH = ["noise"], ["noise", "clipping"]


def arm_of(cohort, without, mode="demo", head=None):
    """An arm as notebook 03 makes it, with some of its recipe left out."""
    model = networks.resnet9(["bright", "dull"], width=8, seed=1)
    mode, budget, head = same_recipe.left_out(without, mode, BUDGET, head)
    data = training_set.TrainingSet.of(cohort, "patient")
    return private_step.PrivateArm(
        data, model, budget, BATCHING, mode=mode, seed=4, lineage=[], head=head
    )


def session_of(cohort, without, run=None, **settings):
    arm = arm_of(cohort, without, **settings)
    run = run or run_records.run_name("small", same_recipe.arm_of(without), 4, 5.0)
    return training_session.Session(
        run,
        arm.network,
        arm,
        epochs=2,
        learning_rate=3e-3,
        head_learning_rate=2.0,
        fingerprint="same",
        averaging=0.9,
    )


def train(session, epochs=None):
    for _ in list(loop.epochs_left(session))[:epochs]:
        loss = loop.train_one_epoch(session)
        session.end_epoch(loss=loss, epsilon_spent=session.arm.epsilon_spent())
    return session


def finish(session, cohort, without, **changes):
    declared = dict(
        run=session.run,
        arm=same_recipe.arm_of(without),
        seed=4,
        parameters=session.arm.promise.as_dict(),
        seconds=1.0,
        fingerprint=session.fingerprint,
        history=session.history,
        start=[],
        private_run=session.private,
        steps_left=session.steps - session.step,
    )
    return finished_runs.finish(session.model, cohort, 1, **declared | changes)


def gradients(arm):
    arm.set_gradients()
    return [parameter.grad.clone() for parameter in arm.clipped.parameters]


# ---- what is left out


def test_what_is_left_out_names_the_arm():
    assert [same_recipe.arm_of(without) for without in ([], NOISE, BOTH)] == [
        "dp",
        "same_recipe_clipped",
        "same_recipe",
    ]
    assert same_recipe.left_out([], "private", BUDGET, HEAD) == ("private", BUDGET, HEAD)
    assert same_recipe.left_out(NOISE, "private", BUDGET, HEAD) == ("none", BUDGET, HEAD)
    mode, budget, head = same_recipe.left_out(BOTH, "private", BUDGET, HEAD)
    assert (mode, budget.clip_norm, head.clip_norm) == ("none", 1e6, 1e6)
    assert (budget.epsilon, budget.delta, head.steps) == (5.0, 1e-4, 3)


def test_clipping_alone_is_refused():
    with pytest.raises(errors.InputError, match='got \\["clipping"\\]. Leave the noise out, too'):
        same_recipe.left_out(["clipping"], "private", BUDGET)
    with pytest.raises(errors.InputError, match="each of WITHOUT to be one of noise, clipping"):
        same_recipe.arm_of(["nose"])


def test_steps_and_rate_are_those_of_the_private_run(small_cohort):
    for head in (None, HEAD):
        private = arm_of(small_cohort, [], "private", head).promise
        for without in (NOISE, BOTH):
            promised = arm_of(small_cohort, without, "private", head).promise
            assert (promised.steps, promised.total_steps, promised.sample_rate) == (
                private.steps,
                private.total_steps,
                private.sample_rate,
            )
            assert {part.noise_multiplier for part in promised.parts} == {0.0}
        assert all(part.noise_multiplier > 0.1 for part in private.parts)


def test_a_step_without_noise_is_that_of_the_demo_minus_its_noise(small_cohort):
    demo, clipped = arm_of(small_cohort, []), arm_of(small_cohort, NOISE)
    noise, draw_noise = [], demo.randomness.noise

    def kept(*arguments):
        noise[:] = [part.clone() for part in draw_noise(*arguments)]
        return [part.clone() for part in noise]

    demo.randomness.noise = kept
    for _ in range(2):
        noisy, plain = gradients(demo), gradients(clipped)
        for total, part, alone in zip(noisy, noise, plain):
            torch.testing.assert_close(total - part / 10, alone, atol=1e-6, rtol=1e-4)
        # at most 20 of 40 patients are drawn, each adds at most C = 0.05; the sum is over qN = 10
        assert 0 < sum(float(part.square().sum()) for part in plain) < (20 * 0.05 / 10) ** 2


def test_a_step_without_clipping_is_the_gradient_of_the_mean_over_patients(small_cohort):
    arm = arm_of(small_cohort, BOTH)
    drawn = arm.draw()
    moves = {
        unit: arm.data.moves(len(images), arm.randomness.augmentation(arm.data.names[unit], 0))
        for unit, images in drawn.items()
    }
    arm.draw = lambda: drawn
    found = gradients(arm)
    loss = 0.0
    for unit, images in drawn.items():
        films, labels = arm.data.batch(images, moves[unit], 1, torch.device("cpu"))
        loss = loss + image_loss.image_losses(arm.network(films), labels).mean() / 10
    expected = torch.autograd.grad(loss, arm.clipped.parameters)
    assert len(drawn) > 2
    for one, other in zip(found, expected):
        assert float((one - other).norm() / other.norm()) < 1e-3


@pytest.mark.parametrize("without", [NOISE, BOTH])
def test_where_nobody_is_drawn_nothing_moves_in_either_part(small_cohort, results, without):
    session = session_of(small_cohort, without, head=HEAD)
    session.arm.randomness.draw_units = lambda n_units, sample_rate: np.arange(0)
    before = [parameter.detach().clone() for parameter in session.model.parameters()]
    train(session)
    assert session.step == session.arm.promise.total_steps == 8 + 3
    assert all(torch.equal(a, b) for a, b in zip(before, session.model.parameters()))


def test_a_resumed_run_equals_the_uninterrupted_one(small_cohort, results):
    whole = train(session_of(small_cohort, BOTH, "whole", head=HEAD)).model.state_dict()
    train(session_of(small_cohort, BOTH, "broken", head=HEAD), epochs=3)
    resumed = session_of(small_cohort, BOTH, "broken", head=HEAD)
    assert resumed.step > 8
    again = train(resumed).model.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


# ---- never a promise


def test_only_mode_none_is_without_noise():
    like = [torch.ones(50, 40), torch.ones(7)]
    for mode, is_silent in (("none", True), ("demo", False), ("private", False)):
        source = sampling_and_noise.Randomness(mode, 1, 2)
        drawn = torch.cat([part.flatten() for part in source.noise(like, 3.0)])
        assert bool((drawn == 0).all()) == is_silent and source.released == 1
        assert is_silent or 2.8 < float(drawn.std()) < 3.2


@pytest.mark.parametrize("without", [NOISE, BOTH])
def test_an_arm_that_leaves_noise_out_is_not_private_and_has_no_ledger(small_cohort, without):
    arm = arm_of(small_cohort, without, "private")
    assert not arm.is_private and not arm.shows_diagnostics
    assert arm.warning.startswith("Nothing is promised")
    arm.set_gradients()
    assert arm.epsilon_spent() == math.inf and arm.diagnostics == []
    with pytest.raises(errors.InputError, match="one without noise, which promises nothing"):
        arm.ledger()
    with pytest.raises(errors.InputError, match="MODE to be one of demo, private; got 'none'"):
        privacy_ledger.ledger(steps_done=1, lineage=[], **arm.promise.as_dict())


def test_no_promise_without_noise_enters_the_register(small_cohort, results):
    promised = arm_of(small_cohort, NOISE, "private").promise
    patients = register.Register().enrol(*small_cohort.training_patients())
    on_disk = private_run_files.OnDisk(None, 0, {}, None)
    with pytest.raises(errors.InputError, match="MODE of a private run to be one of private"):
        private_runs.begin("r", promised, {}, patients, "small", on_disk)
    assert register.Register().lines() == []


@pytest.mark.parametrize("without", [NOISE, BOTH])
def test_a_finished_run_is_recorded_like_the_baseline(small_cohort, results, without):
    small_cohort.record["access"] = "private"  # demo mode is refused here
    small_cohort.table["pixels_sha256"] = small_cohort.table["image_id"]
    session = train(session_of(small_cohort, without, mode="private"))
    finish(session, small_cohort, without)
    record = run_records.read_record(session.run)
    arm = same_recipe.arm_of(without)
    assert (record["arm"], record["run"]) == (arm, f"small-{arm}-eps5-seed4")
    assert [record[key] for key in ("ledger", "epsilon_target", "epsilon_spent", "unit")] == (
        [None] * 4
    )
    assert (record["recipe_of_epsilon"], record["recipe_of_unit"]) == (5.0, "patient")
    assert register.Register().lines() == [] and "identity" not in record
    assert not (paths.run_dir(session.run) / private_run_files.NOTE).exists()
    assert run_records.private_runs_of(results, "small") == []
    shown = json.dumps(record["history"])
    assert "NaN" not in shown and [epoch["loss"] for epoch in record["history"]] == [None] * 2
    assert spending.without_privacy("small").startswith(f"{session.run}: A model trained on")
    assert run_records.runs_of("small") == [session.run]
    assert session_of(small_cohort, without, mode="private").step == 8  # read, not trained again


@pytest.mark.parametrize("without", [NOISE, BOTH])
def test_an_interrupted_run_is_not_recorded(small_cohort, results, without):
    session = train(session_of(small_cohort, without, head=HEAD), epochs=2)
    with pytest.raises(errors.InputError, match="all steps of .* got all but 3. Run the training"):
        finish(session, small_cohort, without)
    assert not (paths.run_dir(session.run) / "record.json").exists()
    finish(train(session_of(small_cohort, without, head=HEAD)), small_cohort, without)
    assert run_records.is_whole(session.run)


def test_notebooks_say_how_many_steps_are_left_where_a_run_is_recorded():
    for number in ("02", "03"):
        cells = json.loads(notebook_files.notebooks()[number].read_text(encoding="utf-8"))["cells"]
        texts = ["".join(cell["source"]) for cell in cells]
        calls = [text for text in texts if "finished_runs.finish(" in text]
        assert calls and all("steps_left=session.steps - session.step" in call for call in calls)


def test_a_run_without_noise_cannot_be_given_out_as_private(small_cohort, results):
    session = train(session_of(small_cohort, NOISE))
    ledger = privacy_ledger.ledger(
        **private_arms.settle(
            unit="patient",
            n_units=40,
            most_images=4,
            epsilon=5.0,
            delta=1e-4,
            clip_norm=0.05,
            epochs=2,
            expected_batch_size=10,
            max_images_per_patient=3,
            mode="demo",
        ).as_dict(),
        steps_done=8,
        lineage=[],
    )
    for changes in (
        {"arm": "dp"},
        {"ledger": ledger},
        {"arm": "dp", "ledger": ledger},
        {"arm": "baseline"},
        {"run": "small-dp-eps5-seed4"},
        {"parameters": {}},
    ):
        with pytest.raises(errors.InputError, match="a ledger for the arm dp, and"):
            finish(session, small_cohort, NOISE, **changes)
    assert not (paths.run_dir(session.run) / "record.json").exists()


def test_a_private_run_without_a_ledger_is_refused(small_cohort, results):
    session = train(session_of(small_cohort, []))
    with pytest.raises(errors.InputError, match="a ledger for the arm dp"):
        finish(session, small_cohort, [])
