"""What the price of privacy is made of: differences of four arms, paired, that add up."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, run_record

from helpers.analysis import metric_table, price_parts, study_arms

OF_RECIPE = {"recipe_of_epsilon": 8.0, "recipe_of_unit": "patient"}
ABLATION = (
    run_record("whole", "same_recipe", **OF_RECIPE),
    run_record("clipped", "same_recipe_clipped", **OF_RECIPE),
)
FOUR = (("base", "baseline"), *ABLATION, ("dp", "dp", 8.0))
# mean AUROC over two findings: the estimate, then three resamples
MEANS = {
    "base": [0.90, 0.92, 0.88, 0.90],
    "whole": [0.86, 0.87, 0.85, 0.86],
    "clipped": [0.85, 0.87, 0.83, 0.86],
    "dp": [0.80, 0.81, 0.80, 0.79],
}


def replicates_of(means):
    """Replicates as `metric_table` has them: findings a and b lie 0.02 about their mean."""
    rows = {
        (run, metric, finding, "all", "all"): np.array(values) + shift
        for run, values in means.items()
        for metric in ("auroc", "accuracy")
        for finding, shift in (("a", 0.02), ("b", -0.02))
    }
    return pd.DataFrame(rows).T.rename_axis(metric_table.LEVELS)


def test_parts_of_four_arms_worked_by_hand():
    table = price_parts.parts(replicates_of(MEANS), arms_of(*FOUR)).set_index("part")
    assert list(table.index) == ["schedule", "clipping", "noise", "price"]
    # 0.90 - 0.86, 0.86 - 0.85, 0.85 - 0.80, 0.90 - 0.80
    assert table["estimate"].tolist() == pytest.approx([0.04, 0.01, 0.05, 0.10])
    # the same resample of both: clipping 0, 0.02, 0, of which 2.5 % and 97.5 %
    assert table.loc["clipping", ["low", "high"]].tolist() == pytest.approx([0, 0.019])
    # schedule 0.05, 0.03, 0.04: 0.03 + 0.05 x 0.01, 0.05 - 0.05 x 0.01
    assert table.loc["schedule", ["low", "high"]].tolist() == pytest.approx([0.0305, 0.0495])
    assert table.loc["noise", "difference"] == "same recipe, clipped, minus private"
    assert (table["epsilon"] == 8).all() and (table["unit"] == "patient").all()


def test_the_parts_add_up_to_the_price_also_over_seeds():
    rng = np.random.default_rng(0)
    runs = ["base", "base1", "whole", "clipped", "dp", "dp1"]
    replicates = replicates_of({run: rng.uniform(0.6, 0.9, 40) for run in runs})
    arms = arms_of(
        ("base", "baseline"),
        run_record("base1", "baseline", seed=1),
        *ABLATION,
        ("dp", "dp", 8.0),
        run_record("dp1", "dp", 8.0, seed=1),
    )
    table = price_parts.parts(replicates, arms).set_index("part")["estimate"]
    assert table.drop("price").sum() == pytest.approx(table["price"])
    means = replicates.xs("auroc", level="metric")[0].groupby("run").mean()
    assert table["price"] == pytest.approx(
        means[["base", "base1"]].mean() - means[["dp", "dp1"]].mean()
    )


def test_the_sentence_has_the_numbers_of_the_table(tmp_path):
    table = price_parts.parts(replicates_of(MEANS), arms_of(*FOUR))
    said = price_parts.in_words(table)
    assert said.startswith(
        "Of the mean AUROC that privacy costs at epsilon 8 per patient, +0.100 [+0.081, +0.110],"
        " the schedule makes +0.040 ["
    )
    assert ", clipping +0.010 [+0.000, +0.019] and noise +0.050 [" in said
    assert said.endswith("; the 95 % CI of clipping includes 0.")
    table.to_csv(tmp_path / "parts.csv", index=False)
    assert price_parts.in_words(pd.read_csv(tmp_path / "parts.csv")) == said
    assert price_parts.in_words(table.assign(low=0.01)).endswith("all three 95 % CIs exclude 0.")


@pytest.mark.parametrize(
    "left_out",
    [
        ["base"],
        ["whole"],
        ["clipped"],
        ["dp"],
    ],
)
def test_without_one_of_the_four_arms_nothing_is_said_of_parts(left_out):
    kept = [
        arm for arm in FOUR if (arm["run"] if isinstance(arm, dict) else arm[0]) not in left_out
    ]
    means = {run: values for run, values in MEANS.items() if run not in left_out}
    table = price_parts.parts(replicates_of(means), arms_of(*kept))
    assert table.empty and list(table) == price_parts.COLUMNS
    assert price_parts.in_words(table) == price_parts.ABSENT


@pytest.mark.parametrize(
    "private",
    [
        ("dp", "dp", 1.0),
        run_record("dp", "dp", 8.0, unit="image"),
        run_record("dp", "dp", 8.0, recipe="other"),
    ],
)
def test_a_private_arm_of_another_budget_unit_or_recipe_has_no_parts(private):
    arms = arms_of(*FOUR[:3], private)
    assert price_parts.parts(replicates_of(MEANS), arms).empty


def test_arms_of_the_same_recipe_are_labelled_and_kept_apart_by_budget():
    arms = arms_of(*FOUR)
    assert arms["arm_label"].tolist() == [
        "no privacy",
        "same recipe, no noise or clipping",
        "same recipe, no noise",
        "epsilon 8",
    ]
    assert arms["epsilon"].isna().tolist() == [True, True, True, False]
    assert study_arms.main_arms(arms)["run"].tolist() == ["base", "dp"]
    assert study_arms.one_way(arms)["run"].tolist() == ["dp"]
    other = {"recipe_of_epsilon": 1.0, "recipe_of_unit": "patient"}
    both = arms_of(*FOUR, run_record("whole1", "same_recipe", **other))
    labels = both.set_index("run")["arm_label"]
    assert labels["whole"] == "same recipe, no noise or clipping, of epsilon 8 for patients"
    assert labels["whole1"] == "same recipe, no noise or clipping, of epsilon 1 for patients"
    assert (both["n_seeds"] == 1).all()
