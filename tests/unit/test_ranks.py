"""A step shared by several processes, real ones with gloo between them, is the step of one."""

import numpy as np
import private_arms
import pytest
import torch
from rank_processes import on_ranks

from helpers.core import errors
from helpers.training import known_randomness, networks, ordinary_step, ranks, training_set

N_STEPS = 3
RATE = 0.05  # weights move, so that a rank with old ones would be noticed


def private_arm(cohort, mode):
    return private_arms.private_arm(
        training_set.TrainingSet.of(cohort, "patient"),
        networks.resnet9(2, width=8, seed=1),
        channels=1,
        epsilon=5.0,
        delta=1e-4,
        clip_norm=0.7,
        noise_multiplier=None if mode == "private" else 0.0 if mode == "none" else 0.5,
        epochs=3,
        expected_batch_size=10,
        max_images_per_patient=2,
        views_per_image=2,
        physical_batch_size=7,
        mode=mode,
        seed=4,
        lineage=[],
    )


def baseline_arm(cohort):
    return ordinary_step.BaselineArm(
        training_set.TrainingSet.of(cohort, "image"),
        networks.resnet9(2, width=8, seed=1),
        channels=1,
        batch_size=16,
        seed=4,
        augmentation="strong",
        physical_batch_size=10,
        inverted=0.3,
    )


def steps_of(arm, weights=None):
    """Of each step, on the first rank: the weights before it, its gradients, losses and images.

    With `weights`, those before each step are given.
    """
    if not ranks.is_first():
        while work := ranks.told(None, arm.trained):
            arm.help(*work)
        return []
    steps = []
    for step in range(N_STEPS):
        with torch.no_grad():
            for place, parameter in enumerate(arm.trained):
                parameter.copy_(weights[step][place]) if weights else None
        before = [parameter.detach().clone() for parameter in arm.trained]
        loss_sum, n_images = arm.set_gradients()
        steps.append((before, [p.grad.clone() for p in arm.trained], loss_sum, n_images))
        with torch.no_grad():
            for parameter in arm.trained:
                parameter.sub_(RATE * parameter.grad)
    ranks.told(None, arm.trained)
    return steps


def steps_of_both(cohort, private=None, ordinary=None):
    """Steps of a private arm without noise, and of an ordinary one, but for rounding."""
    steps = []
    for arm, weights in ((private_arm(cohort, "none"), private), (baseline_arm(cohort), ordinary)):
        with known_randomness.in_float64(arm.model):
            steps.append(steps_of(arm, weights))
    return tuple(steps)


def demo_steps(cohort, weights=None):
    arm = private_arm(cohort, "demo")
    return steps_of(arm, weights), arm.diagnostics, arm.ledger()


def before(steps):
    return [weights for weights, *_ in steps]


def apart(steps, expected):
    """The largest relative difference of gradients, in the L2 norm, and of losses, of all steps."""
    assert len(steps) == len(expected) == N_STEPS
    assert [n for *_, n in steps] == [n for *_, n in expected]
    one, other = (
        [torch.cat([g.flatten() for g in gradients]) for _, gradients, *_ in part]
        for part in (steps, expected)
    )
    of_losses = [abs(a - b) / (b or 1) for (*_, a, _), (*_, b, _) in zip(steps, expected)]
    return max([float((a - b).norm() / b.norm()) for a, b in zip(one, other)] + of_losses)


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_private_and_an_ordinary_step_are_those_of_one_process(mixed_cohort, tmp_path, n):
    (private, ordinary), *others = on_ranks(n, tmp_path, steps_of_both, mixed_cohort)
    assert others == [([], [])] * (n - 1)
    expected = steps_of_both(mixed_cohort, before(private), before(ordinary))
    assert apart(private, expected[0]) < 1e-6
    assert apart(ordinary, expected[1]) < 1e-6


def test_noise_is_added_once_and_the_ledger_and_diagnostics_are_those_of_one(
    mixed_cohort, tmp_path
):
    (steps, shown, spent), (of_other, _, nothing) = on_ranks(2, tmp_path, demo_steps, mixed_cohort)
    expected, diagnostics, ledger = demo_steps(mixed_cohort, before(steps))
    assert apart(steps, expected) < 1e-6
    assert spent == ledger and spent["steps_done"] == N_STEPS
    assert of_other == [] and nothing["steps_done"] == 0  # releases are the first rank's
    for one, other in zip(shown, diagnostics):
        assert one == pytest.approx(other, rel=1e-5)


def shares(cohort):
    """On each rank the units it was given in each private step; on the first also what was drawn,
    and the noise in units of its standard deviation.
    """
    arm = private_arm(cohort, "private")
    arm.randomness.is_registered = ranks.is_first()
    given, drawn, add, draw = [], [], arm.add_units, arm.draw
    arm.add_units = lambda units, *rest: given.append(units) or add(units, *rest)
    arm.draw = lambda: drawn.append(draw()) or drawn[-1]
    steps = steps_of(arm)
    refused = ""
    if not ranks.is_first():
        try:
            arm.set_gradients()
        except errors.InputError as error:
            refused = str(error)
    scale = arm.promise.expected_batch_size / (arm.promise.noise_multiplier * arm.promise.clip_norm)
    noise = [scale * torch.cat([g.flatten() for g in gradients]) for _, gradients, *_ in steps]
    return given, drawn, noise, arm.steps_done, refused


def test_in_private_mode_one_draw_is_shared_out_and_no_other_rank_can_release(
    mixed_cohort, tmp_path
):
    first, second = on_ranks(2, tmp_path, shares, mixed_cohort)
    assert len(first[1]) == len(first[0]) == len(second[0]) == N_STEPS and second[1] == []
    for drawn, one, other in zip(first[1], first[0], second[0]):
        assert not set(one) & set(other)  # a patient is one rank's
        together = one | other
        assert set(together) == set(drawn) and abs(len(one) - len(other)) <= 1
        assert all(np.array_equal(together[u], np.repeat(drawn[u], 2)) for u in drawn)
    # about 40 000 weights: the standard deviation of the noise is known to 1 %
    n_weights = len(first[2][0])
    assert n_weights > 40_000
    for noise in first[2]:
        assert float(noise.square().mean().sqrt()) == pytest.approx(1, abs=0.05)
    assert first[3] == N_STEPS and second[3] == 0
    assert "a session that has entered the run in the privacy register; got none" in second[4]


def without_another():
    """What the first rank says when the other one has ended before the second step."""
    if not ranks.is_first():
        ranks.told(None, [torch.zeros(2)])
        return ""
    weights = [torch.ones(2)]
    ranks.told((1,), weights)
    try:
        for _ in range(100):
            ranks.add_up(weights)
    except errors.InputError as error:
        return str(error)
    return "nothing"


def test_a_rank_that_has_ended_is_one_line(tmp_path):
    said, _ = on_ranks(2, tmp_path, without_another)
    assert said.startswith("Expected all processes of the run at work; got one that has ended.")
    assert "goes on from its checkpoint" in said and "\n" not in said


def test_one_process_is_told_its_own_work_and_adds_nothing_up():
    weights = [torch.ones(3)]
    assert ranks.told(("work",), weights) == ("work",)
    assert ranks.add_up(weights) is weights and ranks.number() == 1
    assert list(range(5))[ranks.share()] == [0, 1, 2, 3, 4]
