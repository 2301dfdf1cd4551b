"""Paths: of the repository, of results, cohorts, runs and locks.

In: names. Out: paths. Results lie in the repository unless the environment variable `RESULTS_DIR`
names another folder.
"""

import os
from collections.abc import Iterator
from pathlib import Path

# what this package writes into a results folder, `.parts-*` and the like inside
RESULTS = (
    *("cohort", "runs", "tables", "figures", "notebooks", "register"),
    *(".state", ".locks", ".lock", "index.html"),
)


def repository_root() -> Path:
    """Return the folder that holds `helpers/`, `notebooks/` and `data_manifests/`."""
    return Path(__file__).resolve().parents[2]


def results_dir() -> Path:
    """Return where results go: `$RESULTS_DIR`, or `results/` at the repository's root."""
    named = os.environ.get("RESULTS_DIR", "").strip()
    return Path(named or repository_root() / "results").expanduser().resolve()


def files_below(folder: Path, results: Path | None = None) -> Iterator[Path]:
    """Yield all files below a folder but results of this package, sorted by folder.

    A folder of data may hold results: those of earlier runs are no data, and a list of its files
    must not change as results are written.

    Args:
        folder: with data.
        results: a folder of results; None: the present one.
    """
    results = (results or results_dir()).resolve()
    for parent, folders, names in os.walk(folder):
        is_of_results = Path(parent).resolve() == results or _holds_results(Path(parent))
        left_out = set(RESULTS) if is_of_results else set()
        folders[:] = sorted(set(folders) - left_out)
        yield from (Path(parent, name) for name in sorted(set(names) - left_out))


def _holds_results(folder: Path) -> bool:
    """Return whether a folder holds what `run_all.py` or notebook 01 writes."""
    return (folder / ".state").is_dir() or any((folder / "cohort").glob("*/record.json"))


def cohort_dir(cohort: str) -> Path:
    """Return the folder of a cohort's `images.npy`, `table.parquet` and `record.json`."""
    return results_dir() / "cohort" / cohort


def run_dir(run: str) -> Path:
    """Return the folder of a run's predictions, record and weights."""
    return results_dir() / "runs" / run


def lock_path(run: str) -> Path:
    """Return the lock file of a run, outside its folder: removing a run by hand removes no lock."""
    return results_dir() / ".locks" / f"{run}.lock"
