"""Goals of the ladder, set before it was run, and whether they are met.

In: levels and rows of `results/ladder.json`. Out: a dict a goal, kept in the results. A goal that
is missed stays in the list.
"""

import statistics

ARM = "ours, patient"
# at each budget: mean AUROC at least, the same as a stretch; ceiling minus ours at most; seconds of
# a private run on one core at most
GOALS = {
    0.29: {"auroc": 0.840, "stretch": 0.850, "price": 0.085, "seconds": 15},
    1.06: {"auroc": 0.855, "stretch": 0.865, "price": 0.070, "seconds": 15},
    7.89: {"auroc": 0.872, "stretch": 0.880, "price": 0.055, "seconds": 90},
}
BEATEN = ("paper, as published", "paper, our start")  # with an interval that excludes 0


def goals(levels: list[dict], rows: list[dict]) -> list[dict]:
    """Return each goal of ours at patient level, and whether it is met.

    Mean AUROC and price are met by the estimate; a difference by the lower end of its interval.

    Args:
        levels: see `ladder_levels.levels`.
        rows: a run each: arm, epsilon, core_seconds (of the processor, in all).

    Returns:
        A dict each: epsilon, what, goal (number), value ([estimate, low, high]; of seconds a
        number, the median over seeds; None where it was not run), met (None likewise).
    """
    reached = {level["epsilon"]: level for level in levels if level["arm"] == ARM}
    entries = []
    for epsilon, goal in GOALS.items():
        level = reached.get(epsilon, {})
        price = level.get("minus_ceiling") and [-level["minus_ceiling"][n] for n in (0, 2, 1)]
        seconds = [
            row["core_seconds"]
            for row in rows
            if (row["arm"], row["epsilon"]) == (ARM, epsilon) and "core_seconds" in row
        ]
        auroc, gained = level.get("auroc"), level.get("minus_zero_shot")
        checked = [
            ("mean AUROC", goal["auroc"], auroc, auroc and auroc[0] >= goal["auroc"]),
            ("mean AUROC, stretch", goal["stretch"], auroc, auroc and auroc[0] >= goal["stretch"]),
            (
                "price: ceiling minus ours",
                goal["price"],
                price,
                price and price[0] <= goal["price"],
            ),
            ("minus zero-shot: interval above", 0, gained, gained and gained[1] > 0),
        ]
        for other in BEATEN:
            ahead = level.get(f"minus {other}")
            checked.append((f"minus {other}: interval above", 0, ahead, ahead and ahead[1] > 0))
        taken = statistics.median(seconds) if seconds else None
        is_fast = None if taken is None else taken <= goal["seconds"]
        checked.append(("seconds of one core, in all", goal["seconds"], taken, is_fast))
        entries += [
            {"epsilon": epsilon} | dict(zip(("what", "goal", "value", "met"), entry))
            for entry in checked
        ]
    return entries
