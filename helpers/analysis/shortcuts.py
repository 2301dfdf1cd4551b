"""Shortcut check: the AUROC of scanner or source alone, beside that of the model.

In: predictions, a cohort's table, columns of it. Out: a row a column and run. Raises `InputError`
for columns that the table does not have. A model is no better than a shortcut where its AUROC among
images of one scanner is that of chance.
"""

import numpy as np
import pandas as pd

from helpers.analysis import bootstrap, confidence_intervals, metrics
from helpers.core import errors, random_streams


def beside_model(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    columns: list[str],
    *,
    n_bootstrap: int,
    min_patients: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Return AUROCs among the images of `test` that have a value, means over the findings that have
    both classes there.

    Args:
        predictions: run -> its predictions.
        table: the cohort's table.
        columns: of the table, e.g. ["scanner", "source"].
        n_bootstrap, seed: resamples of patients, see `metric_table.replicate`.
        min_patients: with a finding, and without it, at the values that have both classes, for
            `within` to be estimable.

    Returns:
        run, column, n_values, n_patients (a blank value is none); alone: of the share of training
        images with the finding at each value, as the only score (NaN without labelled training
        images); model: of the run; within: of the run, by pairs of images with the same value (NaN:
        not estimable); lost: model minus within, and its 95 % interval, low and high.

    Raises:
        InputError: a column is absent.
    """
    errors.has_columns(table, columns, "the cohort's table, for SHORTCUTS")
    rows, lost = [], []
    for run, predicted in predictions.items():
        of_test = predicted[(predicted["split"] == "test") & predicted["label"].notna()]
        for column in columns:
            values = of_test["image_id"].map(_values(table, column).set_axis(table["image_id"]))
            test = of_test.assign(value=values)[values != ""]
            draws = bootstrap.Draws.of(
                test["patient_id"].to_numpy(),
                n_bootstrap,
                random_streams.random_stream(seed, "bootstrap"),
            )
            aurocs = [
                _of_finding(
                    part,
                    _shares(table, column, finding),
                    draws[np.flatnonzero(test["finding"] == finding)],
                    min_patients,
                )
                for finding, part in test.groupby("finding", sort=False)
                if part["label"].nunique() == 2
            ]
            alone, model, within = _mean(np.array(aurocs).reshape(-1, 3, 1 + n_bootstrap))
            rows.append(
                {
                    "run": run,
                    "column": column,
                    "n_values": test["value"].nunique(),
                    "n_patients": test["patient_id"].nunique(),
                    "alone": alone[0],
                    "model": model[0],
                    "within": within[0],
                }
            )
            lost.append(model - within)
    beside = pd.DataFrame(
        rows, columns=["run", "column", "n_values", "n_patients", "alone", "model", "within"]
    )
    intervals = confidence_intervals.summarise(
        pd.DataFrame(lost, index=pd.MultiIndex.from_frame(beside[["run", "column"]]))
    )
    return beside.assign(lost=intervals["estimate"], low=intervals["low"], high=intervals["high"])


def _values(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text, missing values as ""."""
    return table[column].astype("string").fillna("").astype(object)


def _shares(table: pd.DataFrame, column: str, finding: str) -> pd.Series:
    """Return the share of training images with a finding at each value, drawn towards that of all
    as by two images more.

    Values that are not in training have the share of all.
    """
    if finding not in table:
        return pd.Series(dtype=float)
    train = table[(table["split"] == "train") & table[finding].notna()]
    values = _values(table, column)
    groups = train[finding].groupby(values[train.index])
    share = (groups.sum() + 2 * train[finding].mean()) / (groups.size() + 2)
    return share.reindex(values.unique(), fill_value=train[finding].mean()) if len(train) else share


def _of_finding(
    part: pd.DataFrame, shares: pd.Series, draws: bootstrap.Draws, min_patients: int
) -> np.ndarray:
    """Return the three AUROCs of one finding, (3, 1 + resamples)."""
    labels, scores = part["label"].to_numpy(), part["score"].to_numpy()

    def auroc(of: np.ndarray, images: np.ndarray) -> np.ndarray:
        return bootstrap.ranked(labels[images], of[images], draws[images], ("auroc",))["auroc"]

    everyone = np.arange(len(part))
    wins, pairs = np.zeros(draws.n), np.zeros(draws.n)
    for images in pd.Series(everyone).groupby(part["value"].to_numpy()).indices.values():
        n_positive, n = draws[images].sums(np.stack([labels[images], np.ones(len(images))]))
        wins += np.nan_to_num(auroc(scores, images)) * n_positive * (n - n_positive)
        pairs += n_positive * (n - n_positive)
    both = part[part.groupby("value")["label"].transform("nunique") == 2]
    if not metrics.is_estimable(
        both["label"].to_numpy(), both["patient_id"].to_numpy(), min_patients
    ):
        pairs[:] = 0
    alone = (
        auroc(part["value"].map(shares).to_numpy(float), everyone)
        if len(shares)
        else np.full(draws.n, np.nan)
    )
    return np.stack(
        [
            alone,
            auroc(scores, everyone),
            np.divide(wins, pairs, out=np.full(draws.n, np.nan), where=pairs > 0),
        ]
    )


def _mean(aurocs: np.ndarray) -> np.ndarray:
    """Return means over findings of (findings, 3, 1 + resamples).

    Over the same findings for all three, where there are any.
    """
    has_within = ~np.isnan(aurocs[:, 2, 0])
    averaged = aurocs[has_within] if has_within.any() else aurocs
    return averaged.mean(axis=0) if len(averaged) else np.full(aurocs.shape[1:], np.nan)
