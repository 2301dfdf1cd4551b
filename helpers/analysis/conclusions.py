"""The study's answer in sentences.

In: the tables of notebook 04. Out: a list of sentences; every number in them is from these tables.
"""

import pandas as pd

from helpers.analysis import equivalence
from helpers.core.sentence_lists import MORE


def conclusions(
    summary: pd.DataFrame,
    prices: pd.DataFrame,
    gains: pd.DataFrame,
    planned: pd.DataFrame,
    changes: pd.DataFrame,
    made_of: str = "",
) -> list[str]:
    """Return the study's answer in sentences: is anything predicted, what does privacy cost, do
    groups pay unequally.

    Args:
        summary: from `study_summary.summary`.
        prices: summarised differences of mean AUROC to the run without privacy
            (`group_contrasts.changes`); empty without one.
        gains: the same to the public model; empty without one.
        planned: from `equivalence.planned_table`.
        changes: from `equivalence.of_changes`, with label; all contrasts of AUROC of private arms.
        made_of: what the price is made of, from `price_parts.in_words`; "" where it is not known.

    Returns:
        One sentence each; those that go on about the one before begin with `MORE`.
    """
    sentences = []
    for row in summary[
        summary["macro_auroc"].isna() | ~summary["low"].map(equivalence.predicts)
    ].itertuples():
        sentences.append(
            f"{row.arm_label}: mean AUROC is not estimable."
            if pd.isna(row.low)
            else (
                f"{row.arm_label}: no finding is predicted: mean AUROC {row.macro_auroc:.3f}"
                f" [{row.low:.3f}, {row.high:.3f}]"
                f" {'lies below' if row.high < 0.5 else 'does not lie above'} 0.5. What follows"
                " about it means nothing."
            )
        )
    if len(sentences) == len(summary):
        return sentences
    private = summary[summary["arm"] == "dp"]
    if prices.empty or private.empty:
        return sentences + [
            f"{row.arm_label}: mean AUROC {row.macro_auroc:.3f} [{row.low:.3f}, {row.high:.3f}]. "
            "The price of privacy needs a baseline run and a private run."
            for row in summary.itertuples()
        ]
    for row in private.itertuples():
        name = row.arm_label if "per image" in row.arm_label else f"{row.arm_label} per {row.unit}"
        price = (
            "the price of privacy"
            if row.recipe == "default"
            else "the difference to the run without privacy, which has another recipe"
        )
        sentences.append(
            f"{name}: mean AUROC {row.macro_auroc:.3f} [{row.low:.3f}, {row.high:.3f}]; "
            + equivalence.in_words(*_interval(prices, row.run), price)
            + "."
        )
        # another recipe may start from another head of the public model
        if len(gains) and row.recipe == "default":
            sentences.append(
                MORE
                + equivalence.in_words(
                    *_interval(gains, row.run), "What private patients added to the public model"
                )
                + "."
            )
        of_run = changes[changes["run"] == row.run]
        counts = of_run["verdict"].value_counts()
        sentences.append(
            f"{MORE}Of {len(of_run)} contrasts between groups: "
            + ", ".join(
                f"{n} {verdict}{_named(verdict, of_run[of_run['verdict'] == verdict])}"
                for verdict, n in counts.items()
            )
            + "."
        )
    sentences += [made_of] if made_of else []
    for row in planned.itertuples():
        if row.verdict not in ("budget not run", "no such contrast here", "not estimable"):
            sentences.append(
                f"Planned: {row.attribute} {row.group} at {row.arm_label}: gap_change"
                f" {row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}],"
                f" p {row.p_holm:.3f} after Holm; {row.verdict}"
                f" (minimum detectable change {row.minimum_detectable:.3f} at 80 % power)."
            )
    return sentences


def _named(verdict: str, rows: pd.DataFrame) -> str:
    """Return the contrasts of a verdict that says that something differs, with their changes."""
    if not verdict.startswith((equivalence.WORSE, equivalence.DIFFERENT)):
        return ""
    return f" ({', '.join(f'{row.label} {row.estimate:+.3f}' for row in rows.itertuples())})"


def _interval(table: pd.DataFrame, run: str) -> tuple[float, float, float]:
    """Return estimate, low and high of a run's row."""
    return tuple(table.set_index("run").loc[run, ["estimate", "low", "high"]])
