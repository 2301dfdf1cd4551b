"""Figures of the price of privacy: mean AUROC against epsilon, by finding, by finding and group.

In: one tidy table. Out: Axes; nothing is computed here. Intervals are drawn or written.
"""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from helpers.figures import house_style
from helpers.figures.house_style import MARKERS, in_lines


def plot_privacy_utility(
    table: pd.DataFrame, seeds: pd.DataFrame | None = None, ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw mean AUROC against epsilon, between the public model and the one without privacy.

    Patient-level budgets of one recipe are joined by a line. Image-level arms, whose epsilon is
    another promise, are single open points with an entry of their own in the legend. The recipe of
    a budget without noise stands above its private point, open and black: no privacy.

    Args:
        table: one row an arm; columns run, arm ("zero_shot", "baseline", "same_recipe",
            "same_recipe_clipped", "dp"), epsilon and unit (missing but for dp), recipe ("default"
            or a name), macro_auroc, low, high; recipe_of_epsilon where there is a same recipe.
        seeds: one row a run of arms with several seeds; columns run (of the arm), estimate; drawn
            as dots.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(7, 3.6)).add_subplot()
    for arm, color, label in (
        ("baseline", "black", "no privacy"),
        ("zero_shot", "0.55", "public model (zero-shot)"),
    ):
        for row in table[table["arm"] == arm].itertuples():
            ax.axhline(
                row.macro_auroc,
                color=color,
                linestyle="-" if arm == "baseline" else "--",
                label=label,
            )
            ax.axhspan(row.low, row.high, color=color, alpha=0.1, linewidth=0)
    private = table[table["arm"] == "dp"].sort_values("epsilon")
    _draw_same_recipe(table, ax)
    _draw_private(private, ax)
    if seeds is not None and len(seeds):
        dots = seeds.merge(private[["run", "epsilon"]], on="run")
        ax.plot(
            dots["epsilon"],
            dots["estimate"],
            ".",
            color="black",
            markersize=3,
            zorder=3,
            label="single seeds",
        )
    if len(private):
        ax.set_xscale("log")
        # also of a single budget, so that points beside it stay beside it
        ax.set_xlim(private["epsilon"].min() / 1.6, private["epsilon"].max() * 1.6)
        ax.set_xticks(
            private["epsilon"].unique(), [f"{epsilon:g}" for epsilon in private["epsilon"].unique()]
        )
        ax.minorticks_off()
    else:
        ax.set_xticks([])
    ax.set(
        xlabel="privacy budget epsilon (log scale; smaller is more private)",
        ylabel="mean AUROC over findings, test patients\n(95 % CI over patients; the axis is cut)",
    )
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    ax.legend(unique.values(), unique.keys(), loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def _draw_same_recipe(table: pd.DataFrame, ax: plt.Axes) -> None:
    """Draw the recipe of a budget without noise, with and without clipping, a little to the left of
    the budget.
    """
    for arm, marker, shift, label in (
        ("same_recipe", "s", 1.16, "same recipe, no noise\nor clipping: no privacy"),
        ("same_recipe_clipped", "D", 1.08, "same recipe, no noise:\nno privacy"),
    ):
        rows = table[table["arm"] == arm]
        if len(rows):
            ax.errorbar(
                rows["recipe_of_epsilon"] / shift,
                rows["macro_auroc"],
                yerr=np.abs(
                    [rows["macro_auroc"] - rows["low"], rows["high"] - rows["macro_auroc"]]
                ),
                fmt=marker,
                color="0.25",
                markerfacecolor="white",
                markersize=5,
                capsize=3,
                label=label,
            )


def _draw_private(private: pd.DataFrame, ax: plt.Axes) -> None:
    """Draw the private arms with their intervals, image-level ones a little to the right."""
    number_of_unit = {"patient": itertools.count(), "image": itertools.count()}
    for (unit, recipe), rows in sorted(
        private.groupby(["unit", "recipe"]),
        key=lambda item: (item[0][0] == "image", item[0][1] != "default"),
    ):
        number, is_image = next(number_of_unit[unit]), unit == "image"
        markers = house_style.IMAGE_MARKERS if is_image else MARKERS
        gaps = np.abs([rows["macro_auroc"] - rows["low"], rows["high"] - rows["macro_auroc"]])
        ax.errorbar(
            rows["epsilon"] * (1.06 ** (number + 1) if is_image else 1),
            rows["macro_auroc"],
            yerr=gaps,
            fmt=markers[number % len(markers)] + ("" if is_image else "-"),
            color=house_style.IMAGE_COLOR if is_image else f"C{number}",
            markerfacecolor="white" if is_image else None,
            capsize=3,
            label=(house_style.UNIT_IMAGE if is_image else f"private, per {unit}")
            + (f",\n{in_lines(house_style.recipe_name(recipe))}" if recipe != "default" else ""),
        )


def plot_by_finding(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw a heat map of AUROC, findings by runs; each cell holds its value and 95 % interval.

    Args:
        table: columns finding, arm_label, estimate, low, high (NaN: not estimable).
        ax: where to draw; a new figure when None.
    """

    def cells(column: str) -> pd.DataFrame:
        return table.set_index(["finding", "arm_label"])[column].unstack(sort=False)

    values = cells("estimate")
    notes = [
        ["{:.3f}\n[{:.3f}, {:.3f}]".format(*cell) for cell in zip(*row)]
        for row in zip(values.to_numpy(), cells("low").to_numpy(), cells("high").to_numpy())
    ]
    ax = ax or plt.figure(figsize=(1.35 * values.shape[1] + 3, 0.5 * len(values) + 1)).add_subplot()
    sns.heatmap(
        values.astype(float).rename(index=lambda name: name.replace("_", " "), columns=in_lines),
        annot=np.array(notes),
        fmt="",
        cmap="cividis",
        linewidths=0.5,
        annot_kws={"fontsize": 8},
        ax=ax,
        cbar_kws={"label": "AUROC (95 % CI over patients)"},
    )
    ax.tick_params(rotation=0)
    for row, column in np.argwhere(values.isna().to_numpy()):  # seaborn leaves such cells empty
        ax.text(column + 0.5, row + 0.5, "not estimable", ha="center", va="center", fontsize=8)
    ax.set(xlabel="", ylabel="")
    return ax


def plot_finding_by_group(table: pd.DataFrame, label: str, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw a heat map, findings by groups, of differences; bold where the interval excludes 0.

    Args:
        table: columns finding, label (of the group), estimate, low, high (NaN: not estimable).
        label: of the colour bar: what differs from what.
        ax: where to draw; a new figure when None.
    """

    def cells(column: str) -> pd.DataFrame:
        return table.set_index(["finding", "label"])[column].unstack(sort=False)

    values, low, high = cells("estimate").astype(float), cells("low"), cells("high")
    ax = (
        ax
        or plt.figure(
            figsize=(0.78 * values.shape[1] + 3.2, 0.42 * max(len(values), 4) + 1.8)
        ).add_subplot()
    )
    limit = np.nanmax(np.abs(values.to_numpy()), initial=0.01)
    shown = values.rename(index=lambda name: name.replace("_", " "), columns=str)
    sns.heatmap(
        shown,
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        linewidths=0.5,
        ax=ax,
        cbar_kws={"label": label},
    )
    ax.set_xticklabels(
        ax.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor", fontsize=8
    )
    ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
    for row, column in np.ndindex(values.shape):
        value, apart = (
            values.iat[row, column],
            low.iat[row, column] > 0 or high.iat[row, column] < 0,
        )
        ax.text(
            column + 0.5,
            row + 0.5,
            "n. e." if np.isnan(value) else f"{value:+.2f}",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold" if apart else "normal",
            color="white" if abs(value) > 0.75 * limit else "black",
        )
    ax.set(xlabel="bold: the 95 % CI excludes 0; n. e.: not estimable", ylabel="")
    return ax
