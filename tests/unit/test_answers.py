"""Tables and sentences of notebook 04."""

import numpy as np
import pandas as pd
import pytest

from helpers import answers, checks, fairness, runs
from helpers.replicates import LEVELS


def test_in_order_sorts_bands_from_low_to_high_and_names_the_attribute():
    table = pd.DataFrame({"attribute": ["sex", "sex", "age", "age", "age", "age"],
                          "group": ["male", "female", ">= 80", "unknown", "[30, 60)", "[0, 30)"]})
    assert answers.in_order(table)["label"].tolist() == ["female", "male", "age [0, 30)", "age [30, 60)", "age >= 80",
                                                         "age unknown"]


def test_in_order_sorts_contrasts_by_their_band():
    table = pd.DataFrame({"attribute": "age", "group": [">= 80 - rest", "[0, 30) - rest", "[30, 60) - rest"]})
    assert answers.in_order(table)["group"].tolist() == ["[0, 30) - rest", "[30, 60) - rest", ">= 80 - rest"]


def test_shown_says_missing_values_in_words():
    table = pd.DataFrame({"group": ["a", "b"], "auroc": [0.5, np.nan], "n": [1, 2]})
    shown = answers.shown(table)
    assert shown.loc["a", "auroc"] == "0.500" and shown.loc["b", "auroc"] == "not estimable" and shown.loc["b", "n"] == 2


def replicate_table(price):
    """Two runs whose mean AUROC differs by `price` in every replicate, and a public one that is 0.1 below the first."""
    rng = np.random.default_rng(0)
    base = 0.85 + 0.01 * rng.standard_normal(41)
    rows = {(run, "auroc", "edema", "all", "all"): base + shift for run, shift in (("base", 0), ("dp", price), ("zero", -0.1))}
    return pd.DataFrame.from_dict(rows, orient="index").set_axis(pd.MultiIndex.from_tuples(rows, names=LEVELS))


def said(price, changes, recipe="default", public=()):
    table = replicate_table(price)
    arms = fairness.arm_table([
        *public,
        {"run": "base", "arm": "baseline", "epsilon_target": None, "unit": None, "seed": 0, "seconds": 1},
        {"run": "dp", "arm": "dp", "epsilon_target": 2.0, "unit": "patient", "seed": 0, "seconds": 1,
         "recipe": recipe}])
    summary = arms.assign(macro_auroc=0.8, low=0.7, high=0.9)
    columns = ["run", "label", "estimate", "low", "high"]
    return answers.conclusions(summary, pd.DataFrame(changes, columns=columns), table, "base")


def test_conclusions_follow_the_numbers():
    price, spread = said(-0.05, [("dp", "female - male", -0.03, -0.05, -0.01), ("dp", "age", 0.0, -0.1, 0.1)])
    assert "the price of privacy, -0.050 [-0.050, -0.050], is resolved" in price
    assert "moves 1 " in spread and "female - male -0.030" in spread and "age" not in spread.split(":")[1]
    price, spread = said(0.0, [("dp", "female - male", -0.03, -0.05, 0.01)])
    assert "not resolved" in price and "moves 0 " in spread


def test_conclusions_say_what_private_patients_added_to_the_public_model():
    zero = {"run": "zero", "arm": "zero_shot", "epsilon_target": None, "unit": None, "seed": 0, "seconds": 1}
    price, gain, _ = said(-0.05, [], recipe="paper_way", public=[zero])
    assert "added to the public model, +0.050 [+0.050, +0.050], is resolved" in gain
    assert "the price of privacy" not in price and "another recipe" in price
    assert "is not resolved" in said(-0.1, [], public=[zero])[1]


def test_conclusions_of_one_run_say_what_is_missing():
    summary = pd.DataFrame({"run": ["z"], "arm": ["zero_shot"], "arm_label": ["zero-shot"], "macro_auroc": [0.7],
                            "low": [0.6], "high": [0.8]})
    assert "needs a baseline run" in answers.conclusions(summary, pd.DataFrame(), pd.DataFrame(), None)[0]


def test_records_of_refuses_no_run_and_a_run_of_other_data(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(checks.InputError, match="Run notebook 02 or 03"):
        answers.records_of("small", [], "hash")
    monkeypatch.setattr(runs, "read_record", lambda name: {"run": name, "cohort": "small", "data_hash": "old"})
    with pytest.raises(checks.InputError, match="other data"):
        answers.records_of("small", ["small-baseline-seed0"], "hash")


def test_planted_beside_found_is_empty_for_real_data():
    assert answers.planted_beside_found({"access": "private"}, pd.DataFrame()).empty
