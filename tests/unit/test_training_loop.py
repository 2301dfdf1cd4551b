"""The loop of both arms.

What enters a step, what leaves it, and that a resumed run equals the uninterrupted one.
"""

import dataclasses
import math

import numpy as np
import private_arms
import pytest
import torch

from helpers.analysis import metrics
from helpers.core import errors, fingerprints, paths, random_streams, run_records
from helpers.privacy import accounting, statement
from helpers.training import (
    finished_runs,
    image_augmentation,
    image_loss,
    learning_rate,
    loop,
    network_input,
    networks,
    ordinary_step,
    prediction,
    starts,
    training_session,
    training_set,
    weight_files,
)


def private_arm(cohort, model, **changes):
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
            mode="demo",
            seed=4,
            lineage=[],
        )
        | changes
    )
    unit = settings.pop("unit", "patient")
    data = training_set.TrainingSet.of(
        cohort, unit, settings["max_images_per_patient"] if unit == "image" else None
    )
    return private_arms.private_arm(data, model, **settings)


def weights(session):
    """The hash of a session's weights."""
    return weight_files.weights_hash(session.model.state_dict())


def session_of(cohort, kind, averaging=0.0, trained="all", **changes):
    model = networks.resnet9(2, width=8, seed=1)
    networks.train_only(model, trained)
    if kind == "baseline":
        arm = ordinary_step.BaselineArm(
            training_set.TrainingSet.of(cohort, "image"), model, channels=1, batch_size=16, seed=4
        )
    else:
        arm = private_arm(cohort, model, **changes)
    return training_session.Session(
        f"small-{kind}",
        model,
        arm,
        epochs=3,
        learning_rate=3e-3,
        fingerprint="same",
        averaging=averaging,
    )


def keyed_noise(arm, step):
    """The noise of a demo step by its documented keys, one tensor a parameter.

    Chunk k is the stream "noise k" of the step.
    """
    sizes = [p.numel() for p in arm.clipped.parameters]
    chunks = [
        random_streams.random_stream(4, f"noise {k}", step).standard_normal(
            len(chunk), dtype=np.float32
        )
        for k, chunk in enumerate(np.array_split(np.zeros(sum(sizes)), 8))
    ]
    deviation = np.float32(arm.promise.noise_multiplier * arm.promise.clip_norm)
    flat = torch.from_numpy(np.concatenate(chunks) * deviation)
    return [part.view_as(p) for part, p in zip(flat.split(sizes), arm.clipped.parameters)]


def test_training_set_gathers_the_images_of_a_patient(small_cohort):
    data = training_set.TrainingSet.of(small_cohort, "patient")
    train = small_cohort.table[small_cohort.table["split"] == "train"].reset_index(drop=True)
    assert len(data.units) == 40 and sorted(np.concatenate(data.units)) == list(range(len(train)))
    assert all(train["patient_id"].iloc[unit].nunique() == 1 for unit in data.units)
    assert len(training_set.TrainingSet.of(small_cohort, "image").units) == len(train)


def test_image_losses_average_over_known_findings_only():
    logits = torch.tensor([[0.0, 2.0], [0.0, 2.0], [1.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, float("nan")], [float("nan"), float("nan")]])
    # ln 2 = 0.6931 for the first finding; ln(1 + e^2) = 2.1269 for the second; none known: 0
    expected = torch.tensor([(0.693147 + 2.126928) / 2, 0.693147, 0.0])
    torch.testing.assert_close(image_loss.image_losses(logits, labels), expected)


def test_shift_moves_whole_images_within_the_limit():
    image = np.zeros((1, 9, 9), np.uint8)
    image[0, 4, 4] = 1
    moves = np.array([[row, column] for row in (-2, 0, 1) for column in (-1, 0, 2)])
    moved = image_augmentation.shift(np.repeat(image, 9, axis=0), moves)
    assert [np.argwhere(one)[0].tolist() for one in moved] == (moves + 4).tolist()
    edge = np.arange(9, dtype=np.uint8)[None, None].repeat(9, 1)
    assert image_augmentation.shift(edge, np.array([[0, 2]]))[0, 0].tolist() == [
        0,
        0,
        0,
        1,
        2,
        3,
        4,
        5,
        6,
    ]  # the edge is repeated


def test_moves_reach_a_sixteenth_of_the_image_in_both_directions(small_cohort):
    moves = training_set.TrainingSet.of(small_cohort, "image").moves(
        300, random_streams.random_stream(0, "t")
    )
    assert {tuple(move) for move in moves.tolist()} == {
        (row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)
    }


@pytest.mark.parametrize("leaving", [0, 17, 39])
def test_a_patient_who_leaves_moves_the_sum_by_at_most_the_clip_norm(
    small_cohort, results, monkeypatch, leaving
):
    # Everybody enters; noise off. What happens to the others' images must not depend on who else
    # was drawn.
    sums = []
    for absent in (None, leaving):
        session = session_of(small_cohort, "dp", max_images_per_patient=8)
        drawn = np.array([unit for unit in range(40) if unit != absent])
        monkeypatch.setattr(session.arm.randomness, "draw_units", lambda *_, drawn=drawn: drawn)
        monkeypatch.setattr(
            session.arm.randomness,
            "noise",
            lambda parameters, *_: [torch.zeros_like(p) for p in parameters],
        )
        session.arm.go_on_after(3)
        session.arm.set_gradients()
        sums.append([p.grad * 10 for p in session.model.parameters()])
    moved = torch.sqrt(sum((a - b).square().sum() for a, b in zip(*sums)))
    assert 0 < float(moved) <= 0.7 * (1 + 1e-4)


def test_private_step_is_clipped_sum_plus_noise_over_the_expected_number(small_cohort, results):
    in_pieces, whole = [], []
    for size, gradients in ((5, in_pieces), (10_000, whole)):
        arm = private_arm(
            small_cohort, networks.resnet9(2, width=8, seed=1), physical_batch_size=size
        )
        arm.go_on_after(2)
        drawn = arm.draw()
        arm.set_gradients()
        gradients += [p.grad for p in arm.model.parameters()]
    for pieces, one in zip(in_pieces, whole):
        # one noise, however many pieces
        torch.testing.assert_close(pieces, one, rtol=1e-3, atol=1e-6)
    without_noise = [gradient * 10 - added for gradient, added in zip(whole, keyed_noise(arm, 2))]
    length = torch.sqrt(sum(g.square().sum() for g in without_noise))
    assert 0 < float(length) <= 0.7 * len(drawn) * (1 + 1e-4)


def test_an_empty_draw_still_adds_noise_and_counts_as_a_step(small_cohort, results, monkeypatch):
    session = session_of(small_cohort, "dp")
    monkeypatch.setattr(session.arm.randomness, "draw_units", lambda *_: np.array([], dtype=int))
    session.arm.set_gradients()
    flat = torch.cat([p.grad.flatten() for p in session.model.parameters()])
    assert float(flat.std()) == pytest.approx(
        session.arm.promise.noise_multiplier * 0.7 / 10, rel=0.05
    )
    assert session.step == 1
    loop.train_one_epoch(session)
    assert session.step == session.arm.steps_per_epoch == 4
    assert session.arm.epsilon_spent() > 0


def test_views_of_an_image_are_averaged_like_images(small_cohort, results, monkeypatch):
    # Three equal views of every image are the same mean as one; unequal ones are not.
    monkeypatch.setattr(
        training_set.TrainingSet, "moves", lambda self, n, stream: np.zeros((n, 2), int)
    )
    gradients = []
    for views in (1, 3):
        arm = private_arm(
            small_cohort,
            networks.resnet9(2, width=8, seed=1),
            views_per_image=views,
            noise_multiplier=0.0,
            physical_batch_size=50,
            clip_norm=0.05,
        )
        arm.go_on_after(1)
        arm.set_gradients()
        gradients.append([p.grad for p in arm.model.parameters()])
    assert arm.promise.views_per_image == 3
    for one, three in zip(*gradients):
        torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-6)


def test_an_ordinary_step_in_pieces_is_the_step(small_cohort):
    gradients = []
    for size in (256, 7):
        model = networks.resnet9(2, width=8, seed=1)
        arm = ordinary_step.BaselineArm(
            training_set.TrainingSet.of(small_cohort, "image"),
            model,
            channels=1,
            batch_size=30,
            seed=0,
            physical_batch_size=size,
        )
        loss, n = arm.set_gradients()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert n == 30 and loss > 0
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_views_of_one_image_move_differently(small_cohort, results):
    arm = private_arm(small_cohort, networks.resnet9(2, width=8, seed=1), views_per_image=40)
    seen = []
    batch = arm.data.batch
    arm.data.batch = lambda positions, moves, *rest: (
        seen.append((positions, moves)) or batch(positions, moves, *rest)
    )
    arm.add_units({3: np.repeat(arm.data.units[3][:1], 40)}, step=0)
    ((positions, moves),) = seen
    assert len(set(positions)) == 1 and len(np.unique(moves, axis=0)) > 4


def test_image_level_keeps_at_most_k_images_of_a_patient_whoever_else_is_there(small_cohort):
    data = training_set.TrainingSet.of(small_cohort, "image", max_images_per_patient=2, seed=5)
    of_row = small_cohort.table["patient_id"].to_numpy()
    counts = np.unique(of_row[data.rows], return_counts=True)[1]
    assert counts.max() == 2 and len(data.units) == len(data.rows)
    kept = set(data.rows)
    small_cohort.table.loc[small_cohort.table["patient_id"] == "p3", "split"] = "valid"
    fewer = set(
        training_set.TrainingSet.of(small_cohort, "image", max_images_per_patient=2, seed=5).rows
    )
    assert fewer == kept - set(np.flatnonzero(of_row == "p3"))


def test_pos_weight_is_negatives_over_positives_and_public_where_asked(
    small_cohort, results, monkeypatch
):
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, float("nan")], [0.0, 0.0]])
    assert image_loss.pos_weight(labels).tolist() == [3.0, 1.0]  # no positive of the second: 1
    loss = image_loss.image_losses(
        torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([3.0, 1.0])
    )
    assert float(loss) == pytest.approx((3 + 1) * math.log(2) / 2)
    data = training_set.TrainingSet.of(small_cohort, "patient")
    assert starts.positive_weight("none", data, small_cohort, "x") == ("none", None)
    assert starts.positive_weight("private", data, small_cohort, "x")[0] == "private labels"
    public = dataclasses.replace(
        small_cohort, name="public", findings=["dull"], canonical={"dull": "dull"}
    )
    public.table = small_cohort.table.assign(
        dull=[1.0, 0.0, 0.0, 0.0] * (len(small_cohort.table) // 4)
        + [0.0] * (len(small_cohort.table) % 4)
    )
    monkeypatch.setattr(starts.cohorts, "read", lambda name: public)
    source, weight = starts.positive_weight("public", data, small_cohort, "synthetic_cxr_public")
    train = public.table[public.table["split"] == "train"]["dull"]
    assert (
        source == "public"
        and weight[0] == 1
        and weight[1] == pytest.approx((train == 0).sum() / (train == 1).sum())
    )
    with pytest.raises(errors.InputError, match="PRETRAIN to name public data"):
        starts.positive_weight("public", data, small_cohort, "none")


def test_an_interrupted_step_leaves_nothing_to_the_next(small_cohort, results, monkeypatch):
    first, arm = (
        private_arm(small_cohort, networks.resnet9(2, width=8, seed=1), noise_multiplier=0.0)
        for _ in range(2)
    )
    first.set_gradients()
    clean = [p.grad for p in first.model.parameters()]
    add, calls = arm.clipped.add, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return add(*arguments)

    monkeypatch.setattr(arm.clipped, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        arm.set_gradients()
    assert arm.steps_done == 0  # nothing was released
    arm.set_gradients()
    assert all(torch.equal(p.grad, wanted) for p, wanted in zip(arm.model.parameters(), clean))


def test_no_gradient_but_the_noisy_mean_reaches_the_optimizer(small_cohort, results):
    model = networks.resnet9(2, width=8, seed=1)
    model.stem.requires_grad_(False)
    arm = private_arm(small_cohort, model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # of something before
    arm.set_gradients()
    assert (
        all(p.grad is None for p in model.stem.parameters()) and model.head.weight.grad is not None
    )
    model.stem.requires_grad_(True)
    with pytest.raises(errors.InputError, match="some frozen or unfrozen since"):
        arm.set_gradients()


def test_a_step_is_counted_before_it_is_applied(small_cohort, results, monkeypatch):
    session = session_of(small_cohort, "dp")

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(session.optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.train_one_epoch(session)
    assert session.step == 1


def test_the_session_has_the_epochs_of_the_noise(small_cohort, results):
    arm = private_arm(small_cohort, networks.resnet9(2, width=8), epochs=1)
    with pytest.raises(errors.InputError, match="EPOCHS for which the noise was calibrated"):
        training_session.Session(
            "small-long", arm.model, arm, epochs=3, learning_rate=1e-3, fingerprint="same"
        )


def test_images_of_a_patient_beyond_the_cap_are_refused_at_image_level(small_cohort):
    data = training_set.TrainingSet.of(small_cohort, "image")
    assert data.most_images == 4 and data.unit == "image"
    with pytest.raises(
        errors.InputError, match="MAX_IMAGES_PER_PATIENT = 3 training images of any patient; got 4"
    ):
        private_arms.private_arm(
            data,
            networks.resnet9(2, width=8),
            channels=1,
            epsilon=5.0,
            delta=1e-4,
            clip_norm=1.0,
            epochs=1,
            expected_batch_size=10,
            max_images_per_patient=3,
            physical_batch_size=9,
            mode="demo",
            seed=0,
        )


def test_an_image_that_leaves_changes_at_most_one_other_of_its_patient(small_cohort):
    table = small_cohort.table
    kept = set(
        table["image_id"].iloc[training_set.TrainingSet.of(small_cohort, "image", 2, seed=5).rows]
    )
    for row in np.flatnonzero(table["patient_id"] == table["patient_id"].value_counts().index[0]):
        fewer = dataclasses.replace(
            small_cohort,
            table=table.assign(
                split=np.where(np.arange(len(table)) == row, "none", table["split"])
            ),
        )
        left = set(
            table["image_id"].iloc[training_set.TrainingSet.of(fewer, "image", 2, seed=5).rows]
        )
        assert len(kept - left) <= 1 and len(left - kept) <= 1


def test_private_labels_in_the_loss_void_the_guarantee(small_cohort):
    arm = private_arm(
        small_cohort,
        networks.resnet9(2, width=8),
        mode="private",
        weighting=("private labels", torch.ones(2)),
    )
    assert arm.ledger()["guarantee"] == "not valid (pos_weight from private labels)"


def test_the_sampling_rate_is_of_units_and_the_accountant_knows_it(small_cohort, results):
    for unit, n_units in (
        ("patient", 40),
        ("image", len(training_set.TrainingSet.of(small_cohort, "image", 2).rows)),
    ):
        arm = private_arm(small_cohort, networks.resnet9(2, width=8), unit=unit)
        assert arm.sample_rate == 10 / n_units == arm.ledger()["sample_rate"]
        spent = accounting.epsilon_spent(
            arm.promise.noise_multiplier, 10 / n_units, arm.steps, 1e-4
        )
        mean = np.mean(
            [
                len(private_arm(small_cohort, arm.model, unit=unit, mode="private").draw())
                for _ in range(400)
            ]
        )
        arm.go_on_after(arm.steps)
        assert arm.epsilon_spent() == spent and 0.99 * 5 <= spent <= 5
        assert mean == pytest.approx(10, abs=5 * math.sqrt(10 / 400))


def test_a_unit_never_enters_with_more_images_than_allowed(small_cohort, results):
    arm = session_of(small_cohort, "dp").arm
    drawn = [
        unit
        for _ in range(12)
        for unit in (arm.draw(), arm.randomness.noise([torch.zeros(1)], 1.0))[0].values()
    ]
    assert max(map(len, drawn)) == 2 and {len(u) for u in arm.data.units} == {1, 2, 3, 4}


@pytest.mark.parametrize("kind", ["baseline", "dp"])
def test_a_resumed_run_equals_the_uninterrupted_one(small_cohort, results, kind):
    whole = session_of(small_cohort, kind)
    losses = [loop.train_one_epoch(whole) for _ in range(3)]
    first = session_of(small_cohort, kind)
    loop.train_one_epoch(first)
    first.end_epoch(loss=0.5)
    resumed = session_of(small_cohort, kind)
    assert resumed.history == [{"epoch": 1, "loss": 0.5}]
    assert resumed.resumed and resumed.epoch == 1 and list(loop.epochs_left(resumed)) == [2, 3]
    assert [loop.train_one_epoch(resumed) for _ in range(2)] == losses[1:]
    assert weights(resumed) == weights(whole)
    if kind == "dp":
        assert resumed.arm.diagnostics == whole.arm.diagnostics
        assert resumed.arm.ledger() == whole.arm.ledger()


def test_a_resumed_private_run_goes_on_in_steps_and_ledger_with_fresh_noise(small_cohort, results):
    first = session_of(small_cohort, "dp", mode="private")
    loop.train_one_epoch(first)
    first.end_epoch(epsilon_spent=first.arm.epsilon_spent())
    stored = torch.load(first.checkpoint, weights_only=True)
    assert not {"generator", "rng", "randomness"} & set(stored) and stored["loss_sum"] == 0
    ends = []
    for _ in range(2):  # twice from the same checkpoint
        resumed = session_of(small_cohort, "dp", mode="private")
        assert (
            resumed.resumed
            and resumed.step == 4
            and resumed.arm.epsilon_spent() == first.history[0]["epsilon_spent"]
        )
        loop.train_one_epoch(resumed)
        training_session._live.clear()  # killed before its next checkpoint
        assert resumed.step == 8 and resumed.arm.ledger()["steps_done"] == 8
        ends.append(weights(resumed))
    assert ends[0] != ends[1]


def test_a_checkpoint_of_other_parameters_is_not_taken_up(small_cohort, results):
    session = session_of(small_cohort, "baseline")
    session.fingerprint = "other"
    loop.train_one_epoch(session)
    session.save()
    assert not session_of(small_cohort, "baseline").resumed


def test_private_mode_shows_no_diagnostics_and_repeats_no_noise(small_cohort, results):
    first = session_of(small_cohort, "dp", mode="private")
    assert math.isnan(loop.train_one_epoch(first))
    training_session._live.clear()  # killed
    # nothing was written: the run begins again
    second = session_of(small_cohort, "dp", mode="private")
    assert second.step == 0 and math.isnan(loop.train_one_epoch(second))
    second.save()
    # no realised batch, no loss on disk
    assert torch.load(second.checkpoint, weights_only=True)["n_images"] == 0
    assert first.arm.diagnostics == [] and weights(first) != weights(second)
    assert first.arm.ledger()["guarantee"] == "valid"


def test_baseline_learns_what_can_be_seen_and_the_loss_is_a_mean_per_image(small_cohort, results):
    # Plain enough to be learnt on every machine: floats add up in another order there, and training
    # carries that on.
    small_cohort.images[:] = small_cohort.images // 8
    small_cohort.images[small_cohort.table["bright"] == 1, :, :8] += 150
    model = networks.resnet9(2, width=8, seed=2)
    arm = ordinary_step.BaselineArm(
        training_set.TrainingSet.of(small_cohort, "image"), model, channels=1, batch_size=16, seed=4
    )
    session = training_session.Session(
        "small-learns", model, arm, epochs=40, learning_rate=3e-3, fingerprint="same"
    )
    losses = [loop.train_one_epoch(session) for _ in loop.epochs_left(session)]
    assert (
        losses[0] == pytest.approx(math.log(2), abs=0.35) and min(losses[-10:]) < 0.85 * losses[0]
    )
    predictions = prediction.predictions_of(model, small_cohort, channels=1)
    assert set(predictions["split"]) == {"valid", "test"}  # no training image is predicted
    table = metrics.auroc_by_finding({"run": predictions}, "test").set_index("finding")["run"]
    assert table["bright"] > 0.85 and table["bright"] > table["dull"] + 0.1


def test_the_finished_model_is_the_running_mean_of_its_weights(small_cohort, results):
    def weights_after_each_step(averaging):
        (paths.run_dir("small-baseline") / "checkpoint.pt").unlink(missing_ok=True)
        session, seen = session_of(small_cohort, "baseline", averaging=averaging), []
        update = session.average
        session.average = lambda: (seen.append(session.trained[0].detach().clone()), update())
        for _ in loop.epochs_left(session):
            loop.train_one_epoch(session)
        return seen, session.trained[0].detach()

    seen, last = weights_after_each_step(0.0)
    assert torch.equal(seen[-1], last)
    expected = networks.resnet9(2, width=8, seed=1).stem[0].weight.detach()
    for step, weight in enumerate(seen, 1):
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(weights_after_each_step(0.5)[1], expected)


def test_frozen_parts_stay_as_they_are_and_the_rest_is_trained(small_cohort, results):
    session = session_of(small_cohort, "private", trained="norms_and_head")
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    loop.train_one_epoch(session)
    moved = {
        name
        for name, value in session.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert (
        moved == {name for name, p in session.model.named_parameters() if p.requires_grad}
        and "stem.0.weight" not in moved
    )


def test_strong_variation_changes_each_image_by_itself_and_keeps_its_side():
    images = torch.zeros(6, 1, 48, 48)
    images[:, :, 16:30, 6:18] = 1  # on the viewer's left
    images = (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), keepdim=True)
    varied = image_augmentation.vary(
        images, image_augmentation.numbers(6, 2, np.random.default_rng(0))
    )
    assert varied.shape == images.shape and torch.isfinite(varied).all()
    assert not torch.allclose(varied[0], varied[1], atol=0.1)
    assert (varied[..., :24].mean((1, 2, 3)) > varied[..., 24:].mean((1, 2, 3)) + 0.3).all()


def test_strong_variation_is_used_where_asked(small_cohort, monkeypatch):
    used = []
    monkeypatch.setattr(
        image_augmentation, "vary", lambda images, numbers: used.append(len(images)) or images
    )
    for augmentation, expected in (("shift", []), ("strong", [16])):
        arm = ordinary_step.BaselineArm(
            training_set.TrainingSet.of(small_cohort, "image"),
            networks.resnet9(2, width=8),
            channels=1,
            batch_size=16,
            seed=0,
            augmentation=augmentation,
        )
        arm.set_gradients()
        assert used == expected


def test_an_inverted_image_is_the_input_of_the_inverted_film():
    films = np.random.default_rng(0).integers(0, 256, (400, 8, 8)).astype(np.uint8)
    images, of_inverted = network_input.to_input(films, 3), network_input.to_input(255 - films, 3)
    everyone = image_augmentation.invert(images, np.full(400, True))
    torch.testing.assert_close(everyone, of_inverted, atol=1e-5, rtol=0)
    none = image_augmentation.invert(images, np.full(400, False))
    assert torch.equal(none, images)
    chosen = np.arange(400) % 4 == 1
    some = image_augmentation.invert(images, chosen)
    is_inverted = torch.tensor([torch.equal(one, -other) for one, other in zip(some, images)])
    assert torch.equal(is_inverted, torch.from_numpy(chosen))
    assert torch.equal(some[~is_inverted], images[~is_inverted])
    volumes = network_input.to_input(np.stack([films[:4]] * 2))
    assert torch.equal(image_augmentation.invert(volumes, np.full(2, True)), -volumes)


def inverted_by_image(cohort, monkeypatch, share, physical_batch_size, steps):
    """Whether each image of each epoch of a baseline is shown inverted; its last gradient."""
    model = networks.resnet9(2, width=8, seed=1)
    arm = ordinary_step.BaselineArm(
        training_set.TrainingSet.of(cohort, "image"),
        model,
        channels=1,
        batch_size=16,
        seed=4,
        inverted=share,
        physical_batch_size=physical_batch_size,
    )
    invert, flags, shown = image_augmentation.invert, [], {}

    def spied(images, *arguments):
        made = invert(images, *arguments)
        flags.extend((made != images).flatten(1).any(1).tolist())
        return made

    with monkeypatch.context() as patch:
        patch.setattr(image_augmentation, "invert", spied)
        for step in range(steps):
            flags.clear()
            positions = arm.draw(step)
            arm.set_gradients()
            epoch = step // arm.steps_per_epoch
            shown |= {(epoch, place): flag for place, flag in zip(positions.tolist(), flags)}
    return shown, model.head.weight.grad


def test_public_films_are_inverted_anew_in_each_epoch(small_cohort, monkeypatch):
    steps = 2 * ((small_cohort.table["split"] == "train").sum() // 16)
    shown, gradient = inverted_by_image(small_cohort, monkeypatch, 0.25, 100, steps)
    assert 0.1 < np.mean(list(shown.values())) < 0.4
    of_both = [place for epoch, place in shown if epoch == 0 and (1, place) in shown]
    changed = [shown[0, place] != shown[1, place] for place in of_both]
    assert 0.15 < np.mean(changed) < 0.6  # 2 x 1/4 x 3/4
    # how many are in memory at a time changes nothing
    again, same = inverted_by_image(small_cohort, monkeypatch, 0.25, 5, steps)
    assert again == shown
    torch.testing.assert_close(same, gradient, atol=1e-6, rtol=1e-4)


def test_no_film_is_inverted_unless_asked_for_and_a_share_is_no_more_than_all(
    small_cohort, monkeypatch
):
    shown, gradient = inverted_by_image(small_cohort, monkeypatch, 0.0, 100, 1)
    assert shown == {}
    arm = ordinary_step.BaselineArm(
        training_set.TrainingSet.of(small_cohort, "image"),
        networks.resnet9(2, width=8, seed=1),
        channels=1,
        batch_size=16,
        seed=4,
    )
    arm.set_gradients()
    assert torch.equal(arm.model.head.weight.grad, gradient)
    with pytest.raises(
        errors.InputError, match="PRETRAIN_INVERTED to be a number in .0, 1.; got 2"
    ):
        inverted_by_image(small_cohort, monkeypatch, 2, 100, 0)


def test_learning_rate_warms_up_and_ends_low():
    rates = [learning_rate.learning_rate_at(step, 100, 0.3) for step in range(100)]
    assert (
        rates[0] == pytest.approx(0.3 / 5, rel=0.01)
        and max(rates) <= 0.3
        and rates[-1] < 0.06 * 0.3
    )


def test_finish_writes_a_whole_run_and_a_flipped_byte_is_noticed(small_cohort, results):
    model = networks.resnet9(2, width=8, seed=1)
    finished_runs.finish(
        model,
        small_cohort,
        1,
        run="small-baseline-seed0",
        arm="baseline",
        seed=0,
        parameters={},
        seconds=1.0,
        fingerprint="same",
    )
    run = "small-baseline-seed0"
    assert (
        training_session.is_done(run, "same")
        and not training_session.is_done(run, "other")
        and run_records.runs_of("small") == [run]
    )
    assert {p.name for p in paths.run_dir(run).iterdir()} == {
        "predictions.parquet",
        "record.json",
        "weights.safetensors",
    }
    path = paths.run_dir(run) / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert (
        not run_records.is_whole(run)
        and fingerprints.file_hash(path)
        != run_records.read_record(run)["files"]["weights.safetensors"]
    )


def test_a_finished_private_run_is_taken_up_and_not_trained_again(small_cohort, results):
    def begin():
        model = networks.resnet9(2, width=8, seed=1)
        arm = private_arm(small_cohort, model, mode="private")
        return training_session.Session(
            "small-dp-eps5-seed4", model, arm, epochs=3, learning_rate=3e-3
        )

    first = begin()
    for _ in loop.epochs_left(first):
        loop.train_one_epoch(first)
        first.end_epoch(valid_auroc=0.5)
    finished_runs.finish(
        first.model,
        small_cohort,
        1,
        run=first.run,
        arm="dp",
        seed=4,
        parameters={},
        seconds=1.0,
        fingerprint="same",
        ledger=first.arm.ledger(),
        history=first.history,
        private_run=first.private,
    )
    again = begin()
    assert again.resumed and list(loop.epochs_left(again)) == [] and again.history == first.history
    assert weights(again) == weights(first) and run_records.is_whole(first.run)


def test_weights_trained_on_the_private_patients_are_refused_as_a_start(small_cohort, results):
    finished_runs.finish(
        networks.resnet9(2, width=8),
        small_cohort,
        1,
        run="small-baseline-seed0",
        arm="baseline",
        seed=0,
        parameters={},
        seconds=1.0,
        fingerprint="same",
    )
    with pytest.raises(errors.InputError, match="has not seen small"):
        starts.weights_to_start_from(
            str(paths.run_dir("small-baseline-seed0") / "weights.safetensors"), small_cohort
        )


def test_the_public_model_of_another_pretraining_is_refused(small_cohort, results):
    finished_runs.finish(
        networks.resnet9(2, width=8),
        small_cohort,
        1,
        run="small-zero_shot",
        arm="zero_shot",
        seed=0,
        parameters={"PRETRAIN": "other"},
        seconds=1.0,
        fingerprint="same",
    )
    assert starts.weights_to_start_from("other", small_cohort).known == ["bright", "dull"]
    with pytest.raises(errors.InputError, match="notebook 02 again"):
        starts.weights_to_start_from("public", small_cohort)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"delta": 0.03}, "DELTA below 1 / 40"),
        ({"clip_norm": -1}, "CLIP_NORM"),
        ({"expected_batch_size": 41}, "EXPECTED_BATCH_SIZE of at most 40"),
        ({"epsilon": 0}, "EPSILON"),
        ({"max_images_per_patient": 0}, "MAX_IMAGES"),
        ({"views_per_image": 0}, "VIEWS_PER_IMAGE"),
        ({"mode": "private", "noise_multiplier": 0.0}, "NOISE_MULTIPLIER that keeps EPSILON = 5"),
        ({"noise_multiplier": -1.0}, "NOISE_MULTIPLIER"),
    ],
)
def test_private_arm_refuses_what_promises_nothing(small_cohort, changes, message):
    with pytest.raises(errors.InputError, match=message):
        private_arm(small_cohort, networks.resnet9(2, width=8), **changes)


def test_training_set_refuses_a_cohort_without_training_images(small_cohort):
    small_cohort.table["split"] = "test"
    with pytest.raises(errors.InputError, match="training images"):
        training_set.TrainingSet.of(small_cohort, "patient")


def test_where_nobody_knows_whose_an_image_is_only_images_are_units_and_the_ledger_says_so(
    small_cohort,
):
    small_cohort.table["patient_id"] = small_cohort.table["image_id"]
    small_cohort.record["patients"] = "unknown"
    model = networks.resnet9(2, width=8, seed=1)
    with pytest.raises(errors.InputError, match="PRIVACY_UNIT = 'image' for small.*got 'patient'"):
        private_arm(small_cohort, model)
    entries = private_arm(small_cohort, model, unit="image", mode="private").ledger()
    said = entries["not_covered"]["several images of one person"]
    assert "do not say whose an image is" in said
    assert "nobody knows who has several" in statement.privacy_statement(entries)
    small_cohort.record.pop("patients")
    known = private_arm(small_cohort, model, unit="image").ledger()
    assert "several images of one person" not in known["not_covered"]
