"""Figures of results: price of privacy, contrasts, groups, findings. One tidy table in, Axes out;
nothing is computed here.

Intervals are drawn or their absence is said; an arm has the same colour everywhere, see
`house_style.arm_colors`.
"""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from helpers.figures import house_style
from helpers.figures.house_style import MARKERS, arm_colors, in_lines


def plot_privacy_utility(
    table: pd.DataFrame, seeds: pd.DataFrame | None = None, ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw mean AUROC against epsilon, between the public model and the one without privacy.

    Args:
        table: one row an arm; columns run, arm ("zero_shot", "baseline", "dp"), epsilon and unit
            (missing but for dp), recipe ("default" or a name), macro_auroc, low, high.
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
    # never one line for two units
    for number, ((recipe, unit), rows) in enumerate(private.groupby(["recipe", "unit"])):
        gaps = np.abs([rows["macro_auroc"] - rows["low"], rows["high"] - rows["macro_auroc"]])
        ax.errorbar(
            rows["epsilon"],
            rows["macro_auroc"],
            yerr=gaps,
            fmt=house_style.MARKERS[number % len(house_style.MARKERS)] + "-",
            color=f"C{number}",
            capsize=3,
            label=f"private, per {unit}"
            + (f"\n({recipe.replace('_', ' ')})" if recipe != "default" else ""),
        )
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
        ax.set_xticks(
            private["epsilon"].unique(), [f"{epsilon:g}" for epsilon in private["epsilon"].unique()]
        )
        ax.minorticks_off()
    else:
        ax.set_xticks([])
    ax.set(
        xlabel="privacy budget epsilon (log scale; smaller is more private)",
        ylabel="mean AUROC over findings, test patients\n(95 % patient bootstrap; the axis is cut)",
    )
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    ax.legend(unique.values(), unique.keys(), loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


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
        cbar_kws={"label": "AUROC (95 % patient bootstrap)"},
    )
    ax.tick_params(axis="x", rotation=0)
    for row, column in np.argwhere(values.isna().to_numpy()):  # seaborn leaves such cells empty
        ax.text(column + 0.5, row + 0.5, "not estimable", ha="center", va="center", fontsize=8)
    ax.set(xlabel="", ylabel="")
    return ax


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
    colors = arm_colors(arms)
    for offset, (arm, marker) in zip(
        np.linspace(-0.3, 0.3, len(arms)), zip(arms, itertools.cycle(MARKERS))
    ):
        rows = table[table["arm_label"] == arm].set_index("label").reindex(names)
        places = np.arange(len(names)) + (offset if len(arms) > 1 else 0)
        ax.hlines(places, rows["low"], rows["high"], color=colors[arm])
        ax.plot(
            rows["estimate"], places, marker, color=colors[arm], markersize=5, label=in_lines(arm)
        )
    empty = [
        place
        for place, name in enumerate(names)
        if table.loc[table["label"] == name, "estimate"].isna().all()
    ]
    for place in empty:
        ax.text(
            0.5,
            place,
            "not estimable",
            transform=ax.get_yaxis_transform(),
            ha="center",
            va="center",
            color="0.4",
        )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
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
        own = table[table["label"] == name]
        for arm, style, label in (
            ("baseline", "-", "no privacy"),
            ("zero_shot", "--", "zero-shot"),
        ):
            for row in own[own["arm"] == arm].itertuples():
                ax.axhline(
                    row.estimate,
                    color="black" if arm == "baseline" else "0.5",
                    linestyle=style,
                    linewidth=1,
                    label=label,
                )
                if arm == "baseline":
                    ax.axhspan(row.low, row.high, color="black", alpha=0.08, linewidth=0)
        private = own[own["arm"] == "dp"].sort_values("epsilon")
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


def plot_finding_by_group(table: pd.DataFrame, label: str, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw a heat map, findings by groups, of differences; bold where the interval leaves 0 out.

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
    ax.set(xlabel="bold: the 95 % interval leaves 0 out; n. e.: not estimable", ylabel="")
    return ax


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
    colors = arm_colors(arms)
    for ax, (x, xlabel) in zip(axes, panels.items()):
        for arm, marker in zip(arms, itertools.cycle(MARKERS)):
            rows = table[table["arm_label"] == arm]
            ax.vlines(rows[x], rows["low"], rows["high"], color=colors[arm], alpha=0.5)
            ax.plot(
                rows[x], rows["drop"], marker, color=colors[arm], markersize=5, label=in_lines(arm)
            )
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
    axes[0].set(ylabel="AUROC, private minus non-private\n(95 % patient bootstrap)")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    key = [
        f"{number} {name.replace('_', ' ')}"
        for number, name in enumerate(dict.fromkeys(table["finding"]), start=1)
    ]
    axes[-1].text(1.03, 0, "\n".join(key), transform=axes[-1].transAxes, fontsize=8, va="bottom")
    return axes


def plot_roc(table: pd.DataFrame) -> np.ndarray:
    """Draw ROC curves by group, mean over findings, a panel an arm.

    Args:
        table: from `curves.roc`, with arm_label.
    """
    axes = _panels(table)
    for ax, (arm, rows) in zip(axes, table.groupby("arm_label", sort=False)):
        for style, (group, own) in zip(("-", "--", "-.", ":", (0, (5, 1))), rows.groupby("group")):
            ax.plot(own["false_alarm_rate"], own["sensitivity"], linestyle=style, label=group)
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
        for marker, (group, own) in zip(MARKERS, rows.groupby("group")):
            (line,) = ax.plot(
                own["mean_score"], own["share"], f"{marker}-", markersize=4, label=group
            )
            ax.vlines(own["mean_score"], own["low"], own["high"], color=line.get_color(), alpha=0.5)
        ax.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
        ax.set(title=in_lines(arm), xlabel="mean score", aspect="equal")
    axes[0].set(ylabel="share with the finding\n(95 % patient bootstrap)")
    axes[-1].legend(loc="lower right", fontsize=8)
    return axes


def _panels(table: pd.DataFrame) -> np.ndarray:
    """Return one square panel an arm, axes shared."""
    n = table["arm_label"].nunique()
    return plt.figure(figsize=(2.9 * max(n, 1) + 0.6, 3.3)).subplots(
        1, max(n, 1), sharex=True, sharey=True, squeeze=False
    )[0]


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
