"""Steps of private training to the last value: draws, images, moves, clipped sum and noise, against
their documented keys.

Statistical tests see neither a single parameter nor a rare step. The oracle here works from the
cohort's table, one unit at a time in float64, with streams of its own: the keyed ones of demo mode;
in private mode generators of known state, put in the place of those with the operating system's
entropy.
"""

import copy
import hashlib
import math
import pickle
import random

import numpy as np
import private_arms
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from helpers.core import errors, random_streams
from helpers.privacy import accounting, calibration, clipping, sampling_and_noise
from helpers.training import (
    image_loss,
    loop,
    network_input,
    networks,
    self_test,
    training_session,
    training_set,
)

SEED, CLIP_NORM, MOST_IMAGES = 4, 0.7, 2
STREAMS = ("sampling", "images", "augmentation", *(f"noise {chunk}" for chunk in range(8)))


def arm_of(cohort, model=None, **changes):
    settings = (
        dict(
            channels=1,
            epsilon=5.0,
            delta=1e-4,
            clip_norm=CLIP_NORM,
            epochs=3,
            expected_batch_size=10,
            max_images_per_patient=MOST_IMAGES,
            physical_batch_size=7,
            mode="demo",
            seed=SEED,
            lineage=[],
        )
        | changes
    )
    unit = settings.pop("unit", "patient")
    data = training_set.TrainingSet.of(
        cohort, unit, settings["max_images_per_patient"] if unit == "image" else None
    )
    return private_arms.private_arm(
        data, model or in_float64(networks.resnet9(2, width=8, seed=1)), **settings
    )


def in_float64(model):
    """Let a network compute in float64, in which sums agree to their last digits but for the
    margins of the clip bound.
    """
    model.double().register_forward_pre_hook(lambda _, inputs: inputs[0].double())
    return model


def session_of(arm, name="small-dp-eps5-seed4"):
    return training_session.Session(
        name,
        arm.model,
        arm,
        epochs=arm.steps // arm.steps_per_epoch,
        learning_rate=3e-3,
        fingerprint="same",
    )


def tiny():
    """A network of 1,026 parameters, for many steps."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.Mish(), nn.Linear(4, 2))


def keyed(name, step):
    """The stream of a name at a step.

    Its key is the seed, the first 64 bits of the name's SHA-256, and the step.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence([SEED, key, step])))


def know(arm):
    """Give an arm in private mode generators of known state.

    Return their twins as a stream by name and step.
    """
    assert set(arm.randomness._fresh) == {*STREAMS, sampling_and_noise.KEYS}
    known, twins = (
        {name: np.random.default_rng([7, position]) for position, name in enumerate(STREAMS)}
        for _ in range(2)
    )
    arm.randomness._fresh.update(known)
    return lambda name, step: twins["augmentation" if name.startswith("augmentation") else name]


class Oracle:
    """What each step of an arm must be."""

    def __init__(self, cohort, arm, *, unit="patient", views=1, expected=10, stream=keyed):
        train = cohort.table[cohort.table["split"] == "train"]
        if unit == "image":
            rank = (
                train["image_id"]
                .map(lambda image: hashlib.sha256(f"0 {image}".encode()).digest())
                .groupby(train["patient_id"])
                .rank()
            )
            train = train[rank <= MOST_IMAGES]
        self.rows = {
            name: unit_rows.index.to_numpy()
            for name, unit_rows in train.groupby(f"{unit}_id", sort=False)
        }
        self.images, self.labels = (
            cohort.images,
            torch.tensor(cohort.table[cohort.findings].to_numpy(float)),
        )
        self.views, self.expected, self.stream = views, expected, stream
        self.deviation = np.float32(arm.promise.noise_multiplier * CLIP_NORM)

    def draw(self, step):
        """The units of a step by name, each with its rows in the cohort."""
        entered = self.stream("sampling", step).random(len(self.rows)) < self.expected / len(
            self.rows
        )
        choice = self.stream("images", step)
        return {
            name: (
                rows
                if len(rows) <= MOST_IMAGES
                else np.sort(choice.choice(rows, MOST_IMAGES, replace=False))
            )
            for (name, rows), is_drawn in zip(self.rows.items(), entered)
            if is_drawn
        }

    def batch(self, name, rows, step):
        """A unit's images, each in all its views, moved by a pixel or not; and their labels."""
        seen = np.repeat(rows, self.views)
        moves = self.stream(f"augmentation {name}", step).integers(-1, 2, size=(len(seen), 2))
        padded = np.pad(self.images[seen], ((0, 0), (1, 1), (1, 1)), mode="edge")
        moved = np.stack(
            [
                image[1 - down : 17 - down, 1 - right : 17 - right]
                for image, (down, right) in zip(padded, moves)
            ]
        )
        return network_input.to_input(moved).double(), self.labels[seen]

    def sums(self, model, step):
        """The sum of the clipped gradients of the units drawn, a tensor a parameter, and how many
        units were drawn.
        """
        exact = copy.deepcopy(model).double()
        parameters = [p for p in exact.parameters() if p.requires_grad]
        total, drawn = [torch.zeros_like(p) for p in parameters], self.draw(step)
        for name, rows in drawn.items():
            images, labels = self.batch(name, rows, step)
            known = ~labels.isnan()
            losses = functional.binary_cross_entropy_with_logits(
                exact(images), labels.nan_to_num(0), reduction="none"
            )
            loss = ((losses * known).sum(1) / known.sum(1).clamp(min=1)).mean()
            gradient = torch.autograd.grad(loss, parameters)
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradient))
            for part, g in zip(total, gradient):
                part += g * min(1.0, CLIP_NORM / norm)
        return total, len(drawn)

    def noise(self, model, step):
        """The noise of a step, a tensor a parameter.

        All values in a row, cut into 8 chunks, each from a stream of its own.
        """
        sizes = [p.numel() for p in model.parameters() if p.requires_grad]
        flat = np.concatenate(
            [
                self.stream(f"noise {k}", step).standard_normal(len(chunk), dtype=np.float32)
                for k, chunk in enumerate(np.array_split(np.zeros(sum(sizes)), 8))
            ]
        )
        return torch.from_numpy(flat * self.deviation).split(sizes)

    def check(self, model, step):
        """Compare every value of the gradients; return how many units were drawn."""
        sums, n_drawn = self.sums(model, step)
        parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter, total, noise in zip(parameters, sums, self.noise(model, step), strict=True):
            released_noise = parameter.grad.double() * self.expected - total
            torch.testing.assert_close(
                released_noise,
                noise.view_as(released_noise).double(),
                rtol=0,
                atol=3e-6,
                msg=lambda text: f"step {step}: {text}",
            )
        return n_drawn


@pytest.mark.parametrize(
    "unit, views", [("patient", 1), ("patient", 3), ("image", 1), ("image", 2)]
)
def test_every_value_of_a_gradient_is_the_clipped_sum_plus_its_keyed_noise(
    mixed_cohort, unit, views
):
    n_drawn = set()
    for physical_batch_size, steps in ((5, (0, 7, 11)), (10_000, (7,))):
        arm = arm_of(
            mixed_cohort, unit=unit, views_per_image=views, physical_batch_size=physical_batch_size
        )
        oracle = Oracle(mixed_cohort, arm, unit=unit, views=views)
        for step in steps:
            arm.go_on_after(step)
            arm.set_gradients()
            assert arm.steps_done == step + 1
            n_drawn.add(oracle.check(arm.model, step))
    assert n_drawn != {10}  # else the declared number could not be told from the drawn one


def test_every_step_of_a_session_is_the_keyed_one_also_after_a_resume(mixed_cohort, results):
    def watched(**changes):
        session = session_of(arm_of(mixed_cohort, **changes))
        update = session.optimizer.step
        session.optimizer.step = lambda: (
            checked.append(session.step),
            oracle.check(session.model, session.step - 1),
            update(),
        )
        return session

    checked, oracle = [], Oracle(mixed_cohort, arm_of(mixed_cohort))
    session = watched()
    loop.train_one_epoch(session)
    session.end_epoch()
    session.arm.set_gradients()  # lost with the kernel
    session = watched(model=in_float64(networks.resnet9(2, width=8, seed=9)))
    assert session.resumed and session.step == 4
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    assert checked == list(range(1, 13))


@pytest.mark.parametrize("mode", ["demo", "private"])
def test_many_steps_of_few_patients_are_exact_and_empty_draws_among_them(
    mixed_cohort, results, mode
):
    # 2 of 40 patients in a step on average: one draw in eight is empty. An empty one that is drawn
    # again would put the
    # streams of private mode out of step with their twins.
    arm = arm_of(
        mixed_cohort,
        in_float64(tiny()),
        mode=mode,
        expected_batch_size=2,
        epochs=6,
        clip_norm=CLIP_NORM,
    )
    oracle = Oracle(mixed_cohort, arm, expected=2, stream=keyed if mode == "demo" else know(arm))
    session, drawn = session_of(arm), []
    for step in range(session.steps):
        arm.set_gradients()
        drawn.append(oracle.check(arm.model, step))
        session.optimizer.step()
    assert arm.steps_done == session.steps == 120 and drawn.count(0) > 5 and max(drawn) > 4


def test_private_steps_of_the_whole_network_are_exact_from_generators_of_known_state(
    mixed_cohort, results
):
    arm = arm_of(mixed_cohort, mode="private", views_per_image=2)
    oracle, session = Oracle(mixed_cohort, arm, views=2, stream=know(arm)), session_of(arm)
    for step in range(session.steps):
        arm.set_gradients()
        oracle.check(arm.model, step)
        session.optimizer.step()


def test_a_step_asks_each_stream_once(mixed_cohort, monkeypatch):
    # More often would draw again what chance has decided, an empty draw for instance.
    arm, asked = arm_of(mixed_cohort, in_float64(tiny()), expected_batch_size=1, epochs=1), []
    monkeypatch.setattr(
        random_streams,
        "random_stream",
        lambda seed, name, step=0: asked.append((seed, name, step)) or keyed(name, step),
    )
    oracle = Oracle(mixed_cohort, arm, expected=1)
    for step in range(40):
        names = [f"augmentation {name}" for name in oracle.draw(step)]
        asked.clear()
        arm.set_gradients()
        assert sorted(asked) == sorted(
            (SEED, name, step) for name in [*STREAMS[:2], *STREAMS[3:], *names]
        )


def test_no_noise_is_that_of_another_step_or_parameter(mixed_cohort, results):
    for mode in ("demo", "private"):
        source = sampling_and_noise.Randomness(mode, SEED, steps=30)
        drawn = [
            value
            for _ in range(30)
            for part in source.noise([torch.zeros(25, 3), torch.zeros(1000), torch.zeros(7)], 1.0)
            for value in part.double().flatten().tolist()
        ]
        # 32,460 values of about 2^29 different floats: some 20 pairs are equal by chance (their
        # number is about Poisson).
        assert len(set(drawn)) > len(drawn) - 200
        whole = np.array(drawn).reshape(30, -1)
        assert np.abs(np.corrcoef(whole) - np.eye(30)).max() < 7 / math.sqrt(1082)


# ---- private mode asks nobody but the operating system


def test_private_mode_never_asks_for_a_keyed_stream(mixed_cohort, results, monkeypatch):
    def begin():
        arm = arm_of(
            mixed_cohort, networks.resnet9(2, width=8, seed=1), mode="private", views_per_image=2
        )
        monkeypatch.setattr(random_streams, "random_stream", asked)
        return arm

    def asked(*key):
        raise AssertionError(f"private mode asked for {key}")

    session = session_of(begin())
    for _ in range(2):
        loop.train_one_epoch(session)
        session.end_epoch(valid_auroc=0.5)
    monkeypatch.undo()
    monkeypatch.setenv("RESULTS_DIR", str(results))
    session = session_of(begin())
    assert session.resumed and session.step == 8
    loop.train_one_epoch(session)
    assert session.step == session.steps == 12


@pytest.mark.parametrize("mode", ["demo", "private"])
def test_no_global_generator_is_used_or_decides(mixed_cohort, results, mode):
    def states():
        return (
            torch.get_rng_state().tolist(),
            pickle.dumps(np.random.get_state()),
            random.getstate(),
        )

    gradients = []
    for _ in range(2):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        arm = arm_of(mixed_cohort, tiny(), mode=mode)
        training_session._live.clear()  # killed
        session, before = session_of(arm, f"small-{mode}"), states()
        for _ in range(arm.steps):
            arm.set_gradients()
            session.optimizer.step()
        assert states() == before
        gradients.append(torch.cat([p.grad.flatten() for p in arm.model.parameters()]))
    assert torch.equal(*gradients) == (mode == "demo")


def test_the_self_test_asks_for_streams_of_its_own_seed_only(mixed_cohort, monkeypatch):
    arm, asked, stream = (
        arm_of(mixed_cohort, networks.resnet9(2, width=8, seed=1), mode="private"),
        set(),
        random_streams.random_stream,
    )
    monkeypatch.setattr(
        random_streams,
        "random_stream",
        lambda seed, name, step=0: asked.add(seed) or stream(seed, name, step),
    )
    self_test.run(arm, mixed_cohort)
    assert len(asked) == 1 and SEED not in asked


# ---- sampling


def draws(mode, n_units=60, q=0.25, steps=3000):
    """Who entered: (steps, n_units) of 0 and 1."""
    source, entered = sampling_and_noise.Randomness(mode, SEED, steps), np.zeros((steps, n_units))
    for step in range(steps):
        source.go_on_after(step)
        entered[step, source.draw_units(n_units, q)] = 1
    return entered


@pytest.mark.parametrize("mode", ["demo", "private"])
def test_all_pairs_of_units_are_drawn_independently_in_one_step_and_in_successive_ones(mode):
    entered = draws(mode)
    for first, second in (
        (entered, entered),
        (entered[::2], entered[1::2]),
        (entered[:-7:14], entered[7::14]),
    ):
        together, n = first.T @ second, len(first)
        pairs = together[np.triu_indices(60, 1)] if first is second else together
        # false alarm below 1e-6 in all
        low, high = stats.binom.ppf([1e-8 / 3600, 1 - 1e-8 / 3600], n, 0.25**2)
        assert low <= pairs.min() and pairs.max() <= high
    # Nobody is drawn more regularly than by chance, as in shuffled epochs: variance of 60 counts of
    # 3,000 draws.
    spread = ((entered.sum(0) - 750) ** 2 / (3000 * 0.25 * 0.75)).sum()
    assert stats.chi2.ppf(1e-8, 60) < spread < stats.chi2.isf(1e-8, 60)


@pytest.mark.parametrize("unit, n_units", [("patient", 40), ("image", 70)])
def test_the_rate_that_draws_is_the_one_promised_and_accounted_for(
    mixed_cohort, results, monkeypatch, unit, n_units
):
    drawn_at, accounted = [], []
    draw_units, spent, calibrate = (
        sampling_and_noise.Randomness.draw_units,
        accounting.epsilon_of_all,
        calibration.noise_multiplier_for,
    )
    monkeypatch.setattr(
        sampling_and_noise.Randomness,
        "draw_units",
        lambda self, n, q: drawn_at.append((n, q)) or draw_units(self, n, q),
    )
    monkeypatch.setattr(
        calibration,
        "noise_multiplier_for",
        lambda epsilon, delta, q, steps: (
            accounted.append((q, steps, delta)) or calibrate(epsilon, delta, q, steps)
        ),
    )
    monkeypatch.setattr(
        accounting,
        "epsilon_of_all",
        lambda runs, delta, *of: (
            accounted.extend((run.sample_rate, run.steps, delta) for run in runs)
            or spent(runs, delta, *of)
        ),
    )
    arm = arm_of(mixed_cohort, tiny(), unit=unit)
    assert (
        set(accounted) == {(10 / n_units, arm.steps, 1e-4)}
        and arm.promise.n_units == n_units
        and arm.steps == 3 * round(n_units / 10)
    )
    for step in range(arm.steps):
        accounted.clear()
        arm.set_gradients()
        assert 0 < arm.epsilon_spent() <= 5 and accounted == [(10 / n_units, step + 1, 1e-4)]
    assert drawn_at == [(n_units, 10 / n_units)] * arm.steps
    accounted.clear()
    ledger = arm.ledger()
    assert (
        set(accounted) == {(10 / n_units, arm.steps, 1e-4)}
        and ledger["sample_rate"] == 10 / n_units
    )
    assert ledger["epsilon_spent"]["PLD"] == arm.epsilon_spent()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("unit", range(4))
def test_every_unit_alone_contributes_at_most_the_clip_norm_within_an_autocast_of_the_caller(
    unit, autocast
):
    torch.manual_seed(unit)
    model, images, labels = (
        networks.resnet9(2, width=8, seed=1),
        torch.randn(unit + 1, 1, 32, 32),
        torch.ones(unit + 1, 2),
    )
    clipped = clipping.ClippedSum(model, 0.011)
    with image_loss.autocast(images.device, "bfloat16" if autocast else "float32"):
        norm = clipped.add(
            image_loss.image_losses(clipped.logits(images), labels),
            torch.zeros(unit + 1, dtype=torch.int64),
            1,
        )
        length = torch.cat([part.double().flatten() for part in clipped.take()]).norm()
    assert float(norm) > 0.011 and 0.011 * (1 - 1e-5) < float(length) <= 0.011 * (1 + 1e-5)


# ---- the promise


def settle(**changes):
    return private_arms.settle(
        **dict(
            unit="patient",
            n_units=1000,
            most_images=4,
            epsilon=2.0,
            delta=1e-5,
            clip_norm=1.0,
            epochs=5,
            expected_batch_size=100,
            max_images_per_patient=4,
            mode="private",
        )
        | changes
    )


@pytest.mark.parametrize(
    "run", [(1.3, 0.1, 100, 1), (0.7, 0.02, 300, 1), (5.0, 1.0, 20, 1), (1.5, 0.05, 40, 4)]
)
def test_epsilon_is_rounded_up_so_that_its_delta_is_kept(run):
    run = accounting.Run(*run)
    epsilon = accounting.epsilon_of((run,), 1e-5)
    assert (
        accounting.delta_of((run,), epsilon)
        <= 1e-5
        < accounting.delta_of((run,), epsilon * (1 - 2e-6))
    )


def test_a_noise_multiplier_that_keeps_the_budget_of_one_epoch_only_is_refused():
    of_one, of_all = (calibration.noise_multiplier_for(2.0, 1e-5, 0.1, steps) for steps in (10, 50))
    between = (of_one + of_all) / 2
    assert (
        accounting.epsilon_spent(between, 0.1, 10, 1e-5)
        < 2
        < accounting.epsilon_spent(between, 0.1, 50, 1e-5)
    )
    with pytest.raises(
        errors.InputError,
        match="NOISE_MULTIPLIER that keeps EPSILON = 2 in private mode; got .* spends",
    ):
        settle(noise_multiplier=between)
    assert settle(noise_multiplier=of_all).noise_multiplier == of_all
    assert settle(noise_multiplier=between, mode="demo").noise_multiplier == between


@pytest.mark.parametrize("epsilon", [math.nan, math.inf, 0.0, -1.0, 1e6])
def test_private_mode_has_a_finite_budget_whatever_noise_is_given(epsilon):
    with pytest.raises(errors.InputError, match="EPSILON"):
        settle(epsilon=epsilon, noise_multiplier=0.0)


@pytest.mark.parametrize("cap", [1, 2, 4])
def test_delta_at_image_level_is_set_against_the_images_that_are_trained_on(mixed_cohort, cap):
    of_patient = (
        mixed_cohort.table[mixed_cohort.table["split"] == "train"].groupby("patient_id").size()
    )
    # not all images of the cohort, nor the patients unless cap is 1
    n_images = int(of_patient.clip(upper=cap).sum())
    with pytest.raises(errors.InputError, match=f"DELTA below 1 / {n_images} training images"):
        arm_of(mixed_cohort, tiny(), unit="image", max_images_per_patient=cap, delta=1 / n_images)
    arm = arm_of(
        mixed_cohort, tiny(), unit="image", max_images_per_patient=cap, delta=0.999 / n_images
    )
    assert (
        arm.promise.n_units == n_images
        and arm.ledger()["n_units"] == n_images
        and "weak promise" in arm.warning
    )
