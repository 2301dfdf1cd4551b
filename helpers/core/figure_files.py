"""Figures saved as PNG and SVG, each with the table behind it.

In: a figure, its name, its table. Out: files under the results folder.
"""

import pandas as pd

from helpers.core import files, paths


def save_figure(figure, name: str, table: pd.DataFrame) -> None:
    """Write a figure as PNG and SVG into `figures/`, and the table behind it into `tables/`.

    Args:
        figure: a matplotlib Figure, or the Axes that is on it.
        name: file name without ending.
        table: what is drawn.
    """
    figure = getattr(figure, "figure", figure)
    for ending in ("png", "svg"):
        with files.atomic_path(paths.results_dir() / "figures" / f"{name}.{ending}") as part:
            figure.savefig(
                part,
                format=ending,
                bbox_inches="tight",
                dpi=150,
                metadata={"Date": None} if ending == "svg" else None,
            )
    files.write_table(paths.results_dir() / "tables" / f"{name}.csv", table)
