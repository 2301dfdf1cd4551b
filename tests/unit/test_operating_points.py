"""Thresholds by hand and by trying every score, under resamples of `valid`, and what is refused."""

import numpy as np
import pytest
from scipy import stats

from helpers.analysis import bootstrap, operating_points
from helpers.core import errors


def fitted(labels, scores, operating_point, n_bootstrap=0, patients=None):
    labels, scores = np.asarray(labels, float), np.asarray(scores, float)
    patients = np.arange(len(labels)) if patients is None else patients
    draws = bootstrap.Draws.of(patients, n_bootstrap, np.random.default_rng(0))
    return operating_points.thresholds(labels, scores, draws, operating_point), draws


def test_youden_on_four_images_worked_by_hand():
    # t = 0.9: sensitivity 1/2, false alarms 0; t = 0.3: 1 and 1/2. Equally good: the larger.
    thresholds, _ = fitted([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9], "youden")
    assert thresholds.tolist() == [0.9]


def test_the_three_rules_on_six_images_worked_by_hand():
    labels, scores = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], [5, 4, 3, 2, 1, 4.5, 2.5, 1.5, 0.5, 0.4]
    assert fitted(labels, scores, "sensitivity 0.6")[0] == 3  # 3 of 5, not 4
    assert fitted(labels, scores, "false alarms 0.2")[0] == 3  # 4.5 alone; 2.5 would be two
    assert fitted(labels, scores, "false alarms 0.1")[0] == 5  # not even 4.5
    assert fitted([1, 0], [1.0, 2.0], "false alarms 0.5")[0] == np.inf


@pytest.mark.parametrize("operating_point", ["youden", "sensitivity 0.9", "false alarms 0.15"])
def test_every_resample_has_the_threshold_that_trying_every_score_finds(operating_point):
    rng = np.random.default_rng(7)
    patients = np.repeat(np.arange(60), 3)
    labels, scores = (rng.random(180) < 0.4).astype(float), rng.random(180).round(2)  # ties
    thresholds, draws = fitted(labels, scores, operating_point, 25, patients)
    weights = np.hstack(list(draws.weights()))[patients]
    for column, threshold in enumerate(thresholds):
        weight = weights[:, column]

        def share(t, label, weight=weight):
            of = labels == label
            return weight[of & (scores >= t)].sum() / weight[of].sum()

        rates = {t: (share(t, 1), share(t, 0)) for t in np.unique(scores)}
        if operating_point == "youden":
            best = max(np.round(sens - alarms, 12) for sens, alarms in rates.values())
            wanted = max(t for t, (s, a) in rates.items() if np.round(s - a, 12) == best)
        elif operating_point.startswith("sensitivity"):
            wanted = max(t for t, (s, _) in rates.items() if s >= 0.9 - 1e-12)
        else:
            wanted = min((t for t, (_, a) in rates.items() if a <= 0.15 + 1e-12), default=np.inf)
        assert threshold == wanted
    assert len(set(thresholds)) > 3


def test_without_a_class_there_is_no_threshold():
    assert np.isnan(fitted([1, 1], [0.1, 0.2], "youden", 3)[0]).all()
    thresholds, draws = fitted([1, 0, 0], [0.3, 0.1, 0.2], "youden", 50)
    lacks = np.hstack(list(draws.weights()))[0] == 0
    lacks |= np.hstack(list(draws.weights()))[1:].sum(axis=0) == 0
    assert (np.isnan(thresholds) == lacks).all() and lacks.any()


@pytest.mark.parametrize("wrong", ["f1", "sensitivity", "sensitivity 1.2", "false alarms x", ""])
def test_other_operating_points_are_refused(wrong):
    with pytest.raises(errors.InputError, match="OPERATING_POINT to be"):
        operating_points.parts_of(wrong)


def test_operating_points_are_said_in_words():
    assert operating_points.in_words("youden") == "Youden's"
    assert operating_points.in_words("false alarms 0.20") == "false alarms 0.2 on valid"


def test_intervals_cover_only_with_the_thresholds_own_uncertainty():
    """Sensitivity at 20 % false alarms, fitted on 60 healthy patients: 50 % of those with it."""
    rng, covered, conditional = np.random.default_rng(1), [], []
    shift = stats.norm.ppf(0.8)  # so that the truth is one half

    def drawn(n):
        labels = np.repeat([1.0, 0.0], n)
        return labels, shift * labels + rng.standard_normal(2 * n)

    for _ in range(300):
        (valid, valid_scores), (labels, scores) = drawn(60), drawn(300)
        thresholds, _ = fitted(valid, valid_scores, "false alarms 0.2", 200)
        draws = bootstrap.Draws.of(np.arange(600), 200, rng)
        for kept, fixed in ((covered, thresholds), (conditional, np.full(201, thresholds[0]))):
            rate = bootstrap.rates(labels, scores, fixed, draws)["sensitivity"][1:]
            low, high = np.quantile(rate, [0.025, 0.975])
            kept.append(low <= 0.5 <= high)
    assert np.mean(covered) > 0.92 > 0.75 > np.mean(conditional)
