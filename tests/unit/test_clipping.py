"""The clip bound and the clipped sum, against one patient at a time."""

import contextlib
import copy

import pytest
import torch
from opacus import GradSampleModule
from torch import nn
from torch.profiler import ProfilerActivity, profile

from helpers.core import errors
from helpers.privacy import clipping, layer_record, units
from helpers.training import image_loss, networks

CLIP_NORM = 0.37
UNIT_INDEX = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 3])  # units of 3, 1, 2 and 5 images


@pytest.fixture(autouse=True, params=[False, True], ids="is_batched={}".format)
def is_batched(request, monkeypatch):
    """Units apart as on a CPU, and in shared calls as on a GPU."""
    monkeypatch.setattr(units, "is_batched_on", lambda device: request.param)
    return request.param


@pytest.fixture
def network():
    return networks.resnet9(3, channels=1, width=16, seed=3)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(11)
    images = torch.randn(len(UNIT_INDEX), 1, 64, 64, generator=generator)
    labels = (torch.rand(len(UNIT_INDEX), 3, generator=generator) < 0.4).float()
    labels[4, 1] = float("nan")
    return images, labels


def one_unit_at_a_time(network, images, labels, clip_norm):
    """The slow obvious way: autograd in float64 on the mean loss of each unit alone."""
    exact = copy.deepcopy(network).double()
    total, norms = [torch.zeros_like(p) for p in exact.parameters()], []
    for unit in range(int(UNIT_INDEX.max()) + 1):
        inside = unit == UNIT_INDEX
        known = ~labels[inside].isnan()
        losses = nn.functional.binary_cross_entropy_with_logits(
            exact(images[inside].double()),
            labels[inside].nan_to_num(0.0).double(),
            reduction="none",
        )
        gradient = torch.autograd.grad(
            ((losses * known).sum(1) / known.sum(1)).mean(), list(exact.parameters())
        )
        norm = torch.sqrt(sum(g.square().sum() for g in gradient))
        norms.append(norm)
        for sum_, g in zip(total, gradient):
            sum_ += g * min(1.0, clip_norm / float(norm))
    return [t.float() for t in total], torch.stack(norms).float()


def clipped_sum(network, images, labels, clip_norm=CLIP_NORM, unit_index=UNIT_INDEX):
    most = int(unit_index.bincount().max())
    clipped = clipping.ClippedSum(network, clip_norm, images_per_unit=most)
    norms = clipped.add(
        image_loss.image_losses(clipped.logits(images), labels),
        unit_index,
        int(unit_index.max()) + 1,
    )
    return clipped.take(), norms


def as_one(parts):
    return torch.cat([part.flatten() for part in parts]).double()


@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("clip_norm", [0.37, 1e6])
def test_clipped_sum_equals_one_unit_at_a_time(batch, clip_norm, width):
    network = networks.resnet9(3, 1, width, seed=3)
    expected, expected_norms = one_unit_at_a_time(network, *batch, clip_norm)
    sums, norms = clipped_sum(network, *batch, clip_norm)
    torch.testing.assert_close(norms, expected_norms, rtol=1e-5, atol=0)
    assert float((as_one(sums) - as_one(expected)).norm() / as_one(expected).norm()) < 1e-5
    for got, wanted in zip(sums, expected):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def halves_network(seed=3):
    """A network that makes two rows of a film; findings with a side, of the midline, of either."""
    outputs = ["effusion:right", "effusion:left", "nodule"]
    return networks.resnet9(outputs, 1, 16, seed, head="halves", lateral=["nodule"])


@pytest.mark.parametrize("clip_norm", [0.37, 1e6])
def test_halves_of_a_film_belong_to_its_unit_and_count_as_one_film(batch, clip_norm):
    network = halves_network()
    trained = [p for p in network.parameters() if p.requires_grad]
    exact, images, labels = copy.deepcopy(network).double(), *batch
    exact_trained = [p for p in exact.parameters() if p.requires_grad]
    expected, expected_norms = torch.zeros(sum(p.numel() for p in trained)).double(), []
    for unit in range(4):
        inside = unit == UNIT_INDEX
        losses = image_loss.image_losses(exact(images[inside].double()), labels[inside])
        gradient = as_one(torch.autograd.grad(losses.mean(), exact_trained))
        expected_norms.append(float(gradient.norm()))
        expected += gradient * min(1.0, clip_norm / float(gradient.norm()))
    clipped = clipping.ClippedSum(network, clip_norm, rows_per_image=2)
    losses = image_loss.image_losses(clipped.logits(images), labels)
    norms = clipped.add(losses, UNIT_INDEX, 4)
    torch.testing.assert_close(norms, torch.tensor(expected_norms), rtol=1e-5, atol=0)
    assert float((as_one(clipped.take()) - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("rows_per_image", [1, 3])
def test_another_number_of_rows_than_declared_is_refused(batch, rows_per_image):
    clipped = clipping.ClippedSum(halves_network(), 1.0, rows_per_image)
    with pytest.raises(errors.InputError, match="rows in stem.0"):
        clipped.logits(batch[0])


def test_clipped_sum_equals_opacus_hooks_at_image_level(network, batch):
    images, labels = batch
    hooked = GradSampleModule(networks.resnet9(3, 1, 16, seed=3), loss_reduction="sum")
    with pytest.warns(UserWarning, match="Full backward hook"):
        image_loss.image_losses(hooked(images), labels).sum().backward()
    gradients = torch.cat([p.grad_sample.flatten(1) for p in hooked.parameters()], dim=1).double()
    expected = (gradients * (0.37 / gradients.norm(dim=1, keepdim=True)).clamp(max=1)).sum(0)
    sums, norms = clipped_sum(network, images, labels, unit_index=torch.arange(len(images)))
    torch.testing.assert_close(norms.double(), gradients.norm(dim=1), rtol=1e-5, atol=0)
    assert float((as_one(sums) - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_unit_alone_contributes_at_most_the_clip_norm(network, batch, precision):
    images, labels = batch
    clipped = clipping.ClippedSum(network, 0.021)  # below every norm
    for unit in range(4):
        inside = unit == UNIT_INDEX
        with image_loss.autocast(images.device, precision):
            losses = image_loss.image_losses(clipped.logits(images[inside]), labels[inside])
        norm = clipped.add(losses, torch.zeros(int(inside.sum()), dtype=torch.int64), 1)
        length = float(as_one(clipped.take()).norm())
        assert float(norm) > 0.021 and 0.021 * (1 - 1e-5) < length <= 0.021 * (1 + 1e-5)


def test_bfloat16_gives_nearly_the_sum_of_float32(network, batch):
    clipped = clipping.ClippedSum(network, 1e6)
    sums = []
    for precision in ("float32", "bfloat16"):
        with image_loss.autocast(batch[0].device, precision):
            losses = image_loss.image_losses(clipped.logits(batch[0]), batch[1])
        clipped.add(losses, UNIT_INDEX, 4)
        sums.append(as_one(clipped.take()))
    wrong = float((sums[0] - sums[1]).norm() / sums[0].norm())
    assert 1e-5 < wrong < 0.1  # bfloat16 has 8 bits


def test_a_unit_without_gradient_adds_nothing(network, batch):
    images, labels = batch
    unknown = labels.clone()
    unknown[UNIT_INDEX == 2] = float("nan")  # no finding known: loss 0
    sums, norms = clipped_sum(network, images, unknown)
    assert norms[2] == 0 and all(torch.isfinite(s).all() for s in sums)
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0])[UNIT_INDEX]
    network = networks.resnet9(3, 1, 16, seed=3)
    clipped = clipping.ClippedSum(network, CLIP_NORM, images_per_unit=5)
    clipped.add(image_loss.image_losses(clipped.logits(images), labels) * weights, UNIT_INDEX, 4)
    torch.testing.assert_close(as_one(clipped.take()), as_one(sums), rtol=1e-6, atol=1e-9)


def test_frozen_layers_are_left_out_and_cost_no_record(network, batch):
    images, labels = batch
    for parameter in [*network.stem.parameters(), *network.blocks[0].parameters()]:
        parameter.requires_grad_(False)
    clipped = clipping.ClippedSum(network, 1e6)
    logits = clipped.logits(images)
    assert {record.name.split(".")[0] for record in clipped._records} == {"blocks", "head"}
    assert not any(record.name.startswith("blocks.0") for record in clipped._records)
    clipped.add(image_loss.image_losses(logits, labels), UNIT_INDEX, 4)
    whole = clipped_sum(networks.resnet9(3, 1, 16, seed=3), images, labels, 1e6)[0]
    trained_parts = clipped.take()
    assert len(trained_parts) < len(whole)
    torch.testing.assert_close(
        as_one(trained_parts), as_one(whole[-len(trained_parts) :]), rtol=1e-5, atol=1e-7
    )
    assert (
        all(not p.requires_grad for p in network.stem.parameters())
        and network.head.weight.requires_grad
    )


def test_clipped_sum_moves_by_at_most_clip_norm_when_a_unit_leaves(network, batch):
    images, labels = batch
    images = images * 30  # large gradients, so that every unit is clipped
    with_all, norms = clipped_sum(network, images, labels)
    assert (norms > CLIP_NORM).all()
    stay = UNIT_INDEX != 3
    without, _ = clipped_sum(
        networks.resnet9(3, 1, 16, seed=3), images[stay], labels[stay], unit_index=UNIT_INDEX[stay]
    )
    moved = torch.sqrt(sum((a - b).square().sum() for a, b in zip(with_all, without)))
    assert 0.99 * CLIP_NORM < float(moved) <= CLIP_NORM * (1 + 1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_image_removes_its_unit_and_leaves_the_others_bit_for_bit(network, batch, value):
    images, labels = batch
    broken, silent = images.clone(), labels.clone()
    broken[5, 0, 20, 20] = value  # the second of two images of unit 2
    silent[UNIT_INDEX == 2] = float("nan")  # the same batch, in which that unit's loss is 0
    sums, norms = clipped_sum(network, broken, labels)
    expected, expected_norms = clipped_sum(networks.resnet9(3, 1, 16, seed=3), images, silent)
    assert not torch.isfinite(norms[2]) and torch.equal(norms[[0, 1, 3]], expected_norms[[0, 1, 3]])
    for got, wanted in zip(sums, expected):
        assert torch.equal(got, wanted)


def test_clipped_sum_starts_from_zero_after_take(network, batch):
    clipped = clipping.ClippedSum(network, CLIP_NORM)
    clipped.add(image_loss.image_losses(clipped.logits(batch[0]), batch[1]), UNIT_INDEX, 4)
    clipped.take()
    assert all((s == 0).all() for s in clipped.take())


@pytest.mark.parametrize("shape", [(11, 1), (), (3,)])
def test_clipped_sum_refuses_a_loss_that_is_not_one_value_per_image(network, shape):
    with pytest.raises(errors.InputError, match="one value per image"):
        clipping.ClippedSum(network, 1.0).add(torch.zeros(shape), UNIT_INDEX, 4)


def test_clipped_sum_refuses_a_unit_without_images(network, batch):
    clipped = clipping.ClippedSum(network, 1.0)
    with pytest.raises(errors.InputError, match="to have an image"):
        clipped.add(image_loss.image_losses(clipped.logits(batch[0]), batch[1]), UNIT_INDEX, 5)


def test_clipped_sum_refuses_images_of_a_unit_apart_from_each_other(network, batch):
    clipped = clipping.ClippedSum(network, 1.0)
    with pytest.raises(errors.InputError, match="one after the other"):
        clipped.add(
            image_loss.image_losses(clipped.logits(batch[0]), batch[1]), UNIT_INDEX.flip(0), 4
        )


@pytest.mark.parametrize("clip_norm", [0, -1.0, float("nan")])
def test_clipped_sum_refuses_a_clip_norm_that_bounds_nothing(network, clip_norm):
    with pytest.raises(errors.InputError, match="CLIP_NORM"):
        clipping.ClippedSum(network, clip_norm)


class InPlace(nn.Module):
    """A residual block that changes a layer's output in place, as torchvision's do."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        shortcut = self.conv1(images)
        features = self.conv2(shortcut)
        features += shortcut
        return self.head(features.mean((2, 3)))


def test_values_changed_in_place_are_refused(batch):
    clipped = clipping.ClippedSum(InPlace(), 1.0)
    with pytest.raises(errors.InputError, match="output of conv2 changed.*out = out"):
        clipped.add(image_loss.image_losses(clipped.logits(batch[0]), batch[1]), UNIT_INDEX, 4)


def test_a_layer_the_loss_does_not_depend_on_is_refused(network, batch):
    clipped = clipping.ClippedSum(network, 1.0)
    with pytest.raises(errors.InputError, match="loss to depend on"):
        clipped.add((clipped.logits(batch[0]).detach().requires_grad_()).sum(1), UNIT_INDEX, 4)


@pytest.mark.parametrize("width, likeness", [(64, 1e-4), (16, 3e-5), (16, 1e-4), (16, 1e-3)])
def test_a_unit_whose_images_nearly_cancel_keeps_the_bound(width, likeness):
    # Two almost equal images with opposite labels: the sum of products loses what little is left of
    # the gradient.
    torch.manual_seed(6)
    network = networks.resnet9(3, 1, width, seed=3)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    image = torch.randn(1, 1, 64, 64)
    images = torch.cat([image, image + likeness * torch.randn_like(image)])
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    exact, _ = one_unit_at_a_time_of(network, images, labels)
    for clip_norm in (1e-4, 1e-3, 0.5 * exact):
        sums, _ = clipped_sum(
            copy.deepcopy(network), images, labels, clip_norm, torch.tensor([0, 0])
        )
        assert float(as_one(sums).norm()) <= clip_norm * (1 + 1e-5)


def one_unit_at_a_time_of(network, images, labels):
    """The norm of the gradient of all images as one unit, in float64, and that gradient."""
    exact = copy.deepcopy(network).double()
    losses = nn.functional.binary_cross_entropy_with_logits(exact(images.double()), labels.double())
    gradient = as_one(torch.autograd.grad(losses, list(exact.parameters())))
    return float(gradient.norm()), gradient


def n_calls(n_units, images_per_unit, is_private):
    """Calls of torch's own functions in one step, the optimizer's included."""
    torch.manual_seed(0)
    model = networks.resnet9(8, 1, 16, seed=0)
    images = torch.randn(n_units * images_per_unit, 1, 64, 64)
    labels = (torch.rand(len(images), 8) < 0.3).float()
    optimizer = torch.optim.NAdam(model.parameters(), foreach=True)
    clipped = clipping.ClippedSum(model, 1.0) if is_private else None
    index = torch.arange(n_units).repeat_interleave(images_per_unit)

    def step():
        optimizer.zero_grad()
        if is_private:
            clipped.add(image_loss.image_losses(clipped.logits(images), labels), index, n_units)
            for parameter, total in zip(clipped.parameters, clipped.take()):
                parameter.grad = total
        else:
            image_loss.image_losses(model(images), labels).mean().backward()
        optimizer.step()

    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    return sum(event.count for event in profiled.key_averages() if event.key.startswith("aten::"))


def test_calls_of_a_batched_step_do_not_depend_on_the_number_of_units(is_batched):
    if not is_batched:
        pytest.skip("on a CPU units have calls of their own")
    ordinary = n_calls(16, 1, is_private=False)
    few, many, patients = n_calls(16, 1, True), n_calls(128, 1, True), n_calls(16, 4, True)
    assert abs(many - few) < 20  # of thousands
    assert max(few, many, patients) < 2.5 * ordinary


def test_nothing_of_a_batched_step_waits_for_the_device(is_batched, batch, monkeypatch):
    for module in (clipping, layer_record):  # autocast does not know that device
        monkeypatch.setattr(module, "exact_float32", lambda _: contextlib.nullcontext())
    network = networks.resnet9(3, 1, 16, seed=3).to("meta")  # a device whose values nobody can read
    clipped = clipping.ClippedSum(network, CLIP_NORM)
    images, labels = (part.to("meta") for part in batch)
    losses = image_loss.image_losses(clipped.logits(images), labels)
    if is_batched:
        assert clipped.add(losses, UNIT_INDEX, 4).shape == (4,)
        assert [s.shape for s in clipped.take()] == [p.shape for p in network.parameters()]
    else:
        with pytest.raises(RuntimeError, match="item.* on meta"):
            clipped.add(losses, UNIT_INDEX, 4)


@pytest.mark.parametrize("of_the_large_one", [8, 60])
def test_a_unit_has_no_say_in_the_norms_of_others(of_the_large_one):
    # 50 units of two images that nearly cancel, whose norms rounding decides; with and without one
    # of many images, for which another way would be cheaper.
    torch.manual_seed(0)
    layer = nn.Linear(512, 1, bias=False)
    one = torch.rand(50, 512)
    pairs = torch.stack([one, -one * (1 + 1e-6 * torch.rand(50, 1))], 1).flatten(0, 1)
    images = torch.cat([pairs, torch.randn(of_the_large_one, 512)])
    index = torch.cat([torch.arange(50).repeat_interleave(2), torch.full([of_the_large_one], 50)])

    def total(n_units):
        clipped = clipping.ClippedSum(nn.Sequential(layer), 1e-4, 1, of_the_large_one)
        here = index < n_units
        clipped.add(clipped.logits(images[here])[:, 0], index[here], n_units)
        return as_one(clipped.take())

    moved = (total(51) - total(50)).norm()
    assert float(moved) <= 1e-4 * (1 + 1e-5)
