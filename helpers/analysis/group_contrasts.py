"""Contrasts between groups of patients, how privacy changes them, and gaps as they are often
reported.

In: replicates of metrics (`metric_table`). Out: the same reduced. What cannot be estimated is NaN.
"""

import numpy as np
import pandas as pd

from helpers.analysis import study_arms
from helpers.analysis.metric_table import ALL, REST
from helpers.data import groups


def macro(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over findings (those estimable) of each row of `metric_table` or `contrasts`,
    as finding "macro".
    """
    levels = [level for level in table.index.names if level != "finding"]
    estimable = table[table[0].notna()]
    mean = estimable.groupby(level=levels, sort=False).mean()
    # A replicate that lacks one of these findings would be the mean of other findings than the
    # estimate.
    mean = mean.mask(estimable.isna().groupby(level=levels, sort=False).any())
    mean = mean.reindex(table.index.droplevel("finding").unique())
    return pd.concat({"macro": mean}, names=["finding"]).reorder_levels(table.index.names)


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Return signed contrasts of each finding, group minus the rest; of two groups one row, female
    - male for sex.

    A contrast of accuracy is the `accuracy_parity_difference`, which the paper calls statistical
    parity difference; of selection_rate, the `statistical_parity_difference` of two groups; of
    sensitivity, equal opportunity.

    Args:
        table: from `metric_table.replicate`.

    Returns:
        The same index and columns; the group names what is compared: "female - male", "B - A", ">=
        80 - rest".

    Source: Tayebi Arasteh et al. (2024), their official code, for the accuracy parity difference;
    Dwork et al. (2012) and Hardt, Price and Srebro (2016) for the others.
    """
    is_rest = table.index.get_level_values("group").str.startswith(REST)
    rest = table[is_rest].rename(index=lambda name: name.removeprefix(REST), level="group")
    difference = table.loc[rest.index] - rest
    names, kept = [], []
    compared = rest.groupby(level="attribute").apply(
        lambda part: sorted(part.index.get_level_values("group").unique())
    )
    for attribute, group in zip(
        *(difference.index.get_level_values(level) for level in ("attribute", "group"))
    ):
        first, *others = [g for g in compared[attribute] if g != group]
        names.append(f"{group} - rest" if others else f"{group} - {first}")
        kept.append(
            bool(others)
            or names[-1] == "female - male"
            or (groups.sort_key(group) > groups.sort_key(first) and group != "male")
        )
    frame = difference.index.to_frame().assign(group=names)
    return difference.set_axis(pd.MultiIndex.from_frame(frame))[np.array(kept, dtype=bool)]


def changes(table: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return each other arm's value minus the baseline's, paired by resample: of a contrast this is
    the `gap_change`.

    Args:
        table: pooled contrasts or metrics.
        baseline: name of the arm without privacy; None gives no rows.
    """
    if baseline is None or baseline not in table.index.get_level_values("run"):
        return table.iloc[:0]
    others = table.drop(baseline, level="run")
    reference = (
        table.xs(baseline, level="run")
        .reindex(others.index.droplevel("run"))
        .set_axis(others.index)
    )
    return (others - reference).assign(
        **{name: others[name] + reference[name] for name in study_arms.BETWEEN_SEEDS}
    )


def described_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Return largest minus smallest value over the known groups of each attribute, mean over
    findings. Not tested.

    Such a gap is above 0 by construction, also where groups do not differ, and grows with noise: it
    is described, and no interval is given. Signed contrasts are what can be inferred from.

    auroc_gap; worst_group: lowest mean AUROC; accuracy_gap; statistical_parity_difference: of
    selection rates (Dwork et al. 2012); equalised_odds_difference: the larger of the gaps of
    sensitivity and of specificity (Hardt et al. 2016).

    Args:
        table: from `metric_table.replicate`, or pooled.
    """
    of_metrics = ["auroc", "accuracy", "selection_rate", "sensitivity", "specificity"]
    known = table[0].drop(ALL, level="attribute").reset_index()
    known = known[
        ~known["group"].str.startswith(REST)
        & ~groups.is_unknown(known["group"])
        & known["metric"].isin(of_metrics)
    ]
    rows = []
    for (run, attribute), part in known.groupby(["run", "attribute"], sort=False):
        gaps, n_findings, worst = {}, 0, None
        for metric, values in part.groupby("metric"):
            cells = values.pivot(index="finding", columns="group", values=0)
            # findings that are estimable in all groups that have any
            cells = cells.dropna(axis=1, how="all").dropna()
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
