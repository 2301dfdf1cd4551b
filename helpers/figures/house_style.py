"""Colours, markers, words for recipes and the style file of all figures.

In: labels of arms. Out: how each looks and is called, the same in every figure.
"""

import itertools
import textwrap
from pathlib import Path

STYLE = Path(__file__).with_name("house.mplstyle")
MARKERS = "osD^vPX*"
IMAGE_MARKERS, IMAGE_COLOR = "<>hp", "#cc3311"  # of image-level arms, open
UNIT_IMAGE = "per image"  # in the label of an arm whose privacy unit is the image
RECIPES = {  # of profiles of this package; after a comma in an arm's label
    "paper_recipe": "the paper's recipe",
    "paper_our_public": "the paper's recipe from our public model",
}


def arm_colors(arms: list[str]) -> dict[str, object]:
    """Return a colour an arm.

    Grey without private data, black without privacy, from light to dark with epsilon per patient,
    red for image-level arms: their epsilon is another promise.
    """
    import seaborn as sns  # here: a study is planned without drawing

    private = [arm for arm in arms if arm.startswith("epsilon") and UNIT_IMAGE not in arm]
    # the lightest is too faint on white
    shades = dict(zip(private, sns.color_palette("viridis_r", len(private) + 1)[1:]))
    image_level = {arm: IMAGE_COLOR for arm in arms if UNIT_IMAGE in arm}
    public = {arm: "0.55" for arm in arms if arm.startswith("zero-shot")}
    return dict.fromkeys(arms, "black") | public | image_level | shades


def arm_styles(arms: list[str]) -> dict[str, dict[str, object]]:
    """Return colour and marker an arm, for `Axes.plot`; image-level arms have open markers."""
    colors = arm_colors(arms)
    filled, hollow = itertools.cycle(MARKERS), itertools.cycle(IMAGE_MARKERS)
    return {
        arm: {
            "color": colors[arm],
            "marker": next(hollow) if UNIT_IMAGE in arm else next(filled),
            "markerfacecolor": "white" if UNIT_IMAGE in arm else colors[arm],
            "markersize": 5,
            "linestyle": "none",
        }
        for arm in arms
    }


def recipe_name(recipe: str) -> str:
    """Return a recipe of a profile's comparison for a reader."""
    return RECIPES.get(recipe, f"recipe {recipe.replace('_', ' ')}")


def in_lines(label: str) -> str:
    """Return a label in short lines, so that a legend leaves room for the data."""
    rest, comma, recipe = label.rpartition(", ")
    named = rest + comma + RECIPES.get(recipe, recipe)
    return textwrap.fill(named.replace("_", " "), 18)
