"""Contrasts of AUROC between groups within strata, and at a common case mix.

In: predictions, the cohort's table, an attribute such as site, scanner or view. Out: a row a
contrast, arm and stratum. Raises `InputError` as `metric_table` does, and for a stratum that has
the name of a row of its own.

A pooled contrast compares patients of different strata, too: two groups that are served alike
within each site differ in the pool where one of them is seen more often at the site whose scores
are higher, or whose patients are harder (Simpson's paradox). Within a stratum only pairs of images
of that stratum are compared.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from helpers.analysis import (
    confidence_intervals,
    group_contrasts,
    influence_table,
    readable_tables,
    study_arms,
)
from helpers.analysis.auroc_intervals import HIDDEN, N_AVERAGED, N_SMALLER
from helpers.analysis.metric_table import ALL
from helpers.core import errors
from helpers.data import groups

POOLED, COMMON = "pooled", "common case mix"
OTHER_SIGN = "pooled and common case mix differ in sign"
COLUMNS = ["run", "what", "attribute", "group", "stratum", "estimate", "low", "high", "share"]
COLUMNS += ["n_findings", "findings", "remark"]


def contrasts(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    influences: pd.DataFrame,
    stratum: str,
    arms: pd.DataFrame,
    *,
    baseline: str | None = None,
    given: Collection[str] = (),
    min_patients: int = 10,
    age_edges: list[float] | None = None,
) -> pd.DataFrame:
    """Return each contrast of AUROC, and its change against the arm without privacy, pooled, within
    each stratum, and at a common case mix: the mean over strata, each weighted by its share of the
    patients compared, group and rest alike.

    All rows of a contrast are means over the same findings: those estimable in every group of the
    attribute in every stratum that has one (see `group_contrasts.averaged`); "pooled" may be over
    fewer than elsewhere. Weights are taken as known.

    Args:
        predictions, table, min_patients, age_edges: see `influence_table.of_auroc`.
        influences: of the same, without strata; its attributes are compared, but the stratum.
        stratum: an attribute.
        arms: from `study_arms.arm_table`.
        baseline: the arm without privacy.
        given: see `group_contrasts.averaged`.

    Returns:
        `COLUMNS`: what ("contrast" or "gap_change"), group (what is compared), stratum (its name,
        `POOLED` or `COMMON`), share (of the compared patients, in the strata where the contrast is
        estimable), remark (`OTHER_SIGN`, or of `confidence_intervals`).

    Raises:
        InputError: a stratum has the name of `POOLED` or `COMMON`.
    """
    attributes = influences.index.get_level_values("attribute")
    compared = [name for name in attributes.unique() if name not in (stratum, ALL)]
    whole = influences[attributes.isin(compared)]
    if whole.empty or not len(group_contrasts.pairs(whole.index)[2]):
        return pd.DataFrame(columns=COLUMNS)
    within = influence_table.of_auroc(
        predictions,
        table,
        compared,
        stratum=stratum,
        min_patients=min_patients,
        age_edges=age_edges,
    )
    within = within[within.index.get_level_values("attribute") != ALL]
    if within.empty:  # the stratum is known of nobody
        return pd.DataFrame(columns=COLUMNS)
    for name in {POOLED, COMMON} & set(within.index.get_level_values("stratum")):
        errors.refuse(f"other names of groups of {stratum}", repr(name), "Rename the group.")
    of_means = group_contrasts.averaged(within, given)
    shares = _shares(table, compared, stratum, age_edges)
    means = {
        POOLED: group_contrasts.macro(whole, of_means),
        stratum: group_contrasts.macro(within, of_means),
    }
    single = {name: group_contrasts.contrasts(part) for name, part in means.items()}
    single[COMMON] = _weighted(single[stratum], shares)
    rows = []
    for name, part in single.items():
        pooled = study_arms.pool(part, arms)
        changes = confidence_intervals.of_changes(group_contrasts.changes(pooled, baseline))
        if name == COMMON:
            levels = _common(pooled, study_arms.pool(means[stratum], arms), shares)
        else:
            of_arms = study_arms.pool(means[name], arms)
            pairs = group_contrasts.pairs(of_arms.index)
            levels = confidence_intervals.of_contrasts(of_arms, pooled, pairs)
        for what, values in (("contrast", levels), ("gap_change", changes)):
            values = values if "stratum" in values else values.assign(stratum=name)
            rows.append(values.assign(what=what))
    result = group_contrasts.with_findings(pd.concat(rows, ignore_index=True), of_means)
    return _with_remarks(_with_shares(result, shares))[COLUMNS]


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


def _used(of_strata: pd.DataFrame, shares: dict) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    """Return contrasts of the strata in which they are estimable in every arm, their weights, and
    the index levels but the stratum.
    """
    names = of_strata.index.to_frame(index=False)
    keys = [names[key].to_numpy() for key in ("attribute", "group", "stratum")]
    missing = of_strata[0].isna().groupby(keys).transform("any")
    used = of_strata[~missing.to_numpy()]
    names = used.index.to_frame(index=False)
    weight = [shares[key] for key in zip(names["attribute"], names["stratum"])]
    levels = [level for level in used.index.names if level != "stratum"]
    weight = pd.Series(weight, used.index, dtype=float)
    return used, weight / weight.groupby(level=levels).transform("sum"), levels


def _weighted(of_strata: pd.DataFrame, shares: dict) -> pd.DataFrame:
    """Return the weighted mean over strata of contrasts of single runs."""
    used, weight, levels = _used(of_strata, shares)
    summed = used.mul(weight, axis=0).groupby(level=levels, sort=False).sum()
    of_row = used.groupby(level=levels, sort=False)
    summed[N_SMALLER], summed[N_AVERAGED] = of_row[N_SMALLER].min(), of_row[N_AVERAGED].first()
    hidden = (used[HIDDEN] * weight) ** 2
    summed[HIDDEN] = hidden.groupby(level=levels, sort=False).sum() ** 0.5
    return summed.reindex(of_strata.index.droplevel("stratum").unique())


def _common(weighted: pd.DataFrame, means: pd.DataFrame, shares: dict) -> pd.DataFrame:
    """Return contrasts at the common case mix, with the strata's limits joined by MOVER.

    Strata of images may share patients: the distances are scaled to the standard error that the
    weighted influences have.
    """
    contrasted = group_contrasts.contrasts(means.drop(columns=study_arms.BETWEEN_SEEDS))
    pairs = group_contrasts.pairs(means.index)
    of_strata = confidence_intervals.of_contrasts(means, contrasted, pairs)
    used, weight, levels = _used(contrasted, shares)
    limits = of_strata.set_index(used.index.names).loc[used.index]

    def joined(values: np.ndarray) -> np.ndarray:
        squares = pd.Series((weight * values) ** 2, used.index).groupby(level=levels).sum()
        return np.sqrt(squares).reindex(weighted.index).to_numpy(float)

    spread, apart = confidence_intervals.spread(weighted), confidence_intervals.spread(used)
    alone = joined(apart.patients)
    scale = np.divide(spread.patients, alone, out=np.ones_like(alone), where=alone > 0)
    estimate = weighted[0].to_numpy(float)
    below, above = (
        np.hypot(scale * joined(distance.to_numpy(float)), spread.of_seeds(0.025))
        for distance in (limits["estimate"] - limits["low"], limits["high"] - limits["estimate"])
    )
    remarks = limits["remark"].groupby(level=levels).max().reindex(weighted.index)
    rows = pd.DataFrame(
        {"estimate": estimate, "low": estimate - below, "high": estimate + above},
        index=weighted.index,
    )
    return rows.assign(remark=remarks.fillna("")).reset_index()


def _with_shares(rows: pd.DataFrame, shares: dict) -> pd.DataFrame:
    """Return rows with the share of the compared patients that each is about."""
    share = [shares.get((row.attribute, row.stratum), np.nan) for row in rows.itertuples()]
    rows = rows.assign(share=np.where(rows["stratum"] == POOLED, 1.0, share))
    keys = ["run", "what", "attribute", "group"]
    is_used = rows["share"].where(rows["estimate"].notna() & (rows["stratum"] != POOLED))
    total = is_used.groupby([rows[key] for key in keys]).transform("sum")
    rows["share"] = rows["share"].where(rows["stratum"] != COMMON, total)
    order = rows["stratum"].map({POOLED: 0, COMMON: 1}).fillna(2)
    return rows.assign(order=order).sort_values([*keys, "order"], kind="stable", ignore_index=True)


def _with_remarks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with `OTHER_SIGN` where it is so and at least one of the two excludes 0."""
    keys = ["run", "what", "attribute", "group"]
    wide = rows[rows["stratum"].isin([POOLED, COMMON])].set_index([*keys, "stratum"])
    signs = np.sign(wide["estimate"]).unstack("stratum")
    excludes = ((wide["low"] > 0) | (wide["high"] < 0)).unstack("stratum").any(axis=1)
    differ = (signs[POOLED] * signs[COMMON] < 0) & excludes
    of_row = pd.MultiIndex.from_frame(rows[keys]).map(differ).to_numpy(dtype=bool)
    return rows.assign(remark=rows["remark"].mask(of_row, OTHER_SIGN))


def side_by_side(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return comparisons pooled and at a common case mix, each with its 95 % CI, and of which
    strata the latter is the mean.

    Args:
        rows: from `contrasts`, with label, arm_label and strata, the attribute of the strata.
        what: "contrast" or "gap_change".

    Returns:
        Index strata, label, arm_label; columns `POOLED`, `COMMON`, "mean over", n_findings.
    """
    rows = rows[(rows["what"] == what) & rows["estimate"].notna()]
    keys, is_within = ["strata", "label", "arm_label"], ~rows["stratum"].isin([POOLED, COMMON])
    interval = [readable_tables.with_interval(row) for row in rows.itertuples()]
    both = rows.assign(interval=interval)[~is_within].set_index([*keys, "stratum"])["interval"]
    mean_over = rows[is_within].groupby(keys, sort=False)["stratum"].agg(", ".join)
    table = both.unstack("stratum", sort=False).reindex(columns=[POOLED, COMMON])
    table["mean over"] = mean_over.reindex(table.index)
    n_findings = rows[~is_within].groupby(keys, sort=False)["n_findings"].first()
    return table.assign(n_findings=n_findings.reindex(table.index)).dropna()


def in_words(rows: pd.DataFrame, planned: pd.DataFrame, margin: float) -> str:
    """Return how many of the planned changes lie within the margin, pooled and at a common case
    mix; "" where none was compared.

    Args:
        rows: as in `side_by_side`.
        planned: with attribute, group, arm_label.
        margin: of equivalence; a change within it has its whole 95 % CI there.
    """
    if rows.empty:
        return ""
    keys = ["attribute", "group", "arm_label"]
    rows = rows[(rows["what"] == "gap_change") & rows["estimate"].notna()]
    rows = rows.merge(planned[keys].drop_duplicates(), on=keys)
    sentences = []
    for name, part in rows.groupby("strata", sort=False):
        is_inside = (part["low"] > -margin) & (part["high"] < margin)
        inside = is_inside.groupby(part["stratum"]).agg(["sum", "size"])
        if COMMON not in inside.index:
            continue
        within = part.loc[~part["stratum"].isin([POOLED, COMMON]), "stratum"].unique()
        share = part.loc[part["stratum"] == COMMON, "share"].min()
        (n_common, of_common), (n_pooled, of_pooled) = inside.loc[[COMMON, POOLED]].to_numpy()
        sentences.append(
            f"Within strata of {name} ({', '.join(within)}; {share:.0%} of the patients):"
            f" {n_common} of {of_common} planned changes lie within +-{margin:g} at a common case"
            f" mix, {n_pooled} of {of_pooled} pooled (95 % CIs; means over the findings that the"
            " strata share)."
        )
    return " ".join(sentences)
