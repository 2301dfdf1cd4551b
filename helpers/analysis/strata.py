"""Contrasts of AUROC between groups within strata, and at a common case mix.

In: predictions, the cohort's table, an attribute such as site, scanner or view. Out: a row a
contrast, arm and stratum. Raises `InputError` as `metric_table` does.

A pooled contrast compares patients of different strata, too: two groups that are served alike
within each site differ in the pool where one of them is seen more often at the site whose scores
are higher, or whose patients are harder (Simpson's paradox). Within a stratum only pairs of images
of that stratum are compared.
"""

import numpy as np
import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts, influence_table, study_arms
from helpers.analysis.auroc_intervals import N_SMALLER
from helpers.data import groups

POOLED, COMMON = "pooled", "common case mix"
OTHER_SIGN = "pooled and common case mix differ in sign"


def contrasts(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    attributes: list[str],
    stratum: str,
    arms: pd.DataFrame,
    *,
    baseline: str | None = None,
    min_patients: int = 10,
    age_edges: list[float] | None = None,
) -> pd.DataFrame:
    """Return each contrast of AUROC, and its change against the arm without privacy, pooled, within
    each stratum, and at a common case mix: the mean over strata, each weighted by its share of the
    patients compared, group and rest alike.

    All rows of a contrast are means over the same findings: those estimable in every group of the
    attribute in every stratum that has one (see `group_contrasts.averaged`). Weights are taken as
    known.

    Args:
        predictions, table, attributes, min_patients, age_edges: see `influence_table.of_auroc`.
        stratum: an attribute; as one of `attributes` it is left out there.
        arms: from `study_arms.arm_table`.
        baseline: the arm without privacy.

    Returns:
        run, what ("contrast" or "gap_change"), attribute, group (what is compared), stratum (its
        name, `POOLED` or `COMMON`), estimate, low, high, share (of the compared patients, in the
        strata where the contrast is estimable), n_findings, findings, remark (`OTHER_SIGN`).
    """
    compared = [attribute for attribute in attributes if attribute != stratum]
    options = dict(min_patients=min_patients, age_edges=age_edges)
    within = influence_table.of_auroc(predictions, table, compared, stratum=stratum, **options)
    whole = influence_table.of_auroc(predictions, table, compared, **options)
    of_means = group_contrasts.averaged(within)
    of_strata = _contrasts_of(within, of_means, arms)
    pooled = _contrasts_of(whole, of_means, arms)
    shares = _shares(table, compared, stratum, age_edges)
    tables = {POOLED: pooled, COMMON: _weighted(of_strata, shares)} | {
        name: part.droplevel("stratum")
        for name, part in of_strata.groupby(level="stratum", sort=False)
    }
    rows = []
    for name, part in tables.items():
        for what, values in (
            ("contrast", part),
            ("gap_change", group_contrasts.changes(part, baseline)),
        ):
            of_values = confidence_intervals.of_changes(values).drop(columns=["p", "remark"])
            rows.append(of_values.assign(what=what, stratum=name))
    result = group_contrasts.with_findings(pd.concat(rows, ignore_index=True), of_means)
    result["share"] = [
        shares.get((row.attribute, row.stratum), 1.0 if row.stratum == POOLED else np.nan)
        for row in result.itertuples()
    ]
    return _with_remarks(_covered(result)).drop(columns=["metric", "finding"])


def _contrasts_of(
    influences: pd.DataFrame, of_means: pd.DataFrame, arms: pd.DataFrame
) -> pd.DataFrame:
    """Return pooled influences of contrasts, means over findings."""
    means = group_contrasts.macro(influences, of_means)
    return study_arms.pool(group_contrasts.contrasts(means), arms)


def _shares(
    table: pd.DataFrame, attributes: list[str], stratum: str, age_edges: list[float] | None
) -> dict[tuple[str, str], float]:
    """Return each stratum's share of the test patients whose group of an attribute is known."""
    test = groups.add_groups(table[table["split"] == "test"], [*attributes, stratum], age_edges)
    place = test[f"group_{stratum}"]
    shares = {}
    for attribute in attributes:
        known = ~groups.is_unknown(test[f"group_{attribute}"]) & ~groups.is_unknown(place)
        sizes = test[known].groupby(place[known])["patient_id"].nunique()
        shares |= {(attribute, name): float(n) / sizes.sum() for name, n in sizes.items()}
    return shares


def _weighted(of_strata: pd.DataFrame, shares: dict[tuple[str, str], float]) -> pd.DataFrame:
    """Return the mean over strata of pooled contrasts, over those where it is estimable in every
    arm.
    """
    names = of_strata.index.to_frame(index=False)
    keys = ["attribute", "group", "stratum"]
    missing = of_strata[0].isna().groupby([names[key].to_numpy() for key in keys]).transform("any")
    used = of_strata[~missing.to_numpy()]
    names = used.index.to_frame(index=False)
    weight = pd.Series(
        [shares[key] for key in zip(names["attribute"], names["stratum"])], used.index, dtype=float
    )
    levels = [level for level in used.index.names if level != "stratum"]
    weight = weight / weight.groupby(level=levels).transform("sum")
    summed = used.mul(weight, axis=0).groupby(level=levels, sort=False).sum()
    variance, doubt, n_seeds = study_arms.BETWEEN_SEEDS
    summed[N_SMALLER] = used.groupby(level=levels)[N_SMALLER].min()
    summed[n_seeds] = used.groupby(level=levels)[n_seeds].min()
    # strata share a run: their errors of training again may add up
    error = (used[variance] ** 0.5).mul(weight).groupby(level=levels, sort=False).sum()
    freedom = used[variance] ** 2 / used[doubt].where(used[doubt] > 0)
    summed[variance] = error**2
    summed[doubt] = (summed[variance] ** 2 / freedom.groupby(level=levels).min()).fillna(0.0)
    order = of_strata.index.droplevel("stratum").unique()
    return summed.reindex(order)


def _covered(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose share at the common case mix is that of the strata in it."""
    keys = ["run", "what", "attribute", "group"]
    is_stratum = ~rows["stratum"].isin([POOLED, COMMON]) & rows["estimate"].notna()
    covered = rows[is_stratum].groupby(["attribute", "group", "run", "what"])["share"].sum()
    total = [
        covered.get((row.attribute, row.group, row.run, row.what), 0.0) for row in rows.itertuples()
    ]
    return rows.assign(share=rows["share"].where(rows["stratum"] != COMMON, total)).sort_values(
        keys, kind="stable", ignore_index=True
    )


def _with_remarks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with `OTHER_SIGN` where it is so and at least one of the two excludes 0."""
    keys = ["run", "what", "attribute", "group"]
    wide = rows[rows["stratum"].isin([POOLED, COMMON])].set_index([*keys, "stratum"])
    signs = np.sign(wide["estimate"]).unstack("stratum")
    excludes = ((wide["low"] > 0) | (wide["high"] < 0)).unstack("stratum").any(axis=1)
    differ = (signs[POOLED] * signs[COMMON] < 0) & excludes
    of_row = pd.MultiIndex.from_frame(rows[keys]).map(differ)
    return rows.assign(remark=np.where(of_row.to_numpy(dtype=bool), OTHER_SIGN, ""))
