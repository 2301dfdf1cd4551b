"""AUROC of every run, finding and group of patients, with what each patient has to do with it.

In: predictions of several runs and the cohort's table. Out: one row a (run, finding, attribute,
group), as in `metric_table`, whose columns are the estimate and the influence of each patient of
the test set (`auroc_intervals`). Raises `InputError` as `metric_table` does.

Influences are linear, so that means over findings and seeds, contrasts and changes of this table
are those of its columns, and nothing is drawn.
"""

import numpy as np
import pandas as pd

from helpers.analysis import auroc_intervals, metric_table, metrics, shared_images
from helpers.analysis.auroc_intervals import ABOUT
from helpers.data import groups


def of_auroc(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    attributes: list[str],
    *,
    min_patients: int = 10,
    age_edges: list[float] | None = None,
    stratum: str | None = None,
) -> pd.DataFrame:
    """Return the AUROC of every run, finding and group with the influence of each patient.

    Args:
        predictions, table, attributes, min_patients, age_edges: see `metric_table.replicate`.
        stratum: attribute within whose groups all is computed, each apart; None for all together.

    Returns:
        Index `metric_table.LEVELS`, and "stratum" if there is one; metric "auroc"; columns 0 (the
        estimate), `auroc_intervals.ABOUT`, 1 ... number of test patients. NaN where not estimable.
    """
    within = [stratum] if stratum else []
    grouped = groups.add_groups(table, [*attributes, *within], age_edges)
    images = shared_images.of_test(predictions, grouped)
    names, patients = np.unique(images["patient_id"], return_inverse=True)
    groups_of = [
        ((attribute, group, *key), inside & part)
        for attribute, group, inside in metric_table.members(images, attributes)
        for key, part in _strata(images, stratum)
    ]
    rows = {}
    for run, predicted in predictions.items():
        for finding, part in predicted.groupby("finding", sort=False):
            test = part[part["split"] == "test"].set_index("image_id").reindex(images.index)
            labels, scores = test["label"].to_numpy(float), test["score"].to_numpy(float)
            for key, inside in groups_of:
                use = inside & ~np.isnan(labels)
                row = np.full(1 + len(ABOUT) + len(names), np.nan)
                if metrics.is_estimable(labels[use], patients[use], min_patients):
                    estimate, influence = auroc_intervals.influences(
                        labels[use], scores[use], patients[use], len(names)
                    )
                    smaller = min(len(np.unique(patients[use & (labels == k)])) for k in (0, 1))
                    hidden = auroc_intervals.hidden_error(estimate, smaller)
                    row = np.r_[estimate, smaller, 1, hidden, influence]
                rows[run, "auroc", finding, *key] = row
    return pd.DataFrame(
        list(rows.values()),
        index=pd.MultiIndex.from_tuples(
            rows, names=[*metric_table.LEVELS, *(["stratum"] if stratum else [])]
        ),
        columns=[0, *ABOUT, *range(1, len(names) + 1)],
    )


def _strata(images: pd.DataFrame, stratum: str | None) -> list[tuple[tuple, np.ndarray]]:
    """Return (its name,) and which images are in it of each known stratum; all without one."""
    if stratum is None:
        return [((), np.ones(len(images), dtype=bool))]
    column = images[f"group_{stratum}"]
    known = sorted(column[~groups.is_unknown(column)].unique(), key=groups.sort_key)
    return [((name,), (column == name).to_numpy()) for name in known]
