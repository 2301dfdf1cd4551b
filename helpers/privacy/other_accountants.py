"""The accountants beside the quoted one: PRV and RDP, as opacus has them.

In: noise multiplier, sampling rate and steps of a run, delta. Out: an upper bound of epsilon, NaN
where opacus cannot be trusted.

Sources: PRV: Gopi et al. (2021); RDP: Mironov (2017).
"""

import functools
import math
import warnings

import numpy as np


def opacus_epsilon(name: str, run: tuple, delta: float, **options: float) -> float:
    """Return the bound of opacus' "PRV" or "RDP" accountant, NaN where its own checks fail."""
    from opacus import (
        accountants,  # here, because it imports torch, which planning a study does without
    )

    accountant = getattr(accountants, f"{name}Accountant")()
    accountant.history = [run]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RDP's orders: looser, still a bound
        try:
            return float(accountant.get_epsilon(delta=delta, **options))
        except (RuntimeError, ValueError):
            return math.nan


@functools.cache
def prv_epsilon(run: tuple, delta: float) -> float:
    """Return the PRV bound, or NaN where opacus cannot be trusted.

    It takes exp() of its losses, which overflows at 709.
    """
    reach = opacus_epsilon("RDP", run, delta / 4000) + 3  # the end of opacus' grid
    # not above 4 million points
    coarse = reach * math.sqrt(run[2] * math.log(12_000 / delta) / 2) / 2e6
    error = max(coarse, 3e-4, min(0.5, opacus_epsilon("RDP", run, delta) / 1000))
    epsilon = (
        opacus_epsilon("PRV", run, delta, eps_error=error)
        if reach < 700 and error <= 0.5
        else math.nan
    )
    return max(0.0, epsilon) if math.isfinite(epsilon) else math.nan
