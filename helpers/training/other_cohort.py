"""A finished run's model among the patients of another cohort (external validation).

In: a network, its run, the other cohort. Out: a table of predictions on disk. Raises `InputError`
where sizes or findings do not fit.
"""

import numpy as np
import pandas as pd
from torch import nn

from helpers.core import errors, run_records
from helpers.data import cohorts, manifests
from helpers.training import prediction, start_weights


def try_elsewhere(model: nn.Module, channels: int, run: str, evaluate_on: str) -> pd.DataFrame:
    """Predict `valid` and `test` patients of another cohort with a finished run's model; return
    the predictions.

    Each finding of the other cohort takes the output of the same canonical name, or of the same
    without sides the mean of both; findings that the model does not know are left out. Nothing is
    fitted there. Images are shifted as the run's record says, see `prediction.predict`.

    Args:
        model: of the run.
        channels: of its input.
        run: its name; see `run_records.elsewhere_name` for that of the predictions.
        evaluate_on: name of the other cohort, or "none", which does nothing.

    Returns:
        `run_records.PREDICTION_COLUMNS`; no row where `evaluate_on` is "none".

    Raises:
        InputError: the cohort is not there or has no test patients, its images have another size,
            or the model knows none of its findings.
    """
    if evaluate_on == "none":
        return pd.DataFrame(columns=run_records.PREDICTION_COLUMNS)
    record, other = run_records.read_record(run), cohorts.read(manifests.name_of(evaluate_on))
    name, shifts = run_records.elsewhere_name(run, other.name), prediction.shifts_of(record)
    wanted = record["fingerprint"], other.record["data_hash"], shifts
    if run_records.is_whole(name) and _made_of(run_records.read_record(name)) == wanted:
        return run_records.read_predictions(name)
    private = cohorts.read(record["cohort"])
    if private.images.shape[1:] != other.images.shape[1:]:
        errors.refuse(
            f"images of {other.name} of {private.images.shape[1:]} pixels, as those of"
            f" {private.name}",
            other.images.shape[1:],
            "Set IMAGE_PX.",
        )
    known = [private.canonical[finding] for finding in private.findings]
    columns_by_finding = {
        finding: start_weights.alike(other.canonical[finding], known) for finding in other.findings
    }
    if not any(columns_by_finding.values()):
        errors.refuse(
            f"a finding of {other.name} that {private.name} has, too",
            ", ".join(other.canonical.values()),
            "Correct `canonical` in a manifest.",
        )
    if not (other.table["split"] == "test").any():
        errors.refuse(
            f"test patients in {other.name}",
            "none",
            "Choose another EVALUATE_ON, or give its manifest a test split.",
        )
    rows = np.flatnonzero(other.table["split"].isin(["valid", "test"]))
    scores = prediction.predict(model, other.images, rows, channels, shifts=shifts)
    images = other.table.iloc[rows]
    predictions = pd.concat(
        [
            images[["image_id", "patient_id", "split"]].assign(
                finding=finding,
                label=images[finding].astype(float),
                score=scores[:, columns].mean(1).astype(float),
            )
            for finding, columns in columns_by_finding.items()
            if columns
        ],
        ignore_index=True,
    )
    run_records.finish_run(
        record
        | {
            "run": name,
            "cohort": other.name,
            "trained_on": private.name,
            "data_hash": other.record["data_hash"],
        },
        predictions,
    )
    return predictions


def _made_of(record: dict) -> tuple[str, str, int]:
    """Return what decides predictions elsewhere: the run's fingerprint, the data, the shifts."""
    return record.get("fingerprint"), record.get("data_hash"), prediction.shifts_of(record)
