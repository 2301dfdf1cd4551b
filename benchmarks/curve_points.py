"""The runs of the learning curve: patients, budgets, seeds, and what each says in the results.

In: macro AUROCs of a run and of the curve's ends. Out: the list of runs, a row a run.
"""

import dataclasses

import numpy as np

from helpers.training import recipe_rule

SIZES = (1000, 2000, 4000, 8800, 17_500, 35_000)
EPSILONS, SEEDS = (7.89, 1.06), (0, 1, 2)
N_KEPT = 200  # resamples of test patients in the results


@dataclasses.dataclass(frozen=True)
class Point:
    """One run: who is trained on, with what budget, and which part of the network."""

    n_patients: int
    epsilon: float
    seed: int
    trained: str  # see `recipe_rule`


def points(with_both: bool) -> list[Point]:
    """Return all runs, those that say most first: of both parts only where the rule wants them."""
    runs = [
        Point(n_patients, epsilon, seed, "head")
        for seed in SEEDS
        for n_patients in SIZES
        for epsilon in EPSILONS
    ]
    both = [
        dataclasses.replace(point, trained="all_then_head")
        for point in runs
        if point.seed == 0 and rule_of(point)["TRAINED"] == "all_then_head"
    ]
    return runs + (both if with_both else [])


def rule_of(point: Point) -> dict:
    """Return the recipe of the rule for a run's budget and patients."""
    return recipe_rule.recipe_for(point.epsilon, point.n_patients, "alike")


def recipe_of(point: Point) -> dict:
    """Return the recipe of a run: that of the rule for the part that it trains."""
    return recipe_rule.settle(point.epsilon, point.n_patients, "alike", TRAINED=point.trained)[0]


def row_of(point: Point, kept: dict, aurocs: np.ndarray, ends: dict[str, np.ndarray]) -> dict:
    """Return a run's row: its AUROC, its share of the distance, and that under resamples."""
    share = (aurocs - ends["zero_shot"]) / (ends["ceiling"] - ends["zero_shot"])
    return (
        dataclasses.asdict(point)
        | kept
        | {
            "by_rule": point.trained == rule_of(point)["TRAINED"],
            "auroc": float(aurocs[0]),
            "share": float(share[0]),
            "replicates": share[1 : 1 + N_KEPT].round(4).tolist(),
        }
    )
