"""Does an audit notice? Faults planted in private steps, and the epsilon that Dirac canaries prove.

In: nothing. Out: `results/audited_faults.json`, a row for each recipe, budget and fault: the
promised epsilon, the lower bound of one run (95 %), and whether the promise is refuted: by a bound
above it, or since the guesses contradict the promised bound on all attacks. Without a fault it must
not be.

Two recipes: the head alone, every unit in each step (a Gaussian mechanism, with its tighter bound),
and sampled steps of all weights (the bound for any mechanism). `tests/privacy_faults.py` has the
faults that unit tests must notice, many more and finer ones: an audit is the last net, not the
first.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from helpers.core import files, run_records
from helpers.privacy import audited_epsilon, clipping, sampling_and_noise
from helpers.training import audit_canaries, private_step

RESULTS = Path(__file__).resolve().parent / "results"
EPSILONS, DELTA, N_CANARIES, SEED = (0.29, 1.06, 7.89), 1e-5, 16_384, 0
# passes and sampling rate
RECIPES = {"head alone": (20, 1.0), "all weights, sampled": (6, 1 / 16)}


@contextlib.contextmanager
def changed(owner: type, name: str, change: Callable) -> Iterator[None]:
    """Replace a method by `change` of it for a moment.

    Args:
        owner, name: of the method.
        change: called with the right method, then with its arguments.
    """
    right = getattr(owner, name)

    @functools.wraps(right)
    def wrong(*arguments: object, **named: object) -> object:
        return change(right, *arguments, **named)

    with mock.patch.object(owner, name, wrong):
        yield


def _noise_times(factor: float) -> contextlib.AbstractContextManager:
    """Return the fault of noise that is too small by a factor."""
    return changed(
        sampling_and_noise.Randomness,
        "noise",
        lambda right, self, parameters, spread: [
            factor * part for part in right(self, parameters, spread)
        ],
    )


def _twice(right: Callable, self: object, *arguments: object) -> object:
    """Add the drawn units twice."""
    right(self, *arguments)
    return right(self, *arguments)


def _everybody(right: Callable, self: object, n_units: int, sample_rate: float) -> np.ndarray:
    """Draw every unit, whatever the rate."""
    return np.arange(n_units)


FAULTS: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "none": contextlib.nullcontext,
    "no noise": lambda: _noise_times(0.0),
    "half of the noise": lambda: _noise_times(0.5),
    "no clipping": lambda: changed(
        clipping.ClippedSum,
        "__init__",
        lambda right, self, model, clip_norm, *rest: right(self, model, 1e6, *rest),
    ),
    "each patient twice in a step": lambda: changed(private_step.PrivateArm, "add_units", _twice),
    "every patient in a step that samples": lambda: changed(
        sampling_and_noise.Randomness, "draw_units", _everybody
    ),
}


def row_of(recipe: str, epsilon: float, fault: str) -> dict:
    """Return what an audit finds of one fault."""
    begun, (passes, rate) = time.monotonic(), RECIPES[recipe]
    with FAULTS[fault]():
        tried = audit_canaries.dirac(epsilon, DELTA, passes, rate, N_CANARIES, SEED)
    found = audited_epsilon.examined(
        tried.scores, tried.is_in, tried.runs, DELTA, is_gaussian=tried.is_gaussian
    )
    return {
        "recipe": recipe,
        "fault": fault,
        "promised": round(tried.promised, 4),
        **found,
        "at_least": round(found["at_least"], 3),
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    """Plant each fault in each recipe at each budget."""
    rows = []
    for recipe, (_, rate) in RECIPES.items():
        for fault in FAULTS:
            if rate == 1 and "samples" in fault:
                continue  # everybody is in each step already
            for epsilon in EPSILONS:
                rows.append(row_of(recipe, epsilon, fault))
                print(rows[-1], flush=True)
    about = {"hardware": run_records.hardware(), "versions": run_records.versions()}
    about |= {"n_canaries": N_CANARIES, "delta": DELTA, "confidence": audited_epsilon.CONFIDENCE}
    files.write_json(RESULTS / "audited_faults.json", about | {"rows": rows})


if __name__ == "__main__":
    main()
