"""Metrics by hand, against scikit-learn, and what they refuse."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

from helpers import checks, metrics


def test_weighted_auroc_on_four_images_worked_by_hand():
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.9])
    # pairs (with, without): 0.4>0.1, 0.4=0.4 (half), 0.9>0.1, 0.9>0.4 -> 3.5 of 4
    # the second column counts the image 0.4 (without) twice: pairs 0.4>0.1, 2 halves, 0.9>0.1, 2 x 0.9>0.4 -> 5 of 6
    weights = np.array([[1, 1, 1, 1], [1, 1, 2, 1]]).T
    assert metrics.weighted_auroc(labels, scores, weights) == pytest.approx([3.5 / 4, 5 / 6])


def test_weighted_auroc_agrees_with_sklearn_under_weights_and_ties():
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 300), rng.random(300).round(1)
    weights = rng.integers(0, 4, (20, 300))
    expected = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    assert metrics.weighted_auroc(labels, scores, weights.T) == pytest.approx(expected, abs=1e-12)


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

    assert youden(metrics.youden_threshold(labels, scores)) == pytest.approx(max(map(youden, scores)))


def test_youden_threshold_refuses_a_single_class():
    with pytest.raises(checks.InputError, match="0 positive and 3 negative"):
        metrics.youden_threshold(np.zeros(3), np.array([0.1, 0.2, 0.3]))


def test_weighted_rates_agree_with_sklearn():
    rng = np.random.default_rng(3)
    labels, decisions = rng.integers(0, 2, 100), rng.integers(0, 2, 100)
    weights = rng.integers(0, 3, (5, 100)).astype(np.float32)
    for rate, score in (("accuracy", accuracy_score), ("sensitivity", recall_score),
                        ("specificity", lambda y, d, sample_weight: recall_score(1 - y, 1 - d, sample_weight=sample_weight))):
        expected = [score(labels, decisions, sample_weight=row) for row in weights]
        assert metrics.weighted_rates(labels, decisions, weights.T)[rate] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(metrics.weighted_rates(np.zeros(4), np.zeros(4), np.ones((4, 1)))["sensitivity"]).all()


def test_patient_weights_move_the_images_of_a_patient_together():
    patients = np.array(["a", "b", "a", "c", "b"])
    weights = metrics.patient_weights(patients, 400, np.random.default_rng(1))
    assert (weights[:, 0] == 1).all() and weights.shape == (5, 401)
    assert (weights[0] == weights[2]).all() and (weights[1] == weights[4]).all()
    assert (weights[[0, 1, 3], 1:].sum(0) == 3).all()  # three patients drawn each time
    assert weights[3, 1:].var() == pytest.approx(2 / 3, rel=0.25)  # Binomial(3, 1/3)
