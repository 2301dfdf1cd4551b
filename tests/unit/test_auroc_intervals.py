"""Influences of patients on AUROC against other ways to get them, and the coverage of intervals
from them in small groups.
"""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers.analysis import auroc_intervals, bootstrap
from helpers.analysis.auroc_intervals import Spread


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


def delong_variance(labels, scores):
    """DeLong's variance by its double sum over pairs."""
    wins = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
        scores[labels == 1][:, None] == scores[labels == 0]
    )
    return wins.mean(1).var(ddof=1) / wins.shape[0] + wins.mean(0).var(ddof=1) / wins.shape[1]


def obuchowski_variance(labels, scores, patients):
    """Equations 3 to 5 of Obuchowski (1997), pair by pair."""
    wins = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
        scores[labels == 1][:, None] == scores[labels == 0]
    )
    placements = {1: wins.mean(1), 0: wins.mean(0)}
    n, terms = len(np.unique(patients)), {}
    for label in (1, 0):
        here = patients[labels == label]
        of_patient = [
            (placements[label][here == patient] - wins.mean()).sum()
            for patient in np.unique(patients)
        ]
        terms[label] = np.array(of_patient), len(np.unique(here)), len(here)
    own = sum(m / (m - 1) * (part**2).sum() / k**2 for part, m, k in terms.values())
    (with_it, _, k), (without, _, m) = terms[1], terms[0]
    return own + 2 * n / (n - 1) * (with_it * without).sum() / (k * m)


def test_with_one_image_a_patient_the_variance_is_delongs():
    rng = np.random.default_rng(5)
    labels, scores = rng.integers(0, 2, 90), rng.random(90).round(1)
    _, influence = auroc_intervals.influences(labels, scores, np.arange(90), 90)
    assert auroc_intervals.standard_error(influence) ** 2 == pytest.approx(
        delong_variance(labels, scores)
    )


def test_images_repeated_four_times_tell_no_more_than_one_and_the_bootstrap_agrees():
    rng = np.random.default_rng(6)
    labels, scores = rng.integers(0, 2, 150), rng.random(150)
    repeated = [np.repeat(values, 4) for values in (labels, scores, np.arange(150))]
    _, influence = auroc_intervals.influences(*repeated, 150)
    assert auroc_intervals.standard_error(influence) ** 2 == pytest.approx(
        delong_variance(labels, scores)
    )
    mixed = rng.integers(0, 120, 600)  # patients with images of both labels
    scores = rng.random(600) + 0.5 * repeated[0] + 0.4 * rng.random(120)[mixed]
    draws = bootstrap.Draws.of(mixed, 3000, rng)
    drawn = bootstrap.ranked(repeated[0], scores, draws, ("auroc",))["auroc"][1:]
    _, influence = auroc_intervals.influences(repeated[0], scores, mixed, 120)
    assert auroc_intervals.standard_error(influence) == pytest.approx(drawn.std(), rel=0.05)


def test_their_squares_add_up_to_obuchowskis_variance():
    labels, scores, patients = films()
    _, influence = auroc_intervals.influences(labels, scores, patients, 45)
    variance = obuchowski_variance(labels, scores, patients)
    assert auroc_intervals.standard_error(influence) ** 2 == pytest.approx(variance)
    assert not influence[40:].any()  # nobody's image
    labels, scores, patients = films(with_both=True, n=400)  # but for the factor of the covariance
    _, influence = auroc_intervals.influences(labels, scores, patients, 400)
    variance = obuchowski_variance(labels, scores, patients)
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
    spread = Spread(np.array([0.05, 0.0]), np.array([9.0, 9.0]))
    low, high = auroc_intervals.of_level(np.array([0.95, 1.0]), spread, np.array([10, 10]))
    assert low[0] < 0.95 < high[0] < 1 and 0.95 - low[0] > high[0] - 0.95
    assert (low[1], high[1]) == (pytest.approx(10 / (10 + 1.96**2), abs=1e-3), 1.0)
    narrow = auroc_intervals.of_level(0.95, Spread(0.05, 9.0), 10, percent=90)
    assert narrow[0] > low[0] and narrow[1] < high[0]


@pytest.mark.parametrize("spread", [Spread(0.008, 7.0), Spread(0.008, 7.0, 0.02, 2.0)])
def test_p_and_interval_of_a_change_say_the_same_at_each_level(spread):
    for percent in (95, 99.17):  # alone, and at the first step of Holm for six
        margin = spread.margin((100 - percent) / 200)  # an interval that ends at 0
        assert spread.p(margin) == pytest.approx(1 - percent / 100, rel=1e-6)
    assert spread.p(np.array([0.0, np.nan])).tolist() == [1, pytest.approx(np.nan, nan_ok=True)]
    assert Spread(0.0, 1.0).p(np.zeros(1)) == 1


def test_without_seeds_a_margin_is_students_and_without_patients_that_of_seeds():
    assert Spread(0.02, 5.0).margin(0.025) == pytest.approx(0.02 * stats.t.ppf(0.975, 5))
    assert Spread(0.0, 1.0, 0.03, 2.0).margin(0.05) == pytest.approx(0.03 * stats.t.ppf(0.95, 2))
    low, high = auroc_intervals.of_contrast(0.8, (0.7, 0.85), 0.8, (0.8, 0.8), 0, 0.24)
    assert (low, high) == (pytest.approx(-0.26), pytest.approx(np.hypot(0.05, 0.24)))


@pytest.mark.parametrize("n_seeds, ratio", [(2, 4.0), (3, 2.0), (3, 0.5), (10, 1.0)])
@pytest.mark.parametrize("level", [0.05, 0.05 / 6])
def test_a_margin_over_few_seeds_covers_at_every_level(n_seeds, ratio, level):
    """n seeds against one that borrows; Satterthwaite's t of the sum misses more at 3 and 2."""
    rng, n, freedom = np.random.default_rng(0), 20_000, 40
    seeds = ratio * rng.standard_normal((n, n_seeds + 1))
    apart = rng.standard_normal(n) + seeds[:, 1:].mean(axis=1) - seeds[:, 0]
    of_patients = np.sqrt(rng.chisquare(freedom, n) / freedom)
    variance = seeds[:, 1:].var(axis=1, ddof=1) * (1 / n_seeds + 1)
    margin = Spread(of_patients, freedom, np.sqrt(variance), n_seeds - 1).margin(level / 2)
    noise = 3 * np.sqrt(level / n)
    assert np.mean(np.abs(apart) > margin) < level + noise
    if ratio >= 2:
        total = of_patients**2 + variance
        satterthwaite = total**2 / (of_patients**4 / freedom + variance**2 / (n_seeds - 1))
        of_sum = stats.t.isf(level / 2, satterthwaite) * np.sqrt(total)
        assert np.mean(np.abs(apart) > of_sum) > level + noise


@pytest.mark.parametrize("is_opposite", [True, False])
def test_intervals_of_groups_of_images_that_share_patients_cover(is_opposite):
    """One AP and one PA film of each patient, correlation 0.8, labels opposite or the same; without
    the correlation of both estimates 90 and 100 % are covered.
    """
    rng, n, covered = np.random.default_rng(2), 120, []
    for _ in range(500):
        sick, lasting = rng.random(n) < 0.5, rng.standard_normal(n)
        sides = []
        for label in (sick, ~sick if is_opposite else sick):
            noise = np.sqrt(0.8) * lasting + np.sqrt(0.2) * rng.standard_normal(n)
            scores = np.sqrt(2) * norm.ppf(0.85) * label + noise
            values = auroc_intervals.influences(label.astype(float), scores, np.arange(n), n)
            freedom = min(sick.sum(), n - sick.sum()) - 1
            spread = Spread(auroc_intervals.standard_error(values[1]), freedom)
            sides.append((*values, auroc_intervals.of_level(values[0], spread, freedom + 1)))
        (one, here, of_one), (other, there, of_other) = sides
        shared = auroc_intervals.correlation(
            here, there, *map(auroc_intervals.standard_error, (here, there))
        )
        assert (shared < 0) == is_opposite
        low, high = auroc_intervals.of_contrast(one, of_one, other, of_other, shared)
        covered.append(low <= 0 <= high)
    assert 0.93 < np.mean(covered) < 0.98


def spread_of(influence):
    """Errors and degrees of freedom of means over findings."""
    freedom = auroc_intervals.effective_patients(influence)
    return Spread(auroc_intervals.standard_error(influence), freedom)


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
            limits = auroc_intervals.of_level(estimate, spread_of(influence), n_with)
            sides.append((estimate, limits, influence))
        (group, of_group, here), (rest, of_rest, there) = sides
        low, high = auroc_intervals.of_contrast(group, of_group, rest, of_rest)
        apart = np.concatenate([here[1] - here[0], there[1] - there[0]])
        change = (group[1] - group[0]) - (rest[1] - rest[0])
        margin = spread_of(apart).margin(0.025)
        covered.append(
            [
                of_group[0][0] <= 0.85 <= of_group[1][0],
                low[0] <= 0 <= high[0],
                abs(change) <= margin,
            ]
        )
    level, contrast, gap_change = np.mean(covered, axis=0)
    # 93.5 to 96.5 %, and two standard errors of so few cohorts
    assert 0.922 < level < 0.978 and 0.922 < contrast < 0.978 and 0.922 < gap_change < 0.978
