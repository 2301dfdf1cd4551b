"""What a results folder claims of its cohorts and runs, looked at again from their files alone.

In: a cohort's or run's name. Out: `claims.Claim`s: files and hashes, who is in which split, the
privacy ledger computed anew, scores predicted anew from the weights. What cannot be looked at says
why; nothing is raised for it.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import claims, errors, files, fingerprints, paths, run_records
from helpers.data import cohorts
from helpers.privacy import privacy_ledger, register
from helpers.training import network_settings, networks, prediction, start_weights, weight_files

MOST_SCORES = 500  # images predicted again of each run
SCORE_DIFFERENCE = 1e-3  # of another machine's arithmetic


def of_cohort(name: str) -> list[claims.Claim]:
    """Return the claims of a built cohort: its files, its data hash, one split a patient, its
    counts.
    """
    folder, about = paths.cohort_dir(name), f"cohort {name}"
    record = files.readable_json(folder / "record.json")
    if not record:
        return [claims.Claim(about, claims.DIFFERS, "record.json is not there, or damaged")]
    recorded = record.get("files", {})
    changed = _changed_files(folder, recorded)
    made = [claims.of_parts(f"{about}: files", changed)]
    try:
        table, _ = cohorts.read_table(name)
    except (errors.InputError, OSError) as error:
        return [*made, claims.Claim(f"{about}: table", claims.DIFFERS, str(error))]
    data_hash = fingerprints.fingerprint(
        {
            "images.npy": recorded.get("images.npy"),
            "table": fingerprints.table_hash(table),
            "canonical": record.get("canonical"),
        }
    )
    n_splits = table.groupby("patient_id")["split"].nunique()
    counts = {"n_images": len(table), "n_patients": table["patient_id"].nunique()}
    return made + [
        claims.of_parts(
            f"{about}: data hash", claims.difference("it", record.get("data_hash"), data_hash)
        ),
        claims.of_parts(
            f"{about}: every patient in one split",
            [f"{(n_splits > 1).sum():,} patients in several"] if (n_splits > 1).any() else [],
        ),
        claims.of_parts(
            f"{about}: counts",
            claims.difference("", {key: record.get(key) for key in counts}, counts),
        ),
    ]


def of_run(run: str) -> list[claims.Claim]:
    """Return the claims of a finished run: its files, its data, its predictions, its ledger, and
    the scores of its weights.
    """
    record = files.readable_json(paths.run_dir(run) / "record.json")
    if not record:
        why = "record.json is not there, or damaged"
        return [claims.Claim(f"run {run}", claims.DIFFERS, why)]
    made = [of_files(run)]
    try:
        predictions, cohort = run_records.read_predictions(run), cohorts.read(record["cohort"])
    except (errors.InputError, OSError) as error:
        return [*made, claims.Claim(f"run {run}: predictions", claims.UNCHECKED, str(error))]
    made += [
        claims.of_parts(
            f"run {run}: trained and tested on this cohort",
            claims.difference("its data hash", record["data_hash"], cohort.record.get("data_hash")),
        )
        if "trained_on" not in record
        else claims.of_parts(f"run {run}: tried on this cohort", []),
        _of_predictions(run, predictions, cohort),
        *of_ledger(record, cohort),
    ]
    if "trained_on" in record:  # has no weights of its own
        return made
    return made + [_of_scores(record, predictions, cohort)]


def of_files(run: str) -> claims.Claim:
    """Return whether a run's files are those whose hashes its record has."""
    folder = paths.run_dir(run)
    recorded = files.readable_json(folder / "record.json").get("files", {})
    return claims.of_parts(f"run {run}: files", _changed_files(folder, recorded))


def _changed_files(folder: Path, recorded: dict) -> list[str]:
    """Return in words the files that are not those of a record."""
    if not recorded:
        return ["its record has no hashes of files"]
    return [
        f"{name} is not what was written"
        for name, value in recorded.items()
        if value != (fingerprints.file_hash(folder / name) if (folder / name).exists() else None)
    ]


def _of_predictions(run: str, predictions: pd.DataFrame, cohort: cohorts.Cohort) -> claims.Claim:
    """Return whether labels, patients and splits are the cohort's, and nobody trained on is
    shown.
    """
    table = cohort.table.set_index("image_id")
    known = predictions["image_id"].isin(table.index)
    found = [f"{(~known).sum():,} rows of images that are not in it"] if not known.all() else []
    rows = table.reindex(predictions["image_id"])
    for column in ("patient_id", "split"):
        n = int((rows[column].to_numpy()[known] != predictions[column].to_numpy()[known]).sum())
        found += [f"another {column} in {n:,} rows"] if n else []
    for finding, part in predictions[known].groupby("finding"):
        if finding not in table:
            found.append(f"{finding} is no finding of it")
            continue
        labels = table.loc[part["image_id"], finding].to_numpy(float)
        is_other = ~np.isclose(labels, part["label"].to_numpy(float), equal_nan=True)
        found += [f"{finding}: {is_other.sum():,} other labels"] if is_other.any() else []
    shown = set(predictions["split"]) - {"valid", "test"}
    found += [f"patients of the split {', '.join(sorted(shown))} are in it"] if shown else []
    return claims.of_parts(f"run {run}: predictions are of the cohort's valid and test", found)


def of_ledger(record: dict, cohort: cohorts.Cohort) -> list[claims.Claim]:
    """Return whether a private run's ledger follows from its own constants, the cohort and the
    register; of another run, that it promises nothing.

    Args:
        record: of the run.
        cohort: on which it was trained.
    """
    run, entries = record["run"], record.get("ledger")
    promised = ("epsilon_target", "epsilon_spent", "delta", "unit")
    if not entries:
        found = [f"{name} is {record[name]}" for name in promised if record.get(name) is not None]
        return [claims.of_parts(f"run {run}: promises nothing", found)]
    again, known = _ledger_again(record), set(entries.get("not_covered", ()))
    found = claims.difference("", {key: entries.get(key) for key in again}, again)
    found += [
        f"not_covered lacks {name!r}" for name in privacy_ledger.NOT_COVERED if name not in known
    ]
    of_record = {"epsilon_target": "epsilon_target", "delta": "delta", "unit": "unit"}
    for name, key in of_record.items():
        found += claims.difference(f"the record's {name}", record[name], entries[key])
    spent = entries["epsilon_spent"]["PLD"]
    found += claims.difference("the record's epsilon_spent", record["epsilon_spent"], spent)
    made = [claims.of_parts(f"run {run}: ledger follows from its constants", found)]
    if "trained_on" in record:
        return made
    n_units = _n_units(cohort, entries["unit"], record["parameters"])
    found = claims.difference("n_units", entries["n_units"], n_units)
    return [*made, claims.of_parts(f"run {run}: number of units", found), _of_register(record)]


def _ledger_again(record: dict) -> dict:
    """Return what the ledger says but `not_covered`, computed from its constants."""
    entries = record["ledger"]
    first, *second = entries.get("parts", [entries])
    names = ("expected_batch_size", "noise_multiplier", "clip_norm")
    weights = paths.run_dir(record["run"]) / "weights.safetensors"
    lineage = weight_files.lineage_of(weights) if weights.exists() else None
    again = privacy_ledger.ledger(
        **{name: first[name] for name in names},
        **{
            name: entries[name]
            for name in ("unit", "n_units", "steps_done", "delta", "mode", "pos_weight")
            + ("max_images_per_unit", "views_per_image")
        },
        steps=first["steps_planned"],
        epsilon=entries["epsilon_target"],
        max_images_per_patient=record["parameters"].get("max_images_per_patient"),
        lineage=lineage[:-1] if lineage else lineage,
        head={name: second[0][name] for name in names} | {"steps": second[0]["steps_planned"]}
        if second
        else None,
    )
    left_out = {"not_covered"} | (set() if weights.exists() else {"guarantee", "start"})
    return {name: value for name, value in again.items() if name not in left_out}


def _n_units(cohort: cohorts.Cohort, unit: str, parameters: dict) -> int:
    """Return how many patients, or images of at most so many a patient, are trained on."""
    patients = cohort.table.loc[cohort.table["split"] == "train", "patient_id"]
    if unit == "patient":
        return patients.nunique()
    most = parameters.get("max_images_per_patient") or len(patients)
    return int(patients.value_counts().clip(upper=most).sum())


def _of_register(record: dict) -> claims.Claim:
    """Return whether a private run stands in the register with the steps of its ledger."""
    about, mode = f"run {record['run']}: in the privacy register", record["ledger"]["mode"]
    if mode != "private":
        return claims.Claim(about, claims.HOLDS, f"{mode} mode: nothing is spent or entered")
    try:
        lines = [line for line in register.Register().runs() if line["uuid"] == record.get("uuid")]
    except errors.InputError as error:
        return claims.Claim(about, claims.DIFFERS, str(error))
    if not lines:
        return claims.Claim(about, claims.UNCHECKED, "it is not in the register beside it")
    steps = record["ledger"]["steps_done"]
    return claims.of_parts(about, claims.difference("steps", lines[0]["steps"], steps))


def _of_scores(record: dict, predictions: pd.DataFrame, cohort: cohorts.Cohort) -> claims.Claim:
    """Return whether the weights give the stored scores of some test images."""
    run, about = record["run"], f"run {record['run']}: scores follow from its weights"
    path = paths.run_dir(run) / "weights.safetensors"
    if not path.exists():
        return claims.Claim(about, claims.UNCHECKED, "weights.safetensors is not there")
    try:
        weights, known = weight_files.load_weights(path)
        settings = network_settings.read(cohort.name)
        model = networks.resnet9(
            known,
            settings.channels,
            settings.width,
            0,
            record["parameters"].get("head") or settings.head,
            cohort.images.ndim - 1,
            cohort.lateral,
        ).to(networks.device())
        model.load_state_dict(weights)
    except (errors.InputError, RuntimeError) as error:
        return claims.Claim(about, claims.UNCHECKED, str(error).splitlines()[0])
    rows = np.flatnonzero(cohort.table["split"] == "test")[:MOST_SCORES]
    shifts = prediction.shifts_of(record)
    scores = prediction.predict(model, cohort.images, rows, settings.channels, shifts=shifts)
    stored = predictions.pivot(index="image_id", columns="finding", values="score")
    stored, largest = stored.loc[cohort.table["image_id"].iloc[rows]], 0.0
    for finding in stored:
        columns = start_weights.alike(cohort.canonical[finding], known)
        apart = np.abs(stored[finding].to_numpy() - scores[:, columns].mean(1))
        largest = max(largest, float(apart.max()))
    found = [f"by up to {largest:.2g}"] if largest > SCORE_DIFFERENCE else []
    found += claims.difference(
        "weights_hash", record.get("weights_hash"), weight_files.weights_hash(weights)
    )
    return claims.of_parts(about, found)
