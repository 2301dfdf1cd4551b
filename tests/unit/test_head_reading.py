"""What a head reads: halves of a film, levels, sides; no logit depends on another image."""

import math

import pytest
import torch

from helpers.core import errors
from helpers.training import head_reading, networks

FINDINGS = ["effusion:right", "effusion:left", "oedema", "nodule"]


def halves_network(seed=1):
    """A network of halved films, of findings with and without a side."""
    return networks.resnet9(FINDINGS, width=8, seed=seed, head="halves", lateral=["nodule"]).eval()


def test_a_half_begins_at_its_own_side_of_the_film_and_the_left_one_is_mirrored():
    film = torch.arange(48.0).expand(1, 1, 4, 48)  # columns 0 to 47, the patient's right first
    right, left = head_reading.of("halves", FINDINGS).rows_of(film)
    assert right[0, 0].tolist() == list(range(28))  # 7 / 12 of 48
    assert left[0, 0].tolist() == list(range(47, 19, -1))


def test_halves_of_a_film_lie_side_by_side_in_the_batch():
    films = torch.rand(3, 1, 8, 12)
    rows = head_reading.of("halves", FINDINGS).rows_of(films)
    assert torch.equal(rows[4, 0], films[2, 0, :, :8])
    assert torch.equal(rows[5, 0], films[2, 0].flip(-1)[:, :8])


def test_a_mirrored_film_exchanges_right_and_left_and_leaves_the_midline():
    network, films = halves_network(), torch.randn(5, 1, 48, 48)
    with torch.no_grad():
        logits, mirrored = network(films), network(films.flip(-1))
    torch.testing.assert_close(mirrored, logits[:, [1, 0, 2, 3]])
    assert (logits[:, 0] - logits[:, 1]).abs().max() > 1e-3


def test_each_half_is_seen_by_its_own_side_only():
    network, films = halves_network(), torch.randn(4, 1, 48, 48)
    changed = films.clone()
    changed[..., :20] += 1.0  # columns that the left half does not have
    with torch.no_grad():
        difference = (network(changed) - network(films)).abs().amax(0)
    assert difference[0] > 1e-3 and difference[1] == 0


def test_a_lateral_finding_without_side_is_right_or_left_and_others_are_the_mean():
    reading = head_reading.of("halves", FINDINGS, lateral=["nodule"])
    assert reading.bases == ("effusion", "oedema", "nodule")
    right, left = torch.tensor([[0.3, 1.0, 0.0]]), torch.tensor([[-0.7, 3.0, math.log(0.2 / 0.8)]])
    logits = reading.logits(torch.cat([right, left]))
    # right or left: 1 - (1 - 0.5) (1 - 0.2) = 0.6
    expected = torch.tensor([[0.3, -0.7, 2.0, math.log(0.6 / 0.4)]])
    torch.testing.assert_close(logits, expected)


def test_right_or_left_stays_finite_with_its_gradient_where_both_are_certain():
    reading = head_reading.of("halves", ["nodule"], lateral=["nodule"])
    outputs = torch.tensor([[-80.0], [-90.0], [80.0], [90.0], [90.0], [-90.0]], requires_grad=True)
    logits = reading.logits(outputs)
    logits.sum().backward()
    assert torch.isfinite(logits).all() and torch.isfinite(outputs.grad).all()
    assert logits[0, 0] < -13 and logits[1, 0] > 70 and logits[2, 0] > 70


@pytest.mark.parametrize(
    ("head", "dimensions", "features"),
    [
        ("pooled", 2, 64),
        ("sided", 2, 4 * 64),
        ("sided", 3, 8 * 64),
        ("levels", 2, 6 * 16 + 6 * 32 + 2 * 64),
        ("halves", 2, 6 * 16 + 6 * 32 + 2 * 64),
    ],
)
def test_a_head_has_its_features(head, dimensions, features):
    network = networks.resnet9(FINDINGS, width=8, head=head, dimensions=dimensions)
    images = torch.randn(3, 1, *[32] * dimensions)
    rows = 3 * (2 if head == "halves" else 1)
    assert network.features(images).shape == (rows, features)
    assert network(images).shape == (3, 4)


@pytest.mark.parametrize("head", ["levels", "halves"])
def test_standardising_the_features_changes_no_logit_also_a_second_time(head):
    network, films = networks.resnet9(FINDINGS, width=8, head=head), torch.randn(4, 1, 32, 32)
    logits, n_features = network(films), network.head.in_features
    generator = torch.Generator().manual_seed(2)
    for _ in range(2):
        centre, scale = torch.rand(2, n_features, generator=generator) + 0.1
        network.standardise(centre, scale)
        torch.testing.assert_close(network(films), logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(network.centre.flatten(), centre) and not network.scale.requires_grad


def test_constants_of_the_features_are_never_trained_and_only_where_levels_are_read():
    network = networks.resnet9(2, width=8, head="levels")
    for part in networks.PARTS:
        networks.train_only(network, part)
        assert not network.centre.requires_grad and not network.scale.requires_grad
    assert "scale" not in networks.resnet9(2, width=8, head="pooled").state_dict()


def test_an_unknown_head_and_halves_of_a_volume_are_refused():
    with pytest.raises(errors.InputError, match="HEAD"):
        head_reading.of("whole", FINDINGS)
    with pytest.raises(errors.InputError, match="volumes"):
        head_reading.of("halves", FINDINGS, dimensions=3)
