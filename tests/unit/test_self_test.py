"""The self-test passes what is right and names the promise that is broken."""

import numpy as np
import private_arms
import pytest
import torch

from helpers.core import errors, random_streams
from helpers.privacy import sampling_and_noise
from helpers.training import networks, self_test, training_set, weight_files


def arm_of(cohort, **changes):
    settings = (
        dict(
            channels=1,
            epsilon=5.0,
            delta=1e-4,
            clip_norm=0.7,
            epochs=3,
            expected_batch_size=10,
            max_images_per_patient=2,
            physical_batch_size=7,
            mode="private",
            seed=4,
        )
        | changes
    )
    return private_arms.private_arm(
        training_set.TrainingSet.of(cohort, "patient"),
        networks.resnet9(2, width=8, seed=1),
        **settings,
    )


@pytest.mark.parametrize("mode", ["demo", "private"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_right_arm_passes_and_is_left_as_it_was(small_cohort, precision, mode):
    arm = arm_of(small_cohort, precision=precision, mode=mode, views_per_image=2)
    for parameter in arm.clipped.parameters[:3]:
        parameter.grad = torch.ones_like(parameter)
    before, randomness, parts = (
        weight_files.weights_hash(arm.model.state_dict()),
        arm.randomness,
        dict(vars(arm)),
    )
    stream, state = random_streams.random_stream, torch.get_rng_state()
    table = self_test.run(arm, small_cohort)
    assert (
        len(table) == 10
        and weight_files.weights_hash(arm.model.state_dict()) == before
        and arm.randomness is randomness
        and arm.steps_done == 0
    )
    assert arm.clipped.clip_norm == 0.7 and all(
        (p.grad == 1).all() for p in arm.clipped.parameters[:3]
    )
    assert all(p.grad is None for p in arm.clipped.parameters[3:]) and all(
        p.dtype == torch.float32 for p in arm.clipped.parameters
    )
    assert all((s == 0).all() for s in arm.clipped.take()) and arm.diagnostics == []
    assert vars(arm).keys() == parts.keys() and all(
        vars(arm)[name] is value for name, value in parts.items()
    )
    assert random_streams.random_stream is stream and torch.equal(torch.get_rng_state(), state)
    assert not arm.model._forward_pre_hooks


def test_an_arm_without_noise_passes_in_demo_mode(small_cohort):
    table = self_test.run(
        arm_of(small_cohort, mode="demo", noise_multiplier=0.0), small_cohort
    ).set_index("promise")["tried"]
    assert "nothing is promised" in table["noise has its scale, also where nobody was drawn"]


def broken(monkeypatch, arm, cohort, what):
    """Break one promise."""
    if what == "splits":
        cohort.table.loc[0, "patient_id"] = cohort.table["patient_id"].iloc[-1]
    elif what == "mixing":
        forward = arm.model.forward
        monkeypatch.setattr(
            arm.model, "forward", lambda images: forward(images - 0.5 * images.mean(0))
        )
    elif what == "bound":
        add = arm.clipped._add
        monkeypatch.setattr(
            arm.clipped,
            "_add",
            lambda records, *rest: (
                2
                * add(
                    [
                        r
                        for r in records
                        if setattr(r, "squares", [s / 4 for s in r.squares]) is None
                    ],
                    *rest,
                )
            ),
        )
    elif what == "removal":
        monkeypatch.setattr("helpers.privacy.clipping.Record.remove", lambda *_: None)
    elif what in ("fixed size", "first ones", "a block"):

        def draw(self, n, q):
            rng, k = np.random.default_rng(), round(n * q)
            return {
                "fixed size": rng.choice(n, k, replace=False),
                "first ones": np.arange(rng.binomial(n, q)),
                "a block": (rng.integers(n) + np.arange(rng.binomial(n, q))) % n,
            }[what]

        monkeypatch.setattr(sampling_and_noise.Randomness, "draw_units", draw)
    elif what == "too many images":
        monkeypatch.setattr(
            sampling_and_noise.Randomness, "choose_images", lambda self, images, most: images
        )
    elif what == "inner float32":
        forward = arm.model.forward
        monkeypatch.setattr(arm.model, "forward", lambda images: forward(images.float()))
    elif what == "noise":
        noise = sampling_and_noise.Randomness.noise
        monkeypatch.setattr(
            sampling_and_noise.Randomness,
            "noise",
            lambda self, p, deviation: noise(self, p, deviation / 0.7),
        )
    elif what in ("step 7", "the last step", "private step 7"):
        noise = sampling_and_noise.Randomness.noise
        weak = {
            "step 7": lambda of: of.released == 7,
            "the last step": lambda of: of.released == of.steps - 1 > 0,
            "private step 7": lambda of: of.released == 7 and of.mode == "private",
        }[what]
        monkeypatch.setattr(
            sampling_and_noise.Randomness,
            "noise",
            lambda self, p, deviation: noise(self, p, deviation * (0.9 if weak(self) else 1)),
        )
    elif what in ("one parameter", "one value", "two parameters alike"):
        add = arm.set_noisy_mean

        def without():
            norms, parts = add(), [p.grad for p in arm.clipped.parameters]
            if what == "one parameter":
                parts[-1].zero_()
            elif what == "one value":
                parts[0].view(-1)[17] = 0
            else:
                parts[1].copy_(parts[4])  # of two group norms
            return norms

        monkeypatch.setattr(arm, "set_noisy_mean", without)
    elif what == "noise twice":
        add = arm.add_units

        def noisy(drawn, step):
            losses_and_norms = add(drawn, step)
            if drawn:
                arm.randomness.noise(arm.clipped.parameters, 1.0)
            return losses_and_norms

        monkeypatch.setattr(arm, "add_units", noisy)
    elif what == "a unit left out":
        add = arm.add_units
        monkeypatch.setattr(
            arm,
            "add_units",
            lambda drawn, step: add(dict(list(drawn.items())[: max(1, len(drawn) - 1)]), step),
        )
    elif what == "keyed moves":
        monkeypatch.setattr(
            sampling_and_noise.Randomness,
            "augmentation",
            lambda self, unit, step: random_streams.random_stream(self.seed, unit, step),
        )
    elif what in ("seeded", "global"):
        begin = sampling_and_noise.Randomness.__init__

        def seeded(self, mode, seed, steps):
            begin(self, mode, seed, steps)
            if mode == "private" and what == "seeded":
                self._fresh = {
                    name: np.random.default_rng([seed, position])
                    for position, name in enumerate(self._fresh)
                }
            elif mode == "private":
                self._fresh = {
                    name: np.random.default_rng(np.random.randint(2**31)) for name in self._fresh
                }

        monkeypatch.setattr(sampling_and_noise.Randomness, "__init__", seeded)
    elif what in ("a pair", "an opposite pair", "not twice running"):
        draw_units, last = sampling_and_noise.Randomness.draw_units, np.zeros(40, bool)

        def draw(self, n, q):
            entered = np.isin(
                np.arange(n),
                draw_units(
                    self, n, q if what != "not twice running" or not last.any() else q / (1 - q)
                ),
            )
            if what == "a pair":
                entered[30] = entered[3]
            elif what == "an opposite pair":
                entered[30] = not entered[3] and np.random.default_rng().random() < q / (1 - q)
            else:
                entered &= ~last
                last[:] = entered
            return np.flatnonzero(entered)

        monkeypatch.setattr(sampling_and_noise.Randomness, "draw_units", draw)
    elif what == "rate":
        arm.sample_rate = 0.2
    elif what == "drawn rate":
        monkeypatch.setattr(
            arm,
            "draw",
            lambda: {
                unit: arm.data.units[unit][:2]
                for unit in arm.randomness.draw_units(len(arm.data.units), 0.2575)
            },
        )
    elif what == "fewer units":
        arm.data.units.pop()
    elif what == "accounted rate":
        monkeypatch.setattr(arm, "epsilon_spent", lambda: 0.99 * type(arm).epsilon_spent(arm))


@pytest.mark.parametrize(
    "what, promise",
    [
        ("splits", "no patient is in two splits"),
        ("mixing", "one unit at a time"),
        ("bound", "one unit at a time"),
        ("removal", "a broken image"),
        ("fixed size", "units enter by chance"),
        ("first ones", "units enter by chance"),
        ("a block", "units enter by chance"),
        ("too many images", "units enter by chance"),
        ("inner float32", "one unit at a time"),
        ("noise", "noise has its scale"),
        ("step 7", "every value of a step"),
        ("the last step", "every value of a step"),
        ("private step 7", "private mode asks"),
        ("one parameter", "every value of a step"),
        ("one value", "every value of a step"),
        ("two parameters alike", "every value of a step"),
        ("noise twice", "every value of a step"),
        ("a unit left out", "every value of a step"),
        ("keyed moves", "private mode asks"),
        ("seeded", "private mode asks"),
        ("global", "private mode asks"),
        ("a pair", "no two units"),
        ("an opposite pair", "no two units"),
        ("not twice running", "no two units"),
        ("rate", "at the rate that is promised"),
        ("drawn rate", "at the rate that is promised"),
        ("fewer units", "units enter by chance"),
        ("accounted rate", "at the rate that is promised"),
    ],
)
def test_a_broken_promise_is_named(small_cohort, monkeypatch, what, promise):
    arm = arm_of(small_cohort)
    broken(monkeypatch, arm, small_cohort, what)
    with pytest.raises(errors.InputError, match=f"self-test to find that .*({promise})"):
        self_test.run(arm, small_cohort)


def test_the_bound_is_tried_by_itself(small_cohort):
    arm = arm_of(small_cohort)
    assert self_test._Probe(arm, small_cohort).bound()[0]
    add = arm.clipped._add
    arm.clipped._add = lambda records, *rest: add(
        [r for r in records if setattr(r, "squares", [s / 1.1 for s in r.squares]) is None], *rest
    )
    assert not self_test._Probe(arm, small_cohort).bound()[0]  # a unit moves the sum by 1.05 C


def test_sums_left_over_are_noticed_as_noise_of_the_wrong_size(small_cohort, monkeypatch):
    arm = arm_of(small_cohort, noise_multiplier=2000.0)
    take = arm.clipped.take
    monkeypatch.setattr(
        arm.clipped, "take", lambda: [torch.full_like(part, 3e3) for part in take()]
    )
    assert not self_test._noise(arm)[0]
