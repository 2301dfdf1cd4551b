"""Every metric of every run, finding and group of patients, with its bootstrap replicates, in one
table.

In: predictions of several runs and the cohort's table. Out: one row a (run, metric, finding,
attribute, group), whose columns are the estimate and its replicates. Raises `InputError` for runs
that predicted different images and for images without a table row.

The same resamples of patients serve every run, group and finding, so that differences are paired. A
group with too few patients with or without the finding is NaN ("not estimable"), never 0, never
dropped.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import threadpoolctl

from helpers.analysis import bootstrap, metrics, operating_points, shared_images
from helpers.analysis.operating_points import ANY, OF_IMAGES
from helpers.analysis.operating_points import OVERDIAGNOSIS as OVERDIAGNOSIS
from helpers.analysis.operating_points import UNDERDIAGNOSIS as UNDERDIAGNOSIS
from helpers.core import random_streams, run_records, small_counts
from helpers.data import groups

LEVELS = ["run", "metric", "finding", "attribute", "group"]
ALL = "all"  # the attribute and group of everybody
REST = "not: "  # before a group's name: everybody known who is not in it
METRICS = (*bootstrap.RANKED, *bootstrap.RATES, *bootstrap.PROBABILITIES, *OF_IMAGES)


def replicate(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    attributes: list[str],
    *,
    n_bootstrap: int = 500,
    min_patients: int = 10,
    seed: int = 0,
    names: tuple[str, ...] = METRICS,
    operating_point: str = "false alarms 0.2",
    age_edges: list[float] | None = None,
) -> pd.DataFrame:
    """Return metrics of every run, finding and group, with their bootstrap replicates.

    Thresholds are fitted on `valid`, at the same operating point in every run, and carried to
    `test`; each replicate has thresholds of its own, of resampled patients of `valid`. Each group
    of two or more known ones also has its complement, named "not: <group>"; "unknown" is in
    neither.

    underdiagnosis_rate: the share of images with at least one finding for which no finding is
    called; overdiagnosis_rate: of images without any, all of whose labels are known, for which one
    is called; each finding at its own threshold. The same "_of_no_finding" are the error rates of
    one decision on the largest score of an image, at the same operating point, as in Seyyed-
    Kalantari et al. (2021, Nature Medicine 27:2176-2182); their models have an output "no finding"
    of its own, of which the largest score is our stand-in.

    Args:
        predictions: run -> table of `run_records.PREDICTION_COLUMNS`.
        table: the cohort's table.
        attributes: see `groups.add_groups`.
        n_bootstrap: number of replicates.
        min_patients: for a group to be estimable, see `metrics.is_estimable`.
        seed: of the stream "bootstrap".
        names: which of `METRICS`.
        operating_point: see `operating_points.parts_of`.
        age_edges: see `groups.add_groups`.

    Returns:
        Index `LEVELS`; columns 0 (the estimate), 1 ... n_bootstrap.

    Raises:
        InputError: runs differ in their images, or images are not in the table.
    """
    images = shared_images.of_test(predictions, groups.add_groups(table, attributes, age_edges))
    draws = bootstrap.Draws.of(
        images["patient_id"].to_numpy(),
        n_bootstrap,
        random_streams.random_stream(seed, "bootstrap"),
    )
    groups_of = list(members(images, attributes))
    known_draws: dict[int, bootstrap.Draws] = {}  # most runs predicted the same images of `valid`
    drawing = threading.Lock()

    def of_valid(images_of_valid: pd.Series) -> bootstrap.Draws:
        key = hash((tuple(images_of_valid.index), tuple(images_of_valid)))
        with drawing:
            if key not in known_draws:
                stream = random_streams.random_stream(seed, "valid")
                drawn = bootstrap.Draws.of(images_of_valid.to_numpy(), n_bootstrap, stream)
                known_draws[key] = drawn
        return known_draws[key]

    def decided_of(run: str) -> dict[str, operating_points.Decided]:
        return dict(
            operating_points.decided_of(predictions[run], images, of_valid, operating_point, names)
        )

    def of_images(run: str) -> dict[tuple, np.ndarray]:
        rates = operating_points.of_images(decided[run], draws, groups_of, min_patients)
        return {(run, *key): value for key, value in rates.items() if key[0] in names}

    def of_finding(key: tuple[str, str]) -> dict[tuple, np.ndarray]:
        run, finding = key
        values, known = {}, {}  # known: two groups are each other's rest, and are counted once
        for attribute, group, inside in groups_of:
            one = decided[run][finding]
            use = inside & ~np.isnan(one.labels)
            if use.tobytes() not in known:
                known[use.tobytes()] = _metrics_of(
                    one, use, draws[use].present(), min_patients, names
                )
            values |= {
                (run, metric, finding, attribute, group): value
                for metric, value in known[use.tobytes()].items()
            }
        return values

    rows = {}
    # numpy does most of the work, a core each; threads of BLAS besides would only wait
    with (
        threadpoolctl.threadpool_limits(1, "blas"),
        ThreadPoolExecutor(run_records.hardware()["threads"]) as threads,
    ):
        decided = dict(zip(predictions, threads.map(decided_of, predictions)))
        of_findings = [(run, key) for run, part in decided.items() for key in part if key != ANY]
        for values in threads.map(of_finding, of_findings):
            rows |= values
        if set(names) & set(OF_IMAGES):
            for values in threads.map(of_images, predictions):
                rows |= values
    return pd.DataFrame(
        list(rows.values()),
        index=pd.MultiIndex.from_tuples(rows, names=LEVELS),
        columns=range(n_bootstrap + 1),
    )


def members(images: pd.DataFrame, attributes: list[str]) -> Iterator[tuple[str, str, np.ndarray]]:
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


def _metrics_of(
    decided: operating_points.Decided,
    use: np.ndarray,
    draws: bootstrap.Draws,
    min_patients: int,
    names: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Return metrics of some images under all resamples; NaN where not estimable."""
    values = {name: np.full(draws.n, np.nan) for name in names if name not in OF_IMAGES}
    labels, scores = decided.labels[use], decided.scores[use]
    if not metrics.is_estimable(labels, draws.patients, min_patients):
        return values
    values |= bootstrap.ranked(
        labels, scores, draws, tuple(name for name in bootstrap.RANKED if name in names)
    )
    # else `valid` lacks a class
    if set(names) & set(bootstrap.RATES) and not np.isnan(decided.thresholds[0]):
        values |= bootstrap.rates(labels, scores, decided.thresholds, draws)
    if set(names) & set(bootstrap.PROBABILITIES):
        values |= bootstrap.probabilities(labels, scores, draws)
    return {name: values[name] for name in names if name in values}


def group_sizes(
    table: pd.DataFrame,
    findings: list[str],
    attributes: list[str],
    age_edges: list[float] | None,
    access: str,
) -> pd.DataFrame:
    """Return the test split's numbers of patients and images by group, of positive labels, and
    their share.

    Args:
        table: the cohort's table.
        findings: its findings.
        attributes, age_edges: see `groups.add_groups`.
        access: to its data; where they are not open, numbers of few patients, and of few positive
            labels, are missing, and others from which these would follow.

    Returns:
        attribute, group, n_patients, n_images, n_positive, positive_fraction.
    """
    test = groups.add_groups(table[table["split"] == "test"], attributes, age_edges)
    parts = []
    for attribute, group, inside in members(test, attributes):
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
                    "n_with": rows.loc[(rows[findings] == 1).any(axis=1), "patient_id"].nunique(),
                }
            )
    sizes = pd.DataFrame(parts)
    if not small_counts.is_open(access):
        sizes = _without_small(sizes)
    return sizes.drop(columns="n_with")


def _without_small(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return sizes without those of few patients, and without few patients with a positive label.

    The cells of a crossing add up to two groups each, which may be hidden themselves.
    """
    of_labels = ["n_positive", "positive_fraction"]
    for count, hidden in (
        ("n_with", of_labels),
        ("n_patients", ["n_patients", "n_images", *of_labels]),
    ):
        sides = sizes["group"].str.split(" x ", expand=True).reindex(columns=[0, 1])
        is_crossed = sides[1].notna()
        counts = sizes.assign(
            count=sizes[count],
            first=sizes["attribute"].mask(is_crossed, sides[0]),
            second=sizes["attribute"].mask(is_crossed, sides[1]),
        )
        totals = ["first", "second"]
        alone = small_counts.without_small(counts[~is_crossed], ["count"], [count], totals)
        gone = alone.loc[alone[count].isna(), "group"]
        # as small as can be where a side is hidden: it would follow from its cells
        of_gone = is_crossed & (sides[0].isin(gone) | sides[1].isin(gone)) & (counts["count"] > 0)
        counts["count"] = counts["count"].mask(of_gone, 1)
        columns = [*sizes.columns]
        sizes = small_counts.without_small(counts, ["count"], hidden, totals)[columns]
    return sizes


def prevalences(
    table: pd.DataFrame,
    findings: list[str],
    attributes: list[str],
    age_edges: list[float] | None = None,
) -> pd.Series:
    """Return the share of positive among known labels of test images by (attribute, group,
    finding), rests included.

    Args:
        table, findings, attributes, age_edges: as in `group_sizes`.
    """
    test = groups.add_groups(table[table["split"] == "test"], attributes, age_edges)
    shares = {
        (attribute, group): test.loc[inside, findings].mean()
        for attribute, group, inside in members(test, attributes)
    }
    return pd.concat(shares, names=["attribute", "group", "finding"])


def of_many_images(table: pd.DataFrame, times: int = 100) -> pd.Series:
    """Return the test patients with at least so many times the median number of images, and how
    many
    they have: what is said of all images is said of them.

    Args:
        table: the cohort's table.
        times: of the median.
    """
    n_images = table[table["split"] == "test"].groupby("patient_id").size()
    return n_images[n_images >= times * n_images.median()].sort_values(ascending=False)


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
