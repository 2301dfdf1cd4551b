"""Networks of volumes.

2D kernels used in three planes, weights of radiographs, and clipped sums equal to one unit at a
time.
"""

import copy

import pytest
import torch
from torch import nn

from helpers.core import errors
from helpers.privacy import clipping
from helpers.training import image_loss, networks, start_weights, weight_files


def volume_network(head="pooled"):
    return networks.resnet9(2, 1, 8, seed=3, head=head, dimensions=3)


def test_the_axial_kernels_are_a_2d_convolution_slice_by_slice():
    flat = nn.Conv2d(3, 7, 3, stride=2, padding=1, bias=False)
    acs = networks.ACS(3, 7, 3, 2, 1)
    named = networks.in_planes({"conv.weight": flat.weight.detach()}, nn.ModuleDict({"conv": acs}))
    acs.load_state_dict({name.removeprefix("conv."): value for name, value in named.items()})
    volume = torch.randn(2, 3, 6, 9, 8)
    seen = acs(volume)
    assert [len(share) for share, _ in networks.planes(7).values()] == [3, 2, 2] and seen.shape[
        1
    ] == 7
    for depth in range(3):  # every second slice, as the stride says
        torch.testing.assert_close(seen[:, :3, depth], flat(volume[:, :, 2 * depth])[:, :3])
    for row in range(5):
        torch.testing.assert_close(seen[:, 3:5, :, row], flat(volume[:, :, :, 2 * row])[:, 3:5])
    for column in range(4):
        torch.testing.assert_close(seen[:, 5:, :, :, column], flat(volume[..., 2 * column])[:, 5:])


def test_a_network_of_volumes_has_the_parameters_of_one_of_images():
    sizes = [
        sum(p.numel() for p in networks.resnet9(8, 1, 64, head="pooled", dimensions=n).parameters())
        for n in (2, 3)
    ]
    assert sizes[0] == sizes[1]
    logits = volume_network("sided")(torch.randn(2, 1, 16, 24, 20))
    assert logits.shape == (2, 2)


def test_the_order_of_a_networks_weights_in_memory_is_no_part_of_them():
    ours, plain = volume_network(), volume_network().to(memory_format=torch.contiguous_format)
    assert weight_files.weights_hash(ours.state_dict()) == weight_files.weights_hash(
        plain.state_dict()
    )
    volumes = torch.randn(2, 1, 16, 24, 20).double()  # in float32 a group of few values is unsteady
    torch.testing.assert_close(ours.double()(volumes), plain.double()(volumes))
    if networks.device().type == "cpu":  # channels side by side
        assert ours.blocks[1].conv1.axial.weight.stride(1) == 1


def test_a_network_of_volumes_starts_from_radiographs():
    films, volumes = networks.resnet9(3, 1, 8, seed=1, head="sided"), volume_network()
    missing = start_weights.start_from(
        volumes, films.state_dict(), ["a", "b", "c"], ["tumour", "b"]
    )
    assert (
        missing == ["tumour"] and not volumes.head.weight[0].any() and volumes.head.weight[1].any()
    )
    stem = films.stem[0].weight
    torch.testing.assert_close(
        torch.cat(
            [
                volumes.stem[0].axial.weight[:, :, 0],
                volumes.stem[0].coronal.weight[:, :, :, 0],
                volumes.stem[0].sagittal.weight[..., 0],
            ]
        ),
        stem,
    )
    torch.testing.assert_close(
        volumes.blocks[1].shortcut[0].weight[:, :, 0], films.blocks[1].shortcut[0].weight
    )


@pytest.mark.parametrize("trained", networks.PARTS)
def test_clipped_sums_of_volumes_equal_one_unit_at_a_time(trained):
    torch.manual_seed(5)
    # rounding in float32 differs between batches of other sizes
    network, sizes = volume_network().double(), [2, 1, 3]
    networks.train_only(network, trained)
    images, labels = torch.randn(6, 1, 9, 16, 12).double(), torch.rand(6, 2).round()
    index = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    exact = copy.deepcopy(network)
    parameters = [p for p in exact.parameters() if p.requires_grad]
    alone = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    image_loss.image_losses(
                        exact(images[index == unit]), labels[index == unit]
                    ).mean(),
                    parameters,
                )
            ]
        )
        for unit in range(3)
    ]
    clip_norm = float(torch.stack([g.norm() for g in alone]).median())
    clipped = clipping.ClippedSum(network, clip_norm)
    norms = clipped.add(image_loss.image_losses(clipped.logits(images), labels), index, 3)
    clipped_sum = torch.cat([part.flatten() for part in clipped.take()]).double()
    expected = sum(g * min(1.0, clip_norm / float(g.norm())) for g in alone)
    assert float((clipped_sum - expected).norm() / expected.norm()) < 1e-5
    torch.testing.assert_close(
        norms.double(), torch.stack([g.norm() for g in alone]), rtol=1e-5, atol=0
    )


def test_the_last_block_alone_is_trained():
    network = volume_network()
    networks.train_only(network, "last_block")
    trained = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, p in network.named_parameters()
        if p.requires_grad
    }
    assert trained == {"blocks.3", "head.weight", "head.bias"}


def test_weights_of_another_width_are_refused_for_volumes():
    with pytest.raises(errors.InputError, match="public weights that fit this network"):
        start_weights.start_from(
            volume_network(), networks.resnet9(2, 1, 16).state_dict(), ["a", "b"], ["a", "b"]
        )


def test_units_are_volumes_not_slices():
    """A volume of a unit counts once, whatever its depth."""
    clipped = clipping.ClippedSum(volume_network(), 1.0)
    losses = image_loss.image_losses(
        clipped.logits(torch.randn(2, 1, 24, 16, 16)), torch.ones(2, 2)
    )
    assert losses.shape == (2,) and clipped.add(losses, torch.arange(2), 2).shape == (2,)
