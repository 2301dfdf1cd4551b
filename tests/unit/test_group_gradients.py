"""Gradients by group: against ordinary gradients, and what they leave untouched."""

import numpy as np
import private_arms
import pytest
import torch

from helpers.core import errors, random_streams
from helpers.training import group_gradients, image_loss, networks, training_set


def arm_of(cohort, mode="demo"):
    data = training_set.TrainingSet.of(cohort, "patient")
    model = networks.resnet9(2, channels=1, width=8, seed=0)
    return private_arms.private_arm(
        data,
        model,
        channels=1,
        epsilon=8,
        delta=1e-3,
        clip_norm=0.5,
        epochs=1,
        expected_batch_size=10,
        max_images_per_patient=4,
        physical_batch_size=64,
        mode=mode,
        seed=0,
    )


def ordinary_gradient(arm, unit):
    """The gradient of the mean loss of a unit's images, moved as in step 0."""
    stream = random_streams.random_stream(arm.seed, f"augmentation {arm.data.names[unit]}", 0)
    unit_images = arm.data.units[unit]
    images, labels = arm.data.batch(
        unit_images, arm.data.moves(len(unit_images), stream), 1, torch.device("cpu")
    )
    loss = image_loss.image_losses(arm.model(images), labels).mean()
    return torch.cat(
        [gradient.flatten() for gradient in torch.autograd.grad(loss, arm.clipped.parameters)]
    )


def test_by_group_agrees_with_ordinary_gradients(small_cohort):
    arm = arm_of(small_cohort)
    group_of = np.array(["few" if unit < 5 else "many" for unit in range(len(arm.data.units))])
    rows_by_group = {row["group"]: row for row in group_gradients.by_group(arm, group_of, 0)}
    gradients = torch.stack([ordinary_gradient(arm, unit) for unit in range(len(group_of))])
    norms = gradients.norm(dim=1) / 0.5
    clipped_mean = (gradients / norms.clamp(min=1)[:, None]).mean(0)
    for group, inside in (("few", group_of == "few"), ("many", group_of == "many")):
        row, group_mean = rows_by_group[group], gradients[inside].mean(0)
        assert row["n_units"] == inside.sum() and row["gradient_norm"] == pytest.approx(
            float(norms[inside].median()), rel=1e-3
        )
        assert row["clipped_fraction"] == pytest.approx(float((norms[inside] > 1).double().mean()))
        for name, mean in (("followed", clipped_mean), ("followed_without", gradients.mean(0))):
            assert row[name] == pytest.approx(
                float(torch.cosine_similarity(group_mean, mean, dim=0)), abs=1e-3
            )


def test_by_group_leaves_the_arm_as_it_was(small_cohort):
    touched, untouched = arm_of(small_cohort), arm_of(small_cohort)
    group_gradients.by_group(touched, np.array(["all"] * 40), 0, most_units=7)
    for arm in (touched, untouched):
        arm.set_gradients()
    assert touched.clipped.clip_norm == 0.5
    for one, other in zip(touched.clipped.parameters, untouched.clipped.parameters):
        assert torch.equal(one.grad, other.grad) and torch.equal(one, other)


def test_by_group_refuses_private_mode(small_cohort):
    with pytest.raises(
        errors.InputError, match="MODE = 'demo' for gradients by group; got private mode"
    ):
        group_gradients.by_group(arm_of(small_cohort, "private"), np.array(["all"] * 40), 0)


def test_groups_of_units_are_those_of_their_patients(small_cohort):
    table = small_cohort.table.assign(
        site=np.where(small_cohort.table["patient_id"].str[1:].astype(int) < 10, "a", "b")
    )
    sites = group_gradients.groups_of_units(
        training_set.TrainingSet.of(small_cohort, "patient"), table, "site"
    )
    assert sites.tolist() == ["a"] * 10 + ["b"] * 30
