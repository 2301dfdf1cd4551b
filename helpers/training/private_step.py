"""A private training step (DP-SGD): Poisson-subsampled units, clipped per-unit gradients, Gaussian
noise once.

In: a training set, a network, a privacy budget. Out: gradients in `parameter.grad`, step by step.
Raises `InputError` for a batch larger than the cohort, delta too large, networks that cannot be
clipped, private mode without noise, steps beyond the planned ones, a second session.
"""

import dataclasses
import math

import numpy as np
import torch
from torch import nn

from helpers.core import errors, notebook_parameters
from helpers.data import cohorts
from helpers.privacy import (
    accounting,
    clipping,
    model_validation,
    privacy_ledger,
    promise,
    sampling_and_noise,
    units,
)
from helpers.training import (
    frozen_head,
    image_loss,
    network_input,
    networks,
    ranks,
    same_films,
    training_set,
    weight_files,
)


class PrivateArm(sampling_and_noise.Unrepeatable):
    """Private training: units drawn by chance, their gradients clipped and summed, noise added once
    a step.

    Guarantees: adjacent data sets differ in the sum by what `ClippedSum` bounds, since the
    augmentation of an image follows from its own unit and the step, not from who else was drawn; a
    step begins without sums of another; noise of `noise_multiplier` x `clip_norm` is added to every
    step, also one in which no unit was drawn; the divisor is the declared expected number; nothing
    but the noisy mean reaches the optimizer. Steps are counted where noise is drawn, and none is
    released beyond the planned ones; in private mode none without a session, which has registered
    the run. The arm cannot be copied, pickled or used in a forked process.

    Of several processes (see `ranks`) the first one draws once for all, each adds the clipped
    gradients of its share of the drawn units, a unit whole, and the first one adds noise once to
    the sum of all. Guarantees: no other rank has noise, an optimizer or a file, so that none can
    release its sums.

    In mode "none" it is the same recipe without noise, see `same_recipe`: the same draws, steps and
    divisor, and no promise. Guarantees: such an arm is not private, enters no register and has no
    ledger.
    """

    def __init__(
        self,
        data: training_set.TrainingSet,
        model: nn.Module,
        budget: promise.PrivacyBudget,
        batching: promise.Batching,
        *,
        mode: str,
        seed: int,
        lineage: list[dict] | None = None,
        weighting: tuple[str, torch.Tensor | None] = ("none", None),
        channels: int = 1,
        precision: str = "float32",
        head: promise.HeadSteps | None = None,
    ) -> None:
        """Calibrate the noise, hook the network, and fix what it starts from: the present weights.

        Where nothing but the network's head is trained, it is trained on frozen features, see
        `frozen_head`.

        Args:
            data: the training images, gathered by the unit of the promise.
            model: on the device where it is to be trained.
            budget, batching: what is promised to whom, see `promise`.
            mode, seed: see `sampling_and_noise.Randomness`; in mode "none" nothing is promised.
            lineage: what trained the model so far, see `lineage`; [] for random weights, None for
                nobody knows.
            weighting: where the weight of positive labels comes from ("none", "public", "private
                labels"), and the weight.
            channels: of the model's input.
            precision: of the network, see `image_loss.autocast`.
            head: full-batch steps of the head alone, after those of `batching`, within the same
                budget; None for none.

        Raises:
            InputError: a budget that promises nothing or is not kept, or a network that cannot be
                clipped.
        """
        if getattr(model, "was_trained", False):
            errors.refuse(
                "a network as it starts, which nothing has trained in this process",
                "one that was trained",
                "Run the notebook from the top: it makes the network anew, and takes up what is on"
                " disk.",
            )
        if data.cohort:
            notebook_parameters.mode_fits(mode, data.cohort.record.get("access", "private"))
        weighted_by, self.pos_weight = weighting
        n_units = len(data.units)
        self.promise = promise.settle(
            budget,
            batching,
            unit=data.unit,
            n_units=n_units,
            most_images=data.most_images,
            mode=mode,
            pos_weight=weighted_by,
            head=head,
        )
        self.warning = promise.check_delta(
            budget.delta, n_units, data.unit, budget.allow_weak_delta
        )
        if mode == "none":
            self.warning = "Nothing is promised: the recipe of a private run, without its noise."
        self.network, self.channels = model, channels
        self.budget, self.batching, self.head_steps = budget, batching, head
        self.seed, self.precision = seed, precision
        self.steps, self.sample_rate = self.promise.steps, self.promise.sample_rate
        self.steps_per_epoch = batching.steps_per_epoch(n_units)
        self.physical_batch_size = batching.physical_batch_size
        self.randomness = sampling_and_noise.Randomness(
            mode, seed, self.promise.total_steps, is_registered=False
        )
        self.is_head_alone = frozen_head.is_head_alone(model)
        self._train(data)
        self.start, self.lineage = weight_files.weights_hash(model.state_dict()), lineage
        self.is_private, self.shows_diagnostics = mode == "private", mode == "demo"
        self._session: object = None
        self.diagnostics: list[dict] = []  # outside the promise
        self.head_arm = _head_arm(self) if head else None

    def _train(self, data: training_set.TrainingSet) -> None:
        """Hook what is trained, and take its data: images, or features where it is the head."""
        self.data, self.model = self.data_of(data), self.network
        if self.is_head_alone:
            model_validation.trainable_layers(self.network)  # the trunk is no part of the reader
            self.model = frozen_head.FeatureReader(self.network)
        self.clipped = clipping.ClippedSum(
            self.model,
            self.promise.clip_norm,
            networks.rows_per_image(self.network),
            self.promise.max_images_per_unit * self.promise.views_per_image,
        )

    def data_of(self, images: training_set.TrainingSet) -> training_set.TrainingSet:
        """Return a training set of images as what is trained reads it: features for the head."""
        if not self.is_head_alone:
            return images
        return frozen_head.FrozenFeatures.of_images(
            images, self.network, self.channels, self.precision
        )

    def input_of(self, images: torch.Tensor) -> torch.Tensor:
        """Return the input of what is trained for (batch, *size) uint8 images."""
        if not self.is_head_alone:
            return network_input.to_input(images, self.channels)
        rows = np.arange(len(images))
        return frozen_head.features_of(self.network, images.cpu().numpy(), rows, self.channels).to(
            images.device
        )

    @property
    def is_at_head(self) -> bool:
        """Return whether the next step is one of the head alone, after those of more weights."""
        return self.head_arm is not None and self.steps_done >= self.steps

    @property
    def epoch_ends(self) -> list[int]:
        """Return the steps after which something is shown: each pass; of the head, which makes a
        pass in each step, half of them.
        """
        passes = list(range(self.steps_per_epoch, self.steps + 1, self.steps_per_epoch))
        if self.is_head_alone:
            passes = _halves(self.steps)
        if self.head_arm:
            passes += [self.steps + end for end in _halves(self.head_arm.steps)]
        return passes

    @property
    def steps_done(self) -> int:
        """Return the number of noisy sums released, earlier sessions of the run included."""
        return self.randomness.released

    def go_on_after(self, steps: int) -> None:
        """Count the steps that earlier sessions of the run released."""
        self.randomness.go_on_after(steps)

    def check_unused(self) -> None:
        """Accept an arm that no session has used, with the weights with which it was made.

        Raises:
            InputError: another session has it, a step was made already, or the weights are others
                by now.
        """
        if self._session is not None or self.steps_done:
            errors.refuse(
                "an arm that no session has used",
                f"one with {self.steps_done} of {self.steps} steps released",
                "Go on with its session (run the training cell again), or run the notebook from the"
                " top: it takes up what was written.",
            )
        if weight_files.weights_hash(self.network.state_dict()) != self.start:
            errors.refuse(
                "the weights with which the arm was made",
                "others, changed since",
                "Run the notebook from the top: a private run starts from public weights.",
            )

    def belong_to(self, session: object) -> None:
        """Let this session, which has registered the run, and no other, train with the arm.

        See `check_unused`.
        """
        self.check_unused()
        self._session, self.randomness.is_registered = session, True

    def draw(self) -> dict[int, np.ndarray]:
        """Return the units that enter the next step, each with the positions of its images that
        enter.
        """
        drawn = self.randomness.draw_units(len(self.data.units), self.sample_rate)
        images = [self.data.units[unit] for unit in drawn]
        return dict(
            zip(drawn, self.randomness.choose_images(images, self.promise.max_images_per_unit))
        )

    def set_gradients(self) -> tuple[float, int]:
        """Set the next step's noisy mean of clipped gradients; return the sum of losses and the
        number of images.

        Both are 0 in private mode: they are outside the promise, and a checkpoint holds them.

        Raises:
            InputError: all planned steps are released, or in private mode no session has registered
                the run.
        """
        if self.is_at_head:
            return self.head_arm.set_gradients()
        self.randomness.check_step_left()
        self.clipped.take()  # what an interrupted attempt at this step left
        drawn, views = self.draw(), self.promise.views_per_image
        if views > 1:
            drawn = {unit: np.repeat(images, views) for unit, images in drawn.items()}
        sums = self._add_share(*ranks.told((drawn, self.steps_done), self.trained))
        signal, noise = self.set_noisy_mean()
        if not self.shows_diagnostics:
            return 0.0, 0
        loss_sum, n_clipped = sums.tolist()  # waits for the device
        self.diagnostics.append(
            {
                "units": len(drawn),
                "clipped_fraction": n_clipped / max(1, len(drawn)),
                "signal_to_noise": signal / noise if noise else math.nan,
            }
        )
        return loss_sum, sum(len(images) for images in drawn.values())

    @property
    def trained(self) -> list[nn.Parameter]:
        """Return the weights that are trained."""
        return self.clipped.parameters

    def help(self, drawn: dict[int, np.ndarray], step: int) -> None:
        """Send the clipped sum of this rank's share of a step to the first rank, see `ranks`."""
        self.clipped.take()
        self._add_share(drawn, step)
        ranks.add_up(self.clipped.take())

    def _add_share(self, drawn: dict[int, np.ndarray], step: int) -> torch.Tensor:
        """Add the clipped gradients of this rank's share of the drawn units, whole ones.

        Return the sum of losses and the number of clipped units, on the first rank those of all.
        """
        units_here = {unit: drawn[unit] for unit in list(drawn)[ranks.share()]}
        loss_sum, norms = self.add_units(units_here, step)
        n_clipped = (norms > self.promise.clip_norm).sum()
        return ranks.add_up([torch.stack([loss_sum.double(), n_clipped.double()])])[0]

    def add_units(
        self, drawn: dict[int, np.ndarray], step: int, loss_scale: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the clipped gradients of some units, whole ones at a time.

        Return the sum of losses and the norms, on the device, for which nothing waits. `loss_scale`
        multiplies every loss, and so every gradient before it is clipped: a small one shows
        gradients that are not clipped.

        Guarantees: the clipping norm is the promised one, whatever the scale.
        """
        positions = list(drawn.values())
        moves = self._moves(drawn, step)
        device = next(self.model.parameters()).device
        loss_sum, norms = torch.zeros((), device=device), [torch.zeros(0, device=device)]
        at_a_time = self.physical_batch_size * self.data.lightness
        n_images = [len(images) for images in positions]
        for piece in units.pieces(n_images, at_a_time, self.clipped.is_batched):
            images, labels = self.data.batch(
                np.concatenate(positions[piece]),
                np.concatenate(moves[piece]),
                self.channels,
                device,
            )
            sizes = [len(of_unit) for of_unit in positions[piece]]
            unit_index = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
            with image_loss.autocast(device, self.precision):
                losses = image_loss.image_losses(
                    self.clipped.logits(images), labels, self.pos_weight
                )
            norms.append(self.clipped.add(loss_scale * losses, unit_index, len(sizes)))
            loss_sum += losses.detach().nansum()
            del images, losses  # before the next ones are read
        return loss_sum, torch.cat(norms)

    def _moves(self, drawn: dict[int, np.ndarray], step: int) -> list[np.ndarray]:
        """Return how the images of each drawn unit are moved; features are not."""
        if self.is_head_alone:
            return [np.zeros((len(images), 0), dtype=int) for images in drawn.values()]
        return [
            self.data.moves(len(images), self.randomness.augmentation(self.data.names[unit], step))
            for unit, images in drawn.items()
        ]

    def set_noisy_mean(self) -> tuple[float, float]:
        """Set gradients to (sum + noise) / expected number of units, and clear the sum.

        Return both L2 norms (demo mode). With several ranks the sum is over all of them.
        """
        sums = ranks.add_up(self.clipped.take())
        noise = self.randomness.noise(sums, self.promise.noise_multiplier * self.promise.clip_norm)
        norms = (
            [math.sqrt(sum(float(t.square().sum()) for t in parts)) for parts in (sums, noise)]
            if self.shows_diagnostics
            else [math.nan, math.nan]
        )
        self.network.zero_grad()  # nothing but noisy sums may reach the optimizer
        for parameter, total, added in zip(self.clipped.parameters, sums, noise):
            parameter.grad = total.add_(added).div_(self.promise.expected_batch_size)
        return norms[0], norms[1]

    def epsilon_spent(self) -> float:
        """Return epsilon (PLD) after the steps released so far; infinity without noise."""
        return accounting.epsilon_of_all(self.promise.runs(self.steps_done), self.promise.delta)

    def ledger(self, **handled: str) -> dict:
        """Return the privacy ledger of the steps released.

        `handled` says how this run handled what the promise does not cover.

        Raises:
            InputError: mode "none", which promises nothing.
        """
        if self.promise.mode == "none":
            errors.refuse(
                "a private arm, which has a ledger",
                "one without noise, which promises nothing",
                "Record the run without a ledger, like the baseline.",
            )
        of_data = {"merged patients": training_set.merged_in_words(self.data.merged)}
        if self.data.cohort:
            of_data |= same_films.ledger_entry(self.data.cohort)
            if not cohorts.patients_are_known(self.data.cohort.record):
                of_data[privacy_ledger.SEVERAL_IMAGES] = (
                    "the data do not say whose an image is: several images of one person are"
                    " protected one at a time only, and nobody knows how many there are"
                )
        return privacy_ledger.ledger(
            steps_done=self.steps_done,
            handled=of_data | handled,
            lineage=self.lineage,
            **self.promise.as_dict(),
        )


def _head_arm(first: PrivateArm) -> PrivateArm:
    """Return the second part of a run: full-batch steps of the head, on features that are computed
    when the first part has ended.

    Guarantees: it draws from the first part's randomness, which counts the steps of both.
    """
    second = object.__new__(PrivateArm)
    vars(second).update(vars(first))
    of_head = dataclasses.asdict(first.promise.head) | {"head": None}
    second.promise, second.is_head_alone = dataclasses.replace(first.promise, **of_head), True
    second.steps, second.sample_rate = second.promise.steps, second.promise.sample_rate
    second.steps_per_epoch, second.head_arm = 1, None
    trained = [p for p in first.network.parameters() if p.requires_grad]
    networks.train_only(first.network, "head")
    second._train(first.data)
    for parameter in trained:
        parameter.requires_grad_(True)
    return second


def _halves(steps: int) -> list[int]:
    """Return the ends of two halves of some steps."""
    return sorted({max(1, steps // 2), steps})
