"""Tables of the ladder's trials and results, for figures and docs."""

import dataclasses

import ladder_arms
import ladder_levels
import pandas as pd

_KNOBS = {
    "learning_rate": "learning rate",
    "batch": "expected batch",
    "epochs": "epochs",
    "clip_norm": "clip norm",
    "head_steps": "head steps",
    "head_learning_rate": "head learning rate",
    "head_clip_norm": "head clip norm",
    "head_share": "head's share",
}  # of trials


def sensitivity(rows: list[dict]) -> pd.DataFrame:
    """Return what a change of one knob did to mean AUROC on the tuning cohort, from the trials of
    ours at patient level.

    Args:
        rows: of `benchmarks/results/ladder_trials.json`.

    Returns:
        change ("learning rate x 2"), epsilon, difference (AUROC minus that of the rule; one seed
        each).
    """
    differences = []
    trials = pd.DataFrame(rows)
    for epsilon, budget_trials in trials[trials["arm"] == "ours, patient"].groupby(
        "epsilon", sort=False
    ):
        if len(budget_trials) < 4:
            continue  # too few to know the rule
        # each trial changes one knob of the rule, which is the commonest
        changed = budget_trials[list(_KNOBS)].ne(budget_trials[list(_KNOBS)].mode().iloc[0])
        rule = budget_trials[~changed.any(axis=1)].iloc[0]
        for trial, (name,) in zip(
            budget_trials[changed.any(axis=1)].to_dict("records"),
            (
                [knob for knob in _KNOBS if row[knob]]
                for row in changed[changed.any(axis=1)].to_dict("records")
            ),
        ):
            change = f"{_KNOBS[name]} x {trial[name] / rule[name]:g}"
            differences.append(
                {"change": change, "epsilon": epsilon, "difference": trial["auroc"] - rule["auroc"]}
            )
    return pd.DataFrame(differences, columns=["change", "epsilon", "difference"])


def is_earlier(arm: str) -> bool:
    """Return whether an arm is of an earlier version of the package, with another network."""
    return arm.startswith(ladder_levels.EARLIER)


def ladder_table(stored: dict) -> pd.DataFrame:
    """Return what each way of training reached, and what it took.

    Args:
        stored: `benchmarks/results/ladder.json`, or `ct_ladder.json`.

    Returns:
        arm, epsilon (NaN without one), auroc, share (of the distance from the public model to the
        best without privacy; both as text, with 95 % intervals over patients and seeds), n_seeds,
        seconds (of training, median over seeds; NaN for none).
    """
    seconds = _median_seconds(stored["rows"], "train_seconds")

    # both ends of the distance are too near to each other
    def share(values: list[float] | None) -> str:
        return "not resolved" if values and values[2] - values[1] > 1 else with_interval(values)

    columns = ["arm", "epsilon", "auroc", "share", "n_seeds", "seconds"]
    return pd.DataFrame(
        [
            {
                "arm": level["arm"],
                "epsilon": level["epsilon"],
                "auroc": with_interval(level["auroc"]),
                "share": share(level.get("share")),
                "n_seeds": len(level["seeds"]),
                "seconds": seconds.get((level["arm"], level["epsilon"])),
            }
            for level in stored["levels"]
        ],
        columns=columns,
    )


def chest_table(stored: dict, earlier: bool = False) -> pd.DataFrame:
    """Return the table of the ladder on radiographs, for the arms of today or of version 0.3.

    Args:
        stored: `benchmarks/results/ladder.json`.
        earlier: whether those of version 0.3 are shown.

    Returns:
        As `ladder_table`, with the price (ceiling minus arm) and the seconds of one core in all:
        training set, calibration of noise, features, steps (median over seeds; NaN for none).
    """
    levels = [level for level in stored["levels"] if is_earlier(level["arm"]) == earlier]
    table = ladder_table(stored | {"levels": levels})
    in_all = _median_seconds(stored["rows"], "core_seconds")
    prices = [
        "" if level["arm"] == "ceiling" else with_interval(negative(level["minus_ceiling"]))
        for level in levels
    ]
    table.insert(3, "price", prices)
    if earlier:  # which did not count them
        return table
    table["core_seconds"] = [in_all.get((level["arm"], level["epsilon"])) for level in levels]
    return table


def goal_table(stored: dict) -> pd.DataFrame:
    """Return the goals set before the ladder was run, and which are met.

    Args:
        stored: `benchmarks/results/ladder.json`.

    Returns:
        epsilon, what, goal, reached (as text), met ("met", "missed" or "not run").
    """
    words = {True: "met", False: "missed", None: "not run"}
    rows = [
        goal
        | {
            "reached": with_interval(goal["value"])
            if isinstance(goal["value"], list)
            else goal["value"],
            "met": words[goal["met"]],
        }
        for goal in stored["goals"]
    ]
    return pd.DataFrame(rows)[["epsilon", "what", "goal", "reached", "met"]]


def difference_table(stored: dict) -> pd.DataFrame:
    """Return ours per patient minus each other arm of the same public model at each budget, paired,
    as text.

    Args:
        stored: `benchmarks/results/ladder.json`.
    """
    names = {"minus_zero_shot": "minus zero-shot", "minus_ceiling": "minus ceiling"}
    others = [arm for arm in ladder_levels.COMPARED if not arm.endswith(ladder_arms.INVERTED)]
    names |= {f"minus {arm}": f"minus {arm}" for arm in others}
    rows = []
    for suffix in ("", ladder_arms.INVERTED):
        keys = {key if "_" in key else key + suffix: name for key, name in names.items()}
        rows += [
            {"arm": level["arm"], "epsilon": level["epsilon"]}
            | {name: with_interval(level.get(key), "+") for key, name in keys.items()}
            for level in stored["levels"]
            if level["arm"] == "ours, patient" + suffix
        ]
    table = pd.DataFrame(rows, columns=["arm", "epsilon", *names.values()])
    return table.fillna("").loc[:, lambda made: (made != "").any()]


def arm_table() -> pd.DataFrame:
    """Return what each arm of the ladder is."""
    return pd.DataFrame(ladder_arms.ABOUT.items(), columns=["arm", "what it is"])


def start_table(rows: list[dict]) -> pd.DataFrame:
    """Return what longer public training is worth: of each public model the trials untouched, and
    of the head that our recipe trains on its features at epsilon 1.06 per patient.

    Args:
        rows: of `benchmarks/results/ladder_trials.json`.

    Returns:
        public passes, inverted (share of its films), zero-shot, private head (mean AUROC; NaN: not
        run), and both of scanner B's images, whose films are inverted.
    """
    table = []
    for name, start in ladder_arms.STARTS.items():
        private = dataclasses.asdict(ladder_arms.ours("", 1.06, start=name)) | {"arm": None}
        found = {}
        for row in rows:
            if row["start"] == name and row["arm"].startswith("zero-shot"):
                found["zero-shot"] = row
            elif private == {key: row.get(key) for key in private} | {"arm": None}:
                found["private head"] = row
        line = {"public passes": start["epochs"], "inverted": start["inverted"]}
        for what in ("zero-shot", "private head"):
            row = found.get(what, {"auroc": None, "by_scanner": {"B": None}})
            line |= {what: row["auroc"], f"{what}, scanner B": row["by_scanner"]["B"]}
        table.append(line)
    return pd.DataFrame(table).sort_values(["public passes", "inverted"], ignore_index=True)


def negative(values: list[float]) -> list[float]:
    """Return estimate, low and high of a quantity's negative."""
    return [-values[0], -values[2], -values[1]]


def with_interval(values: list[float] | None, sign: str = "") -> str:
    """Return "estimate [low, high]"; blank for none."""
    if not isinstance(values, list):
        return ""
    estimate, low, high = (f"{value:{sign}.3f}" for value in values)
    return f"{estimate} [{low}, {high}]"


def _median_seconds(rows: list[dict], column: str) -> dict[tuple[str, float | None], float]:
    """Return the median over seeds for each arm and budget."""
    table = pd.DataFrame(rows).reindex(columns=["arm", "epsilon", column])
    medians = table.groupby(["arm", "epsilon"], dropna=False)[column].median()
    return {
        (arm, None if pd.isna(epsilon) else epsilon): value
        for (arm, epsilon), value in medians.items()
    }
