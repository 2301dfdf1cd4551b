"""The training loop, one for ordinary and private training.

In: a session. Out: a trained network and the mean loss of each epoch.
"""

import math
import time

from helpers.training import checkpoints, training_session


def epochs_left(session: training_session.Session | None) -> range:
    """Return the numbers of the epochs still to be trained, from 1.

    None without a session, or where the run is finished.
    """
    return (
        range(session.epoch + 1, len(session.epoch_ends) + 1)
        if session and not session.is_read
        else range(0)
    )


def train_one_epoch(session: training_session.Session) -> float:
    """Train to the end of the present epoch; after the last pass over images the model has the
    running mean of its weights.

    Returns:
        The mean loss per image over the epoch's draws; NaN in private mode, where the loss is
        outside the promise.
    """
    session.model.train()
    session.begin_progress()
    # beyond the last one the arm refuses
    goal = [*session.epoch_ends, session.steps + 1][session.epoch]
    try:
        while session.step < goal:
            with checkpoints.undisturbed():
                _train_one_step(session)
            # a step's time tells how many were drawn
            if session.arm.shows_diagnostics or session.step == goal:
                session.show_progress()
            session.save_if_due()
    except BaseException:
        # what a live kernel holds is on disk, and of a private run counted: the run goes on from
        # here
        if session.step > session._saved_step:
            session.save()
        raise
    mean_loss = session.loss_sum / max(1, session.n_images)
    session.loss_sum, session.n_images = 0.0, 0
    return mean_loss if session.arm.shows_diagnostics else math.nan


def _train_one_step(session: training_session.Session) -> None:
    """Make one step; after the last one the model has the running mean of its weights."""
    started = time.monotonic()
    session.turn_to_head()
    for group in session.optimizer.param_groups:
        group["lr"] = session.rate()
    loss_sum, n_images = session.arm.set_gradients()  # counts the step before it is applied
    session.model.was_trained = True  # so that no private arm takes it for a start
    session.optimizer.step()
    session.average()
    session.loss_sum, session.n_images = session.loss_sum + loss_sum, session.n_images + n_images
    session.seconds += time.monotonic() - started
    if session.step in session.part_ends:
        session.take_mean()
