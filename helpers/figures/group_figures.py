"""Figures of groups of patients: a metric by group, contrasts, contrasts against epsilon.

In: one tidy table. Out: Axes; nothing is computed here. An arm looks the same everywhere, see
`house_style.arm_styles`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.figures.house_style import arm_styles, in_lines

BAND = "#f7f2e9"  # behind every other group; grey is the margin


def plot_by_group(table: pd.DataFrame, xlabel: str, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw a forest: for each group the estimate and interval of every arm.

    Args:
        table: one row a group and arm; columns label (str), arm_label (str), estimate, low, high
            (NaN: not estimable).
        xlabel: name of the metric, its interval defined.
        ax: where to draw; a new figure when None.
    """
    names, arms = list(dict.fromkeys(table["label"])), list(dict.fromkeys(table["arm_label"]))
    ax = ax or plt.figure(figsize=(8.5, 0.14 * (len(arms) + 1.5) * len(names) + 1)).add_subplot()
    styles = arm_styles(arms)
    for height in range(1, len(names), 2):  # bands tell whose arms belong together
        ax.axhspan(height - 0.5, height + 0.5, color=BAND, linewidth=0, zorder=0)
    for offset, arm in zip(np.linspace(-0.3, 0.3, len(arms)), arms):
        rows = table[table["arm_label"] == arm].set_index("label").reindex(names)
        heights = np.arange(len(names)) + (offset if len(arms) > 1 else 0)
        ax.hlines(heights, rows["low"], rows["high"], color=styles[arm]["color"])
        ax.plot(rows["estimate"], heights, **styles[arm], label=in_lines(arm))
    without = [
        height
        for height, name in enumerate(names)
        if table.loc[table["label"] == name, "estimate"].isna().all()
    ]
    for height in without:
        ax.text(
            0.5,
            height,
            "not estimable",
            transform=ax.get_yaxis_transform(),
            ha="center",
            va="center",
            color="0.4",
        )
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    ax.set(xlabel=xlabel)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_contrasts(
    table: pd.DataFrame, xlabel: str, margin: float | None = None, ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw signed contrasts, or their change, like `plot_by_group`, with the line of no difference.

    Args:
        table, xlabel, ax: as in `plot_by_group`.
        margin: shade differences smaller than this, which do not matter.
    """
    ax = plot_by_group(table, xlabel, ax)
    ax.axvline(0, color="0.5", linestyle="--", zorder=0)
    if margin is not None:
        ax.axvspan(
            -margin,
            margin,
            color="0.5",
            alpha=0.12,
            linewidth=0,
            zorder=0,
            label=f"margin, {margin:g}",
        )
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_against_epsilon(table: pd.DataFrame, ylabel: str) -> np.ndarray:
    """Draw each contrast of the private arms against epsilon with its ribbon; a panel a contrast,
    axes shared.

    Args:
        table: one row a contrast and arm; columns label, arm ("dp", "baseline", "zero_shot"),
            epsilon, estimate, low, high; private arms of one recipe and unit only.
        ylabel: name of the contrast.

    Returns:
        The Axes, those without a contrast removed.
    """
    names = list(dict.fromkeys(table["label"]))
    rows = -(-len(names) // 3)
    axes = (
        plt.figure(figsize=(8.5, 2.4 * rows + 0.3))
        .subplots(rows, 3, sharex=True, sharey=True, squeeze=False)
        .ravel()
    )
    for ax, name in zip(axes, names):
        contrast = table[table["label"] == name]
        for arm, style, label in (
            ("baseline", "-", "no privacy"),
            ("zero_shot", "--", "zero-shot"),
        ):
            for row in contrast[contrast["arm"] == arm].itertuples():
                ax.axhline(
                    row.estimate,
                    color="black" if arm == "baseline" else "0.5",
                    linestyle=style,
                    linewidth=1,
                    label=label,
                )
                if arm == "baseline":
                    ax.axhspan(row.low, row.high, color="black", alpha=0.08, linewidth=0)
        private = contrast[contrast["arm"] == "dp"].sort_values("epsilon")
        ax.plot(
            private["epsilon"], private["estimate"], "o-", color="C0", markersize=4, label="private"
        )
        ax.fill_between(
            private["epsilon"], private["low"], private["high"], color="C0", alpha=0.2, linewidth=0
        )
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        ax.set_title(name, fontsize=9)
    budgets = sorted(table["epsilon"].dropna().unique())
    axes[0].set(xscale="log", xticks=budgets, xticklabels=[f"{budget:g}" for budget in budgets])
    axes[0].minorticks_off()
    for ax in axes[len(names) :]:
        ax.remove()
    axes[0].figure.supxlabel("privacy budget epsilon (log scale)", fontsize=10)
    axes[0].figure.supylabel(f"{ylabel}\n(bands: 95 %, patients)", fontsize=10)
    axes[0].legend(fontsize=8)
    return axes[: len(names)]
