"""Figures of stored benchmark results."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd


def plot_coverage(table: pd.DataFrame) -> np.ndarray:
    """Draw how often intervals cover the truth against the likeness of a patient's images, a panel
    for each thing resampled.

    Args:
        table: from `benchmarks/interval_coverage.py`; columns correlation, unit ("patient" or
            "image"), quantity, coverage, standard_error.

    Returns:
        The two Axes.
    """
    axes = plt.figure(figsize=(8.5, 3.4)).subplots(1, 2, sharey=True)
    for ax, unit in zip(axes, ("patient", "image")):
        for number, (marker, (name, rows)) in enumerate(
            zip("osD^", table[table["unit"] == unit].groupby("quantity", sort=False))
        ):
            ax.errorbar(
                rows["correlation"] + 0.012 * (number - 1.5),
                rows["coverage"],
                yerr=1.96 * rows["standard_error"],
                fmt=marker + "-",
                markersize=4,
                capsize=2,
                label=name,
            )
        ax.axhline(
            0.95, color="black", linestyle="--", linewidth=1, zorder=0, label="claimed, 95 %"
        )
        ax.set(title=f"{unit}s resampled", xlabel="correlation of the images of a patient")
    axes[0].set(ylabel="share of 95 % intervals that\ncover the truth (bars: 95 %)")
    axes[0].legend(fontsize=8)
    return axes


def plot_sensitivity(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw what a change of one knob does to mean AUROC on the tuning cohort, for each budget.

    No interval: one seed each.

    Args:
        table: columns change (str), epsilon, difference (AUROC minus that of the rule).
        ax: where to draw; a new figure when None.
    """
    changes = list(dict.fromkeys(table["change"]))
    ax = ax or plt.figure(figsize=(6, 0.45 * len(changes) + 1.2)).add_subplot()
    for color, marker, (epsilon, rows) in zip(
        ("#E69F00", "#56B4E9", "#0072B2"), "^sD", table.groupby("epsilon")
    ):
        ax.plot(
            rows["difference"],
            [changes.index(change) for change in rows["change"]],
            marker,
            color=color,
            markeredgecolor="black",
            markeredgewidth=0.5,
            label=f"epsilon {epsilon:g}",
        )
    ax.axvline(0, color="0.5", linestyle="--", zorder=0)
    ax.set_yticks(range(len(changes)), changes)
    ax.invert_yaxis()
    ax.set(xlabel="mean AUROC minus that of the rule\n(tuning cohort, one seed, no interval)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax
