"""What the price of privacy is made of: schedule, clipping, noise.

In: influences of patients on single runs, the arms of a study, among them the recipe of a private
arm without noise and without clipping, and records. Out: a row a part, and a sentence. A study
without those runs has no row, one whose runs have another recipe has one row that names what
differs, and the sentence says so.

The parts are differences between neighbours of four arms: without privacy, the same recipe without
noise and clipping, the same with clipping, private. What two of them cost together only is in the
part that comes second. All four are of the same seeds.
"""

from collections.abc import Collection

import pandas as pd

from helpers.analysis import confidence_intervals, group_contrasts, readable_tables, study_arms
from helpers.analysis.metric_table import ALL

ARMS = ("baseline", "same_recipe", "same_recipe_clipped", "dp")  # each loses against the one before
PARTS = {
    "schedule": "no privacy minus same recipe",
    "clipping": "same recipe minus the same, clipped",
    "noise": "same recipe, clipped, minus private",
    "price": "no privacy minus private",
}
WAY = ["epsilon", "unit", "recipe"]
COLUMNS = [*WAY, "of_seeds", "part", "difference", "estimate", "low", "high"]
ANOTHER = "another recipe"  # in the place of a part, where the runs differ in more than the arm
ABSENT = (
    "What the price is made of is not known: it needs a baseline, a private run, and the recipe of"
    " that run without noise, with clipping and without it (notebook 03, WITHOUT)."
)


def parts(influences: pd.DataFrame, arms: pd.DataFrame, records: Collection[dict]) -> pd.DataFrame:
    """Return the parts of the price at each budget whose recipe was also run without noise, with
    and without clipping.

    Guarantees: the estimates of the parts add up to that of the price, which is that of the seeds
    that all four arms have. Arms are paired by seed and patient. Runs without noise or clipping
    differ from the private run of their seed in nothing else that was declared.

    Args:
        influences: from `influence_table.of_auroc`, with means.
        arms: from `study_arms.arm_table`.
        records: of the runs, with `parameters`.

    Returns:
        Rows in the order of `PARTS`: epsilon, unit and recipe of the private arm, of_seeds (such as
        "of seed 0" where an arm has further ones, else ""), part, difference (what minus what),
        estimate (mean AUROC over findings that is lost), low, high. Of another recipe one row, part
        `ANOTHER`, whose difference names the parameters. No row without the runs.
    """
    means = group_contrasts.only_means(influences).xs(ALL, level="attribute")
    parameters = {
        record["run"]: record.get("parameters", {})
        | {"start": record.get("made_from", {}).get("start")}
        for record in records
    }
    tables = []
    for row in study_arms.pooled_arms(arms).query("arm == 'dp'").itertuples():
        runs, of_seeds = _runs_of(arms, row)
        if runs.empty:
            continue
        names = differing(runs, parameters)
        table = (
            pd.DataFrame([{"part": ANOTHER, "difference": ", ".join(names)}])
            if names
            else _of_arms(means, runs)
        )
        way = {name: getattr(row, name) for name in WAY}
        tables.append(table.assign(**way, of_seeds=of_seeds).reindex(columns=COLUMNS))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def _runs_of(arms: pd.DataFrame, private: tuple) -> tuple[pd.DataFrame, str]:
    """Return the runs of `ARMS` for one private arm, of the seeds that all four have, and those
    seeds in words.
    """
    of_recipe = (
        arms["arm"].isin(ARMS[1:3])
        & (arms["recipe_of_epsilon"] == private.epsilon)
        & (arms["recipe_of_unit"] == private.unit)
        & (arms["recipe"] == private.recipe)
    )
    runs = arms[(arms["arm"] == "baseline") | of_recipe | (arms["pool"] == private.pool)]
    seeds = [set(runs.loc[runs["arm"] == arm, "seed"]) for arm in ARMS]
    common = sorted(set.intersection(*seeds))
    shown = " and ".join(map(str, common))
    is_part = any(each != set(common) for each in seeds)
    of_seeds = f"of seed{'s' if common[1:] else ''} {shown}" if is_part else ""
    return runs[runs["seed"].isin(common)], of_seeds


def differing(runs: pd.DataFrame, parameters: dict[str, dict]) -> list[str]:
    """Return the names of declared parameters, beyond noise, mode and (without clipping) clipping
    norms, in which a run of the same recipe differs from the private run of its seed.

    Args:
        runs: rows of `study_arms.arm_table`, of one private arm.
        parameters: of the record of each run.
    """
    private = runs[runs["arm"] == "dp"].set_index("seed")["run"]
    names: set[str] = set()
    for row in runs[runs["arm"].isin(ARMS[1:3])].itertuples():
        one, other = (
            _declared(parameters.get(run, {}), row.arm) for run in (row.run, private[row.seed])
        )
        names |= {name for name in {*one, *other} if one.get(name) != other.get(name)}
    return sorted(names)


def _declared(parameters: dict, arm: str) -> dict:
    """Return the parameters that a run of this arm shares with its private run."""
    own = {"mode", "noise_multiplier"} | (
        {"clip_norm", "head_clip_norm"} if arm == ARMS[1] else set()
    )
    shared = {name: value for name, value in parameters.items() if name.lower() not in own}
    head = shared.pop("head", None)  # of two parts: the steps of the second one
    of_head = head if isinstance(head, dict) else {"": head}
    return shared | {
        f"head {name}".strip(): value for name, value in of_head.items() if name not in own
    }


def _of_arms(means: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the parts of one price, from the runs of `ARMS`."""
    of_seeds = runs.set_index(["arm", "seed"])["run"]
    differences = {}
    for part, (one, other) in zip(PARTS, [*zip(ARMS, ARMS[1:]), (ARMS[0], ARMS[-1])]):
        single = {
            run: group_contrasts.difference(
                means.xs(of_seeds[one, seed], level="run"), means.xs(run, level="run")
            )
            for seed, run in of_seeds[other].items()
        }
        pools = pd.DataFrame({"run": list(single), "pool": next(iter(single))})
        differences[part] = study_arms.pool(pd.concat(single, names=["run"]), pools)
    rows = confidence_intervals.of_changes(pd.concat(differences, names=["part"]))
    return rows.assign(difference=rows["part"].map(PARTS))


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of `parts` that are parts; none of another recipe."""
    return table[table["part"].isin(PARTS)]


def in_words(table: pd.DataFrame) -> str:
    """Return what the price is made of in a sentence a budget; `ABSENT` where it is not known.

    Args:
        table: from `parts`, also as read from its file.
    """
    if table.empty:
        return ABSENT
    return " ".join(
        _sentence(*way, rows.set_index("part")) for way, rows in table.groupby(WAY, sort=False)
    )


def _sentence(epsilon: float, unit: str, recipe: str, rows: pd.DataFrame) -> str:
    """Return what one price is made of."""

    def number(part: str) -> str:
        return readable_tables.with_interval(rows.loc[part])

    of_seeds = rows["of_seeds"].iloc[0]  # read from a file, "" is missing
    way = f"epsilon {epsilon:g} per {unit}" + (f", {recipe}" if recipe != "default" else "")
    way += f", {of_seeds}" if of_seeds and isinstance(of_seeds, str) else ""
    if ANOTHER in rows.index:
        return (
            f"What the price at {way} is made of is not shown: the runs without noise differ from"
            f" the private one in {rows.loc[ANOTHER, 'difference']}, too."
        )
    if rows["estimate"].isna().any():
        return f"What the price at {way} is made of is not estimable."
    unclear = [
        part for part in list(PARTS)[:-1] if rows.loc[part, "low"] <= 0 <= rows.loc[part, "high"]
    ]
    return (
        f"Of the mean AUROC that privacy costs at {way}, {number('price')}, the schedule"
        f" makes {number('schedule')}, clipping {number('clipping')} and noise {number('noise')}; "
        + (
            f"the 95 % CI of {' and '.join(unclear)} includes 0."
            if unclear
            else "all three 95 % CIs exclude 0."
        )
    )
