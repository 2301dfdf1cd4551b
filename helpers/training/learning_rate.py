"""The learning-rate schedule of private training, and which weights are kept at its end.

In: the step, the schedule. Out: its rate.
"""

import math

from helpers.core import errors

# decay of the running mean of weights that a private run keeps; 0: the last weights
AVERAGING = {"cosine": 0.97, "constant": 0}


def learning_rate_at(step: int, steps: int, highest: float, schedule: str = "cosine") -> float:
    """Return the rate of a step.

    Linear warm-up over 5 % of the steps, then a cosine down to 5 % of `highest`; or constant.
    """
    if errors.one_of("SCHEDULE", schedule, ("cosine", "constant")) == "constant":
        return highest
    warm_up = min(1.0, (step + 1) / max(1, round(0.05 * steps)))
    return warm_up * cosine(step, steps, highest)


def cosine(step: int, steps: int, highest: float) -> float:
    """Return the rate of a step: a cosine from `highest` down to 5 % of it."""
    return highest * (0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)
