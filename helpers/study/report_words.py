"""Names and numbers of a study's report, as a reader has them.

In: rows of notebook 04's tables. Out: text.
"""

import math
import re

import pandas as pd

from helpers.figures import house_style

NOT_SHOWN = "not shown"
INCLUDES_0 = "includes 0"  # an interval of a difference
NO_PROMISE = ("demo", "no guarantee")  # modes in which a budget promises nothing
# what an answer is like, for its colour
BAD, UNSURE, GOOD = "bad", "unsure", "good"


def arm_name(row: tuple) -> str:
    """Return a row's arm for a reader: "private, epsilon 1.06 per patient".

    Args:
        row: of `itertuples`, with arm, arm_label, unit; the mode where it is known.
    """
    if row.arm == "zero_shot":
        return row.arm_label.replace("zero-shot", "public model (zero-shot)")
    if row.arm != "dp":
        return row.arm_label
    label, _, recipe = row.arm_label.partition(", ")
    named = label if "per image" in label else f"{label} per {row.unit}"
    return f"private, {named}{of_mode(row)}" + (
        f", {house_style.recipe_name(recipe)}" if recipe else ""
    )


def of_mode(row: tuple) -> str:
    """Return " (demo)" or " (no guarantee)" of a private arm that promises nothing, else ""."""
    mode = getattr(row, "mode", None)
    return f" ({mode})" if mode in NO_PROMISE else ""


def budget(row: tuple) -> str:
    """Return a private arm's budget: "1.06 per patient (demo)".

    Args:
        row: of `04_summary.csv`.
    """
    return f"{row.epsilon:g} per {row.unit}{of_mode(row)}"


def operating_point(words: str) -> str:
    """Return an operating point in the field's words.

    Args:
        words: of `operating_points.in_words`, "" where it is not known.
    """
    rule = words.removesuffix(" on valid").replace("false alarms", "false-positive rate")
    return f"{rule}, set on validation patients" if words else ""


def includes_0(row: tuple) -> bool:
    """Return whether the interval of a difference includes 0: then none is shown."""
    return row.low <= 0 <= row.high


def group_name(attribute: str, group: str) -> str:
    """Return a group for a reader: "scanner B", "women", "age 80 or more"."""
    if attribute == "sex":
        return {"female": "women", "male": "men"}.get(group, group)
    words = re.sub(r"\[([\d.]+), ([\d.]+)[)\]]", r"\1 to under \2", group)
    words = re.sub(r">= ([\d.]+)", r"\1 or more", words)
    return f"{attribute} {words}"


def contrast_name(attribute: str, contrast: str) -> str:
    """Return a contrast for a reader: "women minus men"."""
    group, other = contrast.rsplit(" - ", 1)
    others = "the rest" if other == "rest" else group_name(attribute, other)
    return f"{group_name(attribute, group)} minus {others}"


def count(number: float) -> str:
    """Return a count in words."""
    return NOT_SHOWN if pd.isna(number) else f"{number:,.0f}"


def rounded(number: float) -> str:
    """Return a number of patients with two digits that count, rounded up."""
    if pd.isna(number):
        return ""
    step = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return f"{math.ceil(number / step) * step:,}"


def side_that_loses(row: tuple) -> str:
    """Return which side of a contrast loses more to privacy, "rest" for all others."""
    group, other = row.group.rsplit(" - ", 1)
    return group if row.estimate < 0 else other


def who_loses(row: tuple) -> str:
    """Return the same for a reader.

    Args:
        row: of `04_gap_changes.csv`.
    """
    side = side_that_loses(row)
    if side == "rest":
        return f"all but {group_name(row.attribute, row.group.removesuffix(' - rest'))}"
    return group_name(row.attribute, side)
