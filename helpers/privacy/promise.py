"""What a private run promises, fixed before it begins.

In: the privacy budget, the batching, the units, and the steps of the head where it is trained
after all weights. Out: the promise, with its calibrated noise. Needs no torch, so that a study can
be planned. Raises `InputError` for a delta that promises nothing (at or above 1 / number of units),
and for a budget that is not kept.
"""

import dataclasses

from helpers.core import errors
from helpers.privacy import accounting, calibration, run_parts
from helpers.privacy.run_parts import Part

# "none": the recipe of a private run without its noise; nothing is promised
MODES = ("demo", "private", "none")


@dataclasses.dataclass(frozen=True)
class PrivacyBudget:
    """The (epsilon, delta) of a private run, the clipping norm and the noise that keep it.

    Attributes:
        epsilon, delta: the budget.
        clip_norm: L2 norm to which a unit's gradient is clipped, > 0.
        noise_multiplier: in place of the calibrated one (None); private mode keeps the budget all
            the same.
        allow_weak_delta: delta may be 1 / n_units or more; the ledger then says that the guarantee
            is not valid.
    """

    epsilon: float
    delta: float
    clip_norm: float
    noise_multiplier: float | None = None
    allow_weak_delta: bool = False


@dataclasses.dataclass(frozen=True)
class Batching:
    """What enters a step, and for how many steps.

    Attributes:
        expected_batch_size: units in a step on average, q x N; a declared constant.
        epochs: expected passes through the units.
        max_images_per_patient: of a drawn patient in one step; of any patient in the training set
            where the unit is an image.
        views_per_image: augmented views of each image in one step.
        physical_batch_size: images in memory at a time; decides speed, not results.
    """

    expected_batch_size: int
    epochs: int
    max_images_per_patient: int
    views_per_image: int = 1
    physical_batch_size: int = 256

    def steps_per_epoch(self, n_units: int) -> int:
        """Return the steps of one expected pass through the units."""
        return max(1, round(n_units / self.expected_batch_size))


@dataclasses.dataclass(frozen=True)
class HeadSteps:
    """A second part of a run, as declared: steps of the head alone, every unit in each of them.

    Attributes:
        steps: noisy sums, >= 1.
        clip_norm: L2 norm to which a unit's gradient of the head is clipped, > 0.
        share: the noise of these steps is calibrated to share x epsilon, as if they were alone; in
            (0, 0.99].
    """

    steps: int
    clip_norm: float
    share: float


@dataclasses.dataclass(frozen=True)
class Promise:
    """What a private run promises; nothing can change it afterwards.

    Its fields, in this order, are what a run's identity and its ledger keep: see `as_dict`. They
    describe the first part, in most runs the only one; epsilon and delta hold for all parts.

    Attributes:
        unit: "patient" or "image".
        n_units, expected_batch_size: declared constants, treated as public.
        steps: planned noisy sums of the first part.
        clip_norm, delta, epsilon: see `PrivacyBudget`.
        mode: "demo", "private", or "none": no noise, and no promise.
        views_per_image, max_images_per_patient: see `Batching`.
        pos_weight: where the weight of positive labels comes from: "none", "public" or "private
            labels".
        max_images_per_unit: of a unit in one step.
        noise_multiplier: calibrated, or as declared.
        head: the second part, the head alone after all weights; None for no such part.
    """

    unit: str
    n_units: int
    expected_batch_size: int
    steps: int
    clip_norm: float
    delta: float
    epsilon: float
    mode: str
    views_per_image: int
    pos_weight: str
    max_images_per_unit: int
    max_images_per_patient: int
    noise_multiplier: float
    head: Part | None = None

    @property
    def sample_rate(self) -> float:
        """Return the probability with which each unit enters a step of the first part."""
        return self.expected_batch_size / self.n_units

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the parts in the order of training."""
        first = Part(self.expected_batch_size, self.steps, self.clip_norm, self.noise_multiplier)
        return (first,) if self.head is None else (first, self.head)

    @property
    def total_steps(self) -> int:
        """Return the planned noisy sums of all parts."""
        return sum(part.steps for part in self.parts)

    def runs(self, steps_done: int | None = None) -> tuple[accounting.Run, ...]:
        """Return the parts as runs after `steps_done` steps of all of them, the first part's first;
        None for all planned.

        Raises:
            InputError: more steps than planned.
        """
        return run_parts.runs_of(self.parts, self.n_units, steps_done)

    def as_dict(self) -> dict:
        """Return the stored form, fit for JSON; without `head` where there is no such part."""
        stored = dataclasses.asdict(self)
        if self.head is None:
            del stored["head"]
        return stored


def check_delta(delta: float, n_units: int, unit: str, allow_weak: bool = False) -> str:
    """Return a warning ("" for none) about delta for a number of units.

    Raises:
        InputError: delta >= 1 / n_units, and that is not allowed: such a promise allows publishing
            one unit outright.
    """
    if delta >= 1 / n_units and not allow_weak:
        errors.refuse(
            f"DELTA below 1 / {n_units:,} training {unit}s = {1 / n_units:.2g}",
            f"{delta:g}",
            f"Set DELTA to {1 / (10 * n_units):.1g} or less; to repeat a study that did so,"
            ' CONFIRM = ["weak delta"] labels the run.',
        )
    if delta > 1 / (10 * n_units):
        return (
            f"delta = {delta:g} is above 1 / (10 x {n_units:,} {unit}s) = {1 / (10 * n_units):.1g}:"
            " a weak promise."
        )
    return ""


def settle(
    budget: PrivacyBudget,
    batching: Batching,
    *,
    unit: str,
    n_units: int,
    most_images: int,
    mode: str,
    pos_weight: str = "none",
    head: HeadSteps | None = None,
) -> Promise:
    """Return what a private run promises, with the noise that keeps its budget.

    Guarantees: with calibrated noise all parts together, composed by PLD, spend 0.98 to 1 times
    epsilon, see `calibration.noise_multipliers_for`. A declared noise multiplier is that of every
    part. In mode "none" it is 0 in every part, whatever is declared; steps and sampling rate are
    those of the private run, in which they follow from budget and noise as little.

    Args:
        budget, batching: as declared.
        unit, n_units: "patient" or "image", and how many of them are trained on.
        most_images: training images of any one patient.
        mode: one of `MODES`.
        pos_weight: see `Promise`.
        head: steps of the head after those of all weights; None for none.

    Raises:
        InputError: a value out of range, or a budget that promises nothing or is not kept.
    """
    errors.one_of("MODE", mode, MODES)
    _check_batching(batching, unit, n_units, most_images)
    errors.number("CLIP_NORM", budget.clip_norm, 0, 1e6, open_low=True)
    _check_head(head)
    check_delta(budget.delta, n_units, unit, budget.allow_weak_delta)
    steps = batching.epochs * batching.steps_per_epoch(n_units)
    noise = _noise_multipliers(budget, batching.expected_batch_size / n_units, steps, head, mode)
    return Promise(
        unit=unit,
        n_units=n_units,
        expected_batch_size=batching.expected_batch_size,
        steps=steps,
        clip_norm=budget.clip_norm,
        delta=budget.delta,
        epsilon=budget.epsilon,
        mode=mode,
        views_per_image=batching.views_per_image,
        pos_weight=pos_weight,
        max_images_per_unit=batching.max_images_per_patient if unit == "patient" else 1,
        max_images_per_patient=batching.max_images_per_patient,
        noise_multiplier=noise[0],
        head=Part(n_units, head.steps, head.clip_norm, noise[1]) if head else None,
    )


def _check_batching(batching: Batching, unit: str, n_units: int, most_images: int) -> None:
    """Accept a batching that fits the units."""
    if batching.expected_batch_size > n_units:
        errors.refuse(
            f"EXPECTED_BATCH_SIZE of at most {n_units} training {unit}s",
            batching.expected_batch_size,
            "Lower EXPECTED_BATCH_SIZE.",
        )
    errors.number("EXPECTED_BATCH_SIZE", batching.expected_batch_size, 1, n_units, integer=True)
    max_images_per_patient = batching.max_images_per_patient
    for name, value in (
        ("MAX_IMAGES_PER_PATIENT", max_images_per_patient),
        ("VIEWS_PER_IMAGE", batching.views_per_image),
    ):
        errors.number(name, value, 1, 10_000, integer=True)
    if unit == "image" and most_images > max_images_per_patient:
        errors.refuse(
            f"at most MAX_IMAGES_PER_PATIENT = {max_images_per_patient} training images of any"
            " patient",
            most_images,
            "Make the training set with this limit, or raise it.",
        )


def _check_head(head: HeadSteps | None) -> None:
    """Accept declared steps of the head."""
    if head:
        errors.number("HEAD_STEPS", head.steps, 1, 1e6, integer=True)
        errors.number("HEAD_CLIP_NORM", head.clip_norm, 0, 1e6, open_low=True)
        errors.number("HEAD_SHARE", head.share, 0, 0.99, open_low=True)


def _noise_multipliers(
    budget: PrivacyBudget, sample_rate: float, steps: int, head: HeadSteps | None, mode: str
) -> tuple[float, ...]:
    """Return the calibrated noise multiplier of each part, or the declared one of all where it
    keeps the budget or nothing is promised.
    """
    epsilon, delta, declared = budget.epsilon, budget.delta, budget.noise_multiplier
    if mode == "none":
        return (0.0, 0.0)
    if declared is None and head:
        return calibration.noise_multipliers_for(
            epsilon, delta, sample_rate, steps, head.steps, head.share
        )
    if declared is None:
        return (calibration.noise_multiplier_for(epsilon, delta, sample_rate, steps),)
    errors.number("NOISE_MULTIPLIER", declared, 0, 1e6)
    runs = [accounting.Run(declared, sample_rate, steps)]
    runs += [accounting.Run(declared, 1.0, head.steps)] if head else []
    spent = accounting.epsilon_of_all(runs, delta)
    # infinity and NaN would allow no noise
    if mode == "private" and spent > errors.number("EPSILON", epsilon, 0, 1000, open_low=True):
        errors.refuse(
            f"NOISE_MULTIPLIER that keeps EPSILON = {epsilon:g} in private mode",
            f"{declared:g}, which spends {spent:.4g}",
            "Leave it None: the budget decides.",
        )
    return (declared,) * len(runs)
