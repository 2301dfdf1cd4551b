"""Calibration of the noise: the noise multiplier that keeps a privacy budget.

In: epsilon, delta, sampling rate, steps. Out: the noise multiplier. Raises `InputError` for budgets
out of reach. Needs no torch, so that a study can be planned.
"""

import functools
import math

from helpers.core import errors
from helpers.privacy import accounting


@functools.cache
def noise_multiplier_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return a noise multiplier, of 6 digits, that keeps a budget, `epsilon` in (0, 1000], and
    makes use of it.

    Guarantees: `epsilon_spent` of the result, by PLD, lies in [0.99, 1] x `epsilon`.

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
            spent := accounting.epsilon_of(
                (accounting.Run(tried := float(f"{tried:.6g}"), sample_rate, steps),), delta
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
