"""The paper's measures on this study's results.

In: a cohort's table, predictions, replicates. Out: findings per image, standard errors of AUROC,
the paper's printed numbers beside this study's.
"""

import numpy as np
import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts, published_results, study_arms
from helpers.analysis.metric_table import ALL
from helpers.core import small_counts
from helpers.data import groups

HIDDEN = "not shown"


def findings_per_image(
    table: pd.DataFrame, findings: list[str], age_edges: list[float] | None, access: str
) -> pd.DataFrame:
    """Return the number of findings present per test image, mean and standard deviation, by age
    group and sex.

    What the paper calls co-morbidity. Unknown labels count as absent, as there.

    Args:
        table: the cohort's table.
        findings: its findings.
        age_edges: see `groups.add_groups`.
        access: to the data; where they are not open, cells of few patients are `HIDDEN`, and
            others from which these would follow.
    """
    test = groups.add_groups(table[table["split"] == "test"], ["age", "sex"], age_edges)
    test = test.assign(number=test[findings].sum(axis=1))
    cells = (
        test.groupby(["group_age", "group_sex"])
        .agg(
            mean=("number", "mean"),
            std=("number", "std"),
            n_images=("number", "size"),
            n_patients=("patient_id", "nunique"),
        )
        .reset_index()
    )
    # one image has no spread
    spread = cells["std"].map(lambda value: "" if np.isnan(value) else f" +- {value:.2f}")
    size = cells["n_images"].map(" (n={:.0f})".format)
    cells["text"] = cells["mean"].map("{:.2f}".format) + spread + size
    if not small_counts.is_open(access):
        margins = ["group_age", "group_sex"]
        cells = small_counts.without_small(cells, ["n_patients"], ["text"], margins)
        cells["text"] = cells["text"].fillna(HIDDEN)
    text = cells.set_index(["group_age", "group_sex"])["text"].unstack()
    return (
        text.loc[sorted(text.index, key=groups.sort_key)]
        .fillna("")
        .rename_axis("age")
        .reset_index()
        .rename_axis(columns=None)
    )


def standard_errors(replicates: pd.DataFrame, influences: pd.DataFrame) -> pd.DataFrame:
    """Return the standard error of each run's AUROC by finding twice: from the bootstrap, and in
    closed form, which the intervals are made of.

    Args:
        replicates: from `metric_table.replicate`.
        influences: from `influence_table.of_auroc`.

    Returns:
        run, finding, bootstrap, closed_form, ratio of the first to the second.
    """
    drawn = replicates.xs(("auroc", ALL), level=["metric", "attribute"]).droplevel("group")
    of_everybody = influences.xs(("auroc", ALL), level=["metric", "attribute"]).droplevel("group")
    of_everybody = of_everybody.loc[drawn.index]
    table = pd.DataFrame(
        {
            "bootstrap": drawn.drop(columns=0).std(axis=1),
            "closed_form": confidence_intervals.spread(of_everybody).patients,
        }
    ).reset_index()
    return table.assign(
        ratio=table["bootstrap"] / table["closed_form"].where(table["closed_form"] > 0)
    )


def beside_published(
    summary: pd.DataFrame, contrasts: pd.DataFrame, names: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return this study's curve and contrasts beside published ones, for
    `paper_figures.plot_published`.

    Args:
        summary: from `study_summary.summary`; private arms of one recipe and unit are shown, see
            `study_arms.one_way`.
        contrasts: summarised AUROC contrasts, mean over findings, with label, attribute, arm,
            epsilon, recipe.
        names: of published results, see `published_results.read`; only verified values.
    """
    theirs = pd.concat([published_results.read(name) for name in names])
    curves, others = published_results.relative(theirs), published_results.contrasts(theirs)
    others = others[others["group"].isin(["female - male", "oldest 25% - rest"])].rename(
        columns={"group": "label"}
    )
    without = next(iter(summary.loc[summary["arm"] == "baseline", "macro_auroc"]), np.nan)
    private = study_arms.one_way(summary)
    ours = pd.DataFrame(
        {
            "study": "this study",
            "epsilon": private["epsilon"],
            "auroc": private["macro_auroc"],
            "difference": private["macro_auroc"] - without,
            "chance_corrected_ratio": (private["macro_auroc"] - 0.5) / (without - 0.5),
        }
    )
    mine = contrasts[
        contrasts["run"].isin(private["run"])
        & contrasts["attribute"].isin(["sex", group_contrasts.age_attribute(contrasts)])
    ]
    last = group_contrasts.oldest(mine.loc[mine["attribute"] != "sex", "group"])
    mine = mine[mine["group"].isin(["female - male", last])]
    mine = pd.DataFrame(
        {
            "study": "this study",
            "epsilon": mine["epsilon"],
            "label": mine["label"],
            "contrast": mine["estimate"],
        }
    )
    return (
        pd.concat([part for part in (curves, ours) if len(part)], ignore_index=True),
        pd.concat([part for part in (others, mine) if len(part)], ignore_index=True),
    )


def conclusions(
    parity: pd.DataFrame,
    sides: pd.DataFrame,
    standard_error_table: pd.DataFrame,
    shortcut_table: pd.DataFrame,
    attainable: pd.DataFrame,
) -> list[str]:
    """Return what the paper's measures say of this study, in sentences.

    Args:
        parity: summarised accuracy parity differences of one private arm, with arm_label; none
            where there is no such arm.
        sides: summarised AUROC contrasts, a row a run, label and way of counting `images`.
        standard_error_table: from `standard_errors`.
        shortcut_table: from `shortcuts.beside_model`, with arm_label.
        attainable: a row an attribute, how many AUROCs are printed and how many are attainable.
    """
    sentences = []
    if len(parity):
        sentences.append(
            f"Accuracy parity differences at {parity['arm_label'].iloc[0]}:"
            f" {_excludes_0(parity).sum()} of {len(parity)} have a 95 % CI that excludes 0."
        )
    contrasts = sides.assign(excludes=_excludes_0(sides)).groupby(["run", "label"])
    comparable = contrasts.filter(lambda rows: rows["low"].notna().all())
    if len(comparable):
        n_verdicts = comparable.groupby(["run", "label"])["excludes"].nunique()
        sentences.append(
            "One image of each patient instead of all: whether the 95 % CI excludes 0 changes in"
            f" {(n_verdicts > 1).sum()} of {len(n_verdicts)} AUROC contrasts."
        )
    ratio = standard_error_table["ratio"]
    sentences.append(
        f"The bootstrap's standard errors are {ratio.min():.2f} to {ratio.max():.2f} times those of"
        " the closed form."
    )
    for row in shortcut_table.itertuples():
        sentences.append(
            f"Shortcut check, {row.column} alone: AUROC {row.alone:.3f}; {row.arm_label}"
            f" {row.model:.3f}, among images of one {row.column} {row.within:.3f}."
        )
    n_printed, n_attainable = attainable.sum()
    sentences.append(
        f"Of {n_printed} AUROCs that the paper prints for groups, {n_printed - n_attainable} cannot"
        " be those of a single test set with the printed counts."
    )
    return sentences


def _excludes_0(table: pd.DataFrame) -> pd.Series:
    """Return which intervals exclude 0."""
    return (table["low"] > 0) | (table["high"] < 0)
