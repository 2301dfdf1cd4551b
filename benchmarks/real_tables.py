"""Levels and contrasts of the ladder on real films, from the predictions of its runs.

In: finished runs. Out: rows for `results/real_ladder.json`, and the tables that the site shows.
"""

from collections.abc import Collection

import ladder_levels
import numpy as np
import pandas as pd
from ladder_tables import with_interval

from helpers.analysis import (
    equivalence,
    estimate_tables,
    group_contrasts,
    influence_table,
    study_arms,
)
from helpers.core import run_records
from helpers.data import cohorts

# mean test AUROC at least, patient level, see issue 17; the second of each pair is a stretch
GOALS = {"drawn": {"1.06": [0.70, 0.72], "7.89": [0.73, 0.74]}}
ATTRIBUTES = ["sex", "age quartile", "view"]
MARGIN = 0.02
CEILING, ZERO = "no privacy", "zero-shot"
PRIVATE = ("ours, head", "ours, all", "ours, both", "paper, our start")


def counts(cohort: cohorts.Cohort) -> dict:
    """Return patients and films of each split of a cohort."""
    splits = cohort.table.groupby("split")
    return {
        "cohort": cohort.name,
        "patients": splits["patient_id"].nunique().to_dict(),
        "films": splits["image_id"].size().to_dict(),
    }


def shown(settings: Collection, start: str, ceiling_epochs: dict[str, int]) -> list:
    """Return the runs that are arms of a start: of the trials without privacy the best only.

    Args:
        settings: of all finished runs.
        start: see `real_cohorts.STARTS`.
        ceiling_epochs: see `real_ladder.best_epochs`.
    """
    epochs = ceiling_epochs.get(start)
    return [
        run
        for run in settings
        if run.start == start
        and run.head == "halves"
        and (run.arm != CEILING or run.epochs == epochs or epochs is None and run.epochs == 3)
    ]


def levels(runs: list, start: str) -> list[dict]:
    """Return for each arm and budget what `ladder_levels.levels` says of it."""
    by_arm: dict[tuple, list] = {}
    for run in runs:
        predictions = run_records.read_predictions(run.key).query("split == 'test'")
        key = {CEILING: "ceiling"}.get(run.arm, run.arm), run.epsilon
        by_arm.setdefault(key, []).append(ladder_levels.replicates_of(predictions))
    arrays = {key: np.array(values) for key, values in by_arm.items()}
    # a resample without a patient with a rare finding has no macro AUROC, in any arm
    whole = np.all([np.isfinite(values).all(0) for values in arrays.values()], axis=0)
    n_replicates = int(whole[1:].sum())
    of_arms = ladder_levels.levels({key: values[:, whole] for key, values in arrays.items()})
    return [{"start": start, "n_replicates": n_replicates} | level for level in of_arms]


def contrasts(runs: list, start: str, table: pd.DataFrame) -> list[dict]:
    """Return contrasts between groups in each arm, how they differ from those without privacy, and
    what change could have been seen.

    Args:
        runs: of one start.
        start: see `real_cohorts.STARTS`.
        table: of its private cohort.
    """
    records = [run_records.read_record(run.key) for run in runs]
    arms = study_arms.arm_table(records)
    predictions = {run.key: run_records.read_predictions(run.key) for run in runs}
    influences = influence_table.of_auroc(predictions, table, ATTRIBUTES)
    influences = group_contrasts.with_means(influences)
    baseline = next(iter(arms.loc[arms["arm"] == "baseline", "pool"]), None)
    changed = estimate_tables.gap_changes(influences, arms, baseline)
    return _rows(estimate_tables.auroc_contrasts(influences, arms), changed, arms, start)


def _rows(
    contrasts: pd.DataFrame, changed: pd.DataFrame, arms: pd.DataFrame, start: str
) -> list[dict]:
    """Return a row a contrast and arm, with its change beside it."""
    index = ["run", "attribute", "group"]
    columns = [*index, "estimate", "low", "high"]
    table = contrasts[columns]
    of_change = equivalence.of_changes(changed, MARGIN)
    names = {name: f"change_{name}" for name in ("estimate", "low", "high")}
    kept = [*index, *names.values(), "minimum_detectable", "verdict"]
    table = table.merge(of_change.rename(columns=names)[kept], "left", on=index)
    labels = arms.set_index("run")
    rows = [
        {
            "start": start,
            "arm": {"zero_shot": ZERO, "baseline": CEILING}.get(
                labels.at[row["run"], "arm"], labels.at[row["run"], "recipe"]
            ),
            "epsilon": labels.at[row["run"], "epsilon"],
            **{name: row[name] for name in table.columns if name != "run"},
        }
        for row in table.to_dict("records")
    ]
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in rows]


def level_table(stored: dict) -> pd.DataFrame:
    """Return what each way of training reached, and what it took, for the site.

    Args:
        stored: `results/real_ladder.json`.
    """
    rows = pd.DataFrame(stored["rows"])
    table = []
    for level in stored["levels"]:
        arm = {"ceiling": CEILING}.get(level["arm"], level["arm"])
        same = (rows["start"] == level["start"]) & (rows["arm"] == arm)
        if level["epsilon"]:
            same &= rows["epsilon"] == level["epsilon"]
        seconds = rows.loc[same, "train_seconds"].median() if "train_seconds" in rows else None
        table.append(
            {
                "start": level["start"],
                "arm": arm,
                "epsilon": level["epsilon"],
                "AUROC": with_interval(level["auroc"]),
                "minus zero-shot": with_interval(level["minus_zero_shot"], "+"),
                "minus no privacy": with_interval(level["minus_ceiling"], "+"),
                "seeds": len(level["seeds"]),
                "seconds": round(seconds) if pd.notna(seconds) else None,
            }
        )
    return pd.DataFrame(table)


def goal_table(stored: dict) -> pd.DataFrame:
    """Return the goals set before the ladder was run, and what each of our arms reached.

    Args:
        stored: `results/real_ladder.json`.

    Returns:
        start, epsilon, arm ("not run" without one), goal and stretch (mean test AUROC at least),
        reached (as text), met (by the estimate), seeds.
    """
    rows = []
    for start, by_epsilon in stored["goals"].items():
        for epsilon, (goal, stretch) in by_epsilon.items():
            about = {"start": start, "epsilon": epsilon, "goal": goal, "stretch": stretch}
            missing = {"arm": "not run", "reached": "", "met": "no", "seeds": 0}
            reached = [
                {
                    "arm": level["arm"],
                    "reached": with_interval(level["auroc"]),
                    "met": _met(level["auroc"][0], goal, stretch),
                    "seeds": len(level["seeds"]),
                }
                for level in stored["levels"]
                if (level["start"], level["epsilon"]) == (start, float(epsilon))
                and level["arm"].startswith("ours")
            ]
            rows += [about | row for row in reached or [missing]]
    columns = ["start", "epsilon", "arm", "goal", "stretch", "reached", "met", "seeds"]
    return pd.DataFrame(rows)[columns]


def _met(auroc: float, goal: float, stretch: float) -> str:
    """Return whether a goal is met, in words."""
    return "no" if auroc < goal else "yes" if auroc < stretch else "yes, the stretch, too"


def contrast_table(stored: dict, arms: Collection[str]) -> pd.DataFrame:
    """Return contrasts of some arms (sex, the oldest quarter, view), and their change against
    training without privacy.

    Args:
        stored: `results/real_ladder.json`.
        arms: those shown.
    """
    ages = {row["group"] for row in stored["contrasts"] if row["attribute"] == "age quartile"}
    oldest = {group for group in ages if group.startswith(">=")}
    rows = [
        row
        for row in stored["contrasts"]
        if row["arm"] in arms and (row["attribute"] != "age quartile" or row["group"] in oldest)
    ]
    return pd.DataFrame(
        [
            {
                "start": row["start"],
                "arm": row["arm"],
                "epsilon": row["epsilon"],
                "contrast": row["group"],
                "AUROC difference": with_interval([row["estimate"], row["low"], row["high"]], "+"),
                "change": with_interval(_change(row), "+"),
                "change that could be seen": row["minimum_detectable"],
                "verdict": row["verdict"],
            }
            for row in rows
        ]
    )


def curve_by_rule(stored: dict) -> pd.DataFrame:
    """Return the runs of the learning curve whose recipe is that of the rule, all else left out.

    Args:
        stored: `results/learning_curve.json`.
    """
    rows = pd.DataFrame(stored["rows"])
    return rows[rows["by_rule"]].reset_index(drop=True)


def _change(row: dict) -> list[float] | None:
    """Return a contrast's change with its interval; None for none."""
    ends = [row[f"change_{end}"] for end in ("estimate", "low", "high")]
    return None if None in ends else ends
