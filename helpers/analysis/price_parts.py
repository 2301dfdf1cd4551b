"""What the price of privacy is made of: schedule, clipping, noise.

In: replicates of single runs, and the arms of a study, among them the recipe of a private arm
without noise and without clipping. Out: a row a part, and a sentence. A study without those runs
has no row, and the sentence says so.

The parts are differences between neighbours of four arms: without privacy, the same recipe without
noise and clipping, the same with clipping, private. What two of them cost together only is in the
part that comes second.
"""

import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts, study_arms
from helpers.analysis.metric_table import ALL

ARMS = ("baseline", "same_recipe", "same_recipe_clipped", "dp")  # each loses against the one before
PARTS = {
    "schedule": "no privacy minus same recipe",
    "clipping": "same recipe minus the same, clipped",
    "noise": "same recipe, clipped, minus private",
    "price": "no privacy minus private",
}
COLUMNS = ["epsilon", "unit", "recipe", "part", "difference", "estimate", "low", "high"]
ABSENT = (
    "What the price is made of is not known: it needs a baseline, a private run, and the recipe of"
    " that run without noise, with clipping and without it (notebook 03, WITHOUT)."
)


def parts(replicates: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return the parts of the price at each budget whose recipe was also run without noise, with
    and without clipping.

    Guarantees: the estimates of the parts add up to that of the price, which is the one shown
    elsewhere. Arms are paired by resample.

    Args:
        replicates: from `metric_table.replicate`, of single runs.
        arms: from `study_arms.arm_table`.

    Returns:
        Rows in the order of `PARTS`: epsilon, unit and recipe of the private arm, part, difference
        (what minus what), estimate (mean AUROC over findings that is lost), low, high. No row
        without the runs.
    """
    means = group_contrasts.macro(replicates).xs(("auroc", ALL), level=["metric", "attribute"])
    pooled = study_arms.pool(means, arms)
    tables = [
        _of_arms(pooled, runs).assign(epsilon=row.epsilon, unit=row.unit, recipe=row.recipe)
        for row, runs in _ways(study_arms.pooled_arms(arms))
    ]
    return (
        pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
    )


def _ways(arms: pd.DataFrame) -> list[tuple]:
    """Return each private arm that has all of `ARMS` before it, with the names of their runs."""
    run_of = {
        (row.arm, row.recipe_of_epsilon, row.recipe_of_unit, row.recipe): row.run
        for row in arms.itertuples()
    }
    baseline = arms.loc[arms["arm"] == "baseline", "run"]
    ways = []
    for row in arms[arms["arm"] == "dp"].itertuples():
        of_recipe = [run_of.get((arm, row.epsilon, row.unit, row.recipe)) for arm in ARMS[1:3]]
        if len(baseline) and None not in of_recipe:
            ways.append((row, [baseline.iloc[0], *of_recipe, row.run]))
    return ways


def _of_arms(pooled: pd.DataFrame, runs: list[str]) -> pd.DataFrame:
    """Return the parts of one price, from the runs of `ARMS`."""
    pairs = [*zip(runs, runs[1:]), (runs[0], runs[-1])]
    differences = {
        part: group_contrasts.changes(
            pooled[pooled.index.get_level_values("run").isin(pair)], pair[1]
        )
        for part, pair in zip(PARTS, pairs)
    }
    rows = confidence_intervals.summarise(pd.concat(differences, names=["part"]))
    return rows.assign(difference=rows["part"].map(PARTS))


def in_words(table: pd.DataFrame) -> str:
    """Return what the price is made of in a sentence a budget; `ABSENT` where it is not known.

    Args:
        table: from `parts`, also as read from its file.
    """
    if table.empty:
        return ABSENT
    return " ".join(
        _sentence(epsilon, unit, recipe, rows.set_index("part"))
        for (epsilon, unit, recipe), rows in table.groupby(
            ["epsilon", "unit", "recipe"], sort=False
        )
    )


def _sentence(epsilon: float, unit: str, recipe: str, rows: pd.DataFrame) -> str:
    """Return what one price is made of."""

    def number(part: str) -> str:
        row = rows.loc[part]
        return f"{row['estimate']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"

    if rows["estimate"].isna().any():
        return f"What the price at epsilon {epsilon:g} per {unit} is made of is not estimable."
    of_recipe = f", {recipe}" if recipe != "default" else ""
    unclear = [
        part for part in list(PARTS)[:-1] if rows.loc[part, "low"] <= 0 <= rows.loc[part, "high"]
    ]
    return (
        f"Of the mean AUROC that privacy costs at epsilon {epsilon:g} per {unit}{of_recipe},"
        f" {number('price')}, the schedule makes {number('schedule')}, clipping"
        f" {number('clipping')} and noise {number('noise')}; "
        + (
            f"the 95 % CI of {' and '.join(unclear)} includes 0."
            if unclear
            else "all three 95 % CIs exclude 0."
        )
    )
