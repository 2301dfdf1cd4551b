"""Estimates with their 95 % percentile intervals.

In: bootstrap replicates, a row an estimate. Out: one row each: estimate, low, high.
"""

import numpy as np
import pandas as pd

from helpers.analysis import study_arms


def summarise(table: pd.DataFrame, percent: float = 95) -> pd.DataFrame:
    """Return estimate and percentile interval of each row, as columns beside the index levels.

    Args:
        table: replicates, pooled or of single runs.
        percent: of the interval, 95 unless said otherwise.

    Returns:
        The index levels, estimate, low, high, and n_replicates, those in which the metric could be
        computed.
    """
    if table.empty:
        return pd.DataFrame(columns=[*table.index.names, "estimate", "low", "high", "n_replicates"])
    values = study_arms.with_seeds(table)
    draws = values.drop(columns=0)
    limits = _quantiles(draws, (100 - percent) / 200)
    return pd.concat(
        [values[0].rename("estimate"), limits, draws.notna().sum(axis=1).rename("n_replicates")],
        axis=1,
    ).reset_index()


def _quantiles(draws: pd.DataFrame, tail: float) -> pd.DataFrame:
    """Return columns low and high; a row at a time only where resamples are missing."""
    whole = draws.notna().all(axis=1)
    limits = pd.DataFrame(np.nan, index=draws.index, columns=["low", "high"])
    limits[whole] = np.quantile(draws[whole].to_numpy(), [tail, 1 - tail], axis=1).T
    some = ~whole & draws.notna().any(axis=1)
    limits[some] = draws[some].quantile([tail, 1 - tail], axis=1).T.to_numpy()
    return limits
