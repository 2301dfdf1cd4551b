"""Figures of ROC, calibration and decision curves by group, a panel an arm.

In: tables of `analysis.curves`. Out: Axes; nothing is computed here.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.figures.house_style import MARKERS, in_lines


def plot_roc(table: pd.DataFrame) -> np.ndarray:
    """Draw ROC curves by group, mean over findings, a panel an arm.

    Args:
        table: from `curves.roc`, with arm_label.
    """
    axes = _panels(table)
    for ax, (arm, rows) in zip(axes, table.groupby("arm_label", sort=False)):
        for style, (group, points) in zip(
            ("-", "--", "-.", ":", (0, (5, 1))), rows.groupby("group")
        ):
            ax.plot(points["false_alarm_rate"], points["sensitivity"], linestyle=style, label=group)
        ax.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
        ax.set(title=in_lines(arm), xlabel="false-alarm rate", aspect="equal")
    axes[0].set(ylabel="sensitivity, mean over findings\n(no interval: see AUROC)")
    axes[-1].legend(loc="lower right", fontsize=8)
    return axes


def plot_calibration(table: pd.DataFrame) -> np.ndarray:
    """Draw how often a finding is present against its mean score, by group, a panel an arm.

    Args:
        table: from `curves.calibration`, with arm_label.
    """
    axes = _panels(table)
    for ax, (arm, rows) in zip(axes, table.groupby("arm_label", sort=False)):
        for marker, (group, points) in zip(MARKERS, rows.groupby("group")):
            (line,) = ax.plot(
                points["mean_score"], points["share"], f"{marker}-", markersize=4, label=group
            )
            ax.vlines(
                points["mean_score"],
                points["low"],
                points["high"],
                color=line.get_color(),
                alpha=0.5,
            )
        ax.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
        ax.set(title=in_lines(arm), xlabel="mean score", aspect="equal")
    axes[0].set(ylabel="share with the finding\n(95 % patient bootstrap)")
    axes[-1].legend(loc="lower right", fontsize=8)
    return axes


def plot_net_benefit(table: pd.DataFrame) -> np.ndarray:
    """Draw decision curves by group, mean over findings, a panel an arm.

    Args:
        table: from `curves.net_benefit`, with arm_label.
    """
    axes = _panels(table)
    for ax, (arm, rows) in zip(axes, table.groupby("arm_label", sort=False)):
        for style, (group, points) in zip(("-", "--", "-.", ":"), rows.groupby("group")):
            (line,) = ax.plot(points["chance"], points["net_benefit"], style, label=group)
            everybody = points["everybody"].where(points["everybody"] > -0.05)
            ax.plot(points["chance"], everybody, style, color=line.get_color(), linewidth=0.6)
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set(title=in_lines(arm), xlabel="act from this chance on")
    axes[0].set(ylabel="net benefit, mean over findings\n(thin: every image called; no interval)")
    axes[-1].legend(loc="upper right", fontsize=8)
    return axes


def _panels(table: pd.DataFrame) -> np.ndarray:
    """Return one square panel an arm, axes shared."""
    n = table["arm_label"].nunique()
    return plt.figure(figsize=(2.9 * max(n, 1) + 0.6, 3.3)).subplots(
        1, max(n, 1), sharex=True, sharey=True, squeeze=False
    )[0]
