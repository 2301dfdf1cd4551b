"""Intervals cover the truth, and equal groups are not called unequal: by simulation, thousands of cohorts."""

import sys

import numpy as np
import pytest

from helpers import runs

sys.path.insert(0, str(runs.repository_root() / "benchmarks"))
import interval_coverage


def test_the_simulated_truth_is_the_truth():
    rng = np.random.default_rng(0)
    found = {arm: [] for arm in interval_coverage.AUROCS}
    for _ in range(20):
        _, group, labels, scores = interval_coverage.cohort(rng, 0.5)
        for arm, auroc in interval_coverage.AUROCS.items():
            for inside in (group, ~group):
                positive, negative = scores[arm][0][inside & (labels[0] == 1)], scores[arm][0][inside & (labels[0] == 0)]
                found[arm].append((positive[:, None] > negative).mean())
    for arm, auroc in interval_coverage.AUROCS.items():
        assert np.mean(found[arm]) == pytest.approx(auroc, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_intervals_of_resampled_patients_cover_95_in_100(correlation):
    for row in interval_coverage.coverage(correlation, "patient", 2000):  # the contrast and gap_change of equal groups among them
        assert 0.935 <= row["coverage"] <= 0.965, row


@pytest.mark.slow
def test_intervals_of_resampled_images_do_not_where_the_images_of_a_patient_are_alike():
    found = {row["quantity"]: row["coverage"] for row in interval_coverage.coverage(0.5, "image", 2000)}
    assert found["mean AUROC"] < 0.90 and found["contrast"] < 0.90
