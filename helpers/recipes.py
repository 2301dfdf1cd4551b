"""The default recipe of private training: the few knobs that follow from the budget and the number of units.

In: epsilon, number of units. Out: batch, epochs and learning rate. Refuses: nothing of its own.

The rule was fitted by trials on a drawn tuning cohort (`benchmarks/results/ladder_exploration.json`; neighbours of the
rule: `benchmarks/ladder.py --tune`). A step draws about one unit in 16, at least 32 where there are so many; half of
that lost 0.002, half the epochs 0.001 to 0.005. The rate grows with the square root of epsilon up to a limit, because
what is learnt in a step must stay ahead of what the noise moves; half and twice the rate lost 0.002 to 0.010.
"""

import math

EPOCHS = 8
RATE_AT_1 = 3.9e-3  # learning rate of NAdam at epsilon 1
MOST_RATE = 6e-3


def recipe_for(epsilon: float, n_units: int) -> dict[str, int | float]:
    """Return EXPECTED_BATCH_SIZE, EPOCHS and LEARNING_RATE for a budget.

    Guarantees: a function of these two numbers alone, both public; batch and rate never fall as either grows.

    Args:
        epsilon: of the whole run, for one unit; > 0.
        n_units: patients or images that are trained on, >= 1.
    """
    batch = min(n_units, 2 ** max(5, round(math.log2(n_units / 16))))
    rate = min(MOST_RATE, RATE_AT_1 * math.sqrt(epsilon))
    return {"EXPECTED_BATCH_SIZE": batch, "EPOCHS": EPOCHS, "LEARNING_RATE": float(f"{rate:.2g}")}
