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


def plot_with_and_without(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw images in rows and columns, with an arrow to what is to be seen in them.

    Args:
        table: one row an image; columns column and row (captions; equal ones share a column or
            row), pixels ((height, width) uint8), x and y (the arrow's tip, from the left and from
            the top, 0..1; NaN for no arrow).
        ax: where to draw; a new figure when None.
    """
    columns, rows = list(dict.fromkeys(table["column"])), list(dict.fromkeys(table["row"]))
    ax = ax or plt.figure(figsize=(2.2 * len(columns), 2.2 * len(rows) + 0.4)).add_subplot()
    for image in table.itertuples():
        left, top = 1.04 * columns.index(image.column), 1.04 * rows.index(image.row)
        ax.imshow(
            image.pixels,
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(left, left + 1, top + 1, top),
            interpolation="nearest",
        )
        if not np.isnan(image.x):
            outwards = -0.2 if image.x < 0.5 else 0.2
            ax.annotate(
                "",
                xy=(left + image.x, top + image.y),
                xytext=(left + image.x + outwards, top + image.y - 0.2),
                arrowprops={
                    "arrowstyle": "simple,head_width=0.9,head_length=0.9,tail_width=0.3",
                    "facecolor": "white",
                    "edgecolor": "black",
                },
            )
    for number, caption in enumerate(columns):
        ax.text(1.04 * number + 0.5, -0.03, caption, ha="center", va="bottom", fontsize=9)
    for number, caption in enumerate(rows):
        middle = 1.04 * number + 0.5
        ax.text(-0.03, middle, caption, ha="right", va="center", rotation=90, fontsize=9)
    ax.set(xlim=(0, 1.04 * len(columns)), ylim=(1.04 * len(rows), 0), aspect="equal")
    ax.axis("off")
    return ax


def plot_prevalence(table: pd.DataFrame, ax: plt.Axes | None = None) -> plt.Axes:
    """Draw how often each finding is present, one point and interval a group.

    Args:
        table: one row a finding and group; columns finding, group (str), n_patients (int),
            prevalence, low, high (0..1); what is missing is not drawn.
        ax: where to draw; a new figure when None.
    """
    findings = list(dict.fromkeys(table["finding"]))
    groups = list(dict.fromkeys(table.loc[table["n_patients"].notna(), "group"]))
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
