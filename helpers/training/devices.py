"""Several devices for one run: the same training in several processes that torchrun starts.

In: DEVICES, a run's network and arm, the settings of its session. Out: its session, which on
several devices takes up what they trained. Raises `InputError` for more devices than this machine
has, and with one line of the reason where a process has ended early.

The processes leave a checkpoint, as a kernel does that is killed after its last step. The session
takes it up, so that all that follows is the same whatever the number of devices.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from typing import IO

import psutil
import torch
from torch import nn

from helpers.core import errors, locks, machine, paths
from helpers.privacy import private_run_files
from helpers.training import checkpoints, private_step, training_plan, training_session

PROGRAM = "helpers.training"  # what torchrun starts; its lines on standard error begin so
SECONDS_TO_SAVE = 30  # what torchrun leaves an interrupted process, to write its checkpoint


def session(
    devices: int, run: str, model: nn.Module, arm: training_plan.Arm, **settings: object
) -> training_session.Session:
    """Begin a run, or take it up; on several devices after they have trained it.

    The head alone, and the second part of a run that is of the head alone, are trained by this
    process in any case: that takes seconds.

    Guarantees: the number of devices has no say in what identifies a run.

    Args:
        devices: GPUs of this machine, or without a GPU processes; 1: this process trains.
        run, model, arm, settings: see `training_session.Session`; of a cohort on disk.

    Raises:
        InputError: more devices than there are, a training process that has ended early, or what
            `Session` refuses.
    """
    errors.number("DEVICES", devices, 1, 4096, integer=True)
    if devices > 1:
        training = training_plan.Training(run, model, arm, settings)
        if getattr(arm, "is_head_alone", False):
            print("The head alone is trained on one device.")
        elif not _is_trained(training):
            _train(devices, training)
    begun = training_session.Session(run, model, arm, **settings)
    training_plan.remove(run)
    return begun


def steps_on_devices(arm: training_plan.Arm, epochs: int) -> int:
    """Return the steps that are made on several devices: all but those of the head alone."""
    return epochs * arm.steps_per_epoch


def _is_trained(training: training_plan.Training) -> bool:
    """Return whether the run is finished, or its checkpoint has all steps of several devices."""
    run, settings, arm = training.run, training.settings, training.arm
    is_private, fingerprint = arm.is_private, settings.get("fingerprint", "")
    if settings.get("spend_again"):
        return False  # the session of the first process knows
    if is_private and private_run_files.finished_record(paths.run_dir(run)):
        return True
    if not is_private and training_session.is_done(run, fingerprint):
        return True
    stored = checkpoints.read(paths.run_dir(run) / "checkpoint.pt")
    return stored.get("step", 0) >= steps_on_devices(arm, settings["epochs"]) and (
        is_private or stored.get("fingerprint") == fingerprint
    )


def _train(devices: int, training: training_plan.Training) -> None:
    """Train in so many processes, and show what the first one prints."""
    if isinstance(training.arm, private_step.PrivateArm):
        training.arm.check_unused()
    plan = training_plan.write(training)
    _refuse_too_many(devices, plan)
    locks.release(paths.lock_path(training.run))  # of an earlier session here: they hold it now
    words = ["--standalone", "--nproc-per-node", str(devices), "--module", PROGRAM, str(plan)]
    folders = [str(paths.repository_root()), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(max(1, machine.threads() // devices)),
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
    }
    print(f"Trains in {devices} processes.", flush=True)
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        try:
            _show(process.stdout)
            process.wait()
        finally:
            _stop(process)
        if process.returncode:
            complaints.seek(0)
            _refuse(complaints.read().decode(errors="replace"), training.run)


def _refuse_too_many(devices: int, plan: os.PathLike) -> None:
    """Accept as many devices as this machine has: GPUs, or cores where it has none."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    most, kind = (n_gpus, "GPUs") if n_gpus else (machine.cores(), "cores")
    if devices > most:
        errors.refuse(
            f"at most {most} as DEVICES, the {kind} of this machine",
            devices,
            f"Set fewer, or train {plan} on several machines (docs/devices.md).",
        )


def _show(stream: IO[bytes]) -> None:
    """Print what a process prints, as it comes."""
    while piece := os.read(stream.fileno(), 2**16):
        sys.stdout.write(piece.decode(errors="replace"))
        sys.stdout.flush()


def _stop(process: subprocess.Popen) -> None:
    """End torchrun and what it started, if they still run; the first one writes its checkpoint."""
    process.stdout.close()
    if process.poll() is not None:
        return
    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_SAVE)
    for left in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.kill()
    process.wait()


def _refuse(complaints: str, run: str) -> None:
    """Raise `InputError` with the reason why a process has ended early.

    That of the one that ended first: the others only say that one has.
    """
    said = re.findall(rf"^{re.escape(PROGRAM)}: (.+)$", complaints, re.MULTILINE)
    reasons = [line for line in said if "got one that has ended" not in line]
    if reasons and reasons[0].startswith("Expected "):
        raise errors.InputError(reasons[0])
    codes = re.findall(r"exitcode\s*: (-?\d+)", complaints)
    killed = [f"one killed by signal {-int(code)}" for code in codes if int(code) < 0]
    errors.refuse(
        f"all processes that train {run} to end together",
        (reasons or killed or ["one that has ended"])[0],
        "Correct the cause (memory, a lost GPU) and run the cell again: it goes on from the"
        " checkpoint, with any DEVICES.",
    )
