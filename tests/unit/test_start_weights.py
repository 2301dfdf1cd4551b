"""The paper's network, its start from public weights, and its input."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet

from helpers.core import errors
from helpers.data.synthetic import chest_cohort
from helpers.training import network_input, networks, start_weights, weight_files


def test_resnet9_has_the_parameters_of_the_paper():
    # Published: 4,909,896 with 3 input channels and 8 findings.
    network = networks.resnet9(8, channels=3, width=64)
    assert sum(p.numel() for p in network.parameters()) == 4_909_896


def test_resnet9_computes_what_torchvisions_resnet_with_group_norm_and_mish_computes():
    def group_norm(channels):
        return nn.GroupNorm(32, channels)

    published = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=8, norm_layer=group_norm).eval()
    for module in published.modules():
        if isinstance(getattr(module, "relu", None), nn.ReLU):
            module.relu = nn.Mish()
    ours = networks.resnet9(8, channels=3, width=64).eval()
    ours_state, theirs = ours.state_dict(), published.state_dict()
    assert [v.shape for v in ours_state.values()] == [v.shape for v in theirs.values()]
    ours.load_state_dict(dict(zip(ours_state, theirs.values())))
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(images), published(images), rtol=1e-4, atol=1e-4)


def test_resnet9_repeats_for_a_seed_and_differs_between_seeds():
    state = torch.get_rng_state()
    first, again, other = (networks.resnet9(2, seed=seed) for seed in (1, 1, 2))
    assert (
        weight_files.weights_hash(first.state_dict())
        == weight_files.weights_hash(again.state_dict())
        != weight_files.weights_hash(other.state_dict())
    )
    assert torch.equal(state, torch.get_rng_state())  # nobody else's random numbers are touched


def test_resnet9_gives_one_logit_a_finding_and_each_image_its_own():
    network = networks.resnet9(5, width=8).eval()
    images = torch.randn(4, 1, 48, 48)
    assert network(images).shape == (4, 5)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [dict(width=12), dict(width=0), dict(channels=2)])
def test_resnet9_refuses_sizes_it_cannot_have(sizes):
    with pytest.raises(errors.InputError, match="WIDTH|CHANNELS"):
        networks.resnet9(3, **sizes)


def test_to_input_of_an_image_depends_on_that_image_alone():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 8, 8)).astype(np.uint8)
    alone = network_input.to_input(images[1:2], channels=3)
    assert torch.equal(network_input.to_input(images, channels=3)[1:2], alone)
    assert alone.mean() == pytest.approx(0, abs=1e-6) and alone[0, 0].std() == pytest.approx(1)
    assert (network_input.to_input(np.full((1, 8, 8), 7, np.uint8)) == 0).all()


def test_start_from_gives_right_and_left_the_public_output_and_unknown_findings_zero():
    public, private = networks.resnet9(2, seed=1), networks.resnet9(3, seed=2)
    absent = start_weights.start_from(
        private, public.state_dict(), ["oedema", "effusion"], ["effusion", "effusion", "fracture"]
    )
    logits, public_logits = (
        network.eval()(torch.ones(1, 1, 48, 48)) for network in (private, public)
    )
    assert absent == ["fracture"]
    torch.testing.assert_close(logits[0, :2], public_logits[0, 1].repeat(2))
    assert logits[0, 2] == 0


def of_features(network, features):
    """Logits from the last features, as in the forward pass."""
    mean = (
        functional.adaptive_avg_pool2d
        if network.dimensions == 2
        else functional.adaptive_avg_pool3d
    )
    return network.head(mean(features, network.reading.cells[-1]).flatten(1))


SIDED = ["effusion:right", "effusion:left", "oedema"]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_sided_head_starts_from_the_public_evidence_on_its_half_of_the_body(dimensions):
    public, private = (
        networks.resnet9(2, seed=1, dimensions=dimensions),
        networks.resnet9(3, seed=2, head="sided", dimensions=dimensions),
    )
    assert (
        start_weights.start_from(private, public.state_dict(), ["oedema", "effusion"], SIDED) == []
    )
    features = torch.randn(5, 128, *[6] * dimensions)
    logits = of_features(private, features)
    # the patient's right is the viewer's left
    for output, half in enumerate((features[..., :3], features[..., 3:])):
        torch.testing.assert_close(logits[:, output], of_features(public, half)[:, 1])
    torch.testing.assert_close(logits[:, 2], of_features(public, features)[:, 0])


def test_the_right_side_of_the_head_looks_where_a_right_effusion_is_drawn():
    images, table = chest_cohort.draw_block("private", "train", 0, seed=0)
    is_plain = (table["scanner"] == "A") & (table["pleural_effusion_left"] == 0)
    change = images[is_plain & (table["pleural_effusion_right"] >= 3)].mean(0) - images[
        is_plain & (table["pleural_effusion_right"] == 0)
    ].mean(0)
    cells = functional.adaptive_avg_pool2d(
        torch.from_numpy(np.abs(change))[None, None], 2
    ).flatten()
    share = start_weights._spread(torch.ones(1, 1), 4, "effusion:right").flatten()
    assert (share * cells).sum() > 1.2 * (
        start_weights._spread(torch.ones(1, 1), 4, "effusion:left").flatten() * cells
    ).sum()


def test_a_sided_start_taken_back_to_a_pooled_head_is_the_public_model():
    public, sided, pooled = (
        networks.resnet9(2, seed=1),
        networks.resnet9(3, head="sided"),
        networks.resnet9(3),
    )
    start_weights.start_from(sided, public.state_dict(), ["oedema", "effusion"], SIDED)
    start_weights.start_from(pooled, sided.state_dict(), SIDED, SIDED)
    features = torch.randn(4, 128, 2, 2)
    torch.testing.assert_close(
        of_features(pooled, features), of_features(public, features)[:, [1, 1, 0]]
    )


def test_a_public_model_that_knows_the_sides_is_taken_as_it_is():
    public, private = networks.resnet9(3, seed=1, head="sided"), networks.resnet9(3, head="sided")
    assert start_weights.start_from(private, public.state_dict(), SIDED, SIDED[::-1]) == []
    torch.testing.assert_close(private.head.weight, public.head.weight.flip(0))


def test_a_finding_without_side_starts_from_both_public_sides():
    public, private = networks.resnet9(3, seed=1, head="sided"), networks.resnet9(1)
    assert start_weights.start_from(private, public.state_dict(), SIDED, ["effusion"]) == []
    features = torch.randn(4, 128, 2, 2)
    torch.testing.assert_close(
        of_features(private, features)[:, 0],
        of_features(public, features.mean((2, 3), keepdim=True).expand(-1, -1, 2, 2))[:, :2].mean(
            1
        ),
    )
    assert start_weights.alike("fracture", SIDED) == [] and start_weights.alike(
        "effusion:left", SIDED
    ) == [1]


def test_only_the_chosen_part_is_trained():
    network = networks.resnet9(2)
    for part, expected in (
        ("head", 2),
        ("norms_and_head", 2 + 2 * 12),
        ("all", len(list(network.parameters()))),
    ):
        networks.train_only(network, part)
        assert sum(p.requires_grad for p in network.parameters()) == expected
    with pytest.raises(errors.InputError, match="TRAINED"):
        networks.train_only(network, "feet")


def test_start_from_refuses_weights_of_another_width():
    with pytest.raises(errors.InputError, match="WIDTH"):
        start_weights.start_from(
            networks.resnet9(1, width=16), networks.resnet9(1, width=8).state_dict(), ["a"], ["a"]
        )


def test_weights_come_back_from_a_file_and_a_broken_file_is_refused(tmp_path):
    network = networks.resnet9(2)
    weight_files.save_weights(network, tmp_path / "w.safetensors", ["a", "b"])
    weights, canonical = weight_files.load_weights(tmp_path / "w.safetensors")
    assert canonical == ["a", "b"] and all(
        torch.equal(weights[k], v) for k, v in network.state_dict().items()
    )
    (tmp_path / "w.safetensors").write_bytes(b"not weights")
    with pytest.raises(errors.InputError, match="safetensors"):
        weight_files.load_weights(tmp_path / "w.safetensors")
    with pytest.raises(errors.InputError, match="notebook 02"):
        weight_files.load_weights(tmp_path / "absent.safetensors")


def test_halves_and_levels_never_pass_for_each_other():
    heads = {name: networks.resnet9(["a"], width=8, head=name) for name in ("halves", "levels")}
    assert heads["halves"].head.in_features == heads["levels"].head.in_features
    for name, other in (("halves", "levels"), ("halves", "pooled")):
        with pytest.raises(errors.InputError, match="NETWORK, WIDTH, CHANNELS and HEAD"):
            start_weights.start_from(
                networks.resnet9(["a"], width=8, head=other),
                heads[name].state_dict(),
                ["a"],
                ["a"],
            )


def test_a_volume_starts_from_what_the_last_level_of_films_says():
    films = networks.resnet9(["a"], width=8, seed=1, head="levels")
    films.standardise(torch.rand(416), torch.rand(416) + 0.5)
    volumes = networks.resnet9(["a"], width=8, seed=2, head="levels", dimensions=3)
    assert start_weights.start_from(volumes, films.state_dict(), ["a"], ["a"]) == []
    # features equal over the cells of the last map, all others at their public mean
    features = films.centre.flatten().clone()
    last = torch.rand(64)
    features[-128:] = last.repeat_interleave(2)
    expected = films.head((features - films.centre) * films.scale)
    n_cells = math.prod(volumes.reading.cells[-1])
    of_volume = torch.zeros(1, volumes.head.in_features)
    of_volume[0, -64 * n_cells :] = last.repeat_interleave(n_cells)
    torch.testing.assert_close(volumes.head(of_volume), expected, rtol=1e-4, atol=1e-4)


def test_a_lateral_finding_that_the_public_data_do_not_know_starts_even():
    network = networks.resnet9(["a", "b:right"], width=8, head="halves", lateral=["a"])
    known = networks.resnet9(["c"], width=8, head="halves")
    assert start_weights.start_from(network, known.state_dict(), ["c"], ["a", "b:right"]) == [
        "a",
        "b",
    ]
    logits = network.eval()(torch.randn(2, 1, 32, 32))
    torch.testing.assert_close(logits, torch.zeros(2, 2), atol=1e-5, rtol=0)
