"""Paths: of the repository, of results, cohorts, runs and locks.

In: names. Out: paths. Results lie in the repository unless the environment variable `RESULTS_DIR`
names another folder.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

# what this package writes into a results folder, `.parts-*` and the like inside
RESULTS = (
    *("cohort", "runs", "tables", "figures", "notebooks", "register", "audit"),
    *(".state", ".locks", ".lock", "index.html", "ro-crate-metadata.json"),
)
WEIGHT_FILES = (".safetensors", ".pth")  # from which training can start


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
    for parent, folders, names in os.walk(folder):
        left_out = results_in(Path(parent), results)
        folders[:] = sorted(set(folders) - left_out)
        yield from (Path(parent, name) for name in sorted(set(names) - left_out))


def results_in(folder: Path, results: Path | None = None) -> set[str]:
    """Return the names in a folder under which this package writes: none where it does not hold
    results, of this or of an earlier study.

    Args:
        folder: to be looked at.
        results: a folder of results; None: the present one.
    """
    holds_results = (
        folder.resolve() == (results or results_dir()).resolve()
        or (folder / ".state").is_dir()
        or any((folder / "cohort").glob("*/record.json"))
    )
    return set(RESULTS) if holds_results else set()


def without_results(names: Iterable[str], root: Path) -> list[str]:
    """Return those of relative paths that are no results of this package below a folder.

    Args:
        names: relative to `root`, written with "/".
        root: the folder.
    """
    left_out: dict[str, set[str]] = {}

    def is_of_results(name: str) -> bool:
        parts = name.split("/")
        for depth, part in enumerate(parts):
            folder = "/".join(parts[:depth])
            if folder not in left_out:
                left_out[folder] = results_in(root / folder)
            if part in left_out[folder]:
                return True
        return False

    return [name for name in names if not is_of_results(name)]


def cohort_dir(cohort: str) -> Path:
    """Return the folder of a cohort's `images.npy`, `table.parquet` and `record.json`."""
    return results_dir() / "cohort" / cohort


def run_dir(run: str) -> Path:
    """Return the folder of a run's predictions, record and weights."""
    return results_dir() / "runs" / run


def lock_path(run: str) -> Path:
    """Return the lock file of a run, outside its folder: removing a run by hand removes no lock."""
    return results_dir() / ".locks" / f"{run}.lock"
