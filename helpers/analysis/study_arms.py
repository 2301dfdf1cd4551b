"""The arms of a study: runs that differ in their seed only are one arm, whose values are means over
seeds.

In: records of runs, replicates of single runs. Out: a row an arm, pooled replicates whose spread
has the seeds' in it.
"""

import numpy as np
import pandas as pd
from scipy import stats

from helpers.core.run_records import SAME_RECIPE

# columns of pooled tables: v = s^2 / n over seeds, and v^2 / (n - 1)
BETWEEN_SEEDS = ["seed_variance", "seed_doubt"]
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
    tell it (0 with one seed: then it is not known, and intervals are about test patients only).

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
        return named.assign(**dict.fromkeys(BETWEEN_SEEDS, 0.0))
    seeds = named.groupby(level=list(named.index.names), sort=False)
    mean = seeds.mean().mask(named.isna().groupby(level=list(named.index.names), sort=False).any())
    n, variance = seeds[0].size(), (seeds[0].var() / seeds[0].size()).fillna(0.0)
    return mean.assign(**dict(zip(BETWEEN_SEEDS, (variance, variance**2 / (n - 1).clip(lower=1)))))


def with_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return replicates alone, spread about their mean so that their variance has the seeds' in it.

    Few seeds tell their variance badly: the spread is widened as Student's t is against the normal,
    with the degrees of freedom of the sum of both variances (Satterthwaite 1946), that of patients
    taken as known.
    """
    if BETWEEN_SEEDS[0] not in table:
        return table
    values, (variance, doubt) = (
        table.drop(columns=BETWEEN_SEEDS),
        (table[name] for name in BETWEEN_SEEDS),
    )
    if not variance.any():
        return values
    draws = values.drop(columns=0)
    of_patients = draws.var(axis=1).fillna(0.0)
    widened = stats.t.ppf(
        0.975,
        np.divide(
            (of_patients + variance) ** 2, doubt, out=np.full(len(doubt), np.inf), where=doubt > 0
        ),
    ) / stats.norm.ppf(0.975)
    spread = np.sqrt((of_patients + variance) / of_patients.where(of_patients > 1e-20)) * widened
    mean = draws.mean(axis=1)
    spread_draws = draws.sub(mean, axis=0).mul(spread, axis=0).add(mean, axis=0)
    # Where patients make no difference the replicates are all alike, and cannot be spread.
    normal = stats.norm.ppf((np.arange(draws.shape[1]) + 0.5) / draws.shape[1])
    alone = pd.DataFrame(
        np.outer(np.sqrt(variance) * widened, normal), draws.index, draws.columns
    ).add(mean, axis=0)
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
