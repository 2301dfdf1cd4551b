"""A training run under way: model, optimizer, arm, checkpoint, and how far it is.

In: a network and an arm (`ordinary_step`, `private_step`). Out: a session that begins, resumes or
finds its run finished. Raises `InputError` for a run that another process trains; in private mode
for whatever would spend a budget twice (`private_runs`).
"""

import contextlib
import functools
import time
import weakref

import torch
from torch import nn

from helpers.core import errors, fingerprints, locks, paths, progress, run_records
from helpers.privacy import lineage, private_run_files, private_runs, register, sampling_and_noise
from helpers.training import (
    checkpoints,
    learning_rate,
    ordinary_step,
    private_identity,
    private_step,
    same_films,
    weight_files,
)

CHECKPOINT_SECONDS = 60
# by place of the checkpoint, the last session in this process
_live: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


class Session(sampling_and_noise.Unrepeatable):
    """A training run under way: model, optimizer, arm, and how far it is.

    Guarantees: a checkpoint is written whole, between steps only; in demo mode and on the same
    machine a run resumed from it equals the uninterrupted one bit for bit. A private run stands in
    the privacy register before its first step, and steps that are on disk are in the register
    first.
    """

    def __init__(
        self,
        run: str,
        model: nn.Module,
        arm: ordinary_step.BaselineArm | private_step.PrivateArm,
        *,
        epochs: int,
        learning_rate: float,
        fingerprint: str = "",
        schedule: str = "cosine",
        averaging: float = 0.0,
        head_learning_rate: float = 0.0,
        parameters: dict | None = None,
        spend_again: bool = False,
        budget: float | None = None,
        is_quiet: bool = False,
    ) -> None:
        """Begin a run, go on from its checkpoint, or take it up where it is finished.

        Args:
            run: name of the run, see `run_records.run_name`.
            model: on the device where it is to be trained; the one the arm was made with.
            arm: says which images enter a step and what the gradient is; not yet used.
            epochs: expected passes through the training units.
            learning_rate: the highest of the schedule `learning_rate_at`.
            schedule: "cosine" or "constant", see `learning_rate_at`.
            averaging: decay of the running mean of weights that the finished run has; 0 for its
                last weights. A mean of what is private already costs no privacy.
            head_learning_rate: the highest for steps of the head alone on frozen features, which
                are made with momentum and not averaged; > 0 where there are such steps.
            fingerprint: of all that decides the numbers, see `fingerprints.fingerprint`; code
                included. Private mode has an identity in its place: promise, data, start and
                `parameters`, never code.
            parameters: declared ones, for the identity of a private run.
            spend_again, budget: of a private run, see `private_runs.begin`.
            is_quiet: no progress bar, where the run is one of many.

        Raises:
            InputError: another process trains the run, the arm was used, or a private run cannot be
                taken up.
        """
        if getattr(arm, "steps", epochs * arm.steps_per_epoch) != epochs * arm.steps_per_epoch:
            errors.refuse(
                f"EPOCHS for which the noise was calibrated ({arm.steps} steps)",
                f"{epochs} ({epochs * arm.steps_per_epoch} steps)",
                "Use the same EPOCHS for the arm and the session.",
            )
        if isinstance(arm, private_step.PrivateArm):
            arm.check_unused()
            if arm.is_head_alone or arm.head_arm:
                errors.number("HEAD_LEARNING_RATE", head_learning_rate, 0, 1e4, open_low=True)
        self.run, self.model, self.arm, self.epochs = run, model, arm, epochs
        self.learning_rate, self.fingerprint, self.schedule = learning_rate, fingerprint, schedule
        self.averaging = errors.number("AVERAGING", averaging, 0, 0.9999)
        self.head_learning_rate = head_learning_rate
        self._take_optimizer()
        self.seconds, self.history, self.loss_sum, self.n_images = 0.0, [], 0.0, 0
        self.checkpoint, self.private, self._bar = paths.run_dir(run) / "checkpoint.pt", None, None
        self.is_quiet = is_quiet
        is_held = locks.is_held(paths.lock_path(run))
        if not locks.hold(
            paths.lock_path(run),
            f"the run {run}",
            "Wait for it, or end it (in JupyterLab: shut its kernel down).",
        ):
            print(f"This disk has no locks: see to it that nobody else trains {run} meanwhile.")
        try:
            self.resumed = self._begin(parameters or {}, spend_again, budget)
        except BaseException:
            if not is_held:
                locks.release(paths.lock_path(run))
            raise
        model.was_trained = getattr(model, "was_trained", False) or self.resumed
        self._saved_at, self._saved_step = time.monotonic(), self.step
        _live[self.checkpoint] = self

    @property
    def is_at_head(self) -> bool:
        """Return whether the head alone is trained, on frozen features."""
        return getattr(self.arm, "is_head_alone", False) or getattr(self.arm, "is_at_head", False)

    def _take_optimizer(self) -> None:
        """Make the optimizer of the present part of the run, and begin its running mean."""
        self.of_head = self.is_at_head
        head_arm = getattr(self.arm, "head_arm", None)
        self.trained = (
            head_arm.clipped.parameters
            if self.of_head and head_arm
            else [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        )
        self.mean_weights = [parameter.detach().clone() for parameter in self.trained]
        self.optimizer = (
            torch.optim.SGD(self.trained, lr=self.head_learning_rate, momentum=0.9)
            if self.of_head
            else torch.optim.NAdam(self.trained, lr=self.learning_rate)
        )

    def turn_to_head(self) -> None:
        """Go over from all weights to the head alone, once the steps of the former are made; the
        trunk then has the running mean of its weights.
        """
        if self.is_at_head and not self.of_head:
            self.take_mean()
            self._go_to_head()

    def _go_to_head(self) -> None:
        """Train the head alone from now on, on features of the trunk as it is."""
        self.arm.head_arm.data.forget()
        self._take_optimizer()

    def _begin(self, parameters: dict, spend_again: bool, budget: float | None) -> bool:
        """Begin the run, or take it up; return whether it was there."""
        earlier = _live.get(self.checkpoint)
        if earlier and earlier.private and earlier.step > earlier._saved_step:
            # not the last session of its run, or a full disk: its steps count all the same
            with contextlib.suppress(errors.InputError, OSError):
                # cells run again, from the top: what the kernel holds is not thrown away
                earlier.save()
        stored = checkpoints.read(self.checkpoint)
        if self.arm.is_private:
            self.private = self._private_run(stored, parameters, spend_again, budget)
        else:
            private_run_files.refuse_other(self.run)
        if isinstance(self.arm, private_step.PrivateArm):
            self.arm.belong_to(self)
        return self._take_up_finished() or self._resume(stored)

    def _private_run(
        self, stored: dict, parameters: dict, spend_again: bool, budget: float | None
    ) -> private_runs.PrivateRun:
        """Enter a private run in the register, or take it up."""
        arm, cohort, folder, earlier = (
            self.arm,
            self.arm.data.cohort,
            paths.run_dir(self.run),
            _live.get(self.checkpoint),
        )
        if cohort is None:
            errors.refuse(
                "the training set of a cohort",
                "one made by hand, whose patients nobody knows",
                "Make it with `TrainingSet.of`.",
            )
        same_films.check_study_of(cohort)
        patients = register.Register().enrol(*cohort.training_patients())
        arm.lineage = lineage.checked(arm.lineage, cohort.name, patients)
        on_disk = private_run_files.OnDisk(
            stored.get("uuid", private_run_files.EARLIER) if stored else None,
            stored.get("step", 0),
            stored.get("identity") or {},
            weight_files.hash_of_file(folder / "weights.safetensors"),
            *((earlier.private.uuid, earlier.step) if earlier and earlier.private else ()),
        )
        identity = private_identity.identity_of(
            arm,
            self.model,
            parameters,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            averaging=self.averaging,
            head_learning_rate=self.head_learning_rate,
        )
        self.fingerprint = fingerprints.fingerprint(identity)
        run = private_runs.begin(
            self.run,
            arm.promise,
            identity,
            patients,
            cohort.name,
            on_disk,
            spend_again=spend_again,
            budget=budget,
        )
        if not run.released:
            weight_files.save_weights(
                self.model,
                folder / private_run_files.START,
                [cohort.canonical[finding] for finding in cohort.findings],
                arm.lineage,
            )
        return run

    @property
    def is_read(self) -> bool:
        """Return whether this is a private run that was finished before.

        It is read, not trained.
        """
        return bool(self.private and self.private.is_finished)

    @property
    def step(self) -> int:
        """Return the number of steps made; the arm counts them."""
        return self.arm.steps_done

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps of the whole run."""
        return self.epoch_ends[-1]

    @property
    def epoch_ends(self) -> list[int]:
        """Return the steps after which something is shown: each pass, and parts of the head's."""
        per_epoch = self.arm.steps_per_epoch
        ends = [per_epoch * (epoch + 1) for epoch in range(self.epochs)]
        return getattr(self.arm, "epoch_ends", ends)

    @property
    def images_a_step(self) -> float | None:
        """Return how many images a step has; None where it has features of all in place of images.

        Guarantees: of a private step the expected number, whatever was drawn: who knows how many
            were drawn knows something of who was.
        """
        if self.is_at_head:
            return None
        if isinstance(self.arm, private_step.PrivateArm):
            return self._expected_images
        return self.arm.batch_size

    @functools.cached_property
    def _expected_images(self) -> float:
        """Images of a private step on average: of each unit as many as may enter, once for each
        view.
        """
        promised = self.arm.promise
        of_unit = (min(len(images), promised.max_images_per_unit) for images in self.arm.data.units)
        return self.arm.sample_rate * sum(of_unit) * promised.views_per_image

    def begin_progress(self) -> None:
        """Show the progress bar, one for the whole run, where it stands; in private mode at the
        beginning of an epoch only.

        Guarantees: in private mode its speed is of whole epochs. That of a few steps would tell how
            many patients they drew.
        """
        at_beginning = self.step in (0, *self.epoch_ends)
        if not self.is_quiet and self._bar is None and (self.arm.shows_diagnostics or at_beginning):
            self._bar = progress.progress(self.steps, "steps", self.step)

    def show_progress(self) -> None:
        """Move the progress bar to the present step."""
        if self.is_quiet:
            return
        self.begin_progress()
        self._bar.images_a_piece = self.images_a_step
        self._bar.update(self.step - self._bar.n)
        if self.step == self.steps:
            self._bar.close()

    @property
    def part_ends(self) -> list[int]:
        """Return the steps after which a part of the run ends: images, then the head alone."""
        has_two = getattr(self.arm, "head_arm", None) is not None
        return [self.arm.steps, self.steps] if has_two else [self.steps]

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        if not self.of_head:
            return learning_rate.learning_rate_at(
                self.step, self.part_ends[0], self.learning_rate, self.schedule
            )
        if self.schedule == "constant":
            return self.head_learning_rate
        begun = self.part_ends[0] if len(self.part_ends) > 1 else 0
        return learning_rate.cosine(self.step - begun, self.steps - begun, self.head_learning_rate)

    @property
    def epoch(self) -> int:
        """Return the number of finished epochs."""
        return sum(end <= self.step for end in self.epoch_ends)

    def end_epoch(self, **shown: float) -> None:
        """Keep what is shown of the epoch just finished, and write both with the checkpoint."""
        self.history.append({"epoch": self.epoch, **shown})
        self.save()

    def save(self) -> None:
        """Write the checkpoint; of a private run it counts only once its steps are in the register.

        Raises:
            InputError: another session has taken up this private run.
        """
        if self.private:
            self.private.check_owner()
        content = {
            name: getattr(self, name)
            for name in (
                "fingerprint",
                "step",
                "seconds",
                "mean_weights",
                "history",
                "loss_sum",
                "n_images",
                "of_head",
            )
        }
        checkpoints.write(
            self.checkpoint,
            content
            | {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "diagnostics": getattr(self.arm, "diagnostics", []),
                "uuid": self.private and self.private.uuid,
                "identity": self.private and self.private.identity,
            },
            lambda: self.private and self.private.before_checkpoint(self.step),
        )
        self._saved_at, self._saved_step = time.monotonic(), self.step

    def _take_up_finished(self) -> bool:
        """Take up the run if it is finished.

        To train once more would spend the budget once more.
        """
        if not (self.private.is_finished if self.private else is_done(self.run, self.fingerprint)):
            return False
        self.model.load_state_dict(
            weight_files.load_weights(paths.run_dir(self.run) / "weights.safetensors")[0]
        )
        record = run_records.read_record(self.run)
        self.arm.go_on_after(self.private.released if self.private else self.steps)
        self.seconds, self.history = record["seconds"], record["history"]
        return True

    def _resume(self, stored: dict) -> bool:
        """Take up the checkpoint if it belongs to this very run (of a private one
        `private_runs.begin` knows); return whether it did.
        """
        if (
            not stored
            or stored.get("uuid") != (self.private and self.private.uuid)
            or not self.private
            and stored["fingerprint"] != self.fingerprint
        ):
            return False
        self.model.load_state_dict(stored["model"])
        if stored.get("of_head", self.of_head) != self.of_head:
            self.arm.go_on_after(stored["step"])
            self._go_to_head()
        self.optimizer.load_state_dict(stored["optimizer"])
        for name in ("seconds", "history", "loss_sum", "n_images"):
            setattr(self, name, stored[name])
        torch._foreach_copy_(self.mean_weights, stored["mean_weights"])
        self.arm.go_on_after(self.private.released if self.private else stored["step"])
        if self.step > stored["step"]:
            print(
                f"{self.step - stored['step']} steps after this checkpoint were released and are"
                " lost: they stay counted."
            )
        if stored["diagnostics"]:
            self.arm.diagnostics[:] = stored["diagnostics"]  # one list for both parts
        if self.step == self.part_ends[-1]:  # killed between the last step and its epoch's end
            self.take_mean()
        return True

    @torch.no_grad()
    def average(self) -> None:
        """Bring the running mean of weights up to date.

        At first of a shorter memory, so that it forgets the start. None is taken of the head alone.
        """
        if self.of_head:
            return
        decay = min(self.averaging, self.step / (self.step + 9))
        torch._foreach_lerp_(self.mean_weights, self.trained, 1 - decay)

    @torch.no_grad()
    def take_mean(self) -> None:
        """Give the model the running mean of its weights, where one is taken."""
        if self.of_head:
            return
        torch._foreach_copy_(self.trained, self.mean_weights)

    def save_if_due(self) -> None:
        """Write the checkpoint if the last one is older than `CHECKPOINT_SECONDS`."""
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self.save()


def is_done(run: str, fingerprint: str) -> bool:
    """Return whether a run is whole and was made with the same data, code and parameters."""
    return (
        run_records.is_whole(run) and run_records.read_record(run).get("fingerprint") == fingerprint
    )
