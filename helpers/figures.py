"""Figures: one tidy table in, one Axes out; nothing is computed, shown or saved here.

Intervals are drawn or their absence is said; colours are safe for colour blindness and differ in grey.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

STYLE = Path(__file__).with_name("house.mplstyle")
_MARKERS = "osD^vPX*"
_ARROWS = dict(angles="xy", scale_units="xy", scale=1)


def arm_colors(arms: list[str]) -> dict[str, object]:
    """Return a colour an arm: grey without private data, black without privacy, else from light to dark with epsilon."""
    private = [arm for arm in arms if arm.startswith("epsilon")]
    others = {arm: "0.55" if arm.startswith("zero-shot") else "black" for arm in arms if arm not in private}
    shades = sns.color_palette("viridis_r", len(private) + 1)[1:]  # the lightest is too faint on white
    return others | dict(zip(private, shades))


def in_lines(label: str) -> str:
    """Return a label in short lines, so that a legend leaves room for the data."""
    return textwrap.fill(label.replace("_", " "), 18)


def plot_history(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw validation AUROC (left panel's scale, [0, 1]) by epoch; one line a session.

    Args:
        table: columns epoch (int) and valid_auroc; a column phase (str) makes one line each.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(5, 2.8)).add_subplot()
    phases = table["phase"] if "phase" in table else pd.Series("training", index=table.index)
    for marker, (phase, rows) in zip(_MARKERS, table.groupby(phases, sort=False)):
        ax.plot(rows["epoch"], rows["valid_auroc"], marker=marker, label=phase)
    ax.set(xlabel="epoch", ylabel="mean AUROC on valid\n(no interval: one training run)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if phases.nunique() > 1:
        ax.legend()
    return ax


def plot_privacy_utility(table: pd.DataFrame, seeds: pd.DataFrame | None = None, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw mean AUROC against epsilon, between the public model and the one without privacy.

    Args:
        table: one row an arm; columns run, arm ("zero_shot", "baseline", "dp"), epsilon and unit (missing but for dp),
            recipe ("default" or a name), macro_auroc, low, high.
        seeds: one row a run of arms with several seeds; columns run (of the arm), estimate; drawn as dots.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(7, 3.6)).add_subplot()
    for arm, color, label in (("baseline", "black", "no privacy"), ("zero_shot", "0.55", "public model (zero-shot)")):
        for row in table[table["arm"] == arm].itertuples():
            ax.axhline(row.macro_auroc, color=color, linestyle="-" if arm == "baseline" else "--", label=label)
            ax.axhspan(row.low, row.high, color=color, alpha=0.1, linewidth=0)
    private = table[table["arm"] == "dp"].sort_values("epsilon")
    for number, ((recipe, unit), rows) in enumerate(private.groupby(["recipe", "unit"])):  # never one line for two units
        gaps = np.abs([rows["macro_auroc"] - rows["low"], rows["high"] - rows["macro_auroc"]])
        ax.errorbar(rows["epsilon"], rows["macro_auroc"], yerr=gaps, fmt=_MARKERS[number % len(_MARKERS)] + "-", color=f"C{number}",
                    capsize=3, label=f"private, per {unit}" + (f"\n({recipe.replace('_', ' ')})" if recipe != "default" else ""))
    if seeds is not None and len(seeds):
        dots = seeds.merge(private[["run", "epsilon"]], on="run")
        ax.plot(dots["epsilon"], dots["estimate"], ".", color="black", markersize=3, zorder=3, label="single seeds")
    if len(private):
        ax.set_xscale("log")
        ax.set_xticks(private["epsilon"].unique(), [f"{epsilon:g}" for epsilon in private["epsilon"].unique()])
        ax.minorticks_off()
    else:
        ax.set_xticks([])
    ax.set(xlabel="privacy budget epsilon (log scale; smaller is more private)",
           ylabel="mean AUROC over findings, test patients\n(95 % patient bootstrap; the axis is cut)")
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    ax.legend(unique.values(), unique.keys(), loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_examples(images: list[np.ndarray], captions: list[str], ax: plt.Axes | None = None) -> plt.Axes:
    """Draw grey images side by side, four in a row, each over its caption.

    Args:
        images: each (height, width) uint8, drawn from black (0) to white (255).
        captions: one for each image, at most two lines.
        ax: where to draw; a new figure when None.
    """
    n_rows = -(-len(images) // 4)
    ax = ax or plt.figure(figsize=(8, 2.3 * n_rows)).add_subplot()
    for place, (image, caption) in enumerate(zip(images, captions)):
        row, column = divmod(place, 4)
        ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(column, column + 0.94, -1.2 * row - 0.94, -1.2 * row))
        ax.text(column + 0.47, -1.2 * row - 0.97, caption, ha="center", va="top", fontsize=8)
    ax.set(xlim=(0, min(4, len(images))), ylim=(-1.2 * n_rows, 0))
    ax.axis("off")
    return ax


def plot_prevalence(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw how often each finding is present, one point and interval a group.

    Args:
        table: one row a finding and group; columns finding, group (str), n_patients (int), prevalence, low, high (0..1).
        ax: where to draw; a new figure when None.
    """
    findings, groups = list(dict.fromkeys(table["finding"])), list(dict.fromkeys(table["group"]))
    ax = ax or plt.figure(figsize=(6.5, 0.09 * len(findings) * len(groups) + 0.25 * len(findings) + 0.8)).add_subplot()
    shades = plt.get_cmap("cividis")(np.linspace(0, 0.85, len(groups)))
    for offset, group, shade, marker in zip(np.linspace(-0.3, 0.3, len(groups)), groups, shades, _MARKERS):
        rows = table[table["group"] == group].set_index("finding").reindex(findings)
        places = np.arange(len(findings)) + (offset if len(groups) > 1 else 0)
        ax.hlines(places, rows["low"], rows["high"], color=shade)
        ax.plot(rows["prevalence"], places, marker, color=shade, markersize=4,
                label=f"{group} (n={rows['n_patients'].max():,.0f} patients)")
    ax.set_yticks(range(len(findings)), [finding.replace("_", " ") for finding in findings])
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set(xlabel="share of images with the finding (95 % interval over patients)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax


def plot_units(gradients: pd.DataFrame, pushes: pd.DataFrame, axes: np.ndarray | None = None) -> np.ndarray:
    """Draw what images ask for and what units may push, with the image as unit (left) and the patient (right).

    Args:
        gradients: one row an image; columns patient, x, y (arrows, in clip norms).
        pushes: one row a unit; columns unit ("image" or "patient"), patient, x, y: its clipped arrow. Those of a patient
            are drawn tip to tail.
        axes: two Axes; a new figure when None.

    Returns:
        The two Axes.
    """
    if axes is None:
        axes = plt.figure(figsize=(7.5, 3.6)).subplots(1, 2, sharex=True, sharey=True)
    for ax, (unit, of_unit) in zip(axes, pushes.groupby("unit", sort=False)):
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.5", linestyle="--", label="clip norm C"))
        for color, (patient, arrows) in zip(("C0", "C1", "C2"), of_unit.groupby("patient")):
            own = gradients[gradients["patient"] == patient]
            ax.quiver(0 * own["x"], 0 * own["y"], own["x"], own["y"], color=color, width=0.004, alpha=0.5, **_ARROWS)
            tips = arrows[["x", "y"]].cumsum().to_numpy()
            tails = np.vstack([[0, 0], tips[:-1]])
            ax.quiver(*tails.T, *(tips - tails).T, color=color, width=0.012, **_ARROWS)
            ax.annotate(f"patient {patient}", tips[-1], textcoords="offset points", xytext=(4, 4), color=color)
        ax.set(aspect="equal", xlim=(-2, 3), ylim=(-1.8, 2.8), xlabel=f"the unit is the {unit}; arrows in clip norms")
    axes[0].set_ylabel("thin: gradient of an image\nthick: what may be pushed")
    axes[0].legend(loc="lower right")
    return axes


def plot_group_gradients(table: pd.DataFrame) -> np.ndarray:
    """Draw what clipping does to each group's gradients by epoch: length, share clipped, agreement with the step.

    No interval: one training run, up to 200 units a group.

    Args:
        table: from `group_gradients.by_group`.

    Returns:
        The three Axes.
    """
    axes = plt.figure(figsize=(10.5, 3)).subplots(1, 3)
    ylabels = {"gradient_norm": "median gradient norm\n(in clip norms; no interval)", "clipped_fraction": "share of units clipped",
               "followed": "cosine of own mean gradient\nand that of the step"}
    for ax, (column, ylabel) in zip(axes, ylabels.items()):
        for marker, (group, rows) in zip(_MARKERS, table.groupby("group")):
            line, = ax.plot(rows["epoch"], rows[column], marker=marker, label=f"{group} (n={rows['n_units'].iloc[0]:,})")
            if column == "followed":
                ax.plot(rows["epoch"], rows["followed_without"], ":", color=line.get_color(), label="the same, nothing clipped")
        ax.set(xlabel="epochs done", ylabel=ylabel)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[2].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return axes


def plot_coverage(table: pd.DataFrame) -> np.ndarray:
    """Draw how often intervals cover the truth against the likeness of a patient's images, a panel for each thing resampled.

    Args:
        table: from `benchmarks/interval_coverage.py`; columns correlation, unit ("patient" or "image"), quantity, coverage, standard_error.

    Returns:
        The two Axes.
    """
    axes = plt.figure(figsize=(8.5, 3.4)).subplots(1, 2, sharey=True)
    for ax, unit in zip(axes, ("patient", "image")):
        for number, (marker, (name, rows)) in enumerate(zip("osD^", table[table["unit"] == unit].groupby("quantity", sort=False))):
            ax.errorbar(rows["correlation"] + 0.012 * (number - 1.5), rows["coverage"], yerr=1.96 * rows["standard_error"], fmt=marker + "-",
                        markersize=4, capsize=2, label=name)
        ax.axhline(0.95, color="black", linestyle="--", linewidth=1, zorder=0, label="claimed, 95 %")
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
    for color, marker, (epsilon, rows) in zip(("#E69F00", "#56B4E9", "#0072B2"), "^sD", table.groupby("epsilon")):
        ax.plot(rows["difference"], [changes.index(change) for change in rows["change"]], marker, color=color,
                markeredgecolor="black", markeredgewidth=0.5, label=f"epsilon {epsilon:g}")
    ax.axvline(0, color="0.5", linestyle="--", zorder=0)
    ax.set_yticks(range(len(changes)), changes)
    ax.invert_yaxis()
    ax.set(xlabel="mean AUROC minus that of the rule\n(tuning cohort, one seed, no interval)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax
