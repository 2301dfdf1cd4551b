"""Privacy accounting: epsilon of a run, of a patient with several images, of several runs together.

In: noise multiplier, sampling rate, steps, delta. Out: epsilon by three accountants, delta at any
epsilon. Raises `InputError` for values out of range. `calibration` has the noise multiplier that
keeps a budget.

A run is `steps` steps of the Poisson-subsampled Gaussian mechanism; adjacent data sets differ by
one unit, present or zeroed out. What is quoted comes from privacy loss distributions (PLD). Every
figure is an upper bound: privacy losses are rounded up on a grid, the worse direction is taken, and
floating-point error is added to delta. The grid follows the spread of a step's loss, so that any
epsilon takes seconds.

Sources: PLD: Koskela et al. (2020), Doroshenko et al. (2022), "Connect the dots";
several images of a patient: Choquette-Choo et al. (2024), "Privacy amplification for matrix
mechanisms", cor. 4.7.
"""

import collections
import functools
import math
import numbers
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy import stats

from helpers.core import errors
from helpers.privacy import other_accountants

ACCOUNTANTS = ("PLD", "PRV", "RDP")  # not GDP, which understates epsilon
MOST_IMAGES = 200  # of a patient in a run whose unit is the image; beyond, epsilon is infinite
# multipliers below the first count as no noise: epsilon is infinite, an upper bound
NO_NOISE, MOST_NOISE = 0.01, 1e7
# added to delta for each step; FFTs in double and extended precision differ by less than half of it
ROUNDING = 1e-15
_RULES = {  # what a value must be, and what to do
    "EPSILON": (
        lambda value: 0 < value <= 1000,
        "a number in (0, 1000]",
        "Choose a finite budget.",
    ),
    "DELTA": (
        lambda value: 0 < value <= 0.1,
        "a number in (0, 0.1]",
        "Choose it far below 1 / number of units.",
    ),
    "sample_rate": (
        lambda value: 0 < value <= 1,
        "a number in (0, 1]",
        "It is expected batch size / number of units.",
    ),
    "noise_multiplier": (
        lambda value: 0 <= value <= MOST_NOISE,
        "a number in [0, 1e7]",
        "It is noise / clipping norm.",
    ),
    "steps": (
        lambda value: isinstance(value, numbers.Integral) and value >= 0,
        "a whole number >= 0",
        "Count the steps.",
    ),
    "n_images": (
        lambda value: isinstance(value, numbers.Integral) and value >= 0,
        "a whole number >= 0",
        "Count images.",
    ),
    "false_positive_rate": (
        lambda value: 0 < value < 1,
        "a number in (0, 1)",
        "Choose, for example, 0.01.",
    ),
}


def check(**values: float) -> None:
    """Refuse values that break the rule of their name, and a delta that drowns in the rounding
    errors of the steps.
    """
    for name, value in values.items():
        holds, wanted, do = _RULES[name]
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not holds(value):
            errors.refuse(f"{name} to be {wanted}", repr(value), do)
    least = 10 * ROUNDING * values.get("steps", 0)
    if values.get("DELTA", 1) < least:
        errors.refuse(
            f"DELTA of at least {least:.2g} for so many steps",
            values["DELTA"],
            "Below, rounding errors decide.",
        )


# ---- the privacy loss of a run


def _grid_width(noise_multiplier: float, chances: np.ndarray) -> tuple[float, float]:
    """Return the grid's width, a small part of the standard deviation of one step's privacy loss,
    and the least width.

    Rounding adds at most width^2 / 4 to a step's variance: a 20th moves epsilons below 1,000 by
    less than 0.2 % (450 random runs). With several images each grid point costs a search, hence a
    10th. The least width bounds the number of points.
    """
    z, dz = np.linspace(-9, 9, 2001, retstep=True)
    x = noise_multiplier * z + np.arange(len(chances))[:, None]
    losses = np.full(x.shape, -np.inf)
    for k in np.flatnonzero(chances):
        losses = np.logaddexp(
            losses, math.log(chances[k]) + (k * x - k * k / 2) / noise_multiplier**2
        )
    weights = chances[:, None] * stats.norm.pdf(z) * dz
    spread = math.sqrt(np.sum(weights * (losses - np.sum(weights * losses)) ** 2))
    parts, most = (20, 1e5) if len(chances) == 2 else (10, 4e4)
    return max(spread / parts, least := float(np.ptp(losses[chances > 1e-20])) / most), least


class Run(NamedTuple):
    """Steps of one mechanism, as a unit of `n_images` images sees it, each of them drawn with
    `sample_rate` by itself.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    n_images: int = 1


@functools.lru_cache(maxsize=8)
def _losses(runs: tuple[Run, ...]) -> pld.PrivacyLossDistribution:
    """Return the privacy loss of runs together, on one grid.

    The widths' root mean square over steps.
    """
    chances = [
        stats.binom.pmf(np.arange(run.n_images + 1), run.n_images, run.sample_rate) for run in runs
    ]
    widths = np.array(
        [_grid_width(run.noise_multiplier, counts) for run, counts in zip(runs, chances)]
    )
    width = max(
        math.sqrt(np.average(widths[:, 0] ** 2, weights=[run.steps for run in runs])),
        widths[:, 1].max(),
    )
    grid, whole = dict(value_discretization_interval=width, log_mass_truncation_bound=-35), None
    for run, counts in zip(runs, chances):
        if run.n_images == 1:
            one_step = pld.from_gaussian_mechanism(
                run.noise_multiplier, sampling_prob=run.sample_rate, **grid
            )
        else:  # k drawn images move the sum by up to k clipping norms
            one_step = pld.from_mixture_gaussian_mechanism(
                run.noise_multiplier, np.arange(run.n_images + 1), counts, **grid
            )
        part = one_step.self_compose(run.steps)
        whole = part if whole is None else whole.compose(part)
    return whole


def delta_of(runs: tuple[Run, ...], epsilon: float) -> float:
    """Return an upper bound of delta at epsilon of runs together, of the worse direction."""
    runs = tuple(run for run in runs if run.steps and run.n_images)
    if not runs or any(run.noise_multiplier < NO_NOISE for run in runs):
        return 1.0 if runs else 0.0
    slack = 0.0
    for run in runs:
        slack += ROUNDING * run.steps
        # dp-accounting inverts the loss to 1e-6; delta has its peak there, so that a square of that
        # is lost
        if run.n_images > 1:
            q = run.sample_rate
            slack += (
                2e-13
                * run.n_images
                * q
                / max(q, (1 - q) ** run.n_images)
                / run.noise_multiplier**3
                * run.steps
            )
    with np.errstate(over="ignore", invalid="ignore"):
        delta = _losses(runs).get_delta_for_epsilon(float(epsilon))
    return float(delta) + slack if delta < 1 else 1.0  # also where rounding errors made it NaN


@functools.cache
def epsilon_of(runs: tuple[Run, ...], delta: float) -> float:
    """Return the smallest epsilon (to a millionth of it, from above) whose delta is at most
    `delta`.
    """

    def too_small(epsilon: float) -> bool:
        return delta_of(runs, epsilon) > delta

    if too_small(math.inf):
        return math.inf
    low, high = 0.0, 1.0 if too_small(0) else 0.0
    while too_small(high):
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return high


# ---- epsilon


def epsilon_spent(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: str = "PLD"
) -> float:
    """Return epsilon after `steps` steps of the Poisson-sampled Gaussian mechanism.

    Args:
        noise_multiplier: standard deviation of the noise in units of the clipping norm, >= 0.
        sample_rate: q in (0, 1].
        steps: optimizer steps, >= 0.
        delta: in (0, 0.1].
        accountant: PLD (what is quoted), PRV or RDP.

    Returns:
        An upper bound: 0.0 for no steps, infinity for no noise. PRV is NaN where opacus cannot be
        trusted: where its grid of losses overflows (from about epsilon 450) or would need too many
        points, and where its own checks fail.

    Raises:
        InputError: a value out of its range, or delta lost in rounding errors.
    """
    return epsilon_of_all((Run(noise_multiplier, sample_rate, steps),), delta, accountant)


def epsilon_for_patient(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, n_images: int
) -> float:
    """Return epsilon for a patient with `n_images` training images in a run whose unit is the
    image.

    The number of the patient's images in a step is binomial, and each moves the sum by up to the
    clipping norm: a mixture of Gaussians with sensitivities 0 to `n_images`. `n_images` x epsilon
    would say nothing: its delta exceeds 1.

    Returns:
        An upper bound by PLD at the same delta, as `epsilon_spent` gives for one image; infinity
        above 200 images.

    Raises:
        InputError: a value out of its range, or delta lost in rounding errors.
    """
    return epsilon_of_all((Run(noise_multiplier, sample_rate, steps, n_images),), delta)


def epsilon_of_all(runs: Iterable[Run], delta: float, accountant: str = "PLD") -> float:
    """Return epsilon of several runs on the same units together, at one delta; they may differ in
    everything.

    Guarantees: every step of every run counts, at its own noise and sampling rate.

    Args:
        runs: in any order; a run whose unit is the image counts for a patient with `n_images` of
            them.
        delta: in (0, 0.1].
        accountant: PLD (what is quoted), PRV or RDP.

    Returns:
        An upper bound: 0.0 for no steps, infinity where a run has no noise or a patient more than
        200 images. NaN by PRV where opacus cannot be trusted, see `epsilon_spent`; by PRV and RDP
        for patients with several images.

    Raises:
        InputError: a value out of its range, or delta lost in rounding errors.
    """
    errors.one_of("accountant", accountant, ACCOUNTANTS)
    together = merged(runs)
    check(DELTA=delta, steps=sum(run.steps for run in together))
    if any(run.n_images > MOST_IMAGES for run in together):
        return math.inf
    if accountant != "PLD" and together and all(run[0] >= NO_NOISE for run in together):
        if any(run.n_images > 1 for run in together):
            return math.nan
        of_opacus = {"PRV": other_accountants.prv_epsilon, "RDP": other_accountants.rdp_epsilon}
        return of_opacus[accountant](tuple(tuple(run[:3]) for run in together), delta)
    # on grids of their own, which may differ in the fourth digit
    alone = [epsilon_of((run,), delta) for run in together]
    return (
        max(epsilon_of(together, delta), *alone)
        if len(together) > 1
        else epsilon_of(together, delta)
    )


# ---- several runs as one


def merged(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Return runs with those of one mechanism as one run, in an order that does not depend on
    theirs, those without steps or images left out.

    Raises:
        InputError: a value out of its range.
    """
    steps = collections.Counter()
    for noise_multiplier, sample_rate, n_steps, n_images in runs:
        check(
            noise_multiplier=noise_multiplier,
            sample_rate=sample_rate,
            steps=n_steps,
            n_images=n_images,
        )
        steps[noise_multiplier, sample_rate, n_images] += n_steps
    return tuple(
        Run(sigma, q, n_steps, n)
        for (sigma, q, n), n_steps in sorted(steps.items())
        if n_steps and n
    )
