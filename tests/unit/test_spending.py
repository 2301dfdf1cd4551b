"""What a study will spend is said before it is trained, and what was spent after.

A budget refuses in between.
"""

import dataclasses
import json
import subprocess
import sys

import pandas as pd
import private_arms
import pytest

from helpers.core import errors, files, paths
from helpers.privacy import (
    accounting,
    calibration,
    composition,
    private_run_files,
    private_runs,
    register,
    spending,
)
from helpers.study import batches, notebook_files, plan, planned_spending, profiles, step_cache
from helpers.training import recipe_rule

PRIVATE = "synthetic_cxr_private"


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A results folder with a cohort of 90 training patients, two images each."""
    monkeypatch.delenv("PRIVACY_REGISTER", raising=False)
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    table = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(200)],
            "patient_id": [f"p{k // 2}" for k in range(200)],
            "split": ["train"] * 180 + ["test"] * 20,
            "film_sha256": [f"f{k}" for k in range(200)],
        }
    )
    files.write_table(tmp_path / "cohort" / PRIVATE / "table.parquet", table)
    files.write_json(tmp_path / "cohort" / PRIVATE / "record.json", {"access": "embedded"})
    return tmp_path


PLANNED = (
    "03.MODE=private",
    "EPSILONS=[1, 4]",
    "03.EPOCHS=1",
    "03.EXPECTED_BATCH_SIZE=16",
    "03.MAX_IMAGES_PER_PATIENT=8",
)


def steps_of(*settings):
    chosen, lists = profiles.collect(
        profiles.read_profile("smoke"),
        [profiles.read_setting(text) for text in (*PLANNED, *settings)],
    )
    return plan.plan(chosen, lists)


def line(epsilon, n_units=90, unit="patient"):
    """The line of a run of the smoke study."""
    steps = round(n_units / 16)
    return {
        "noise_multiplier": calibration.noise_multiplier_for(epsilon, 1e-3, 16 / n_units, steps),
        "sample_rate": 16 / n_units,
        "steps": steps,
        "n_images": 1 if unit == "patient" else 8,
        "delta": 1e-3,
        "pos_weight": "none",
        "unit": unit,
    }


def test_a_study_says_what_it_plans(out):
    expected = composition.epsilon_together([line(1.0), line(4.0)])[0]
    assert (
        planned_spending.planned(steps_of(), out)
        == f"This study plans 2 new private runs, together epsilon {expected:.4g} per patient at"
        " delta 0.001 (PLD, an upper bound)."
    )
    assert 4 < expected < 5 and not (out / "register" / "spent.jsonl").exists()


def test_patients_cannot_be_protected_where_nobody_knows_whose_an_image_is(out):
    files.write_json(
        out / "cohort" / PRIVATE / "record.json", {"patients": "unknown", "access": "embedded"}
    )
    with pytest.raises(errors.InputError, match="PRIVACY_UNIT = 'image'.*got 'patient'"):
        planned_spending.planned(steps_of(), out)
    assert "new private run" in planned_spending.planned(
        steps_of("EPSILONS=[1]", "03.PRIVACY_UNIT=image"), out
    )


def test_runs_that_leave_noise_out_plan_to_spend_nothing(out):
    chosen, lists = profiles.collect(
        profiles.read_profile("smoke"), [profiles.read_setting(text) for text in PLANNED]
    )
    with_ablation = plan.plan(chosen, lists | {"ablation": True})
    assert len(with_ablation) == len(steps_of()) + 2
    assert planned_spending.planned(with_ablation, out) == planned_spending.planned(steps_of(), out)


def test_each_private_model_of_an_audit_of_real_patients_is_planned_to_spend(out):
    settings = [profiles.read_setting(text) for text in ("03.MODE=private", "EPSILONS=[1]")]
    settings += [
        profiles.read_setting(f"06.{text}") for text in ("SPEND_ON_AUDIT=True", "N_MODELS=6")
    ]
    steps = plan.plan(*profiles.collect(profiles.read_profile("audit"), settings))
    assert "plans 1 new private run," in planned_spending.planned(steps, out)  # drawn patients
    record = {"access": "private", "findings": ["mass"]}
    files.write_json(out / "cohort" / PRIVATE / "record.json", record)
    films = pd.read_parquet(out / "cohort" / PRIVATE / "table.parquet")
    files.write_table(
        out / "cohort" / PRIVATE / "table.parquet",
        films.assign(pixels_sha256=films["film_sha256"], mass=1.0),
    )
    said = planned_spending.planned(steps, out)
    assert "plans 8 new private runs," in said  # six models and one of mislabelled patients more
    with pytest.raises(errors.InputError, match="keep BUDGET = 1.5; got 8 on these patients"):
        planned_spending.planned(
            [
                dataclasses.replace(step, parameters=step.parameters | {"BUDGET": 1.5})
                if step.id.startswith("06")
                else step
                for step in steps
            ],
            out,
        )


def test_demo_mode_plans_to_spend_nothing(out):
    assert planned_spending.planned(steps_of("03.MODE=demo"), out) == ""


def test_image_level_runs_count_for_a_patient_with_all_images(out):
    said = planned_spending.planned(steps_of("EPSILONS=[1]", "03.PRIVACY_UNIT=image"), out)
    expected = composition.epsilon_together([line(1.0, 180, "image")])[0]
    assert f"together epsilon {expected:.4g} per patient" in said and expected > 4


def test_runs_that_are_begun_are_counted_once_and_others_on_the_same_patients_too(out):
    run_register = register.Register()
    patients = run_register.enrol([f"p{k // 2}" for k in range(180)], [f"f{k}" for k in range(180)])
    first = line(1.0) | {"steps_planned": 6, "cohort": PRIVATE, "patients": patients.key}
    run_register.append("begin", "a", run=f"{PRIVATE}-dp-eps1-seed0", **first)
    files.write_json(
        paths.run_dir(f"{PRIVATE}-dp-eps1-seed0") / private_run_files.NOTE,
        {"uuid": "a", "identity": {}},
    )
    alone, both = (
        composition.epsilon_together(lines)[0] for lines in ([line(4.0)], [line(1.0), line(4.0)])
    )
    said = planned_spending.planned(steps_of(), out)
    assert f"plans 1 new private run, together epsilon {alone:.4g} per patient" in said
    assert (
        "with the 1 in the privacy register of this results folder, on these patients, together"
        f" epsilon {both:.4g} per patient" in said
    )
    with pytest.raises(errors.InputError, match="together keep BUDGET"):
        planned_spending.planned(steps_of(f"03.BUDGET={(alone + both) / 2}"), out)


def test_a_run_that_this_register_does_not_know_is_planned_anew(out, monkeypatch):
    files.write_json(
        paths.run_dir(f"{PRIVATE}-dp-eps1-seed0") / private_run_files.NOTE,
        {"uuid": "a", "identity": {}},
    )
    assert "plans 2 new private runs" in planned_spending.planned(steps_of(), out)


@pytest.mark.parametrize(
    "setting, n_new",
    [
        ("03.LEARNING_RATE=0.002", 1),
        ("03.LEARNING_RATE=0.001", 2),
        ("03.SCHEDULE=constant", 2),
        ("02.PRECISION=bfloat16", 2),
        ("WIDTH=16", 2),
        ("HEAD=sided", 2),
    ],
)
def test_what_is_to_be_spent_again_is_planned(out, setting, n_new):
    train = pd.read_parquet(out / "cohort" / PRIVATE / "table.parquet").query("split == 'train'")
    run_register = register.Register()
    values = (
        notebook_files.default_parameters(notebook_files.notebooks()["03"])
        | next(step for step in steps_of() if step.id.startswith("03")).parameters
        | {"PRETRAIN": "synthetic_cxr_public", "HEAD_OF_02": "halves"}
    )
    assert values["EPSILON"] == 1.0
    made, _ = planned_spending.promise_of(values, train)
    run_register.append(
        "begin",
        "a",
        run="r",
        cohort=PRIVATE,
        patients=run_register.enrol(train["patient_id"], train["film_sha256"]).key,
        **composition.line_of(made.as_dict()),
    )
    files.write_json(
        paths.run_dir(f"{PRIVATE}-dp-eps1-seed0") / private_run_files.NOTE,
        {
            "uuid": "a",
            "identity": {
                "promise": made.as_dict(),
                "parameters": {
                    "LEARNING_RATE": 2e-3,
                    "SCHEDULE": "cosine",
                    "AVERAGING": 0.97,
                    "PRECISION": "float32",
                    "width": 8,
                    "head": "halves",
                },
                "data": "d",
                "start": "s",
            },
        },
    )
    assert f"plans {n_new} new private run" in planned_spending.planned(
        steps_of("03.CONFIRM=['spend again']", "03.LEARNING_RATE=0.002", setting), out
    )


def test_a_cohort_of_an_earlier_version_is_refused(out):
    path = out / "cohort" / PRIVATE / "table.parquet"
    files.write_table(path, pd.read_parquet(path).drop(columns="film_sha256"))
    with pytest.raises(
        errors.InputError,
        match=(
            "columns 'film_sha256' in the table of synthetic_cxr_private, built by an earlier"
            " version"
        ),
    ):
        planned_spending.planned(steps_of(), out)


def test_real_data_without_hashes_of_pictures_are_refused_before_anything_is_planned(out):
    record = out / "cohort" / PRIVATE / "record.json"
    for access in ({"access": "private"}, {"access": "public"}, {}):
        files.write_json(record, access)
        with pytest.raises(errors.InputError, match="pixels_sha256.*Run notebook 01 again"):
            planned_spending.planned(steps_of(), out)


def test_a_study_beyond_its_budget_is_refused_before_anything_is_trained(out, monkeypatch):
    both = composition.epsilon_together([line(1.0), line(4.0)])[0]
    assert planned_spending.planned(steps_of(f"03.BUDGET={both + 0.01}"), out)
    with pytest.raises(
        errors.InputError,
        match=(
            r"private runs that together keep BUDGET = 4.1; got 2 on these patients, together"
            r" epsilon 4\.\d"
        ),
    ):
        planned_spending.planned(steps_of("03.BUDGET=4.1"), out)


def test_run_all_announces_before_the_first_training_step_and_stops_there(out, monkeypatch, capsys):
    steps = steps_of("03.BUDGET=4.1")
    batch = batches.Batch(step_cache.Results(out), steps, steps)
    batch.waiting, batch.done, started = batch.steps[1:], {batch.steps[0].id}, []
    monkeypatch.setattr(batch, "start", lambda step, threads: started.append(step.id))
    with pytest.raises(errors.InputError, match="Nothing was trained"):
        batch.run()
    assert started == []
    batch = batches.Batch(step_cache.Results(out), steps_of(), steps_of())
    batch.waiting, batch.done = batch.steps[1:], {batch.steps[0].id}
    monkeypatch.setattr(batch, "start", lambda step, threads: started.append(step.id))
    batch.advance()
    assert "This study plans 2 new private runs" in capsys.readouterr().out and started == [
        "02_baseline_training-seed0"
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"PRIVACY_UNIT": "image", "MAX_IMAGES_PER_PATIENT": 1},
        {"EPOCHS": None, "EXPECTED_BATCH_SIZE": None},
        {"CLIP_NORM": 0.5, "MAX_IMAGES_PER_PATIENT": 2},
        {"DELTA": 0.02, "CONFIRM": ["weak delta"]},
    ],
)
def test_the_promise_planned_is_the_promise_made(out, settings):
    train = pd.read_parquet(out / "cohort" / PRIVATE / "table.parquet").query("split == 'train'")
    values = (
        notebook_files.default_parameters(notebook_files.notebooks()["03"])
        | {"MODE": "private", "DELTA": 1e-3, "EPOCHS": 1, "EXPECTED_BATCH_SIZE": 16}
        | {"PRETRAIN": "synthetic_cxr_public", "HEAD_OF_02": "halves"}
        | settings
    )
    unit, cap = values["PRIVACY_UNIT"], values["MAX_IMAGES_PER_PATIENT"]
    n_units = 90 if unit == "patient" else 90 * min(2, cap)
    chosen, _ = recipe_rule.settle(
        7.89, n_units, EXPECTED_BATCH_SIZE=16 if "EPOCHS" not in settings else None, EPOCHS=None
    )
    is_head = chosen["TRAINED"] == "head"
    assert is_head == ("EPOCHS" in settings)
    expected = private_arms.settle(
        unit=unit,
        n_units=n_units,
        most_images=min(2, cap) if unit == "image" else 2,
        epsilon=7.89,
        delta=values["DELTA"],
        clip_norm=chosen["HEAD_CLIP_NORM"] if is_head else settings.get("CLIP_NORM", 1.0),
        epochs=chosen["HEAD_STEPS"] if is_head else 1,
        expected_batch_size=n_units if is_head else 16,
        max_images_per_patient=cap,
        mode="private",
        allow_weak_delta="weak delta" in values["CONFIRM"],
    )
    assert planned_spending.promise_of(values, train)[0] == expected


def test_the_promise_planned_has_the_steps_of_the_head(out):
    train = pd.read_parquet(out / "cohort" / PRIVATE / "table.parquet").query("split == 'train'")
    values = notebook_files.default_parameters(notebook_files.notebooks()["03"]) | {
        "MODE": "private",
        "DELTA": 1e-3,
        "PRETRAIN": "synthetic_cxr_public",
        "HEAD_OF_02": "halves",
        "EPSILON": 1000.0,  # with so few patients
        "TRAINED": "all_then_head",
        "HEAD_STEPS": 25,
        "HEAD_CLIP_NORM": 0.3,
    }
    made, _ = planned_spending.promise_of(values, train)
    assert (made.head.expected_batch_size, made.head.steps, made.head.clip_norm) == (90, 25, 0.3)
    assert 0.98 * made.epsilon <= accounting.epsilon_of_all(made.runs(), 1e-3) <= made.epsilon
    by_rule = values | {"EPSILON": 1.0, "TRAINED": None}
    alone, _ = planned_spending.promise_of(by_rule, train)
    assert alone.head is None and alone.sample_rate == 1


# ---- what was spent


def record(run, mode, epsilon=1.0, **changes):
    made = private_arms.settle(
        unit="patient",
        n_units=90,
        most_images=2,
        epsilon=epsilon,
        delta=1e-3,
        clip_norm=1.0,
        epochs=1,
        expected_batch_size=16,
        max_images_per_patient=8,
        mode=mode,
    )
    ledger = {
        name: getattr(made, name)
        for name in (
            "unit",
            "n_units",
            "expected_batch_size",
            "noise_multiplier",
            "delta",
            "mode",
            "pos_weight",
        )
    }
    return {
        "run": run,
        "arm": "dp",
        "delta": 1e-3,
        "parameters": made.as_dict(),
        "patients": "key",
        "uuid": run,
        "ledger": ledger | {"steps_planned": made.steps, "steps_done": made.steps},
    } | changes


@pytest.mark.parametrize("arm", ["baseline", "same_recipe", "same_recipe_clipped"])
def test_private_records_that_no_register_knows_are_added_to_those_it_knows(out, arm):
    run_register = register.Register()
    run_register.append(
        "begin",
        "a",
        run="a",
        cohort="c",
        patients="key",
        **composition.line_of(record("a", "private")["parameters"]),
    )
    table, words = spending.spent(
        [
            record("a", "private"),
            record("b", "private", 4.0),
            {"run": "z", "arm": arm, "ledger": None},
        ]
    )
    assert table[["run", "state"]].values.tolist() == [
        ["a", "not ended: counts as planned"],
        ["b", "not in this register"],
    ]
    both = composition.epsilon_together([line(1.0), line(4.0)])[0]
    assert (
        words.startswith(
            "2 private runs in the privacy register of this results folder, on these patients:"
            f" together epsilon {both:.4g} per patient at delta 0.001"
        )
        and spending.NO_BOUND in words
    )


def test_demo_records_are_arithmetic_and_other_systems_unknown(out):
    table, words = spending.spent([record("a", "demo")])
    assert (
        table["state"].tolist() == ["demo: no guarantee"]
        and words.startswith("In demo mode nothing is promised")
        and spending.NO_BOUND not in words
    )
    assert (
        spending.spent([{"run": "z", "arm": "baseline", "ledger": None}])[1]
        == "No private run: nothing was spent."
    )
    earlier = {
        name: value
        for name, value in record("a", "private").items()
        if name not in ("patients", "uuid")
    }
    assert spending.spent([earlier])[0]["state"].tolist() == ["not in this register"]
    assert (
        spending.spent([{"run": "z", "arm": "dp", "ledger": None}])[1]
        == "What these models spent is not known here."
    )


def test_of_run_names_the_patients_shared_with_other_cohorts(out):
    run_register = register.Register()
    first, other = (
        run_register.enrol(["p", "q"], ["f", "g"]),
        run_register.enrol(["p", "r"], ["h", "i"]),
    )
    for uuid, patients in (("a", first), ("b", other)):
        run_register.append(
            "begin",
            uuid,
            run=uuid,
            cohort=uuid,
            patients=patients.key,
            **composition.line_of(record(uuid, "private")["parameters"]),
        )
    table, words = spending.of_run(private_runs.PrivateRun("a", "a", first.key, {}, run_register))
    assert (
        table["run"].tolist() == ["a", "b"]
        and "2 private runs" in words
        and "share patients with this one count as if they were on the same (1 patient ids)"
        in words
    )
    assert "nothing is spent" in spending.of_run(None)[1]


def test_planning_needs_no_torch():
    code = (
        "from helpers.study import planned_spending; import sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.repository_root()).returncode == 0


# ---- nothing private is cleared


@pytest.fixture
def stored(out):
    """A private run, a demo run and the private one's predictions elsewhere, each known as whole.

    And the step that made them.
    """
    names = ["c-dp-eps1-seed0", "other-from-c-dp-eps1-seed0", "c-dp-eps2-seed0"]
    for name in names:
        for file in ("predictions.parquet", "weights.safetensors", "checkpoint.pt"):
            files.write_text(out / "runs" / name / file, "contents")
        files.write_json(
            out / "runs" / name / "record.json",
            {
                "ledger": {"mode": "demo" if "eps2" in name else "private"},
                "uuid": "a",
                "identity": {"a": 1},
            }
            | ({"trained_on": "c"} if "from" in name else {}),
        )
    step = plan.Step(
        "03_x",
        notebook_files.notebooks()["03"],
        {},
        outputs=[out / "runs" / name / file for name in names for file in plan.RUN_FILES],
    )
    step.outputs = [path.relative_to(out) for path in step.outputs]
    folder = step_cache.Results(out)
    files.write_text(out / "notebooks/03_x.ipynb", "page")
    folder.store(step, folder.key(step), 1.0)
    return folder, step, names


@pytest.mark.parametrize("everything", [False, True])
def test_a_step_that_runs_again_keeps_all_of_a_private_run_and_its_checkpoint(stored, everything):
    folder, step, (private, elsewhere, demo) = stored
    for name in (private, elsewhere, demo):
        (folder.out / "runs" / name / "predictions.parquet").write_text("damaged")
    assert not folder.is_done(step)
    folder.clear(step, everything)
    for name in (private, elsewhere):
        assert {path.name for path in (folder.out / "runs" / name).iterdir()} == {
            "predictions.parquet",
            "weights.safetensors",
            "checkpoint.pt",
            "record.json",
        }
    left = {path.name for path in (folder.out / "runs" / demo).glob("*")}
    assert left == (
        set() if everything else {"weights.safetensors", "checkpoint.pt", "record.json"}
    )  # demo mode keeps its habits


def test_the_start_of_a_private_run_stays_too_and_a_damaged_baseline_is_no_obstacle(out):
    for name in ("c-zero_shot", "c-baseline-seed0"):
        files.write_text(out / "runs" / name / "record.json", "{damaged")
    step = plan.Step(
        "02_x",
        notebook_files.notebooks()["02"],
        {},
        outputs=[
            plan.Path("runs", name, "record.json") for name in ("c-zero_shot", "c-baseline-seed0")
        ],
    )
    folder = step_cache.Results(out)
    assert folder.private_runs(step) == set()
    files.write_json(
        out / "runs" / "c-dp-eps1-seed0" / private_run_files.NOTE, {"uuid": "a", "identity": {}}
    )
    folder.clear(step, everything=True)
    assert (out / "runs" / "c-zero_shot").exists() and not (
        out / "runs" / "c-baseline-seed0"
    ).exists()


def test_force_leaves_register_and_private_runs_and_says_so(stored, monkeypatch, capsys):
    folder, step, names = stored
    register.Register(folder.out / "register").append(
        "begin", "a", run="a", patients="key", **line(1.0)
    )
    batch = batches.Batch(folder, [step], [step], force=True)
    monkeypatch.setattr(batches.step_process, "StepProcess", lambda work, threads: None)
    batch.start(step, 1)
    said = capsys.readouterr().out
    assert (
        f"--force leaves {names[0]}, {names[1]} as it is: a private run and its start are read, not"
        " made again" in said
    )
    assert (folder.out / "register" / "spent.jsonl").exists() and (
        folder.out / "runs" / names[0] / "weights.safetensors"
    ).exists()


def test_a_begun_run_is_known_by_its_note_alone(out):
    files.write_json(
        out / "runs" / "c-dp-eps1-seed0" / private_run_files.NOTE, {"uuid": "a", "identity": {}}
    )
    step = plan.Step(
        "03_x",
        notebook_files.notebooks()["03"],
        {},
        outputs=[plan.Path("runs/c-dp-eps1-seed0/record.json")],
    )
    step_cache.Results(out).clear(step, everything=True)
    assert (
        json.loads((out / "runs" / "c-dp-eps1-seed0" / private_run_files.NOTE).read_text())["uuid"]
        == "a"
    )
