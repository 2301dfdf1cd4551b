"""Composition: what several private runs on the same patients spend together, as one mechanism.

In: lines of the privacy register, promises. Out: the composed epsilon for one patient (PLD), as
number, table and words. Raises `InputError` for a total beyond a budget.
"""

import math
from collections.abc import Collection, Mapping

import pandas as pd

from helpers.core import errors
from helpers.privacy import accounting, run_parts


def line_of(promise: Mapping, steps: int | None = None) -> dict:
    """Return what the register keeps of a promise: unit, sampling rate, noise, planned steps,
    delta, weights of labels.

    Of a run of two parts, `first` and `head` have noise, sampling rate and planned steps of each.
    Beside them stand the steps of both, the larger rate and the smaller noise multiplier.

    Guarantees: a reader that knows of one part only (version 0.3) counts at least what is spent.

    Args:
        promise: the stored form of a `Promise`, or what a ledger has of it.
        steps: that count; None for all planned.
    """
    n_units, head = promise["n_units"], promise.get("head")
    planned = promise["steps"] + (head["steps"] if head else 0)
    line = {
        "unit": promise["unit"],
        "noise_multiplier": promise["noise_multiplier"],
        "sample_rate": promise["expected_batch_size"] / n_units,
        "steps_planned": planned,
        "steps": planned if steps is None else steps,
        "delta": promise["delta"],
        "pos_weight": promise["pos_weight"],
        "n_images": promise["max_images_per_patient"] if promise["unit"] == "image" else 1,
    }
    if head:
        parts = [
            {
                "noise_multiplier": part["noise_multiplier"],
                "sample_rate": part["expected_batch_size"] / n_units,
                "steps_planned": part["steps"],
            }
            for part in (promise, head)
        ]
        line |= {
            "noise_multiplier": min(part["noise_multiplier"] for part in parts),
            "sample_rate": max(part["sample_rate"] for part in parts),
            "first": parts[0],
            "head": parts[1],
        }
    return line


def runs_of(line: Mapping, n_images: int) -> tuple[accounting.Run, ...]:
    """Return a line's parts as runs of the steps that count, those of the first part first.

    Guarantees: every step that counts is in a part; of a run that was begun and not ended, and so
    counts as planned, all steps of both parts.

    Args:
        line: of `Register.runs` or `line_of`; without `first` and `head` a run of one part.
        n_images: of the unit that is asked about.
    """

    def run(part: Mapping, steps: int) -> accounting.Run:
        return accounting.Run(part["noise_multiplier"], part["sample_rate"], steps, n_images)

    if "head" not in line:
        return (run(line, line["steps"]),)
    planned = tuple(run(part, part["steps_planned"]) for part in (line["first"], line["head"]))
    return run_parts.done_of(planned, line["steps"])


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
    runs = [run for line in lines for run in runs_of(line, line["n_images"])]
    return accounting.epsilon_of_all(runs, delta), delta


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
            "epsilon": accounting.epsilon_of_all(runs_of(line, 1), line["delta"]),
            "delta": line["delta"],
            "state": line["why"] if line["is_ended"] else "not ended: counts as planned",
        }
        for line in lines
    ]
    return pd.DataFrame(
        rows, columns=["run", "begun", "unit", "steps", "epsilon", "delta", "state"]
    )
