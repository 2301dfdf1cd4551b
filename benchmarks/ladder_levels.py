"""Levels of a ladder: mean AUROC of each arm and budget over seeds, and its differences to others.

In: the bootstrap's replicates of each run. Out: estimates with 95 % intervals over patients and
seeds.

Arms of an earlier version of the package carry its number before their name. They had another
network, and are compared among themselves only, so that a better network is not taken for a better
way of training.
"""

import numpy as np
import pandas as pd
from ladder_arms import INVERTED

from helpers.analysis import bootstrap
from helpers.core import random_streams

N_BOOTSTRAP = 1000
EARLIER = "0.3: "  # before the name of an arm as version 0.3 of the package had it
COMPARED = (
    "paper, as published",
    "paper, tuned",
    "paper, our start",
    "paper, our start" + INVERTED,
    "ours, image",
    "ours, random weights",
)


def replicates_of(predictions: pd.DataFrame) -> np.ndarray:
    """Return (1 + replicates,) macro AUROCs, the estimate first.

    The same resamples of patients for each run.
    """
    patients = predictions.loc[
        predictions["finding"] == predictions["finding"].iloc[0], "patient_id"
    ].to_numpy()
    draws = bootstrap.Draws.of(patients, N_BOOTSTRAP, random_streams.random_stream(0, "bootstrap"))
    return np.mean(
        [
            bootstrap.ranked(part["label"].to_numpy(), part["score"].to_numpy(), draws, ("auroc",))[
                "auroc"
            ]
            for _, part in predictions.groupby("finding", sort=False)
        ],
        axis=0,
    )


def levels(by_arm: dict[tuple[str, float | None], np.ndarray]) -> list[dict]:
    """Return for each arm and budget the mean over seeds, its differences to other arms, and its
    share of the distance; those of an earlier version last, against their own zero-shot and
    ceiling. Arms from the public model that saw inverted films are held against that one.

    An interval's variance is that of the patient bootstrap of the mean over seeds (the same
    resamples for all arms) plus, for every arm in it, the variance between seeds, pooled over arms,
    over the number of its seeds.

    Args:
        by_arm: {(arm, epsilon): (seeds, 1 + replicates)}, the estimates in column 0.

    Returns:
        A dict each: arm, epsilon, seeds (each one's value); auroc, minus_zero_shot, minus_ceiling,
        minus the other arms at the same budget; share, (arm - zero-shot) / (ceiling - zero-shot),
        and chance_corrected, (arm - 0.5) / (ceiling - 0.5): estimate, low, high. None as long as
        zero-shot or ceiling is missing.
    """
    now = {key: seeds for key, seeds in by_arm.items() if not key[0].startswith(EARLIER)}
    earlier = {
        (arm.removeprefix(EARLIER), epsilon): seeds
        for (arm, epsilon), seeds in by_arm.items()
        if arm.startswith(EARLIER)
    }
    of_earlier = _levels(earlier)
    return _levels(now) + [level | {"arm": EARLIER + level["arm"]} for level in of_earlier]


def _levels(by_arm: dict[tuple[str, float | None], np.ndarray]) -> list[dict]:
    """Return the levels of one version's arms, see `levels`."""
    if not {("zero-shot", None), ("ceiling", None)} <= set(by_arm):
        return []
    several = [seeds[:, 0].var(ddof=1) for seeds in by_arm.values() if len(seeds) > 1]
    between = float(np.mean(several)) if several else 0.0

    # mean over seeds, and its variance between seeds
    def of(key: tuple) -> tuple[np.ndarray, float]:
        return by_arm[key].mean(0), (
            0.0 if key[0].startswith("zero-shot") else between / len(by_arm[key])
        )

    ceiling, ceiling_variance = of(("ceiling", None))
    entries = []
    for (arm, epsilon), seeds in by_arm.items():
        own = "zero-shot" + (INVERTED if arm.endswith(INVERTED) else "")
        (mean, variance), (zero, _) = of((arm, epsilon)), of((own, None))
        entry = {
            "arm": arm,
            "epsilon": epsilon,
            "seeds": seeds[:, 0].tolist(),
            "auroc": interval(mean, variance),
            "minus_zero_shot": interval(mean - zero, variance),
            "minus_ceiling": interval(mean - ceiling, variance + ceiling_variance),
        }
        for other in COMPARED:
            if (other, epsilon) in by_arm and other != arm:
                of_other, other_variance = of((other, epsilon))
                entry[f"minus {other}"] = interval(mean - of_other, variance + other_variance)
        if arm != "ceiling":
            share, distance = (mean - zero) / (ceiling - zero), (ceiling - zero)[0]
            entry["share"] = interval(
                share, (variance + share[0] ** 2 * ceiling_variance) / distance**2
            )
            kept, whole = (mean - 0.5) / (ceiling - 0.5), (ceiling - 0.5)[0]
            entry["chance_corrected"] = interval(
                kept, (variance + kept[0] ** 2 * ceiling_variance) / whole**2
            )
        entries.append(entry)
    return entries


def interval(values: np.ndarray, variance: float) -> list[float]:
    """Return estimate, low and high (95 %) of (1 + replicates,) values and a further variance."""
    half = 1.96 * np.sqrt(values[1:].var(ddof=1) + variance)
    return [float(values[0]), float(values[0] - half), float(values[0] + half)]
