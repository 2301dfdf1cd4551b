"""Composition: what several private runs on the same patients spend together, as one mechanism.

In: lines of the privacy register, promises. Out: the composed epsilon for one patient (PLD), as
number, table and words. Raises `InputError` for a total beyond a budget.
"""

import math
from collections.abc import Collection, Mapping

import pandas as pd

from helpers.core import errors
from helpers.privacy import accounting


def line_of(promise: Mapping, steps: int | None = None) -> dict:
    """Return what the register keeps of a promise: unit, sampling rate, noise, planned steps,
    delta, weights of labels.

    Args:
        promise: the stored form of a `Promise`, or what a ledger has of it.
        steps: that count; None for all planned.
    """
    return {
        "unit": promise["unit"],
        "noise_multiplier": promise["noise_multiplier"],
        "sample_rate": promise["expected_batch_size"] / promise["n_units"],
        "steps_planned": promise["steps"],
        "steps": promise["steps"] if steps is None else steps,
        "delta": promise["delta"],
        "pos_weight": promise["pos_weight"],
        "n_images": promise["max_images_per_patient"] if promise["unit"] == "image" else 1,
    }


def epsilon_together(lines: Collection[Mapping]) -> tuple[float, float]:
    """Return epsilon of runs together for one patient, an upper bound (PLD), and the delta it holds
    at: the least of theirs.

    Guarantees: infinite where a run has no bound, its class weights being counted on private
    labels.

    Args:
        lines: of `Register.runs`, or planned ones (`line_of`).
    """
    if not lines:
        return 0.0, math.nan
    delta = min(line["delta"] for line in lines)
    if any(line["pos_weight"] == "private labels" and line["steps"] for line in lines):
        return math.inf, delta
    return (
        accounting.epsilon_of_all(
            [accounting.Run(*(line[name] for name in accounting.Run._fields)) for line in lines],
            delta,
        ),
        delta,
    )


def check_budget(budget: float | None, lines: Collection[Mapping]) -> None:
    """Accept private runs that together keep a budget; None for no limit.

    Raises:
        InputError: they do not.
    """
    if budget is not None and (together := epsilon_together(lines))[0] > budget:
        errors.refuse(
            f"private runs that together keep BUDGET = {budget:g}",
            f"{len(lines)} on these patients, together {_number(*together)}",
            "Plan fewer or smaller budgets, or raise BUDGET. Nothing was trained.",
        )


def in_words(lines: Collection[Mapping]) -> str:
    """Return the total of runs in words.

    "epsilon 9.39 per patient at delta 1e-06 (PLD, an upper bound)".
    """
    return _number(*epsilon_together(lines)) + (
        " (PLD, an upper bound)" if math.isfinite(epsilon_together(lines)[0]) else ""
    )


def _number(epsilon: float, delta: float) -> str:
    """Return a total in words."""
    if math.isinf(epsilon):
        return (
            "no bound at all (a run without noise, with class weights from private labels, or over"
            " too many images of a patient)"
        )
    return f"epsilon {epsilon:.4g} per patient" + (f" at delta {delta:g}" if epsilon else "")


def table(lines: Collection[Mapping]) -> pd.DataFrame:
    """Return a row a run: run, begun, unit, steps, epsilon (of the unit, at the run's delta),
    delta, state.

    Args:
        lines: of `Register.runs`, oldest first.
    """
    rows = [
        {
            "run": line["run"],
            "begun": line["time"][:16].replace("T", " "),
            "unit": line["unit"],
            "steps": line["steps"],
            "epsilon": accounting.epsilon_spent(
                line["noise_multiplier"], line["sample_rate"], line["steps"], line["delta"]
            ),
            "delta": line["delta"],
            "state": line["why"] if line["is_ended"] else "not ended: counts as planned",
        }
        for line in lines
    ]
    return pd.DataFrame(
        rows, columns=["run", "begun", "unit", "steps", "epsilon", "delta", "state"]
    )
