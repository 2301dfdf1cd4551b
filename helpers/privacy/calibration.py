"""Calibration of the noise: the noise multipliers that keep a privacy budget.

In: epsilon, delta, sampling rate, steps; for a run of two parts the steps of the head and its share
of the budget. Out: the noise multiplier of each part. Raises `InputError` for budgets out of reach.
Needs no torch, so that a study can be planned.
"""

import functools
import math

from helpers.core import errors
from helpers.privacy import accounting


@functools.cache
def noise_multiplier_for(
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    besides: tuple[accounting.Run, ...] = (),
) -> float:
    """Return a noise multiplier, of 6 digits, that keeps a budget, `epsilon` in (0, 1000], and
    makes use of it.

    Guarantees: `epsilon_of_all` of the result's steps and of `besides`, by PLD, lies in [0.99, 1] x
    `epsilon`.

    Args:
        epsilon, delta: the budget.
        sample_rate, steps: of the steps that the noise is for.
        besides: what else is spent on the same units within this budget.

    Raises:
        InputError: a value out of its range, or no multiplier spends the budget: the largest still
            spends more, or the run spends less with hardly any noise.
    """
    accounting.check(EPSILON=epsilon, sample_rate=sample_rate, steps=steps, DELTA=delta)
    # multipliers too small and large enough, and what they spend
    low, high, most, least = 0.0, math.inf, math.inf, 0.0
    tried = min(accounting.MOST_NOISE, max(0.5, 3 * sample_rate * math.sqrt(steps) / epsilon))
    while (
        not 0.995 * epsilon
        <= (
            spent := accounting.epsilon_of_all(
                (accounting.Run(tried := float(f"{tried:.6g}"), sample_rate, steps), *besides),
                delta,
            )
        )
        <= epsilon
    ):
        low, most, high, least = (
            (tried, spent, high, least) if spent > epsilon else (low, most, tried, spent)
        )
        if (
            low > accounting.MOST_NOISE / 2
            or high < 2 * accounting.NO_NOISE
            or high - low < 1e-5 * low
        ):
            errors.refuse(
                f"a noise multiplier that spends EPSILON = {epsilon:g} at delta {delta:g} in"
                f" {steps:,} steps at sample_rate {sample_rate:.3g}",
                f"epsilon {spent:.3g} with noise multiplier {tried:.3g}",
                (
                    "Lower EPSILON or DELTA: this run spends less, whatever its noise."
                    if high < 2 * accounting.NO_NOISE
                    else "Raise EPSILON or DELTA, or lower EPOCHS."
                ),
            )
        share = (
            math.log(most / (0.9975 * epsilon)) / math.log(most / least)
            if least and most < math.inf
            else 0.5
        )
        between = low * (high / low) ** min(0.9, max(0.1, share)) if low else high / 2
        # on a line on logarithmic axes, or twice or half the only end
        tried = between if high < math.inf else 2 * low
    return tried


def noise_multipliers_for(
    epsilon: float, delta: float, sample_rate: float, steps: int, head_steps: int, share: float
) -> tuple[float, float]:
    """Return the noise multipliers of a run of two parts under one budget: of `steps` sampled steps
    of all weights, and of `head_steps` full-batch steps of the head.

    The rule of the split: the head's noise is what keeps `share` x epsilon at the same delta, were
    its steps alone; the first part's is the smallest with which both together keep epsilon (each to
    the usual 1 % of epsilon). Composed, epsilons add up to less than their sum, so that the first
    part alone may spend more than (1 - share) x epsilon.

    Guarantees: `epsilon_of_all` of both, by PLD, lies in [0.98, 1] x epsilon; of the head alone in
    [0.99, 1] x share x epsilon.

    Args:
        epsilon, delta: the budget of both together.
        sample_rate, steps: of the first part.
        head_steps: of the second part, in which every unit is in every step.
        share: of epsilon, in (0, 0.99].

    Raises:
        InputError: see `noise_multiplier_for`.
    """
    errors.number("HEAD_SHARE", share, 0, 0.99, open_low=True)
    of_head = noise_multiplier_for(share * epsilon, delta, 1.0, head_steps)
    besides = (accounting.Run(of_head, 1.0, head_steps),)
    return noise_multiplier_for(epsilon, delta, sample_rate, steps, besides), of_head
