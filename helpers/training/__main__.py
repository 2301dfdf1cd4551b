"""Train a planned run in this process, or in each of those that torchrun started.

    torchrun --nproc-per-node 4 -m helpers.training results/runs/RUN/devices.json

In: the plan that the notebook wrote (`training_plan`). Out: the run's checkpoint, from which the
notebook goes on. A refusal, and the end of another process, are one line on standard error.
"""

import argparse
import signal
import sys
import traceback
from pathlib import Path

from helpers.analysis import metrics
from helpers.core import errors
from helpers.training import (
    checkpoints,
    devices,
    loop,
    prediction,
    private_step,
    ranks,
    training_plan,
    training_session,
)


def main() -> int:
    """Read the command line.

    Return 0, or 2 with a refusal, 1 with another error, 130 when stopped.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {devices.PROGRAM}", description=__doc__.splitlines()[0]
    )
    parser.add_argument("plan", type=Path, help="devices.json in the run's folder")
    plan = parser.parse_args().plan
    # as Ctrl-C, which waits for the end of a step
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        ranks.begin()
        training = training_plan.read(plan)
        ranks.check_same(training_plan.fingerprint(plan))
        train(training)
        ranks.end()
    except errors.InputError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        traceback.print_exc()
        return _complain(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}", 1)
    return 0


def train(training: training_plan.Training) -> None:
    """Make the steps of a run that several devices make.

    Guarantees: the first rank alone has a session, and so the register, noise, optimizer and files.
    """
    arm = training.arm
    if not ranks.is_first():
        while work := ranks.told(None, arm.trained):
            with checkpoints.undisturbed():
                arm.help(*work)
        return
    session = training_session.Session(training.run, training.model, arm, **training.settings)
    last = devices.steps_on_devices(arm, session.epochs)
    for _ in loop.epochs_left(session):
        if session.step >= last:
            break
        train_one_epoch(session)
    ranks.told(None, arm.trained)


def train_one_epoch(session: training_session.Session) -> None:
    """Train for an epoch, and keep of it what the notebooks show."""
    arm, shown = session.arm, {"loss": loop.train_one_epoch(session)}
    shown["valid_auroc"] = metrics.macro_auroc(
        *prediction.labels_and_scores(session.model, arm.data.cohort, "valid", arm.channels)
    )
    if isinstance(arm, private_step.PrivateArm):
        shown["epsilon_spent"] = arm.epsilon_spent()
    session.end_epoch(**shown)


def _complain(reason: str, code: int) -> int:
    """Print one line on standard error; return the exit status."""
    print(f"{devices.PROGRAM}: {reason}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
