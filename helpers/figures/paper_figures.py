"""Figures of the paper's comparisons: drops by finding, its printed numbers beside this study's.

In: tidy tables. Out: Axes; nothing is computed here.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.figures.house_style import MARKERS, arm_styles, in_lines


def plot_drops(table: pd.DataFrame, panels: dict[str, str]) -> np.ndarray:
    """Draw each finding's AUROC drop (private minus non-private) against properties of the finding,
    a panel each.

    Args:
        table: columns finding, arm_label, drop, low, high, and those of `panels`.
        panels: column on the horizontal axis -> its name and unit.

    Returns:
        The Axes.
    """
    axes = plt.figure(figsize=(4.2 * len(panels), 3.8)).subplots(
        1, len(panels), sharey=True, squeeze=False
    )[0]
    arms = list(dict.fromkeys(table["arm_label"]))
    styles = arm_styles(arms)
    for ax, (x, xlabel) in zip(axes, panels.items()):
        for arm in arms:
            rows = table[table["arm_label"] == arm]
            ax.vlines(rows[x], rows["low"], rows["high"], color=styles[arm]["color"], alpha=0.5)
            ax.plot(rows[x], rows["drop"], **styles[arm], label=in_lines(arm))
        # names would hide each other
        for number, (_, rows) in enumerate(table.groupby("finding", sort=False), start=1):
            row = rows.loc[rows["low"].idxmin()]
            ax.annotate(
                str(number),
                (row[x], row["low"]),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8,
            )
        ax.axhline(0, color="0.5", linestyle="--", zorder=0)
        ax.margins(y=0.1)
        ax.set(xlabel=xlabel)
    axes[0].set(ylabel="AUROC, private minus non-private\n(95 % CI over patients)")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    key = [
        f"{number} {name.replace('_', ' ')}"
        for number, name in enumerate(dict.fromkeys(table["finding"]), start=1)
    ]
    axes[-1].text(1.03, 0, "\n".join(key), transform=axes[-1].transAxes, fontsize=8, va="bottom")
    return axes


def plot_published(curves: pd.DataFrame, contrasts: pd.DataFrame) -> np.ndarray:
    """Draw this study's numbers beside published ones: two measures of the price, and contrasts,
    against epsilon.

    Args:
        curves: columns study, epsilon, difference (AUROC minus non-private),
            chance_corrected_ratio.
        contrasts: columns study, label, epsilon, contrast.

    Returns:
        The three Axes.
    """
    axes = plt.figure(figsize=(12.5, 3.8)).subplots(1, 3)
    looks = dict(
        zip(
            dict.fromkeys([*curves["study"], *contrasts["study"]]),
            zip(("C0", "C1", "C2", "C3", "C4"), MARKERS),
        )
    )
    for study, rows in (
        curves[np.isfinite(curves["epsilon"])].sort_values("epsilon").groupby("study", sort=False)
    ):
        for ax, column in zip(axes, ("difference", "chance_corrected_ratio")):
            ax.plot(
                rows["epsilon"],
                rows[column],
                looks[study][1] + "-",
                color=looks[study][0],
                markersize=4,
                label=study.replace("_", " "),
            )
    for (study, label), rows in (
        contrasts[np.isfinite(contrasts["epsilon"])]
        .sort_values("epsilon")
        .groupby(["study", "label"], sort=False)
    ):
        color, marker = looks[study]
        by_sex = " - male" in label
        axes[2].plot(
            rows["epsilon"],
            rows["contrast"],
            marker,
            linestyle="-" if by_sex else "--",
            color=color,
            markersize=5,
            markerfacecolor=color if by_sex else "white",
            label=f"{study.replace('_', ' ')}: {label}",
        )
    for ax, ylabel, reference in zip(
        axes,
        (
            "AUROC minus that without privacy",
            "(AUROC - 0.5) / (without privacy - 0.5)",
            "AUROC contrast",
        ),
        (0, 1, 0),
    ):
        ax.axhline(reference, color="0.7", linewidth=0.8, zorder=0)
        ax.set(xscale="log", xlabel="epsilon (log scale)", ylabel=f"{ylabel}\n(no interval drawn)")
        ax.set_xticks([0.3, 1, 3, 8], ["0.3", "1", "3", "8"])
        ax.minorticks_off()
    axes[0].legend(fontsize=8)
    axes[2].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return axes
