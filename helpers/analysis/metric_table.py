"""Every metric of every run, finding and group of patients, with its bootstrap replicates, in one
table.

In: predictions of several runs and the cohort's table. Out: one row a (run, metric, finding,
attribute, group), whose columns are the estimate and its replicates. Raises `InputError` for runs
that predicted different images and for images without a table row.

The same resamples of patients serve every run, group and finding, so that differences are paired. A
group with too few patients with or without the finding is NaN ("not estimable"), never 0, never
dropped.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from helpers.analysis import bootstrap, metrics, shared_images
from helpers.core import random_streams, run_records
from helpers.data import groups

LEVELS = ["run", "metric", "finding", "attribute", "group"]
ALL = "all"  # the attribute and group of everybody
REST = "not: "  # before a group's name: everybody known who is not in it
ANY = "any finding"  # of underdiagnosis_rate, which is about images, not findings
UNDERDIAGNOSIS = "underdiagnosis_rate"
METRICS = (*bootstrap.RANKED, *bootstrap.RATES, *bootstrap.PROBABILITIES, UNDERDIAGNOSIS)


def replicate(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    attributes: list[str],
    *,
    n_bootstrap: int = 500,
    skip: int = 0,
    min_patients: int = 10,
    seed: int = 0,
    names: tuple[str, ...] = METRICS,
    sensitivity: float | None = None,
    age_edges: list[float] | None = None,
) -> pd.DataFrame:
    """Return metrics of every run, finding and group, with their bootstrap replicates.

    Thresholds are fitted on `valid` and carried to `test`; intervals of thresholded metrics are
    conditional on them. Each group of two or more known ones also has its complement, named "not:
    <group>"; "unknown" is in neither. The underdiagnosis_rate is the share of images with at least
    one finding for which no finding is called (Seyyed-Kalantari et al. 2021, Nature Medicine
    27:2176-2182).

    Args:
        predictions: run -> table of `run_records.PREDICTION_COLUMNS`.
        table: the cohort's table.
        attributes: see `groups.add_groups`.
        n_bootstrap: number of replicates.
        skip: number of replicates of the same stream to leave out, since they are drawn already.
        min_patients: fewest patients with and fewest without the finding for a group to be
            estimable.
        seed: of the stream "bootstrap".
        names: which of `METRICS`.
        sensitivity: wanted of thresholds on `valid`, in (0, 1]; None for Youden's.
        age_edges: see `groups.add_groups`.

    Returns:
        Index `LEVELS`; columns 0 (the estimate), skip + 1 ... skip + n_bootstrap.

    Raises:
        InputError: runs differ in their images, or images are not in the table.
    """
    images = shared_images.of_test(predictions, groups.add_groups(table, attributes, age_edges))
    draws = bootstrap.Draws.of(
        images["patient_id"].to_numpy(),
        n_bootstrap,
        random_streams.random_stream(seed, "bootstrap"),
        skip,
    )
    members = list(_members(images, attributes))
    decided = {
        (run, finding): _with_decisions(part, images, sensitivity)
        for run, predicted in predictions.items()
        for finding, part in predicted.groupby("finding", sort=False)
    }

    def of_finding(key: tuple[str, str]) -> dict[tuple, np.ndarray]:
        values, known = {}, {}  # known: two groups are each other's rest, and are counted once
        for attribute, group, inside in members:
            use = inside & decided[key]["label"].notna().to_numpy()
            if use.tobytes() not in known:
                known[use.tobytes()] = _metrics_of(
                    decided[key][use], draws[use], min_patients, names
                )
            values |= {
                (key[0], metric, key[1], attribute, group): value
                for metric, value in known[use.tobytes()].items()
            }
        return values

    rows = {}
    # most of the work is done by numpy, beside each other
    with ThreadPoolExecutor(run_records.hardware()["threads"]) as threads:
        for values in threads.map(of_finding, decided):
            rows |= values
    if UNDERDIAGNOSIS in names:
        for run in predictions:
            parts = [part for (of_run, _), part in decided.items() if of_run == run]
            sick = pd.concat([part["label"] for part in parts], axis=1).eq(1).any(axis=1).to_numpy()
            called = pd.concat([part["decision"] for part in parts], axis=1).max(axis=1).to_numpy()
            rows |= {
                (run, UNDERDIAGNOSIS, ANY, attribute, group): _missed(
                    called, sick & inside, draws, images, min_patients
                )
                for attribute, group, inside in members
            }
    return pd.DataFrame(
        list(rows.values()),
        index=pd.MultiIndex.from_tuples(rows, names=LEVELS),
        columns=[0, *range(skip + 1, skip + n_bootstrap + 1)],
    )


def _members(images: pd.DataFrame, attributes: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield attribute, group and which images are in it; for groups with a rest also the rest."""
    yield ALL, ALL, np.ones(len(images), dtype=bool)
    for attribute in attributes:
        column = images[f"group_{attribute}"]
        known = ~groups.is_unknown(column)
        for group in sorted(column.unique()):
            inside = (column == group).to_numpy()
            yield attribute, group, inside
            if (known & inside).any() and (known & ~inside).any():
                yield attribute, REST + group, known & ~inside


def _with_decisions(
    predicted: pd.DataFrame, images: pd.DataFrame, sensitivity: float | None
) -> pd.DataFrame:
    """Return one finding's test predictions in the order of `images`, with decisions by the
    threshold of `valid`.
    """
    valid = predicted[(predicted["split"] == "valid") & predicted["label"].notna()]
    # rows of unknown labels may be left out
    test = predicted[predicted["split"] == "test"].set_index("image_id").reindex(images.index)
    test["patient_id"] = images["patient_id"]
    if valid["label"].nunique() < 2:
        return test.assign(decision=np.nan)
    labels, scores = valid["label"].to_numpy(), valid["score"].to_numpy()
    value = (
        metrics.youden_threshold(labels, scores)
        if sensitivity is None
        else metrics.sensitivity_threshold(labels, scores, sensitivity)
    )
    return test.assign(decision=(test["score"] >= value).astype(float).mask(test["score"].isna()))


def _metrics_of(
    rows: pd.DataFrame, draws: bootstrap.Draws, min_patients: int, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Return metrics of some images under all resamples; NaN where not estimable."""
    patients = rows.groupby("label")["patient_id"].nunique().reindex([0, 1], fill_value=0)
    values = dict.fromkeys(
        (name for name in names if name != UNDERDIAGNOSIS), np.full(draws.n, np.nan)
    )
    if patients.min() < min_patients:
        return values
    labels, scores = rows["label"].to_numpy(), rows["score"].to_numpy()
    values |= bootstrap.ranked(
        labels, scores, draws, tuple(name for name in bootstrap.RANKED if name in names)
    )
    # else `valid` lacks a class
    if set(names) & set(bootstrap.RATES) and rows["decision"].notna().all():
        values |= bootstrap.rates(labels, rows["decision"].to_numpy(), draws)
    if set(names) & set(bootstrap.PROBABILITIES):
        values |= bootstrap.probabilities(labels, scores, draws)
    return {name: values[name] for name in names if name in values}


def _missed(
    called: np.ndarray,
    sick: np.ndarray,
    draws: bootstrap.Draws,
    images: pd.DataFrame,
    min_patients: int,
) -> np.ndarray:
    """Return the share of sick images for which nothing is called.

    NaN with too few patients or without thresholds.
    """
    if images.loc[sick, "patient_id"].nunique() < min_patients or np.isnan(called).any():
        return np.full(draws.n, np.nan)
    missed, everybody = draws[sick].sums(np.stack([1 - called[sick], np.ones(sick.sum())]))
    return np.divide(missed, everybody, out=np.full(draws.n, np.nan), where=everybody > 0)


def group_sizes(
    table: pd.DataFrame,
    findings: list[str],
    attributes: list[str],
    age_edges: list[float] | None = None,
) -> pd.DataFrame:
    """Return the test split's numbers of patients and images by group, of positive labels, and
    their share.

    Args:
        table: the cohort's table.
        findings: its findings.
        attributes, age_edges: see `groups.add_groups`.
    """
    test = groups.add_groups(table[table["split"] == "test"], attributes, age_edges)
    parts = []
    for attribute, group, inside in _members(test, attributes):
        if not group.startswith(REST):
            rows = test[inside]
            parts.append(
                {
                    "attribute": attribute,
                    "group": group,
                    "n_patients": rows["patient_id"].nunique(),
                    "n_images": len(rows),
                    "n_positive": int(rows[findings].sum().sum()),
                    "positive_fraction": rows[findings].mean().mean(),
                }
            )
    return pd.DataFrame(parts)


def one_image_each(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return a cohort's table with one random test image of each patient, for a sensitivity
    analysis.
    """
    is_test = table["split"] == "test"
    order = random_streams.random_stream(seed, "one image each").permutation(is_test.sum())
    chosen = table[is_test].iloc[order].drop_duplicates("patient_id").index
    return table[~is_test | table.index.isin(chosen)]


def of_images(predictions: dict[str, pd.DataFrame], table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the predictions of those images that are in a table, e.g. of `one_image_each`."""
    return {
        run: rows[rows["image_id"].isin(table["image_id"])] for run, rows in predictions.items()
    }
