"""AUROC, and what can be estimated, by hand."""

import numpy as np

from helpers.analysis import metrics


def test_auroc_leaves_unknown_labels_out_and_is_nan_with_one_class():
    assert metrics.auroc(np.array([0, 1, np.nan]), np.array([0.2, 0.3, 0.1])) == 1
    assert np.isnan(metrics.auroc(np.ones(3), np.arange(3)))
    assert np.isnan(metrics.macro_auroc(np.ones((3, 2)), np.zeros((3, 2))))
    assert metrics.macro_auroc(np.array([[0, 1], [1, 1]]), np.array([[0.1, 0.1], [0.2, 0.2]])) == 1


def test_ten_patients_with_both_labels_are_not_ten_and_ten():
    labels = np.tile([1, 0], 20)
    both, apart = np.repeat(np.arange(20), 2), np.arange(40)
    assert metrics.is_estimable(labels, apart, 20)
    assert not metrics.is_estimable(labels, apart, 21)
    assert not metrics.is_estimable(labels, both, 20)  # 20 with, 20 without, 20 distinct ones
    assert metrics.is_estimable(labels, both, 10)
    assert not metrics.is_estimable(np.ones(40), apart, 1)
    assert not metrics.is_estimable(np.empty(0), np.empty(0), 1)
