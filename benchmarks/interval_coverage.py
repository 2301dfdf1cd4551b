"""Are 95 % intervals right 95 times in a hundred? Cohorts are drawn again and again from a model
whose truth is known.

In: numbers of cohorts, patients, resamples. Out: `results/coverage.json` and `coverage.png`: how
often intervals of mean AUROC, of a signed contrast and of a paired difference cover the truth, with
patients and with images resampled, by how alike the images of a patient are (contrast and
gap_change are of groups that are equal: what is not covered is called); and the same for the AUROC
of small groups, down to the fewest patients for which one is shown.

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

from helpers.analysis import bootstrap
from helpers.core import files, run_records
from helpers.figures import house_style

N_PATIENTS, IMAGES_A_PATIENT, N_FINDINGS, N_BOOTSTRAP = 300, 4, 2, 400
CORRELATIONS = (0.0, 0.25, 0.5, 0.75)  # of two images of a patient, of labels and of scores
AUROCS = {"no privacy": 0.88, "private": 0.80}  # of both groups
SMALL = ((10, 10), (10, 40), (20, 60), (40, 120))  # patients with and without a finding
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


def small_group(n_with: int, n_without: int, auroc: float, n_cohorts: int) -> dict:
    """Return how often the interval of one AUROC covers the truth, for so many patients with and
    without a finding.
    """
    rng = np.random.default_rng([n_with, n_without, int(100 * auroc)])
    patients = np.repeat(np.arange(n_with + n_without), IMAGES_A_PATIENT)
    labels, covered = (patients < n_with).astype(float), []
    for _ in range(n_cohorts):
        noise = np.sqrt(0.5) * rng.standard_normal(n_with + n_without)[patients] + np.sqrt(
            0.5
        ) * rng.standard_normal(len(patients))
        values = bootstrap.ranked(
            labels,
            np.sqrt(2) * norm.ppf(auroc) * labels + noise,
            bootstrap.Draws.of(patients, N_BOOTSTRAP, rng),
            ("auroc",),
        )
        low, high = np.nanpercentile(values["auroc"][1:], [2.5, 97.5])
        covered.append(low <= auroc <= high)
    return {
        "patients_with": n_with,
        "patients_without": n_without,
        "auroc": auroc,
        "coverage": float(np.mean(covered)),
    }


def main() -> int:
    """Simulate, write and draw; 1 if an interval of resampled patients does not cover."""
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
            pool.submit(small_group, *sizes, auroc, n_cohorts)
            for sizes in SMALL
            for auroc in (0.8, 0.9)
        ]
        table, small = (
            pd.DataFrame([row for job in jobs for row in job.result()]),
            pd.DataFrame([job.result() for job in small]),
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
        benchmark_figures.plot_coverage(table)[0].figure.savefig(
            results / "coverage.png", dpi=150, bbox_inches="tight"
        )
    print(
        table.pivot(index=["unit", "quantity"], columns="correlation", values="coverage").round(3)
    )
    print(
        small.pivot(
            index=["patients_with", "patients_without"], columns="auroc", values="coverage"
        ).round(3)
    )
    return int(not table[table["unit"] == "patient"]["coverage"].between(0.935, 0.965).all())


if __name__ == "__main__":
    plt.switch_backend("Agg")
    sys.exit(main())
