"""The end of a run: predictions, weights and record on disk, all or none.

In: a trained network, its cohort, its ledger. Out: a whole run. Raises `InputError` where steps are
left, a private run is not its session's, or a run without privacy is given out as private.
"""

import pandas as pd
from torch import nn

from helpers.core import errors, fingerprints, locks, paths, run_records
from helpers.data import cohorts
from helpers.privacy import lineage, private_runs, register
from helpers.training import prediction, weight_files


def finish(
    model: nn.Module,
    cohort: cohorts.Cohort,
    channels: int,
    *,
    run: str,
    arm: str,
    seed: int,
    parameters: dict,
    seconds: float,
    fingerprint: str,
    ledger: dict | None = None,
    history: list[dict] | None = None,
    recipe: str = "default",
    start: list[dict] | None = None,
    made_from: dict | None = None,
    private_run: private_runs.PrivateRun | None = None,
    shifts: int = 1,
    steps_left: int = 0,
) -> pd.DataFrame:
    """Predict `valid` and `test`, write weights, predictions and record of a run, and return the
    predictions.

    A private run that is finished is read; its predictions are made again where they are damaged,
    of another cohort's `valid` and `test`, or of another number of shifts. Guarantees: weights,
    ledger and identity of a finished private run stay as they are; a run without noise has neither
    ledger nor epsilon in its record, and is never the arm "dp"; no run with steps left is recorded.

    Args:
        model: trained.
        cohort: whose images are predicted.
        channels: of the model's input.
        run, arm, seed, parameters, seconds, fingerprint, history, recipe: for the record; see
            `run_records.new_record`. Of the same recipe without privacy, the parameters have the
            promise of the private run.
        ledger: the privacy ledger of a private run.
        start: lineage of the weights from which it started, see `lineage`.
        made_from: further contents that decide the run, for the record.
        private_run: of the session, in private mode.
        shifts: of an image at prediction, see `prediction.predict`; kept among the parameters of
            the record where it is not 1.
        steps_left: of the session that trained the model, `session.steps - session.step`; those of
            a private run are known from its ledger, too.

    Raises:
        InputError: steps are left, another session has taken up the private run, it is not
            passed, or arm, ledger and parameters contradict each other.
    """
    _check_arm(run, arm, ledger, parameters)
    if private_run and private_run.is_finished:
        return _read_again(model, cohort, channels, run, shifts)
    _check_whole(run, ledger, steps_left)
    if private_run:
        # weights, too, are on disk after their steps are in the register
        private_run.before_checkpoint(ledger["steps_done"])
    elif ledger and ledger["mode"] == "private":
        errors.refuse(
            f"the private run of the session of {run}",
            "none",
            "Pass private_run = session.private: its end goes into the register.",
        )
    predictions = prediction.predictions_of(model, cohort, channels, shifts=shifts)
    canonical = [cohort.canonical[finding] for finding in cohort.findings]
    trained_on = (
        []
        if arm == "zero_shot"
        else [
            lineage.of_training(
                cohort.name,
                register.Register().enrol(*cohort.training_patients()),
                is_private=private_run is not None,
            )
        ]
    )
    weight_files.save_weights(
        model,
        paths.run_dir(run) / "weights.safetensors",
        canonical,
        lineage.after(start, *trained_on),
    )
    promise = (
        {
            "epsilon_target": ledger["epsilon_target"],
            "epsilon_spent": ledger["epsilon_spent"]["PLD"],
            "delta": ledger["delta"],
            "unit": ledger["unit"],
        }
        if ledger
        else dict.fromkeys(("epsilon_target", "epsilon_spent", "delta", "unit"))
    )
    of_recipe = (
        {"recipe_of_epsilon": parameters["epsilon"], "recipe_of_unit": parameters["unit"]}
        if arm in run_records.SAME_RECIPE
        else {}
    )
    of_private = (
        {
            "uuid": private_run.uuid,
            "patients": private_run.patients,
            "identity": private_run.identity,
        }
        if private_run
        else {}
    )
    run_records.finish_run(
        run_records.new_record(
            run=run,
            cohort=cohort.name,
            arm=arm,
            **promise,
            seed=seed,
            recipe=recipe,
            parameters=prediction.with_shifts(parameters, shifts),
            seconds=round(seconds, 1),
            ledger=ledger,
            data_hash=cohort.record["data_hash"],
            fingerprint=fingerprint,
            history=history or [],
            made_from=made_from or {},
            weights_hash=weight_files.weights_hash(model.state_dict()),
            **of_private,
            **of_recipe,
        ),
        predictions,
    )
    if private_run:
        private_run.end(ledger["steps_done"])
    locks.release(paths.lock_path(run))
    return predictions


def _check_whole(run: str, ledger: dict | None, steps_left: int) -> None:
    """Accept a run that has made all its steps."""
    way_on = "Run the training cell again: it goes on."
    if ledger and ledger["steps_done"] < ledger["steps_planned"]:
        planned, done = ledger["steps_planned"], ledger["steps_done"]
        errors.refuse(f"all {planned} steps of {run}", f"{done}", way_on)
    if steps_left > 0:
        errors.refuse(f"all steps of {run}", f"all but {steps_left}", way_on)


def _check_arm(run: str, arm: str, ledger: dict | None, parameters: dict) -> None:
    """Accept an arm with a ledger where it is private, and with none where it is not."""
    is_without = parameters.get("mode") == "none"
    if (
        (arm == "dp") != bool(ledger)
        or is_without != (arm in run_records.SAME_RECIPE)
        or (is_without and f"-{arm}-" not in run)
    ):
        errors.refuse(
            "a ledger for the arm dp, and the arm same_recipe for a run in mode none",
            f"{run}: arm {arm}, {'a' if ledger else 'no'} ledger, mode {parameters.get('mode')}",
            "Pass the arm of `same_recipe.arm_of`, and the name that follows from it.",
        )


def is_predicted(run: str, fingerprint: str, cohort: cohorts.Cohort, shifts: int = 1) -> bool:
    """Return whether a run is whole, has this fingerprint, and predicted this cohort's patients
    with this number of shifts.
    """
    if not run_records.is_whole(run):
        return False
    record = run_records.read_record(run)
    return (record.get("fingerprint"), record.get("data_hash"), prediction.shifts_of(record)) == (
        fingerprint,
        cohort.record["data_hash"],
        shifts,
    )


def _read_again(
    model: nn.Module, cohort: cohorts.Cohort, channels: int, run: str, shifts: int
) -> pd.DataFrame:
    """Return a finished run's predictions, made again from its weights where they are not those of
    its record, of the cohort, or of the number of shifts.
    """
    record, path = run_records.read_record(run), paths.run_dir(run) / "predictions.parquet"
    is_right = (
        path.exists()
        and fingerprints.file_hash(path) == record["files"]["predictions.parquet"]
        and record["data_hash"] == cohort.record["data_hash"]
        and prediction.shifts_of(record) == shifts
    )
    predictions = (
        run_records.read_predictions(run)
        if is_right
        else prediction.predictions_of(model, cohort, channels, shifts=shifts)
    )
    if not is_right:
        changed = {
            "data_hash": cohort.record["data_hash"],
            "parameters": prediction.with_shifts(record["parameters"], shifts),
        }
        run_records.finish_run(record | changed, predictions)
    locks.release(paths.lock_path(run))
    return predictions
