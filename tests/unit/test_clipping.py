"""The clip bound and the clipped sum, against one patient at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers import arms, checks, clipping, models

CLIP_NORM = 0.37
UNIT_INDEX = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 3])  # units of 3, 1, 2 and 5 images


@pytest.fixture
def network():
    return models.resnet9(n_findings=3, channels=1, width=16, seed=3)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(11)
    images = torch.randn(len(UNIT_INDEX), 1, 64, 64, generator=generator)
    labels = (torch.rand(len(UNIT_INDEX), 3, generator=generator) < 0.4).float()
    labels[4, 1] = float("nan")
    return images, labels


def one_unit_at_a_time(network, images, labels, clip_norm):
    """The slow obvious way: autograd on the mean loss of each unit alone."""
    total, norms = [torch.zeros_like(p) for p in network.parameters()], []
    for unit in range(int(UNIT_INDEX.max()) + 1):
        inside = UNIT_INDEX == unit
        loss = arms.image_losses(network(images[inside]), labels[inside]).mean()
        gradient = torch.autograd.grad(loss, list(network.parameters()))
        norm = torch.sqrt(sum(g.square().sum() for g in gradient))
        norms.append(norm)
        for sum_, g in zip(total, gradient):
            sum_ += g * min(1.0, clip_norm / float(norm))
    return total, torch.stack(norms)


def clipped_sum(network, images, labels, clip_norm=CLIP_NORM, unit_index=UNIT_INDEX):
    clipped = clipping.ClippedSum(network, clip_norm)
    norms = clipped.add(arms.image_losses(clipped.logits(images), labels), unit_index, int(unit_index.max()) + 1)
    return clipped.take(), norms


@pytest.mark.parametrize("clip_norm", [0.37, 1e6])
def test_clipped_sum_equals_one_unit_at_a_time(network, batch, clip_norm):
    expected, expected_norms = one_unit_at_a_time(models.resnet9(3, 1, 16, seed=3), *batch, clip_norm)
    sums, norms = clipped_sum(network, *batch, clip_norm)
    torch.testing.assert_close(norms, expected_norms, rtol=1e-5, atol=0)
    for got, wanted in zip(sums, expected):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_clipped_sum_moves_by_at_most_clip_norm_when_a_unit_leaves(network, batch):
    images, labels = batch
    images = images * 30  # large gradients, so that every unit is clipped
    with_all, norms = clipped_sum(network, images, labels)
    assert (norms > CLIP_NORM).all()
    stay = UNIT_INDEX != 3
    without, _ = clipped_sum(models.resnet9(3, 1, 16, seed=3), images[stay], labels[stay], unit_index=UNIT_INDEX[stay])
    moved = torch.sqrt(sum((a - b).square().sum() for a, b in zip(with_all, without)))
    assert 0.99 * CLIP_NORM < float(moved) <= CLIP_NORM * (1 + 1e-4)


def test_clipped_sum_removes_a_unit_with_a_broken_image_and_keeps_the_others(network, batch):
    images, labels = batch
    broken = images.clone()
    broken[3] = float("nan")  # the only image of unit 1
    sums, norms = clipped_sum(network, broken, labels)
    stay = UNIT_INDEX != 1
    renumbered = torch.unique(UNIT_INDEX[stay], return_inverse=True)[1]
    expected, _ = clipped_sum(models.resnet9(3, 1, 16, seed=3), images[stay], labels[stay], unit_index=renumbered)
    assert not torch.isfinite(norms[1]) and torch.isfinite(norms[[0, 2, 3]]).all()
    for got, wanted in zip(sums, expected):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_clipped_sum_starts_from_zero_after_take(network, batch):
    clipped = clipping.ClippedSum(network, CLIP_NORM)
    clipped.add(arms.image_losses(clipped.logits(batch[0]), batch[1]), UNIT_INDEX, 4)
    clipped.take()
    assert all((s == 0).all() for s in clipped.take())


@pytest.mark.parametrize("shape", [(11, 1), (), (3,)])
def test_clipped_sum_refuses_a_loss_that_is_not_one_value_per_image(network, shape):
    with pytest.raises(checks.InputError, match="one value per image"):
        clipping.ClippedSum(network, 1.0).add(torch.zeros(shape), UNIT_INDEX, 4)


def test_clipped_sum_refuses_a_unit_without_images(network, batch):
    clipped = clipping.ClippedSum(network, 1.0)
    with pytest.raises(checks.InputError, match="to have an image"):
        clipped.add(arms.image_losses(clipped.logits(batch[0]), batch[1]), UNIT_INDEX, 5)


def test_clipped_sum_refuses_batch_norm_and_a_clip_norm_of_zero(network):
    with pytest.raises(checks.InputError, match="GroupNorm"):
        clipping.ClippedSum(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), 1.0)
    with pytest.raises(checks.InputError, match="CLIP_NORM"):
        clipping.ClippedSum(network, 0)


def test_pieces_never_split_a_unit_and_cover_all():
    sizes = np.random.default_rng(5).integers(1, 9, size=60).tolist()
    cuts = clipping.pieces(sizes, 12)
    assert [unit for cut in cuts for unit in range(cut.start, cut.stop)] == list(range(60))
    assert all(sum(sizes[cut]) <= 12 for cut in cuts)
    assert clipping.pieces([3, 20, 2], 8) == [slice(0, 1), slice(1, 2), slice(2, 3)]  # a large unit stands alone
    assert clipping.pieces([], 8) == []
