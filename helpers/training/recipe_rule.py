"""The default recipe of private training: what follows from the budget and the number of units.

In: epsilon, number of units, what is set by hand. Out: expected batch size, epochs, learning rate.

The rule was fitted by trials on a drawn tuning cohort
(`benchmarks/results/ladder_exploration.json`) and tried beside its neighbours there
(`ladder_trials.json`). A step draws about one unit in 16; half of that
changed mean AUROC by -0.004 to +0.001. It draws at least 256 where there are so many: among 1,000
patients (`ct_trials.json`) 256 instead of 64 changed AUROC by -0.004, +0.007 and +0.005 at 0.29,
1.06 and 8 (one seed). The rate grows with the square root of epsilon up to a limit, because what is
learnt in a step must stay ahead of what the noise moves; half and twice the rate lost 0.001 to
0.006.
"""

import math

EPOCHS = 8
RATE_AT_1 = 3.9e-3  # learning rate of NAdam at epsilon 1
MOST_RATE = 6e-3


def recipe_for(epsilon: float, n_units: int) -> dict[str, int | float]:
    """Return EXPECTED_BATCH_SIZE, EPOCHS and LEARNING_RATE for a budget.

    Guarantees: a function of these two numbers alone, both public; batch and rate never fall as
    either grows.

    Args:
        epsilon: of the whole run, for one unit; > 0.
        n_units: patients or images that are trained on, >= 1.
    """
    batch = min(n_units, 2 ** max(8, round(math.log2(n_units / 16))))
    rate = min(MOST_RATE, RATE_AT_1 * math.sqrt(epsilon))
    return {"EXPECTED_BATCH_SIZE": batch, "EPOCHS": EPOCHS, "LEARNING_RATE": float(f"{rate:.2g}")}


def settle(
    epsilon: float, n_units: int, **declared: float | None
) -> tuple[dict[str, int | float], dict[str, str]]:
    """Return EXPECTED_BATCH_SIZE, EPOCHS and LEARNING_RATE, and for each whether it was set "by
    hand" or "by the rule".

    Args:
        epsilon, n_units: see `recipe_for`.
        declared: each of the three by its name, None where the rule decides.
    """
    by_hand = {name: value for name, value in declared.items() if value is not None}
    chosen = recipe_for(epsilon, n_units) | by_hand
    return {name: chosen[name] for name in declared}, {
        name: "by hand" if name in by_hand else "by the rule" for name in declared
    }
