"""Figures of a cohort: example images, prevalence of findings. One tidy table in, one Axes out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from helpers.figures import house_style


def plot_examples(
    images: list[np.ndarray], captions: list[str], ax: plt.Axes | None = None
) -> plt.Axes:
    """Draw grey images side by side, four in a row, each over its caption.

    Args:
        images: (height, width) uint8, drawn from black (0) to white (255).
        captions: one for each image, at most two lines.
        ax: where to draw; a new figure when None.
    """
    n_rows = -(-len(images) // 4)
    ax = ax or plt.figure(figsize=(8, 2.3 * n_rows)).add_subplot()
    for number, (image, caption) in enumerate(zip(images, captions)):
        row, column = divmod(number, 4)
        ax.imshow(
            image,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(column, column + 0.94, -1.2 * row - 0.94, -1.2 * row),
        )
        ax.text(column + 0.47, -1.2 * row - 0.97, caption, ha="center", va="top", fontsize=8)
    ax.set(xlim=(0, min(4, len(images))), ylim=(-1.2 * n_rows, 0))
    ax.axis("off")
    return ax


def plot_prevalence(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw how often each finding is present, one point and interval a group.

    Args:
        table: one row a finding and group; columns finding, group (str), n_patients (int),
            prevalence, low, high (0..1).
        ax: where to draw; a new figure when None.
    """
    findings, groups = list(dict.fromkeys(table["finding"])), list(dict.fromkeys(table["group"]))
    ax = (
        ax
        or plt.figure(
            figsize=(6.5, 0.09 * len(findings) * len(groups) + 0.25 * len(findings) + 0.8)
        ).add_subplot()
    )
    shades = plt.get_cmap("cividis")(np.linspace(0, 0.85, len(groups)))
    for offset, group, shade, marker in zip(
        np.linspace(-0.3, 0.3, len(groups)), groups, shades, house_style.MARKERS
    ):
        rows = table[table["group"] == group].set_index("finding").reindex(findings)
        heights = np.arange(len(findings)) + (offset if len(groups) > 1 else 0)
        ax.hlines(heights, rows["low"], rows["high"], color=shade)
        ax.plot(
            rows["prevalence"],
            heights,
            marker,
            color=shade,
            markersize=4,
            label=f"{group} (n={rows['n_patients'].max():,.0f} patients)",
        )
    ax.set_yticks(range(len(findings)), [finding.replace("_", " ") for finding in findings])
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set(xlabel="share of images with the finding (95 % interval over patients)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return ax
