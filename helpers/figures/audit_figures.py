"""Figures of the privacy audit: ROC curves of an attack, success against single patients, by group.

In: tables of `analysis.attack_success`. Out: Axes; nothing is computed here.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.figures.house_style import arm_colors

# of groups that are more or less exposed than the others
COLORS = {"more exposed": "#cc3311", "less exposed": "#0077bb"}


def plot_roc(table: pd.DataFrame, bounds: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw the ROC curve of an attack, a line an arm, on logarithmic axes, and what DP allows.

    Args:
        table: columns arm_label, false_positive_rate, true_positive_rate.
        bounds: the same columns, of private arms: no attack is above them; drawn dashed.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(6, 4)).add_subplot()
    labels = list(table["arm_label"].unique())
    colors = arm_colors(labels)
    least = float(table["false_positive_rate"].min())
    for label, rows in table.groupby("arm_label", sort=False):
        x, y = rows["false_positive_rate"], rows["true_positive_rate"]
        ax.plot(x, y.clip(lower=least / 10), color=colors[label], label=label)
    for label, rows in bounds.groupby("arm_label", sort=False):
        x, y = rows["false_positive_rate"], rows["true_positive_rate"]
        ax.plot(x, y, "--", color=colors[label], linewidth=1, label=f"most at {label}")
    ax.plot([least, 1], [least, 1], ":", color="0.6", linewidth=1, label="by chance")
    ax.set(
        xscale="log",
        yscale="log",
        xlim=(least, 1),
        ylim=(least, 1.05),
        xlabel="false-positive rate: others taken for members",
        ylabel="true-positive rate: members found\n(intervals in the table)",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_survival(
    table: pd.DataFrame, chance: pd.DataFrame, ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw the share of patients against whom an attack succeeds at least so well, a line an arm.

    Args:
        table: columns arm_label, auroc, share_of_patients.
        chance: auroc and share_of_patients where no model depends on a patient.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(6, 3.6)).add_subplot()
    labels = list(table["arm_label"].unique())
    colors = arm_colors(labels)
    for label, rows in table.groupby("arm_label", sort=False):
        if not label.startswith("zero-shot"):  # the same scores in every model: a step at 0.5
            ax.plot(rows["auroc"], rows["share_of_patients"], color=colors[label], label=label)
    ax.plot(chance["auroc"], chance["share_of_patients"], ":", color="0.4", label="by chance")
    ax.set(
        xlim=(0.3, 1),
        ylim=(0, 1.02),
        xlabel="AUROC of the attack against one patient, over models (the axis is cut)",
        ylabel="share of patients with\nthis AUROC or more",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_groups(table: pd.DataFrame, margin: float) -> np.ndarray:
    """Draw how much more an attack succeeds against a group than against all others, a panel an
    arm, a line a group.

    Args:
        table: from `exposed_groups.by_group`, with arm_label; groups without an interval are left
            out.
        margin: drawn as a band.
    """
    table = table.dropna(subset=["low"])
    labels = list(table["arm_label"].unique())
    names = list(dict.fromkeys(zip(table["attribute"], table["group"])))
    _, axes = plt.subplots(
        1,
        len(labels),
        figsize=(2.2 * len(labels) + 2, 0.24 * len(names) + 1),
        sharey=True,
        sharex=True,
        squeeze=False,
    )
    sizes = table.drop_duplicates(["attribute", "group"])["n_patients"]
    for ax, label in zip(axes[0], labels):
        for row in table[table["arm_label"] == label].itertuples():
            place = names.index((row.attribute, row.group))
            color = COLORS.get(row.verdict, "0.3")
            ax.plot([row.low, row.high], [place, place], color=color, linewidth=1)
            ax.plot(row.contrast, place, "o", color=color, markersize=4)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.axvspan(-margin, margin, color="0.9", zorder=0)
        ax.set_title(label, fontsize=10)
    ticks = [
        f"{attribute.replace('_', ' ')}: {group}" + ("" if pd.isna(size) else f" (n = {size})")
        for (attribute, group), size in zip(names, sizes)
    ]
    axes[0, 0].set_yticks(range(len(names)), ticks, fontsize=8)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    axes[0, len(labels) // 2].set_xlabel(
        "attack AUROC against the group minus that against all others (95 % CI over patients and"
        " models)",
        fontsize=9,
    )
    return axes[0]
