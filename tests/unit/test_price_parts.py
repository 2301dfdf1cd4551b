"""What the price of privacy is made of: differences of four arms, paired, that add up."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, run_record
from scipy import stats

from helpers.analysis import group_contrasts, metric_table, price_parts, study_arms

OF_RECIPE = {"recipe_of_epsilon": 8.0, "recipe_of_unit": "patient"}
ABLATION = (
    run_record("whole", "same_recipe", **OF_RECIPE),
    run_record("clipped", "same_recipe_clipped", **OF_RECIPE),
)
FOUR = (("base", "baseline"), *ABLATION, ("dp", "dp", 8.0))
# mean AUROC over two findings, then the influence of three patients on it
MEANS = {
    "base": [0.90, 0.02, -0.02, 0.00],
    "whole": [0.86, 0.01, -0.01, 0.00],
    "clipped": [0.85, 0.02, -0.02, 0.01],
    "dp": [0.80, 0.01, 0.00, -0.01],
}


RECIPE = {"EPOCHS": 6, "LEARNING_RATE": 0.01, "TRAINED": "all", "steps": 96, "head": "halves"}


def records_of(arms, **changes):
    """Records of one recipe: noise, mode and the clipping norm of `same_recipe` differ; `changes`
    are those of single runs.
    """
    mode = {"dp": "private", "same_recipe": "none", "same_recipe_clipped": "none"}
    return [
        {
            "run": row.run,
            "parameters": RECIPE
            | {
                "mode": mode.get(row.arm),
                "noise_multiplier": 0.8 if row.arm == "dp" else 0.0,
                "clip_norm": 1e6 if row.arm == "same_recipe" else 1.0,
            }
            | changes.get(row.run, {}),
        }
        for row in arms.itertuples()
        if row.arm != "baseline"
    ] + [{"run": "base", "parameters": {"EPOCHS": 2, "BATCH_SIZE": 64}}]


def parts_of(means, arms, **changes):
    return price_parts.parts(influences_of(means), arms, records_of(arms, **changes))


def influences_of(means):
    """Influences with means: findings a and b lie 0.02 about their mean."""
    rows = {
        (run, "auroc", finding, "all", "all"): np.array(values)
        + np.r_[shift, np.zeros(len(values) - 1)]
        for run, values in means.items()
        for finding, shift in (("a", 0.02), ("b", -0.02))
    }
    table = pd.DataFrame(rows).T.rename_axis(metric_table.LEVELS)
    return group_contrasts.with_means(table.assign(n_smaller=30, n_averaged=1, hidden_error=0.0))


def test_parts_of_four_arms_worked_by_hand():
    table = parts_of(MEANS, arms_of(*FOUR)).set_index("part")
    assert list(table.index) == ["schedule", "clipping", "noise", "price"]
    # 0.90 - 0.86, 0.86 - 0.85, 0.85 - 0.80, 0.90 - 0.80
    assert table["estimate"].tolist() == pytest.approx([0.04, 0.01, 0.05, 0.10])
    # the same patients of both: 0.01, -0.01, 0, of which the sum of squares is 0.0002 and that of
    # fourth powers 2e-8, so 3 x 4e-8 / 2e-8 = 6 degrees of freedom
    half = stats.t.ppf(0.975, 6) * 0.0002**0.5
    assert table.loc["schedule", ["low", "high"]].tolist() == pytest.approx(
        [0.04 - half, 0.04 + half]
    )
    # -0.01, 0.01, -0.01: 3 x 9e-8 / 3e-8 = 9
    half = stats.t.ppf(0.975, 9) * 0.0003**0.5
    assert table.loc["clipping", ["low", "high"]].tolist() == pytest.approx(
        [0.01 - half, 0.01 + half]
    )
    assert table.loc["noise", "difference"] == "same recipe, clipped, minus private"
    assert (table["epsilon"] == 8).all() and (table["unit"] == "patient").all()


SEEDS = (
    ("base", "baseline"),
    run_record("base1", "baseline", seed=1),
    run_record("base2", "baseline", seed=2),
    run_record("dp1", "dp", 8.0, seed=1),
    ("dp", "dp", 8.0),
)
OF_SEED_1 = (
    run_record("whole", "same_recipe", seed=1, **OF_RECIPE),
    run_record("clipped", "same_recipe_clipped", seed=1, **OF_RECIPE),
)


def random_means(arms):
    rng = np.random.default_rng(0)
    return {run: np.r_[rng.uniform(0.6, 0.9), rng.normal(0, 1e-3, 40)] for run in arms["run"]}


def test_parts_and_their_price_are_of_the_seed_that_all_four_arms_have():
    arms = arms_of(*SEEDS, *OF_SEED_1)
    means = random_means(arms)
    table = parts_of(means, arms)
    assert table["of_seeds"].unique().tolist() == ["of seed 1"]
    assert price_parts.in_words(table).startswith(
        "Of the mean AUROC that privacy costs at epsilon 8 per patient, of seed 1, "
    )
    # the very table of a study of this seed alone
    of_one = parts_of(means, arms_of(*SEEDS[1:2], *OF_SEED_1, SEEDS[3]))
    assert of_one["of_seeds"].unique().tolist() == [""]
    pd.testing.assert_frame_equal(table.drop(columns="of_seeds"), of_one.drop(columns="of_seeds"))
    estimates = table.set_index("part")["estimate"]
    assert estimates["schedule"] == pytest.approx(means["base1"][0] - means["whole"][0])
    assert estimates["noise"] == pytest.approx(means["clipped"][0] - means["dp1"][0])
    assert estimates["price"] == pytest.approx(means["base1"][0] - means["dp1"][0])
    assert estimates.drop("price").sum() == pytest.approx(estimates["price"])


def _of_seed_0():
    return [record | {"run": record["run"] + "0", "seed": 0} for record in OF_SEED_1]


def test_the_parts_of_several_seeds_add_up_to_their_price():
    arms = arms_of(*SEEDS, *OF_SEED_1, *_of_seed_0())
    means = random_means(arms)
    table = parts_of(means, arms)
    assert table["of_seeds"].unique().tolist() == ["of seeds 0 and 1"]
    estimates = table.set_index("part")["estimate"]
    assert estimates.drop("price").sum() == pytest.approx(estimates["price"])
    of_runs = {run: values[0] for run, values in means.items()}
    assert estimates["price"] == pytest.approx(
        (of_runs["base"] + of_runs["base1"] - of_runs["dp"] - of_runs["dp1"]) / 2
    )


def test_what_all_arms_of_a_seed_share_is_not_in_the_interval():
    arms = arms_of(*SEEDS[:2], *SEEDS[3:], *OF_SEED_1, *_of_seed_0())
    luck = {0: 0.04, 1: -0.04}  # of a seed, in each of its four arms
    means = {row.run: np.r_[0.8 + luck[row.seed], np.zeros(40)] for row in arms.itertuples()}
    table = parts_of(means, arms)
    assert (table["high"] - table["low"]).tolist() == pytest.approx([0] * 4)


def test_runs_from_different_public_models_have_no_parts():
    arms = arms_of(*FOUR)
    records = records_of(arms)
    for record in records:
        start = {"whole": "other"}.get(record["run"], "same")
        record["made_from"] = {"start": start}
    table = price_parts.parts(influences_of(MEANS), arms, records)
    assert table[["part", "difference"]].values.tolist() == [[price_parts.ANOTHER, "start"]]


def test_without_a_seed_that_all_four_arms_have_nothing_is_said():
    of_seed_2 = [record | {"seed": 2} for record in OF_SEED_1]
    arms = arms_of(*SEEDS, *of_seed_2)
    assert parts_of(random_means(arms), arms).empty


@pytest.mark.parametrize(
    "run, changes, names",
    [
        ("whole", {"EPOCHS": 3, "steps": 48}, "EPOCHS, steps"),
        ("clipped", {"LEARNING_RATE": 0.02}, "LEARNING_RATE"),
        ("dp", {"TRAINED": "head"}, "TRAINED"),
        ("dp", {"HEAD_STEPS": 20}, "HEAD_STEPS"),
        ("clipped", {"clip_norm": 0.5}, "clip_norm"),
        ("whole", {"head": "levels"}, "head"),
        ("clipped", {"head": {"steps": 9, "clip_norm": 1.0}}, "head, head clip_norm, head steps"),
    ],
)
def test_no_parts_of_runs_of_another_recipe(run, changes, names, tmp_path):
    table = parts_of(MEANS, arms_of(*FOUR), **{run: changes})
    assert price_parts.shown(table).empty and len(table) == 1
    table.to_csv(tmp_path / "parts.csv", index=False)
    for stored in (table, pd.read_csv(tmp_path / "parts.csv")):
        assert price_parts.in_words(stored) == (
            "What the price at epsilon 8 per patient is made of is not shown: the runs without"
            f" noise differ from the private one in {names}, too."
        )


def test_noise_and_clipping_of_both_parts_may_differ_and_steps_of_the_head_may_not():
    def head(**changes):
        return {"steps": 20, "clip_norm": 0.1, "noise_multiplier": 9.0} | changes

    of_runs = {
        "dp": {"head": head()},
        "clipped": {"head": head(noise_multiplier=0.0)},
        "whole": {"head": head(noise_multiplier=0.0, clip_norm=1e6)},
    }
    assert list(parts_of(MEANS, arms_of(*FOUR), **of_runs)["part"]) == list(price_parts.PARTS)
    of_runs["clipped"] = {"head": head(noise_multiplier=0.0, steps=10)}
    table = parts_of(MEANS, arms_of(*FOUR), **of_runs)
    assert table["difference"].tolist() == ["head steps"]


def test_the_sentence_has_the_numbers_of_the_table(tmp_path):
    table = parts_of(MEANS, arms_of(*FOUR))
    said = price_parts.in_words(table)
    assert said.startswith(
        "Of the mean AUROC that privacy costs at epsilon 8 per patient, +0.100 [+0."
    )
    assert "], the schedule makes +0.040 [+0.005, +0.075]" in said
    assert ", clipping +0.010 [-0.029, +0.049] and noise +0.050 [" in said
    assert said.endswith("; the 95 % CI of clipping and noise includes 0.")
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
    table = parts_of(means, arms_of(*kept))
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
    assert parts_of(MEANS, arms).empty


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
