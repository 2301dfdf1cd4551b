"""Several devices for one run: what torchrun's processes train is the run of one process.

Real processes, with gloo between them; the machine needs two cores.
"""

import itertools
import os
import signal
import threading
import time

import private_arms
import psutil
import pytest
import torch
from rank_processes import on_disk, on_ranks

import helpers.training.__main__ as program
from helpers.core import errors, files, machine, paths
from helpers.data import cohorts
from helpers.privacy import private_run_files, promise, register
from helpers.training import (
    checkpoints,
    devices,
    finished_runs,
    loop,
    networks,
    ordinary_step,
    private_identity,
    ranks,
    training_plan,
    training_session,
    training_set,
)

EPOCHS = 3
needs_two_cores = pytest.mark.skipif(machine.cores() < 2, reason="needs two cores")


@pytest.fixture
def cohort(mixed_cohort, results):
    """A cohort on disk, as other processes read it, of 48 pixels: at 16 the last maps have one
    pixel, of which GroupNorm keeps little but the sign, and rounding grows without bound.
    """
    mixed_cohort.images = mixed_cohort.images.repeat(3, axis=1).repeat(3, axis=2)
    on_disk(mixed_cohort)
    return cohorts.read("small")


def arm_of(cohort, mode="demo", part="all", reads="pooled", epochs=EPOCHS, **changes):
    model = networks.resnet9(["bright", "dull"], width=8, seed=1, head=reads)
    networks.train_only(model, part)
    data = training_set.TrainingSet.of(cohort, "image" if mode == "ordinary" else "patient")
    if mode == "ordinary":
        settings = dict(channels=1, batch_size=16, seed=4, augmentation="strong")
        return ordinary_step.BaselineArm(data, model, **settings)
    settings = dict(
        channels=1,
        epsilon=5.0,
        delta=1e-4,
        clip_norm=0.7,
        epochs=epochs,
        expected_batch_size=10,
        max_images_per_patient=2,
        physical_batch_size=7,
        mode=mode,
        seed=4,
        lineage=[],
        weighting=("public", torch.tensor([2.0, 0.3])),
    )
    return private_arms.private_arm(data, model, **(settings | changes))


def settings_of(epochs=EPOCHS, **changes):
    """Of a session."""
    settings = dict(epochs=epochs, learning_rate=1e-3, averaging=0.9, fingerprint="same")
    return settings | dict(parameters={"SEED": 4, "RECIPE": "x"}) | changes


def session_on(n, arm, run="small-run", **changes):
    model = getattr(arm, "network", arm.model)
    return devices.session(n, run, model, arm, **settings_of(**changes))


def trained(session):
    """The session, trained to its end as a notebook does it."""
    for _ in loop.epochs_left(session):
        program.train_one_epoch(session)
    return session


def apart(one, other):
    """The largest difference of the weights of two sessions, in units of what was learnt."""
    start = networks.resnet9(["bright", "dull"], width=8, seed=1).state_dict()
    first, second = one.model.state_dict(), other.model.state_dict()
    learnt = max(float((second[name] - start[name]).abs().max()) for name in start)
    return max(float((first[name] - second[name]).abs().max()) for name in start) / learnt


# ---- the plan


PARTS = [
    {"part": "last_block", "views_per_image": 2},
    {"reads": "levels", "head": promise.HeadSteps(2, 0.5, 0.4)},
]


@pytest.mark.parametrize("parts", PARTS, ids=["one part", "two parts"])
def test_a_planned_private_run_has_the_identity_of_the_one_it_was_written_from(cohort, parts):
    arm = arm_of(cohort, mode="private", **parts)
    settings = settings_of(head_learning_rate=0.5)
    path = training_plan.write(training_plan.Training("small-run", arm.network, arm, settings))
    again = training_plan.read(path)
    assert (again.run, again.settings) == ("small-run", settings)
    identities = [
        files.plain(
            private_identity.identity_of(
                one.arm,
                one.model,
                settings["parameters"],
                learning_rate=1e-3,
                schedule="cosine",
                averaging=0.9,
                head_learning_rate=0.5,
            )
        )
        for one in (training_plan.Training("", arm.network, arm, {}), again)
    ]
    assert identities[0] == identities[1]
    assert again.arm.pos_weight.tolist() == arm.pos_weight.tolist()
    assert [again.arm.seed, again.arm.lineage, again.arm.precision] == [4, [], "float32"]
    training_plan.remove("small-run")
    with pytest.raises(errors.InputError, match="DEVICES above 1 first"):
        training_plan.read(path)


def test_a_plan_of_a_cohort_that_was_built_anew_is_refused(cohort):
    arm = arm_of(cohort, mode="ordinary")
    path = training_plan.write(training_plan.Training("small-run", arm.model, arm, settings_of()))
    record = paths.cohort_dir("small") / "record.json"
    files.write_json(record, files.read_json(record, "") | {"data_hash": "other"})
    with pytest.raises(errors.InputError, match="another one, built since"):
        training_plan.read(path)


# ---- refusals


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts cores where there is no GPU")
def test_more_devices_than_cores_are_refused_and_the_plan_stays_for_several_machines(cohort):
    n = machine.cores() + 1
    words = f"at most {n - 1} as DEVICES, the cores of this machine; got {n}. Set fewer, or train"
    with pytest.raises(errors.InputError, match=words):
        session_on(n, arm_of(cohort, mode="ordinary"))
    assert training_plan.path_of("small-run").exists()
    session_on(1, arm_of(cohort, mode="ordinary"))
    assert not training_plan.path_of("small-run").exists()


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_devices_are_a_whole_number_from_1(cohort, n):
    with pytest.raises(errors.InputError, match="DEVICES to be an integer in"):
        session_on(n, arm_of(cohort, mode="ordinary"))


def test_a_gpu_has_one_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(errors.InputError, match="at most 2 processes on this machine, one a GPU"):
        ranks.begin()


def test_a_refusal_of_a_process_is_the_reason_and_a_kill_is_named():
    lost = f"{devices.PROGRAM}: Expected all processes of the run at work; got one that has ended."
    own = "Expected this; got that. Do so."
    with pytest.raises(errors.InputError, match="^Expected this; got that. Do so.$"):
        devices._refuse(f"W0 {lost}\n{lost}\n{devices.PROGRAM}: {own}\n", "small-run")
    with pytest.raises(errors.InputError, match="got OutOfMemoryError: of CUDA. Correct"):
        devices._refuse(f"{devices.PROGRAM}: OutOfMemoryError: of CUDA\n{lost}\n", "small-run")
    killed = f"{lost}\n  rank      : 1 (local_rank: 1)\n  exitcode  : -9 (pid: 17)\n"
    with pytest.raises(errors.InputError, match="got one killed by signal 9. Correct"):
        devices._refuse(killed, "small-run")


# ---- training


@needs_two_cores
@pytest.mark.parametrize("mode", ["demo", pytest.param("ordinary", marks=pytest.mark.slow)])
def test_a_run_of_two_processes_is_that_of_one(cohort, mode, capfd):
    one = trained(session_on(1, arm_of(cohort, mode), run="small-one"))
    two = session_on(2, arm_of(cohort, mode))
    assert two.step == one.step == two.steps and not list(loop.epochs_left(two))
    assert "Trains in 2 processes." in capfd.readouterr().out
    assert apart(two, one) < 1e-3  # rounding, carried on by the optimizer
    for shown, expected in zip(two.history, one.history, strict=True):
        assert shown == pytest.approx(expected, abs=1e-2)
    if mode == "demo":
        assert two.arm.ledger() == one.arm.ledger()
        assert [step["units"] for step in two.arm.diagnostics] == [
            step["units"] for step in one.arm.diagnostics
        ]
    assert not training_plan.path_of("small-run").exists()


@needs_two_cores
def test_a_private_run_of_two_processes_is_registered_once_and_finished_by_the_notebook(cohort):
    session = session_on(2, arm_of(cohort, "private"))
    assert session.step == session.steps == 12
    assert all(epoch["loss"] != epoch["loss"] for epoch in session.history)  # outside the promise
    ledger = session.arm.ledger()
    assert ledger["steps_done"] == 12 and ledger["epsilon_spent"]["PLD"] <= 5
    finished_runs.finish(
        session.model,
        cohort,
        1,
        run="small-run",
        arm="dp",
        seed=4,
        seconds=1.0,
        ledger=ledger,
        parameters=session.arm.promise.as_dict(),
        fingerprint=session.fingerprint,
        history=session.history,
        private_run=session.private,
    )
    lines = register.Register().lines()
    assert [line["event"] for line in lines if line["event"] != "checkpoint"] == [
        "begin",
        "taken up",
        "end",
    ]
    (run,) = register.Register().runs()
    assert run["noted"] == run["steps"] == 12 and run["is_ended"]
    assert private_run_files.finished_record(paths.run_dir("small-run"))["identity"]
    again = session_on(2, arm_of(cohort, "private"))  # nothing is started
    assert again.is_read and len(register.Register().lines()) == len(lines)


@pytest.mark.slow
@needs_two_cores
def test_the_head_is_trained_by_the_notebook_after_what_devices_trained(cohort, capfd):
    def arm():
        return arm_of(cohort, reads="levels", head=promise.HeadSteps(4, 0.5, 0.4))

    two = session_on(2, arm(), head_learning_rate=0.5)
    assert (two.step, two.steps) == (12, 16) and two.arm.is_at_head
    one = trained(session_on(1, arm(), run="small-one", head_learning_rate=0.5))
    trained(two)
    assert two.step == 16 and two.arm.ledger() == one.arm.ledger()
    difference = max(
        float((a - b).abs().max())
        for a, b in zip(one.model.state_dict().values(), two.model.state_dict().values())
    )
    assert difference < 1e-3
    capfd.readouterr()
    alone = arm_of(cohort, part="head", reads="levels", expected_batch_size=40)
    assert session_on(2, alone, run="small-head", head_learning_rate=0.5).step == 0
    assert "The head alone is trained on one device." in capfd.readouterr().out


def one_epoch(path):
    """Train the planned run for one epoch more, as one of several ranks."""
    epochs_left = loop.epochs_left
    loop.epochs_left = lambda session: itertools.islice(epochs_left(session), 1)
    program.train(training_plan.read(path))


@pytest.mark.parametrize("mode", ["demo", "ordinary"])
def test_a_run_goes_on_with_any_number_of_ranks(cohort, tmp_path, mode):
    one = trained(session_on(1, arm_of(cohort, mode), run="small-one"))
    arm = arm_of(cohort, mode)
    path = training_plan.write(training_plan.Training("small-run", arm.model, arm, settings_of()))
    steps = []
    for n in (3, 2):
        on_ranks(n, tmp_path, one_epoch, path)
        steps.append(checkpoints.read(paths.run_dir("small-run") / "checkpoint.pt")["step"])
    last = session_on(1, arm_of(cohort, mode))
    assert [*steps, last.step] == [one.epoch_ends[0], one.epoch_ends[1], one.epoch_ends[1]]
    trained(last)
    assert last.step == one.step and apart(last, one) < 1e-3
    if mode == "demo":
        assert last.arm.ledger() == one.arm.ledger()


# ---- what ends early


def end_one(what, n_seconds=60):
    """Once a checkpoint is there, end the second rank, or interrupt the launcher."""
    give_up = time.monotonic() + n_seconds
    while time.monotonic() < give_up:
        time.sleep(0.05)
        started = psutil.Process().children(recursive=True)
        second = [one for one in started if _rank_of(one) == "1"]
        if second and paths.run_dir("small-run").joinpath("checkpoint.pt").exists():
            second[0].kill() if what == "rank" else os.kill(os.getpid(), signal.SIGINT)
            return


def _rank_of(process):
    try:
        return process.environ().get("RANK")
    except psutil.Error:
        return None


@pytest.mark.slow
@needs_two_cores
@pytest.mark.parametrize("what", ["rank", "launcher"])
def test_a_rank_that_dies_is_one_line_and_the_run_goes_on_from_the_checkpoint(cohort, what):
    arm = arm_of(cohort, epochs=2000)
    killer = threading.Thread(target=end_one, args=(what,))
    killer.start()
    expected = errors.InputError if what == "rank" else KeyboardInterrupt
    try:
        with pytest.raises(expected) as refusal:
            session_on(2, arm, epochs=2000)
    finally:
        killer.join()
    if what == "rank":
        said = str(refusal.value)
        assert "got one killed by signal 9. Correct the cause" in said and "\n" not in said
    assert not [one for one in psutil.Process().children(recursive=True) if _rank_of(one)]
    stored = checkpoints.read(paths.run_dir("small-run") / "checkpoint.pt")["step"]
    session = session_on(1, arm_of(cohort, epochs=2000), epochs=2000)
    assert session.resumed and session.step == stored >= 4
    training_session.locks.release(paths.lock_path("small-run"))


@pytest.mark.slow
@needs_two_cores
def test_a_run_that_another_process_trains_is_refused_with_its_name(cohort):
    arm, path = arm_of(cohort, mode="ordinary"), paths.lock_path("small-run")
    path.parent.mkdir(parents=True)
    with open(path, "w") as handle:
        training_session.locks.wait_for(handle)
        handle.write("process 7 on elsewhere")
        handle.flush()
        with pytest.raises(errors.InputError, match="got process 7 on elsewhere at work in it"):
            session_on(2, arm)
