"""The recipe of a private run without its noise, and without its clipping: what each of them costs.

In: what a run leaves out (WITHOUT), its mode, budget and steps of the head. Out: the same, as such
a run has them, and its place among the arms. Raises `InputError` for clipping left out alone.

A model trained so has no privacy, as the baseline has none. Everything else is as in the private
run: network, start, draws, number of steps, batches, learning rate, running mean of the weights.
"""

import dataclasses
from collections.abc import Collection

from helpers.core import errors
from helpers.privacy import promise

# a clipping norm, the largest that is accepted, at which no gradient is clipped
CLIPS_NOTHING = 1e6


def arm_of(without: Collection[str]) -> str:
    """Return the arm of a run, see `run_records.ARMS`: "dp" where nothing is left out.

    Args:
        without: of "noise" and "clipping", what is left out.

    Raises:
        InputError: another part, or clipping alone: noise is scaled by the clipping norm.
    """
    for part in without:
        errors.one_of("each of WITHOUT", part, ("noise", "clipping"))
    if "clipping" in without and "noise" not in without:
        errors.refuse(
            'WITHOUT = ["noise", "clipping"], ["noise"] or []',
            '["clipping"]',
            "Leave the noise out, too: it is scaled by the clipping norm, and hides nobody whose"
            " gradient is not clipped.",
        )
    if not without:
        return "dp"
    return "same_recipe" if "clipping" in without else "same_recipe_clipped"


def left_out(
    without: Collection[str],
    mode: str,
    budget: promise.PrivacyBudget,
    head: promise.HeadSteps | None = None,
) -> tuple[str, promise.PrivacyBudget, promise.HeadSteps | None]:
    """Return mode, budget and steps of the head of a run that leaves some of its recipe out; as
    they are where nothing is left out.

    Guarantees: whatever is left out, the mode is "none", in which nothing is promised.

    Args:
        without: see `arm_of`.
        mode: "demo" or "private", of the private run.
        budget, head: as declared, see `promise`; head None for none.

    Raises:
        InputError: see `arm_of`.
    """
    if arm_of(without) == "dp":
        return mode, budget, head
    if "clipping" in without:
        budget = dataclasses.replace(budget, clip_norm=CLIPS_NOTHING)
        head = head and dataclasses.replace(head, clip_norm=CLIPS_NOTHING)
    return "none", budget, head
