"""Scores of a trained network, and its predictions as a table.

In: a network and a cohort. Out: scores, mean AUROC, the whole run on disk. Refuses: scores that are not numbers.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn

from helpers import checks, cohorts, files, lineage, locks, manifests, metrics, models, private_runs, register, runs


@torch.no_grad()
def predict(model: nn.Module, images: np.ndarray, rows: np.ndarray, channels: int, batch_size: int = 256) -> np.ndarray:
    """Return scores, the probabilities of each finding.

    Args:
        model: maps (batch, channels, height, width) to logits.
        images: (n, height, width) or (n, depth, height, width) uint8, may be memory-mapped.
        rows: (m,) rows of `images`, in the order wanted.
        channels: of the model's input.
        batch_size: images at a time.

    Returns:
        (m, n_findings) float32 in [0, 1].
    """
    if not len(rows):
        return np.zeros((0, model.head.out_features), dtype=np.float32)
    model.eval()
    place = next(model.parameters()).device
    batch_size = max(1, batch_size // (8 if images.ndim == 4 else 1))  # volumes are larger
    parts = [torch.sigmoid(model(models.to_input(torch.from_numpy(images[rows[i:i + batch_size]]).to(place), channels)))
             for i in range(0, len(rows), batch_size)]
    return torch.cat(parts).cpu().numpy()


def predictions_of(model: nn.Module, cohort: cohorts.Cohort, channels: int,
                   splits: tuple[str, ...] = ("valid", "test")) -> pd.DataFrame:
    """Return the table of predictions of some splits; training images are not predicted unless asked for.

    Returns:
        `runs.PREDICTION_COLUMNS`, a row an image and finding.
    """
    rows = np.flatnonzero(cohort.table["split"].isin(splits))
    scores = predict(model, cohort.images, rows, channels)
    images = cohort.table.iloc[rows]
    parts = [images[["image_id", "patient_id", "split"]].assign(finding=finding, label=images[finding].astype(float),
                                                               score=scores[:, column].astype(float))
             for column, finding in enumerate(cohort.findings)]
    return pd.concat(parts, ignore_index=True)


def finish(model: nn.Module, cohort: cohorts.Cohort, channels: int, *, run: str, arm: str, seed: int, parameters: dict,
           seconds: float, fingerprint: str, ledger: dict | None = None, history: list[dict] | None = None,
           recipe: str = "default", start: list[dict] | None = None, made_from: dict | None = None,
           private_run: private_runs.PrivateRun | None = None) -> pd.DataFrame:
    """Predict `valid` and `test`, write weights, predictions and record of a run, and return the predictions.

    A private run that is finished is read; its predictions are made again where they are damaged or of another cohort's `valid`
    and `test`. Guarantees: weights and ledger of a finished private run stay as they are.

    Args:
        model: trained.
        cohort: whose images are predicted.
        channels: of the model's input.
        run, arm, seed, parameters, seconds, fingerprint, history, recipe: for the record; see `runs.new_record`.
        ledger: the privacy ledger of a private run.
        start: lineage of the weights from which it started, see `lineage`.
        made_from: further contents that decide the run, for the record.
        private_run: of the session, in private mode.

    Raises:
        InputError: steps are left, another session has taken up the private run, or it is not passed.
    """
    if private_run and private_run.is_finished:
        return _read_again(model, cohort, channels, run)
    if ledger and ledger["steps_done"] < ledger["steps_planned"]:
        checks.refuse(f"all {ledger['steps_planned']} steps of {run}", f"{ledger['steps_done']}", "Run the training cell again: it goes on.")
    if private_run:
        private_run.before_checkpoint(ledger["steps_done"])  # weights, too, are on disk after their steps are in the register
    elif ledger and ledger["mode"] == "private":
        checks.refuse(f"the private run of the session of {run}", "none", "Pass private_run = session.private: its end goes into the register.")
    predictions = predictions_of(model, cohort, channels)
    canonical = [cohort.canonical[finding] for finding in cohort.findings]
    trained_on = [] if arm == "zero_shot" else [lineage.of_training(
        cohort.name, register.Register().enrol(*cohort.training_patients()), is_private=private_run is not None)]
    models.save_weights(model, runs.run_dir(run) / "weights.safetensors", canonical, lineage.after(start, *trained_on))
    promise = {"epsilon_target": ledger["epsilon_target"], "epsilon_spent": ledger["epsilon_spent"]["PLD"],
               "delta": ledger["delta"], "unit": ledger["unit"]} if ledger else dict.fromkeys(
                   ("epsilon_target", "epsilon_spent", "delta", "unit"))
    of_private = {"uuid": private_run.uuid, "patients": private_run.patients, "identity": private_run.identity} if private_run else {}
    runs.finish_run(runs.new_record(run=run, cohort=cohort.name, arm=arm, **promise, seed=seed, recipe=recipe,
                                    parameters=parameters, seconds=round(seconds, 1), ledger=ledger,
                                    data_hash=cohort.record["data_hash"], fingerprint=fingerprint, history=history or [],
                                    made_from=made_from or {}, weights_hash=models.weights_hash(model.state_dict()), **of_private),
                    predictions)
    if private_run:
        private_run.end(ledger["steps_done"])
    locks.release(runs.lock_path(run))
    return predictions


def is_predicted(run: str, fingerprint: str, cohort: cohorts.Cohort) -> bool:
    """Return whether a run is whole, was made like this, and has predicted this cohort's patients."""
    record = runs.read_record(run) if runs.is_whole(run) else {}
    return (record.get("fingerprint"), record.get("data_hash")) == (fingerprint, cohort.record["data_hash"])


def _read_again(model: nn.Module, cohort: cohorts.Cohort, channels: int, run: str) -> pd.DataFrame:
    """Return a finished run's predictions, made again from its weights where they are not those of its record or of the cohort."""
    record, path = runs.read_record(run), runs.run_dir(run) / "predictions.parquet"
    is_right = path.exists() and files.file_hash(path) == record["files"]["predictions.parquet"] and record["data_hash"] == cohort.record["data_hash"]
    predictions = runs.read_predictions(run) if is_right else predictions_of(model, cohort, channels)
    if not is_right:
        runs.finish_run(record | {"data_hash": cohort.record["data_hash"]}, predictions)
    locks.release(runs.lock_path(run))
    return predictions


def try_elsewhere(model: nn.Module, channels: int, run: str, evaluate_on: str) -> pd.Series:
    """Predict `valid` and `test` patients of another cohort with a finished run's model; return each finding's test AUROC.

    Each finding of the other cohort takes the output of the same canonical name, or of the same without sides the mean of
    both; findings that the model does not know are left out. Nothing is fitted there.

    Args:
        model: of the run.
        channels: of its input.
        run: its name; see `runs.elsewhere_name` for that of the predictions.
        evaluate_on: name of the other cohort, or "none", which does nothing.

    Raises:
        InputError: the cohort is not there or has no test patients, its images have another size, or the model knows none of its findings.
    """
    if evaluate_on == "none":
        return pd.Series(dtype=float)
    record, other = runs.read_record(run), cohorts.read(manifests.name_of(evaluate_on))
    name = runs.elsewhere_name(run, other.name)
    if runs.is_whole(name) and all(runs.read_record(name).get(key) == value for key, value in (
            ("fingerprint", record["fingerprint"]), ("data_hash", other.record["data_hash"]))):
        return metrics.auroc_by_finding({"auroc": runs.read_predictions(name)}, split="test").set_index("finding")["auroc"]
    own = cohorts.read(record["cohort"])
    if own.images.shape[1:] != other.images.shape[1:]:
        checks.refuse(f"images of {other.name} of {own.images.shape[1:]} pixels, as those of {own.name}", other.images.shape[1:], "Set IMAGE_PX.")
    known = [own.canonical[finding] for finding in own.findings]
    places = {finding: models.alike(other.canonical[finding], known) for finding in other.findings}
    if not any(places.values()):
        checks.refuse(f"a finding of {other.name} that {own.name} has, too", ", ".join(other.canonical.values()), "Correct `canonical` in a manifest.")
    if not (other.table["split"] == "test").any():
        checks.refuse(f"test patients in {other.name}", "none", "Choose another EVALUATE_ON, or give its manifest a test split.")
    rows = np.flatnonzero(other.table["split"].isin(["valid", "test"]))
    scores, images = predict(model, other.images, rows, channels), other.table.iloc[rows]
    predictions = pd.concat([images[["image_id", "patient_id", "split"]].assign(
        finding=finding, label=images[finding].astype(float), score=scores[:, columns].mean(1).astype(float))
        for finding, columns in places.items() if columns], ignore_index=True)
    runs.finish_run(record | {"run": name, "cohort": other.name, "trained_on": own.name, "data_hash": other.record["data_hash"]}, predictions)
    return metrics.auroc_by_finding({"auroc": predictions}, split="test").set_index("finding")["auroc"]


def macro_auroc_on(model: nn.Module, cohort: cohorts.Cohort, split: str, channels: int) -> float:
    """Return the mean AUROC over findings of a model on one split; NaN if no finding has both classes there."""
    rows = np.flatnonzero(cohort.table["split"] == split)
    labels = cohort.table[cohort.findings].to_numpy(float)[rows]
    return metrics.macro_auroc(labels, predict(model, cohort.images, rows, channels))
