"""Verdicts on gaps between groups: against a margin fixed before, and of a few comparisons planned
before.

In: replicates of `gap_change` (`group_contrasts.changes` of contrasts), hypotheses of a profile.
Out: tables with a verdict a row. A comparison that cannot be made says so in its row.

A difference between two arms that "is not significant" says nothing: it may be absent, or the study
too small. Three verdicts follow from where the interval lies relative to the equivalence margin.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

from helpers.analysis import confidence_intervals, group_contrasts, metric_table, study_arms

WORSE, EQUIVALENT, INCONCLUSIVE = "worse by more than the margin", "equivalent", "inconclusive"
# of planned comparisons: with 1,000 the smallest p is 0.002, too large for Holm's first step of 25
N_BOOTSTRAP = 10_000
ALPHA, POWER = 0.05, 0.80


def verdict(low_95: float, high_95: float, low_90: float, high_90: float, margin: float) -> str:
    """Return what intervals of a gap_change say against the margin; "not estimable" where there is
    none.

    Worse by more than the margin: the whole 95 % interval lies beyond it, on the side of the group
    ("for the group") or of those it is compared with ("for the rest"). Equivalent: the 90 %
    interval lies inside the margin, which is two one-sided tests at 5 % (Schuirmann 1987). Else
    inconclusive.
    """
    if np.isnan([low_95, high_95, low_90, high_90]).any():
        return "not estimable"
    if high_95 < -margin:
        return f"{WORSE}, for the group"
    if low_95 > margin:
        return f"{WORSE}, for the rest"
    return EQUIVALENT if -margin < low_90 and high_90 < margin else INCONCLUSIVE


def of_changes(changes: pd.DataFrame, margin: float, n_planned: int = 1) -> pd.DataFrame:
    """Return estimate, 95 % interval, verdict and the minimum detectable change of each row.

    minimum_detectable: the true change whose 95 % interval excludes 0 with 80 % power, at the level
    of Holm's first step.

    Args:
        changes: replicates of gap_change, see `group_contrasts.changes`.
        margin: the largest change that does not matter, AUROC, > 0; fixed before looking.
        n_planned: hypotheses that share the 5 %.
    """
    wide, narrow = (
        confidence_intervals.summarise(changes),
        confidence_intervals.summarise(changes, 90),
    )
    verdicts = [
        verdict(*limits, margin)
        for limits in zip(wide["low"], wide["high"], narrow["low"], narrow["high"])
    ]
    spread = (
        study_arms.with_seeds(changes).drop(columns=0).std(axis=1).to_numpy()
        if len(changes)
        else []
    )
    return wide.assign(
        verdict=verdicts,
        minimum_detectable=minimum_detectable_change(np.asarray(spread, float), n_planned),
    )


def minimum_detectable_change(standard_error: np.ndarray, n_planned: int = 1) -> np.ndarray:
    """Return the true difference detected with 80 % power at a two-sided level of 5 % / n_planned.

    (z + z) standard errors.
    """
    return (norm.ppf(1 - ALPHA / (2 * max(1, n_planned))) + norm.ppf(POWER)) * standard_error


def bootstrap_p(draws: np.ndarray) -> float:
    """Return the two-sided p of "no difference" from replicates: 2 min(1 + #{d <= 0}, 1 + #{d >=
    0}) / (B + 1), at most 1.

    Args:
        draws: (B,) replicates; NaN ones are left out.

    Source: Davison and Hinkley (1997), "Bootstrap Methods and their Application", section 4.2
    (adding 1 for the data).
    """
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return float("nan")
    return float(min(1.0, 2 * (1 + min((draws <= 0).sum(), (draws >= 0).sum())) / (len(draws) + 1)))


def holm(p: np.ndarray) -> np.ndarray:
    """Return p adjusted for their number, so that 5 % is the chance of any false alarm. Missing
    ones count, and stay missing.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    order = np.argsort(p)  # NaN last
    raised = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, raised)
    return adjusted


def planned_table(
    changes: pd.DataFrame, arms: pd.DataFrame, planned: list[list], margin: float
) -> pd.DataFrame:
    """Return the planned comparisons with p, p adjusted by Holm, and verdict, in the order planned.

    A comparison that this study cannot make (a budget that was not run, a group that is not
    estimable) stays in the table and in the count, so that nobody can drop it after looking.

    Args:
        changes: replicates of gap_change of AUROC, mean over findings, see `N_BOOTSTRAP`.
        arms: from `study_arms.pooled_arms`; those of one recipe and unit are compared, see
            `study_arms.one_way`.
        planned: [attribute, contrast, epsilon] each, e.g. ["sex", "female - male", 1.06].
        margin: as in `of_changes`.

    Returns:
        attribute, group, epsilon, arm_label, estimate, low, high, p, p_holm, verdict,
        minimum_detectable.
    """
    run_of = {
        row.epsilon: (row.run, row.arm_label) for row in study_arms.one_way(arms).itertuples()
    }
    estimates = of_changes(changes, margin, len(planned)).set_index(["run", "attribute", "group"])
    draws = (
        study_arms.with_seeds(changes)
        .drop(columns=0)
        .set_axis(pd.MultiIndex.from_frame(changes.index.to_frame()[["run", "attribute", "group"]]))
    )
    rows = []
    for attribute, group, epsilon in planned:
        run, label = run_of.get(float(epsilon), (None, None))
        key, row = (
            (run, attribute, group),
            {
                "attribute": attribute,
                "group": group,
                "epsilon": float(epsilon),
                "arm_label": label,
            },
        )
        if key in estimates.index:
            rows.append(
                row
                | estimates.loc[
                    key, ["estimate", "low", "high", "verdict", "minimum_detectable"]
                ].to_dict()
                | {"p": bootstrap_p(draws.loc[key].to_numpy(float))}
            )
        else:
            reason = "budget not run" if run is None else "no such contrast here"
            rows.append(
                row
                | dict.fromkeys(("estimate", "low", "high", "minimum_detectable", "p"), np.nan)
                | {"verdict": reason}
            )
    table = pd.DataFrame(
        rows,
        columns=[
            "attribute",
            "group",
            "epsilon",
            "arm_label",
            "estimate",
            "low",
            "high",
            "p",
            "verdict",
            "minimum_detectable",
        ],
    )
    table.insert(8, "p_holm", holm(table["p"].to_numpy(float)))
    return table


def planned_changes(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    runs_table: pd.DataFrame,
    baseline: str | None,
    planned: list[list],
    *,
    min_patients: int,
    age_edges: list[float],
    seed: int,
) -> pd.DataFrame:
    """Return replicates of gap_change of AUROC, `N_BOOTSTRAP` of them, of the arms and attributes
    that comparisons need.

    Guarantees: the resamples of a table with as many patients and the same seed come first, those
    that Holm's first step needs follow. All arms and metrics with so many would need gigabytes.

    Args:
        predictions, table, min_patients, age_edges, seed: see `metric_table.replicate`.
        runs_table: from `study_arms.arm_table`.
        baseline: the arm without privacy; None gives no rows.
        planned: [attribute, contrast, epsilon] each.
    """
    way = study_arms.one_way(runs_table)
    needed = runs_table[
        (runs_table["pool"] == baseline)
        | runs_table["run"].isin(
            way.loc[way["epsilon"].isin([float(epsilon) for *_, epsilon in planned]), "run"]
        )
    ]
    if baseline is None or not (needed["arm"] == "dp").any():
        return pd.DataFrame(
            columns=[0, 1, *study_arms.BETWEEN_SEEDS],
            dtype=float,
            index=pd.MultiIndex.from_tuples([], names=metric_table.LEVELS),
        )
    replicates = metric_table.replicate(
        {run: predictions[run] for run in needed["run"]},
        table,
        list(dict.fromkeys(attribute for attribute, *_ in planned)),
        n_bootstrap=N_BOOTSTRAP,
        min_patients=min_patients,
        names=("auroc",),
        age_edges=age_edges,
        seed=seed,
    )
    return group_contrasts.changes(
        study_arms.pool(group_contrasts.macro(group_contrasts.contrasts(replicates)), runs_table),
        baseline,
    )


def predicts(low: float) -> bool:
    """Return whether a mean AUROC's interval lies above 0.5, the AUROC of random scores."""
    return bool(low > 0.5)


def in_words(estimate: float, low: float, high: float, what: str) -> str:
    """Return one clause on a difference: its size, its interval, and whether that excludes 0."""
    if np.isnan(estimate):
        return f"{what} is not estimable"
    if np.isnan(low):
        return f"{what}, {estimate:+.3f}, has no interval"
    says = (
        "the 95 % CI excludes 0" if low > 0 or high < 0 else "inconclusive, the 95 % CI includes 0"
    )
    return f"{what}, {estimate:+.3f} [{low:+.3f}, {high:+.3f}]: {says}"
