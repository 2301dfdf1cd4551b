"""The accountants beside the quoted one: PRV and RDP, as opacus has them.

In: runs, each as (noise multiplier, sampling rate, steps), and delta. Out: an upper bound of the
epsilon of all of them, NaN where opacus cannot be trusted.

Sources: PRV: Gopi et al. (2021); RDP: Mironov (2017).
"""

import functools
import math
import warnings

import numpy as np


def _opacus_epsilon(name: str, runs: tuple[tuple, ...], delta: float, **options: float) -> float:
    """Return the bound of opacus' "PRV" or "RDP" accountant, NaN where its own checks fail."""
    from opacus import (
        accountants,  # here, because it imports torch, which planning a study does without
    )

    accountant = getattr(accountants, f"{name}Accountant")()
    accountant.history = list(runs)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RDP's orders: looser, still a bound
        try:
            return float(accountant.get_epsilon(delta=delta, **options))
        except (RuntimeError, ValueError):
            return math.nan


def rdp_epsilon(runs: tuple[tuple, ...], delta: float) -> float:
    """Return the RDP bound of runs together, or NaN where opacus' own checks fail."""
    return _opacus_epsilon("RDP", runs, delta)


@functools.cache
def prv_epsilon(runs: tuple[tuple, ...], delta: float) -> float:
    """Return the PRV bound of runs together, or NaN where opacus cannot be trusted.

    It takes exp() of its losses, which overflows at 709.
    """
    reach, steps = rdp_epsilon(runs, delta / 4000) + 3, sum(run[2] for run in runs)
    # `reach` is the end of opacus' grid; not above 4 million points
    coarse = reach * math.sqrt(steps * math.log(12_000 / delta) / 2) / 2e6
    error = max(coarse, 3e-4, min(0.5, rdp_epsilon(runs, delta) / 1000))
    epsilon = (
        _opacus_epsilon("PRV", runs, delta, eps_error=error)
        if reach < 700 and error <= 0.5
        else math.nan
    )
    return max(0.0, epsilon) if math.isfinite(epsilon) else math.nan
