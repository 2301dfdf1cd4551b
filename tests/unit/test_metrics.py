"""AUROC, its variance and thresholds by hand, against slow oracles, and what they refuse."""

import numpy as np
import pytest

from helpers.analysis import bootstrap, metrics
from helpers.core import errors


def test_auroc_leaves_unknown_labels_out_and_is_nan_with_one_class():
    assert metrics.auroc(np.array([0, 1, np.nan]), np.array([0.2, 0.3, 0.1])) == 1
    assert np.isnan(metrics.auroc(np.ones(3), np.arange(3)))
    assert np.isnan(metrics.macro_auroc(np.ones((3, 2)), np.zeros((3, 2))))
    assert metrics.macro_auroc(np.array([[0, 1], [1, 1]]), np.array([[0.1, 0.1], [0.2, 0.2]])) == 1


def test_youden_threshold_on_four_images_worked_by_hand():
    # t = 0.9: sensitivity 1/2, false alarms 0; t = 0.3: 1 and 1/2. Equally good: the larger.
    assert metrics.youden_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9])) == 0.9


def test_youden_threshold_agrees_with_trying_every_score():
    rng = np.random.default_rng(7)
    labels, scores = rng.integers(0, 2, 200), rng.random(200).round(2)

    def youden(threshold):
        decisions = scores >= threshold
        return decisions[labels == 1].mean() - decisions[labels == 0].mean()

    assert youden(metrics.youden_threshold(labels, scores)) == pytest.approx(
        max(map(youden, scores))
    )


def test_youden_threshold_refuses_a_single_class():
    with pytest.raises(errors.InputError, match="0 positive and 3 negative"):
        metrics.youden_threshold(np.zeros(3), np.array([0.1, 0.2, 0.3]))


def test_sensitivity_threshold_reaches_the_sensitivity_and_no_larger_one_does():
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, 200), rng.random(200).round(2)
    for wanted in (0.5, 0.9, 1.0):
        threshold = metrics.sensitivity_threshold(labels, scores, wanted)
        higher = scores[scores > threshold].min(initial=2)
        assert (
            (scores >= threshold)[labels == 1].mean()
            >= wanted
            > (scores >= higher)[labels == 1].mean()
        )
    assert (
        metrics.sensitivity_threshold(
            np.array([1, 1, 1, 1, 1, 0]), np.array([5, 4, 3, 2, 1, 9.0]), 0.6
        )
        == 3
    )  # 3 of 5, not 4
    with pytest.raises(errors.InputError, match="images with the finding"):
        metrics.sensitivity_threshold(np.zeros(3), np.arange(3.0), 0.9)


def delong_variance(labels, scores):
    """DeLong's variance by its double sum over pairs, slowly."""
    wins = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
        scores[labels == 1][:, None] == scores[labels == 0]
    )
    return wins.mean(1).var(ddof=1) / wins.shape[0] + wins.mean(0).var(ddof=1) / wins.shape[1]


def test_clustered_variance_is_delongs_at_one_image_a_patient():
    rng = np.random.default_rng(5)
    labels, scores = rng.integers(0, 2, 90), rng.random(90).round(1)
    assert metrics.clustered_auroc_variance(labels, scores, np.arange(90)) == pytest.approx(
        delong_variance(labels, scores)
    )


def test_clustered_variance_of_repeated_images_is_that_of_patients_and_agrees_with_the_bootstrap():
    rng = np.random.default_rng(6)
    labels, scores = rng.integers(0, 2, 150), rng.random(150)
    repeated = [np.repeat(values, 4) for values in (labels, scores, np.arange(150))]
    assert metrics.clustered_auroc_variance(*repeated) == pytest.approx(
        delong_variance(labels, scores)
    )
    mixed = rng.integers(0, 120, 600)  # patients with images of both labels
    scores = rng.random(600) + 0.5 * repeated[0] + 0.4 * rng.random(120)[mixed]
    draws = bootstrap.ranked(repeated[0], scores, bootstrap.Draws.of(mixed, 3000, rng), ("auroc",))[
        "auroc"
    ][1:]
    assert metrics.clustered_auroc_variance(repeated[0], scores, mixed) == pytest.approx(
        draws.var(), rel=0.1
    )
    assert np.isnan(
        metrics.clustered_auroc_variance(
            np.array([1, 1, 0, 0]), np.arange(4.0), np.array([0, 0, 1, 2])
        )
    )
