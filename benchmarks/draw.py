"""Figures of the benchmark.

One tidy table in, one Axes out; `main` reads the results and writes the PNG files.
"""

from pathlib import Path

import benchmark_figures
import ladder_arms
import ladder_tables
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.core import files
from helpers.figures import house_style

# Colour-blind safe, of falling lightness; hatches and markers tell the variants apart in grey.
LOOKS = {
    "opacus ghost": ("#F0E442", "..", "v"),
    "opacus functorch": ("#E69F00", "xx", "^"),
    "opacus hooks": ("#56B4E9", "//", "s"),
    "ours, patient": ("#0072B2", "", "D"),
    "ours, image": ("#00436B", "", "o"),
    "non-private": ("black", "", "P"),
}
# as fast as without privacy; what is hoped for; what is promised
LINES = {1.0: "-", 1.25: ":", 1.4: "--"}
AXES = {
    "batch": "images a batch",
    "image_px": "side of the image (px)",
    "width": "channels after the stem",
}


def plot_ratios(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw bars of a private step's time in non-private steps, with quartiles over repetitions; the
    axis begins at 0.

    Args:
        table: one row a setting and variant; columns setting, variant (a key of LOOKS), ratio,
            ratio_low, ratio_high; ratio is missing where memory was too small.
        ax: where to draw; a new figure when None.
    """
    settings = list(dict.fromkeys(table["setting"]))
    shown = [name for name in LOOKS if name != "non-private" and name in set(table["variant"])]
    ax = ax or plt.figure(figsize=(1.5 + 1.5 * len(settings), 3.6)).add_subplot()
    for offset, name in zip(np.arange(len(shown)) - (len(shown) - 1) / 2, shown):
        rows = table[table["variant"] == name].set_index("setting").reindex(settings)
        positions, ratios = np.arange(len(settings)) + 0.8 * offset / len(shown), rows["ratio"]
        gaps = [
            (ratios - rows["ratio_low"]).clip(lower=0),
            (rows["ratio_high"] - ratios).clip(lower=0),
        ]
        ax.bar(
            positions,
            ratios,
            0.76 / len(shown),
            yerr=gaps,
            color=LOOKS[name][0],
            hatch=LOOKS[name][1],
            edgecolor="black",
            linewidth=0.5,
            error_kw={"elinewidth": 0.8},
            label=name,
        )
        for position, ratio, high in zip(positions, ratios, rows["ratio_high"]):
            text = "no memory" if np.isnan(ratio) else f"{ratio:.2f}"
            ax.annotate(
                text,
                (position, 0 if np.isnan(ratio) else high),
                (0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7,
                rotation=90,
            )
    for height, style in LINES.items():
        ax.axhline(
            height,
            color="0.3",
            linestyle=style,
            linewidth=1,
            label=f"{height:g} x the non-private step",
        )
    ax.margins(y=0.12)
    ax.set_xticks(range(len(settings)), [setting.replace("_", "\n") for setting in settings])
    ax.set(
        ylabel="time of a training step in non-private steps\n(bars: quartiles over repetitions)"
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_growth(table: pd.DataFrame, xlabel: str, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw steps a second against the size of the work, both on log scales.

    A dotted line leads to the first size that was not run: to a cross for want of memory, to a bar
    for want of time.

    No interval: the best of two turns in a process of its own.

    Args:
        table: columns value, variant, milliseconds (missing where not run), remark (why not, or
            missing).
        xlabel: of `value`, with its unit.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(4, 3.6)).add_subplot()
    for name, (color, _, marker) in LOOKS.items():
        rows = table[(table["variant"] == name)].sort_values("value")
        run = rows.dropna(subset="milliseconds")
        if not len(run):
            continue
        ax.plot(
            run["value"],
            1000 / run["milliseconds"],
            marker + "-",
            color=color,
            markeredgecolor="black",
            markeredgewidth=0.5,
            label=name,
        )
        for row in rows[rows["milliseconds"].isna()].head(1).itertuples():
            ax.plot(
                [run["value"].iloc[-1], row.value],
                [1000 / run["milliseconds"].iloc[-1]] * 2,
                ":",
                color="0.3",
                marker="|" if "time" in row.remark else "x",
                markevery=[1],
            )
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="steps a second (best of two turns)")
    values = sorted(table["value"].unique())
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.minorticks_off()
    return ax


ARM_LOOKS = {
    "ours, patient": ("#0072B2", "D-"),
    "ours, image": ("#00436B", "o-"),
    "paper, as published": ("#E69F00", "^--"),
    "paper, our start": ("#CC79A7", "s--"),
    "ours, patient" + ladder_arms.INVERTED: ("#009E73", "v-"),
}
LEVEL_LOOKS = {  # arms without a budget: colour, line, name
    "ceiling": ("black", "-", "no privacy"),
    "zero-shot": ("0.5", "--", "public model, untouched"),
    "zero-shot" + ladder_arms.INVERTED: ("#009E73", ":", "public model of inverted films, too"),
}


def plot_ladder(
    table: pd.DataFrame, n_patients: int = 900, delta: float = 1e-5, ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw mean AUROC of each arm against its budget, between the public model and the best without
    privacy.

    Args:
        n_patients: of the test split.
        delta: of all arms.
        table: columns arm, epsilon (missing without one), estimate, low, high; seeds: list of each
            seed's value (a dot).
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(7.5, 4.2)).add_subplot()
    for arm, (color, style, label) in LEVEL_LOOKS.items():
        for row in table[table["arm"] == arm].itertuples():
            ax.axhline(row.estimate, color=color, linestyle=style, label=label)
            ax.axhspan(row.low, row.high, color=color, alpha=0.1, linewidth=0)
    for number, (arm, (color, style)) in enumerate(ARM_LOOKS.items()):
        rows = table[table["arm"] == arm].sort_values("epsilon")
        if rows.empty:
            continue
        positions = rows["epsilon"] * 1.035 ** (number - 2)
        ax.errorbar(
            positions,
            rows["estimate"],
            yerr=[rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]],
            fmt=style,
            color=color,
            capsize=3,
            label=arm if arm.startswith("ours") else f"{arm}, image",
        )
        for position, seeds in zip(positions, rows["seeds"]):
            ax.plot([position] * len(seeds), seeds, ".", color="black", markersize=3, zorder=3)
    budgets = sorted(table["epsilon"].dropna().unique())
    ax.set(
        xscale="log",
        xlabel=(
            f"epsilon (log scale; delta {delta:g}; for the unit in the name)\n95 % intervals over"
            " patients and seeds; dots: seeds"
        ),
        ylabel=f"mean AUROC, {n_patients} test patients (axis cut)",
    )
    ax.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    ax.minorticks_off()
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def main(folder: Path) -> None:
    """Draw private_step, growth, both ladders and sensitivity (of ladder_trials) from the JSON
    files, where there are such.
    """
    plt.switch_backend("Agg")
    with plt.style.context(house_style.STYLE):
        if (folder / "private_step.json").exists():
            ax = plot_ratios(
                pd.DataFrame(files.read_json(folder / "private_step.json", "")["rows"])
            )
            ax.figure.savefig(folder / "private_step.png", dpi=150)
        if (folder / "growth.json").exists():
            table = pd.DataFrame(files.read_json(folder / "growth.json", "")["rows"])
            figure, axes = plt.subplots(1, len(AXES), figsize=(12, 3.8), sharey=True)
            for ax, (axis, xlabel) in zip(axes, AXES.items()):
                plot_growth(
                    table[table["axis"] == axis].reindex(
                        columns=[*table.columns.union(["remark"])]
                    ),
                    xlabel,
                    ax,
                )
                ax.label_outer()
            ends = [
                plt.Line2D([], [], color="0.3", linestyle=":", marker=marker, label=label)
                for marker, label in (("x", "more memory than is free"), ("|", "over 4 s a step"))
            ]
            axes[-1].legend(
                handles=axes[0].get_legend_handles_labels()[0] + ends,
                loc="upper left",
                bbox_to_anchor=(1, 1),
                fontsize=9,
            )
            figure.savefig(folder / "growth.png", dpi=150)
        for name, about in (("ladder", {}), ("ct_ladder", {"n_patients": 325, "delta": 5e-5})):
            if (folder / f"{name}.json").exists() and (
                levels := files.read_json(folder / f"{name}.json", "")["levels"]
            ):
                table = pd.DataFrame(levels)
                table[["estimate", "low", "high"]] = table["auroc"].tolist()
                shown = table[table["arm"].isin([*ARM_LOOKS, *LEVEL_LOOKS])]
                if len(shown):  # none of an earlier version
                    plot_ladder(shown, **about).figure.savefig(folder / f"{name}.png", dpi=150)
        if (folder / "ladder_trials.json").exists():
            table = ladder_tables.sensitivity(
                files.read_json(folder / "ladder_trials.json", "")["rows"]
            )
            if len(table):
                benchmark_figures.plot_sensitivity(table).figure.savefig(
                    folder / "sensitivity.png", dpi=150
                )
        for name, draw_figure in benchmark_figures.WHOLE.items():
            if (folder / f"{name}.json").exists():
                draw_figure(files.read_json(folder / f"{name}.json", "")).savefig(
                    folder / f"{name}.png", dpi=150
                )
