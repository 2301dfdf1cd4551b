"""Contrasts between groups of patients, how privacy changes them, and gaps as they are often
reported.

In: replicates of metrics (`metric_table`) or influences of patients (`influence_table`). Out: the
same reduced. What cannot be estimated is NaN.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from helpers.analysis import study_arms
from helpers.analysis.auroc_intervals import HIDDEN, N_AVERAGED, N_SMALLER
from helpers.analysis.metric_table import ALL, ANY, REST
from helpers.core import errors
from helpers.data import groups

MACRO = "macro"  # the finding of a mean over findings


def averaged(table: pd.DataFrame, given: Collection[str] = ()) -> pd.DataFrame:
    """Return the findings that means are over: one set for each metric and attribute, the same in
    every group and arm.

    Guarantees: a group never changes which findings another group of its attribute is compared by.
    The set depends on labels and on which groups have enough patients (those of AUROC, where it is
    there), never on the size of a metric: of another metric it lacks only findings for which that
    is not estimable among everybody, in any arm. Where it is not in one group, that group has no
    mean.

    Args:
        table: from `metric_table.replicate` or `influence_table.of_auroc`, all arms together.
        given: findings chosen before, the same for every attribute; else those that are estimable
            in every known group, and its rest, in every arm. Groups with fewer than half of the
            findings do not count, and have no mean.

    Returns:
        metric, attribute, n_findings, findings (tuple of names).

    Raises:
        InputError: a given finding is not in the table.
    """
    known_names = list(table.index.unique("finding"))
    for name in given:
        errors.one_of("each of FINDINGS", name, known_names)
    is_there = table[0].notna()
    known = ~groups.is_unknown(table.index.get_level_values("group"))
    sets: dict[tuple[str, str], tuple] = {}
    by_kind = is_there[known].groupby(level=["metric", "attribute"], sort=False)
    for key, part in sorted(by_kind, key=lambda item: item[0][0] != "auroc"):  # AUROC first
        cells = part.unstack("finding", sort=False).fillna(False).astype(bool)
        of_everybody = sets.get(("auroc", key[1])) if set(cells) - {ANY} else None
        if of_everybody is None:
            enough = cells[cells.sum(axis=1) >= max(1, cells.shape[1] / 2)]
            sets[key] = tuple(name for name in cells if name in given)
            if not sets[key] and len(enough):  # none given, or a metric of images, not findings
                sets[key] = tuple(name for name in cells if enough[name].all())
        else:
            rows_of = is_there.index.get_level_values
            everybody = (rows_of("metric") == key[0]) & (rows_of("attribute") == ALL)
            lacking = set(rows_of("finding")[everybody & ~is_there])
            sets[key] = tuple(name for name in of_everybody if name not in lacking)
    order = list(
        dict.fromkeys(zip(*(table.index.get_level_values(i) for i in ("metric", "attribute"))))
    )
    rows = [[*key, len(sets[key]), sets[key]] for key in order if key in sets]
    return pd.DataFrame(rows, columns=["metric", "attribute", "n_findings", "findings"])


def with_means(table: pd.DataFrame, of_means: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a table with the means over findings before its rows.

    Args:
        table, of_means: see `macro`.
    """
    return pd.concat([macro(table, of_means), table])


def macro(table: pd.DataFrame, of_means: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the mean over findings of each row, as finding "macro"; NaN where one of the findings
    is not estimable.

    Args:
        table: as in `averaged`.
        of_means: from `averaged`; None for that of this table.
    """
    of_means = averaged(table) if of_means is None else of_means
    # an attribute that is known of nobody has none
    findings_of = of_means.set_index(["metric", "attribute"])["findings"].to_dict()
    levels = [level for level in table.index.names if level != "finding"]
    names = table.index.to_frame(index=False)
    keys = [*zip(names["metric"], names["attribute"])]
    kept = table[
        [finding in findings_of.get(key, ()) for finding, key in zip(names["finding"], keys)]
    ]
    by_row = kept.groupby(level=levels, sort=False)
    # A replicate that lacks one of these findings would be the mean of other findings than the
    # estimate.
    mean = by_row.mean().mask(kept.isna().groupby(level=levels, sort=False).any())
    names = mean.index.to_frame(index=False)
    wanted = [len(findings_of[key]) for key in zip(names["metric"], names["attribute"])]
    mean[by_row.size().to_numpy() < np.array(wanted)] = np.nan
    if N_SMALLER in table:
        mean[N_SMALLER], mean[N_AVERAGED] = by_row[N_SMALLER].min(), by_row[N_AVERAGED].sum()
        mean[HIDDEN] = (kept[HIDDEN] ** 2).groupby(level=levels).sum() ** 0.5 / mean[N_AVERAGED]
    mean = mean.reindex(table.index.droplevel("finding").unique())
    return pd.concat({MACRO: mean}, names=["finding"]).reorder_levels(table.index.names)


def only_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `with_means` that are means over findings."""
    return table[table.index.get_level_values("finding") == MACRO]


def with_findings(rows: pd.DataFrame, of_means: pd.DataFrame) -> pd.DataFrame:
    """Return means over findings with the number and the names of these, as columns n_findings and
    findings.

    Args:
        rows: with metric and attribute.
        of_means: from `averaged`.
    """
    names = of_means["findings"].map(", ".join)
    return rows.merge(of_means.assign(findings=names), "left", on=["metric", "attribute"])


def pairs(index: pd.MultiIndex) -> tuple[np.ndarray, np.ndarray, pd.MultiIndex]:
    """Return of each contrast the position of its group's row, that of the rest's, and its own
    index, with the name of what is compared as group: "female - male", "B - A", ">= 80 - rest".

    Args:
        index: of a table of `metric_table`, each row once.
    """
    rows = index.to_frame(index=False)
    is_rest = rows["group"].str.startswith(REST).to_numpy()
    named = rows[is_rest].assign(group=rows.loc[is_rest, "group"].str.removeprefix(REST))
    compared = named.groupby("attribute")["group"].unique()
    names, kept = [], []
    for attribute, group in zip(named["attribute"], named["group"]):
        first, *others = sorted(name for name in compared[attribute] if name != group)
        names.append(f"{group} - rest" if others else f"{group} - {first}")
        kept.append(
            bool(others)
            or names[-1] == "female - male"
            or (
                groups.sort_key(group) > groups.sort_key(first)
                and (group, first) != ("male", "female")
            )
        )
    kept = np.array(kept, dtype=bool)
    of_group = index.get_indexer(pd.MultiIndex.from_frame(named[kept]))
    of_rest = np.flatnonzero(is_rest)[kept]
    return of_group, of_rest, pd.MultiIndex.from_frame(named.assign(group=names)[kept])


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Return signed contrasts of each finding, group minus the rest; of two groups one row, female
    - male for sex.

    A contrast of accuracy is the `accuracy_parity_difference`, which the paper calls statistical
    parity difference; of selection_rate, the `statistical_parity_difference` of two groups; of
    sensitivity, equal opportunity.

    Args:
        table: from `metric_table.replicate` or `influence_table.of_auroc`, or the means of it.

    Returns:
        The same index and columns; the group names what is compared, see `pairs`.

    Source: Tayebi Arasteh et al. (2024), their official code, for the accuracy parity difference;
    Dwork et al. (2012) and Hardt, Price and Srebro (2016) for the others.
    """
    of_group, of_rest, names = pairs(table.index)
    group, rest = table.iloc[of_group].set_axis(names), table.iloc[of_rest].set_axis(names)
    return difference(group, rest)


def difference(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return the difference of rows of tables, replicates or influences, paired."""
    if N_SMALLER not in one:
        return one - other
    smaller = np.minimum(one[N_SMALLER], other[N_SMALLER])
    hidden = np.hypot(one[HIDDEN], other[HIDDEN])
    about = {N_SMALLER: smaller, N_AVERAGED: one[N_AVERAGED], HIDDEN: hidden}
    return (one - other).assign(**about)


def changes(table: pd.DataFrame, baseline: str | None, *, is_given: bool = False) -> pd.DataFrame:
    """Return each other arm's value minus the baseline's, paired: of a contrast this is the
    `gap_change`.

    Args:
        table: pooled contrasts or levels.
        baseline: name of the arm without privacy; None gives no rows.
        is_given: whether the baseline is one given model, see `study_arms.seeds_of_difference`.
    """
    if baseline is None or baseline not in table.index.get_level_values("run"):
        return table.iloc[:0]
    others = table.drop(baseline, level="run")
    reference = (
        table.xs(baseline, level="run")
        .reindex(others.index.droplevel("run"))
        .set_axis(others.index)
    )
    return difference(others, reference).assign(
        **study_arms.seeds_of_difference(others, reference, is_given)
    )


def described_gaps(table: pd.DataFrame, of_means: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return largest minus smallest value over the known groups of each attribute, mean over
    findings. Not tested.

    Such a gap is above 0 by construction, also where groups do not differ, and grows with noise: it
    is described, and no interval is given. Signed contrasts are what can be inferred from.

    auroc_gap; worst_group: lowest mean AUROC; accuracy_gap; statistical_parity_difference: of
    selection rates (Dwork et al. 2012); equalised_odds_difference: the larger of the gaps of
    sensitivity and of specificity (Hardt et al. 2016).

    Args:
        table: from `metric_table.replicate`, or pooled.
        of_means: see `macro`.
    """
    of_metrics = ["auroc", "accuracy", "selection_rate", "sensitivity", "specificity"]
    known = table[0].drop(ALL, level="attribute").reset_index()
    known = known[
        ~known["group"].str.startswith(REST)
        & ~groups.is_unknown(known["group"])
        & known["metric"].isin(of_metrics)
    ]
    of_means = averaged(table) if of_means is None else of_means
    findings_of = of_means.set_index(["metric", "attribute"])["findings"]
    rows = []
    for (run, attribute), part in known.groupby(["run", "attribute"], sort=False):
        gaps, n_findings, worst = {}, 0, None
        for metric, values in part.groupby("metric"):
            cells = values.pivot(index="finding", columns="group", values=0)
            cells = cells.loc[list(findings_of[metric, attribute])].dropna(axis=1)
            gaps[metric] = cells.max(axis=1) - cells.min(axis=1)
            if metric == "auroc" and cells.size:
                n_findings, worst = len(cells), cells.mean().idxmin()
        gap = pd.DataFrame(gaps).reindex(columns=of_metrics)
        rows.append(
            {
                "run": run,
                "attribute": attribute,
                "auroc_gap": gap["auroc"].mean(),
                "n_findings": n_findings,
                "worst_group": worst,
                "accuracy_gap": gap["accuracy"].mean(),
                "statistical_parity_difference": gap["selection_rate"].mean(),
                "equalised_odds_difference": gap[["sensitivity", "specificity"]].max(axis=1).mean(),
            }
        )
    return pd.DataFrame(
        rows,
        columns=[
            "run",
            "attribute",
            "auroc_gap",
            "n_findings",
            "worst_group",
            "accuracy_gap",
            "statistical_parity_difference",
            "equalised_odds_difference",
        ],
    )


def age_attribute(table: pd.DataFrame) -> str:
    """Return the attribute by which a table of contrasts has ages.

    "age", or "age quartile" where there are no other bands.
    """
    return (
        "age quartile"
        if (table["attribute"] == "age quartile").any() and not (table["attribute"] == "age").any()
        else "age"
    )


def oldest(names: pd.Series) -> str | None:
    """Return the name of the highest age band, e.g.

    ">= 80 - rest" or "[70, 80)"; None where there is none.
    """

    def low_edge(name: str) -> float:
        return float(name.split(" - ")[0].strip("[>=) ").split(",")[0])

    return max(names.unique(), key=low_edge, default=None)
