"""Figures of CT volumes: slices in three planes, and what a window shows.

In: one table. Out: one Axes; nothing is computed here.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

_TISSUES = {
    "fat": (-110, -80),
    "fluid": (0, 20),
    "soft tissue": (35, 70),
    "organs with contrast": (80, 180),
    "bone": (200, 600),
}


def plot_three_planes(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw slices of volumes, a row a volume, and the outline of a lesion where one is given.

    Args:
        table: one row a slice; columns caption (of the volume), plane, pixels ((rows, columns)
            uint8), width_mm, height_mm, and the lesion's circle in mm from the slice's upper left
            corner: across, down, radius (NaN for none).
        ax: where to draw; a new figure when None.
    """
    captions, planes = list(dict.fromkeys(table["caption"])), list(dict.fromkeys(table["plane"]))
    side = max(table["width_mm"].max(), table["height_mm"].max())
    ax = ax or plt.figure(figsize=(2.6 * len(planes), 2.3 * len(captions))).add_subplot()
    for row in table.itertuples():
        left, top = 1.05 * side * planes.index(row.plane), 1.18 * side * captions.index(row.caption)
        ax.imshow(
            row.pixels,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(left, left + row.width_mm, top + row.height_mm, top),
        )
        if not np.isnan(row.radius):
            ax.add_patch(
                plt.Circle(
                    (left + row.across, top + row.down),
                    row.radius,
                    fill=False,
                    color="#E69F00",
                    linewidth=1.2,
                )
            )
        ax.text(
            left + row.width_mm / 2,
            top - 0.02 * side,
            f"{row.caption}, {row.plane}",
            ha="center",
            va="bottom",
            fontsize=8,
        )
    ax.set(
        xlim=(0, 1.05 * side * len(planes)),
        ylim=(1.18 * side * len(captions) - 0.15 * side, -0.1 * side),
        aspect="equal",
    )
    ax.axis("off")
    return ax


def plot_window(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw which Hounsfield units become which grey, and where tissues lie.

    Args:
        table: two rows, the ends of the window; columns hounsfield and grey (0, 255).
        ax: where to draw; a new figure when None.
    """
    ax = ax or plt.figure(figsize=(6, 2.2)).add_subplot()
    (low, high), greys = table["hounsfield"], table["grey"]
    ax.plot(
        [low - 300, low, high, high + 400], [greys.iloc[0], *greys, greys.iloc[1]], color="black"
    )
    for number, (name, ends) in enumerate(_TISSUES.items()):
        ax.axvspan(*ends, color="0.85" if number % 2 else "0.92", linewidth=0)
        ax.text(np.mean(ends), 265, name, rotation=30, ha="left", va="bottom", fontsize=8)
    ax.set(
        xlabel="Hounsfield units",
        ylabel="grey value",
        xlim=(low - 300, high + 400),
        yticks=[0, 128, 255],
    )
    return ax
