"""Estimates with their 95 % intervals.

In: bootstrap replicates, or influences of patients on AUROC, a row an estimate. Out: one row each:
estimate, low, high. Replicates have percentile intervals; AUROC, of which influences are known, has
those of `auroc_intervals`, which hold in small groups.
"""

import numpy as np
import pandas as pd

from helpers.analysis import auroc_intervals, study_arms
from helpers.analysis.auroc_intervals import ABOUT, HIDDEN, N_AVERAGED, N_SMALLER

_FEW, _NEAR_1 = 20, 0.9
TOO_NARROW = "few patients and an AUROC near 1: may be too narrow"


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return estimate and 95 % percentile interval of each row, as columns beside the index levels.

    Args:
        table: replicates, pooled or of single runs.

    Returns:
        The index levels, estimate, low, high, and n_replicates, those in which the metric could be
        computed.
    """
    if table.empty:
        return pd.DataFrame(columns=[*table.index.names, "estimate", "low", "high", "n_replicates"])
    values = study_arms.with_seeds(table)
    draws = values.drop(columns=0)
    limits = _quantiles(draws, 0.025)
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


def influences_of(table: pd.DataFrame) -> np.ndarray:
    """Return (n, n_patients) influences alone."""
    about = [0, *ABOUT, *study_arms.BETWEEN_SEEDS]
    return table.drop(columns=about, errors="ignore").to_numpy(float)


def spread(table: pd.DataFrame) -> auroc_intervals.Spread:
    """Return the standard errors of each row of a table of influences, with their degrees of
    freedom.

    Over patients, of one finding these are one less than the patients of the smaller class; of a
    mean over findings those of `auroc_intervals.effective_patients`.

    Args:
        table: influences, or their means, contrasts or changes; pooled or of single runs.
    """
    influence = influences_of(table)
    error = np.hypot(auroc_intervals.standard_error(influence), table[HIDDEN].to_numpy(float))
    effective = auroc_intervals.effective_patients(influence)
    is_mean = (table[N_AVERAGED] > 1) & ~np.isnan(effective)  # NaN: all hidden
    freedom = np.where(is_mean, effective, table[N_SMALLER] - 1)
    freedom = np.where(error == 0, 1.0, freedom)  # no spread, at any freedom
    return auroc_intervals.Spread(error, freedom, *study_arms.seeds_of(table))


def of_levels(table: pd.DataFrame, percent: float = 95) -> pd.DataFrame:
    """Return AUROCs with their intervals, see `auroc_intervals.of_level`.

    Args:
        table: influences, pooled or of single runs.
        percent: of the interval.

    Returns:
        The index levels, estimate, low, high, remark ("" or what is known to be wrong with the
        interval).
    """
    smaller = table[N_SMALLER].to_numpy(float)
    limits = auroc_intervals.of_level(table[0].to_numpy(float), spread(table), smaller, percent)
    return _rows(table, limits, table[0].to_numpy(float))


def of_contrasts(levels: pd.DataFrame, contrasts: pd.DataFrame, pairs: tuple) -> pd.DataFrame:
    """Return contrasts of AUROC with their intervals, see `auroc_intervals.of_contrast`.

    Args:
        levels: pooled influences of groups and rests.
        contrasts: the same contrasted, then pooled.
        pairs: of the levels' index, see `group_contrasts.pairs`.

    Returns:
        As `of_levels`, the index levels of `contrasts`.
    """
    of_group, of_rest, names = pairs
    contrasts, alone, sides = contrasts.loc[names], spread(levels).alone, []
    for rows in (of_group, of_rest):
        estimate = levels[0].to_numpy(float)[rows]
        smaller = levels[N_SMALLER].to_numpy(float)[rows]
        sides += [estimate, auroc_intervals.of_level(estimate, alone[rows], smaller)]
    influence, error = influences_of(levels), alone.patients
    shared = auroc_intervals.correlation(
        influence[of_group], influence[of_rest], error[of_group], error[of_rest]
    )
    limits = auroc_intervals.of_contrast(*sides, shared, spread(contrasts).of_seeds(0.025))
    return _rows(contrasts, limits, np.fmax(sides[0], sides[2]))


def of_changes(table: pd.DataFrame, percent: float = 95) -> pd.DataFrame:
    """Return paired changes of AUROC, of levels or of contrasts, with their intervals and p.

    Args:
        table: influences of changes, see `group_contrasts.changes`.
        percent: of the interval.

    Returns:
        As `of_levels`, and p of no change, two-sided, unadjusted.
    """
    estimate, of_row = table[0].to_numpy(float), spread(table)
    margin = of_row.margin((100 - percent) / 200)
    rows = _rows(table, (estimate - margin, estimate + margin), np.zeros(len(table)))
    return rows.assign(p=of_row.p(estimate))


def _rows(table: pd.DataFrame, limits: tuple, level: np.ndarray) -> pd.DataFrame:
    """Return estimates and limits beside the index levels, with a remark where
    `benchmarks/interval_coverage.py` finds some too narrow: few patients of a class, as a rule
    beside many of the other, and an AUROC near 1. Paired changes have none (`level` 0).
    """
    low, high = limits
    is_few = (table[N_SMALLER] < _FEW) & (level > _NEAR_1)
    rows = pd.DataFrame(
        {"estimate": table[0].astype(float), "low": low, "high": high}, index=table.index
    )
    return rows.assign(remark=np.where(is_few, TOO_NARROW, "")).reset_index()
