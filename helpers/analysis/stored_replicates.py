"""The bootstrap replicates of notebook 04, stored so that notebook 05 need not draw them again.

In: replicates of `metric_table.replicate`, and what they were drawn from and with. Out: a Parquet
file, or the replicates in it. Raises `InputError` where there is none, or where it was drawn from
other predictions or with other parameters.
"""

import hashlib
from pathlib import Path

import pandas as pd

from helpers.analysis import metric_table
from helpers.core import errors, files, paths

FILE = Path("tables", "04_replicates.parquet")
METRICS = ("auroc", "accuracy")  # those that notebook 05 compares
_MADE_BY = "Run notebook 04 with the same runs first."


def write(
    replicates: pd.DataFrame,
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    **parameters: object,
) -> None:
    """Store the replicates of `METRICS` with the fingerprint of what they were drawn from.

    Args:
        replicates: from `metric_table.replicate`.
        predictions: run -> its predictions, as they were drawn from.
        table: the cohort's table.
        parameters: name -> value of the notebook parameters they were drawn with.
    """
    kept = replicates[replicates.index.get_level_values("metric").isin(METRICS)].reset_index()
    kept = kept.rename(columns=str)
    kept.attrs = _origin(predictions, table, parameters)
    files.write_table(paths.results_dir() / FILE, kept)


def read(
    predictions: dict[str, pd.DataFrame], table: pd.DataFrame, **parameters: object
) -> pd.DataFrame:
    """Return the replicates that `write` stored, of these predictions and parameters.

    Args:
        predictions, table, parameters: as in `write`.

    Raises:
        InputError: nothing is stored, or replicates of other runs or parameters (names them).
    """
    kept = pd.read_parquet(errors.file_exists(paths.results_dir() / FILE, _MADE_BY))
    origin = _origin(predictions, table, parameters)
    differing = [name for name, value in origin.items() if kept.attrs.get(name) != value]
    if differing:
        errors.refuse(
            f"replicates in {FILE.name} of the same runs and parameters",
            f"others: {', '.join(differing)}",
            _MADE_BY,
        )
    kept.attrs = {}
    return kept.set_index(metric_table.LEVELS).rename(columns=int)


def _origin(
    predictions: dict[str, pd.DataFrame], table: pd.DataFrame, parameters: dict[str, object]
) -> dict[str, object]:
    """Return what decides the replicates, as JSON can hold it."""
    runs = {run: _fingerprint(rows) for run, rows in predictions.items()}
    return {"RUNS": runs, "table of images": _fingerprint(table)} | files.plain(parameters)


def _fingerprint(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table's values; fast, and stable on one version of pandas."""
    hashes = pd.util.hash_pandas_object(table, index=False)
    return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()
