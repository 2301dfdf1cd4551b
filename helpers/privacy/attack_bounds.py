"""Bounds on membership inference: the whole curve delta(epsilon), and what any attack reaches.

In: noise multiplier, sampling rate, steps. Out: upper bounds. Raises
`InputError` for values out of range.
"""

import math

import numpy as np
import pandas as pd
from scipy import optimize

from helpers.privacy import accounting


def delta_curve(noise_multiplier: float, sample_rate: float, steps: int) -> pd.DataFrame:
    """Return the whole privacy curve of a run; all of its rows hold at once.

    Returns:
        Columns epsilon (101 even steps from 0 to where delta is 1e-9) and delta; one row without
        steps or without noise.

    Raises:
        InputError: a value out of its range.
    """
    accounting.check(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps)
    runs = (accounting.Run(noise_multiplier, sample_rate, steps),)
    largest = accounting.epsilon_of(runs, max(1e-9, 10 * accounting.ROUNDING * steps))
    epsilons = np.linspace(0, largest, 101) if 0 < largest < math.inf else np.zeros(1)
    deltas = [accounting.delta_of(runs, epsilon) for epsilon in epsilons]
    return pd.DataFrame({"epsilon": epsilons, "delta": deltas})


def attack_bounds(
    noise_multiplier: float, sample_rate: float, steps: int, false_positive_rate: float = 0.01
) -> dict:
    """Return the most any attack on membership can achieve, whatever its method, computing power
    and prior knowledge.

    For every epsilon, true positives <= exp(epsilon) x false positives + delta(epsilon); the same
    with missed members and true negatives exchanged for them is written as a negative epsilon. The
    smallest of these bounds holds.

    Args:
        false_positive_rate: share of units outside the training set that the attack calls members,
            in (0, 1).

    Returns:
        false_positive_rate; true_positive_rate, an upper bound of the share of members found;
        posterior, the probability of membership once such an attack says "member", for an attacker
        who starts at one half.

    Raises:
        InputError: a value out of its range.

    Source: Dong, Roth and Su (2022), "Gaussian differential privacy", prop. 2.12.
    """
    accounting.check(
        noise_multiplier=noise_multiplier,
        sample_rate=sample_rate,
        steps=steps,
        false_positive_rate=false_positive_rate,
    )

    def line(epsilon: float) -> float:
        delta = accounting.delta_of(
            (accounting.Run(noise_multiplier, sample_rate, steps),), abs(epsilon)
        )
        positive = math.exp(epsilon) * false_positive_rate + delta
        return (
            positive if epsilon >= 0 else 1 - math.exp(epsilon) * (1 - false_positive_rate - delta)
        )

    # Every epsilon gives a valid bound: a search that stops early only loosens it.
    lowest = optimize.minimize_scalar(
        line, bounds=(-50, -math.log(false_positive_rate)), method="bounded"
    )
    most = float(min(1.0, line(0), lowest.fun))
    posterior = most / (most + false_positive_rate)
    return {
        "false_positive_rate": false_positive_rate,
        "true_positive_rate": most,
        "posterior": posterior,
    }
