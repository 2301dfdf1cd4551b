"""A private run's ledger, computed again from its constants, and held against what else says the
same: its parameters, its cohort, the privacy register.

In: the record of a run, its cohort. Out: claims (`core.claims`).
"""

from collections.abc import Iterator

from helpers.core import claims, paths
from helpers.data import cohorts
from helpers.privacy import privacy_ledger, register
from helpers.training import weight_files

# what ledger and parameters of a run both say of the first part
_PROMISED = ("unit", "n_units", "expected_batch_size", "clip_norm", "delta", "mode")
_PROMISED += ("noise_multiplier", "pos_weight", "views_per_image", "max_images_per_unit")
_OF_PART = ("expected_batch_size", "noise_multiplier", "clip_norm")


def of_ledger(record: dict, cohort: cohorts.Cohort) -> Iterator[claims.Claim]:
    """Yield whether a private run's ledger follows from its constants, its parameters, the cohort
    and the register; of another run, that it promises nothing.

    Args:
        record: of the run.
        cohort: on which it was trained.
    """
    run, entries, parameters = record["run"], record.get("ledger"), record["parameters"]
    promised = ("epsilon_target", "epsilon_spent", "delta", "unit")
    if not entries:
        differences = [
            f"{name} is {record[name]}" for name in promised if record.get(name) is not None
        ]
        differences += ["the arm is dp"] if record["arm"] == "dp" else []
        yield claims.of_parts(f"run {run}: promises nothing", differences)
        return
    again, unchecked = _ledger_again(record, cohort.name)
    differences = claims.difference("", {key: entries.get(key) for key in again}, again)
    lacking = set(privacy_ledger.NOT_COVERED) - set(entries["not_covered"])
    differences += [f"not_covered lacks {name!r}" for name in sorted(lacking)]
    yield claims.of_parts(f"run {run}: ledger follows from its constants", differences, unchecked)
    first = entries.get("parts", [entries])[0]
    said = {name: entries[name] for name in _PROMISED} | {name: first[name] for name in _OF_PART}
    said |= {"steps": first["steps_planned"], "epsilon": entries["epsilon_target"]}
    differences = claims.difference("", said, {name: parameters[name] for name in said})
    spent, target = entries["epsilon_spent"]["PLD"], entries["epsilon_target"]
    of_record = {"epsilon_target": target, "epsilon_spent": spent}
    of_record |= {"delta": entries["delta"], "unit": entries["unit"]}
    differences += claims.difference(
        "the record's", {name: record[name] for name in of_record}, of_record
    )
    if target is not None and (spent is None or spent > target * (1 + claims.RELATIVE)):
        differences.append(f"epsilon {target} was promised, {spent} spent")
    yield claims.of_parts(f"run {run}: ledger is that of its parameters", differences)
    n_units = _n_units(cohort, entries["unit"], parameters)
    yield claims.of_parts(
        f"run {run}: number of units", claims.difference("n_units", entries["n_units"], n_units)
    )
    if entries["mode"] == "private":
        yield _of_register(record)


def _ledger_again(record: dict, cohort: str) -> tuple[dict, str]:
    """Return what the ledger says, but for how the run handled what is not covered, computed from
    its constants; and what could not be, in words.
    """
    entries = record["ledger"]
    first, *second = entries.get("parts", [entries])
    weights = paths.run_dir(record["run"]) / "weights.safetensors"
    ancestors = weight_files.lineage_of(weights) if weights.exists() else None
    is_known = ancestors is not None and ancestors[-1].get("cohort") == cohort
    again = privacy_ledger.ledger(
        **{name: first[name] for name in _OF_PART},
        **{
            name: entries[name]
            for name in ("unit", "n_units", "steps_done", "delta", "mode", "pos_weight")
            + ("max_images_per_unit", "views_per_image")
        },
        steps=first["steps_planned"],
        epsilon=entries["epsilon_target"],
        max_images_per_patient=record["parameters"].get("max_images_per_patient"),
        lineage=ancestors[:-1] if is_known else None,
        head={name: second[0][name] for name in _OF_PART} | {"steps": second[0]["steps_planned"]}
        if second
        else None,
    )
    del again["not_covered"]
    if is_known:
        return again, ""
    of_start = ["start"] + (["guarantee"] if entries["mode"] == "private" else [])
    for name in of_start:
        del again[name]
    return again, f"{' and '.join(of_start)}: its weights do not say what trained them"


def _n_units(cohort: cohorts.Cohort, unit: str, parameters: dict) -> int:
    """Return how many patients, or images of at most so many a patient, are trained on."""
    patients = cohort.table.loc[cohort.table["split"] == "train", "patient_id"]
    if unit == "patient":
        return patients.nunique()
    most = parameters.get("max_images_per_patient") or len(patients)
    return int(patients.value_counts().clip(upper=most).sum())


def is_registered(record: dict) -> bool:
    """Return whether a private run has a line in the register of the results folder."""
    uuid = record.get("uuid")
    return any(line["uuid"] == uuid for line in register.Register().runs())


def _of_register(record: dict) -> claims.Claim:
    """Return whether a private run stands in the register with the steps of its ledger."""
    about, steps = f"run {record['run']}: in the privacy register", record["ledger"]["steps_done"]
    spent = register.Register()
    if not spent.path.exists():
        return claims.Claim(about, claims.UNCHECKED, "the register is not in the folder")
    lines = [line for line in spent.runs() if line["uuid"] == record.get("uuid")]
    differences = [] if lines else ["it has no line there"]
    for line in lines:
        differences += claims.difference("steps", line["steps"], steps)
    return claims.of_parts(about, differences)
