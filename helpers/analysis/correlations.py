"""Pearson's correlations as the paper has them, and what they should be compared with.

In: contrasts or metrics with their replicates. Out: r with its bootstrap interval, NaN of too few
pairs. No p-value: budgets and findings are few, and were not drawn from anything.
"""

import numpy as np
import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts, study_arms
from helpers.analysis.metric_table import ALL
from helpers.core import random_streams

FEWEST, FEW = 3, 10  # pairs below which r is not computed; is large by chance


def parity_against_epsilon(
    contrast_table: pd.DataFrame, arms: pd.DataFrame, metric: str
) -> pd.DataFrame:
    """Return Pearson's r of each group's contrast against epsilon and against its logarithm, over
    private arms.

    Only arms of one recipe and unit, see `study_arms.one_way`. Runs without privacy (epsilon
    infinite) are left out.

    Args:
        contrast_table: pooled mean over findings of `group_contrasts.contrasts`.
        arms: from `study_arms.pooled_arms`.
        metric: whose contrasts; accuracy gives the paper's correlation.

    Returns:
        attribute, group, against ("epsilon" or "log epsilon"), estimate, low, high, n.
    """
    epsilon = study_arms.one_way(arms).set_index("run")["epsilon"]
    of_metric = contrast_table[contrast_table.index.get_level_values("metric") == metric].drop(
        columns=study_arms.BETWEEN_SEEDS
    )
    of_arms = of_metric[of_metric.index.get_level_values("run").isin(epsilon.index)]
    rows = []
    for (attribute, group), part in of_arms.groupby(level=["attribute", "group"], sort=False):
        budgets = part.index.get_level_values("run").map(epsilon).to_numpy(float)
        for against, values in (("epsilon", budgets), ("log epsilon", np.log(budgets))):
            rows.append([attribute, group, against, *pearson(part, values)])
    return pd.DataFrame(
        rows, columns=["attribute", "group", "against", "estimate", "low", "high", "n"]
    ).astype({"n": int})


def halves(table: pd.DataFrame, seed: int) -> list[pd.DataFrame]:
    """Return a cohort's table twice, each with a random half of the test patients."""
    patients = np.sort(table.loc[table["split"] == "test", "patient_id"].unique())
    chosen = random_streams.random_stream(seed, "halves").permutation(patients)[
        : len(patients) // 2
    ]
    is_test, is_first = table["split"] == "test", table["patient_id"].isin(chosen)
    return [table[~is_test | is_first], table[~is_test | ~is_first]]


def drops_by_finding(
    aurocs: pd.DataFrame, arms: pd.DataFrame, baseline: str | None, n_positive: pd.Series
) -> pd.DataFrame:
    """Return each finding's AUROC drop (private minus non-private) in each private arm.

    Args:
        aurocs: pooled influences on everybody's AUROC, index (run, finding), from
            `everybodys_auroc`.
        arms: from `study_arms.pooled_arms`.
        baseline: the arm without privacy; None gives no rows.
        n_positive: finding -> number of positive training images.

    Returns:
        run, arm_label, finding, drop, low, high, n_positive, non_private_auroc, mean_auroc (of both
        arms); findings that are not estimable are left out.
    """
    drops = (
        confidence_intervals.of_changes(group_contrasts.changes(aurocs, baseline))
        .rename(columns={"estimate": "drop"})
        .dropna(subset="drop")
    )
    drops = drops.merge(arms.loc[arms["arm"] == "dp", ["run", "arm_label"]], on="run")
    levels = aurocs[0].unstack("run")
    without = drops["finding"].map(levels[baseline]) if len(drops) else np.nan
    return drops.assign(
        n_positive=drops["finding"].map(n_positive),
        non_private_auroc=without,
        mean_auroc=without + drops["drop"] / 2,
    )[
        [
            "run",
            "arm_label",
            "finding",
            "drop",
            "low",
            "high",
            "n_positive",
            "non_private_auroc",
            "mean_auroc",
        ]
    ]


def of_drops(
    aurocs: pd.DataFrame,
    of_halves: list[pd.DataFrame],
    arms: pd.DataFrame,
    baseline: str | None,
    n_positive: pd.Series,
) -> pd.DataFrame:
    """Return Pearson's r of the drops by finding with what might explain them.

    Against the non-private AUROC, as published, the drop shares a term with what it is set against:
    noise alone that lifts a finding's non-private AUROC makes its drop larger, so that r leans to
    the negative though no finding pays more than another. Two comparisons without that: against the
    mean of both arms (Oldham 1962), and against the non-private AUROC on the half of the test
    patients on which the drop is not measured.

    Args:
        aurocs: pooled replicates of everybody's AUROC, from `everybodys_auroc`.
        arms, baseline, n_positive: as in `drops_by_finding`.
        of_halves: the same as `aurocs`, on each of two disjoint halves of the test patients.

    Returns:
        arm_label, against, estimate, low, high, n.
    """
    rows = []
    for row in arms[(arms["arm"] == "dp") & (baseline is not None)].itertuples():
        private, without = _both(aurocs, row.run, baseline)
        (here_private, here_without), (_, elsewhere) = (
            _both(half, row.run, baseline) for half in of_halves
        )
        for against, drop, other in (
            (
                "number of positives",
                private - without,
                n_positive.reindex(without.index).to_numpy(float),
            ),
            ("non-private AUROC, as published", private - without, without),
            ("mean of both arms", private - without, (private + without) / 2),
            ("non-private AUROC on the other half", here_private - here_without, elsewhere),
        ):
            rows.append([row.arm_label, against, *pearson(drop, other)])
    return pd.DataFrame(
        rows, columns=["arm_label", "against", "estimate", "low", "high", "n"]
    ).astype({"n": int})


def everybodys_auroc(table: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return the pooled AUROC of all patients together, index (run, finding), from a table of
    `metric_table` or `influence_table`.
    """
    return study_arms.pool(
        table.xs(("auroc", ALL, ALL), level=["metric", "attribute", "group"]), arms
    )


def _both(aurocs: pd.DataFrame, run: str, baseline: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the replicates of a private arm and of the one without privacy, a row a finding."""
    values = aurocs.drop(columns=study_arms.BETWEEN_SEEDS)
    without = values.xs(baseline, level="run")
    return values.xs(run, level="run").reindex(without.index), without


def pearson(first: pd.DataFrame, second: pd.DataFrame | np.ndarray) -> pd.Series:
    """Return Pearson's r between two sets of numbers, with its bootstrap interval; NaN for fewer
    than three pairs.

    The interval resamples test patients; findings and budgets stay as they are, so it does not say
    what r would be over other findings or budgets. With fewer than ten pairs r is large by chance.
    No p-value is given.

    Args:
        first: (n, 1 + replicates); column 0 the estimates.
        second: the same, or (n,) constants.

    Returns:
        estimate, low, high, n.
    """
    x = first.to_numpy(float)
    y = np.broadcast_to(np.reshape(np.asarray(second, float), (len(x), -1)), x.shape)
    use = ~np.isnan(x[:, 0]) & ~np.isnan(y[:, 0])
    if use.sum() < FEWEST:
        return pd.Series({"estimate": np.nan, "low": np.nan, "high": np.nan, "n": int(use.sum())})
    x, y = x[use] - x[use].mean(0), y[use] - y[use].mean(0)
    scale = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    r = np.divide((x * y).sum(0), scale, out=np.full(len(scale), np.nan), where=scale > 0)
    low, high = (
        np.nanpercentile(r[1:], [2.5, 97.5]) if np.isfinite(r[1:]).any() else (np.nan, np.nan)
    )
    return pd.Series({"estimate": r[0], "low": low, "high": high, "n": int(use.sum())})
