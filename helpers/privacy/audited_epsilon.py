"""A lower bound on epsilon from one run: how many canaries are told apart by what was released.

In: scores of canaries, each in the training set or zeroed out by the toss of a coin. Out: the
largest epsilon that the guesses refute, with a stated confidence. Raises `InputError` for values
out of range.

A promise says that no attack tells much; an attack that does tell much refutes it. A bound far
below the promise refutes nothing and proves nothing. Two bounds: for any mechanism; and a tighter
one for mechanisms known to be a Gaussian one (every unit in each step, as where the head alone is
trained), which asks how much noise there can have been.

Sources: Steinke, Nasr and Jagielski (2023), "Privacy auditing with one (1) training run", theorem
5.2; Mahloujifar, Melis and Chaudhuri (2024), "Auditing f-differential privacy in one run",
algorithm 3.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy import optimize, stats

from helpers.core import errors
from helpers.privacy import accounting, attack_bounds

CONFIDENCE = 0.95
# guesses made, as shares of the canaries: the most certain ones; the bound is that of the best,
# and the error is shared out among them
SHARES_GUESSED = (0.02, 0.1, 0.4, 1.0)
_NORMAL = NormalDist()


def guesses(scores: np.ndarray, is_in: np.ndarray, n_guesses: int) -> int:
    """Return how many guesses are right: "in" for the highest scores, "out" for the lowest.

    Args:
        scores: (canaries,), larger for those in the training set.
        is_in: (canaries,) bool.
        n_guesses: an even number of them, at most all.
    """
    order = np.argsort(scores, kind="stable")
    half = n_guesses // 2
    return int((~is_in[order[:half]]).sum() + is_in[order[len(order) - half :]].sum())


def p_value(n_canaries: int, n_guesses: int, n_correct: int, epsilon: float, delta: float) -> float:
    """Return an upper bound of the probability of so many right guesses under (epsilon, delta)-DP.

    Args:
        n_canaries: each in by an independent fair coin.
        n_guesses, n_correct: of those that were not left out.
        epsilon, delta: the promise.
    """
    rate = 1 / (1 + math.exp(-epsilon))
    tail = float(stats.binom.sf(n_correct - 1, n_guesses, rate))
    if not delta or not n_correct:
        return tail
    fewer = np.arange(1, n_correct + 1)
    gains = stats.binom.sf(n_correct - fewer - 1, n_guesses, rate) - tail
    return min(1.0, tail + 2 * n_canaries * delta * float((gains / fewer).max()))


def is_refuted(
    n_canaries: int,
    n_guesses: int,
    n_correct: int,
    least_false: Callable[[float], float],
    error: float,
) -> bool:
    """Return whether so many right guesses refute a trade-off between false and true positives.

    Args:
        n_canaries, n_guesses, n_correct: see `p_value`.
        least_false: from a true-positive rate to the least false-positive rate that the mechanism
            allows with it.
        error: probability with which a true trade-off may be refuted.
    """
    right, wrong = (
        error * n_correct / n_canaries,
        error * (n_guesses - n_correct) / n_canaries,
    )
    for fewer in range(n_correct - 1, -1, -1):
        bound = least_false(right)
        if bound <= wrong:
            break  # nothing changes any more
        right = min(1.0, right + fewer / (n_guesses - fewer) * (bound - wrong))
        wrong = bound
    return right + wrong > n_guesses / n_canaries


def promise_is_refuted(
    scores: np.ndarray, is_in: np.ndarray, curve: pd.DataFrame, confidence: float = CONFIDENCE
) -> bool:
    """Return whether canaries refute the bound on all attacks that a run promises.

    For mechanisms that are not Gaussian sharper than `lower_bound`: the whole curve is refuted, not
    one point of it.

    Args:
        scores, is_in: see `guesses`.
        curve: from `attack_bounds.roc_bound` of the promised run.
        confidence: in (0, 1).
    """
    false, true = (curve[name].to_numpy() for name in ("false_positive_rate", "true_positive_rate"))
    false = np.concatenate([[0.0], false])  # the end of each interval has its largest bound

    def least_false(rate: float) -> float:
        return float(false[np.searchsorted(true, rate, side="left")])

    return any(
        is_refuted(len(scores), *counted, least_false, error)
        for *counted, error in _tries(scores, is_in, confidence)
    )


def examined(
    scores: np.ndarray,
    is_in: np.ndarray,
    runs: tuple[accounting.Run, ...],
    delta: float,
    *,
    is_gaussian: bool,
    n_tries: int = 1,
) -> dict:
    """Return what canaries say of a promise.

    Guarantees: of `n_tries` promises that are kept, one is called refuted with at most probability
    1 - `CONFIDENCE`.

    Args:
        scores, is_in, delta, is_gaussian: see `lower_bound`.
        runs: what is promised; () for nothing, which is never refuted.
        n_tries: how many are examined together.

    Returns:
        at_least, the lower bound on epsilon of this try alone; refuted; n_canaries, n_guesses,
        n_correct.
    """
    found = lower_bound(scores, is_in, delta, is_gaussian=is_gaussian)
    result = {"at_least": found.pop("epsilon"), "refuted": False} | found
    if runs:
        confidence = 1 - (1 - CONFIDENCE) / (2 * n_tries)  # two ways of refuting
        sure = lower_bound(scores, is_in, delta, is_gaussian=is_gaussian, confidence=confidence)
        result["refuted"] = bool(
            sure["epsilon"] > accounting.epsilon_of_all(runs, delta)
            or promise_is_refuted(scores, is_in, attack_bounds.roc_bound(runs), confidence)
        )
    return result


def _tries(
    scores: np.ndarray, is_in: np.ndarray, confidence: float
) -> list[tuple[int, int, float]]:
    """Return numbers of guesses, how many of them are right, and the error that each may have."""
    tries = []
    for share in SHARES_GUESSED:
        n_guesses = min(max(2, round(share * len(scores) / 2) * 2), len(scores) // 2 * 2)
        tries.append(
            (
                n_guesses,
                guesses(scores, is_in, n_guesses),
                (1 - confidence) / len(SHARES_GUESSED),
            )
        )
    return tries


def lower_bound(
    scores: np.ndarray,
    is_in: np.ndarray,
    delta: float,
    *,
    is_gaussian: bool = False,
    confidence: float = CONFIDENCE,
) -> dict:
    """Return the largest epsilon that canaries refute.

    Guarantees: where the mechanism is (epsilon, delta)-DP and coins were fair, a bound above
    epsilon has at most probability 1 - `confidence`.

    Args:
        scores, is_in: see `guesses`; each canary was in or zeroed out by a fair coin of its own.
        delta: of the promise.
        is_gaussian: whether the mechanism is known to be a Gaussian one.
        confidence: in (0, 1).

    Returns:
        epsilon; n_canaries, n_guesses, n_correct, of the number of guesses with the best bound.

    Raises:
        InputError: fewer than 10 canaries, or values out of range.
    """
    accounting.check(DELTA=delta)
    errors.same_length(scores=scores, is_in=is_in)
    n_canaries = len(scores)
    errors.number("the number of canaries", n_canaries, 10, 1e7, integer=True)
    errors.number("the confidence", confidence, 0.5, 0.999999)
    bound = _of_gaussian if is_gaussian else _of_any
    best = {"epsilon": 0.0, "n_canaries": n_canaries, "n_guesses": 0, "n_correct": 0}
    for n_guesses, n_correct, error in _tries(scores, is_in, confidence):
        epsilon = bound(n_canaries, n_guesses, n_correct, delta, error)
        if epsilon > best["epsilon"] or not best["n_guesses"]:
            best |= {"epsilon": epsilon, "n_guesses": n_guesses, "n_correct": n_correct}
    return best


def _of_any(n_canaries: int, n_guesses: int, n_correct: int, delta: float, error: float) -> float:
    """Return the largest epsilon refuted for any mechanism."""

    def excess(epsilon: float) -> float:
        return p_value(n_canaries, n_guesses, n_correct, epsilon, delta) - error

    if excess(0.0) > 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, 50.0, xtol=1e-5)) if excess(50.0) > 0 else 50.0


def _of_gaussian(
    n_canaries: int, n_guesses: int, n_correct: int, delta: float, error: float
) -> float:
    """Return the largest epsilon refuted for a Gaussian mechanism."""

    def refutes(mu: float) -> bool:
        def least_false(rate: float) -> float:
            return _NORMAL.cdf(_NORMAL.inv_cdf(rate) - mu) if 0 < rate < 1 else float(rate >= 1)

        return is_refuted(n_canaries, n_guesses, n_correct, least_false, error)

    low, high = 1e-3, 1e-3
    while high < 100 and refutes(high):
        low, high = high, 2 * high
    if high == 1e-3:
        return 0.0
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if refutes(middle) else (low, middle)
    return epsilon_of_gaussian(low, delta)


def epsilon_of_gaussian(mu: float, delta: float) -> float:
    """Return epsilon at delta of a Gaussian mechanism with sensitivity / noise = mu (exact).

    Args:
        mu: > 0.
        delta: in (0, 1).

    Source: Balle and Wang (2018), "Improving the Gaussian mechanism", theorem 8.
    """

    def excess(epsilon: float) -> float:
        upper = stats.norm.cdf(mu / 2 - epsilon / mu)
        lower = math.exp(epsilon + stats.norm.logcdf(-mu / 2 - epsilon / mu))
        return upper - lower - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-8))
