"""The default recipe of private training: what follows from the budget and the number of units.

In: epsilon, number of units. Out: batch, epochs and rate. Refuses: nothing.
"""


def recipe_for(epsilon: float, n_units: int) -> dict[str, int | float]:
    """Return EXPECTED_BATCH_SIZE, EPOCHS and LEARNING_RATE for a budget and a number of training units."""
    batch = min(n_units, 512)
    return {"EXPECTED_BATCH_SIZE": batch, "EPOCHS": 6, "LEARNING_RATE": 4e-3}
