"""How far the way an image was taken says what is in it: scanner and source alone, beside the model.

In: predictions, a cohort's table, columns of it. Out: a row a column and run. Refuses: columns that the table does not have.
A model is no better than a shortcut where its AUROC among images of one scanner is that of chance.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from helpers import checks


def beside_model(predictions: dict[str, pd.DataFrame], table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return AUROCs on `test`, means over the findings that have both classes there.

    Args:
        predictions: run -> its predictions.
        table: the cohort's table.
        columns: of the table, e.g. ["scanner", "source"].

    Returns:
        run, column, n_values (blank is none); alone: of the share of training images with the finding at each value, as the only
        score (NaN without labelled training images); model: of the run; within: of the run, by pairs of images with the same
        value, blank ones left out (NaN where no value has both classes). Estimates, without intervals.

    Raises:
        InputError: a column is absent.
    """
    checks.has_columns(table, columns, "the cohort's table, for SHORTCUTS")
    rows = []
    for run, predicted in predictions.items():
        test = predicted[(predicted["split"] == "test") & predicted["label"].notna()]
        for column in columns:
            value_of = table.set_index("image_id")[column].fillna("").astype(str)
            found = [_of_finding(part, part["image_id"].map(value_of), _shares(table, column, finding))
                     for finding, part in test.groupby("finding", sort=False) if part["label"].nunique() == 2]
            each = pd.DataFrame(found, columns=["alone", "model", "within"])
            if each["within"].notna().any():  # means over the same findings
                each = each[each["within"].notna()]
            rows.append({"run": run, "column": column, "n_values": value_of[value_of != ""].nunique(), **each.mean()})
    return pd.DataFrame(rows, columns=["run", "column", "n_values", "alone", "model", "within"])


def _shares(table: pd.DataFrame, column: str, finding: str) -> pd.Series:
    """Return the share of training images with a finding at each value, drawn towards that of all as by two images more."""
    if finding not in table:
        return pd.Series(dtype=float)
    train = table[(table["split"] == "train") & table[finding].notna()]
    groups = train[finding].groupby(train[column].fillna("").astype(str))
    return (groups.sum() + 2 * train[finding].mean()) / (groups.size() + 2)


def _of_finding(part: pd.DataFrame, values: pd.Series, shares: pd.Series) -> tuple[float, float, float]:
    """Return the three AUROCs of one finding."""
    alone = roc_auc_score(part["label"], values.map(shares).fillna(shares.mean())) if len(shares) else np.nan
    weights, within = [], []
    for value, rows in part.groupby(values.to_numpy()):
        n_positive = int((rows["label"] == 1).sum())
        if value and 0 < n_positive < len(rows):
            weights.append(n_positive * (len(rows) - n_positive))
            within.append(roc_auc_score(rows["label"], rows["score"]))
    return (alone, roc_auc_score(part["label"], part["score"]),
            float(np.average(within, weights=weights)) if weights else np.nan)
