"""Accounting against published values, closed forms, direct integration and second accountants."""

import math
import time
import types

import numpy as np
import pytest
from opacus.accountants import RDPAccountant
from scipy import optimize, stats

from helpers.core import errors
from helpers.privacy import accounting, attack_bounds, calibration

PAPER = dict(noise_multiplier=0.5496, sample_rate=128 / 150_188, steps=93 * 1_173)
RUNS = [(0.05, 200), (0.03, 400), (0.1, 60)]  # sample rate, steps


def one(*run: float) -> tuple[accounting.Run, ...]:
    """One run of noise multiplier, sampling rate and steps."""
    return (accounting.Run(*run),)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Balle and Wang (2018).

    Delta(epsilon) of the Gaussian mechanism with sensitivity / standard deviation mu.
    """
    return stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(
        -mu / 2 - epsilon / mu
    )


def mixture_delta(epsilon: float, sigma: float, chances: np.ndarray) -> float:
    """The same by direct integration for one step in which k images (k = 0, 1, ...) are drawn with
    given chances.
    """
    x = np.linspace(-12 * sigma, 12 * sigma + len(chances), 200_001)
    without = stats.norm.pdf(x, 0, sigma)
    present = sum(chance * stats.norm.pdf(x, k, sigma) for k, chance in enumerate(chances))
    return max(
        np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), x)
        for p, q in ((present, without), (without, present))
    )


# ---- epsilon


@pytest.mark.parametrize("delta, pld, prv", [(6e-6, 7.88, 7.89), (1e-6, 8.73, 8.74)])
def test_epsilon_of_the_paper_run_is_reproduced(delta, pld, prv):
    assert round(accounting.epsilon_spent(**PAPER, delta=delta), 2) == pld
    assert round(accounting.epsilon_spent(**PAPER, delta=delta, accountant="PRV"), 2) == prv


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0, 4.0, 30.0])
def test_epsilon_of_one_full_batch_step_bounds_the_closed_form_and_is_near_it(sigma):
    exact = optimize.brentq(lambda epsilon: gaussian_delta(epsilon, 1 / sigma) - 1e-5, 0, 700)
    assert exact <= accounting.epsilon_spent(sigma, 1.0, 1, 1e-5) <= 1.003 * exact


def test_epsilon_of_many_full_batch_steps_is_that_of_one_with_less_noise():
    # n Gaussian steps are one with noise multiplier sigma / sqrt(n): 5 / sqrt(25) = 1.
    exact = optimize.brentq(lambda epsilon: gaussian_delta(epsilon, 1.0) - 1e-5, 0, 100)
    assert exact <= accounting.epsilon_spent(5.0, 1.0, 25, 1e-5) <= 1.003 * exact


@pytest.mark.parametrize("sigma, rate", [(0.4, 0.01), (1.0, 0.3), (3.0, 0.8)])
def test_epsilon_of_one_sampled_step_bounds_direct_integration(sigma, rate):
    exact = optimize.brentq(
        lambda epsilon: mixture_delta(epsilon, sigma, [1 - rate, rate]) - 1e-4, 0, 50
    )
    assert exact * (1 - 1e-6) <= accounting.epsilon_spent(sigma, rate, 1, 1e-4) <= 1.003 * exact


@pytest.mark.parametrize(
    "sigma, rate, steps", [(1.3, 0.1, 100), (20, 0.03, 400), (0.4, 0.05, 200), (0.25, 0.1, 60)]
)
def test_three_accountants_agree_and_epsilon_grows_with_steps(sigma, rate, steps):
    pld, prv, rdp = (
        accounting.epsilon_spent(sigma, rate, steps, 1e-5, name) for name in accounting.ACCOUNTANTS
    )
    assert pld == pytest.approx(prv, rel=0.005, abs=1e-3) and pld <= rdp
    fewer, more = (accounting.epsilon_spent(sigma, rate, n, 1e-5) for n in (steps // 2, 2 * steps))
    assert fewer < pld < more


@pytest.mark.parametrize("accountant", accounting.ACCOUNTANTS)
def test_no_steps_spend_nothing_and_no_noise_everything(accountant):
    assert accounting.epsilon_spent(1.0, 0.1, 0, 1e-5, accountant) == 0
    assert accounting.epsilon_spent(0, 0.1, 10, 1e-5, accountant) == math.inf


def test_prv_is_not_a_number_where_opacus_overflows():
    # epsilon 1,000: opacus says infinity
    assert math.isnan(accounting.epsilon_spent(0.1097, 0.05, 200, 1e-5, "PRV"))
    # epsilon 500: exp(709) is on its grid
    assert math.isnan(accounting.epsilon_spent(0.1511, 0.05, 200, 1e-5, "PRV"))
    # epsilon 335
    pld, prv = (accounting.epsilon_spent(0.18, 0.05, 200, 1e-5, name) for name in ("PLD", "PRV"))
    assert prv == pytest.approx(pld, rel=0.005)


def test_epsilon_is_infinite_where_rounding_errors_leave_no_number(monkeypatch):
    nothing = types.SimpleNamespace(get_delta_for_epsilon=lambda epsilon: np.float64(math.nan))
    monkeypatch.setattr(accounting, "_losses", lambda *run: nothing)
    assert accounting.epsilon_spent(1.2345, 0.1, 10, 1e-5) == math.inf
    accounting.epsilon_of.cache_clear()


# ---- calibration


@pytest.mark.parametrize("epsilon", [0.01, 0.29, 1.06, 7.89, 100, 1000])
@pytest.mark.parametrize("rate, steps", RUNS)
def test_noise_multiplier_keeps_the_budget_and_uses_it(epsilon, rate, steps):
    sigma = calibration.noise_multiplier_for(epsilon, 1e-5, rate, steps)
    assert 0.99 * epsilon <= accounting.epsilon_spent(sigma, rate, steps, 1e-5) <= epsilon
    assert sigma == float(f"{sigma:.6g}")  # what is printed is what was used


def test_noise_multiplier_of_the_paper_run_takes_seconds():
    calibration.noise_multiplier_for.cache_clear()
    start = time.monotonic()
    sigma = calibration.noise_multiplier_for(7.89, 6e-6, PAPER["sample_rate"], PAPER["steps"])
    assert time.monotonic() - start < 60 and sigma == pytest.approx(0.5496, rel=0.002)


@pytest.mark.parametrize(
    "epsilon, delta, rate, steps, why",
    [
        (1e-6, 1e-5, 1.0, 100_000, "Raise EPSILON"),  # no noise is enough
        # a unit is seen with chance 0.001 < delta: no noise is needed
        (1.0, 1e-2, 1e-3, 1, "Lower EPSILON"),
    ],
)
def test_noise_multiplier_refuses_a_budget_that_cannot_be_spent(epsilon, delta, rate, steps, why):
    with pytest.raises(errors.InputError, match=f"spends EPSILON = {epsilon:g} .*{why}"):
        calibration.noise_multiplier_for(epsilon, delta, rate, steps)


@pytest.mark.parametrize("epsilon", [0, -1, float("nan"), "8", 1001])
def test_noise_multiplier_refuses_a_budget_that_is_none(epsilon):
    with pytest.raises(errors.InputError, match="EPSILON"):
        calibration.noise_multiplier_for(epsilon, 1e-5, 0.1, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(sample_rate=0),
        dict(sample_rate=1.5),
        dict(delta=0),
        dict(delta="1e-5"),
        dict(steps=-1),
        dict(steps=2.5),
        dict(noise_multiplier=-1),
        dict(noise_multiplier=math.nan),
    ],
)
def test_epsilon_spent_refuses_what_is_no_run(wrong):
    name = next(iter(wrong))
    with pytest.raises(errors.InputError, match=f"(?i)expected {name} to be"):
        accounting.epsilon_spent(
            **dict(noise_multiplier=1.0, sample_rate=0.1, steps=10, delta=1e-5) | wrong
        )


def test_epsilon_spent_refuses_gdp_and_a_delta_lost_in_rounding_errors():
    with pytest.raises(errors.InputError, match="PLD, PRV, RDP"):
        accounting.epsilon_spent(1.0, 0.1, 10, 1e-5, "GDP")
    with pytest.raises(errors.InputError, match="DELTA of at least 1e-08"):
        accounting.epsilon_spent(1.0, 0.1, 1_000_000, 5e-9)


# ---- several images of a patient


def test_epsilon_for_patient_reproduces_the_paper_run():
    epsilons = {
        n: accounting.epsilon_for_patient(**PAPER, delta=6e-6, n_images=n) for n in (1, 2, 4, 10)
    }
    assert epsilons == pytest.approx({1: 7.88, 2: 17.1, 4: 39.8, 10: 137}, rel=0.004)
    assert epsilons[1] == accounting.epsilon_spent(**PAPER, delta=6e-6)


def test_epsilon_for_patient_of_one_step_bounds_direct_integration():
    chances = stats.binom.pmf(range(4), 3, 0.2)  # three images, each drawn with chance 0.2
    exact = optimize.brentq(lambda epsilon: mixture_delta(epsilon, 1.5, chances) - 1e-4, 0, 50)
    assert (
        exact * (1 - 1e-6) <= accounting.epsilon_for_patient(1.5, 0.2, 1, 1e-4, 3) <= 1.01 * exact
    )


def test_epsilon_for_patient_in_full_batches_is_that_of_a_larger_sensitivity():
    # All 4 images are in every step: sensitivity 4, as a noise multiplier of 8 / 4 for one image.
    assert accounting.epsilon_for_patient(8.0, 1.0, 9, 1e-5, 4) == pytest.approx(
        accounting.epsilon_spent(2.0, 1.0, 9, 1e-5), rel=0.01
    )


def test_epsilon_for_patient_at_the_edges():
    assert (
        accounting.epsilon_for_patient(1.0, 0.1, 10, 1e-5, 0)
        == 0
        == accounting.epsilon_for_patient(1.0, 0.1, 0, 1e-5, 5)
    )
    assert accounting.epsilon_for_patient(1.0, 0.1, 10, 1e-5, 201) == math.inf
    with pytest.raises(errors.InputError, match="n_images"):
        accounting.epsilon_for_patient(1.0, 0.1, 10, 1e-5, 1.5)


# ---- the whole curve, and attacks


def test_delta_curve_bounds_the_closed_form_and_is_near_it():
    curve = attack_bounds.delta_curve(one(2.0, 1.0, 4))  # as one step with noise multiplier 1
    exact = np.array([gaussian_delta(epsilon, 1.0) for epsilon in curve["epsilon"]])
    assert (curve["delta"] >= exact).all() and np.allclose(curve["delta"], exact, rtol=0.02)
    assert len(curve) == 101 and curve["delta"].iloc[-1] == pytest.approx(1e-9, rel=0.01)


def test_delta_curve_agrees_with_epsilon_spent():
    curve = attack_bounds.delta_curve(one(1.3, 0.1, 100))
    epsilon, delta = curve.iloc[40]
    assert accounting.epsilon_spent(1.3, 0.1, 100, float(delta)) == pytest.approx(epsilon, rel=1e-4)
    assert curve["epsilon"].is_monotonic_increasing and curve["delta"].is_monotonic_decreasing


def test_delta_curve_of_no_steps_and_of_no_noise_is_one_row():
    assert attack_bounds.delta_curve(one(1.0, 0.1, 0)).to_dict("list") == {
        "epsilon": [0],
        "delta": [0],
    }
    assert attack_bounds.delta_curve(one(0, 0.1, 5)).to_dict("list") == {
        "epsilon": [0],
        "delta": [1],
    }


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("sigma, steps", [(1.0, 1), (4.0, 4), (0.2, 1)])
def test_attack_bounds_of_full_batches_bound_the_best_attack_and_are_near_it(rate, sigma, steps):
    # Neyman and Pearson: the best attack puts a threshold on the noisy sum.
    exact = stats.norm.cdf(stats.norm.ppf(rate) + math.sqrt(steps) / sigma)
    bounds = attack_bounds.attack_bounds(one(sigma, 1.0, steps), rate)
    assert exact - 1e-9 <= bounds["true_positive_rate"] <= exact * 1.002
    assert bounds["posterior"] == bounds["true_positive_rate"] / (
        bounds["true_positive_rate"] + rate
    )


@pytest.mark.parametrize("sigma, sample_rate", [(1.0, 0.3), (0.5, 0.05)])
def test_attack_bounds_of_one_sampled_step_bound_the_best_attack_and_are_near_it(
    sigma, sample_rate
):
    exact = (1 - sample_rate) * 0.01 + sample_rate * stats.norm.cdf(
        stats.norm.ppf(0.01) + 1 / sigma
    )
    assert (
        exact - 1e-9
        <= attack_bounds.attack_bounds(one(sigma, sample_rate, 1))["true_positive_rate"]
        <= exact * 1.002
    )


def test_attack_bounds_at_the_edges():
    assert attack_bounds.attack_bounds(one(1.0, 0.1, 0))["true_positive_rate"] == 0.01
    assert attack_bounds.attack_bounds(one(1.0, 0.1, 0))["posterior"] == 0.5
    assert attack_bounds.attack_bounds(one(0, 0.1, 5))["true_positive_rate"] == 1
    assert attack_bounds.attack_bounds(one(0.1, 0.5, 200))["true_positive_rate"] == pytest.approx(1)
    with pytest.raises(errors.InputError, match="false_positive_rate"):
        attack_bounds.attack_bounds(one(1.0, 0.1, 10), 0.0)


# ---- several runs together


def test_runs_of_one_mechanism_together_are_one_longer_run():
    parts = [accounting.Run(1.0, 0.03, 100), accounting.Run(1.0, 0.03, 172)]
    assert accounting.epsilon_of_all(parts, 1e-6) == accounting.epsilon_spent(1.0, 0.03, 272, 1e-6)
    assert accounting.epsilon_of_all(parts[:1], 1e-6) == accounting.epsilon_spent(
        1.0, 0.03, 100, 1e-6
    )
    assert (
        accounting.epsilon_of_all([], 1e-6)
        == accounting.epsilon_of_all([accounting.Run(1.0, 0.03, 0)], 1e-6)
        == 0
    )
    # on a grid of two mechanisms
    nearly = accounting.epsilon_of_all([parts[0], accounting.Run(1.0 + 1e-9, 0.03, 172)], 1e-6)
    assert nearly == pytest.approx(accounting.epsilon_spent(1.0, 0.03, 272, 1e-6), rel=1e-4)


def test_runs_without_sampling_together_are_one_gaussian_worked_by_hand():
    # n releases at multiplier s are one at 1 / sqrt(sum n / s^2): 1 / sqrt(4 / 16 + 9 / 9) = 0.894
    parts = [accounting.Run(4.0, 1.0, 4), accounting.Run(3.0, 1.0, 9)]
    expected = accounting.epsilon_spent(1 / math.sqrt(4 / 16 + 9 / 9), 1.0, 1, 1e-5)
    assert expected <= accounting.epsilon_of_all(parts, 1e-5) * (
        1 + 1e-4
    ) and accounting.epsilon_of_all(parts, 1e-5) == pytest.approx(expected, rel=2e-3)


def test_several_runs_together_lie_between_the_largest_and_the_sum_and_below_rdp():
    rng = np.random.default_rng(3)
    for _ in range(6):
        parts = [
            accounting.Run(float(sigma), float(q), int(steps))
            for sigma, q, steps in zip(
                rng.uniform(0.6, 4, 3).round(3),
                rng.uniform(0.005, 0.3, 3).round(4),
                rng.integers(5, 400, 3),
            )
        ]
        alone = [accounting.epsilon_spent(*part[:3], 1e-6) for part in parts]
        accountant = RDPAccountant()
        accountant.history = [tuple(part[:3]) for part in parts]
        together = accounting.epsilon_of_all(parts, 1e-6)
        assert max(alone) < together <= min(
            sum(alone) * 1.05, accountant.get_epsilon(delta=1e-6)
        ) and together == accounting.epsilon_of_all(parts[::-1], 1e-6)


def test_a_run_per_image_counts_for_a_patient_with_all_images():
    one, five = (
        accounting.epsilon_of_all(
            [accounting.Run(1.0, 0.01, 50, n), accounting.Run(2.0, 0.05, 50)], 1e-5
        )
        for n in (1, 5)
    )
    alone = accounting.epsilon_for_patient(1.0, 0.01, 50, 1e-5, 5)
    assert one < alone < five < alone + accounting.epsilon_spent(2.0, 0.05, 50, 1e-5)
    assert (
        accounting.epsilon_of_all([accounting.Run(1.0, 0.01, 50, accounting.MOST_IMAGES + 1)], 1e-5)
        == math.inf
    )
    assert (
        accounting.epsilon_of_all(
            [accounting.Run(0.0, 0.01, 50), accounting.Run(2.0, 0.05, 50)], 1e-5
        )
        == math.inf
    )


def test_runs_together_refuse_what_is_out_of_range():
    for wrong, said in (
        (accounting.Run(-1.0, 0.1, 5), "noise_multiplier"),
        (accounting.Run(1.0, 0.0, 5), "sample_rate"),
        (accounting.Run(1.0, 0.1, -5), "steps"),
    ):
        with pytest.raises(errors.InputError, match=said):
            accounting.epsilon_of_all([accounting.Run(1.0, 0.1, 5), wrong], 1e-5)
