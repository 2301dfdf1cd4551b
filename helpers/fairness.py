"""Is privacy paid for equally? Small reductions of the table of `replicates`: contrasts, their change, described gaps.

In: a table from `replicates.replicate`, records of runs. Out: tables with estimates and 95 % intervals.
Refuses: nothing; what cannot be estimated is NaN.

Runs that differ in their seed only are one arm: `pool` takes their mean, after contrasts and means over findings.
"""

import numpy as np
import pandas as pd
from scipy import stats

from helpers import groups
from helpers.replicates import ALL, REST

BETWEEN_SEEDS = ["seed_variance", "seed_doubt"]  # columns of pooled tables: v = s^2 / n over seeds, and v^2 / (n - 1)
_SHOWN_ARM = {"zero_shot": "zero-shot", "baseline": "no privacy"}


def arm_table(records: list[dict]) -> pd.DataFrame:
    """Return one row a run: run, arm, epsilon (NaN without privacy), unit, recipe, mode, seed, seconds, arm_label for
    figures, pool (the first run of the same arm), n_seeds (runs of it).

    `mode` is "demo" where the noise follows from the seed, so that epsilon is no guarantee, and "no guarantee" where the
    ledger of a private run says that it is not valid.
    """
    def mode(ledger: dict) -> str | None:
        return "no guarantee" if ledger.get("mode") == "private" and not ledger["guarantee"].startswith("valid") else ledger.get("mode")

    rows = pd.DataFrame([{"run": record["run"], "arm": record["arm"], "epsilon": record["epsilon_target"],
                          "unit": record["unit"], "recipe": record.get("recipe", "default"),  # a user's own may have none
                          "mode": mode(record.get("ledger") or {}), "seed": record["seed"],
                          "seconds": record["seconds"]}
                         for record in records])
    rows["epsilon"] = rows["epsilon"].astype(float)
    rows["arm_label"] = [_SHOWN_ARM.get(row.arm, f"epsilon {row.epsilon:g}" + (" per image" if row.unit == "image" else ""))
                         + (f", {row.recipe}" if row.recipe != "default" else "") for row in rows.itertuples()]
    same = rows.groupby("arm_label")["run"]
    return rows.assign(pool=same.transform("first"), n_seeds=same.transform("size"))


def pooled_arms(arms: pd.DataFrame) -> pd.DataFrame:
    """Return `arm_table` with one row an arm, the first of its runs."""
    return arms[arms["run"] == arms["pool"]].reset_index(drop=True)


def pool(table: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over the seeds of each arm, named by its first run, with the columns `BETWEEN_SEEDS`.

    The variance of an arm's mean has two parts: that of patients is in the replicates of the mean; that of training
    again is s^2 / n of its seeds, kept beside them, with how well so few seeds tell it (0 with one seed: then it is not
    known, and intervals are about test patients only).

    Args:
        table: a row a run and what else; the mean over findings and contrasts are taken before, not after.
        arms: from `arm_table`.
    """
    pools = table.index.get_level_values("run").map(arms.set_index("run")["pool"])
    named = table.set_axis(table.index.set_codes(pd.Index(table.index.levels[0]).get_indexer(pools), level="run"))
    if not named.index.has_duplicates:
        return named.assign(**dict.fromkeys(BETWEEN_SEEDS, 0.0))
    seeds = named.groupby(level=list(named.index.names), sort=False)
    mean = seeds.mean().mask(named.isna().groupby(level=list(named.index.names), sort=False).any())
    n, variance = seeds[0].size(), (seeds[0].var() / seeds[0].size()).fillna(0.0)
    return mean.assign(**dict(zip(BETWEEN_SEEDS, (variance, variance**2 / (n - 1).clip(lower=1)))))


def with_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return replicates alone, spread about their mean so that their variance has the seeds' in it.

    Few seeds tell their variance badly: the spread is widened as Student's t is against the normal, with the degrees of
    freedom of the sum of both variances (Satterthwaite 1946), that of patients taken as known.
    """
    if BETWEEN_SEEDS[0] not in table:
        return table
    values, (variance, doubt) = table.drop(columns=BETWEEN_SEEDS), (table[name] for name in BETWEEN_SEEDS)
    if not variance.any():
        return values
    draws = values.drop(columns=0)
    of_patients = draws.var(axis=1).fillna(0.0)
    widened = stats.t.ppf(0.975, np.divide((of_patients + variance)**2, doubt, out=np.full(len(doubt), np.inf), where=doubt > 0)) / stats.norm.ppf(0.975)
    spread = np.sqrt((of_patients + variance) / of_patients.where(of_patients > 1e-20)) * widened
    mean = draws.mean(axis=1)
    spread_draws = draws.sub(mean, axis=0).mul(spread, axis=0).add(mean, axis=0)
    # Where patients make no difference the replicates are all alike, and cannot be spread.
    normal = stats.norm.ppf((np.arange(draws.shape[1]) + 0.5) / draws.shape[1])
    alone = pd.DataFrame(np.outer(np.sqrt(variance) * widened, normal), draws.index, draws.columns).add(mean, axis=0)
    return pd.concat([values[[0]], spread_draws.where(spread.notna(), alone, axis=0)], axis=1)


def macro(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over findings (those estimable) of each row of `replicates` or `contrasts`, as finding "macro"."""
    levels = [level for level in table.index.names if level != "finding"]
    estimable = table[table[0].notna()]
    mean = estimable.groupby(level=levels, sort=False).mean()
    # A replicate that lacks one of these findings would be the mean of other findings than the estimate.
    mean = mean.mask(estimable.isna().groupby(level=levels, sort=False).any())
    mean = mean.reindex(table.index.droplevel("finding").unique())
    return pd.concat({"macro": mean}, names=["finding"]).reorder_levels(table.index.names)


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Return signed contrasts of each finding, group minus the rest; of two groups one row, female - male for sex.

    A contrast of accuracy is the `accuracy_parity_difference`, which the paper calls statistical parity difference; of
    selection_rate, the `statistical_parity_difference` of two groups; of sensitivity, equal opportunity.

    Args:
        table: from `replicates.replicate`.

    Returns:
        The same index and columns; the group names what is compared: "female - male", "B - A", ">= 80 - rest".

    Source: Tayebi Arasteh et al. (2024), their official code, for the accuracy parity difference; Dwork et al. (2012) and
    Hardt, Price and Srebro (2016) for the others.
    """
    is_rest = table.index.get_level_values("group").str.startswith(REST)
    rest = table[is_rest].rename(index=lambda name: name.removeprefix(REST), level="group")
    difference = table.loc[rest.index] - rest
    names, kept = [], []
    compared = rest.groupby(level="attribute").apply(lambda part: sorted(part.index.get_level_values("group").unique()))
    for attribute, group in zip(*(difference.index.get_level_values(level) for level in ("attribute", "group"))):
        first, *others = [g for g in compared[attribute] if g != group]
        names.append(f"{group} - rest" if others else f"{group} - {first}")
        kept.append(bool(others) or names[-1] == "female - male"
                    or (groups.place(group) > groups.place(first) and group != "male"))
    frame = difference.index.to_frame().assign(group=names)
    return difference.set_axis(pd.MultiIndex.from_frame(frame))[np.array(kept, dtype=bool)]


def changes(table: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return each other arm's value minus the baseline's, paired by resample: of a contrast this is the `gap_change`.

    Args:
        table: pooled contrasts or metrics.
        baseline: name of the arm without privacy; None gives no rows.
    """
    if baseline is None or baseline not in table.index.get_level_values("run"):
        return table.iloc[:0]
    others = table.drop(baseline, level="run")
    reference = table.xs(baseline, level="run").reindex(others.index.droplevel("run")).set_axis(others.index)
    return (others - reference).assign(**{name: others[name] + reference[name] for name in BETWEEN_SEEDS})


def summarise(table: pd.DataFrame, percent: float = 95) -> pd.DataFrame:
    """Return estimate and percentile interval of each row, as columns beside the index levels.

    Args:
        table: replicates, pooled or of single runs.
        percent: of the interval, 95 unless said otherwise.

    Returns:
        The index levels, estimate, low, high, and n_replicates, those in which the metric could be computed.
    """
    if table.empty:
        return pd.DataFrame(columns=[*table.index.names, "estimate", "low", "high", "n_replicates"])
    values = with_seeds(table)
    draws = values.drop(columns=0)
    limits = _quantiles(draws, (100 - percent) / 200)
    return pd.concat([values[0].rename("estimate"), limits, draws.notna().sum(axis=1).rename("n_replicates")],
                     axis=1).reset_index()


def _quantiles(draws: pd.DataFrame, tail: float) -> pd.DataFrame:
    """Return columns low and high; a row at a time only where resamples are missing."""
    whole = draws.notna().all(axis=1)
    limits = pd.DataFrame(np.nan, index=draws.index, columns=["low", "high"])
    limits[whole] = np.quantile(draws[whole].to_numpy(), [tail, 1 - tail], axis=1).T
    some = ~whole & draws.notna().any(axis=1)
    limits[some] = draws[some].quantile([tail, 1 - tail], axis=1).T.to_numpy()
    return limits


def seed_values(table: pd.DataFrame, arms: pd.DataFrame) -> pd.DataFrame:
    """Return the estimate of each single run of arms with several seeds, to be drawn as dots; column run names the arm."""
    several = arms[arms["n_seeds"] > 1].set_index("run")["pool"]
    single = table.loc[table.index.get_level_values("run").isin(several.index), 0].rename("estimate").reset_index()
    return single.assign(run=single["run"].map(several))


def described_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Return largest minus smallest value over the known groups of each attribute, mean over findings. Not tested.

    Such a gap is above 0 by construction, also where groups do not differ, and grows with noise: it is described, and
    no interval is given. Signed contrasts are what can be inferred from.

    auroc_gap; worst_group: lowest mean AUROC; accuracy_gap; statistical_parity_difference: of selection rates (Dwork et
    al. 2012); equalised_odds_difference: the larger of the gaps of sensitivity and of specificity (Hardt et al. 2016).

    Args:
        table: from `replicates.replicate`, or pooled.
    """
    of_metrics = ["auroc", "accuracy", "selection_rate", "sensitivity", "specificity"]
    known = table[0].drop(ALL, level="attribute").reset_index()
    known = known[~known["group"].str.startswith(REST) & ~groups.is_unknown(known["group"]) & known["metric"].isin(of_metrics)]
    rows = []
    for (run, attribute), part in known.groupby(["run", "attribute"], sort=False):
        gaps, n_findings, worst = {}, 0, None
        for metric, values in part.groupby("metric"):
            cells = values.pivot(index="finding", columns="group", values=0)
            cells = cells.dropna(axis=1, how="all").dropna()  # findings that are estimable in all groups that have any
            gaps[metric] = cells.max(axis=1) - cells.min(axis=1)
            if metric == "auroc" and cells.size:
                n_findings, worst = len(cells), cells.mean().idxmin()
        gap = pd.DataFrame(gaps).reindex(columns=of_metrics)
        rows.append({"run": run, "attribute": attribute, "auroc_gap": gap["auroc"].mean(), "n_findings": n_findings, "worst_group": worst,
                     "accuracy_gap": gap["accuracy"].mean(), "statistical_parity_difference": gap["selection_rate"].mean(),
                     "equalised_odds_difference": gap[["sensitivity", "specificity"]].max(axis=1).mean()})
    return pd.DataFrame(rows, columns=["run", "attribute", "auroc_gap", "n_findings", "worst_group", "accuracy_gap",
                                       "statistical_parity_difference", "equalised_odds_difference"])


def summary(arms: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the study in one row an arm: mean AUROC, and its contrasts by sex and of the oldest group, with intervals.

    Args:
        arms: from `arm_table`.
        table: from `replicates.replicate`, of single runs.

    Returns:
        The columns of `arms`, one row an arm, macro_auroc, low, high, and for sex and age <name>_contrast, <name>_low, <name>_high.
    """
    aurocs = table[table.index.get_level_values("metric") == "auroc"]
    everybody = _of(summarise(pool(macro(aurocs), arms)), ALL).rename(columns={"estimate": "macro_auroc"})
    rows = pooled_arms(arms).merge(everybody[["run", "macro_auroc", "low", "high"]], on="run")
    found = summarise(pool(macro(contrasts(aurocs)), arms))
    for attribute in ("sex", "age"):
        named = {"estimate": f"{attribute}_contrast", "low": f"{attribute}_low", "high": f"{attribute}_high"}
        here = _of(found, age_attribute(found) if attribute == "age" else attribute)  # a band that is not estimable stays the oldest
        last = here[here["group"] == oldest(here["group"])] if attribute == "age" else here
        rows = rows.merge(last.rename(columns=named)[["run", *named.values()]], on="run", how="left")
    return rows


def one_way(arms: pd.DataFrame) -> pd.DataFrame:
    """Return the private arms of one recipe and unit, the default for patients if there, else the commonest.

    Epsilons of two units are not one axis, two recipes not one line.
    """
    private = arms[arms["arm"] == "dp"].dropna(subset="epsilon")
    way = private["recipe"] + " " + private["unit"].astype(str)
    return private[way == ("default patient" if (way == "default patient").any() else way.mode().get(0))]


def _of(table: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Return the rows of one attribute."""
    return table[table["attribute"] == attribute]


def age_attribute(table: pd.DataFrame) -> str:
    """Return the attribute by which a table of contrasts has ages: "age", or "age quartile" where there are no other bands."""
    return "age quartile" if (table["attribute"] == "age quartile").any() and not (table["attribute"] == "age").any() else "age"


def oldest(names: pd.Series) -> str | None:
    """Return the name of the highest age band, e.g. ">= 80 - rest" or "[70, 80)"; None where there is none."""
    def low_edge(name: str) -> float:
        return float(name.split(" - ")[0].strip("[>=) ").split(",")[0])
    return max(names.unique(), key=low_edge, default=None)
