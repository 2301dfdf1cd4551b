"""Paths: of the repository, of results, cohorts, runs and locks.

In: names. Out: paths. Results lie in the repository unless the environment variable `RESULTS_DIR`
names another folder.
"""

import os
from pathlib import Path


def repository_root() -> Path:
    """Return the folder that holds `helpers/`, `notebooks/` and `data_manifests/`."""
    return Path(__file__).resolve().parents[2]


def results_dir() -> Path:
    """Return where results go: `$RESULTS_DIR`, or `results/` at the repository's root."""
    return Path(os.environ.get("RESULTS_DIR") or repository_root() / "results").resolve()


def cohort_dir(cohort: str) -> Path:
    """Return the folder of a cohort's `images.npy`, `table.parquet` and `record.json`."""
    return results_dir() / "cohort" / cohort


def run_dir(run: str) -> Path:
    """Return the folder of a run's predictions, record and weights."""
    return results_dir() / "runs" / run


def lock_path(run: str) -> Path:
    """Return the lock file of a run, outside its folder: removing a run by hand removes no lock."""
    return results_dir() / ".locks" / f"{run}.lock"
