"""The parts of a private run: first all weights by sampled steps, then the head by full batches.

In: parts, number of units, steps done. Out: runs for the accountants, entries for the ledger.
Raises `InputError` for more steps than planned. Needs no torch, so that a study can be planned.

Most runs have one part. Parts follow one another on the same units and share one budget; `steps` of
a run count the first part's first.
"""

import dataclasses
import math

from helpers.core import errors
from helpers.privacy import accounting

TRAINED = ("all weights", "head")  # by the parts of a run of two


@dataclasses.dataclass(frozen=True)
class Part:
    """Steps of one mechanism, as they are planned.

    Attributes:
        expected_batch_size: units in a step on average; all units: every unit in every step.
        steps: planned noisy sums.
        clip_norm: L2 norm to which a unit's gradient is clipped.
        noise_multiplier: standard deviation of the noise / clipping norm.
    """

    expected_batch_size: int
    steps: int
    clip_norm: float
    noise_multiplier: float

    def sample_rate(self, n_units: int) -> float:
        """Return the probability with which each unit enters a step."""
        return self.expected_batch_size / n_units


def runs_of(
    parts: tuple[Part, ...], n_units: int, steps_done: int | None = None
) -> tuple[accounting.Run, ...]:
    """Return the parts as runs, as one unit sees them.

    Guarantees: each part has its own sampling rate and noise, and every step done is in one of
    them.

    Args:
        parts: in the order of training.
        n_units: units trained on.
        steps_done: of all parts together, the first part's first; None for all planned.

    Raises:
        InputError: more steps than planned.
    """
    planned = tuple(
        accounting.Run(part.noise_multiplier, part.sample_rate(n_units), part.steps)
        for part in parts
    )
    total = sum(part.steps for part in parts)
    if steps_done is None:
        return planned
    if not 0 <= steps_done <= total:
        errors.refuse(
            f"0 to {total} steps done, as planned",
            steps_done,
            "A run with more was another run: no ledger covers it.",
        )
    return done_of(planned, steps_done)


def done_of(planned: tuple[accounting.Run, ...], steps: int) -> tuple[accounting.Run, ...]:
    """Return runs that follow one another as they are after `steps` steps of all: first those of
    the first, then those of the next.

    Guarantees: no step is left out: those beyond all that were planned are the last run's.

    Args:
        planned: at least one run, in the order of training.
        steps: done, >= 0.
    """
    done = []
    for run in planned[:-1]:
        done.append(run._replace(steps=min(run.steps, steps)))
        steps -= done[-1].steps
    return *done, planned[-1]._replace(steps=steps)


def entries_of(
    parts: tuple[Part, ...], n_units: int, steps_done: int, delta: float, unit: str
) -> list[dict]:
    """Return what a ledger says of each part: trained, sampler, expected_batch_size, sample_rate,
    steps_planned, steps_done, noise_multiplier, clip_norm, epsilon_alone. Fit for JSON.

    Args:
        parts, n_units, steps_done: see `runs_of`.
        delta: at which `epsilon_alone` (PLD) holds of the part's steps done, were they all; None
            where it is not finite.
        unit: "patient" or "image".
    """
    runs = runs_of(parts, n_units, steps_done)
    alone = [accounting.epsilon_of_all((run,), delta) for run in runs]
    return [
        {
            "trained": trained,
            "sampler": sampler_in_words(unit, run.sample_rate),
            "expected_batch_size": part.expected_batch_size,
            "sample_rate": run.sample_rate,
            "steps_planned": part.steps,
            "steps_done": run.steps,
            "noise_multiplier": part.noise_multiplier,
            "clip_norm": part.clip_norm,
            "epsilon_alone": epsilon if math.isfinite(epsilon) else None,
        }
        for trained, part, run, epsilon in zip(TRAINED, parts, runs, alone)
    ]


def sampler_in_words(unit: str, sample_rate: float) -> str:
    """Return how units enter a step."""
    if sample_rate == 1:
        return f"every {unit} in every step (no sampling, no amplification)"
    return f"Poisson over {unit}s"
