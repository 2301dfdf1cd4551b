"""Figures of training: learning curves, clipping by privacy unit, gradients by group.

In: one tidy table. Out: Axes.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.figures import house_style

_ARROWS = dict(angles="xy", scale_units="xy", scale=1)


def plot_history(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw validation AUROC (left panel's scale, [0, 1]) by epoch; one line a session.

    Args:
        table: columns epoch (int) and valid_auroc; a column phase (str) makes one line each.
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(5, 2.8)).add_subplot()
    phases = table["phase"] if "phase" in table else pd.Series("training", index=table.index)
    for marker, (phase, rows) in zip(house_style.MARKERS, table.groupby(phases, sort=False)):
        ax.plot(rows["epoch"], rows["valid_auroc"], marker=marker, label=phase)
    ax.set(xlabel="epoch", ylabel="mean AUROC on valid\n(no interval: one training run)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if phases.nunique() > 1:
        ax.legend()
    return ax


def plot_units(
    gradients: pd.DataFrame, contributions: pd.DataFrame, axes: np.ndarray | None = None
) -> np.ndarray:
    """Draw image gradients and clipped contributions, with the image as unit (left) and the patient
    (right).

    Args:
        gradients: one row an image; columns patient, x, y (arrows, in clipping norms).
        contributions: one row a unit; columns unit ("image" or "patient"), patient, x, y: its
            clipped gradient. Those of a patient are drawn tip to tail.
        axes: two Axes; a new figure when None.

    Returns:
        The two Axes.
    """
    if axes is None:
        axes = plt.figure(figsize=(7.5, 3.6)).subplots(1, 2, sharex=True, sharey=True)
    for ax, (unit, of_unit) in zip(axes, contributions.groupby("unit", sort=False)):
        ax.add_patch(
            plt.Circle((0, 0), 1, fill=False, color="0.5", linestyle="--", label="clipping norm C")
        )
        for color, (patient, arrows) in zip(("C0", "C1", "C2"), of_unit.groupby("patient")):
            of_patient = gradients[gradients["patient"] == patient]
            ax.quiver(
                0 * of_patient["x"],
                0 * of_patient["y"],
                of_patient["x"],
                of_patient["y"],
                color=color,
                width=0.004,
                alpha=0.5,
                **_ARROWS,
            )
            tips = arrows[["x", "y"]].cumsum().to_numpy()
            tails = np.vstack([[0, 0], tips[:-1]])
            ax.quiver(*tails.T, *(tips - tails).T, color=color, width=0.012, **_ARROWS)
            ax.annotate(
                f"patient {patient}",
                tips[-1],
                textcoords="offset points",
                xytext=(4, 4),
                color=color,
            )
        ax.set(
            aspect="equal",
            xlim=(-2, 3),
            ylim=(-1.8, 2.8),
            xlabel=f"the unit is the {unit}; in clipping norms",
        )
    axes[0].set_ylabel("thin: gradient of an image\nthick: clipped contribution of a unit")
    axes[0].legend(loc="lower right")
    return axes


def plot_group_gradients(table: pd.DataFrame) -> np.ndarray:
    """Draw each group's gradients by epoch: norm, share clipped, cosine with the step.

    No interval: one training run, up to 200 units a group.

    Args:
        table: from `group_gradients.by_group`.

    Returns:
        The three Axes.
    """
    axes = plt.figure(figsize=(10.5, 3)).subplots(1, 3)
    ylabels = {
        "gradient_norm": "median gradient norm\n(in clipping norms; no interval)",
        "clipped_fraction": "share of units clipped",
        "followed": "cosine of the group's mean\ngradient and the step's",
    }
    for ax, (column, ylabel) in zip(axes, ylabels.items()):
        for marker, (group, rows) in zip(house_style.MARKERS, table.groupby("group")):
            (line,) = ax.plot(
                rows["epoch"],
                rows[column],
                marker=marker,
                label=f"{group} (n={rows['n_units'].iloc[0]:,})",
            )
            if column == "followed":
                ax.plot(
                    rows["epoch"],
                    rows["followed_without"],
                    ":",
                    color=line.get_color(),
                    label="the same, nothing clipped",
                )
        ax.set(xlabel="epochs done", ylabel=ylabel)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[2].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return axes
