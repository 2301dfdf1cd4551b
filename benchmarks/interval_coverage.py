"""Are 95 % intervals right 95 times in a hundred? Cohorts are drawn again and again from a model
whose truth is known.

In: numbers of cohorts, patients, resamples. Out: `results/coverage.json`, `coverage.png` and
`coverage_small.png`:

- how often percentile intervals of mean AUROC, of a signed contrast and of a paired difference
cover
  the truth, with patients and with images resampled, by how alike the images of a patient are
  (contrast and gap_change are of groups that are equal: what is not covered is called);
- in small groups, how often intervals of AUROC, of a group's contrast with a rest five times as
  large and of the paired change of that contrast cover the truth: percentile intervals (before),
      and those from influences that the notebooks show (after), of one finding and of means over
      several. Patients have 1 to 8 images, within-patient correlation 0.5.

    python benchmarks/interval_coverage.py
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core

import benchmark_figures
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm

from helpers.analysis import (
    auroc_intervals,
    bootstrap,
    confidence_intervals,
    estimate_tables,
    group_contrasts,
    study_arms,
)
from helpers.analysis.metric_table import LEVELS as LEVELS_OF_TABLE
from helpers.analysis.metric_table import REST
from helpers.core import files, run_records
from helpers.figures import house_style

N_PATIENTS, IMAGES_A_PATIENT, N_FINDINGS, N_BOOTSTRAP = 300, 4, 2, 400
CORRELATIONS = (0.0, 0.25, 0.5, 0.75)  # of two images of a patient, of labels and of scores
AUROCS = {"no privacy": 0.88, "private": 0.80}  # of both groups
SMALL = ((10, 10), (10, 40), (10, 200), (20, 60), (40, 120), (80, 80))  # patients with, without
LEVELS = (0.75, 0.85, 0.9, 0.97)  # AUROC without privacy
# findings of a mean, most images of a patient, cohorts, whether percentiles; 15 core minutes
DESIGNS = (
    (1, 8, 300, True),
    (1, 8, 500, False),
    (2, 8, 250, False),
    (8, 8, 400, False),
    (1, 1, 250, False),
    (8, 1, 150, False),
)
LOST, TIMES, WANTED = 0.03, 5, (0.935, 0.965)  # by privacy; size of the rest; coverage
RUNS, TOGETHER = ("free", "private"), 100  # cohorts at a time
QUANTITIES = ("mean AUROC", "contrast", "paired difference", "gap_change")


def cohort(
    rng: np.random.Generator, correlation: float
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Return patients and group (n,), and for each finding labels (n,) and, by arm, scores (n,).

    Labels are a cut through a normal liability, scores normal with a shift for the finding, so that
    an arm's AUROC is known; both have a part common to a patient's images. The arms' scores share
    most of their noise.
    """
    patients = np.repeat(np.arange(N_PATIENTS), IMAGES_A_PATIENT)
    group = rng.random(N_PATIENTS)[patients] < 0.5

    def alike(*shape: int) -> np.ndarray:
        lasting, passing = (
            rng.standard_normal((*shape, N_PATIENTS))[..., patients],
            rng.standard_normal((*shape, len(patients))),
        )
        return np.sqrt(correlation) * lasting + np.sqrt(1 - correlation) * passing

    labels = [(alike() > norm.ppf(0.7)).astype(float) for _ in range(N_FINDINGS)]
    scores = {arm: [] for arm in AUROCS}
    for label in labels:
        common, arm_noise = alike(), alike(len(AUROCS))
        for number, (arm, auroc) in enumerate(AUROCS.items()):
            scores[arm].append(
                np.sqrt(2) * norm.ppf(auroc) * label
                + np.sqrt(0.8) * common
                + np.sqrt(0.2) * arm_noise[number]
            )
    return patients, group, labels, scores


def intervals(seed: int, correlation: float, unit: str) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each of `QUANTITIES` from one cohort, with patients or images
    resampled.
    """
    rng = np.random.default_rng([seed, int(100 * correlation)])
    patients, group, labels, scores = cohort(rng, correlation)
    draws = bootstrap.Draws.of(
        patients if unit == "patient" else np.arange(len(patients)), N_BOOTSTRAP, rng
    )

    def mean(arm: str, inside: np.ndarray) -> np.ndarray:
        return np.mean(
            [
                bootstrap.ranked(label[inside], score[inside], draws[inside], ("auroc",))["auroc"]
                for label, score in zip(labels, scores[arm])
            ],
            axis=0,
        )

    everybody = np.ones(len(patients), dtype=bool)
    contrast = {arm: mean(arm, group) - mean(arm, ~group) for arm in AUROCS}
    private, without = mean("private", everybody), mean("no privacy", everybody)
    values = (
        private,
        contrast["private"],
        private - without,
        contrast["private"] - contrast["no privacy"],
    )
    return {
        name: tuple(np.nanpercentile(value[1:], [2.5, 97.5]))
        for name, value in zip(QUANTITIES, values)
    }


def truths() -> dict[str, float]:
    """Return the true values; groups are equal."""
    return {
        "mean AUROC": AUROCS["private"],
        "contrast": 0.0,
        "paired difference": AUROCS["private"] - AUROCS["no privacy"],
        "gap_change": 0.0,
    }


def coverage(correlation: float, unit: str, n_cohorts: int) -> list[dict]:
    """Return the share of cohorts whose interval covers the truth, a row a quantity, with its
    standard error.
    """
    cohort_intervals = [intervals(seed, correlation, unit) for seed in range(n_cohorts)]
    rows = []
    for name, truth in truths().items():
        covered = np.mean(
            [
                low <= truth <= high
                for low, high in (quantities[name] for quantities in cohort_intervals)
            ]
        )
        rows.append(
            {
                "correlation": correlation,
                "unit": unit,
                "quantity": name,
                "coverage": float(covered),
                "standard_error": float(np.sqrt(covered * (1 - covered) / n_cohorts)),
            }
        )
    return rows


def group(
    rng: np.random.Generator, n_with: int, n_without: int, auroc: float, n_findings: int, most: int
) -> tuple[np.ndarray, list[tuple[np.ndarray, list[np.ndarray]]]]:
    """Return patients of each image, and labels and scores in both arms of each finding.

    A patient has 1 to `most` images, all with the finding or all without.
    """
    n = n_with + n_without
    patients = np.repeat(np.arange(n), rng.integers(1, most + 1, n))

    def noise() -> np.ndarray:
        lasting = rng.standard_normal(n)[patients]
        return np.sqrt(0.5) * (lasting + rng.standard_normal(len(patients)))

    findings = []
    for _ in range(n_findings):
        labels = (rng.permutation(n) < n_with)[patients].astype(float)
        common = np.sqrt(0.8) * noise()
        scores = [
            np.sqrt(2) * norm.ppf(level) * labels + common + np.sqrt(0.2) * noise()
            for level in (auroc, auroc - LOST)
        ]
        findings.append((labels, scores))
    return patients, findings


def influences_of(cohorts: list[list[tuple]], sizes: list[int]) -> pd.DataFrame:
    """Return influences as `influence_table` has them: a cohort is an attribute, of a group B and
    the rest A.
    """
    rows = {}
    for number, sides in enumerate(cohorts):
        n_of = [patients.max() + 1 for patients, _ in sides]
        for name, rest, side, first in (("B", "A", 0, 0), ("A", "B", 1, n_of[0])):
            patients, findings = sides[side]
            for finding, (labels, of_arms) in enumerate(findings):
                for run, scores in zip(RUNS, of_arms):
                    estimate, influence = auroc_intervals.influences(
                        labels, scores, patients + first, sum(n_of)
                    )
                    hidden = auroc_intervals.hidden_error(estimate, sizes[side])
                    row = np.r_[estimate, sizes[side], 1, hidden, influence]
                    for shown in (name, f"{REST}{rest}"):
                        rows[run, "auroc", f"f{finding}", f"cohort {number}", shown] = row
    index = pd.MultiIndex.from_tuples(rows, names=LEVELS_OF_TABLE)
    columns = [0, *auroc_intervals.ABOUT, *range(1, len(row) - 3)]
    return pd.DataFrame(list(rows.values()), index, columns)


def from_influences(cohorts: list[list[tuple]], sizes: list[int]) -> np.ndarray:
    """Return (cohorts, 3, 2) limits of level, contrast and change, by what the notebooks call."""
    about = dict(epsilon_target=None, unit="patient", seed=0, seconds=0.0)
    records = [about | {"run": run, "arm": arm} for run, arm in zip(RUNS, ("baseline", "dp"))]
    records[1]["epsilon_target"] = 1.0
    arms = study_arms.arm_table(records)
    table = group_contrasts.with_means(influences_of(cohorts, sizes))
    means = study_arms.pool(group_contrasts.only_means(table), arms)
    levels = confidence_intervals.of_levels(means.xs("B", level="group", drop_level=False))
    contrasts = estimate_tables.auroc_contrasts(table, arms)
    changes = estimate_tables.gap_changes(table, arms, RUNS[0])
    shown = [
        rows[rows["run"] == run]
        .set_index("attribute")
        .loc[[f"cohort {k}" for k in range(len(cohorts))]]
        for rows, run in (
            (levels, RUNS[0]),
            (contrasts, RUNS[0]),
            (confidence_intervals.of_changes(changes), RUNS[1]),
        )
    ]
    return np.stack([rows[["low", "high"]].to_numpy(float) for rows in shown], axis=1)


def from_percentiles(sides: list[tuple], rng: np.random.Generator) -> list[tuple]:
    """Return the same intervals as percentiles of resampled patients."""
    means = []
    for patients, findings in sides:
        draws = bootstrap.Draws.of(patients, N_BOOTSTRAP, rng)
        values = [
            [bootstrap.ranked(labels, score, draws, ("auroc",))["auroc"][1:] for score in scores]
            for labels, scores in findings
        ]
        means.append(np.mean(values, axis=0))
    (here, here_private), (there, there_private) = means
    quantities = (here, here - there, (here_private - here) - (there_private - there))
    return [tuple(np.nanpercentile(values, [2.5, 97.5])) for values in quantities]


def small_group(
    n_with: int,
    n_without: int,
    auroc: float,
    n_findings: int,
    most: int,
    n_cohorts: int,
    is_before: bool,
) -> list[dict]:
    """Return how often intervals cover the truth in a group of so many patients, a row a quantity.

    Args:
        n_with, n_without: patients with and without each finding.
        auroc: of both groups, without privacy.
        n_findings: of the mean.
        most: images of a patient.
        n_cohorts: drawn.
        is_before: percentile intervals in place of those from influences.
    """
    rng = np.random.default_rng([n_with, n_without, int(100 * auroc), n_findings, most])
    smaller, limits = min(n_with, n_without), []
    for first in range(0, n_cohorts, TOGETHER):
        cohorts = [
            [group(rng, k * n_with, k * n_without, auroc, n_findings, most) for k in (1, TIMES)]
            for _ in range(min(TOGETHER, n_cohorts - first))
        ]
        if is_before:
            limits.append(np.array([from_percentiles(sides, rng) for sides in cohorts]))
        else:
            limits.append(from_influences(cohorts, [smaller, TIMES * smaller]))
    low, high = np.moveaxis(np.concatenate(limits), -1, 0)  # (cohorts, quantities)
    truth = np.array([auroc, 0.0, 0.0])
    too_high, too_low = (truth < low).mean(axis=0), (truth > high).mean(axis=0)
    return [
        {
            "patients_with": n_with,
            "patients_without": n_without,
            "auroc": auroc,
            "n_findings": n_findings,
            "images": f"1 to {most}" if most > 1 else "1",
            "quantity": quantity,
            "intervals": "percentile" if is_before else "influence",
            "coverage": float(1 - too_high[k] - too_low[k]),
            "too_high": float(too_high[k]),
            "too_low": float(too_low[k]),
            "width": float((high - low).mean(axis=0)[k]),
            "n_cohorts": n_cohorts,
        }
        for k, quantity in enumerate(("AUROC", "contrast", "gap_change"))
    ]


def main() -> int:
    """Simulate, write and draw; 1 if an interval of many resampled patients does not cover."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=2000)
    n_cohorts = parser.parse_args().cohorts
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(coverage, correlation, unit, n_cohorts)
            for correlation in CORRELATIONS
            for unit in ("patient", "image")
        ]
        small = [
            pool.submit(small_group, *sizes, auroc, *design)
            for design in DESIGNS
            for sizes in SMALL
            for auroc in LEVELS
        ]
        table, small = (
            pd.DataFrame([row for job in jobs for row in job.result()]) for jobs in (jobs, small)
        )
    results = Path(__file__).parent / "results"
    files.write_json(
        results / "coverage.json",
        {
            "n_cohorts": n_cohorts,
            "n_patients": N_PATIENTS,
            "images_a_patient": IMAGES_A_PATIENT,
            "n_bootstrap": N_BOOTSTRAP,
            "aurocs": AUROCS,
            "rows": table.to_dict("records"),
            "small_groups": small.to_dict("records"),
            "versions": run_records.versions(),
        },
    )
    with plt.style.context(house_style.STYLE):
        for name, axes in (
            ("coverage", benchmark_figures.plot_coverage(table)),
            ("coverage_small", benchmark_figures.plot_small_groups(small, WANTED)),
        ):
            axes[0].figure.savefig(results / f"{name}.png", dpi=150, bbox_inches="tight")
    print(
        table.pivot(index=["unit", "quantity"], columns="correlation", values="coverage").round(3)
    )
    print(
        small.pivot(
            index=[
                "intervals",
                "images",
                "n_findings",
                "quantity",
                "patients_with",
                "patients_without",
            ],
            columns="auroc",
            values="coverage",
        )
        .round(3)
        .to_string()
    )
    return int(not table[table["unit"] == "patient"]["coverage"].between(0.935, 0.965).all())


if __name__ == "__main__":
    plt.switch_backend("Agg")
    sys.exit(main())
