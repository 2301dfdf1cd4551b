"""Is privacy paid for equally? Small reductions of the table of `replicates`: contrasts, their change, correlations.

In: a table from `replicates.replicate`, records of runs. Out: tables with estimates and 95 % intervals.
Refuses: nothing; what cannot be estimated is NaN.
"""

import numpy as np
import pandas as pd

from helpers import groups
from helpers.replicates import ALL, REST

CONFIDENCE_PERCENT = 95
_SHOWN_ARM = {"zero_shot": "zero-shot", "baseline": "no privacy"}


def arm_table(records: list[dict]) -> pd.DataFrame:
    """Return one row a run: run, arm, epsilon (NaN without privacy), unit, recipe, mode, seed, seconds, arm_label for figures.

    `mode` is "demo" where the noise follows from the seed, so that epsilon is no guarantee.
    """
    rows = pd.DataFrame([{"run": record["run"], "arm": record["arm"], "epsilon": record["epsilon_target"],
                          "unit": record["unit"], "recipe": record.get("recipe", "default"),  # a user's own may have none
                          "mode": (record.get("ledger") or {}).get("mode"), "seed": record["seed"],
                          "seconds": record["seconds"]}
                         for record in records])
    rows["epsilon"] = rows["epsilon"].astype(float)
    labels = [_SHOWN_ARM.get(row.arm, f"epsilon {row.epsilon:g}" + (" per image" if row.unit == "image" else ""))
              + (f", {row.recipe}" if row.recipe != "default" else "") for row in rows.itertuples()]
    rows["arm_label"] = labels
    repeated = rows.duplicated("arm_label", keep=False)
    rows.loc[repeated, "arm_label"] += ", seed " + rows.loc[repeated, "seed"].astype(str)
    return rows


def macro(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over findings (those estimable) of each row of `replicates` or `contrasts`, as finding "macro"."""
    levels = [level for level in table.index.names if level != "finding"]
    estimable = table[table[0].notna()]
    mean = estimable.groupby(level=levels, sort=False).mean()
    # A replicate that lacks one of these findings would be the mean of other findings than the estimate.
    mean = mean.mask(estimable.isna().groupby(level=levels, sort=False).any())
    mean = mean.reindex(table.index.droplevel("finding").unique())
    return pd.concat({"macro": mean}, names=["finding"]).reorder_levels(table.index.names)


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Return signed contrasts of each finding, group minus the rest; of two groups one row, female - male for sex.

    A contrast of accuracy is the `accuracy_parity_difference`, which the paper calls statistical parity difference.

    Args:
        table: from `replicates.replicate`.

    Returns:
        The same index and columns; the group names what is compared: "female - male", "B - A", ">= 80 - rest".

    Source: Tayebi Arasteh et al. (2024), their official code, for the accuracy parity difference.
    """
    is_rest = table.index.get_level_values("group").str.startswith(REST)
    rest = table[is_rest].rename(index=lambda name: name.removeprefix(REST), level="group")
    difference = table.loc[rest.index] - rest
    names, kept = [], []
    compared = rest.groupby(level="attribute").apply(lambda part: sorted(part.index.get_level_values("group").unique()))
    for attribute, group in zip(*(difference.index.get_level_values(level) for level in ("attribute", "group"))):
        first, *others = [g for g in compared[attribute] if g != group]
        names.append(f"{group} - rest" if others else f"{group} - {first}")
        kept.append(bool(others) or names[-1] == "female - male"
                    or (groups.place(group) > groups.place(first) and group != "male"))
    frame = difference.index.to_frame().assign(group=names)
    return difference.set_axis(pd.MultiIndex.from_frame(frame))[np.array(kept, dtype=bool)]


def gap_changes(table: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return `gap_change`: each run's contrast minus the same contrast of the baseline run, paired by resample.

    Args:
        table: from `contrasts`, or `macro` of it.
        baseline: the run without privacy; None gives no rows.
    """
    if baseline is None:
        return table.iloc[:0]
    others = table.drop(baseline, level="run")
    reference = table.xs(baseline, level="run")
    return others - reference.reindex(others.index.droplevel("run")).set_axis(others.index)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return estimate and 95 % percentile interval of each row, as columns beside the index levels.

    Returns:
        Columns `LEVELS`, estimate, low, high, and n_replicates, those in which the metric could be computed.
    """
    if table.empty:
        return pd.DataFrame(columns=[*table.index.names, "estimate", "low", "high", "n_replicates"])
    draws = table.drop(columns=0)
    tail = (100 - CONFIDENCE_PERCENT) / 200
    limits = draws.quantile([tail, 1 - tail], axis=1).T.set_axis(["low", "high"], axis=1)
    return pd.concat([table[0].rename("estimate"), limits, draws.notna().sum(axis=1).rename("n_replicates")],
                     axis=1).reset_index()


def interval(values: pd.Series) -> tuple[float, float, float]:
    """Return estimate, low and high of one row: column 0 and the 95 % percentiles of the replicates."""
    row = summarise(values.to_frame().T.rename_axis("row"))
    return tuple(row.loc[0, ["estimate", "low", "high"]])


def correlation_with_epsilon(contrast_table: pd.DataFrame, arms: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return Pearson's r of each group's contrast against epsilon over the private runs of the commonest recipe and unit.

    Args:
        contrast_table: `macro` of `contrasts`.
        arms: from `arm_table`.
        metric: whose contrasts; accuracy gives the paper's correlation of parity with epsilon.
    """
    private = arms.dropna(subset="epsilon")
    way = private["recipe"] + " " + private["unit"].astype(str)  # epsilons of two units are not one axis, two recipes not one line
    private = private[way == way.mode().get(0)]
    epsilon = private.set_index("run")["epsilon"]
    rows = contrast_table[contrast_table.index.get_level_values("metric") == metric]
    rows = rows[rows.index.get_level_values("run").isin(epsilon.index)]
    found = {key: pearson(part, part.index.get_level_values("run").map(epsilon).to_numpy())
             for key, part in rows.groupby(level=["attribute", "group"], sort=False)}
    columns = ["attribute", "group", "estimate", "low", "high", "n"]
    return pd.DataFrame([[*key, *value] for key, value in found.items()], columns=columns).astype({"n": int})


def drops_by_finding(table: pd.DataFrame, arms: pd.DataFrame, baseline: str | None,
                     n_positive: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return each finding's AUROC drop (private minus non-private) in each private run, and its Pearson correlations.

    The correlation with the non-private AUROC is the paper's; the two share a term, so that r leans to the negative
    though no finding pays more than another.

    Args:
        table: from `replicates.replicate`.
        arms: from `arm_table`.
        baseline: the run without privacy; None gives no rows.
        n_positive: finding -> number of positive training images.
    """
    drop_columns = ["run", "arm_label", "finding", "drop", "low", "high", "n_positive", "non_private_auroc"]
    r_columns = ["arm_label", "correlation of the drop with", "estimate", "low", "high", "n"]
    private = arms[arms["arm"] == "dp"]
    if baseline is None or private.empty:
        return pd.DataFrame(columns=drop_columns), pd.DataFrame(columns=r_columns)
    aurocs = table.xs(("auroc", ALL, ALL), level=["metric", "attribute", "group"])
    without = aurocs.xs(baseline, level="run")
    drops, correlations = [], []
    for row in private.itertuples():
        drop = aurocs.xs(row.run, level="run") - without
        shown = summarise(drop).rename(columns={"estimate": "drop"}).drop(columns="n_replicates")
        drops.append(shown.assign(run=row.run, arm_label=row.arm_label, n_positive=shown["finding"].map(n_positive),
                                  non_private_auroc=shown["finding"].map(without[0])))
        for what, other in (("number of positives", n_positive.reindex(drop.index).to_numpy()),
                            ("non-private AUROC (shares a term)", without)):
            correlations.append([row.arm_label, what, *pearson(drop, other)])
    return pd.concat(drops)[drop_columns], pd.DataFrame(correlations, columns=r_columns).astype({"n": int})


def pearson(first: pd.DataFrame, second: pd.DataFrame | np.ndarray) -> pd.Series:
    """Return Pearson's r between two sets of numbers, with its bootstrap interval; NaN for fewer than three pairs.

    The interval resamples test patients; findings and budgets stay as they are, so it does not say what r would be
    over other findings or budgets. With fewer than ten pairs r is large by chance. No p-value is given.

    Args:
        first: (n, 1 + replicates); column 0 the estimates.
        second: the same, or (n,) constants.

    Returns:
        estimate, low, high, n.
    """
    x = first.to_numpy(float)
    y = np.broadcast_to(np.reshape(np.asarray(second, float), (len(x), -1)), x.shape)
    use = ~np.isnan(x[:, 0]) & ~np.isnan(y[:, 0])
    if use.sum() < 3:
        return pd.Series({"estimate": np.nan, "low": np.nan, "high": np.nan, "n": int(use.sum())})
    x, y = x[use] - x[use].mean(0), y[use] - y[use].mean(0)
    scale = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    r = np.divide((x * y).sum(0), scale, out=np.full(len(scale), np.nan), where=scale > 0)
    low, high = np.nanpercentile(r[1:], [2.5, 97.5]) if np.isfinite(r[1:]).any() else (np.nan, np.nan)
    return pd.Series({"estimate": r[0], "low": low, "high": high, "n": int(use.sum())})


def summary(arms: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the study in one row a run: mean AUROC, and its contrasts by sex and of the oldest group, with intervals.

    Args:
        arms: from `arm_table`.
        table: from `replicates.replicate`.

    Returns:
        The columns of `arms`, macro_auroc, low, high, and for sex and age <name>_contrast, <name>_low, <name>_high.
    """
    aurocs = table[table.index.get_level_values("metric") == "auroc"]
    everybody = _of(summarise(macro(aurocs)), ALL).rename(columns={"estimate": "macro_auroc"})
    rows = arms.merge(everybody[["run", "macro_auroc", "low", "high"]], on="run")
    found = summarise(macro(contrasts(aurocs)))
    for attribute in ("sex", "age"):
        named = {"estimate": f"{attribute}_contrast", "low": f"{attribute}_low", "high": f"{attribute}_high"}
        here = _of(found, attribute).dropna(subset="estimate")
        last = here[here["group"] == oldest(here["group"])] if attribute == "age" else here
        rows = rows.merge(last.rename(columns=named)[["run", *named.values()]], on="run", how="left")
    return rows


def _of(table: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Return the rows of one attribute."""
    return table[table["attribute"] == attribute]


def oldest(names: pd.Series) -> str | None:
    """Return the name of the highest age band, e.g. ">= 80 - rest" or "[70, 80)"; None where there is none."""
    def low_edge(name: str) -> float:
        return float(name.split(" - ")[0].strip("[>=) ").split(",")[0])
    return max(names.unique(), key=low_edge, default=None)


def in_words(estimate: float, low: float, high: float, what: str) -> str:
    """Return one clause on a difference: its size, its interval, and whether the interval leaves 0 out."""
    if np.isnan(estimate):
        return f"{what} is not estimable"
    if np.isnan(low):
        return f"{what}, {estimate:+.3f}, has no interval"
    resolved = "is resolved" if low > 0 or high < 0 else "is not resolved (the interval includes 0)"
    return f"{what}, {estimate:+.3f} [{low:+.3f}, {high:+.3f}], {resolved}"
