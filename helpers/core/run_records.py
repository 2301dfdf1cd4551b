"""Run records and predictions on disk: what was trained with what, and its scores.

In: a record, a table of predictions. Out: files in the run's folder, and what can be read of them.
Raises `InputError` for a run or table that is missing, half-written, or not in the documented form.
"""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import pandas as pd

from helpers.core import errors, files, fingerprints, machine, paths

PREDICTION_COLUMNS = ["image_id", "patient_id", "split", "finding", "label", "score"]
RECORD_KEYS = (
    "run",
    "cohort",
    "arm",
    "epsilon_target",
    "epsilon_spent",
    "delta",
    "unit",
    "seed",
    "recipe",
    "parameters",
    "seconds",
    "versions",
    "ledger",
    "data_hash",
)
# the recipe of a private run without noise, and without clipping or with it: no privacy at all
SAME_RECIPE = ("same_recipe", "same_recipe_clipped")
WITHOUT_PRIVACY = ("baseline", *SAME_RECIPE)  # trained on the private patients, nothing promised
ARMS = ("zero_shot", *WITHOUT_PRIVACY, "dp")
_VERSIONED = ("torch", "torchvision", "opacus", "dp-accounting", "numpy", "pandas", "scikit-learn")


def private_runs_of(results: Path, cohort: str) -> list[str]:
    """Return the names of private runs of a cohort that were begun in a results folder."""
    return sorted(path.parent.name for path in results.glob(f"runs/{cohort}-dp-*/private_run.json"))


def run_name(
    cohort: str,
    arm: str,
    seed: int | None = None,
    epsilon: float | None = None,
    recipe: str = "default",
    unit: str = "patient",
) -> str:
    """Return the name of a run, e.g. `<cohort>-dp-eps1.06-seed0`.

    Guarantees: no run without a promise has the name of a private run, whatever the cohort.

    Args:
        cohort: name of the cohort.
        arm: one of `ARMS`.
        seed: of the arm; not used by zero_shot.
        epsilon: target budget of a dp run; of a same-recipe run that of the private run whose
            recipe it has, a name and no promise.
        recipe: appended where it is not "default".
        unit: of a dp or same-recipe run, appended where it is not "patient".
    """
    errors.one_of("arm", arm, ARMS)
    parts, has_budget = [cohort, arm], arm in ("dp", *SAME_RECIPE)
    if has_budget:
        parts.append(f"eps{epsilon:g}")
    if arm != "zero_shot":
        parts.append(f"seed{seed}")
    if has_budget and unit != "patient":
        parts.append(f"{unit}_level")
    if recipe != "default":
        parts.append(recipe)
    return "-".join(parts)


def elsewhere_name(run: str, cohort: str) -> str:
    """Return the name under which a run's model is tried on another cohort.

    E.g. `<other>-from-<cohort>-baseline-seed0`.
    """
    return f"{cohort}-from-{run}"


# ---- run records


def new_record(**fields: object) -> dict:
    """Return a run record: the given fields, with versions, commit and hardware added.

    Raises:
        InputError: a key of `RECORD_KEYS` is absent.
    """
    record = dict(fields, versions=versions(), commit=commit(), hardware=hardware())
    absent = [key for key in RECORD_KEYS if key not in record]
    if absent:
        errors.refuse(
            f"a run record with {errors.examples(absent, 9)}", "none", "Pass them to new_record."
        )
    return record


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide numbers."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in _VERSIONED
    }


def commit() -> str | None:
    """Return the commit of this package's repository, `+changes` if files differ from it; None
    where it is not in one of its own, as when it was unpacked inside somebody else's.
    """
    root = paths.repository_root()
    # a git hook sets GIT_DIR and the like: they name the repository of the hook
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    } | {"GIT_OPTIONAL_LOCKS": "0"}

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        git("ls-files", "--error-unmatch", "--", __file__)  # its top may hold the package unknown
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def hardware() -> dict:
    """Return the processor, and the cores and threads this process may use."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": machine.cores(),
        "threads": machine.threads(),
    }


def finish_run(record: dict, predictions: pd.DataFrame) -> None:
    """Write a run's predictions and, last, its record with the hashes of its files; then let its
    checkpoint go.

    Args:
        record: from `new_record`. The weights must lie in the run's folder already, if it has any.
        predictions: see `check_predictions`.

    Guarantees: a run is whole where its files are those of its `record.json`; an earlier record is
        replaced, never removed first.

    Raises:
        InputError: the predictions are not in the documented form.
    """
    folder = paths.run_dir(record["run"])
    check_predictions(predictions, f"the predictions of {record['run']}")
    files.write_table(folder / "predictions.parquet", predictions[PREDICTION_COLUMNS])
    hashes = {
        name: fingerprints.file_hash(folder / name)
        for name in ("predictions.parquet", "weights.safetensors")
        if (folder / name).exists()
    }
    files.write_json(folder / "record.json", record | {"files": hashes})
    remove_checkpoints(record["run"])


def remove_checkpoints(run: str) -> None:
    """Remove a run's checkpoint, and what a kill left of one."""
    for path in paths.run_dir(run).glob("*checkpoint.pt*"):
        path.unlink(missing_ok=True)


def is_whole(run: str) -> bool:
    """Return whether a run was finished and its files are what was written."""
    folder = paths.run_dir(run)
    hashes = files.readable_json(folder / "record.json").get("files", {})
    return bool(hashes) and all(
        (folder / name).exists() and fingerprints.file_hash(folder / name) == recorded
        for name, recorded in hashes.items()
    )


def read_record(run: str) -> dict:
    """Return a run's record.

    Raises:
        InputError: the run is not there, or not whole.
    """
    return files.read_json(
        paths.run_dir(run) / "record.json", "Run notebook 02 or 03 with this cohort first."
    )


def read_predictions(run: str) -> pd.DataFrame:
    """Return a run's predictions: `PREDICTION_COLUMNS`, a row an image and finding; label 1, 0 or
    NaN.

    Raises:
        InputError: absent, or not in the documented form.
    """
    path = paths.run_dir(run) / "predictions.parquet"
    predictions = files.read_parquet(path, "Run notebook 02 or 03 with this cohort first.")
    check_predictions(predictions, str(path))
    return predictions


def check_predictions(predictions: pd.DataFrame, where: str) -> None:
    """Accept a table of predictions in the documented form.

    Raises:
        InputError: a column is absent, a score lies outside [0, 1], a label is not 1, 0 or missing,
            or an image has two rows for one finding.
    """
    errors.has_columns(predictions, PREDICTION_COLUMNS, where)
    outside = predictions[~predictions["score"].between(0, 1)]
    if len(outside):
        errors.refuse(
            f"scores in [0, 1] in {where}",
            f"{len(outside)} others, e.g. {errors.examples(outside['score'].tolist())}",
            "Pass probabilities, not logits.",
        )
    odd_labels = predictions.loc[
        ~(predictions["label"].isin([0, 1]) | predictions["label"].isna()), "label"
    ]
    if len(odd_labels):
        errors.refuse(
            f"labels 1, 0 or missing in {where}",
            errors.examples(sorted(set(odd_labels))),
            "Binarise the labels.",
        )
    is_repeated = predictions.duplicated(["image_id", "finding"])
    if is_repeated.any():
        errors.refuse(
            f"one row for each image and finding in {where}",
            f"{int(is_repeated.sum())} repeated, e.g."
            f" {predictions.loc[is_repeated, 'image_id'].iloc[0]!r}",
            "Remove the repeated rows.",
        )


def runs_of(cohort: str) -> list[str]:
    """Return the names of the finished runs trained on a cohort: zero-shot, baselines, the same
    recipe without privacy, then private runs by budget.
    """
    finished_runs = []
    for path in (paths.results_dir() / "runs").glob("*/record.json"):
        record = files.read_json(path, "")
        # not models of other cohorts tried on this one
        if record["cohort"] == cohort and "trained_on" not in record:
            arm = ARMS.index(record["arm"])
            finished_runs.append((arm, record["epsilon_target"] or 0, record["run"]))
    return [run for *_, run in sorted(finished_runs)]
