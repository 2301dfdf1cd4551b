"""The arms of a study: runs that differ in their seed only are one arm, whose values are means over
seeds.

In: records of runs, replicates of single runs. Out: a row an arm, pooled replicates whose spread
has the seeds' in it.
"""

import numpy as np
import pandas as pd
from scipy import stats

from helpers.core.run_records import SAME_RECIPE

# columns of pooled tables: v = s^2 / n over seeds, v^2 / (n - 1), n
BETWEEN_SEEDS = ["seed_variance", "seed_doubt", "n_seeds"]
_SHOWN_ARM = {
    "zero_shot": "zero-shot",
    "baseline": "no privacy",
    "same_recipe": "same recipe, no noise or clipping",
    "same_recipe_clipped": "same recipe, no noise",
}


def arm_table(records: list[dict]) -> pd.DataFrame:
    """Return one row a run: run, arm, epsilon (NaN without privacy), unit, recipe, mode, seed,
    seconds, recipe_of_epsilon and recipe_of_unit (of the same recipe without privacy, those of the
    private run; else missing), arm_label for figures, pool (the first run of the same arm), n_seeds
    (runs of it).

    `mode` is "demo" where the noise follows from the seed, so that epsilon is no guarantee, and "no
    guarantee" where the ledger of a private run says that it is not valid.
    """

    def mode(ledger: dict) -> str | None:
        return (
            "no guarantee"
            if ledger.get("mode") == "private" and not ledger["guarantee"].startswith("valid")
            else ledger.get("mode")
        )

    rows = pd.DataFrame(
        [
            {
                "run": record["run"],
                "arm": record["arm"],
                "epsilon": record["epsilon_target"],
                # other people's predictions may have none
                "unit": record["unit"],
                "recipe": record.get("recipe", "default"),
                "mode": mode(record.get("ledger") or {}),
                "seed": record["seed"],
                "seconds": record["seconds"],
                "recipe_of_epsilon": record.get("recipe_of_epsilon"),
                "recipe_of_unit": record.get("recipe_of_unit"),
            }
            for record in records
        ]
    )
    for column in ("epsilon", "recipe_of_epsilon"):
        rows[column] = rows[column].astype(float)
    budget = _which_recipe(rows)
    rows["arm_label"] = [
        _SHOWN_ARM.get(
            row.arm, f"epsilon {row.epsilon:g}" + (" per image" if row.unit == "image" else "")
        )
        + (f", {row.recipe}" if row.recipe != "default" else "")
        + which
        for row, which in zip(rows.itertuples(), budget)
    ]
    same = rows.groupby("arm_label")["run"]
    return rows.assign(pool=same.transform("first"), n_seeds=same.transform("size"))


def _which_recipe(rows: pd.DataFrame) -> list[str]:
    """Return of each run which private run's recipe it has, where there are several; else ""."""
    recipes = [
        f", of epsilon {row.recipe_of_epsilon:g} for {row.recipe_of_unit}s"
        if row.arm in SAME_RECIPE
        else ""
        for row in rows.itertuples()
    ]
    return recipes if len(set(recipes) - {""}) > 1 else [""] * len(rows)


def main_arms(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a study's main arms, for figures of groups: without the same recipe
    without privacy, which says what the price is made of and nothing about groups.

    Args:
        table: any with a column arm.
    """
    return table[~table["arm"].isin(SAME_RECIPE)]


def pooled_arms(arms: pd.DataFrame) -> pd.DataFrame:
    """Return `arm_table` with one row an arm, the first of its runs."""
    return arms[arms["run"] == arms["pool"]].reset_index(drop=True)


def pool(table: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the seeds of each arm, named by its first run, with the columns
    `BETWEEN_SEEDS`.

    The variance of an arm's mean has two parts: that of patients is in the replicates of the mean;
    that of training again is s^2 / n of its seeds, kept beside them, with how well so few seeds
    tell it (0 with one seed: then it is not known, and intervals are about test patients only; see
    `seeds_of_difference`).

    Args:
        table: a row a run and what else; the mean over findings and contrasts are taken before, not
            after.
        arms: from `arm_table`.
    """
    pools = table.index.get_level_values("run").map(arms.set_index("run")["pool"])
    named = table.set_axis(
        table.index.set_codes(pd.Index(table.index.levels[0]).get_indexer(pools), level="run")
    )
    if not named.index.has_duplicates:
        return named.assign(**dict(zip(BETWEEN_SEEDS, (0.0, 0.0, 1.0))))
    seeds = named.groupby(level=list(named.index.names), sort=False)
    mean = seeds.mean().mask(named.isna().groupby(level=list(named.index.names), sort=False).any())
    n, variance = seeds[0].size(), (seeds[0].var() / seeds[0].size()).fillna(0.0)
    doubt = variance**2 / (n - 1).clip(lower=1)
    return mean.assign(**dict(zip(BETWEEN_SEEDS, (variance, doubt, n.astype(float)))))


def seeds_of_difference(
    one: pd.DataFrame, other: pd.DataFrame, other_is_given: bool
) -> dict[str, np.ndarray]:
    """Return `BETWEEN_SEEDS` of the difference of two arms, row by row.

    An arm with one seed does not tell how much training again changes it. It borrows the other
    arm's variance between seeds: n seeds against 1 have s^2 (1 / n + 1), told by n - 1. Taken as 0
    it would make intervals far too narrow. Without seeds in either arm nothing is known, and the
    variance is 0: what is said is about these two models.

    Args:
        one, other: of pooled tables, the same rows.
        other_is_given: whether the other arm is one given model, such as the public one, which is
            the same for everybody: then it has no variance of its own.
    """
    v, doubt, n = one[BETWEEN_SEEDS].to_numpy(float).T
    w, other_doubt, m = other[BETWEEN_SEEDS].to_numpy(float).T
    if not other_is_given:
        borrows, lends = (m > 1) & (n == 1), (n > 1) & (m == 1)
        v, w = np.where(borrows, w * m, v), np.where(lends, v * n, w)
        most = np.maximum(n, m) - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            of_both = np.where(borrows | lends, (v + w) ** 2 / most, doubt + other_doubt)
        doubt, other_doubt = of_both, 0.0
    return dict(zip(BETWEEN_SEEDS, (v + w, doubt + other_doubt, n)))


def seeds_in_words(arms: pd.DataFrame, baseline: str | None) -> pd.Series:
    """Return of each arm, by its first run, what an interval of its difference to the baseline says
    of training again.

    Args:
        arms: from `pooled_arms`.
        baseline: the first run of the arm compared with.
    """
    n_of = arms.set_index("run")["n_seeds"]
    m = n_of.get(baseline, 1)

    def words(n: int) -> str:
        if n == m == 1:
            return "1 each: these models only"
        if n > 1 and m > 1:
            return f"{n} and {m}"
        return f"{n} and {m}: the single one borrows the other's variance"

    return n_of.map(words).rename("seeds")


def seeds_of(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard error of each row of a table over training again, and its degrees of
    freedom; 0 and infinite where it has no `BETWEEN_SEEDS`, or one seed.
    """
    if BETWEEN_SEEDS[0] not in table:
        return np.zeros(len(table)), np.full(len(table), np.inf)
    variance, doubt, _ = table[BETWEEN_SEEDS].to_numpy(float).T
    freedom = np.divide(variance**2, doubt, out=np.full(len(doubt), np.inf), where=doubt > 0)
    return np.sqrt(variance), freedom


def with_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return replicates alone, spread about their mean so that the 95 % interval has training again
    in it, see `auroc_intervals.Spread`.
    """
    if BETWEEN_SEEDS[0] not in table:
        return table
    values, (error, freedom) = table.drop(columns=BETWEEN_SEEDS), seeds_of(table)
    if not error.any():
        return values
    draws = values.drop(columns=0)
    of_patients = draws.std(axis=1).fillna(0.0)
    of_seeds = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975) * error
    spread = np.sqrt(1 + (of_seeds / of_patients.where(of_patients > 1e-10)) ** 2)
    mean = draws.mean(axis=1)
    spread_draws = draws.sub(mean, axis=0).mul(spread, axis=0).add(mean, axis=0)
    # Where patients make no difference the replicates are all alike, and cannot be spread.
    normal = stats.norm.ppf((np.arange(draws.shape[1]) + 0.5) / draws.shape[1])
    alone = pd.DataFrame(np.outer(of_seeds, normal), draws.index, draws.columns).add(mean, axis=0)
    return pd.concat([values[[0]], spread_draws.where(spread.notna(), alone, axis=0)], axis=1)


def seed_values(table: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return the estimate of each single run of arms with several seeds, to be drawn as dots.

    Column run names the arm.
    """
    several = arms[arms["n_seeds"] > 1].set_index("run")["pool"]
    single = (
        table.loc[table.index.get_level_values("run").isin(several.index), 0]
        .rename("estimate")
        .reset_index()
    )
    return single.assign(run=single["run"].map(several))


def one_way(arms: pd.DataFrame) -> pd.DataFrame:
    """Return the private arms of one recipe and unit, the default for patients if there, else the
    commonest.

    Epsilons of two units are not one axis, two recipes not one line.
    """
    private = arms[arms["arm"] == "dp"].dropna(subset="epsilon")
    way = private["recipe"] + " " + private["unit"].astype(str)
    return private[
        way == ("default patient" if (way == "default patient").any() else way.mode().get(0))
    ]
