"""The default recipe of private training: the few knobs that follow from the budget and the number of units.

In: epsilon, number of units. Out: batch, epochs and learning rate. Refuses: nothing of its own.

The rule, fitted on a tuning cohort and checked there at half and twice each value (`benchmarks/ladder.py --tune`):
a step draws one unit in 32, so that about 150 steps of little noise fill the epochs; the rate grows with the square root
of epsilon, because what is learnt in a step must stay ahead of what the noise moves.
"""

import math

EPOCHS = 4  # more help little and cost time; see the trials
RATE_AT_1 = 2.2e-3  # learning rate of NAdam at epsilon 1
MOST_RATE = 8e-3


def recipe_for(epsilon: float, n_units: int) -> dict[str, int | float]:
    """Return EXPECTED_BATCH_SIZE, EPOCHS and LEARNING_RATE for a budget.

    Guarantees: a function of these two numbers alone, both public; batch and rate never fall as either grows.

    Args:
        epsilon: of the whole run, for one unit; > 0.
        n_units: patients or images that are trained on, >= 1.
    """
    batch = min(n_units, 2 ** max(5, round(math.log2(n_units / 32))))
    rate = min(MOST_RATE, RATE_AT_1 * math.sqrt(epsilon))
    return {"EXPECTED_BATCH_SIZE": batch, "EPOCHS": EPOCHS, "LEARNING_RATE": float(f"{rate:.2g}")}
