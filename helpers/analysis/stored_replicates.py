"""The bootstrap replicates of notebook 04, stored so that notebook 05 need not draw them again.

In: replicates of `metric_table.replicate`, and what they were drawn from and with. Out: a Parquet
file, or the replicates in it. Raises `InputError` where there is none, or where it was drawn from
other predictions, with other parameters or by other code.
"""

import hashlib
from pathlib import Path

import pandas as pd
import pyarrow as pa

from helpers.analysis import metric_table
from helpers.core import errors, files, fingerprints, paths

FILE = Path("tables", "04_replicates.parquet")
METRICS = ("auroc", "accuracy")  # those that notebook 05 compares
_MADE_BY = "Run notebook 04 with the same runs first."
_THRESHOLDS = "thresholds"  # beside what is compared


def write(
    replicates: pd.DataFrame,
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    *,
    thresholds: str,
    **parameters: object,
) -> None:
    """Store the replicates of `METRICS` with the fingerprint of what they were drawn from.

    Args:
        replicates: from `metric_table.replicate`.
        predictions: run -> its predictions, as they were drawn from.
        table: the cohort's table.
        thresholds: of the decisions behind the accuracy, in words.
        parameters: name -> value of the notebook parameters they were drawn with.
    """
    kept = replicates[replicates.index.get_level_values("metric").isin(METRICS)].reset_index()
    kept = kept.rename(columns=str)
    kept.attrs = _origin(predictions, table, parameters) | {_THRESHOLDS: thresholds}
    files.write_table(paths.results_dir() / FILE, kept)


def read(
    predictions: dict[str, pd.DataFrame], table: pd.DataFrame, **parameters: object
) -> tuple[pd.DataFrame, str]:
    """Return the replicates that `write` stored, of these predictions and parameters, and its
    `thresholds`.

    Args:
        predictions, table, parameters: as in `write`.

    Raises:
        InputError: nothing is stored, a damaged file, or replicates of other runs, parameters or
            code (names them).
    """
    path = errors.file_exists(paths.results_dir() / FILE, _MADE_BY)
    try:
        kept = pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        errors.refuse(f"a whole Parquet file at {path}", str(error), _MADE_BY)
    origin = _origin(predictions, table, parameters)
    differing = [name for name, value in origin.items() if kept.attrs.get(name) != value]
    if differing:
        errors.refuse(
            f"replicates in {FILE.name} of the same runs and parameters",
            f"others: {', '.join(differing)}",
            _MADE_BY,
        )
    thresholds, kept.attrs = kept.attrs[_THRESHOLDS], {}
    return kept.set_index(metric_table.LEVELS).rename(columns=int), thresholds


def _origin(
    predictions: dict[str, pd.DataFrame], table: pd.DataFrame, parameters: dict[str, object]
) -> dict[str, object]:
    """Return what decides the replicates, as JSON can hold it."""
    runs = {run: _fingerprint(rows) for run, rows in predictions.items()}
    drawn_from = {"RUNS": runs, "table of images": _fingerprint(table), "code": _code()}
    return drawn_from | files.plain(parameters)


def _code() -> str:
    """Return the fingerprint of the code that draws replicates."""
    return fingerprints.fingerprint({}, ["analysis.metric_table"])


def _fingerprint(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table; fast, and stable on one version of pandas."""
    hashes = pd.util.hash_pandas_object(table, index=False)
    columns = " ".join(map(str, table.columns)).encode()
    return hashlib.sha256(columns + hashes.to_numpy().tobytes()).hexdigest()
