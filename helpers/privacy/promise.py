"""What a private run promises, fixed before it begins: unit, budget, sampling, steps, clip norm,
noise.

In: the settings of a private run. Out: the promise with its calibrated noise. Needs no torch, so
that a study can be planned.
Refuses: a delta that promises nothing (at or above 1 / number of units), a budget that is not kept.
"""

import types
from collections.abc import Mapping

from helpers.core import errors
from helpers.privacy import accounting


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
            " ALLOW_WEAK_DELTA labels the run.",
        )
    if delta > 1 / (10 * n_units):
        return (
            f"delta = {delta:g} is above 1 / (10 x {n_units:,} {unit}s) = {1 / (10 * n_units):.1g}:"
            " a weak promise."
        )
    return ""


def settle(
    *,
    unit: str,
    n_units: int,
    most_images: int,
    epsilon: float,
    delta: float,
    clip_norm: float,
    epochs: int,
    expected_batch_size: int,
    max_images_per_patient: int,
    mode: str,
    views_per_image: int = 1,
    noise_multiplier: float | None = None,
    pos_weight: str = "none",
    allow_weak_delta: bool = False,
) -> Mapping:
    """Return what a private run promises, with the noise that keeps its budget; nothing can change
    it afterwards.

    Args:
        unit, n_units: "patient" or "image", and how many of them are trained on.
        most_images: training images of any one patient.
        epsilon, delta: the budget.
        clip_norm: L2 norm to which a unit's gradient is clipped, > 0.
        epochs: expected passes through the units.
        expected_batch_size: units in a step on average, q x N; a declared constant.
        max_images_per_patient: of a drawn patient in one step; of any patient in the training set
            where the unit is an image.
        mode: "demo" or "private".
        views_per_image: moved copies of each image in one step.
        noise_multiplier: in place of the calibrated one; private mode keeps the budget all the
            same.
        pos_weight: where the weight of positive labels comes from: "none", "public" or "private
            labels".
        allow_weak_delta: delta may be 1 / n_units or more; the ledger then says that the guarantee
            is not valid.

    Returns:
        What `ledger` takes: unit, n_units, expected_batch_size, steps, clip_norm, delta, epsilon,
        mode, ...

    Raises:
        InputError: a value out of range, or a budget that promises nothing or is not kept.
    """
    if expected_batch_size > n_units:
        errors.refuse(
            f"EXPECTED_BATCH_SIZE of at most {n_units} training {unit}s",
            expected_batch_size,
            "Lower EXPECTED_BATCH_SIZE.",
        )
    errors.number("EXPECTED_BATCH_SIZE", expected_batch_size, 1, n_units, integer=True)
    for name, value in (
        ("MAX_IMAGES_PER_PATIENT", max_images_per_patient),
        ("VIEWS_PER_IMAGE", views_per_image),
    ):
        errors.number(name, value, 1, 10_000, integer=True)
    errors.number("CLIP_NORM", clip_norm, 0, 1e6, open_low=True)
    if unit == "image" and most_images > max_images_per_patient:
        errors.refuse(
            f"at most MAX_IMAGES_PER_PATIENT = {max_images_per_patient} training images of any"
            " patient",
            most_images,
            "Make the training set with this limit, or raise it.",
        )
    check_delta(delta, n_units, unit, allow_weak_delta)
    sample_rate, steps = (
        expected_batch_size / n_units,
        epochs * steps_per_epoch(n_units, expected_batch_size),
    )
    return types.MappingProxyType(
        dict(
            unit=unit,
            n_units=n_units,
            expected_batch_size=expected_batch_size,
            steps=steps,
            clip_norm=clip_norm,
            delta=delta,
            epsilon=epsilon,
            mode=mode,
            views_per_image=views_per_image,
            pos_weight=pos_weight,
            max_images_per_unit=max_images_per_patient if unit == "patient" else 1,
            max_images_per_patient=max_images_per_patient,
            noise_multiplier=_noise_multiplier(
                noise_multiplier, epsilon, delta, sample_rate, steps, mode
            ),
        )
    )


def steps_per_epoch(n_units: int, expected_batch_size: int) -> int:
    """Return the steps of one expected pass through the units."""
    return max(1, round(n_units / expected_batch_size))


def _noise_multiplier(
    given: float | None, epsilon: float, delta: float, sample_rate: float, steps: int, mode: str
) -> float:
    """Return the calibrated noise multiplier, or the given one where it keeps the budget or nothing
    is promised.
    """
    if given is None:
        return accounting.noise_multiplier_for(epsilon, delta, sample_rate, steps)
    errors.number("NOISE_MULTIPLIER", given, 0, 1e6)
    spent = accounting.epsilon_spent(given, sample_rate, steps, delta)
    # infinity and NaN would allow no noise
    if mode == "private" and spent > errors.number("EPSILON", epsilon, 0, 1000, open_low=True):
        errors.refuse(
            f"NOISE_MULTIPLIER that keeps EPSILON = {epsilon:g} in private mode",
            f"{given:g}, which spends {spent:.4g}",
            "Leave it None: the budget decides.",
        )
    return given
