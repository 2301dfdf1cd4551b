"""Tables of the ladder's trials and results, for figures and docs."""

import pandas as pd

_KNOBS = {
    "learning_rate": "learning rate",
    "batch": "expected batch",
    "epochs": "epochs",
    "clip_norm": "clip norm",
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
    return pd.DataFrame(differences)


def ladder_table(stored: dict) -> pd.DataFrame:
    """Return what each way of training reached, and what it took.

    Args:
        stored: `benchmarks/results/ladder.json`, or `ct_ladder.json`.

    Returns:
        arm, epsilon (NaN without one), auroc, share (of the distance from the public model to the
        best without privacy; both as text, with 95 % intervals over patients and seeds), n_seeds,
        seconds (of training, median over seeds; NaN for none).
    """
    seconds = (
        pd.DataFrame(stored["rows"])
        .groupby(["arm", "epsilon"], dropna=False)["train_seconds"]
        .median()
    )
    seconds = {
        (arm, None if pd.isna(epsilon) else epsilon): value
        for (arm, epsilon), value in seconds.items()
    }

    def text(values: list[float] | None) -> str:
        # both ends of the distance are too near to each other
        if values is None or values[2] - values[1] > 1:
            return "" if values is None else "not resolved"
        return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"

    return pd.DataFrame(
        [
            {
                "arm": level["arm"],
                "epsilon": level["epsilon"],
                "auroc": text(level["auroc"]),
                "share": text(level.get("share")),
                "n_seeds": len(level["seeds"]),
                "seconds": seconds.get((level["arm"], level["epsilon"])),
            }
            for level in stored["levels"]
        ]
    )
