"""The self-test passes what is right and names the promise that is broken."""

import numpy as np
import pytest
import torch

from helpers import arms, checks, models, networks, randomness, selftest, training_sets


def arm_of(cohort, **changes):
    settings = dict(channels=1, epsilon=5.0, delta=1e-4, clip_norm=0.7, epochs=3, expected_batch_size=10,
                    max_images_per_patient=2, physical_batch_size=7, mode="private", seed=4) | changes
    return arms.PrivateArm(training_sets.TrainingSet.of(cohort, "patient"), networks.resnet9(2, width=8, seed=1), **settings)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_right_arm_passes_and_is_left_as_it_was(small_cohort, precision):
    arm = arm_of(small_cohort, precision=precision)
    before, own = models.weights_hash(arm.model.state_dict()), arm.randomness
    table = selftest.run(arm, small_cohort)
    assert len(table) == 6 and models.weights_hash(arm.model.state_dict()) == before and arm.randomness is own and arm.steps_done == 0
    assert arm.clipped.clip_norm == 0.7 and all(p.grad is None for p in arm.model.parameters())
    assert all((s == 0).all() for s in arm.clipped.take())


def test_an_arm_without_noise_passes_in_demo_mode(small_cohort):
    table = selftest.run(arm_of(small_cohort, mode="demo", noise_multiplier=0.0), small_cohort)
    assert "nothing is promised" in table["tried"].iloc[-1]


def broken(monkeypatch, arm, cohort, what):
    """Break one promise."""
    if what == "splits":
        cohort.table.loc[0, "patient_id"] = cohort.table["patient_id"].iloc[-1]
    elif what == "mixing":
        forward = arm.model.forward
        monkeypatch.setattr(arm.model, "forward", lambda images: forward(images - 0.5 * images.mean(0)))
    elif what == "bound":
        add = arm.clipped._add
        monkeypatch.setattr(arm.clipped, "_add", lambda records, units: 2 * add(
            [r for r in records if setattr(r, "squares", r.squares / 4) is None], units))
    elif what == "removal":
        monkeypatch.setattr("helpers.clipping.Record.remove", lambda *_: None)
    elif what in ("fixed size", "first ones", "a block"):
        def draw(self, n, q):
            rng, k = np.random.default_rng(), round(n * q)
            return {"fixed size": rng.choice(n, k, replace=False), "first ones": np.arange(rng.binomial(n, q)),
                    "a block": (rng.integers(n) + np.arange(rng.binomial(n, q))) % n}[what]
        monkeypatch.setattr(randomness.Randomness, "draw_units", draw)
    elif what == "too many images":
        monkeypatch.setattr(randomness.Randomness, "choose_images", lambda self, images, most: images)
    elif what == "inner float32":
        forward = arm.model.forward
        monkeypatch.setattr(arm.model, "forward", lambda images: forward(images.float()))
    elif what == "noise":
        noise = randomness.Randomness.noise
        monkeypatch.setattr(randomness.Randomness, "noise", lambda self, p, deviation: noise(self, p, deviation / 0.7))


@pytest.mark.parametrize("what, promise", [
    ("splits", "no patient is in two splits"), ("mixing", "one unit at a time"), ("bound", "one unit at a time"),
    ("removal", "a broken image"), ("fixed size", "units enter by chance"), ("first ones", "units enter by chance"),
    ("a block", "units enter by chance"), ("too many images", "units enter by chance"), ("inner float32", "one unit at a time"), ("noise", "noise has its scale")])
def test_a_broken_promise_is_named(small_cohort, monkeypatch, what, promise):
    arm = arm_of(small_cohort)
    broken(monkeypatch, arm, small_cohort, what)
    with pytest.raises(checks.InputError, match=f"self-test to find that .*({promise})"):
        selftest.run(arm, small_cohort)


def test_the_bound_is_tried_by_itself(small_cohort):
    arm = arm_of(small_cohort)
    assert selftest._Probe(arm, small_cohort).bound()[0]
    add = arm.clipped._add
    arm.clipped._add = lambda records, units: add([r for r in records if setattr(r, "squares", r.squares / 1.1) is None], units)
    assert not selftest._Probe(arm, small_cohort).bound()[0]  # a unit moves the sum by 1.05 C


def test_sums_left_over_are_noticed_as_noise_of_the_wrong_size(small_cohort, monkeypatch):
    arm = arm_of(small_cohort, noise_multiplier=2000.0)
    take = arm.clipped.take
    monkeypatch.setattr(arm.clipped, "take", lambda: [torch.full_like(part, 3e3) for part in take()])
    assert not selftest._noise(arm)[0]
