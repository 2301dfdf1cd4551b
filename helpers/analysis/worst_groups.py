"""The worst-served group of each attribute, with bounds that hold for all groups at once.

In: influences of pooled levels. Out: a row a group, also with what privacy changed, and a row an
attribute. The smallest of several estimates is too low on average, and the interval of that one
group says nothing about having been picked.
"""

import numpy as np
import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts
from helpers.analysis.metric_table import ALL, REST
from helpers.data import groups


def bounds(means: pd.DataFrame) -> pd.DataFrame:
    """Return mean AUROC of every known group with simultaneous 95 % intervals, raw and shrunk.

    Guarantees: of the groups of one attribute and arm all intervals cover at once in 95 % of
    studies: each is at the level 0.95^(1 / number of groups) (Sidak 1967, J Am Stat Assoc
    62:626-633; exact for groups that share no patient, conservative where they do).

    shrunk: drawn towards the mean over groups by as much as the estimates vary more than chance
    (DerSimonian and Laird 1986, Control Clin Trials 7:177-188; Efron and Morris 1975, J Am Stat
    Assoc 70:311-319): the better guess for small cells of a crossing, such as "sex x age".

    Args:
        means: pooled influences of levels, means over findings, see `group_contrasts.only_means`.

    Returns:
        run, attribute, group, estimate, low, high, shrunk; groups that are not estimable are left
        out.
    """
    names = means.index.to_frame(index=False)
    shown = (
        (names["attribute"] != ALL)
        & ~names["group"].str.startswith(REST)
        & ~groups.is_unknown(names["group"])
        & means[0].notna().to_numpy()
    )
    rows = []
    for _, part in means[shown.to_numpy()].groupby(level=["run", "attribute"], sort=False):
        level = 100 * 0.95 ** (1 / len(part))
        spread = confidence_intervals.spread(part)
        error = np.hypot(spread.patients, spread.seeds)
        rows.append(
            confidence_intervals.of_levels(part, level).assign(
                shrunk=shrunk(part[0].to_numpy(float), error)
            )
        )
    columns = ["run", "attribute", "group", "estimate", "low", "high", "shrunk"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


def worst(of_groups: pd.DataFrame) -> pd.DataFrame:
    """Return the worst group of each attribute and arm, with an interval for the AUROC of whichever
    group is worst.

    Guarantees: it covers in at least 95 % of studies, since the smallest of the true values lies
    between the smallest of the lower and the smallest of the upper simultaneous limits.

    Args:
        of_groups: from `bounds`.

    Returns:
        run, attribute, group (that of the smallest estimate), n_groups, estimate, low, high;
        attributes with two estimable groups or more.
    """
    rows = [
        {
            "run": run,
            "attribute": attribute,
            "group": part.loc[part["estimate"].idxmin(), "group"],
            "n_groups": len(part),
            **part[["estimate", "low", "high"]].min(),
        }
        for (run, attribute), part in of_groups.groupby(["run", "attribute"], sort=False)
        if len(part) > 1
    ]
    columns = ["run", "attribute", "group", "n_groups", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def shrunk(estimates: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return estimates drawn towards their mean.

    Args:
        estimates, errors: (n,) and their standard errors.
    """
    errors = np.maximum(errors, 1e-6)
    weights = 1 / errors**2
    mean = np.average(estimates, weights=weights)
    excess = (weights * (estimates - mean) ** 2).sum() - (len(estimates) - 1)
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    between = max(0.0, excess / scale) if scale > 0 else 0.0
    if between:
        mean = np.average(estimates, weights=1 / (between + errors**2))
    return mean + between / (between + errors**2) * (estimates - mean)


def cells(means: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return `bounds` with the labels of arms, and each group's change against the arm without
    privacy.

    Args:
        means: see `bounds`.
        arms: from `study_arms.pooled_arms`.

    Returns:
        The columns of `bounds`, arm_label, and change, change_low, change_high: AUROC minus that of
        the arm without privacy, with the 95 % interval of that group alone, paired by patient; NaN
        of that arm itself, or without one. rest_change, rest_change_low, rest_change_high: the same
        of all others whose group is known.
    """
    means = group_contrasts.only_means(means)
    baseline = next(iter(arms.loc[arms["arm"] == "baseline", "run"]), None)
    changes = confidence_intervals.of_changes(group_contrasts.changes(means, baseline))
    is_rest = changes["group"].str.startswith(REST)
    rest = changes[is_rest].assign(group=changes.loc[is_rest, "group"].str.removeprefix(REST))
    table = bounds(means).merge(arms[["run", "arm_label"]], on="run")
    keys, limits = ["run", "attribute", "group"], {"estimate": "", "low": "_low", "high": "_high"}
    for name, rows in (("change", changes[~is_rest]), ("rest_change", rest)):
        named = rows.rename(columns={limit: name + end for limit, end in limits.items()})
        table = table.merge(named[[*keys, *(name + end for end in limits.values())]], "left", keys)
    return table
