"""The ladder on real films and the learning curve: who is public, what is chosen, what is shown."""

import dataclasses
from types import SimpleNamespace

import benchmark_figures
import curve_points
import learning_curve
import numpy as np
import pandas as pd
import pytest
import real_arms
import real_cohorts
import real_ladder
import real_tables
from real_arms import CEILING_EPOCHS, Settings

from helpers.core import errors, files, paths
from helpers.data import manifests
from helpers.training import recipe_rule

RESULTS = paths.repository_root() / "benchmarks" / "results" / "real_ladder.json"


def test_runs_differ_have_names_of_their_own_and_begin_with_what_says_most():
    runs = real_ladder.wanted({"drawn": 6, "archive": 3})
    assert len({run.key for run in runs}) == len(set(runs)) == len(runs)
    assert [run.arm for run in runs[:3]] == ["zero-shot", "zero-shot", "no privacy"]
    last = max(place for place, run in enumerate(runs) if run.seed == 0)
    # one seed of everything before a second one, but of the head, which takes seconds
    assert {run.arm for run in runs[:last] if run.seed} == {"ours, head"}
    arms = {(run.start, run.arm, run.epsilon, run.seed) for run in runs if run.head == "halves"}
    private = [*real_arms.OURS, "paper, our start"]
    for start in real_cohorts.STARTS:
        for seed in real_arms.SEEDS:
            assert (start, "no privacy", None, seed) in arms
            assert all(
                (start, arm, epsilon, seed) in arms
                for arm in private
                for epsilon in real_arms.EPSILONS
            )


def test_the_ceiling_is_chosen_on_valid_and_its_trials_are_no_arms():
    rows = [
        dataclasses.asdict(Settings("no privacy", "drawn", epochs=epochs))
        | {"valid_auroc": valid, "auroc": test}
        for epochs, valid, test in zip(CEILING_EPOCHS, (0.7, 0.8, 0.75), (0.9, 0.1, 0.5))
    ]
    chosen = real_ladder.best_epochs(rows)
    assert chosen == {"drawn": CEILING_EPOCHS[1]}  # the worst on test
    assert real_ladder.best_epochs(rows[:-1]) == {}
    settings = [Settings("no privacy", "drawn", epochs=epochs) for epochs in CEILING_EPOCHS]
    others = [Settings("zero-shot", "archive"), Settings("zero-shot", "drawn", head="levels")]
    shown = real_tables.shown([*settings, *others], "drawn", chosen)
    assert shown == [settings[1]]


def test_the_papers_recipe_and_ours_take_their_settings_from_the_rule():
    chosen = real_arms.ours(Settings("ours, both", "drawn", 1.06), 1739)
    rule = recipe_rule.recipe_for(1.06, 1739, "drawn") | {"TRAINED": "all_then_head"}
    assert chosen == {name: rule[name] for name in chosen} and len(chosen) > 5
    assert real_arms.ours(Settings("ours, head", "archive", 1.06), 937)["TRAINED"] == "head"
    assert real_arms.paper_recipe()["EXPECTED_BATCH_SIZE"] == 128


def test_a_row_of_an_earlier_rule_is_made_again():
    settings = Settings("ours, both", "drawn", 1.06)
    row = {"units": 1739} | real_arms.ours(settings, 1739)
    assert real_arms.is_by_rule(settings, row)
    assert not real_arms.is_by_rule(settings, row | {"HEAD_LEARNING_RATE": 1.0})
    assert real_arms.is_by_rule(Settings("zero-shot", "drawn"), {})


def test_the_divided_data_set_has_each_patient_on_one_side(tmp_path):
    (tmp_path / "images").mkdir()
    patients = [1, 1335, 1335, 1336, 2000]
    pd.DataFrame({"Image Index": list("abcde"), "Patient ID": patients}).to_csv(
        tmp_path / "Data_Entry_2017.csv", index=False
    )
    folder = real_cohorts.divide(tmp_path, tmp_path / "divided")
    rows = pd.read_csv(folder / "Data_Entry_2017.csv")
    assert rows["Archive"].tolist() == ["first", "first", "first", "later", "later"]
    first, later = real_cohorts.part_of("first"), real_cohorts.part_of("later")
    assert first.keep == {"Archive": ["first"]} and later.keep == {"Archive": ["later"]}
    assert first.split.test_share == 0 < later.split.test_share
    assert later.split == manifests.read(real_cohorts.REAL).split and not first.sizes


def test_a_private_patient_in_the_public_cohort_is_refused():
    private, public = (
        SimpleNamespace(name=name, table=pd.DataFrame({"patient_id": patients}))
        for name, patients in (("later", ["3", "4"]), ("first", ["1", "3"]))
    )
    with pytest.raises(errors.InputError, match="no patient of later in first; got 1, e.g. '3'"):
        real_cohorts.check_apart(private, public)


STORED = {
    "rows": [{"start": "drawn", "arm": "ours, all", "epsilon": 1.06, "train_seconds": 40.0}],
    "levels": [
        {"start": "drawn", "arm": arm, "epsilon": epsilon, "seeds": [0.7]}
        | dict.fromkeys(("auroc", "minus_zero_shot", "minus_ceiling"), [0.7, 0.65, 0.75])
        for arm, epsilon in (("zero-shot", None), ("ceiling", None), ("ours, all", 1.06))
    ],
    "contrasts": [
        {"start": "drawn", "arm": arm, "epsilon": None, "attribute": "sex", "verdict": None}
        | {"group": "female - male", "estimate": 0.01, "low": -0.02, "high": 0.04}
        | dict.fromkeys(("change_estimate", "change_low", "change_high"))
        | {"minimum_detectable": None}
        for arm in ("no privacy", "paper, our start")
    ],
}


def test_tables_of_the_site_have_intervals_and_name_what_each_run_took():
    table = real_tables.level_table(STORED)
    assert table["AUROC"].tolist() == ["0.700 [0.650, 0.750]"] * 3
    assert table["seconds"].tolist()[2] == 40 and table["arm"].tolist()[1] == "no privacy"
    contrasts = real_tables.contrast_table(STORED, ["no privacy"])
    assert contrasts["AUROC difference"].tolist() == ["+0.010 [-0.020, +0.040]"]
    assert contrasts["change"].tolist() == [""]


def test_goals_are_shown_for_each_of_our_arms_by_hand():
    level = {"start": "drawn", "seeds": [0.7, 0.71], "minus_zero_shot": [0.0, -0.1, 0.1]}
    levels = [
        level | {"arm": "ours, head", "epsilon": 1.06, "auroc": [0.705, 0.60, 0.80]},
        level | {"arm": "ours, both", "epsilon": 1.06, "auroc": [0.699, 0.60, 0.80]},
        level | {"arm": "ours, both", "epsilon": 7.89, "auroc": [0.741, 0.70, 0.78]},
        level | {"arm": "paper, our start", "epsilon": 1.06, "auroc": [0.9, 0.8, 1.0]},
    ]
    goals = {"drawn": {"1.06": [0.70, 0.72], "7.89": [0.73, 0.74], "0.29": [0.69, 0.7]}}
    table = real_tables.goal_table({"goals": goals, "levels": levels})
    assert table[["epsilon", "arm", "goal", "stretch", "met", "seeds"]].values.tolist() == [
        ["1.06", "ours, head", 0.70, 0.72, "yes", 2],
        ["1.06", "ours, both", 0.70, 0.72, "no", 2],
        ["7.89", "ours, both", 0.73, 0.74, "yes, the stretch, too", 2],
        ["0.29", "not run", 0.69, 0.70, "no", 0],
    ]
    assert table["reached"].tolist()[0] == "0.705 [0.600, 0.800]" and table["reached"][3] == ""


def test_what_the_site_says_of_real_films_is_what_is_stored():
    stored = files.read_json(RESULTS, "")
    text = (paths.repository_root() / "docs" / "results.md").read_text(encoding="utf-8")
    of_level = {(row["start"], row["arm"], row["epsilon"]): row for row in stored["levels"]}
    ours = ("ours, head", "ours, all", "ours, both")

    def gain(start, arm, epsilon):
        return of_level[start, arm, epsilon]["minus_zero_shot"]

    assert "At 1.06 no arm reached 0.70, and no gain\n  excludes 0." in text
    assert all(of_level["drawn", arm, 1.06]["auroc"][0] < 0.70 for arm in ours)
    assert all(gain("drawn", arm, 1.06)[1] <= 0 for arm in ours)
    assert "the head alone, and all weights alone, gain on the public model and reach" in text
    assert all(
        of_level["drawn", arm, 7.89]["auroc"][0] >= 0.73 and gain("drawn", arm, 7.89)[1] > 0
        for arm in ours[:2]
    )
    assert "the head also the stretch" in text
    assert of_level["drawn", "ours, head", 7.89]["auroc"][0] >= 0.74
    assert "From a real public hospital nothing gains on these patients" in text
    assert all(
        row["minus_zero_shot"][1] <= 0 for key, row in of_level.items() if key[0] == "archive"
    )
    assert "*Both* **loses** on the public model, at each budget by an interval" in text
    assert all(gain("archive", "ours, both", epsilon)[2] < 0 for epsilon in (1.06, 7.89))
    assert "Three seeds of the head alone and of *both*, two of the paper's recipe" in text
    n_seeds = {key[1]: len(row["seeds"]) for key, row in of_level.items() if key[2]}
    assert n_seeds == {"ours, head": 3, "ours, both": 3, "ours, all": 1, "paper, our start": 2}


def test_real_levels_and_the_learning_curve_are_drawn():
    figure = benchmark_figures.real_ladder(STORED)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ours, all"]
    assert ax.containers[0][0].get_xdata().tolist() == [0.7] and "0.700" in ax.get_title()
    curve = pd.DataFrame({"product": [1.0, 10.0], "epsilon": 1.0, "share": [0, 1], "fitted": 0.5})
    assert len(benchmark_figures.plot_learning_curve(curve).lines) == 4


def test_the_curve_has_runs_by_the_rule_alone():
    rows = [
        {"n_patients": n, "epsilon": 7.89, "trained": trained, "by_rule": by_rule}
        for n, trained, by_rule in (
            (1000, "head", True),
            (8800, "head", False),
            (8800, "all_then_head", True),
            (35_000, "head", False),
        )
    ]
    curve = real_tables.curve_by_rule({"rows": rows})
    assert curve["trained"].tolist() == ["head", "all_then_head"]


def test_points_of_the_curve_and_their_share_by_hand():
    points = curve_points.points(with_both=True)
    assert len(set(points)) == len(points)
    both = [point for point in points if point.trained == "all_then_head"]
    assert both == points[-len(both) :] and all(point.n_patients > 3000 for point in both)
    ends = {"zero_shot": np.array([0.8, 0.7]), "ceiling": np.array([0.9, 0.9])}
    row = curve_points.row_of(points[0], {}, np.array([0.85, 0.75]), ends)
    # (0.85 - 0.80) / (0.90 - 0.80); resampled (0.75 - 0.70) / (0.90 - 0.70)
    assert row["share"] == pytest.approx(0.5) and row["replicates"] == [0.25]
    assert {"n_patients", "epsilon", "seed", "trained", "by_rule"} < set(row)


def curve_of(start="s", data_hash="d"):
    cohort = SimpleNamespace(record={"data_hash": data_hash})
    return learning_curve.Curve(cohort, {}, [], start)


def test_rows_of_another_start_cohort_or_recipe_are_made_again(tmp_path, monkeypatch):
    curve, (point, other, *_) = curve_of(), curve_points.points(with_both=False)
    rows = [dataclasses.asdict(of) | {"made_from": curve.made_from(of)} for of in (point, other)]
    files.write_json(tmp_path / "curve.json", {"rows": [*rows, dataclasses.asdict(point)]})
    # the last row does not say what made it
    assert list(learning_curve.rows_of(tmp_path / "curve.json", curve)) == [other]
    files.write_json(tmp_path / "curve.json", {"rows": rows})
    assert list(learning_curve.rows_of(tmp_path / "curve.json", curve)) == [point, other]
    for changed in (curve_of(start="t"), curve_of(data_hash="e")):
        assert learning_curve.rows_of(tmp_path / "curve.json", changed) == {}
    recipe = curve_points.recipe_of(point)
    monkeypatch.setattr(curve_points, "recipe_of", lambda of: recipe | {"HEAD_STEPS": of.seed})
    assert learning_curve.rows_of(tmp_path / "curve.json", curve) == {}
    assert not learning_curve.rows_of(tmp_path / "none.json", curve)


def test_ends_of_another_start_are_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curve.Curve, "model", lambda curve, seed: curve.start)
    monkeypatch.setattr(
        learning_curve.Curve, "measured", lambda curve, model: np.array([float(len(model))])
    )
    monkeypatch.setattr(learning_curve, "ceiling", lambda curve: np.array([0.9]))
    for start in ("s", "tt", "s"):
        ends = learning_curve.ends_of(curve_of(start), tmp_path)
        assert ends["zero_shot"].tolist() == [len(start)]
    assert len(list(tmp_path.glob("ends-*.npz"))) == 2
