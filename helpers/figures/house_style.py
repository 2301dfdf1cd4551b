"""Colours, markers and the style file of all figures."""

import textwrap
from pathlib import Path

import seaborn as sns

STYLE = Path(__file__).with_name("house.mplstyle")
MARKERS = "osD^vPX*"


def arm_colors(arms: list[str]) -> dict[str, object]:
    """Return a colour an arm.

    Grey without private data, black without privacy, else from light to dark with epsilon.
    """
    private = [arm for arm in arms if arm.startswith("epsilon")]
    others = {
        arm: "0.55" if arm.startswith("zero-shot") else "black"
        for arm in arms
        if arm not in private
    }
    # the lightest is too faint on white
    shades = sns.color_palette("viridis_r", len(private) + 1)[1:]
    return others | dict(zip(private, shades))


def in_lines(label: str) -> str:
    """Return a label in short lines, so that a legend leaves room for the data."""
    return textwrap.fill(label.replace("_", " "), 18)
