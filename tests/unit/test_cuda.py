"""On a GPU: the same promises as on a CPU. Skipped where there is none."""

import numpy as np
import private_arms
import pytest
import torch

from helpers.privacy import clipping
from helpers.training import image_augmentation, image_loss, networks, training_set

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIZES = [1, 2, 3, 1, 4, 2, 3]
CLIP_NORM = 0.7


def one_unit_at_a_time(model, images, labels, unit_index):
    """(units, parameters) gradients in float64 on the CPU."""
    exact = networks.resnet9(8, images.shape[1], 16, head="sided").double()
    exact.load_state_dict(
        {name: value.double().cpu() for name, value in model.state_dict().items()}
    )
    rows = []
    for unit in range(int(unit_index[-1]) + 1):
        own_images = unit_index.cpu() == unit
        loss = image_loss.image_losses(
            exact(images.cpu().double()[own_images]), labels.cpu().double()[own_images]
        ).mean()
        rows.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(exact.parameters()))])
        )
    return torch.stack(rows)


@pytest.fixture(params=[1, 3], ids="{} channel".format)
def batch(request):
    """A model on the GPU, images, labels and units."""
    torch.manual_seed(1)
    unit_index = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES)).cuda()
    images = torch.randn(sum(SIZES), request.param, 48, 48).cuda()
    return (
        networks.resnet9(8, request.param, 16, head="sided").cuda(),
        images,
        torch.rand(sum(SIZES), 8).round().cuda(),
        unit_index,
    )


@pytest.mark.parametrize("tf32", [False, True], ids="allow_tf32={}".format)
def test_norms_and_clipped_sum_equal_the_loop(batch, tf32):
    model, images, labels, unit_index = batch
    expected = one_unit_at_a_time(model, images, labels, unit_index)
    clipped = clipping.ClippedSum(model, CLIP_NORM, images_per_unit=max(SIZES))
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = (
        "tf32" if tf32 else "ieee"
    )
    try:
        norms = clipped.add(
            image_loss.image_losses(clipped.logits(images), labels), unit_index, len(SIZES)
        )
    finally:
        torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = (
            "ieee"
        )
    total = torch.cat([s.flatten() for s in clipped.take()]).cpu().double()
    wanted = (expected * (CLIP_NORM / expected.norm(dim=1)).clamp(max=1)[:, None]).sum(0)
    close = 2e-2 if tf32 else 1e-5  # the forward pass is free to use TF32; the bound below is not
    assert (
        (norms.cpu().double() - expected.norm(dim=1)).abs() / expected.norm(dim=1)
    ).max() < close
    assert (total - wanted).norm() / wanted.norm() < close


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("tf32", [False, True], ids="allow_tf32={}".format)
def test_a_single_unit_is_never_above_the_clip_norm(batch, precision, tf32):
    model, images, labels, _ = batch
    clipped = clipping.ClippedSum(model, CLIP_NORM, images_per_unit=max(SIZES))
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = (
        "tf32" if tf32 else "ieee"
    )
    try:
        for n_images in SIZES:
            with image_loss.autocast(images.device, precision):
                losses = 50 * image_loss.image_losses(
                    clipped.logits(images[:n_images]), labels[:n_images]
                )
            norm = clipped.add(losses, torch.zeros(n_images, dtype=torch.int64).cuda(), 1)
            contribution = torch.cat([s.flatten() for s in clipped.take()]).double().norm()
            assert float(norm) > CLIP_NORM and float(contribution) <= CLIP_NORM * (1 + 1e-5)
    finally:
        torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = (
            "ieee"
        )


def test_a_private_step_and_strong_variation_run_on_the_gpu(small_cohort):
    data = training_set.TrainingSet.of(small_cohort, "patient")
    model = networks.resnet9(2).cuda()
    arm = private_arms.private_arm(
        data,
        model,
        channels=1,
        epsilon=3,
        delta=1e-5,
        clip_norm=CLIP_NORM,
        epochs=1,
        expected_batch_size=8,
        max_images_per_patient=2,
        physical_batch_size=16,
        mode="demo",
        seed=0,
    )
    arm.set_gradients()
    assert all(p.grad.is_cuda and torch.isfinite(p.grad).all() for p in model.parameters())
    varied = image_augmentation.vary(
        torch.randn(4, 1, 32, 32).cuda(),
        image_augmentation.numbers(4, 2, np.random.default_rng(0)),
    )
    assert varied.is_cuda and torch.isfinite(varied).all()
