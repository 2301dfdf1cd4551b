"""Bounds on membership inference: the whole curve delta(epsilon), and what any attack reaches.

In: runs that a unit was in, as `accounting.Run`s (a run of two parts is two of them). Out: upper
bounds of what all of them together give away. Raises `InputError` for values out of range.
"""

import math

import numpy as np
import pandas as pd
from scipy import optimize

from helpers.privacy import accounting


def delta_curve(runs: tuple[accounting.Run, ...]) -> pd.DataFrame:
    """Return the whole privacy curve of runs together; all of its rows hold at once.

    Args:
        runs: of one unit, in any order.

    Returns:
        Columns epsilon (101 even steps from 0 to where delta is 1e-9) and delta; one row without
        steps or without noise.

    Raises:
        InputError: a value out of its range.
    """
    together = accounting.merged(runs)
    steps = sum(run.steps for run in together)
    largest = accounting.epsilon_of(together, max(1e-9, 10 * accounting.ROUNDING * steps))
    epsilons = np.linspace(0, largest, 101) if 0 < largest < math.inf else np.zeros(1)
    deltas = [accounting.delta_of(together, epsilon) for epsilon in epsilons]
    return pd.DataFrame({"epsilon": epsilons, "delta": deltas})


def attack_bounds(runs: tuple[accounting.Run, ...], false_positive_rate: float = 0.01) -> dict:
    """Return the most any attack on membership can achieve, whatever its method, computing power
    and prior knowledge.

    For every epsilon, true positives <= exp(epsilon) x false positives + delta(epsilon); the same
    with missed members and true negatives exchanged for them is written as a negative epsilon. The
    smallest of these bounds holds.

    Args:
        runs: see `delta_curve`; the attacker sees what all of them released.
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
    accounting.check(false_positive_rate=false_positive_rate)
    together = accounting.merged(runs)

    def line(epsilon: float) -> float:
        delta = accounting.delta_of(together, abs(epsilon))
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


def roc_bound(runs: tuple[accounting.Run, ...]) -> pd.DataFrame:
    """Return the curve that no attack's ROC curve can lie above, see `attack_bounds`.

    Args:
        runs: see `delta_curve`.

    Returns:
        Columns false_positive_rate (rising, from 1e-12) and true_positive_rate.

    Raises:
        InputError: a value out of its range.
    """
    rates = np.unique(np.concatenate([np.geomspace(1e-12, 0.1, 220), np.linspace(0.1, 0.999, 120)]))
    most = [attack_bounds(runs, float(rate))["true_positive_rate"] for rate in rates]
    return pd.DataFrame({"false_positive_rate": rates, "true_positive_rate": most})


def auroc_bound(runs: tuple[accounting.Run, ...]) -> float:
    """Return the largest AUROC that any attack on membership can have: the area under `roc_bound`,
    summed from above.

    Args:
        runs: see `delta_curve`.

    Raises:
        InputError: a value out of its range.
    """
    curve = roc_bound(runs)
    rates, most = curve["false_positive_rate"], curve["true_positive_rate"]
    # true positives rise with false ones: the value at an interval's end is its largest
    return float(min(1.0, (np.diff(rates, prepend=0.0) * most).sum() + 1 - rates.iloc[-1]))


def bounds_of_measures(
    runs: dict[str, tuple[accounting.Run, ...]], measures: dict[str, float | None]
) -> pd.DataFrame:
    """Return what DP allows of each measure of an attack's success.

    Args:
        runs: label of an arm -> its runs.
        measures: name -> the false-positive rate at which it is a true-positive rate; None: AUROC.

    Returns:
        Columns arm_label, measure, bound.
    """
    rows = [
        [
            label,
            name,
            auroc_bound(run) if rate is None else attack_bounds(run, rate)["true_positive_rate"],
        ]
        for label, run in runs.items()
        for name, rate in measures.items()
    ]
    return pd.DataFrame(rows, columns=["arm_label", "measure", "bound"])
