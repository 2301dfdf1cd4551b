"""What private runs on the same patients spend together: planned by a study, and spent so far.

In: the steps of a study, or records of runs, and the privacy register. Out: tables and sentences. Needs no torch.
Refuses: a study that would exceed its BUDGET.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from helpers import checks, composition, files, manifests, private_runs, profiles, promise, recipes, register, runs, studies

NO_BOUND = ("A model trained on the same patients without privacy (the baseline) has no bound at all: released beside a private one, "
            "it alone decides what can be learnt of a patient.")


def planned(steps: Collection[studies.Step], out: Path) -> str:
    """Return in words what the private runs of a study will spend together, and with all others on the same patients.

    A run that was begun or finished is in the register already. In demo mode nothing is spent, and nothing said.

    Args:
        steps: of the study.
        out: its results folder, with the cohort in it.

    Raises:
        InputError: the total exceeds BUDGET, or a run promises nothing.
    """
    number = "03"
    defaults = profiles.default_parameters(profiles.notebooks()[number])
    private = [values for step in steps if step.notebook.name.startswith(number)
               for values in [defaults | step.parameters | {"run": step.outputs[0].parts[1]}] if values["MODE"] == "private"]
    if not private:
        return ""
    table = pd.read_parquet(out / "cohort" / manifests.name_of(private[0]["COHORT"]) / "table.parquet")
    checks.has_columns(table, ["film_sha256"], f"the table of {private[0]['COHORT']}, built by an earlier version of this package")
    train, own = table[table["split"] == "train"], register.Register(register.place(out))
    key, known = own.enrol(train["patient_id"], train["film_sha256"]).key, {line["uuid"] for line in own.runs()}
    lines, others = [], own.runs(own.sharing(key))
    for values in private:
        made, note = promise_of(values, train), private_runs.note_of(out / "runs" / values["run"])
        if not note or note["uuid"] not in known or values["SPEND_AGAIN"] and _is_other(note["identity"], made, values):
            lines.append(composition.line_of(made))
    budgets = [values["BUDGET"] for values in private if values["BUDGET"] is not None]
    composition.check_budget(min(budgets, default=None) if lines else None, others + lines)
    said = f"This study plans {len(lines)} new private run{'s' * (len(lines) != 1)}"
    if not lines + others:
        return f"{said}."
    said += f", together {composition.in_words(lines)}" if lines else ""
    return said + (f"; with the {len(others)} in {place_in_words()}, together {composition.in_words(lines + others)}." if others else ".")


def _is_other(identity: dict, made: Mapping, values: dict) -> bool:
    """Return whether a run that was begun differs from what is planned, as far as that can be told before its start is known."""
    declared = {name: values[name] for name in identity.get("parameters", {}) if name in values and values[name] is not None}
    planned = {"promise": dict(made), "parameters": declared, "data": identity.get("data"), "start": identity.get("start")}
    return bool(list(private_runs.differences(identity, files.plain(planned))))


def place_in_words() -> str:
    """Return of which register a total speaks."""
    return "the privacy register" + ("" if os.environ.get("PRIVACY_REGISTER") else " of this results folder") + ", on these patients"


def promise_of(values: dict, train: pd.DataFrame) -> dict:
    """Return the promise of a private run from the parameters of notebook 03.

    Args:
        values: UPPER_CASE name -> value.
        train: the training rows of the cohort's table.
    """
    unit, of_patient = values["PRIVACY_UNIT"], train["patient_id"].value_counts()
    if unit == "image":  # each patient keeps at most so many
        of_patient = of_patient.clip(upper=values["MAX_IMAGES_PER_PATIENT"])
    n_units = len(of_patient) if unit == "patient" else int(of_patient.sum())
    chosen, _ = recipes.settle(values["EPSILON"], n_units, **{name: values[name] for name in ("EXPECTED_BATCH_SIZE", "EPOCHS", "LEARNING_RATE")})
    return promise.settle(
        unit=unit, n_units=n_units, most_images=int(of_patient.max()), epsilon=values["EPSILON"], delta=values["DELTA"],
        clip_norm=values["CLIP_NORM"], epochs=chosen["EPOCHS"], expected_batch_size=chosen["EXPECTED_BATCH_SIZE"],
        max_images_per_patient=values["MAX_IMAGES_PER_PATIENT"], mode=values["MODE"], views_per_image=values["VIEWS_PER_IMAGE"],
        noise_multiplier=values["NOISE_MULTIPLIER"], allow_weak_delta=values["ALLOW_WEAK_DELTA"],
        pos_weight="private labels" if values["POS_WEIGHT"] == "private" else values["POS_WEIGHT"])


def of_run(run: private_runs.PrivateRun | None) -> tuple[pd.DataFrame, str]:
    """Return what all private runs on the patients of a run have spent, this one included: a row a run, and the total in words.

    Args:
        run: of a session; None in demo mode, in which nothing is spent.
    """
    if not run:
        return composition.table([]), "Demo mode: nothing is spent, and nothing entered in the privacy register."
    shared = run.register.sharing(run.patients)
    lines = run.register.runs(shared)
    return composition.table(lines), in_words(lines, shared)


def in_words(lines: Collection[dict], shared: dict[str, str]) -> str:
    """Return the total of private runs on the same patients in a sentence or two.

    Args:
        lines: of the register.
        shared: see `Register.sharing`.
    """
    others = [f"{words}" for key, words in shared.items() if words != "all" and any(line["patients"] == key for line in lines)]
    return f"{len(lines)} private run{'s' * (len(lines) != 1)} in {place_in_words()}: together {composition.in_words(lines)}." + (
        f" Runs on other cohorts that share patients with this one count as if they were on the same ({'; '.join(others)})." if others else "")


def without_privacy(cohort: str) -> str:
    """Return in words which runs of a cohort were trained on the same patients without privacy, for the ledger."""
    names = [record["run"] for record in map(runs.read_record, runs.runs_of(cohort)) if record["arm"] == "baseline"]
    return (", ".join(names) + ": " if names else "none here; ") + NO_BOUND


def spent(records: Collection[dict]) -> tuple[pd.DataFrame, str]:
    """Return what the private runs on the patients of a study spent: a row a run, and the total in words.

    Runs in demo mode spend nothing; where there are no others, the arithmetic is shown for what it would be.

    Args:
        records: of the study's runs; those without privacy are counted in the words.
    """
    with_ledger = [record for record in records if record.get("ledger")]
    private = [record for record in with_ledger if record["ledger"]["mode"] == "private"]
    if not with_ledger:
        is_known = all(record["arm"] != "dp" for record in records)
        return composition.table([]), "No private run: nothing was spent." if is_known else "What these models spent is not known here."
    own, shared = register.Register(), {}
    for record in private:
        shared |= own.sharing(record["patients"]) if "patients" in record else {}
    lines = own.runs(shared) if private else []
    known = {line["uuid"] for line in lines}
    lines += [_line_of_record(record) for record in private or with_ledger if not private or record.get("uuid") not in known]
    words = in_words(lines, shared) if private else (
        f"In demo mode nothing is promised and nothing spent. By the arithmetic alone, the {len(lines)} runs shown have together {composition.in_words(lines)}.")
    return composition.table(lines), f"{words} {NO_BOUND}" if any(record["arm"] == "baseline" for record in records) else words


def _line_of_record(record: dict) -> dict:
    """Return what the register would have of a run that it does not know."""
    entries, cap = record["ledger"], record["parameters"]["max_images_per_patient"]
    why = "not in this register" if entries["mode"] == "private" else "demo: no guarantee"
    return composition.line_of(entries | {"steps": entries["steps_planned"], "max_images_per_patient": cap}, entries["steps_done"]) | {
        "run": record["run"], "time": "", "patients": "", "is_ended": True, "why": why}
