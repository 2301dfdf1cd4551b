"""What a private run promises, fixed before it begins.

In: the privacy budget, the batching, the units. Out: the promise, with its calibrated noise. Needs
no torch, so that a study can be planned. Raises `InputError` for a delta that promises nothing (at
or above 1 / number of units), and for a budget that is not kept.
"""

import dataclasses

from helpers.core import errors
from helpers.privacy import accounting, calibration


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
class Promise:
    """What a private run promises; nothing can change it afterwards.

    Its fields, in this order, are what a run's identity and its ledger keep: see `as_dict`.

    Attributes:
        unit: "patient" or "image".
        n_units, expected_batch_size: declared constants, treated as public.
        steps: planned noisy sums.
        clip_norm, delta, epsilon: see `PrivacyBudget`.
        mode: "demo" or "private".
        views_per_image, max_images_per_patient: see `Batching`.
        pos_weight: where the weight of positive labels comes from: "none", "public" or "private
            labels".
        max_images_per_unit: of a unit in one step.
        noise_multiplier: calibrated, or as declared.
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

    @property
    def sample_rate(self) -> float:
        """Return the probability with which each unit enters a step."""
        return self.expected_batch_size / self.n_units

    def as_dict(self) -> dict:
        """Return the stored form, fit for JSON."""
        return dataclasses.asdict(self)


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
) -> Promise:
    """Return what a private run promises, with the noise that keeps its budget.

    Args:
        budget, batching: as declared.
        unit, n_units: "patient" or "image", and how many of them are trained on.
        most_images: training images of any one patient.
        mode: "demo" or "private".
        pos_weight: see `Promise`.

    Raises:
        InputError: a value out of range, or a budget that promises nothing or is not kept.
    """
    _check_batching(batching, unit, n_units, most_images)
    errors.number("CLIP_NORM", budget.clip_norm, 0, 1e6, open_low=True)
    check_delta(budget.delta, n_units, unit, budget.allow_weak_delta)
    steps = batching.epochs * batching.steps_per_epoch(n_units)
    sample_rate = batching.expected_batch_size / n_units
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
        noise_multiplier=_noise_multiplier(budget, sample_rate, steps, mode),
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


def _noise_multiplier(budget: PrivacyBudget, sample_rate: float, steps: int, mode: str) -> float:
    """Return the calibrated noise multiplier, or the declared one where it keeps the budget or
    nothing is promised.
    """
    epsilon, delta, declared = budget.epsilon, budget.delta, budget.noise_multiplier
    if declared is None:
        return calibration.noise_multiplier_for(epsilon, delta, sample_rate, steps)
    errors.number("NOISE_MULTIPLIER", declared, 0, 1e6)
    spent = accounting.epsilon_spent(declared, sample_rate, steps, delta)
    # infinity and NaN would allow no noise
    if mode == "private" and spent > errors.number("EPSILON", epsilon, 0, 1000, open_low=True):
        errors.refuse(
            f"NOISE_MULTIPLIER that keeps EPSILON = {epsilon:g} in private mode",
            f"{declared:g}, which spends {spent:.4g}",
            "Leave it None: the budget decides.",
        )
    return declared
