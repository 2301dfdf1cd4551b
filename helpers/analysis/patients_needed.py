"""How many patients a hospital needs at a privacy budget, by a law fitted to a learning curve.

In: a learning curve, what share of the possible gain private models reached with so many patients.
Out: the number of patients at which the law reaches a wanted share, with its interval. Raises
`InputError` for shares and budgets out of range, for a curve too short to fit, and for a number of
patients far outside the curve.

The *share* is (AUROC - zero-shot) / (ceiling - zero-shot), the ceiling being trained without
privacy on as many patients as the largest point of the curve. Noise in a mean over patients falls
with patients x epsilon, so that both enter as one product:

    share(N, epsilon) = 1 - 1 / (1 + (N x epsilon / scale)^power)

A curve is of one data set, network, start and delta: for another hospital the number is an order of
size, no promise. It says nothing about how well any model of that hospital can become.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import optimize

from helpers.core import errors, random_streams

COLUMNS = ("n_patients", "epsilon", "share", "replicates")
FEWEST = 4  # different values of patients x epsilon
BEYOND = 3.0  # times the ends of the curve: further no number is given
_MOST_POWER = 5.0


@dataclasses.dataclass(frozen=True)
class Law:
    """The fitted law.

    Attributes:
        scale: patients x epsilon at which the share is one half, > 0.
        power: how steeply it grows, > 0.
    """

    scale: float
    power: float

    def share(self, product: np.ndarray) -> np.ndarray:
        """Return the share in (0, 1) at each patients x epsilon, > 0."""
        return 1 / (1 + (self.scale / product) ** self.power)

    def product(self, share: float) -> float:
        """Return the patients x epsilon at which a share in (0, 1) is reached."""
        return float(self.scale * (share / (1 - share)) ** (1 / self.power))


@dataclasses.dataclass(frozen=True)
class Needed:
    """How many patients are needed.

    Attributes:
        estimate, low, high: patients, with a 95 % percentile interval over runs and test patients;
            where the curve does not bound it `low` is 0, `high` infinite.
        law: fitted to the whole curve.
        misfit: root mean square of measured minus fitted share: a bad law shows here, not in the
            interval.
    """

    estimate: int
    low: float
    high: float
    law: Law
    misfit: float


def fit(products: np.ndarray, shares: np.ndarray) -> Law:
    """Return the law with the least squares in shares.

    Args:
        products: (n,) patients x epsilon, > 0.
        shares: (n,) of the runs; below 0 where a private model is worse than the public one.
    """
    middle = np.log(np.median(products))

    def misfits(parameters: np.ndarray) -> np.ndarray:
        return Law(np.exp(parameters[0]), parameters[1]).share(products) - shares

    limits = ([middle - 25, 0.05], [middle + 25, _MOST_POWER])
    solved = optimize.least_squares(misfits, [middle, 0.7], bounds=limits)
    return Law(float(np.exp(solved.x[0])), float(solved.x[1]))


def patients_needed(
    epsilon: float, target_share: float, curve: pd.DataFrame, *, n_bootstrap: int = 500
) -> Needed:
    """Return how many training patients a private model needs to reach a share of the gain.

    Args:
        epsilon: budget of one patient; within the curve's.
        target_share: of the distance from zero-shot to the ceiling, in (0, 1).
        curve: a row a run; columns n_patients, epsilon, share, replicates (a list of the share
            under resamples of the test patients, the same ones in each row).
        n_bootstrap: fits for the interval: each draws runs with replacement, and a resample of the
            test patients.

    Returns:
        Patients, with an interval.

    Raises:
        InputError: arguments out of range, too short a curve, or a number beyond `BEYOND` times its
            ends.
    """
    errors.has_columns(curve, COLUMNS, "the learning curve", "Run benchmarks/learning_curve.py.")
    errors.number("target_share", target_share, 0.01, 0.99)
    errors.number("epsilon", epsilon, curve["epsilon"].min(), curve["epsilon"].max())
    products = (curve["n_patients"] * curve["epsilon"]).to_numpy(float)
    if len(np.unique(products)) < FEWEST:
        errors.refuse(
            f"a learning curve of at least {FEWEST} different patients x epsilon",
            len(np.unique(products)),
            "Measure more of them.",
        )
    law = fit(products, curve["share"].to_numpy(float))
    needed = law.product(target_share)
    fewest, most = curve["n_patients"].min() / BEYOND, curve["n_patients"].max() * BEYOND
    if not fewest <= needed / epsilon <= most:
        ends = law.share(np.array([fewest, most]) * epsilon)
        errors.refuse(
            f"a share that the curve tells of, {ends[0]:.2f} to {ends[1]:.2f} at epsilon"
            f" {epsilon:g}",
            target_share,
            f"It was measured from {curve['n_patients'].min():,} to"
            f" {curve['n_patients'].max():,} patients; ask within {BEYOND:g} times of it.",
        )
    drawn = [law.product(target_share) for law in _laws(products, curve, n_bootstrap)]
    ends = np.quantile(drawn, [0.025, 0.975]) / epsilon
    misfit = float(np.sqrt(np.mean((law.share(products) - curve["share"]) ** 2)))
    return Needed(
        round(needed / epsilon),
        float(ends[0]) if ends[0] >= fewest else 0.0,
        float(ends[1]) if ends[1] <= most else float("inf"),
        law,
        misfit,
    )


def _laws(products: np.ndarray, curve: pd.DataFrame, n_bootstrap: int) -> list[Law]:
    """Return laws fitted to resampled runs and test patients."""
    replicates = np.array(curve["replicates"].tolist(), dtype=float)
    stream, laws = random_streams.random_stream(0, "patients needed"), []
    while len(laws) < n_bootstrap:
        runs = stream.integers(len(products), size=len(products))
        if len(np.unique(products[runs])) >= FEWEST - 1:
            laws.append(fit(products[runs], replicates[runs, stream.integers(replicates.shape[1])]))
    return laws


def table(curve: pd.DataFrame, epsilons: list[float], shares: list[float]) -> pd.DataFrame:
    """Return patients needed for each budget and share; blank where the curve does not tell.

    Args:
        curve: see `patients_needed`.
        epsilons, shares: wanted.

    Returns:
        epsilon, share, patients, low, high.
    """
    rows = []
    for epsilon in epsilons:
        for share in shares:
            row = {"epsilon": epsilon, "share": share}
            try:
                needed = patients_needed(epsilon, share, curve)
                row |= {"patients": needed.estimate, "low": needed.low, "high": needed.high}
            except errors.InputError:
                row |= dict.fromkeys(("patients", "low", "high"), np.nan)
            rows.append(row)
    return pd.DataFrame(rows)
