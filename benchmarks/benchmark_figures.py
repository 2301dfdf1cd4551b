"""Figures of stored benchmark results."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import real_tables

from helpers.analysis import patients_needed


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
    ax.locator_params(axis="x", nbins=4)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_real_levels(table: pd.DataFrame, arms: list[str], ax: plt.Axes | None = None) -> plt.Axes:
    """Draw what each way of training gained over the public model on real films, paired, and what
    training without privacy gained as a line.

    Args:
        table: a row an arm and budget; columns arm, epsilon (NaN without privacy), estimate, low,
            high (AUROC minus zero-shot), seeds (a list of each one's). The arm "ceiling" is the
            line.
        arms: rows of the figure, from the top.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(6, 0.6 * len(arms) + 1.4)).add_subplot()
    ax.axvline(0, color="0.4", linestyle="--", label="public model (zero-shot)", zorder=0)
    for gain in table.loc[table["arm"] == "ceiling", "estimate"]:
        ax.axvline(gain, color="0.4", label="without privacy", zorder=0)
    private = table[table["arm"].isin(arms)]
    looks = zip(("#E69F00", "#0072B2"), "^D", private.groupby("epsilon"))
    for number, (color, marker, (epsilon, rows)) in enumerate(looks):
        heights = [arms.index(arm) + 0.24 * (number - 0.5) for arm in rows["arm"]]
        ends = [rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]]
        look = dict(color=color, fmt=marker, capsize=2, label=f"epsilon {epsilon:g}")
        ax.errorbar(rows["estimate"], heights, xerr=ends, **look)
        for height, seeds in zip(heights, rows["seeds"]):
            ax.plot(seeds, [height] * len(seeds), "|", color=color, markersize=7)
    ax.set_yticks(range(len(arms)), arms)
    ax.set_ylim(len(arms) - 0.5, -0.5)
    ax.set(xlabel="mean AUROC minus zero-shot\n(95 % interval, paired; ticks: single runs)")
    return ax


def plot_learning_curve(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw the share of the possible gain against patients x epsilon, one mark a run, with the
    fitted law.

    Args:
        table: columns product (patients x epsilon), epsilon, share, fitted (the law's share).
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(6, 3.6)).add_subplot()
    looks = zip(("#E69F00", "#0072B2", "#56B4E9"), "^Ds", table.groupby("epsilon"))
    for color, marker, (epsilon, rows) in looks:
        label = f"epsilon {epsilon:g}"
        ax.plot(rows["product"], rows["share"], marker, color=color, label=label)
    line = table.sort_values("product")
    ax.plot(line["product"], line["fitted"], color="black", label="fitted law")
    ax.axhline(0, color="0.6", linestyle="--", zorder=0)
    ax.axhline(1, color="0.6", zorder=0)
    ax.set(
        xscale="log",
        xlabel="training patients x epsilon",
        ylabel="share of the gap between\nzero-shot and no privacy",
    )
    ax.legend(fontsize=9)
    return ax


def real_ladder(stored: dict) -> plt.Figure:
    """Return the figure of `real_ladder.json`: a panel a start."""
    table = pd.DataFrame(stored["levels"])
    table[["estimate", "low", "high"]] = table["minus_zero_shot"].tolist()
    zero_shot = {
        level["start"]: level["auroc"][0]
        for level in stored["levels"]
        if level["arm"] == real_tables.ZERO
    }
    table["seeds"] = [
        [value - zero_shot[row.start] for value in row.seeds] for row in table.itertuples()
    ]
    titles = {"drawn": "drawn films", "archive": "a real hospital"}
    arms = [arm for arm in real_tables.PRIVATE if arm in set(table["arm"])]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
    for ax, (start, rows) in zip(axes, table.groupby("start", sort=False)):
        plot_real_levels(rows, arms, ax)
        ax.set_title(f"public: {titles[start]}, zero-shot {zero_shot[start]:.3f}")
    handles = axes[0].get_legend_handles_labels()[0]
    axes[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return figure


def learning_curve(stored: dict) -> plt.Figure:
    """Return the figure of `learning_curve.json`."""
    table = real_tables.curve_by_rule(stored)
    table = table.assign(product=table["n_patients"] * table["epsilon"])
    law = patients_needed.fit(table["product"].to_numpy(float), table["share"].to_numpy())
    table["fitted"] = law.share(table["product"].to_numpy(float))
    return plot_learning_curve(table).figure


WHOLE = {"real_ladder": real_ladder, "learning_curve": learning_curve}


def plot_small_groups(table: pd.DataFrame, wanted: tuple[float, float]) -> np.ndarray:
    """Draw coverage in small groups, before and after, a panel a quantity.

    Args:
        table: columns quantity, intervals, n_findings, images, patients_with, patients_without,
            auroc, coverage; several images a patient are drawn.
        wanted: coverage that is looked for.
    """
    names = list(dict.fromkeys(table["quantity"]))
    axes = plt.figure(figsize=(8.5, 3.6)).subplots(1, len(names), sharey=True)
    sizes = list(dict.fromkeys(zip(table["patients_with"], table["patients_without"])))
    table = table[table["images"] != "1"]
    kinds = list(dict.fromkeys(zip(table["intervals"], table["n_findings"])))
    shown = {kind: f"{kind[0]}, {kind[1]} finding{'s' * (kind[1] > 1)}" for kind in kinds}
    for ax, quantity in zip(axes, names):
        rows = table[table["quantity"] == quantity]
        for offset, (kind, marker) in enumerate(zip(kinds, "x^so")):
            part = rows[(rows["intervals"] == kind[0]) & (rows["n_findings"] == kind[1])]
            place = [
                sizes.index(size) for size in zip(part["patients_with"], part["patients_without"])
            ]
            ax.plot(
                np.array(place) + 0.16 * (offset - 1.5),
                part["coverage"],
                marker,
                color=f"C{offset}",
                markersize=4,
                alpha=0.8,
                label=shown[kind],
            )
        ax.axhspan(*wanted, color="0.5", alpha=0.15, linewidth=0)
        ax.axhline(0.95, color="0.5", linestyle="--", linewidth=0.8)
        ax.set_xticks(range(len(sizes)), [f"{a}\n{b}" for a, b in sizes], fontsize=8)
        ax.set(title=quantity, xlabel="patients with / without")
    axes[0].set(ylabel="share of cohorts covered\n(a point an AUROC)")
    axes[-1].legend(fontsize=8, loc="lower right")
    return axes
