"""What a study would do and how long that would take; nothing is done, and no image is opened.

In: a batch that is not run. Out: lines of text. Raises `InputError` for what its steps would refuse
later, as far as that can be told from tables, numbers and this machine.
"""

import json
from pathlib import Path

import pandas as pd

from helpers.core import errors, files, machine
from helpers.data import build_options, cohorts, manifests
from helpers.study import (
    batches,
    cluster,
    durations,
    notebook_files,
    plan,
    planned_spending,
    slurm,
    study_data,
)


def checks(batch: batches.Batch, where: str | None) -> list[str]:
    """Return what is known of the study's data sets, as lines.

    Args:
        batch: not run.
        where: the cluster; None for this machine.

    Raises:
        InputError: no cluster answers, more DEVICES than this machine has, or what notebooks 01 and
            03 would refuse: files, labels, patients, DELTA, sizes of batches.
    """
    from helpers.data.first_look import check_source

    if where == cluster.SLURM:
        slurm.is_here()
    else:
        with cluster.workers(where, None, batch.results.out):
            pass
    if where is None:
        _check_devices(batch.selected)
    looked_at = study_data.checks(batch.steps[0].parameters)
    _check_promises(batch, looked_at)
    return [line for check in looked_at.values() for line in check_source.lines(check)]


def _check_devices(steps: list[plan.Step]) -> None:
    """Accept DEVICES on a machine without GPU; GPUs are not counted, that needs torch."""
    most = machine.cores()
    for step in steps if not batches.has_gpu() else []:
        if (devices := step.parameters.get("DEVICES", 1)) > most:
            errors.refuse(
                f"at most {most} as DEVICES, the cores of this machine",
                devices,
                "Set fewer, or train on several machines (docs/devices.md).",
            )


def _check_promises(batch: batches.Batch, looked_at: dict) -> None:
    """Accept what the runs of notebook 03 promise to the training patients, as they are before
    identical images are found.

    Raises:
        InputError: one of them promises nothing, or does not fit the number of patients.
    """
    if not any(step.notebook.name.startswith("03") for step in batch.selected):
        return
    rows = _training_rows(batch, looked_at)
    if rows is None:
        return
    runs = planned_spending.parameters_of_runs(batch.steps, batch.results.out)
    name = manifests.name_of(runs[0]["COHORT"])
    for values in runs:
        if name in looked_at and not looked_at[name].manifest.patient_id:
            cohorts.unit_fits(name, {"patients": "unknown"}, values["PRIVACY_UNIT"])
        planned_spending.promise_of(values, rows)


def _training_rows(batch: batches.Batch, looked_at: dict) -> pd.DataFrame | None:
    """Return a row for each training image of the study's cohort, with `patient_id`; None where
    neither its files nor the cohort are at hand.
    """
    first = batch.steps[0]
    values = notebook_files.default_parameters(first.notebook) | first.parameters
    manifest = manifests.read(values["COHORT"])
    built = batch.results.out / "cohort" / manifest.name / "table.parquet"
    if manifest.name in looked_at:
        rows = looked_at[manifest.name].source.rows
    elif manifest.layout.kind == "synthetic":
        from helpers.data.synthetic import generators

        options = build_options.of_patients(
            manifest,
            *(values[name] for name in ("N_PATIENTS", "N_TEST_PATIENTS", "GENERATOR_SEED")),
        )
        options["patients"] = {"train": options["patients"]["train"]}
        rows, _ = generators.draw_source(manifest, options)
    elif built.is_file():
        rows = files.read_parquet(built, cohorts.MADE_BY)
    else:
        return None
    return rows[rows["split"] == "train"]


def plan_lines(batch: batches.Batch, with_parameters: bool) -> list[str]:
    """Return what would be done with each step and how long it takes; what a changed step writes
    decides about those after it.
    """
    lines, changed, to_do, sources = [], set(), [], set()
    for step in batch.selected:
        before, seconds = sorted(changed.intersection(step.needs)), None
        is_new = batch.force or "key" not in batch.results.state(step)
        state = f"decided after {before[0]}" if before and not is_new else "to run"
        if not before and not batch.force and batch.results.is_done(step):
            state = "unchanged"
        else:
            changed.add(step.id)
            seconds = batch.durations.seconds(step)
            to_do.append((step, seconds or 0))
            sources.add(batch.durations.source(step))
        took = "" if seconds is None else f"about {durations.in_words(seconds)}"
        lines.append(f"{step.id:50} {took:12} {state}".rstrip())
        lines += [f"    {json.dumps(step.parameters)}"] if with_parameters else []
    return [*lines, _whole(to_do, sources, batch.jobs)]


def _whole(to_do: list[tuple[plan.Step, float]], sources: set[str], jobs: int) -> str:
    """Return in words how long all will take, and how that is known."""
    if not to_do:
        return "Nothing is left to do: all steps are unchanged."
    whole = f"{len(to_do)} step{'s' * (len(to_do) > 1)} to run"
    whole += f", up to {jobs} side by side" if jobs > 1 else ""
    known = sorted(sources - {durations.NEVER})
    if not known:
        return whole + "; none was timed, in this folder or in expected/."
    seconds = durations.until_all_end({}, to_do, jobs)
    rest = ", without those never timed" if durations.NEVER in sources else ""
    return (
        f"{whole}, together about {durations.in_words(seconds)}{rest} (timed {', '.join(known)})."
    )


def invitation(title: str, out: Path, command: str, lines: list[str]) -> str:
    """Return what a command without arguments says: what it would do, and how to have it done."""
    steps = "\n".join(f"  {line}" for line in lines[:-1])
    return (
        f'Nothing was done. The study "{title}" would run into {out}:\n\n{steps}\n\n'
        f"{lines[-1]}\n\n"
        f"To run it:        {command} --profile demo --out {out}\n"
        f"With parameters:  {command} --profile demo --dry-run\n"
        f"Other studies:    {command} --list"
    )
