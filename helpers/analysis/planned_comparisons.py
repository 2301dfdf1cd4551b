"""The few comparisons that were planned before looking.

In: hypotheses of a profile, predictions and replicates. Out: a table with p, p adjusted by Holm and
a verdict, a row a hypothesis. A comparison that cannot be made says so in its row.
"""

import numpy as np
import pandas as pd

from helpers.analysis import equivalence, group_contrasts, metric_table, study_arms

# with 1,000 the smallest p is 0.002, too large for Holm's first step of 25
N_BOOTSTRAP = 10_000


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
    estimates = equivalence.of_changes(changes, margin, len(planned)).set_index(
        ["run", "attribute", "group"]
    )
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
                | {"p": equivalence.bootstrap_p(draws.loc[key].to_numpy(float))}
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
    table.insert(8, "p_holm", equivalence.holm(table["p"].to_numpy(float)))
    return table


def planned_changes(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    runs_table: pd.DataFrame,
    baseline: str | None,
    planned: list[list],
    replicates: pd.DataFrame,
    *,
    min_patients: int,
    age_edges: list[float],
    seed: int,
) -> pd.DataFrame:
    """Return replicates of gap_change of AUROC, `N_BOOTSTRAP` of them, of the arms and attributes
    that comparisons need.

    Guarantees: no resample is drawn twice. Those of the table of metrics come first, and further
    ones of the same stream follow, for these arms and AUROC only: so many of all would need
    gigabytes.

    Args:
        predictions, table, min_patients, age_edges, seed: see `metric_table.replicate`.
        runs_table: from `study_arms.arm_table`.
        baseline: the arm without privacy; None gives no rows.
        planned: [attribute, contrast, epsilon] each.
        replicates: from `metric_table.replicate`, with the same parameters.
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
    attributes = list(dict.fromkeys(attribute for attribute, *_ in planned))
    is_drawn = set(attributes) <= set(replicates.index.unique("attribute"))
    n_drawn = replicates.shape[1] - 1 if is_drawn else 0
    further = metric_table.replicate(
        {run: predictions[run] for run in needed["run"]},
        table,
        attributes,
        n_bootstrap=max(0, N_BOOTSTRAP - n_drawn),
        skip=n_drawn,
        min_patients=min_patients,
        names=("auroc",),
        age_edges=age_edges,
        seed=seed,
    )
    drawn = replicates.reindex(further.index) if is_drawn else further[[0]]
    aurocs = pd.concat([drawn, further.drop(columns=0)], axis=1)
    return group_contrasts.changes(
        study_arms.pool(group_contrasts.macro(group_contrasts.contrasts(aurocs)), runs_table),
        baseline,
    )
