"""Metrics under resamples.

By hand, against scikit-learn and a refit, and what the bootstrap draws.
"""

import numpy as np
import pytest
from scipy import optimize, special
from sklearn import metrics as oracle
from sklearn.linear_model import LogisticRegression

from helpers.analysis import bootstrap
from helpers.analysis.bootstrap import Draws
from helpers.core import errors

RNG = np.random.default_rng(2)
PATIENTS = RNG.integers(0, 60, 300)
LABELS = (RNG.random(300) < 0.3).astype(float)
SCORES = np.clip(RNG.random(300) * 0.6 + 0.3 * LABELS, 0, 1).round(2)  # rounding makes ties
DRAWS = Draws.of(PATIENTS, 50, np.random.default_rng(7))
WEIGHTS = np.hstack(DRAWS.counts).astype(float)[DRAWS.patients]  # (images, 1 + resamples)


def test_draws_move_the_images_of_a_patient_together():
    patients = np.array(["a", "b", "a", "c", "b"])
    draws = Draws.of(patients, 400, np.random.default_rng(1))
    weights = np.hstack(draws.counts).astype(float)
    assert (weights[:, 0] == 1).all()
    assert weights.shape == (3, 401) == (3, draws.n)
    assert (draws.patients == [0, 1, 0, 2, 1]).all()
    assert (weights[:, 1:].sum(0) == 3).all()  # three patients drawn each time
    assert weights[2, 1:].var() == pytest.approx(2 / 3, rel=0.25)  # Binomial(3, 1/3)


def test_draws_of_some_images_keep_the_resamples():
    part = DRAWS[LABELS == 1]
    assert part.counts is DRAWS.counts
    assert len(part.patients) == LABELS.sum()
    assert part.sums(np.ones((1, int(LABELS.sum()))))[0] == pytest.approx(
        WEIGHTS[LABELS == 1].sum(0)
    )


def test_auroc_on_four_images_worked_by_hand():
    # pairs (with, without): 0.4>0.1, 0.4=0.4 (half), 0.9>0.1, 0.9>0.4 -> 3.5 of 4
    # the second column counts the image 0.4 (without) twice: pairs 0.4>0.1, 2 halves, 0.9>0.1, 2 x
    # 0.9>0.4 -> 5 of 6
    draws = Draws(np.arange(4), (np.array([[1, 1], [1, 1], [1, 2], [1, 1]], np.uint8),))
    areas = bootstrap.ranked(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.4, 0.9]), draws)
    assert areas["auroc"] == pytest.approx([3.5 / 4, 5 / 6])
    # by falling score: 0.9 precision 1; at 0.4 two of three -> mean (1 + 2/3) / 2; with the weight
    # two of four
    assert areas["auprc"] == pytest.approx([(1 + 2 / 3) / 2, (1 + 2 / 4) / 2])


@pytest.mark.parametrize(
    "name, score", [("auroc", oracle.roc_auc_score), ("auprc", oracle.average_precision_score)]
)
def test_ranked_agrees_with_sklearn_under_weights_and_ties(name, score):
    expected = [score(LABELS, SCORES, sample_weight=column) for column in WEIGHTS.T]
    assert bootstrap.ranked(LABELS, SCORES, DRAWS)[name] == pytest.approx(expected, abs=1e-12)


def test_ranked_is_nan_in_resamples_without_a_class_and_only_there():
    draws = Draws(np.arange(3), (np.array([[1, 0, 1], [1, 1, 0], [1, 2, 2]], np.uint8),))
    for values in bootstrap.ranked(np.array([1, 0, 0]), np.array([0.5, 0.1, 0.9]), draws).values():
        assert np.isnan(values).tolist() == [False, True, False]
    for label in (0, 1):
        for values in bootstrap.ranked(np.full(3, label), np.arange(3.0), draws).values():
            assert np.isnan(values).all()


def test_rates_agree_with_sklearn():
    thresholds = np.random.default_rng(2).choice(SCORES, WEIGHTS.shape[1])
    thresholds[[3, 5]] = np.inf, np.nan  # nothing is called; not known
    rates = bootstrap.rates(LABELS, SCORES, thresholds, DRAWS)
    assert set(rates) == set(bootstrap.RATES)
    for name, score in {
        "accuracy": oracle.accuracy_score,
        "sensitivity": oracle.recall_score,
        "ppv": oracle.precision_score,
        "specificity": lambda y, d, sample_weight: oracle.recall_score(
            1 - y, 1 - d, sample_weight=sample_weight
        ),
        "selection_rate": lambda y, d, sample_weight: np.average(d, weights=sample_weight),
    }.items():
        expected = [
            score(LABELS, (threshold <= SCORES).astype(int), sample_weight=column)
            for threshold, column in zip(thresholds, WEIGHTS.T)
            if np.isfinite(threshold)
        ]
        assert rates[name][np.isfinite(thresholds)] == pytest.approx(expected, abs=1e-12)
        assert np.isnan(rates[name][5])
    assert (rates["sensitivity"][3], rates["specificity"][3]) == (0, 1) and np.isnan(
        rates["ppv"][3]
    )
    none = np.full(WEIGHTS.shape[1], 0.5)
    assert np.isnan(bootstrap.rates(np.zeros(300), SCORES, none, DRAWS)["sensitivity"]).all()


def test_brier_agrees_with_sklearn():
    expected = [
        oracle.brier_score_loss(LABELS, SCORES, sample_weight=column) for column in WEIGHTS.T
    ]
    assert bootstrap.probabilities(LABELS, SCORES, DRAWS)["brier"] == pytest.approx(
        expected, abs=1e-12
    )


def test_calibration_slope_is_that_of_a_logistic_regression_and_its_resamples_nearly():
    slopes = bootstrap.probabilities(LABELS, SCORES, DRAWS)["calibration_slope"]
    logits = np.log(SCORES.clip(1e-6, 1 - 1e-6) / (1 - SCORES.clip(1e-6, 1 - 1e-6)))[:, None]
    fits = [
        LogisticRegression(C=np.inf, tol=1e-10, max_iter=500)
        .fit(logits, LABELS, sample_weight=column)
        .coef_[0, 0]
        for column in WEIGHTS.T
    ]
    assert slopes[0] == pytest.approx(fits[0], rel=1e-4)
    assert np.corrcoef(slopes[1:], fits[1:])[0, 1] > 0.97
    assert slopes[1:].std() == pytest.approx(np.std(fits[1:]), rel=0.15)


def test_calibration_slope_of_scores_too_extreme_is_below_one_and_undefined_without_spread():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-truth))).astype(float)
    draws = Draws.of(np.arange(4000), 200, rng)
    slopes = bootstrap.probabilities(labels, 1 / (1 + np.exp(-2 * truth)), draws)[
        "calibration_slope"
    ]
    assert slopes[0] == pytest.approx(0.5, abs=4 * slopes[1:].std())
    assert slopes[1:].std() < 0.05
    for label, score in ((labels, np.full(4000, 0.3)), (np.zeros(4000), rng.random(4000))):
        assert np.isnan(bootstrap.probabilities(label, score, draws)["calibration_slope"]).all()


@pytest.mark.parametrize("extreme", [0.2, 1, 3, 6, 12])
def test_calibration_slope_is_found_however_extreme_the_scores(extreme):
    rng = np.random.default_rng(4)
    truth = 1.5 * rng.standard_normal(400)
    labels = (rng.random(400) < 1 / (1 + np.exp(-truth))).astype(float)
    logits = extreme * (truth + 2.0) + 0.5 * extreme * rng.standard_normal(400)
    draws = bootstrap.Draws.of(np.arange(400), 20, np.random.default_rng(0))
    slope = bootstrap.probabilities(labels, 1 / (1 + np.exp(-np.clip(logits, -12, 12))), draws)[
        "calibration_slope"
    ][0]
    clipped = np.clip(logits, -12, 12)[:, None]
    expected = (
        LogisticRegression(C=1e9, tol=1e-10, max_iter=1000)
        .fit(clipped / extreme, labels)
        .coef_[0, 0]
        / extreme
    )
    assert slope == pytest.approx(expected, rel=0.02)


def test_calibration_slope_is_undefined_where_labels_are_separable_or_of_one_class():
    labels = np.repeat([0.0, 1.0], 10)
    draws = Draws.of(np.arange(20), 50, np.random.default_rng(0))
    assert np.isnan(
        bootstrap.probabilities(labels, np.linspace(0.1, 0.9, 20), draws)["calibration_slope"]
    ).all()
    alone = Draws(np.arange(4), (np.array([[1, 0, 1], [1, 2, 0], [1, 2, 2], [1, 0, 2]], np.uint8),))
    slopes = bootstrap.probabilities(
        np.array([1.0, 0, 0, 1]), np.array([0.6, 0.7, 0.2, 0.4]), alone
    )["calibration_slope"]
    assert np.isnan(slopes).tolist() == [False, True, False]


def test_intervals_of_resampled_patients_are_wider_than_of_images():
    # Four identical images a patient carry one patient's information, so the interval must be about
    # twice as wide.
    rng = np.random.default_rng(9)
    labels = np.repeat(rng.integers(0, 2, 150), 4)
    scores = np.repeat(rng.random(150), 4) + 0.3 * labels
    spread = [
        bootstrap.ranked(labels, scores, Draws.of(unit, 500, np.random.default_rng(1)))[
            "auroc"
        ].std()
        for unit in (np.repeat(np.arange(150), 4), np.arange(600))
    ]
    assert 1.7 < spread[0] / spread[1] < 2.3


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(errors.InputError, match="of one length"):
        bootstrap.ranked(LABELS[:-1], SCORES, DRAWS)


def test_calibration_intercept_is_that_of_a_regression_with_slope_1_and_its_resamples_nearly():
    intercepts = bootstrap.probabilities(LABELS, SCORES, DRAWS)["calibration_intercept"]
    logits = special.logit(SCORES.clip(1e-6, 1 - 1e-6))
    fits = [
        optimize.brentq(lambda a, w=column: w @ (LABELS - special.expit(logits + a)), -9, 9)
        for column in WEIGHTS.T
    ]
    assert intercepts[0] == pytest.approx(fits[0], abs=1e-6)
    assert np.corrcoef(intercepts[1:], fits[1:])[0, 1] > 0.97
    one_class = bootstrap.probabilities(np.ones(300), SCORES, DRAWS)
    assert np.isnan(one_class["calibration_intercept"]).all()


def test_expected_calibration_error_is_that_of_a_loop_over_ten_bins():
    errors_ = bootstrap.probabilities(LABELS, SCORES, DRAWS)["ece"]
    for column in (0, 7):
        weight, apart = WEIGHTS[:, column], 0.0
        for k in range(10):
            inside = (k / 10 <= SCORES) & (((k + 1) / 10 > SCORES) | (k == 9))
            if weight[inside].sum():
                shares = [np.average(v[inside], weights=weight[inside]) for v in (LABELS, SCORES)]
                apart += weight[inside].sum() / weight.sum() * abs(shares[0] - shares[1])
        assert errors_[column] == pytest.approx(apart, abs=1e-12)
