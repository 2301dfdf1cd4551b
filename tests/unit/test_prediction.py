"""Scores over small shifts of an image: by hand, and against one image at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from helpers.core import errors, run_records
from helpers.data import cohorts
from helpers.training import finished_runs, network_input, networks, other_cohort, prediction


def moved(image, down, right):
    """An image moved by slicing, its edge repeated."""
    pad = np.pad(image, ((abs(down),) * 2, (abs(right),) * 2), mode="edge")
    top, left = abs(down) - down, abs(right) - right
    return pad[top : top + image.shape[0], left : left + image.shape[1]]


@pytest.mark.parametrize(
    "size, expected",
    [
        ((48, 72), [[0, 0], [2, 0], [-2, 0], [0, 3], [0, -3]]),  # 48 / 24, 72 / 24
        ((16, 16), [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]),  # at least a pixel
        # depth, height, width: in plane only
        ((32, 64, 96), [[0, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 4], [0, 0, -4]]),
    ],
)
def test_moves_are_a_24th_of_the_size_worked_by_hand(size, expected):
    assert prediction.moves(size).tolist() == expected


def test_predict_is_the_mean_logit_over_five_places_one_image_at_a_time():
    images = np.random.default_rng(2).integers(0, 256, (5, 48, 72)).astype(np.uint8)
    model, rows = networks.resnet9(2, width=8, seed=3).eval(), np.array([4, 0, 2])
    nn.init.normal_(model.head.weight, std=0.3)
    with torch.no_grad():
        logits = [
            [
                model(network_input.to_input(moved(images[row], *move).copy()[None]))[0]
                for move in ((0, 0), (2, 0), (-2, 0), (0, 3), (0, -3))
            ]
            for row in rows
        ]
    means = torch.stack([torch.stack(of_image).mean(0) for of_image in logits])
    scores = prediction.predict(model, images, rows, 1, batch_size=2, shifts=5)
    np.testing.assert_allclose(scores, torch.sigmoid(means), atol=1e-6)
    # the mean of scores is another number
    of_scores = torch.stack([torch.stack(of_image).sigmoid().mean(0) for of_image in logits])
    assert np.abs(scores - of_scores.numpy()).max() > 1e-5
    first = torch.stack([of_image[0] for of_image in logits])
    np.testing.assert_allclose(
        prediction.predict(model, images, rows, 1), torch.sigmoid(first), atol=1e-6
    )


def test_volumes_are_moved_in_plane_only():
    class Corner(nn.Module):
        """Logits are the standardised first voxel of each of the two slices."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(1, 2)

        def forward(self, images):
            return images[:, 0, :, 0, 0]

    volume = np.zeros((1, 2, 24, 48), dtype=np.uint8)
    volume[0, 0], volume[0, 1, 0, 0], volume[0, 1, 0, 1], volume[0, 1, 0, 2] = 100, 240, 20, 60
    values = network_input.to_input(volume)[0, 0, 1, 0]
    # slice 1: as it is, down and right repeat the edge, up is the 0 of the next row, left is 60
    expected = (3 * values[0] + network_input.to_input(volume)[0, 0, 1, 1, 0] + values[2]) / 5
    scores = prediction.predict(Corner(), volume, np.array([0]), 1, shifts=5)
    # every place keeps the mean and spread of the volume but for the few voxels at the edge
    assert scores[0, 1] == pytest.approx(float(torch.sigmoid(expected)), abs=0.02)
    assert scores[0, 0] == pytest.approx(float(torch.sigmoid(torch.tensor(1.0))), abs=0.02)


def test_another_number_of_shifts_is_refused(small_cohort):
    with pytest.raises(errors.InputError, match="SCORE_SHIFTS to be one of 1, 5; got 3"):
        prediction.labels_and_scores(
            networks.resnet9(2, width=8), small_cohort, "valid", 1, shifts=3
        )


def test_tables_and_arrays_of_scores_have_the_shifts_asked_for(small_cohort):
    model = networks.resnet9(2, width=8, seed=3)
    nn.init.normal_(model.head.weight)
    for shifts in (1, 5):
        table = prediction.predictions_of(model, small_cohort, 1, ("test",), shifts=shifts)
        _, scores = prediction.labels_and_scores(model, small_cohort, "test", 1, shifts=shifts)
        rows = np.flatnonzero(small_cohort.table["split"] == "test")
        expected = prediction.predict(model, small_cohort.images, rows, 1, shifts=shifts)
        assert np.array_equal(scores, expected)
        assert np.array_equal(table["score"], expected.T.ravel().astype(float))


def test_a_record_names_shifts_only_where_there_are_any():
    assert prediction.with_shifts({"SEED": 0, "SCORE_SHIFTS": 5}, 1) == {"SEED": 0}
    with_five = prediction.with_shifts({"SEED": 0}, 5)
    assert with_five == {"SEED": 0, "SCORE_SHIFTS": 5}
    assert prediction.shifts_of({"parameters": with_five}) == 5
    assert prediction.shifts_of({"parameters": {"SEED": 0}}) == 1  # of version 0.3


def test_another_cohort_is_predicted_with_the_shifts_of_the_run(small_cohort, results, monkeypatch):
    other = dataclasses.replace(small_cohort, name="other")
    monkeypatch.setattr(cohorts, "read", {"small": small_cohort, "other": other}.get)
    model = networks.resnet9(2, width=8, seed=3)
    nn.init.normal_(model.head.weight)
    known = dict(run="small-baseline-seed0", arm="baseline", seed=0, parameters={"SEED": 0})
    known |= dict(seconds=1.0, fingerprint="same")
    for shifts in (1, 5, 1):
        at_home = finished_runs.finish(model, small_cohort, 1, **known, shifts=shifts)
        assert run_records.read_record(known["run"])["parameters"].get("SCORE_SHIFTS", 1) == shifts
        predictions = other_cohort.try_elsewhere(model, 1, known["run"], "other")
        assert np.array_equal(predictions["score"], at_home["score"])


@pytest.mark.parametrize("head", ["halves", "pooled"])
def test_no_image_has_no_scores_of_each_finding(head):
    names = ["effusion:right", "effusion:left", "pneumonia"]  # two outputs under "halves"
    model = networks.resnet9(names, width=8, head=head)
    images = np.zeros((1, 48, 48), np.uint8)
    some, none = (prediction.predict(model, images, np.arange(n), 1) for n in (1, 0))
    assert some.shape == (1, 3) and none.shape == (0, 3)
