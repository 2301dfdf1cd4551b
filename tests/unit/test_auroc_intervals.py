"""Influences of patients on AUROC against other ways to get them, and the coverage of intervals
from them in small groups.
"""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers.analysis import auroc_intervals, metrics


def films(seed=0, n=40, with_both=False):
    """Labels, scores with ties, and patients of 1 to 4 images."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), rng.integers(1, 5, n))
    labels = (rng.random(n) < 0.4)[patients].astype(float)
    if with_both:
        labels = np.where(rng.random(len(labels)) < 0.3, 1 - labels, labels)
    scores = np.round(labels + rng.standard_normal(n)[patients] + rng.random(len(labels)), 1)
    return labels, scores, patients


def test_influences_are_the_derivative_of_auroc_by_a_patients_weight():
    labels, scores, patients = films(with_both=True)
    estimate, influence = auroc_intervals.influences(labels, scores, patients, 40)
    assert estimate == pytest.approx(roc_auc_score(labels, scores))
    n_of = [len(np.unique(patients[labels == label])) for label in (0, 1)]
    for patient in range(40):
        slopes = []
        for label in (0, 1):  # those with and without the finding have a factor of their own
            weights = 1 + 1e-6 * ((patients == patient) & (labels == label))
            moved = roc_auc_score(labels, scores, sample_weight=weights)
            factor = np.sqrt(n_of[label] / (n_of[label] - 1))
            slopes.append(factor * (moved - estimate) / 1e-6)
        assert influence[patient] == pytest.approx(sum(slopes), abs=1e-6)


def test_their_squares_add_up_to_obuchowskis_variance():
    labels, scores, patients = films()
    _, influence = auroc_intervals.influences(labels, scores, patients, 45)
    variance = metrics.clustered_auroc_variance(labels, scores, patients)
    assert auroc_intervals.standard_error(influence) ** 2 == pytest.approx(variance)
    assert not influence[40:].any()  # nobody's image
    labels, scores, patients = films(with_both=True, n=400)  # but for the factor of the covariance
    _, influence = auroc_intervals.influences(labels, scores, patients, 400)
    variance = metrics.clustered_auroc_variance(labels, scores, patients)
    assert auroc_intervals.standard_error(influence) ** 2 == pytest.approx(variance, rel=0.01)


def test_one_patient_of_a_class_tells_no_spread():
    labels, scores, patients = np.array([1.0, 1, 0, 0]), np.arange(4.0), np.array([0, 0, 1, 2])
    estimate, influence = auroc_intervals.influences(labels, scores, patients, 3)
    assert np.isnan(estimate) and np.isnan(influence).all()


def test_effective_patients_count_those_who_carry_the_variance():
    alike = np.random.default_rng(0).standard_normal((3, 4000))
    assert auroc_intervals.effective_patients(alike) == pytest.approx(4000, rel=0.1)
    alike[:, 20:] *= 1e-3
    assert (auroc_intervals.effective_patients(alike) < 40).all()
    assert auroc_intervals.effective_patients(np.array([0.0, 0, 5])) == 3
    assert np.isnan(auroc_intervals.effective_patients(np.zeros(5)))


def test_a_level_stays_below_1_and_has_a_lower_limit_where_all_pairs_are_in_order():
    low, high = auroc_intervals.of_level(
        np.array([0.95, 1.0]), np.array([0.05, 0.0]), np.array([9.0, 9.0]), np.array([10, 10])
    )
    assert low[0] < 0.95 < high[0] < 1 and 0.95 - low[0] > high[0] - 0.95
    assert (low[1], high[1]) == (pytest.approx(10 / (10 + 1.96**2), abs=1e-3), 1.0)
    narrow = auroc_intervals.of_level(0.95, 0.05, 9.0, 10, percent=90)
    assert narrow[0] > low[0] and narrow[1] < high[0]


def test_p_and_interval_of_a_change_say_the_same_at_each_level():
    for percent in (95, 99.17):  # alone, and at the first step of Holm for six
        low, high = auroc_intervals.of_change(0.02, 0.008, 7.0, percent)
        moved = 0.02 - low  # a change whose interval ends at 0
        assert auroc_intervals.p_of_change(moved, 0.008, 7.0) == pytest.approx(1 - percent / 100)
        assert high - 0.02 == pytest.approx(moved)


def drawn(rng, n_with, n_without, n_findings):
    """Return AUROC and influences of each finding in two arms, of AUROC 0.85 and 0.80: 1 to 8
    images a patient, half of whose noise is the patient's.
    """
    n = n_with + n_without
    patients = np.repeat(np.arange(n), rng.integers(1, 9, n))

    def noise():
        lasting = rng.standard_normal(n)[patients]
        return (lasting + rng.standard_normal(len(patients))) / np.sqrt(2)

    values = []
    for _ in range(n_findings):
        labels = (rng.permutation(n) < n_with)[patients].astype(float)
        common = noise()
        for auroc in (0.85, 0.80):
            scores = np.sqrt(2) * norm.ppf(auroc) * labels
            scores = scores + np.sqrt(0.8) * common + np.sqrt(0.2) * noise()
            values.append(auroc_intervals.influences(labels, scores, patients, n))
    estimates, influence = zip(*values)
    shape = (n_findings, 2)
    return np.reshape(estimates, shape).mean(0), np.reshape(influence, (*shape, n)).mean(0)


@pytest.mark.slow
def test_intervals_of_means_over_findings_cover_in_groups_of_ten_and_ten():
    rng, covered = np.random.default_rng(0), []
    for _ in range(1200):
        sides = []
        for n_with, n_without in ((10, 10), (60, 60)):
            estimate, influence = drawn(rng, n_with, n_without, 4)
            error = auroc_intervals.standard_error(influence)
            freedom = auroc_intervals.effective_patients(influence)
            limits = auroc_intervals.of_level(estimate, error, freedom, n_with)
            sides.append((estimate, limits, influence))
        (group, of_group, here), (rest, of_rest, there) = sides
        low, high = auroc_intervals.of_contrast(group, of_group, rest, of_rest)
        apart = np.concatenate([here[1] - here[0], there[1] - there[0]])
        change = (group[1] - group[0]) - (rest[1] - rest[0])
        of_change = auroc_intervals.of_change(
            change,
            auroc_intervals.standard_error(apart),
            auroc_intervals.effective_patients(apart),
        )
        covered.append(
            [
                of_group[0][0] <= 0.85 <= of_group[1][0],
                low[0] <= 0 <= high[0],
                of_change[0] <= 0 <= of_change[1],
            ]
        )
    level, contrast, gap_change = np.mean(covered, axis=0)
    # 93.5 to 96.5 %, and two standard errors of so few cohorts
    assert 0.922 < level < 0.978 and 0.922 < contrast < 0.978 and 0.922 < gap_change < 0.978
