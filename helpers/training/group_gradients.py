"""Gradient norms and clipping by group: why DP-SGD may cost one group more than another.

In: a private arm in demo mode, the group of each of its units. Out: a row a group. Raises
`InputError` in private mode, in which nothing may be shown that depends on training images without
protection.

A group with larger gradient norms is clipped more; a small group has little weight in the mean and
more noise against it (Bagdasaryan, Poursaeed and Shmatikov 2019; Tran, Dinh and Fioretto 2021).
"""

import numpy as np
import pandas as pd
import torch

from helpers.core import errors, random_streams
from helpers.data import groups
from helpers.training import private_step, training_set

_SMALL = 2.0**-20  # scale of the loss at which no gradient reaches the clipping norm


def groups_of_units(
    data: training_set.TrainingSet, table: pd.DataFrame, attribute: str
) -> np.ndarray:
    """Return the group of each unit (of its first image, where a patient's images differ).

    Args:
        data: the training images.
        table: the cohort's table.
        attribute: see `groups.add_groups`.
    """
    of_rows = groups.add_groups(table, [attribute])[f"group_{attribute}"].to_numpy()[data.rows]
    return np.array([of_rows[images[0]] for images in data.units])


def by_group(
    arm: private_step.PrivateArm, group_of_unit: np.ndarray, epoch: int, most_units: int = 50
) -> list[dict]:
    """Return what clipping does to each group's gradients at the network's present weights.

    gradient_norm: median norm over units before clipping, in clipping norms; clipped_fraction: of
    units; followed: cosine between the group's own mean gradient and the mean of everybody's
    clipped ones, which the step follows but for noise;
    followed_without: the same with nothing clipped.

    Guarantees: the network, the arm's sums and its randomness are left as they were.

    Args:
        arm: between two steps.
        group_of_unit: (n_units,) text.
        epoch: names the random choice of units.
        most_units: of a group, chosen at random.

    Raises:
        InputError: private mode.
    """
    if not arm.shows_diagnostics:
        errors.refuse(
            "MODE = 'demo' for gradients by group",
            "private mode",
            "They are outside the promise.",
        )
    arm = arm.head_arm if arm.is_at_head else arm
    stream = random_streams.random_stream(arm.seed, "group gradients", epoch)
    rows, shares, clipped_means, whole_means = [], {}, {}, {}
    for group in sorted(set(group_of_unit)):
        members = np.flatnonzero(group_of_unit == group)
        sample = np.sort(stream.permutation(members)[:most_units])
        clipped, norms = _sum(arm, sample)
        whole, _ = _sum(arm, sample, _SMALL)
        shares[group] = len(members) / len(group_of_unit)
        clipped_means[group], whole_means[group] = clipped / len(sample), whole / len(sample)
        in_clip_norms = norms[torch.isfinite(norms)] / arm.promise.clip_norm
        rows.append(
            {
                "epoch": epoch,
                "group": group,
                "n_units": len(members),
                "gradient_norm": float(in_clip_norms.median()),
                "clipped_fraction": float((in_clip_norms > 1).double().mean()),
            }
        )
    clipped_mean, whole_mean = (
        sum(share * means[group] for group, share in shares.items())
        for means in (clipped_means, whole_means)
    )
    for row in rows:
        group_mean = whole_means[row["group"]]
        row |= {
            "followed": _cosine(group_mean, clipped_mean),
            "followed_without": _cosine(group_mean, whole_mean),
        }
    return rows


def _sum(
    arm: private_step.PrivateArm, units: np.ndarray, loss_scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the clipped sum of the units' scaled gradients as one vector, and their norms
    before.
    """
    images = [arm.data.units[unit][: arm.promise.max_images_per_unit] for unit in units]
    try:
        _, norms = arm.add_units(dict(zip(units, images)), step=0, loss_scale=loss_scale)
    finally:
        total = torch.cat([part.flatten() for part in arm.clipped.take()]).cpu()
    return total, norms


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the cosine of the angle between two vectors; NaN if one is 0."""
    norms = one.norm() * other.norm()
    return float(one @ other / norms) if norms > 0 else float("nan")
