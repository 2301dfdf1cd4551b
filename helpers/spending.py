"""What private runs on the same patients spend together: planned by a study, and spent so far.

In: the steps of a study, or records of runs, and the privacy register. Out: tables and sentences. Needs no torch.
Refuses: a study that would exceed its BUDGET.
"""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from helpers import manifests, private_runs, profiles, promise, recipes, register, runs, studies

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
    train, own, lines = table[table["split"] == "train"], register.Register(register.place(out)), []
    for values in private:
        if not private_runs.note_of(out / "runs" / values["run"]):
            lines.append(register.line_of(promise_of(values, train)))
    delta, budgets = min(values["DELTA"] for values in private), [values["BUDGET"] for values in private if values["BUDGET"] is not None]
    others = own.runs(own.sharing(own.enrol(train["patient_id"], train["film_sha256"])))
    together = private_runs.check_budget(min(budgets, default=None) if lines else None, others + lines, delta)
    said = f"This study plans {len(lines)} new private run{'s' * (len(lines) != 1)}"
    if lines and others:
        said += f", together epsilon {register.epsilon_together(lines, delta):.4g}"
    return said + (f"; with the {len(others)} on these patients in the register" if others else "") \
        + f", together epsilon {together:.4g} per patient at delta {delta:g} (an upper bound)."


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
        noise_multiplier=values["NOISE_MULTIPLIER"], allow_weak_delta=values["ALLOW_WEAK_DELTA"])


def of_run(run: private_runs.PrivateRun | None, delta: float) -> tuple[pd.DataFrame, str]:
    """Return what all private runs on the patients of a run have spent, this one included: a row a run, and the total in words.

    Args:
        run: of a session; None in demo mode, in which nothing is spent.
        delta: of the study.
    """
    if not run:
        return register.table([], delta), "Demo mode: nothing is spent, and nothing entered in the privacy register."
    shared = run.register.sharing_key(run.patients)
    lines = run.register.runs(shared)
    return register.table(lines, delta), in_words(lines, delta, [words for words in shared.values() if words != "all"])


def in_words(lines: Collection[dict], delta: float, shared: Collection[str] = ()) -> str:
    """Return the total of private runs on the same patients in a sentence or two."""
    counted = f"{len(lines)} private run{'s' * (len(lines) != 1)} on these patients: together epsilon {register.epsilon_together(lines, delta):.4g} " \
              f"per patient at delta {delta:g} (PLD, an upper bound)."
    return counted + (f" Runs on other cohorts that share patients with this one count as if they were on the same ({'; '.join(shared)})." if shared else "")


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
        return register.table([], 1e-5), "No private run: nothing was spent." if is_known else "What these models spent is not known here."
    shown, own = private or with_ledger, register.Register()
    delta, shared = min(record["delta"] for record in shown), {}
    for record in private:
        shared |= own.sharing_key(record["patients"])
    lines = own.runs(shared) if private else []
    known = {line["uuid"] for line in lines}
    for record in shown:
        if not private or record["uuid"] not in known:
            entries = record["ledger"]
            promised = entries | {"steps": entries["steps_planned"], "max_images_per_patient": record["parameters"]["max_images_per_patient"]}
            lines.append(register.line_of(promised, entries["steps_done"]) | {
                "run": record["run"], "time": "", "is_ended": True, "why": "in no register here" if private else "demo: no guarantee"})
    words = in_words(lines, delta, [words for words in shared.values() if words != "all"])
    if not private:
        words = f"In demo mode nothing is promised and nothing spent. By the arithmetic alone, {words}"
    return register.table(lines, delta), f"{words} {NO_BOUND}" if any(record["arm"] == "baseline" for record in records) else words
