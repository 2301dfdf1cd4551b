"""What a results folder claims of its cohorts and runs, looked at again from their files alone.

In: a cohort's or run's name. Out: claims: files and hashes, who is in which split, the
ledger (`checked_ledgers`), scores predicted anew from the weights. No claim quotes a patient's row.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import claims, files, fingerprints, paths, run_records
from helpers.data import cohorts
from helpers.training import (
    checked_ledgers,
    named_networks,
    network_settings,
    prediction,
    start_weights,
    weight_files,
)

MOST_SCORES = 500  # images predicted again of each run, drawn anew each time
SCORE_DIFFERENCE = 1e-3  # of another machine's arithmetic


def of_cohort(name: str) -> Iterator[claims.Claim]:
    """Yield the claims of a built cohort: its files, its data hash, one split a patient, its
    counts.

    Args:
        name: of its folder.
    """
    folder, about = paths.cohort_dir(name), f"cohort {name}"
    record = files.readable_json(folder / "record.json")
    written = ("images.npy", "table.parquet", "exclusions.csv")
    yield claims.of_parts(f"{about}: files", _changed_files(folder, record, written))
    table = pd.read_parquet(folder / "table.parquet")
    data_hash = cohorts.data_hash(record["files"]["images.npy"], table, record["canonical"])
    yield claims.of_parts(
        f"{about}: data hash", claims.difference("it", record["data_hash"], data_hash)
    )
    n_in_several = int((table.groupby("patient_id")["split"].nunique() > 1).sum())
    yield claims.of_parts(
        f"{about}: every patient in one split",
        [f"{n_in_several:,} patients in several"] if n_in_several else [],
    )
    counts = {"n_images": len(table), "n_patients": table["patient_id"].nunique()}
    said = {key: record.get(key) for key in counts} | {"cohort": record.get("cohort")}
    yield claims.of_parts(
        f"{about}: counts", claims.difference("", said, counts | {"cohort": name})
    )


def of_run(run: str) -> Iterator[claims.Claim]:
    """Yield the claims of a finished run: its files and name, its data, its predictions, its
    ledger, and the scores of its weights.

    A run's model tried on another cohort has the record of that run, which is looked at there.

    Args:
        run: name of its folder.
    """
    record = files.readable_json(paths.run_dir(run) / "record.json")
    is_elsewhere = "trained_on" in record
    yield of_files(run)
    trained = run
    if is_elsewhere:
        trained = run.removeprefix(f"{record['cohort']}-from-")
        yield claims.of_parts(f"run {run}: is the model of a run here", _not_of(trained, record))
    else:
        yield claims.of_parts(f"run {run}: name", claims.difference("it", run, _name_of(record)))
    names = [record["cohort"], record.get("trained_on", record["cohort"])]
    if any(Path(name).name != name for name in names):
        yield claims.Claim(f"run {run}: its cohort", claims.DIFFERS, "its name is a path")
        return
    if not paths.cohort_dir(record["cohort"]).is_dir():
        yield claims.Claim(f"run {run}: its cohort", claims.UNCHECKED, "it is not in the folder")
        return
    cohort, predictions = cohorts.read(record["cohort"]), run_records.read_predictions(run)
    yield claims.of_parts(
        f"run {run}: is of this cohort",
        claims.difference("its data hash", record["data_hash"], cohort.record["data_hash"]),
    )
    path = paths.run_dir(trained) / "weights.safetensors"
    known = weight_files.load_weights(path)[1] if path.exists() else None
    yield of_predictions(run, predictions, cohort, known if is_elsewhere else None)
    if not is_elsewhere:
        yield from checked_ledgers.of_ledger(record, cohort)
    yield of_scores(record, trained, predictions, cohort)


def of_files(run: str) -> claims.Claim:
    """Return whether a run's files are those whose hashes its record has."""
    folder = paths.run_dir(run)
    record = files.readable_json(folder / "record.json")
    written = ("predictions.parquet",)
    written += () if "trained_on" in record else ("weights.safetensors",)
    return claims.of_parts(f"run {run}: files", _changed_files(folder, record, written))


def _changed_files(folder: Path, record: dict, written: tuple[str, ...]) -> list[str]:
    """Return in words the files that are not those of a record."""
    recorded = record.get("files", {})
    return ["record.json cannot be read"] * (not record) + [
        f"{name} is not what was written" if (folder / name).exists() else f"{name} is not there"
        for name in dict.fromkeys([*written, *recorded])
        if not (folder / name).exists()
        or recorded.get(name) != fingerprints.file_hash(folder / name)
    ]


def _name_of(record: dict) -> str:
    """Return the name that follows from what a run is."""
    return run_records.run_name(
        record["cohort"],
        record["arm"],
        record["seed"],
        record["epsilon_target"] or record.get("recipe_of_epsilon"),
        record["recipe"],
        record["unit"] or record.get("recipe_of_unit") or "patient",
    )


def _not_of(run: str, record: dict) -> list[str]:
    """Return in words how the record of a model tried elsewhere differs from that of its run."""
    own = ("run", "cohort", "trained_on", "data_hash", "files")
    of_run = files.readable_json(paths.run_dir(run) / "record.json")
    if Path(run).name != run or not of_run:
        return ["that run is not here"]
    said, again = (
        {key: value for key, value in one.items() if key not in own} for one in (record, of_run)
    )
    return claims.difference("", said, again) + claims.difference(
        "trained_on", record["trained_on"], of_run["cohort"]
    )


def of_predictions(
    run: str, predictions: pd.DataFrame, cohort: cohorts.Cohort, known: list[str] | None
) -> claims.Claim:
    """Return whether predictions are of each valid and test image of a cohort, once a finding, with
    its labels, patients and splits, and of nobody trained on.

    Args:
        run: its name.
        predictions: see `run_records.read_predictions`.
        cohort: whose patients were predicted.
        known: canonical names that the model knows; None: all findings of the cohort.
    """
    table = cohort.table[cohort.table["split"].isin(["valid", "test"])].set_index("image_id")
    findings = [
        finding
        for finding in cohort.findings
        if known is None or start_weights.alike(cohort.canonical[finding], known)
    ]
    shown = list(predictions["finding"].unique())
    differences = claims.difference("its findings", sorted(shown), sorted(findings))
    for finding, part in predictions.groupby("finding"):
        if set(part["image_id"]) != set(table.index) or len(part) != len(table):
            n = len(set(table.index) - set(part["image_id"]))
            differences.append(f"{finding}: {len(part):,} images, {n:,} of {len(table):,} lack")
            continue
        rows = table.loc[part["image_id"]]
        for column in ("patient_id", "split"):
            n = int((rows[column].to_numpy() != part[column].to_numpy()).sum())
            differences += [f"{finding}: another {column} in {n:,} rows"] if n else []
        labels = rows[finding].to_numpy(float) if finding in table else np.full(len(rows), np.inf)
        is_other = ~np.isclose(labels, part["label"].to_numpy(float), equal_nan=True)
        differences += [f"{finding}: {is_other.sum():,} other labels"] if is_other.any() else []
    about = f"run {run}: predictions are of the cohort's valid and test"
    return claims.of_parts(about, differences)


def of_scores(
    record: dict, trained: str, predictions: pd.DataFrame, cohort: cohorts.Cohort
) -> claims.Claim:
    """Return whether weights give the stored scores, of images drawn anew each time.

    Args:
        record: of the run.
        trained: the run whose weights they are: itself, or the one that was tried on this cohort.
        predictions: of the run.
        cohort: whose patients were predicted.
    """
    about = f"run {record['run']}: scores follow from its weights"
    path = paths.run_dir(trained) / "weights.safetensors"
    if not path.exists():
        return claims.Claim(about, claims.UNCHECKED, "the weights are not there")
    private = record.get("trained_on", cohort.name)
    needed = (network_settings.path_of(private), paths.cohort_dir(private) / "record.json")
    if not all(file.exists() for file in needed):
        return claims.Claim(about, claims.UNCHECKED, "the network or its cohort is not described")
    weights, known = weight_files.load_weights(path)
    settings = network_settings.read(private)
    head = record["parameters"].get("head")
    model = named_networks.network(
        settings.network,
        known,
        cohort.images.shape[1:],
        channels=settings.channels,
        width=settings.width,
        # else the second part of the promise
        head=head if isinstance(head, str) else settings.head,
        lateral=cohorts.read(private).lateral,
    )
    model.load_state_dict(weights)
    rows = np.flatnonzero(cohort.table["split"].isin(["valid", "test"]))
    n_images, shifts = len(rows), prediction.shifts_of(record)
    rows = np.sort(np.random.default_rng().permutation(rows)[:MOST_SCORES])
    scores = prediction.predict(model, cohort.images, rows, settings.channels, shifts=shifts)
    stored = predictions.pivot(index="image_id", columns="finding", values="score")
    stored = stored.reindex(cohort.table["image_id"].iloc[rows])
    differences = []
    for finding in stored:
        columns = start_weights.alike(cohort.canonical[finding], known)
        again = scores[:, columns].mean(1) if columns else np.full(len(rows), np.nan)
        apart = np.abs(stored[finding].to_numpy() - again)
        if not (apart <= SCORE_DIFFERENCE).all():  # NaN, a score that lacks, differs
            differences.append(f"{finding} by up to {np.nan_to_num(apart, nan=1.0).max():.2g}")
    differences += claims.difference(
        "weights_hash", record.get("weights_hash"), weight_files.weights_hash(weights)
    )
    claim = claims.of_parts(about, differences)
    if claim.verdict == claims.HOLDS:
        return claims.Claim(about, claims.HOLDS, f"{len(rows):,} of {n_images:,} images")
    return claim
