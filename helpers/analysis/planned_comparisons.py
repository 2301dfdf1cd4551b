"""The few comparisons that were planned before looking.

In: hypotheses of a profile, influences of changes. Out: a table with p, p adjusted by Holm and a
verdict, a row a hypothesis. A comparison that cannot be made says so in its row.
"""

import numpy as np
import pandas as pd

from helpers.analysis import equivalence, study_arms

_OF_CHANGE = ["estimate", "low", "high", "p", "verdict", "smallest_margin", "minimum_detectable"]
_OF_CHANGE += ["remark", "p_margin"]


def planned_table(
    changes: pd.DataFrame, arms: pd.DataFrame, planned: list[list], margin: float
) -> pd.DataFrame:
    """Return the planned comparisons with p, p adjusted by Holm, and verdict, in the order planned.

    A change is called different only where its p, and worse only where its p against the margin,
    is at most 5 % when adjusted; equivalence is not adjusted. A comparison that this study cannot
    make (a budget that was not run, a group that is not estimable) stays in the table and in the
    count, so that nobody can drop it after looking.

    Args:
        changes: influences of gap_change, see `estimate_tables.gap_changes`.
        arms: from `study_arms.pooled_arms`; those of one recipe and unit are compared, see
            `study_arms.one_way`.
        planned: [attribute, contrast, epsilon] each, e.g. ["sex", "female - male", 1.06].
        margin: as in `of_changes`.

    Returns:
        attribute, group, epsilon, arm_label, estimate, low, high, p, p_holm, verdict,
        smallest_margin, minimum_detectable, remark.
    """
    run_of = {
        row.epsilon: (row.run, row.arm_label) for row in study_arms.one_way(arms).itertuples()
    }
    estimates = equivalence.of_changes(changes, margin, len(planned)).set_index(
        ["run", "attribute", "group"]
    )
    rows = []
    for attribute, group, epsilon in planned:
        run, label = run_of.get(float(epsilon), (None, None))
        key = (run, attribute, group)
        row = dict(attribute=attribute, group=group, epsilon=float(epsilon), arm_label=label)
        if key in estimates.index:
            row |= estimates.loc[key, _OF_CHANGE].to_dict()
        else:
            reason = "budget not run" if run is None else "no such contrast here"
            row |= dict.fromkeys(_OF_CHANGE, np.nan) | {"verdict": reason, "remark": ""}
        rows.append(row)
    table = pd.DataFrame(rows, columns=["attribute", "group", "epsilon", "arm_label", *_OF_CHANGE])
    table.insert(8, "p_holm", equivalence.holm(table["p"].to_numpy(float)))
    beyond = equivalence.holm(table["p_margin"].to_numpy(float)) <= equivalence.ALPHA
    differs = (table["p_holm"] <= equivalence.ALPHA).to_numpy()
    is_worse = table["verdict"].str.startswith(equivalence.WORSE).to_numpy()
    claims = is_worse | (table["verdict"] == equivalence.DIFFERENT).to_numpy()
    adjusted = table["verdict"].mask(is_worse & ~beyond, equivalence.DIFFERENT)
    adjusted = adjusted.mask(claims & ~beyond & ~differs, equivalence.INCONCLUSIVE)
    return table.drop(columns="p_margin").assign(verdict=adjusted)
