"""A private run is begun once.

Cells run again, kernels killed, changed helpers and lost files neither hide a step nor spend twice.
"""

import copy
import dataclasses
import multiprocessing
import os
import pickle
import shutil
import signal

import private_arms
import pytest
import torch

from helpers.core import errors, files, fingerprints, locks, paths, run_records
from helpers.privacy import composition, private_run_files, register
from helpers.training import (
    checkpoints,
    finished_runs,
    loop,
    networks,
    ordinary_step,
    prediction,
    training_session,
    training_set,
    weight_files,
)

RUN = "small-dp-eps5-seed4"
STEPS = 8  # 2 epochs of 40 / 10


def arm_of(cohort, mode="private", **changes):
    model = networks.resnet9(2, width=8, seed=changes.pop("init", 1))
    settings = (
        dict(
            channels=1,
            epsilon=5.0,
            delta=1e-4,
            clip_norm=0.7,
            epochs=2,
            expected_batch_size=10,
            max_images_per_patient=2,
            physical_batch_size=100,
            mode=mode,
            seed=4,
            lineage=[],
        )
        | changes
    )
    return private_arms.private_arm(
        training_set.TrainingSet.of(cohort, "patient"), model, **settings
    )


def session_of(
    cohort,
    arm=None,
    run=RUN,
    mode="private",
    learning_rate=3e-3,
    spend_again=False,
    budget=None,
    parameters=None,
    **changes,
):
    """A session as notebook 03 makes it, run from the top."""
    arm = arm or arm_of(cohort, mode, **changes)
    return training_session.Session(
        run,
        arm.model,
        arm,
        epochs=changes.get("epochs", 2),
        learning_rate=learning_rate,
        fingerprint="of code",
        parameters=parameters or {"SEED": 4},
        spend_again=spend_again,
        budget=budget,
    )


def train(session, epochs=2):
    for _ in list(loop.epochs_left(session))[:epochs]:
        loop.train_one_epoch(session)
        session.end_epoch(valid_auroc=0.5)
    return session


def finish(session, cohort, **changes):
    return finished_runs.finish(
        session.model,
        cohort,
        1,
        run=session.run,
        arm="dp",
        seed=4,
        parameters={},
        seconds=1.0,
        fingerprint=session.fingerprint,
        ledger=session.arm.ledger(),
        history=session.history,
        start=[],
        private_run=session.private,
        **changes,
    )


def interrupt_after(session, steps, monkeypatch, is_killed=False):
    """Train until Ctrl-C comes, in the step after `steps`; or a kill, which writes nothing."""
    add = session.arm.add_units
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            session.arm,
            "add_units",
            lambda *arguments: (
                add(*arguments)
                if session.step < steps
                else (_ for _ in ()).throw(KeyboardInterrupt)
            ),
        )
        patch.setattr(session, "save", lambda: None) if is_killed else None
        train(session)
    if is_killed:
        training_session._live.clear()  # the process is gone


def weights(session):
    return weight_files.weights_hash(session.model.state_dict())


def lines():
    """(event, steps) of the register, in order."""
    return [(line["event"], line["steps"]) for line in register.Register().lines()]


def counted():
    """The steps that count, of each run in the register."""
    return [line["steps"] for line in register.Register().runs()]


@pytest.fixture(autouse=True)
def own_register(results, monkeypatch):
    monkeypatch.delenv("PRIVACY_REGISTER", raising=False)


# ---- the mechanism counts


def test_the_training_cell_run_again_goes_on_and_the_ledger_has_every_step(
    small_cohort, monkeypatch
):
    session = session_of(small_cohort)
    noises, noise = [], session.arm.randomness.noise
    session.arm.randomness.noise = lambda *arguments: noises.append(1) or noise(*arguments)
    add, calls = session.arm.add_units, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return add(*arguments)

    session.arm.add_units = interrupted
    with pytest.raises(KeyboardInterrupt):
        train(session)
    assert session.step == 5
    train(session)
    train(session)  # once more, after the end
    assert len(noises) == session.step == session.arm.ledger()["steps_done"] == STEPS
    finish(session, small_cohort)
    assert counted() == [STEPS]


def test_the_cell_of_the_session_run_again_is_refused(small_cohort):
    session = train(session_of(small_cohort), 1)
    with pytest.raises(
        errors.InputError,
        match="an arm that no session has used; got one with 4 of 8 steps released",
    ):
        session_of(small_cohort, session.arm)
    assert locks.is_held(paths.lock_path(RUN))  # the first session goes on
    assert session.arm.ledger()["steps_done"] == 4


@pytest.mark.parametrize(
    "trained_by", ["private", "demo", "baseline", "a finished run that was read", "a copy"]
)
def test_a_network_that_was_trained_is_no_start_of_a_private_arm(small_cohort, trained_by):
    if trained_by == "baseline":
        model = networks.resnet9(2, width=8)
        arm = ordinary_step.BaselineArm(
            training_set.TrainingSet.of(small_cohort, "image"),
            model,
            channels=1,
            batch_size=100,
            seed=0,
        )
        loop.train_one_epoch(
            training_session.Session("small-baseline", model, arm, epochs=1, learning_rate=1e-3)
        )
    else:
        session = session_of(small_cohort, mode="demo" if trained_by == "demo" else "private")
        train(session, 2 if "finished" in trained_by else 1)
        if "finished" in trained_by:
            finish(session, small_cohort)
            session = session_of(small_cohort)
        model = copy.deepcopy(session.model) if trained_by == "a copy" else session.model
    with pytest.raises(
        errors.InputError,
        match=(
            "a network as it starts, which nothing has trained in this process; got one that was"
            " trained"
        ),
    ):
        private_arms.private_arm(
            training_set.TrainingSet.of(small_cohort, "patient"),
            model,
            channels=1,
            epsilon=5.0,
            delta=1e-4,
            clip_norm=0.7,
            epochs=2,
            expected_batch_size=10,
            max_images_per_patient=2,
            physical_batch_size=100,
            mode="private",
            seed=4,
            lineage=[],
        )


@pytest.mark.parametrize("access", ["open", "registration", "credentialed", "private"])
def test_demo_mode_is_not_to_be_had_for_real_patients(small_cohort, access):
    real = dataclasses.replace(small_cohort, record={"access": access})
    with pytest.raises(errors.InputError, match="MODE = 'private' on real data"):
        arm_of(real, "demo")
    assert arm_of(real, "private").is_private


def test_weights_that_changed_since_the_arm_was_made_are_refused(small_cohort):
    arm = arm_of(small_cohort)
    with torch.no_grad():
        arm.model.head.bias += 1
    with pytest.raises(errors.InputError, match="the weights with which the arm was made"):
        session_of(small_cohort, arm)
    assert lines() == []


@pytest.mark.parametrize("mode", ["private", "demo"])
def test_no_step_is_released_beyond_the_plan(small_cohort, mode):
    session = train(session_of(small_cohort, mode=mode))
    for attempt in (
        session.arm.set_gradients,
        session.arm.set_noisy_mean,
        lambda: loop.train_one_epoch(session),
    ):
        with pytest.raises(
            errors.InputError, match="at most the 8 planned steps; got one more after 8"
        ):
            attempt()
    assert session.arm.ledger()["steps_done"] == STEPS


def test_no_noise_is_given_to_a_run_that_is_not_registered(small_cohort):
    arm = arm_of(small_cohort)
    for attempt in (arm.set_gradients, arm.set_noisy_mean):
        with pytest.raises(
            errors.InputError, match="a session that has entered the run in the privacy register"
        ):
            attempt()
    assert arm.steps_done == 0


@pytest.mark.parametrize(
    "attempt", [copy.copy, copy.deepcopy, pickle.dumps, lambda one: torch.save(one, os.devnull)]
)
@pytest.mark.parametrize("what", ["arm", "randomness", "session"])
def test_an_arm_cannot_be_copied_or_pickled(small_cohort, attempt, what):
    session = session_of(small_cohort)
    with pytest.raises(
        errors.InputError, match="one (PrivateArm|Randomness|Session) for one private run"
    ):
        attempt(
            {"arm": session.arm, "randomness": session.arm.randomness, "session": session}[what]
        )


def _step(arm, queue):
    try:
        arm.set_gradients()
        queue.put("released")
    except errors.InputError as error:
        queue.put(str(error))


def test_an_arm_cannot_be_used_in_a_forked_child(small_cohort):
    session = session_of(small_cohort)
    queue = multiprocessing.get_context("fork").Queue()
    child = multiprocessing.get_context("fork").Process(target=_step, args=(session.arm, queue))
    child.start()
    assert "got a forked one, whose noise would repeat" in queue.get(timeout=60)
    child.join()


def test_the_promise_cannot_be_changed(small_cohort):
    with pytest.raises(dataclasses.FrozenInstanceError):
        arm_of(small_cohort).promise.noise_multiplier = 0.0


# ---- the register


def test_a_line_stands_before_the_first_noisy_step_and_before_each_checkpoint(
    small_cohort, monkeypatch
):
    session = session_of(small_cohort)
    assert lines() == [("begin", STEPS)]
    replaced, replace = [], os.replace
    monkeypatch.setattr(
        checkpoints.os,
        "replace",
        lambda old, new: (
            replaced.append((str(new).endswith("checkpoint.pt"), lines())) or replace(old, new)
        ),
    )
    train(session)
    assert [state for is_checkpoint, state in replaced if is_checkpoint] == [
        [("begin", 8), ("checkpoint", 4)],
        [("begin", 8), ("checkpoint", 4), ("checkpoint", 8)],
    ]
    finish(session, small_cohort)
    assert lines() == [("begin", 8), ("checkpoint", 4), ("checkpoint", 8), ("end", 8)]
    line = register.Register().lines()[0]
    made = session.arm.promise
    assert (
        line["sample_rate"] == 10 / 40
        and line["noise_multiplier"] == made.noise_multiplier
        and line["delta"] == 1e-4
    )
    assert (
        line["unit"] == "patient"
        and line["run"] == RUN
        and line["patients"] == register.Register().enrol(*small_cohort.training_patients()).key
    )


def test_demo_mode_enters_nothing_and_keeps_its_habits(small_cohort):
    train(session_of(small_cohort, mode="demo"))
    assert session_of(small_cohort, mode="demo").resumed
    changed = training_session.Session(
        RUN,
        (arm := arm_of(small_cohort, "demo")).model,
        arm,
        epochs=2,
        learning_rate=3e-3,
        fingerprint="other code",
    )
    assert not changed.resumed and lines() == []


def test_a_run_killed_before_its_first_checkpoint_begins_again_and_counts_once(
    small_cohort, monkeypatch
):
    interrupt_after(session_of(small_cohort), 3, monkeypatch, is_killed=True)
    assert counted() == [STEPS]
    again = session_of(small_cohort)
    assert again.step == 0 and counted() == [0, STEPS]
    finish(train(again), small_cohort)
    assert counted() == [0, STEPS]


@pytest.mark.parametrize("is_killed, step", [(True, 4), (False, 6)])
def test_a_run_goes_on_from_what_is_on_disk_and_counts_once(
    small_cohort, monkeypatch, is_killed, step
):
    session = session_of(small_cohort)
    train(session, 1)
    # an interrupt writes its two further steps, a kill does not
    interrupt_after(session, 6, monkeypatch, is_killed)
    again = session_of(small_cohort)
    assert again.resumed and again.step == step and lines()[-1] == ("taken up", step)
    assert is_killed or weights(again) == weights(session)
    finish(train(again), small_cohort)
    assert again.arm.ledger()["steps_done"] == STEPS and counted() == [STEPS]


def test_steps_that_a_live_kernel_holds_are_written_before_it_goes_on_from_the_top(small_cohort):
    session = session_of(small_cohort)
    loop.train_one_epoch(session)  # interrupted before `end_epoch`, while AUROC was computed
    again = session_of(small_cohort)
    assert (
        again.step == 4
        and weights(again) == weights(session)
        and lines() == [("begin", 8), ("checkpoint", 4), ("taken up", 4)]
    )


def test_steps_that_a_live_kernel_cannot_write_are_counted(small_cohort, monkeypatch):
    session = session_of(small_cohort)
    monkeypatch.setattr(session, "save", lambda: (_ for _ in ()).throw(OSError("disk full")))
    for _ in range(3):
        session.arm.set_gradients()
        session.optimizer.step()
    with pytest.raises(
        errors.InputError, match="3 steps written to a checkpoint that is damaged or gone"
    ):
        session_of(small_cohort)  # from the top, in this kernel: its model could have been used
    assert session_of(small_cohort, spend_again=True).step == 0 and counted() == [3, STEPS]


def test_an_interrupt_waits_for_the_end_of_the_step(small_cohort):
    # where tests are started in the background, the shell has them ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    session = session_of(small_cohort)
    noise = session.arm.randomness.noise
    session.arm.randomness.noise = lambda *arguments: (
        noise(*arguments),
        os.kill(os.getpid(), signal.SIGINT),
    )[0]
    before = weights(session)
    with pytest.raises(KeyboardInterrupt):
        train(session)
    assert session.step == 1 and weights(session) != before  # released, applied
    stored = torch.load(session.checkpoint, weights_only=True)
    assert (
        stored["step"] == 1
        and weight_files.weights_hash(stored["model"]) == weights(session)
        and lines()[-1] == ("checkpoint", 1)
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_weights_are_in_the_register_before_they_are_on_disk(small_cohort, monkeypatch):
    session = session_of(small_cohort)
    for _ in range(2):
        # the loop was interrupted before the end of its epoch was written
        loop.train_one_epoch(session)
    seen = []
    monkeypatch.setattr(
        weight_files,
        "save_weights",
        lambda *arguments: seen.append(lines()) or (_ for _ in ()).throw(KeyboardInterrupt),
    )
    with pytest.raises(KeyboardInterrupt):
        finish(session, small_cohort)
    assert seen == [[("begin", STEPS), ("checkpoint", STEPS)]]


def test_a_checkpoint_that_a_kill_kept_from_the_register_is_counted(small_cohort, monkeypatch):
    session = session_of(small_cohort)
    loop.train_one_epoch(session)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            session.private,
            "before_checkpoint",
            lambda steps: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        session.save()
    training_session._live.clear()
    session_of(small_cohort, learning_rate=1e-3, spend_again=True)
    assert counted() == [4, STEPS]


def test_two_copies_of_a_folder_with_one_register_do_not_both_go_on(
    small_cohort, monkeypatch, tmp_path
):
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "hospital"))
    first = train(session_of(small_cohort), 1)
    shutil.copytree(paths.results_dir() / "runs", tmp_path / "copy" / "runs")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "copy"))
    second = session_of(small_cohort)
    assert second.step == 4
    with pytest.raises(
        errors.InputError,
        match="for this session alone; got another one that has taken it up since",
    ):
        train(first)
    finish(train(second), small_cohort)
    assert counted() == [STEPS]


def test_an_older_checkpoint_put_back_does_not_buy_steps(small_cohort, capsys):
    session = train(session_of(small_cohort), 1)
    shutil.copy(session.checkpoint, session.checkpoint.with_name("kept"))
    loop.train_one_epoch(session)
    session.end_epoch()
    shutil.copy(session.checkpoint.with_name("kept"), session.checkpoint)
    again = session_of(small_cohort)
    # 8 were released, 4 of them are lost
    assert again.step == STEPS and not list(loop.epochs_left(again))
    assert (
        "4 steps after this checkpoint were released and are lost: they stay counted"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("moment", ["before the line", "after the line"])
def test_a_kill_while_a_checkpoint_is_written_loses_and_hides_nothing(
    small_cohort, monkeypatch, moment
):
    session = train(session_of(small_cohort), 1)
    loop.train_one_epoch(session)
    target = (
        (session.private, "before_checkpoint")
        if moment == "before the line"
        else (checkpoints.os, "replace")
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            *target,
            lambda *arguments: (
                (_ for _ in ()).throw(KeyboardInterrupt)
                if moment == "before the line" or str(arguments[1]).endswith("checkpoint.pt")
                else os.rename(*arguments)
            ),
        )
        session.save()
    again = session_of(small_cohort)
    assert (
        again.step == STEPS
        and weights(again) == weights(session)
        and lines()[-1] == ("taken up", STEPS)
    )


def test_two_cohorts_that_share_patients_are_counted_together(small_cohort):
    finish(train(session_of(small_cohort)), small_cohort)
    table = small_cohort.table.assign(
        split=small_cohort.table["split"].where(small_cohort.table["patient_id"] != "p41", "train")
    )
    larger = dataclasses.replace(small_cohort, name="larger", table=table)
    other = train(session_of(larger, run="larger-dp-eps5-seed4"))
    run_register = register.Register()
    assert (
        len(run_register.runs(run_register.sharing(other.private.patients))) == 2
        and len({line["patients"] for line in run_register.runs()}) == 2
    )


@pytest.mark.parametrize("budget, is_kept", [(7.0, True), (6.5, False)])
def test_a_budget_is_kept_by_all_runs_together(small_cohort, budget, is_kept):
    finish(train(session_of(small_cohort)), small_cohort)
    both, _ = composition.epsilon_together(register.Register().runs() * 2)
    assert 6.5 < both < 7.0
    if is_kept:
        session_of(small_cohort, run=f"{RUN}-other", budget=budget)
        return
    with pytest.raises(
        errors.InputError,
        match=(
            "private runs that together keep BUDGET = 6.5; got 2 on these patients, together"
            " epsilon 6.8"
        ),
    ):
        session_of(small_cohort, run=f"{RUN}-other", budget=budget)
    assert (
        len(lines()) == 4
        and not paths.run_dir(f"{RUN}-other").joinpath(private_run_files.NOTE).exists()
    )


def test_a_budget_holds_at_the_least_delta_of_all(small_cohort):
    finish(train(session_of(small_cohort)), small_cohort)
    with pytest.raises(errors.InputError, match="together epsilon .* at delta 0.0001"):
        session_of(small_cohort, run=f"{RUN}-other", delta=2e-2, budget=6.5)


def test_a_run_that_was_given_up_and_comes_back_is_held_to_the_budget(small_cohort):
    session = train(session_of(small_cohort), 1)
    shutil.copytree(session.checkpoint.parent, session.checkpoint.parents[1] / "kept")
    again = session_of(small_cohort, learning_rate=1e-3, spend_again=True)
    both, _ = composition.epsilon_together(register.Register().runs())
    shutil.rmtree(again.checkpoint.parent)
    (session.checkpoint.parents[1] / "kept").rename(session.checkpoint.parent)
    with pytest.raises(errors.InputError, match="private runs that together keep BUDGET"):
        session_of(small_cohort, budget=both)
    assert session_of(small_cohort).step == 4 and counted() == [STEPS, STEPS]


# ---- changed, so refused


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"learning_rate": 2e-3}, r"LEARNING_RATE \(0.003 then, 0.002 now\)"),
        ({"clip_norm": 0.5}, "clip_norm"),
        ({"epsilon": 4.0}, "epsilon"),
        ({"delta": 2e-4}, "delta"),
        ({"expected_batch_size": 8, "epochs": 2}, "expected_batch_size"),
        ({"max_images_per_patient": 1}, "max_images_per_patient"),
        ({"views_per_image": 2}, "views_per_image"),
        ({"noise_multiplier": 9.0}, "noise_multiplier"),
        ({"init": 2}, "the weights it starts from"),
        ({"weighting": ("public", torch.ones(2))}, "pos_weight"),
        ({"precision": "bfloat16"}, "PRECISION"),
        ({"parameters": {"SEED": 5}}, "SEED"),
    ],
)
@pytest.mark.parametrize("state", ["begun", "finished"])
def test_a_run_that_differs_is_refused_by_what_differs(small_cohort, changes, words, state):
    session = train(session_of(small_cohort), 1 if state == "begun" else 2)
    if state == "finished":
        finish(session, small_cohort)
    before = (
        {path.name: fingerprints.file_hash(path) for path in paths.run_dir(RUN).iterdir()},
        lines(),
    )
    with pytest.raises(
        errors.InputError,
        match=(
            rf"as it was {state}; got a run that differs in .*{words}.*another RECIPE, set"
            r""" CONFIRM = \["spend again"\]"""
        ),
    ):
        session_of(small_cohort, **changes)
    assert (
        {path.name: fingerprints.file_hash(path) for path in paths.run_dir(RUN).iterdir()},
        lines(),
    ) == before


def test_other_labels_films_or_patients_in_training_are_refused_and_others_are_not(small_cohort):
    finish(train(session_of(small_cohort)), small_cohort)
    train_rows = small_cohort.table["split"] == "train"
    for where, is_refused in ((train_rows, True), (~train_rows, False)):
        table = small_cohort.table.assign(
            bright=small_cohort.table["bright"].where(~where, 1 - small_cohort.table["bright"])
        )
        changed = dataclasses.replace(
            small_cohort, table=table, record=small_cohort.record | {"data_hash": "other"}
        )
        if is_refused:
            with pytest.raises(errors.InputError, match="differs in the training images or labels"):
                session_of(changed)
        else:
            assert session_of(changed).is_read
    images = small_cohort.images.copy()
    images[0] += 1
    with pytest.raises(errors.InputError, match="differs in the training images or labels"):
        session_of(dataclasses.replace(small_cohort, images=images))


def test_sources_versions_and_memory_decide_nothing(small_cohort, monkeypatch):
    session = train(session_of(small_cohort))
    finish(session, small_cohort)
    record = (paths.run_dir(RUN) / "record.json").read_bytes()
    # as after any change of a helper
    monkeypatch.setattr(fingerprints, "helper_sources", lambda modules: [])
    monkeypatch.setattr(run_records, "versions", lambda: {"torch": "9"})
    monkeypatch.setattr(run_records, "commit", lambda: "another")
    again = session_of(small_cohort, physical_batch_size=7)
    assert (
        again.is_read and not list(loop.epochs_left(again)) and weights(again) == weights(session)
    )
    finish(again, small_cohort)
    assert (paths.run_dir(RUN) / "record.json").read_bytes() == record and counted() == [STEPS]


def test_spend_again_trains_anew_by_name_and_the_register_keeps_the_old_entry(small_cohort):
    session = train(session_of(small_cohort))
    finish(session, small_cohort)
    again = session_of(small_cohort, learning_rate=1e-3, spend_again=True)
    # the old one stands until the new is finished
    assert again.step == 0 and counted() == [STEPS, STEPS] and run_records.is_whole(RUN)
    finish(train(again), small_cohort)
    assert counted() == [STEPS, STEPS] and weights(
        session_of(small_cohort, learning_rate=1e-3)
    ) == weights(again) != weights(session)
    # an equal run is read, whatever is set
    assert session_of(small_cohort, learning_rate=1e-3, spend_again=True).is_read


def test_a_checkpoint_given_up_by_name_counts_what_it_held(small_cohort):
    train(session_of(small_cohort), 1)
    session_of(small_cohort, learning_rate=1e-3, spend_again=True)
    assert counted() == [4, STEPS]


def test_a_finished_run_is_read_though_another_was_begun_over_it_by_mistake(small_cohort):
    finished = train(session_of(small_cohort))
    finish(finished, small_cohort)
    train(session_of(small_cohort, learning_rate=1e-3, spend_again=True), 1)
    back = session_of(small_cohort)
    assert back.is_read and weights(back) == weights(finished) and counted() == [STEPS, STEPS]
    assert session_of(small_cohort, learning_rate=1e-3).step == 4  # and the other one still goes on


def test_where_the_public_weights_lie_and_what_a_later_version_declares_is_no_difference(
    small_cohort,
):
    finish(
        train(session_of(small_cohort, parameters={"SEED": 4, "PRETRAIN": "../w.safetensors"})),
        small_cohort,
    )
    assert session_of(
        small_cohort, parameters={"SEED": 4, "PRETRAIN": "/data/w.safetensors", "NEW": "default"}
    ).is_read


def test_a_begun_run_goes_on_in_a_later_version_that_declares_more(small_cohort, monkeypatch):
    train(session_of(small_cohort), 1)
    for _ in range(2):  # taken up, killed, taken up
        interrupt_after(
            session_of(small_cohort, parameters={"SEED": 4, "NEW": "default"}),
            6,
            monkeypatch,
            is_killed=True,
        )
    finish(train(session_of(small_cohort, parameters={"SEED": 4, "NEW": "default"})), small_cohort)
    assert counted() == [STEPS] and session_of(small_cohort).is_read


def test_the_start_is_kept_with_the_run(small_cohort):
    session = train(session_of(small_cohort), 1)
    kept = paths.run_dir(RUN) / private_run_files.START
    assert (
        weight_files.hash_of_file(kept) == session.arm.start and weight_files.lineage_of(kept) == []
    )
    with pytest.raises(
        errors.InputError,
        match=(
            "the weights it starts from .those of then: start.safetensors in its folder, for"
            " PRETRAIN"
        ),
    ):
        session_of(small_cohort, init=2)


def test_a_checkpoint_replaces_a_note_that_is_lost(small_cohort):
    train(session_of(small_cohort), 1)
    (paths.run_dir(RUN) / private_run_files.NOTE).unlink()
    assert session_of(small_cohort).step == 4 and counted() == [STEPS]


def test_a_run_begun_under_another_register_is_registered_before_it_is_given_up(
    small_cohort, monkeypatch, tmp_path
):
    session = train(session_of(small_cohort), 1)
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "other"))
    session.checkpoint.unlink()
    session_of(small_cohort, learning_rate=1e-3, spend_again=True)
    assert counted() == [STEPS, STEPS]  # nobody knows how far the first was


@pytest.mark.parametrize("file", ["record.json", private_run_files.NOTE])
def test_a_damaged_record_of_a_private_run_is_to_be_restored_not_deleted(small_cohort, file):
    finish(train(session_of(small_cohort)), small_cohort)
    (paths.run_dir(RUN) / file).write_text("{half")
    with pytest.raises(errors.InputError, match=f"JSON in .*{file}.*Restore it from a copy"):
        session_of(small_cohort)


def test_a_refused_session_lets_the_lock_go(small_cohort):
    finish(train(session_of(small_cohort)), small_cohort)
    with pytest.raises(errors.InputError, match="differs"):
        session_of(small_cohort, learning_rate=1e-3)
    assert not locks.is_held(paths.lock_path(RUN))


def test_class_weights_from_private_labels_leave_no_bound_to_the_total(small_cohort):
    session_of(small_cohort, weighting=("private labels", torch.ones(2)))
    assert composition.epsilon_together(register.Register().runs())[0] == float("inf")
    with pytest.raises(errors.InputError, match="together no bound at all"):
        session_of(small_cohort, run=f"{RUN}-other", budget=100.0)


def test_a_checkpoint_that_is_refused_a_budget_is_not_lost(small_cohort):
    session = train(session_of(small_cohort), 1)
    with pytest.raises(errors.InputError, match="BUDGET"):
        session_of(small_cohort, learning_rate=1e-3, spend_again=True, budget=1.0)
    assert (
        session.checkpoint.exists() and session_of(small_cohort).step == 4 and counted() == [STEPS]
    )


def test_a_run_removed_by_hand_stays_in_the_register(small_cohort):
    train(session_of(small_cohort), 1)
    shutil.rmtree(paths.run_dir(RUN))
    assert session_of(small_cohort).step == 0 and counted() == [STEPS, STEPS]


@pytest.mark.parametrize("mode", ["demo", "baseline"])
def test_a_private_run_is_not_replaced_by_another_kind_of_that_name(small_cohort, mode):
    train(session_of(small_cohort), 1)
    with pytest.raises(
        errors.InputError,
        match="a name other than small-dp-eps5-seed4 for a run that is not private",
    ):
        if mode == "demo":
            session_of(small_cohort, mode="demo")
        else:
            model = networks.resnet9(2, width=8)
            arm = ordinary_step.BaselineArm(
                training_set.TrainingSet.of(small_cohort, "image"),
                model,
                channels=1,
                batch_size=16,
                seed=0,
            )
            training_session.Session(RUN, model, arm, epochs=1, learning_rate=1e-3)


def test_a_demo_run_may_be_followed_by_a_private_one(small_cohort):
    train(session_of(small_cohort, mode="demo"), 1)
    assert session_of(small_cohort).step == 0 and counted() == [STEPS]


# ---- lost and damaged files


def test_damaged_or_missing_predictions_are_made_again_from_the_weights(small_cohort):
    predictions = finish(train(session_of(small_cohort)), small_cohort)
    path = paths.run_dir(RUN) / "predictions.parquet"
    ledger = run_records.read_record(RUN)["ledger"]
    for damage in (lambda: path.unlink(), lambda: path.write_bytes(b"")):
        damage()
        again = session_of(small_cohort)
        assert (
            again.is_read
            and finish(again, small_cohort).equals(predictions)
            and run_records.is_whole(RUN)
        )
    assert counted() == [STEPS] and run_records.read_record(RUN)["ledger"] == ledger


def test_shifts_at_prediction_are_no_part_of_a_private_run(small_cohort):
    declared = {"SEED": 4, "SCORE_SHIFTS": 1}  # if anybody declares it
    once = finish(train(session_of(small_cohort, parameters=declared)), small_cohort)
    before = run_records.read_record(RUN)
    assert "SCORE_SHIFTS" not in before["identity"]["parameters"]
    again = session_of(small_cohort, parameters={"SEED": 4, "SCORE_SHIFTS": 5})
    five = finish(again, small_cohort, shifts=5)
    record = run_records.read_record(RUN)
    assert again.is_read and counted() == [STEPS] and run_records.is_whole(RUN)
    expected = prediction.predictions_of(again.model, small_cohort, 1, shifts=5)
    assert five.equals(expected) and not five["score"].equals(once["score"])
    assert record["parameters"] == before["parameters"] | {"SCORE_SHIFTS": 5}
    changed = {name for name in record if record[name] != before[name]}
    assert changed == {"parameters", "files"}  # neither weights nor ledger nor identity
    assert record["files"]["weights.safetensors"] == before["files"]["weights.safetensors"]
    # what is there is read
    assert finish(session_of(small_cohort), small_cohort, shifts=5).equals(five)
    assert finish(session_of(small_cohort), small_cohort).equals(once)
    assert run_records.read_record(RUN) == before


def test_predictions_follow_another_test_split_without_training(small_cohort):
    finish(train(session_of(small_cohort)), small_cohort)
    moved = small_cohort.table.assign(split=small_cohort.table["split"].replace({"valid": "test"}))
    other = dataclasses.replace(
        small_cohort, table=moved, record=small_cohort.record | {"data_hash": "other"}
    )
    assert set(finish(session_of(other), other)["split"]) == {"test"}
    assert run_records.read_record(RUN)["data_hash"] == "other" and counted() == [STEPS]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-4] + b"abcd"),
    ],
)
def test_damaged_weights_end_the_step_and_train_nothing(small_cohort, damage):
    finish(train(session_of(small_cohort)), small_cohort)
    damage(paths.run_dir(RUN) / "weights.safetensors")
    with pytest.raises(
        errors.InputError,
        match="got weights.safetensors damaged or gone. To train again would spend again",
    ):
        session_of(small_cohort)
    assert counted() == [STEPS]
    assert session_of(small_cohort, spend_again=True).step == 0 and counted() == [STEPS, STEPS]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK" * 99),
    ],
)
def test_a_damaged_or_missing_checkpoint_is_not_begun_again_in_silence(small_cohort, damage):
    session = train(session_of(small_cohort), 1)
    damage(session.checkpoint)
    with pytest.raises(
        errors.InputError, match="4 steps written to a checkpoint that is damaged or gone"
    ):
        session_of(small_cohort)
    assert session_of(small_cohort, spend_again=True).step == 0 and counted() == [4, STEPS]


def test_a_checkpoint_of_an_earlier_version_or_of_another_run_is_not_dropped_in_silence(
    small_cohort,
):
    session = train(session_of(small_cohort), 1)
    other = paths.run_dir(f"{RUN}-other")
    other.mkdir()
    for change in (
        lambda stored: stored,
        lambda stored: {name: value for name, value in stored.items() if name != "uuid"},
    ):
        torch.save(
            change(torch.load(session.checkpoint, weights_only=True)), other / "checkpoint.pt"
        )
        with pytest.raises(
            errors.InputError, match="a checkpoint of another private run, or of an earlier version"
        ):
            session_of(small_cohort, run=f"{RUN}-other")
        assert (other / "checkpoint.pt").exists()


def test_a_finished_run_of_an_earlier_version_is_refused(small_cohort):
    finish(train(session_of(small_cohort)), small_cohort)
    path = paths.run_dir(RUN) / "record.json"
    record = files.read_json(path, "")
    files.write_json(
        path,
        {
            name: value
            for name, value in record.items()
            if name not in ("uuid", "identity", "weights_hash")
        },
    )
    (paths.run_dir(RUN) / private_run_files.NOTE).unlink()
    with pytest.raises(errors.InputError, match="of an earlier version of this package"):
        session_of(small_cohort)


def test_a_kill_between_record_and_the_rest_leaves_a_finished_run(small_cohort, monkeypatch):
    session = train(session_of(small_cohort))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            run_records, "remove_checkpoints", lambda run: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        finish(session, small_cohort)
    assert session.checkpoint.exists() and lines()[-1] == ("checkpoint", 8)
    again = session_of(small_cohort)
    assert (
        again.is_read
        and not session.checkpoint.exists()
        and lines()[-1] == ("end", 8)
        and weights(again) == weights(session)
    )


def test_a_finished_run_is_known_to_another_register_once_it_is_read(
    small_cohort, monkeypatch, tmp_path
):
    finish(train(session_of(small_cohort)), small_cohort)
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "other"))
    assert (
        lines() == [] and session_of(small_cohort).is_read and lines() == [("begin", 8), ("end", 8)]
    )


def test_a_run_is_not_finished_before_its_last_step(small_cohort):
    session = train(session_of(small_cohort), 1)
    with pytest.raises(
        errors.InputError,
        match="all 8 steps of small-dp-eps5-seed4; got 4. Run the training cell again",
    ):
        finish(session, small_cohort)
    assert not (paths.run_dir(RUN) / "record.json").exists()


def test_a_checkpoint_of_the_last_step_gives_the_running_mean(small_cohort):
    def begin():
        arm = arm_of(small_cohort)
        return training_session.Session(
            RUN, arm.model, arm, epochs=2, learning_rate=3e-3, averaging=0.9
        )

    session = begin()
    loop.train_one_epoch(session)
    take_mean, session.take_mean = session.take_mean, lambda: None
    loop.train_one_epoch(session)
    session.save()  # due in the last step, and killed before the mean was taken
    take_mean()
    assert weights(begin()) == weights(session)


# ---- one session


def hold(path, queue, done):
    locks.hold(path, "it", "Wait.")
    queue.put(True)
    done.wait(60)


def test_a_second_kernel_is_refused_by_name(small_cohort):
    context = multiprocessing.get_context("fork")
    queue, done = context.Queue(), context.Event()
    kernel = context.Process(target=hold, args=(paths.lock_path(RUN), queue, done))
    kernel.start()
    queue.get(timeout=60)
    with pytest.raises(
        errors.InputError,
        match=f"the run {RUN} for this process alone; got process {kernel.pid} on .* at work in it",
    ):
        session_of(small_cohort)
    done.set()
    kernel.join()
    assert session_of(small_cohort).step == 0 and lines() == [("begin", 8)]


def test_the_lock_goes_when_the_run_is_finished(small_cohort):
    session = train(session_of(small_cohort))
    assert locks.is_held(paths.lock_path(RUN))
    finish(session, small_cohort)
    assert not locks.is_held(paths.lock_path(RUN))


def test_without_locks_on_the_disk_there_is_a_warning_and_the_register_decides(
    small_cohort, monkeypatch, capsys
):
    monkeypatch.setattr(
        locks.fcntl,
        "flock",
        lambda *arguments: (_ for _ in ()).throw(OSError(95, "Operation not supported")),
    )
    first = train(session_of(small_cohort), 1)
    second = session_of(small_cohort)  # another kernel, which takes up the checkpoint of the first
    assert "This disk has no locks" in capsys.readouterr().out
    loop.train_one_epoch(first)
    with pytest.raises(
        errors.InputError,
        match="for this session alone; got another one that has taken it up since",
    ):
        first.end_epoch()
    with pytest.raises(errors.InputError, match="for this session alone"):
        finish(first, small_cohort)
    finish(train(second), small_cohort)
    assert second.arm.ledger()["steps_done"] == STEPS and counted() == [STEPS]


def test_a_kernel_that_begins_anew_leaves_the_other_ones_steps_in_the_register(
    small_cohort, monkeypatch
):
    monkeypatch.setattr(locks.fcntl, "flock", lambda *arguments: (_ for _ in ()).throw(OSError))
    first, second = session_of(small_cohort), session_of(small_cohort)
    loop.train_one_epoch(first)
    with pytest.raises(errors.InputError, match="for this session alone"):
        first.save()
    finish(train(second), small_cohort)
    assert counted() == [0, STEPS]


# ---- adjacency, merged patients


def test_the_ledger_names_merged_patients(small_cohort):
    merged = dataclasses.replace(
        small_cohort, record=small_cohort.record | {"merged": {"ids": 7, "units": 1, "largest": 7}}
    )
    assert "7 patient ids are 1 units" in arm_of(merged).ledger()["not_covered"]["merged patients"]
    assert arm_of(small_cohort).ledger()["not_covered"]["merged patients"] == "not counted"


def test_a_training_set_made_by_hand_cannot_be_registered(small_cohort):
    data = dataclasses.replace(training_set.TrainingSet.of(small_cohort, "patient"), cohort=None)
    arm = private_arms.private_arm(
        data,
        networks.resnet9(2, width=8),
        channels=1,
        epsilon=5.0,
        delta=1e-4,
        clip_norm=0.7,
        epochs=2,
        expected_batch_size=10,
        max_images_per_patient=2,
        physical_batch_size=100,
        mode="private",
        seed=4,
    )
    with pytest.raises(errors.InputError, match="the training set of a cohort"):
        session_of(small_cohort, arm)


def test_settled_promise_is_that_of_the_arm(small_cohort):
    arm = arm_of(small_cohort)
    again = private_arms.settle(
        unit="patient",
        n_units=40,
        most_images=4,
        epsilon=5.0,
        delta=1e-4,
        clip_norm=0.7,
        epochs=2,
        expected_batch_size=10,
        max_images_per_patient=2,
        mode="private",
    )
    assert arm.promise.as_dict() == again.as_dict()


def test_a_promise_is_stored_as_earlier_versions_stored_it(small_cohort):
    arm = arm_of(small_cohort)
    assert list(arm.promise.as_dict().items()) == [
        ("unit", "patient"),
        ("n_units", 40),
        ("expected_batch_size", 10),
        ("steps", STEPS),
        ("clip_norm", 0.7),
        ("delta", 1e-4),
        ("epsilon", 5.0),
        ("mode", "private"),
        ("views_per_image", 1),
        ("pos_weight", "none"),
        ("max_images_per_unit", 2),
        ("max_images_per_patient", 2),
        ("noise_multiplier", arm.promise.noise_multiplier),
    ]
    assert session_of(small_cohort, arm).private.identity["promise"] == arm.promise.as_dict()


# ---- damaged checkpoints


@pytest.mark.parametrize("n_bytes", [0, 3, 200, 100_000])
def test_a_cut_checkpoint_is_set_aside_by_name_and_counts_as_lost(n_bytes, small_cohort, capsys):
    session = train(session_of(small_cohort), 1)
    whole = session.checkpoint.read_bytes()
    assert len(whole) > 100_000
    session.checkpoint.write_bytes(whole[:n_bytes])
    del session
    with pytest.raises(errors.InputError, match="damaged or gone .checkpoint.pt."):
        session_of(small_cohort)
    aside = paths.run_dir(RUN) / "checkpoint.pt.damaged"
    assert aside.read_bytes() == whole[:n_bytes] and "checkpoint.pt is damaged" in (
        capsys.readouterr().out
    )
    assert lines() == [("begin", 8), ("checkpoint", 4)]  # what was spent stays spent
    aside.replace(paths.run_dir(RUN) / "checkpoint.pt")
    (paths.run_dir(RUN) / "checkpoint.pt").write_bytes(whole)  # restored
    assert session_of(small_cohort).step == 4


def test_of_two_checkpoints_the_whole_one_counts(tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    checkpoints.write(path, {"step": 3})
    (tmp_path / "checkpoint.pt.new").write_bytes(path.read_bytes()[:100])
    assert checkpoints.read(path) == {"step": 3}
    assert "checkpoint.pt.new is damaged" in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "checkpoint.pt",
        "checkpoint.pt.new.damaged",
    ]


def test_memory_that_runs_out_is_no_damage(tmp_path, monkeypatch):
    checkpoints.write(tmp_path / "checkpoint.pt", {"step": 3})
    no_memory = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(torch, "load", lambda *a, **k: (_ for _ in ()).throw(no_memory))
    with pytest.raises(torch.OutOfMemoryError):
        checkpoints.read(tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_disk_that_fails_is_no_damage_and_a_second_damaged_checkpoint_keeps_the_first(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.mkdir()  # not to be read as a file
    with pytest.raises(OSError):
        checkpoints.read(path)
    path.rmdir()
    for content in (b"first", b"second"):
        path.write_bytes(content)
        assert checkpoints.read(path) == {}
    assert [path.with_name(f"checkpoint.pt.damaged{n}").read_bytes() for n in ("", "2")] == [
        b"first",
        b"second",
    ]


def test_a_checkpoint_is_read_into_the_memory_of_the_cpu(tmp_path, monkeypatch):
    """One that was written on a graphics card, and is looked at where there is none."""
    checkpoints.write(tmp_path / "checkpoint.pt", {"step": 3, "mean_weights": [torch.ones(2)]})
    load, asked = torch.load, []
    monkeypatch.setattr(torch, "load", lambda *a, **k: asked.append(k) or load(*a, **k))
    assert checkpoints.read(tmp_path / "checkpoint.pt")["mean_weights"][0].tolist() == [1, 1]
    assert asked and all(kwargs["map_location"] == "cpu" for kwargs in asked)
