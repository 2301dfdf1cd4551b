"""What the private runs of a study will spend together, before any of them is trained.

In: the steps of a study and the privacy register. Out: the planned total in words. Needs no torch.
Raises `InputError` for a study that would exceed its BUDGET.
"""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from helpers.core import errors, files
from helpers.data import cohorts, manifests
from helpers.privacy import (
    composition,
    private_run_files,
    promise,
    register,
    spending,
)
from helpers.study import notebook_files, plan
from helpers.training import audit_plan, learning_rate, recipe_rule


def planned(steps: Collection[plan.Step], out: Path) -> str:
    """Return in words what the private runs of a study will spend together, and with all others on
    the same patients.

    A run that was begun or finished is in the register already. In demo mode nothing is spent, and
    nothing said.

    Args:
        steps: of the study.
        out: its results folder, with the cohort in it.

    Raises:
        InputError: the total exceeds BUDGET, a run promises nothing, or protects patients where
            nobody knows whose an image is.
    """
    planned_runs, audits = _private_runs(steps, out), _audits(steps, out)
    if not planned_runs and not audits:
        return ""
    cohort = [*planned_runs, *audits][0]["COHORT"]
    folder = out / "cohort" / manifests.name_of(cohort)
    recorded = folder / "record.json"
    record = files.read_json(recorded, cohorts.MADE_BY) if recorded.exists() else {}
    for values in planned_runs:
        cohorts.unit_fits(manifests.name_of(cohort), record, values["PRIVACY_UNIT"])
    table = pd.read_parquet(folder / "table.parquet")
    errors.has_columns(
        table,
        ["film_sha256"],
        f"the table of {cohort}, built by an earlier version of this package",
    )
    cohorts.has_pictures(table, record, manifests.name_of(cohort))
    train = table[table["split"] == "train"]
    spent = register.Register(register.folder_of(out))
    films = train["film_sha256"]
    key = spent.enrol(train["patient_id"], films, train.get("pixels_sha256", films)).key
    uuids = {line["uuid"] for line in spent.runs()}
    lines, others = [], spent.runs(spent.sharing(key))
    for values in planned_runs:
        made, chosen = promise_of(values, train)
        note = private_run_files.note_of(out / "runs" / values["run"])
        is_again = "spend again" in values["CONFIRM"]
        if (
            not note
            or note["uuid"] not in uuids
            or (is_again and _is_other(note["identity"], made, values | chosen))
        ):
            lines.append(composition.line_of(made.as_dict()))
    is_real = record.get("access", "private") != "embedded"
    for values in audits if is_real else []:
        promises = _promises_of_audit(values, train, record["findings"])
        lines += audit_plan.lines_to_spend(promises, out / "runs", spent)
    every = [*planned_runs, *audits]
    budgets = [values["BUDGET"] for values in every if values["BUDGET"] is not None]
    composition.check_budget(min(budgets, default=None) if lines else None, others + lines)
    return _in_words(lines, others)


def _private_runs(steps: Collection[plan.Step], out: Path) -> list[dict]:
    """Return the parameters of the private runs of a study, see `parameters_of_runs`.

    A run that leaves noise out spends nothing that could be planned: it has no privacy, as the
    baseline.
    """
    return [
        values
        for values in parameters_of_runs(steps, out)
        if values["MODE"] == "private" and not values["WITHOUT"]
    ]


def parameters_of_runs(steps: Collection[plan.Step], out: Path) -> list[dict]:
    """Return the parameters of a study's runs of notebook 03, with the name of each as `run`.

    PRECISION, PRETRAIN and the network are those of notebook 02, also of one that was run before.
    """
    network = _network(steps, out)
    shared = ("PRECISION", "PRETRAIN", "NETWORK", "WIDTH", "CHANNELS")
    known = {name: network[name] for name in shared if name in network}
    known |= {"HEAD_OF_02": network.get("HEAD")}
    return [
        known | _parameters(step) | {"run": step.outputs[0].parts[1]}
        for step in _steps_of("03", steps)
    ]


def _network(steps: Collection[plan.Step], out: Path) -> dict:
    """Return the settings of notebook 02, also of one that was run before; {} where none is
    needed.
    """
    if baselines := _steps_of("02", steps):
        return _parameters(baselines[0])
    if private := [*_steps_of("03", steps), *_steps_of("06", steps)]:
        cohort = manifests.name_of(_parameters(private[0])["COHORT"])
        settings = out / "runs" / f"{cohort}-network" / "network.json"
        return files.read_json(settings, "Run notebook 02 first.")
    return {}


def _audits(steps: Collection[plan.Step], out: Path) -> list[dict]:
    """Return the parameters of audits that may spend; of real patients each private model does."""
    network = _network(steps, out) if _steps_of("06", steps) else {}
    values_of = [
        {name: network.get(name) for name in ("PRETRAIN", "HEAD")}
        | {"NETWORK": network.get("NETWORK", "resnet9")}
        | _parameters(step)
        for step in _steps_of("06", steps)
    ]
    return [values for values in values_of if values["SPEND_ON_AUDIT"]]


def _promises_of_audit(
    values: dict, train: pd.DataFrame, findings: list[str]
) -> dict[str, promise.Promise]:
    """Return what the private models of an audit promise, by the names of their runs."""
    of_patient = train["patient_id"].value_counts()
    n_eligible = len(audit_plan.eligible_patients(train, findings))
    n_patients = min(values["N_AUDITED"] or n_eligible, n_eligible)
    cohort, most_images = manifests.name_of(values["COHORT"]), int(of_patient.max())
    start_is = recipe_rule.start_of(
        values["PRETRAIN"], values["COHORT"], values["HEAD"], values["HEAD"], values["NETWORK"]
    )
    promises = {}
    for arm in audit_plan.arms(values["EPSILONS"], 0, 0.0):
        if arm.epsilon:
            recipe = audit_plan.private_recipe(
                arm.epsilon, values["DELTA"], n_patients, most_images, start_is
            )
            names = audit_plan.names_of_runs(
                cohort, arm, n_patients, values["N_MODELS"], values["SEED"], values["DELTA"]
            )
            promises |= dict.fromkeys(names, recipe.promise(n_patients, most_images, "private"))
    return promises


def _in_words(new: list[dict], others: list[dict]) -> str:
    """Return in words what new runs spend together, and with the others of the register."""
    announcement = f"This study plans {len(new)} new private run{'s' * (len(new) != 1)}"
    if new:
        announcement += f", together {composition.in_words(new)}"
    if others:
        announcement += (
            f"; with the {len(others)} in {spending.register_in_words()}, together"
            f" {composition.in_words(new + others)}"
        )
    return f"{announcement}."


def _steps_of(number: str, steps: Collection[plan.Step]) -> list[plan.Step]:
    """Return the steps of a notebook."""
    return [step for step in steps if step.notebook.name.startswith(number)]


def _parameters(step: plan.Step) -> dict:
    """Return all parameters of a step, those it leaves as they are included."""
    return notebook_files.default_parameters(step.notebook) | step.parameters


def _is_other(identity: dict, made: promise.Promise, values: dict) -> bool:
    """Return whether a run that was begun differs from what is planned, as far as that can be told
    before its start is known.
    """
    values = values | {
        "AVERAGING": learning_rate.AVERAGING[values["SCHEDULE"]],
        "head": made.as_dict().get("head") or values["HEAD"] or values["HEAD_OF_02"],
        "width": values.get("WIDTH"),
        "network": values.get("NETWORK"),
        "channels": values.get("CHANNELS"),
    }
    declared = {
        name: values[name]
        for name in identity.get("parameters", {})
        if name in values and values[name] is not None
    }
    planned = {
        "promise": made.as_dict(),
        "parameters": declared,
        "data": identity.get("data"),
        "start": identity.get("start"),
    }
    return bool(list(private_run_files.differences(identity, files.plain(planned))))


def promise_of(values: dict, train: pd.DataFrame) -> tuple[promise.Promise, dict]:
    """Return the promise of a private run from the parameters of notebooks 02 and 03, and its
    recipe, see `recipe_rule.settle`.

    Args:
        values: UPPER_CASE name -> value.
        train: the training rows of the cohort's table.
    """
    unit, of_patient = values["PRIVACY_UNIT"], train["patient_id"].value_counts()
    if unit == "image":  # each patient keeps at most so many
        of_patient = of_patient.clip(upper=values["MAX_IMAGES_PER_PATIENT"])
    n_units = len(of_patient) if unit == "patient" else int(of_patient.sum())
    names = ("TRAINED", *recipe_rule.OF_ALL_WEIGHTS, *recipe_rule.OF_HEAD)
    chosen, _ = recipe_rule.settle(
        values["EPSILON"],
        n_units,
        recipe_rule.start_of(
            values["PRETRAIN"],
            values["COHORT"],
            values["HEAD"] or values["HEAD_OF_02"],
            values["HEAD_OF_02"],
            values.get("NETWORK", "resnet9"),
        ),
        **{name: values[name] for name in names},
    )
    clip_norm, batching, head = recipe_rule.batching_of(
        chosen, n_units, values["MAX_IMAGES_PER_PATIENT"]
    )
    settled = promise.settle(
        promise.PrivacyBudget(
            values["EPSILON"],
            values["DELTA"],
            clip_norm,
            allow_weak_delta="weak delta" in values["CONFIRM"],
        ),
        batching,
        unit=unit,
        n_units=n_units,
        most_images=int(of_patient.max()),
        mode=values["MODE"],
        pos_weight="private labels" if values["POS_WEIGHT"] == "private" else values["POS_WEIGHT"],
        head=head,
    )
    return settled, chosen
