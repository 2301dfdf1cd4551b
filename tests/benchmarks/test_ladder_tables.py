"""Tables and figures of the ladder, from planted and stored results."""

import dataclasses
import json

import benchmark_figures
import draw
import ladder_levels
import ladder_plan
import ladder_tables
import numpy as np
import pandas as pd
import pytest
from ladder_arms import INVERTED


def test_sensitivity_names_the_one_knob_that_a_trial_changes():
    rows = [
        dataclasses.asdict(trial) | {"auroc": 0.8 + 0.001 * number}
        for number, trial in enumerate(ladder_plan.trials())
    ]
    first = ladder_tables.sensitivity(rows).sort_values(["epsilon", "change"], ignore_index=True)
    table = ladder_tables.sensitivity(rows[::-1]).sort_values(
        ["epsilon", "change"], ignore_index=True
    )  # they finish in any order
    pd.testing.assert_frame_equal(first, table)
    changes = {epsilon: set(part["change"]) for epsilon, part in table.groupby("epsilon")}
    rates = {"head learning rate x 0.5", "head learning rate x 2"}
    assert set(changes) == {0.29, 1.06, 7.89}
    for of_budget in changes.values():
        assert of_budget == rates | {"head steps x 2", "head clip norm x 2"}
    assert table["difference"].min() == pytest.approx(0.001)
    ax = benchmark_figures.plot_sensitivity(table)
    assert sum(len(line.get_xdata()) for line in ax.lines) == len(table) + 2


def test_trials_of_an_earlier_version_are_no_trials_of_the_rule():
    rows = [
        dataclasses.asdict(trial) | {"arm": f"0.3: {trial.arm}", "auroc": 0.8}
        for trial in ladder_plan.trials()
    ]
    assert ladder_tables.sensitivity(rows).empty


def test_what_a_start_is_worth_is_of_our_rule_alone():
    rows = [
        dataclasses.asdict(trial) | {"auroc": 0.8 + number / 1e3, "by_scanner": {"B": number}}
        for number, trial in enumerate(ladder_plan.trials())
    ]
    table = ladder_tables.start_table(rows).set_index(["public passes", "inverted"])
    assert list(table.index) == [(20, 0.0), (20, 0.25), (40, 0.0), (80, 0.0), (80, 0.25)]
    of_rule = next(row for row in rows if (row["arm"], row["epsilon"]) == ("ours, patient", 1.06))
    assert table.loc[(80, 0.0), "private head"] == of_rule["auroc"]
    for name, inverted in (("20_passes", 0.0), ("20_passes_inverted", 0.25)):
        zero, head = (row for row in rows if row["start"] == name)
        line = table.loc[(20, inverted)]
        assert (line["zero-shot"], line["private head"]) == (zero["auroc"], head["auroc"])
        assert line["private head, scanner B"] == head["by_scanner"]["B"]
    unfinished = ladder_tables.start_table([row for row in rows if row["epsilon"] is None])
    assert unfinished["private head"].isna().all() and unfinished["zero-shot"].notna().all()


def test_the_ladders_table_names_what_each_run_took():
    stored = {
        "rows": [
            {"arm": arm, "epsilon": epsilon, "train_seconds": seconds}
            for arm, epsilon, seconds in (
                ("ceiling", None, 5.0),
                ("ours", 1.06, 7.0),
                ("ours", 1.06, 9.0),
                ("zero-shot", None, None),
            )
        ],
        "levels": [
            {"arm": "ceiling", "epsilon": None, "seeds": [0.9], "auroc": [0.9, 0.8, 1.0]},
            {
                "arm": "ours",
                "epsilon": 1.06,
                "seeds": [0.7, 0.8],
                "auroc": [0.75, 0.7, 0.8],
                "share": [0.5, 0.4, 0.6],
            },
            {
                "arm": "ours",
                "epsilon": 8.0,
                "seeds": [0.7],
                "auroc": [0.75, 0.7, 0.8],
                "share": [0.5, -9.0, 9.0],
            },
        ],
    }
    table = ladder_tables.ladder_table(stored)
    assert table["seconds"].tolist()[:2] == [5.0, 8.0] and table["n_seeds"].tolist() == [1, 2, 1]
    assert (
        table["share"].tolist() == ["", "0.500 [0.400, 0.600]", "not resolved"]
        and table["auroc"][1] == "0.750 [0.700, 0.800]"
    )


def level(arm, epsilon, auroc, **others):
    return {
        "arm": arm,
        "epsilon": epsilon,
        "seeds": [auroc],
        "auroc": [auroc, auroc - 0.01, auroc + 0.01],
        "minus_ceiling": [auroc - 0.9, auroc - 0.92, auroc - 0.89],
    } | others


def test_the_table_of_radiographs_shows_today_or_version_0_3_with_the_price():
    stored = {
        "rows": [
            {"arm": "ours, patient", "epsilon": 1.06, "train_seconds": 3.0, "core_seconds": 9.0},
            {"arm": "0.3: ours, patient", "epsilon": 1.06, "train_seconds": 160.0},
        ],
        "levels": [
            level("ceiling", None, 0.9),
            level("ours, patient", 1.06, 0.85, share=[0.4, 0.3, 0.5]),
            level("0.3: ours, patient", 1.06, 0.82, share=[0.2, 0.1, 0.3]),
        ],
    }
    table = ladder_tables.chest_table(stored)
    assert table["arm"].tolist() == ["ceiling", "ours, patient"]
    assert table["price"].tolist() == ["", "0.050 [0.040, 0.070]"]
    assert table["core_seconds"].tolist()[1:] == [9.0] and table["seconds"].tolist()[1:] == [3.0]
    earlier = ladder_tables.chest_table(stored, earlier=True)
    assert earlier["arm"].tolist() == ["0.3: ours, patient"] and "core_seconds" not in earlier


def test_the_table_of_goals_says_what_was_missed_and_what_was_not_run():
    goals = [
        {"epsilon": 1.06, "what": "a", "goal": 0.8, "value": [0.81, 0.8, 0.82], "met": True},
        {"epsilon": 1.06, "what": "b", "goal": 15, "value": 16.0, "met": False},
        {"epsilon": 1.06, "what": "c", "goal": 15, "value": None, "met": None},
    ]
    table = ladder_tables.goal_table({"goals": goals})
    assert table["met"].tolist() == ["met", "missed", "not run"]
    assert table["reached"].tolist()[0] == "0.810 [0.800, 0.820]"


def test_differences_are_of_ours_per_patient_at_each_budget():
    gained = {"minus_zero_shot": [0.05, 0.04, 0.06], "minus paper, our start": [0.02, 0.01, 0.03]}
    other_start = gained | {"minus paper, our start" + INVERTED: [0.01, 0.0, 0.02]}
    levels = [
        level("zero-shot", None, 0.8),
        level("ours, patient", 1.06, 0.85, **gained),
        level("ours, patient" + INVERTED, 1.06, 0.9, **other_start),
    ]
    table = ladder_tables.difference_table({"levels": levels})
    assert table.columns.tolist() == [
        "arm",
        "epsilon",
        "minus zero-shot",
        "minus ceiling",
        "minus paper, our start",
    ]
    assert table["minus paper, our start"].tolist() == [
        "+0.020 [+0.010, +0.030]",
        "+0.010 [+0.000, +0.020]",  # the paper's recipe from the same public model
    ]
    assert ladder_tables.difference_table({"levels": []}).empty  # before the ladder was run


def test_stored_rows_of_version_0_3_keep_their_names_and_replicates():
    stored = json.loads((ladder_plan.RESULTS / "ladder.json").read_text())
    earlier = [row for row in stored["rows"] if ladder_tables.is_earlier(row["arm"])]
    assert len(earlier) == 53 and {row["shifts"] for row in earlier} == {1}
    assert {row["head"] for row in earlier} == {"sided", "pooled"}
    levels = {(level["arm"], level["epsilon"]): level for level in stored["levels"]}
    ours = levels[f"{ladder_levels.EARLIER}ours, patient", 1.06]
    assert ours["auroc"][0] == pytest.approx(0.8194, abs=1e-4) and len(ours["seeds"]) == 3


def test_plot_ladder_draws_levels_seeds_and_bounds():
    table = pd.DataFrame(
        {
            "arm": ["zero-shot", "ceiling", "ours, patient", "ours, patient"],
            "epsilon": [np.nan, np.nan, 1.06, 7.89],
            "estimate": [0.7, 0.9, 0.8, 0.85],
            "low": [0.69, 0.89, 0.79, 0.84],
            "high": [0.71, 0.91, 0.81, 0.86],
            "seeds": [[0.7], [0.9], [0.79, 0.81], [0.85]],
        }
    )
    ax = draw.plot_ladder(table)
    assert ax.containers[0][0].get_ydata().tolist() == [0.8, 0.85]
    assert {0.79, 0.81} <= {float(value) for line in ax.lines for value in line.get_ydata()}


def test_arms_of_version_0_3_are_not_in_the_figure(tmp_path):
    stored = {"levels": [level("0.3: ours, patient", 1.06, 0.82)], "rows": []}
    (tmp_path / "ladder.json").write_text(json.dumps(stored))
    draw.main(tmp_path)
    assert not (tmp_path / "ladder.png").exists()
    stored["levels"] += [level("ours, patient", 1.06, 0.85), level("ceiling", None, 0.9)]
    (tmp_path / "ladder.json").write_text(json.dumps(stored))
    draw.main(tmp_path)
    assert (tmp_path / "ladder.png").exists()
