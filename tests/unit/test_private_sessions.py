"""Private runs from session to record.

Every field of it, and what neither a kill nor a foreign checkpoint can do.
"""

import dataclasses
import itertools
import shutil

import private_arms
import pytest
import torch
from torch import nn

from helpers.core import errors, files, fingerprints, paths, progress, run_records
from helpers.privacy import (
    accounting,
    attack_bounds,
    calibration,
    lineage,
    privacy_ledger,
    register,
    statement,
)
from helpers.training import (
    finished_runs,
    loop,
    network_settings,
    same_films,
    training_session,
    training_set,
    weight_files,
)

RUN = "small-dp-eps5-seed4"
PUBLIC = {"cohort": "public", "patients": "0" * 64}


def network():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.Mish(), nn.Linear(4, 2))


def arm_of(cohort, frozen=False, **changes):
    model = network()
    model[1].requires_grad_(not frozen)
    settings = (
        dict(
            channels=1,
            epsilon=5.0,
            delta=1e-4,
            clip_norm=0.7,
            epochs=3,
            expected_batch_size=10,
            max_images_per_patient=2,
            physical_batch_size=7,
            mode="private",
            seed=4,
            lineage=[PUBLIC],
        )
        | changes
    )
    unit = settings.pop("unit", "patient")
    data = training_set.TrainingSet.of(
        cohort, unit, settings["max_images_per_patient"] if unit == "image" else None
    )
    return private_arms.private_arm(data, model, **settings)


def begin(cohort, arm=None, run=RUN, session=None, **changes):
    """A session as another kernel would begin it: with a network and an arm of its own."""
    arm = arm or arm_of(cohort, **changes)
    return training_session.Session(
        run,
        arm.model,
        arm,
        **dict(epochs=arm.steps // arm.steps_per_epoch, learning_rate=3e-3, parameters={"SEED": 4})
        | (session or {}),
    )


def train(session, epochs=None):
    for _ in itertools.islice(loop.epochs_left(session), epochs):
        loop.train_one_epoch(session)
        session.end_epoch(valid_auroc=0.5)
    return session


def finish(session, cohort, **changes):
    return finished_runs.finish(
        session.model,
        cohort,
        1,
        **dict(
            run=session.run,
            arm="dp",
            seed=4,
            parameters=session.arm.promise.as_dict(),
            seconds=1.0,
            fingerprint=session.fingerprint,
            ledger=session.arm.ledger(),
            history=session.history,
            start=session.arm.lineage,
            private_run=session.private,
        )
        | changes,
    )


def events():
    """The register as it is: event and steps of each line."""
    return [(line["event"], line["steps"]) for line in register.Register().lines()]


def weights(run=RUN):
    return fingerprints.file_hash(paths.run_dir(run) / "weights.safetensors")


# ---- the record


@pytest.mark.parametrize("unit", ["patient", "image"])
def test_every_field_of_a_finished_private_record_is_what_was_promised(mixed_cohort, results, unit):
    table = mixed_cohort.table[mixed_cohort.table["split"] == "train"]
    n_units = (
        40 if unit == "patient" else int(table.groupby("patient_id").size().clip(upper=2).sum())
    )
    steps, q = 3 * round(n_units / 10), 10 / n_units
    public = lineage.of_training("public", register.Register().enrol(["q"], ["film of q"]))
    arm = arm_of(
        mixed_cohort,
        unit=unit,
        lineage=[public],
        views_per_image=2,
        weighting=("public", torch.tensor([2.0, 0.5])),
    )
    start = weight_files.weights_hash(arm.model.state_dict())
    session = train(begin(mixed_cohort, arm))
    finish(session, mixed_cohort, recipe="other", made_from={"x": 1})
    sigma = calibration.noise_multiplier_for(5.0, 1e-4, q, steps)
    spent = {
        name: accounting.epsilon_spent(sigma, q, steps, 1e-4, name)
        for name in accounting.ACCOUNTANTS
    }
    ledger = {
        "guarantee": "valid",
        "unit": unit,
        "adjacency": privacy_ledger._ADJACENCY[unit],
        "start": "trained on public",
        "sampler": f"Poisson over {unit}s",
        "n_units": n_units,
        "expected_batch_size": 10,
        "sample_rate": q,
        "steps_planned": steps,
        "steps_done": steps,
        "noise_multiplier": sigma,
        "clip_norm": 0.7,
        "max_images_per_unit": 2 if unit == "patient" else 1,
        "views_per_image": 2,
        "delta": 1e-4,
        "epsilon_target": 5.0,
        "quoted_accountant": "PLD",
        "epsilon_spent": spent,
        "attack_bounds": attack_bounds.attack_bounds((accounting.Run(sigma, q, steps),)),
        "mode": "private",
        "generator": privacy_ledger._GENERATOR["private"],
        "pos_weight": "public",
        "not_covered": (
            privacy_ledger.NOT_COVERED
            | {
                "class weights": "from public data, which the promise need not cover",
                "merged patients": "not counted",
            }
        ),
    }
    if unit == "image":
        ledger["epsilon_of_patient"] = {
            n: accounting.epsilon_for_patient(sigma, q, steps, 1e-4, int(n))
            for n in ("2", "4", "10")
        }
    promise = dict(
        unit=unit,
        n_units=n_units,
        expected_batch_size=10,
        steps=steps,
        clip_norm=0.7,
        delta=1e-4,
        epsilon=5.0,
        mode="private",
        views_per_image=2,
        pos_weight="public",
        max_images_per_unit=ledger["max_images_per_unit"],
        max_images_per_patient=2,
        noise_multiplier=sigma,
    )
    patients = register.Register().enrol(table["patient_id"], mixed_cohort.films()[table.index]).key
    private_ancestor = lineage.of_training(
        "small", register.Register().patients(patients), is_private=True
    )
    record, line = run_records.read_record(RUN), register.Register().runs()[0]
    assert record == {
        "run": RUN,
        "cohort": "small",
        "arm": "dp",
        "epsilon_target": 5.0,
        "epsilon_spent": spent["PLD"],
        "delta": 1e-4,
        "unit": unit,
        "seed": 4,
        "recipe": "other",
        "parameters": promise,
        "seconds": 1.0,
        "ledger": ledger,
        "data_hash": "small",
        "made_from": {"x": 1},
        "fingerprint": fingerprints.fingerprint(record["identity"]),
        "weights_hash": weight_files.weights_hash(session.model.state_dict()),
        "history": [{"epoch": epoch, "valid_auroc": 0.5} for epoch in (1, 2, 3)],
        "uuid": line["uuid"],
        "patients": patients,
        "identity": {
            "promise": promise,
            "data": arm.data.content_hash(),
            "start": start,
            "parameters": {
                "SEED": 4,
                "POS_WEIGHTS": [2.0, 0.5],
                "LEARNING_RATE": 3e-3,
                "SCHEDULE": "cosine",
                "AVERAGING": 0.0,
                "PRECISION": "float32",
                "trained": ["1.weight", "1.bias", "3.weight", "3.bias"],
            },
        },
        "files": {
            name: fingerprints.file_hash(paths.run_dir(RUN) / name)
            for name in ("predictions.parquet", "weights.safetensors")
        },
        **{name: record[name] for name in ("versions", "commit", "hardware")},
    }
    assert line | {"time": ""} == {
        "event": "begin",
        "uuid": record["uuid"],
        "time": "",
        "run": RUN,
        "cohort": "small",
        "patients": patients,
        "unit": unit,
        "noise_multiplier": sigma,
        "sample_rate": q,
        "steps_planned": steps,
        "steps": steps,
        "delta": 1e-4,
        "n_images": 2 if unit == "image" else 1,
        "noted": steps,
        "is_ended": True,
        "why": "finished",
        "pos_weight": "public",
        "session": session.private.session,
    }
    assert (
        weight_files.hash_of_file(paths.run_dir(RUN) / "weights.safetensors")
        == record["weights_hash"]
        != start
    )
    assert weight_files.lineage_of(paths.run_dir(RUN) / "weights.safetensors") == [
        public,
        private_ancestor,
    ]


def test_private_weights_are_not_written_without_their_private_run(small_cohort, results):
    session = train(begin(small_cohort))
    with pytest.raises(
        errors.InputError, match="the private run of the session of small-dp-eps5-seed4; got none"
    ):
        finish(session, small_cohort, private_run=None)
    assert not (paths.run_dir(RUN) / "weights.safetensors").exists()


def test_weights_are_in_the_register_before_they_are_on_disk(small_cohort, results, monkeypatch):
    session, seen = begin(small_cohort), []
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)  # without a checkpoint
    save = weight_files.save_weights

    def killed(*arguments):
        seen.append(events())
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(weight_files, "save_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        finish(session, small_cohort)
    assert seen == [[("begin", 12), ("checkpoint", 12)]]
    training_session._live.clear()
    with pytest.raises(
        errors.InputError, match="12 steps written to a checkpoint that is damaged or gone"
    ):
        begin(small_cohort)  # nothing is begun anew in silence beside these weights


def test_a_private_checkpoint_holds_what_going_on_needs_and_nothing_else(small_cohort, results):
    session = train(begin(small_cohort), 1)
    stored = torch.load(session.checkpoint, weights_only=True)
    assert set(stored) == {
        "fingerprint",
        "uuid",
        "identity",
        "model",
        "optimizer",
        "step",
        "seconds",
        "mean_weights",
        "history",
        "loss_sum",
        "n_images",
        "diagnostics",
        "of_head",
    }
    assert set(stored["model"]) == {"1.weight", "1.bias", "3.weight", "3.bias"} and set(
        stored["optimizer"]
    ) == {"state", "param_groups"}
    assert {name for of_one in stored["optimizer"]["state"].values() for name in of_one} == {
        "step",
        "exp_avg",
        "exp_avg_sq",
        "mu_product",
    }
    assert (stored["step"], stored["loss_sum"], stored["n_images"], stored["diagnostics"]) == (
        4,
        0,
        0,
        [],
    )
    assert (
        stored["history"] == [{"epoch": 1, "valid_auroc": 0.5}]
        and stored["identity"] == session.private.identity
    )


@pytest.mark.parametrize("mode, shown", [("private", [4, 8, 12]), ("demo", list(range(1, 13)))])
def test_private_progress_is_shown_at_the_end_of_an_epoch_only(small_cohort, results, mode, shown):
    # The time of a single step tells how many patients it drew.
    session, seen = begin(small_cohort, mode=mode), []
    session.show_progress = lambda: seen.append(session.step)
    train(session)
    assert seen == shown


@pytest.mark.parametrize("mode", ["private", "demo"])
def test_progress_tells_the_expected_images_of_a_step_whatever_was_drawn(
    mode, small_cohort, results, monkeypatch
):
    told, write = [], files.write_json
    monkeypatch.setenv(progress.VARIABLE, str(results / "told"))
    monkeypatch.setattr(progress, "SECONDS", 0)

    def write_and_keep(path, content, *more, **named):
        told.extend([content] if path.name == "told" else [])
        write(path, content, *more, **named)

    monkeypatch.setattr(files, "write_json", write_and_keep)
    session = train(begin(small_cohort, mode=mode))
    train_images = small_cohort.table[small_cohort.table["split"] == "train"]
    per_patient = train_images.groupby("patient_id").size()
    assert per_patient.max() > 2 == session.arm.promise.max_images_per_unit
    expected = 10 / 40 * per_patient.clip(upper=2).sum()  # at most two images of a patient
    assert {content["images_a_piece"] for content in told[1:]} == {expected}
    steps = [4, 8, 12] if mode == "private" else range(1, 13)
    assert [content["done"] for content in told] == [0, *steps, 12]
    assert session.images_a_step == expected


def test_progress_of_a_run_that_goes_on_begins_where_it_was(small_cohort, results, monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, str(results / "told"))
    train(begin(small_cohort), epochs=1)
    session = begin(small_cohort)
    session.begin_progress()
    told = files.readable_json(results / "told")
    assert (told["done"], told["total"], told["rate"]) == (4, 12, None)


def test_speed_of_a_private_run_that_was_stopped_within_an_epoch_is_of_no_few_steps(
    small_cohort, results, monkeypatch
):
    monkeypatch.setenv(progress.VARIABLE, str(results / "told"))
    session, step = begin(small_cohort, mode="private"), loop._train_one_step

    def stop_after_three(stepped):
        if stepped.step == 3:
            raise KeyboardInterrupt
        step(stepped)

    monkeypatch.setattr(loop, "_train_one_step", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        train(session)
    monkeypatch.setattr(loop, "_train_one_step", step)
    session = begin(small_cohort, mode="private")
    assert session.step == 3
    train(session, epochs=1)
    assert session._bar.initial == 4  # the end of the epoch, from which the next ones are timed


# ---- one session, one process, one count


def test_the_count_never_falls_nor_exceeds_the_plan(small_cohort):
    arm = arm_of(small_cohort)
    arm.go_on_after(5)
    for wrong in (4, 13, -1):
        with pytest.raises(errors.InputError, match="5 to 12 steps released before"):
            arm.go_on_after(wrong)
    assert arm.steps_done == 5


# ---- taken up, or refused


def test_a_checkpoint_of_another_run_of_the_same_promise_is_not_taken_up(small_cohort, results):
    first, other = train(begin(small_cohort), 1), train(begin(small_cohort, run="small-other"), 2)
    assert first.fingerprint == other.fingerprint and first.private.uuid != other.private.uuid
    shutil.copy(other.checkpoint, first.checkpoint)
    lines = events()
    for session in ({}, {"budget": 900.0}):
        with pytest.raises(errors.InputError, match="a checkpoint of another private run"):
            begin(small_cohort, session=session)
    assert events() == lines
    again = begin(small_cohort, session={"spend_again": True})
    assert (
        not again.resumed
        and again.step == 0
        and weight_files.weights_hash(again.model.state_dict()) == again.arm.start
        and not again.checkpoint.exists()
    )


@pytest.mark.parametrize(
    "change", [{"identity": {"promise": {}}}, {"identity": None}, {"uuid": None}]
)
def test_a_changed_checkpoint_is_refused_where_steps_are_known(small_cohort, results, change):
    session = train(begin(small_cohort), 1)
    torch.save(torch.load(session.checkpoint, weights_only=True) | change, session.checkpoint)
    with pytest.raises(
        errors.InputError,
        match=(
            "a checkpoint that is not as it was written|4 steps written to a checkpoint that is"
            " damaged"
        ),
    ):
        begin(small_cohort)
    assert [line["noted"] for line in register.Register().runs()] == [4]


def test_a_kill_between_checkpoint_and_the_next_keeps_the_checkpoint_of_the_resumed_step(
    small_cohort, results
):
    session = train(begin(small_cohort), 1)
    stored = fingerprints.file_hash(session.checkpoint)
    for _ in range(2):  # restarted, and killed again before its next checkpoint
        again = begin(small_cohort)
        assert again.step == 4 and fingerprints.file_hash(again.checkpoint) == stored
        again.arm.set_gradients()
        training_session._live.clear()
    assert [line["noted"] for line in register.Register().runs()] == [4]


def test_after_a_kill_between_record_and_end_the_record_wins_over_the_checkpoint(
    small_cohort, results, monkeypatch
):
    session = train(begin(small_cohort))
    shutil.copy(session.checkpoint, results / "kept.pt")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session.private, "end", killed)
    with pytest.raises(KeyboardInterrupt):
        finish(session, small_cohort)
    shutil.copy(results / "kept.pt", session.checkpoint)
    record, weights_hash = run_records.read_record(RUN), weights()
    again = begin(small_cohort)
    assert (
        again.is_read
        and again.step == 12
        and list(loop.epochs_left(again)) == []
        and not again.checkpoint.exists()
    )
    assert weight_files.weights_hash(again.model.state_dict()) == record["weights_hash"]
    with pytest.raises(errors.InputError, match="at most the 12 planned steps"):
        loop.train_one_epoch(again)
    finish(again, small_cohort)
    assert (run_records.read_record(RUN), weights()) == (record, weights_hash)
    assert events()[-1] == ("end", 12) and [event for event, _ in events()].count("begin") == 1


@pytest.mark.parametrize(
    "what, said",
    [
        (dict(epochs=4), "steps"),
        (dict(unit="image", max_images_per_patient=4), "unit"),
        (dict(session=dict(schedule="constant")), "SCHEDULE"),
        (dict(session=dict(averaging=0.5)), "AVERAGING"),
        (dict(weighting=("none", torch.ones(2))), "POS_WEIGHTS"),
        (dict(frozen=True), "trained"),
    ],
)
def test_a_run_of_another_identity_is_refused_and_says_what_differs(
    small_cohort, results, what, said
):
    train(begin(small_cohort), 1)
    lines = events()
    with pytest.raises(
        errors.InputError, match=f"as it was begun; got a run that differs in .*{said} [(]"
    ):
        begin(small_cohort, **what)
    assert events() == lines


def test_steps_of_a_checkpoint_that_a_kill_kept_from_the_register_count_when_it_is_given_up(
    small_cohort, results, monkeypatch
):
    session = train(begin(small_cohort), 1)
    loop.train_one_epoch(session)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(session.private, "before_checkpoint", killed)
        session.save()
    training_session._live.clear()  # with its kernel
    begin(small_cohort, clip_norm=0.8, session={"spend_again": True})
    assert [line["steps"] for line in register.Register().runs()] == [8, 12]


# ---- weights that saw the patients


def test_a_session_refuses_weights_that_saw_the_patients(small_cohort, results):
    patients = register.Register().enrol(*small_cohort.training_patients())
    for ancestor in (
        lineage.of_training("small", patients),
        lineage.of_training("renamed", patients),
        lineage.of_training("renamed", patients, is_private=True),
    ):
        for chain in ([ancestor], [ancestor, PUBLIC], [PUBLIC, ancestor, {}]):
            with pytest.raises(
                errors.InputError,
                match=(
                    f"PRETRAIN that has not seen small; got weights trained on {ancestor['cohort']}"
                ),
            ):
                begin(small_cohort, lineage=chain)
    assert events() == []


def test_an_unknown_origin_makes_guarantee_and_statement_conditional(small_cohort, results):
    for chain, is_known in (
        (None, False),
        ([{}], False),
        ([{}, PUBLIC], False),
        ([PUBLIC], True),
        ([], True),
    ):
        ledger = arm_of(small_cohort, lineage=chain).ledger()
        assert (
            ledger["guarantee"] == "valid"
            if is_known
            else ledger["guarantee"].startswith("valid only if the start never saw these patients")
        )
        said = (
            "holds only if the weights it started from never saw these patients (start of unknown"
            " origin)"
        )
        assert (said in statement.privacy_statement(ledger)) != is_known
    arm = private_arms.private_arm(
        training_set.TrainingSet.of(small_cohort, "patient"),
        network(),
        channels=1,
        epsilon=5.0,
        delta=1e-4,
        clip_norm=0.7,
        epochs=3,
        expected_batch_size=10,
        max_images_per_patient=2,
        physical_batch_size=7,
        mode="private",
        seed=4,
    )
    untold = arm.promise.as_dict()
    # who says nothing of the start, knows nothing
    for ledger in (arm.ledger(), privacy_ledger.ledger(**untold, steps_done=0)):
        assert ledger["guarantee"].startswith("valid only if the start never saw these patients")


# ---- the register


def test_a_register_that_cannot_be_written_lets_no_step_be_made(small_cohort, results, monkeypatch):
    session = train(begin(small_cohort), 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(register.os, "write", full)
    with pytest.raises(errors.InputError, match="a privacy register in .*; got .*No space left"):
        begin(small_cohort, run="small-second")
    stored = fingerprints.file_hash(session.checkpoint)
    loop.train_one_epoch(session)
    with pytest.raises(errors.InputError, match="a privacy register in"):
        session.save()
    assert fingerprints.file_hash(session.checkpoint) == stored


def test_a_private_session_is_refused_before_the_register_knows_it_and_a_demo_counts(
    small_cohort, results, monkeypatch
):
    small_cohort.record["access"] = "embedded"
    settings = network_settings.NetworkSettings("none", "tried", 8, 1, "pooled", "float32", 64)
    network_settings.write("small", settings)
    is_shared = small_cohort.table["split"] == "train"
    tried = dataclasses.replace(
        small_cohort,
        name="tried",
        table=small_cohort.table[is_shared][:3].assign(split="test"),
        images=small_cohort.images[is_shared][:3],
    )
    monkeypatch.setattr(same_films, "_built", {"none": None, "tried": tried}.get)
    with pytest.raises(errors.InputError, match="3 test films of EVALUATE_ON = tried"):
        begin(small_cohort)
    assert register.Register().lines() == []
    entries = arm_of(small_cohort, mode="demo").ledger()
    assert entries["not_covered"]["films in two data sets"].startswith("3 test films of EVALUATE")
    monkeypatch.setattr(same_films, "_built", lambda name: None)
    entries = arm_of(small_cohort, mode="demo").ledger()
    assert "films in two data sets" not in entries["not_covered"]
