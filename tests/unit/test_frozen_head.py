"""The head alone on frozen features: the private step of the whole network, without its trunk."""

import copy
import dataclasses

import numpy as np
import private_arms
import pytest
import torch

from helpers.core import errors, paths
from helpers.privacy import promise
from helpers.training import (
    frozen_head,
    image_loss,
    loop,
    network_input,
    networks,
    private_identity,
    self_test,
    starts,
    training_session,
    training_set,
    weight_files,
)

HEAD_STEPS = promise.HeadSteps(steps=6, clip_norm=0.2, share=0.3)


def network_of(head="halves", trained="head", seed=1):
    """A small network, of which one part is trained."""
    model = networks.resnet9(["bright", "dull"], width=8, seed=seed, head=head, lateral=["bright"])
    networks.train_only(model, trained)
    return model


def arm_of(cohort, model, **changes):
    settings = (
        dict(
            epsilon=5.0,
            delta=1e-4,
            clip_norm=0.2,
            epochs=6,
            expected_batch_size=40,
            max_images_per_patient=3,
            physical_batch_size=7,
            mode="demo",
            seed=4,
            lineage=[],
        )
        | changes
    )
    return private_arms.private_arm(
        training_set.TrainingSet.of(cohort, "patient"), model, **settings
    )


def session_of(arm, run="head", **changes):
    settings = dict(epochs=6, learning_rate=3e-3, head_learning_rate=2.0, fingerprint="same")
    return training_session.Session(run, arm.network, arm, **(settings | changes))


def two_parts(cohort, **changes):
    """A session of all weights, then the head: 4 passes of 4 steps, then 6 steps."""
    arm = arm_of(
        cohort,
        network_of(trained="all"),
        epochs=4,
        expected_batch_size=10,
        clip_norm=0.7,
        head=HEAD_STEPS,
        **changes,
    )
    return session_of(arm, epochs=4, averaging=0.9)


def train(session, epochs=None):
    for _ in list(loop.epochs_left(session))[:epochs]:
        loop.train_one_epoch(session)
    return {name: value.clone() for name, value in session.model.state_dict().items()}


@pytest.mark.parametrize("head", ["pooled", "sided", "levels", "halves"])
def test_the_clipped_sum_of_the_head_is_that_of_the_network_with_a_frozen_trunk(small_cohort, head):
    arm = arm_of(small_cohort, network_of(head))
    drawn = dict(enumerate(arm.data.units[:9]))
    _, norms = arm.add_units(drawn, step=0)
    total = torch.cat([part.flatten() for part in arm.clipped.take()]).double()
    exact, expected = copy.deepcopy(arm.network).double(), 0.0
    for unit, images in drawn.items():
        films = torch.from_numpy(np.array(small_cohort.images[arm.data.rows[images]]))
        losses = image_loss.image_losses(
            exact(network_input.to_input(films).double()), arm.data.labels[images]
        )
        gradient = torch.autograd.grad(losses.mean(), list(exact.head.parameters()))
        gradient = torch.cat([part.flatten() for part in gradient])
        torch.testing.assert_close(norms[unit].double(), gradient.norm(), rtol=1e-3, atol=0)
        expected = expected + gradient * min(1.0, 0.2 / float(gradient.norm()))
    assert float((total - expected).norm() / expected.norm()) < 1e-3


def test_training_the_head_leaves_the_trunk_bit_for_bit(small_cohort, results):
    session = session_of(arm_of(small_cohort, network_of()))
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    after = train(session)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"} and session.step == 6
    assert session.arm.data._features.shape == (len(session.arm.data.rows), 2, 416)


def test_every_patient_enters_every_step_of_the_head(small_cohort):
    arm = arm_of(small_cohort, network_of())
    assert arm.sample_rate == 1 and list(arm.draw()) == list(range(40))


def test_all_weights_come_first_and_then_the_head_on_features_of_the_trained_trunk(
    small_cohort, results
):
    session = two_parts(small_cohort)
    start = {name: value.clone() for name, value in session.model.state_dict().items()}
    middle = train(session, 4)
    assert session.step == 16 and not torch.equal(start["stem.0.weight"], middle["stem.0.weight"])
    train(session, 1)
    arm = session.arm.head_arm
    features = frozen_head.features_of(session.model, arm.data.images, arm.data.rows, 1)
    torch.testing.assert_close(arm.data._features, features)
    after = train(session)
    changed = {name for name in middle if not torch.equal(middle[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert session.step == session.steps == session.arm.steps_done == 22


def test_the_head_reads_the_trained_trunk_whoever_asked_before(small_cohort, results):
    session = two_parts(small_cohort)
    arm = session.arm.head_arm
    places = np.array([0, 1]), None, 1, torch.device("cpu")
    before, _ = arm.data.batch(*places)
    train(session)
    after, _ = arm.data.batch(*places)
    assert not torch.equal(before, after)
    features = frozen_head.features_of(session.model, arm.data.images, arm.data.rows[:2], 1)
    torch.testing.assert_close(after, features)


def test_the_heads_learning_rate_is_in_the_identity(small_cohort):
    for arm in (
        arm_of(small_cohort, network_of()),
        arm_of(small_cohort, network_of(trained="all")),
    ):
        settings = dict(learning_rate=1e-3, schedule="cosine", averaging=0.0)
        kept = [
            private_identity.identity_of(arm, arm.network, {}, **settings, head_learning_rate=rate)
            for rate in (1.0, 2.0)
        ]
        assert (kept[0] != kept[1]) == arm.is_head_alone


def test_both_parts_are_in_the_ledger_and_no_step_is_released_beyond_them(small_cohort, results):
    session = two_parts(small_cohort)
    train(session)
    ledger = session.arm.ledger()
    assert [part["steps_done"] for part in ledger["parts"]] == [16, 6]
    assert [part["sample_rate"] for part in ledger["parts"]] == [0.25, 1.0]
    assert ledger["epsilon_spent"]["PLD"] == session.arm.epsilon_spent() <= 5.0
    with pytest.raises(Exception, match="at most the 22 planned steps"):
        session.arm.set_gradients()


def test_the_head_is_clipped_to_its_own_norm_and_gets_its_own_noise(small_cohort, results):
    session = two_parts(small_cohort)
    train(session, 4)
    arm, promised = session.arm.head_arm, session.arm.promise.head
    asked, noise = [], arm.randomness.noise
    arm.randomness.noise = lambda parts, deviation: (
        asked.append(deviation) or noise(parts, deviation)
    )
    train(session)
    assert asked == [promised.noise_multiplier * 0.2] * 6
    assert promised.noise_multiplier != session.arm.promise.noise_multiplier
    _, norms = arm.add_units({0: arm.data.units[0]}, 0, loss_scale=1e6)
    assert norms[0] > 0.2
    assert torch.cat([part.flatten() for part in arm.clipped.take()]).norm() <= 0.2 * (1 + 1e-5)


@pytest.mark.parametrize("epochs", [2, 4, 5])
def test_a_run_of_two_parts_resumed_equals_the_uninterrupted_one(small_cohort, results, epochs):
    whole = weight_files.weights_hash(train(two_parts(small_cohort)))
    paths.run_dir("head").joinpath("checkpoint.pt").unlink(missing_ok=True)
    first = two_parts(small_cohort)
    train(first, epochs)
    first.save()
    again = two_parts(small_cohort)
    assert again.step == first.step and again.of_head == first.of_head
    assert weight_files.weights_hash(train(again)) == whole
    assert len(again.arm.diagnostics) == len(again.arm.head_arm.diagnostics) == 22


def test_a_rate_of_zero_is_refused_before_anything_is_spent(small_cohort, results):
    with pytest.raises(errors.InputError, match="HEAD_LEARNING_RATE"):
        session_of(arm_of(small_cohort, network_of()), head_learning_rate=0.0)


def test_a_head_that_is_not_standardised_is_not_trained_alone():
    for head in ("halves", "pooled"):
        with pytest.raises(errors.InputError, match="standardised by public images"):
            starts.train_part(network_of(head, "all"), "all_then_head", "all")
    model = network_of("halves", "all")
    model.standardise(torch.zeros(416), torch.full((416,), 0.1))
    starts.train_part(model, "head", "head")
    assert frozen_head.is_head_alone(model)


def test_a_trunk_that_mixes_patients_is_refused_where_the_head_alone_is_trained(small_cohort):
    model = network_of()
    model.blocks[0].norm1 = torch.nn.BatchNorm2d(model.blocks[0].norm1.num_channels)
    networks.train_only(model, "head")
    with pytest.raises(errors.InputError, match=r"blocks.0.norm1 \(BatchNorm2d\)"):
        arm_of(small_cohort, model)


def test_how_labels_without_a_side_are_read_is_in_the_identity(small_cohort):
    settings = dict(learning_rate=1e-3, schedule="cosine", averaging=0.0, head_learning_rate=1.0)
    kept = []
    for lateral in ([], ["bright"]):
        model = networks.resnet9(["bright", "dull"], width=8, head="halves", lateral=lateral)
        arm = arm_of(small_cohort, model)
        kept.append(private_identity.identity_of(arm, model, {}, **settings)["parameters"])
    assert [identity["SIDES"] for identity in kept] == [["both", "both"], ["either", "both"]]


def test_the_self_test_tries_both_parts(small_cohort, results):
    arm = two_parts(small_cohort).arm
    before = weight_files.weights_hash(arm.network.state_dict())
    tried = self_test.run(arm, small_cohort)["promise"]
    assert sum(tried.str.startswith("the head alone: ")) == len(tried) / 2
    assert weight_files.weights_hash(arm.network.state_dict()) == before
    assert arm.head_arm.data._features is None


def test_the_self_test_notices_halves_that_count_as_films(small_cohort):
    arm = arm_of(small_cohort, network_of(trained="all"), expected_batch_size=10)
    right = arm.clipped.add

    def counted_as_films(losses, unit_index, n_units):
        return right(losses / 2, unit_index, n_units)

    arm.clipped.add = counted_as_films
    with pytest.raises(Exception, match="one unit at a time"):
        self_test.run(arm, small_cohort)


def test_public_moments_centre_a_row_and_give_it_norm_one_on_average():
    features = torch.randn(50, 2, 7) * 3 + 5
    centre, scale = frozen_head.public_moments(features)
    rows = (features.flatten(0, 1) - centre) * scale
    torch.testing.assert_close(rows.mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    assert rows.norm(dim=1).mean() == pytest.approx(1)


def test_features_follow_the_images_alone(small_cohort):
    model = network_of()
    rows = np.array([5, 2, 9])
    together = frozen_head.features_of(model, small_cohort.images, rows, 1)
    alone = frozen_head.features_of(model, small_cohort.images, rows[1:2], 1)
    torch.testing.assert_close(together[1:2], alone)
    data = frozen_head.FrozenFeatures.of_images(
        training_set.TrainingSet.of(small_cohort, "patient"), model, 1, "float32"
    )
    assert {field.name for field in dataclasses.fields(training_set.TrainingSet)} <= set(vars(data))
    batch, labels = data.batch(np.array([3, 0]), np.zeros((2, 0)), 1, torch.device("cpu"))
    expected = frozen_head.features_of(model, small_cohort.images, data.rows[[3, 0]], 1)
    torch.testing.assert_close(batch, expected)
    torch.testing.assert_close(labels, data.labels[[3, 0]], equal_nan=True)
