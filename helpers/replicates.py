"""Every metric of every run, finding and group of patients, with its bootstrap replicates, in one table.

In: predictions of several runs and the cohort's table. Out: one row a (run, metric, finding, attribute, group), whose
columns are the estimate and its replicates. Refuses: runs that predicted different images, images without a table row.

The same resamples of patients serve every run, group and finding, so that differences are paired. A group with too few
patients with or without the finding is NaN ("not estimable"), never 0, never dropped.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from helpers import checks, groups, metrics, runs

LEVELS = ["run", "metric", "finding", "attribute", "group"]
ALL = "all"  # the attribute and group of everybody
REST = "not: "  # before a group's name: everybody known who is not in it
METRICS = ("auroc", *metrics.RATES)


def replicate(predictions: dict[str, pd.DataFrame], table: pd.DataFrame, attributes: list[str], *,
               n_bootstrap: int = 500, min_patients: int = 10, seed: int = 0) -> pd.DataFrame:
    """Return every metric of every run, finding and group, with its bootstrap replicates.

    Thresholds are fitted on `valid` (Youden) and carried to `test`; intervals of rates are conditional on them.
    Each group of two or more known ones also has its complement, named "not: <group>"; "unknown" is in neither.

    Args:
        predictions: run -> table of `runs.PREDICTION_COLUMNS`.
        table: the cohort's table.
        attributes: see `groups.add_groups`.
        n_bootstrap: replicates, >= 20.
        min_patients: fewest patients with and fewest without the finding for a group to be estimable.
        seed: of the stream "bootstrap".

    Returns:
        Index `LEVELS`; columns 0 (the estimate), 1 ... n_bootstrap.

    Raises:
        InputError: runs differ in their images, or images are not in the table.
    """
    images = _test_images(predictions, groups.add_groups(table, attributes))
    weights = metrics.patient_weights(images["patient_id"].to_numpy(), n_bootstrap, runs.random_stream(seed, "bootstrap"))
    members = list(_members(images, attributes))
    rows = {}
    for run, predicted in predictions.items():
        for finding, part in predicted.groupby("finding", sort=False):
            decided = _with_decisions(part, images)
            for attribute, group, inside in members:
                use = inside & decided["label"].notna().to_numpy()
                values = _metrics_of(decided[use], weights[use], min_patients)
                rows |= {(run, metric, finding, attribute, group): value for metric, value in values.items()}
    return pd.DataFrame.from_dict(rows, orient="index").set_axis(
        pd.MultiIndex.from_tuples(rows, names=LEVELS))


def _test_images(predictions: dict[str, pd.DataFrame], table: pd.DataFrame) -> pd.DataFrame:
    """Return the table's rows of the predicted test images, the same for all runs."""
    predicted = None
    for run, rows in predictions.items():
        ids = set(rows.loc[rows["split"] == "test", "image_id"])
        if predicted is not None and ids != predicted:
            checks.refuse("the same test images in every run", f"{len(ids ^ predicted)} that differ in {run}",
                          "Run notebooks 02 and 03 again on the present cohort.")
        predicted = ids
    strangers = predicted - set(table["image_id"])
    if strangers or not predicted:
        checks.refuse("test images that have a row in the cohort's table",
                      f"{checks.examples(sorted(strangers))} without one" if strangers else "no test image",
                      "Pass the table that belongs to these predictions.")
    return table[table["image_id"].isin(predicted)].set_index("image_id", drop=False)


def _members(images: pd.DataFrame, attributes: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield attribute, group and which images are in it; for groups with a rest also the rest."""
    yield ALL, ALL, np.ones(len(images), dtype=bool)
    for attribute in attributes:
        column = images[f"group_{attribute}"]
        known = (column != groups.UNKNOWN).to_numpy()
        for group in sorted(column.unique()):
            inside = (column == group).to_numpy()
            yield attribute, group, inside
            if group != groups.UNKNOWN and (known & ~inside).any():
                yield attribute, REST + group, known & ~inside


def _with_decisions(predicted: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Return one finding's test predictions in the order of `images`, with decisions by the threshold of `valid`."""
    valid = predicted[(predicted["split"] == "valid") & predicted["label"].notna()]
    test = predicted[predicted["split"] == "test"].set_index("image_id").loc[images.index]
    if valid["label"].nunique() < 2:
        return test.assign(decision=np.nan)
    threshold = metrics.youden_threshold(valid["label"].to_numpy(), valid["score"].to_numpy())
    return test.assign(decision=(test["score"] >= threshold).astype(float))


def _metrics_of(rows: pd.DataFrame, weights: np.ndarray, min_patients: int) -> dict[str, np.ndarray]:
    """Return all metrics of some images under all weightings; NaN where not estimable."""
    patients = rows.groupby("label")["patient_id"].nunique().reindex([0, 1], fill_value=0)
    nothing = np.full(weights.shape[1], np.nan)
    if patients.min() < min_patients:
        return {metric: nothing for metric in METRICS}
    labels = rows["label"].to_numpy()
    values = {"auroc": metrics.weighted_auroc(labels, rows["score"].to_numpy(), weights)}
    if rows["decision"].isna().any():  # no threshold, since `valid` lacks a class
        return values | dict.fromkeys(metrics.RATES, nothing)
    return values | metrics.weighted_rates(labels, rows["decision"].to_numpy(), weights)


def group_sizes(table: pd.DataFrame, findings: list[str], attributes: list[str]) -> pd.DataFrame:
    """Return the test split's numbers of patients and images by group, and the share of positive labels.

    Args:
        table: the cohort's table.
        findings: its findings.
        attributes: see `groups.add_groups`.
    """
    test = groups.add_groups(table[table["split"] == "test"], attributes)
    parts = []
    for attribute, group, inside in _members(test, attributes):
        if not group.startswith(REST):
            rows = test[inside]
            parts.append({"attribute": attribute, "group": group, "n_patients": rows["patient_id"].nunique(),
                          "n_images": len(rows), "positive_fraction": rows[findings].mean().mean()})
    return pd.DataFrame(parts)
