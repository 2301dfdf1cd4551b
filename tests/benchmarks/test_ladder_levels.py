"""Levels and goals of the ladder, from planted replicates."""

import ladder_arms
import ladder_goals
import ladder_levels
import numpy as np
import pandas as pd
import pytest
from ladder_arms import INVERTED
from sklearn.metrics import roc_auc_score


def replicates(estimates, patients):
    """(seeds, 1 + replicates): the same resamples move all seeds alike."""
    return np.array(estimates)[:, None] + np.concatenate([[0], patients])


def test_intervals_hold_patients_and_the_seeds_of_both_arms():
    rng = np.random.default_rng(0)
    common, arm_noise = 0.01 * rng.standard_normal(4000), 0.004 * rng.standard_normal(4000)
    entries = {
        (entry["arm"], entry["epsilon"]): entry
        for entry in ladder_levels.levels(
            {
                ("zero-shot", None): replicates([0.70], common),
                ("ceiling", None): replicates([0.89, 0.90, 0.91], common),
                ("ours, patient", 1.06): replicates([0.79, 0.80, 0.81], common + arm_noise),
                ("paper, tuned", 1.06): replicates([0.77, 0.78, 0.79], common),
            }
        )
    }
    ours, of_seeds = entries["ours, patient", 1.06], 0.01**2 / 3

    def half(name):
        estimate, low, high = ours[name]
        return estimate, (high - low) / 2 / 1.96

    assert half("auroc") == (
        pytest.approx(0.80),
        pytest.approx(np.sqrt(0.01**2 + 0.004**2 + of_seeds), rel=0.03),
    )
    assert half("minus_zero_shot") == (
        pytest.approx(0.10),
        pytest.approx(np.sqrt(0.004**2 + of_seeds), rel=0.03),
    )
    assert half("minus paper, tuned") == (
        pytest.approx(0.02),
        pytest.approx(np.sqrt(0.004**2 + 2 * of_seeds), rel=0.03),
    )
    assert half("minus_ceiling")[0] == pytest.approx(-0.10)
    assert half("share") == (
        pytest.approx(0.5),
        pytest.approx(np.sqrt((0.004**2 + of_seeds * (1 + 0.25)) / 0.2**2), rel=0.03),
    )
    assert entries["zero-shot", None]["share"][0] == 0 and "share" not in entries["ceiling", None]


def test_arms_from_inverted_films_are_held_against_their_own_public_model():
    by_arm = {
        ("zero-shot", None): replicates([0.70], np.zeros(10)),
        ("zero-shot" + INVERTED, None): replicates([0.80], np.zeros(10)),
        ("ceiling", None): replicates([0.90], np.zeros(10)),
        ("ours, patient", 1.06): replicates([0.80], np.zeros(10)),
        ("ours, patient" + INVERTED, 1.06): replicates([0.85], np.zeros(10)),
    }
    entries = {entry["arm"]: entry for entry in ladder_levels.levels(by_arm)}
    for arm, gain in (("ours, patient", 0.10), ("ours, patient" + INVERTED, 0.05)):
        assert entries[arm]["minus_zero_shot"][0] == pytest.approx(gain)
        assert entries[arm]["share"][0] == pytest.approx(0.5)
    assert entries["zero-shot" + INVERTED]["share"][0] == 0


def test_replicates_resample_whole_patients_and_begin_with_the_estimate():
    rng = np.random.default_rng(0)
    one = pd.DataFrame(
        {
            "patient_id": np.repeat([f"p{n}" for n in range(150)], 4),
            "label": np.repeat(rng.random(150) < 0.4, 4).astype(float),
            "score": np.repeat(rng.random(150), 4),
        }
    )
    predictions = pd.concat(
        [one.assign(finding="a"), one.assign(finding="b", score=1 - one["score"])]
    )
    macro_aurocs = ladder_levels.replicates_of(predictions)
    # a and b mirror each other in each resample
    assert macro_aurocs.shape == (1 + ladder_levels.N_BOOTSTRAP,) and macro_aurocs == pytest.approx(
        0.5
    )
    alone = ladder_levels.replicates_of(one.assign(finding="a"))
    assert alone[0] == pytest.approx(roc_auc_score(one["label"], one["score"]))
    positives = one.groupby("patient_id")["label"].first().sum()
    # of patients; of images it would be half
    hanley = np.sqrt(1 / 12 * (1 / positives + 1 / (150 - positives)))
    assert alone[1:].std() == pytest.approx(hanley, rel=0.15)


def by_arm(prefix="", ours=0.80):
    """Planted replicates: no spread over patients, three seeds a hundredth apart."""
    still = np.zeros(50)
    spread = np.array([-0.01, 0.0, 0.01])
    return {
        (f"{prefix}zero-shot", None): replicates([0.70], still),
        (f"{prefix}ceiling", None): replicates(0.90 + spread, still),
        (f"{prefix}ours, patient", 0.29): replicates(ours + spread, still),
        (f"{prefix}paper, our start", 0.29): replicates(0.78 + spread, still),
    }


def test_arms_of_an_earlier_version_are_compared_among_themselves():
    now, earlier = by_arm(ours=0.85), by_arm(ladder_levels.EARLIER)
    both = ladder_levels.levels(earlier | now)
    assert both[:4] == ladder_levels.levels(now)
    assert [level["arm"] for level in both[4:]] == [arm for arm, _ in earlier]
    shares = {level["arm"]: level["share"][0] for level in both if "share" in level}
    assert shares["ours, patient"] == pytest.approx(0.75)
    assert shares["0.3: ours, patient"] == pytest.approx(0.5)


@pytest.mark.parametrize("missing", ["zero-shot", "ceiling"])
def test_there_are_no_levels_before_both_bounds_were_run(missing):
    some = {key: seeds for key, seeds in by_arm().items() if key[0] != missing}
    assert ladder_levels.levels(some) == []


def test_goals_are_met_by_the_estimate_and_differences_by_their_interval():
    # half an interval of a difference: 1.96 * sqrt(2 * 0.01 ** 2 / 3) = 0.016
    def met(ours, seconds=(14.0, 15.0, 40.0)):
        rows = [
            {"arm": "ours, patient", "epsilon": 0.29, "core_seconds": value} for value in seconds
        ]
        goals = ladder_goals.goals(ladder_levels.levels(by_arm(ours=ours)), rows)
        return {goal["what"]: goal["met"] for goal in goals if goal["epsilon"] == 0.29}

    high, low = met(0.845), met(0.79, seconds=(15.0, 16.0, 17.0))
    assert high == {
        "mean AUROC": True,
        "mean AUROC, stretch": False,
        "price: ceiling minus ours": True,
        "minus zero-shot: interval above": True,
        "minus paper, as published: interval above": None,
        "minus paper, our start: interval above": True,
        "seconds of one core, in all": True,
    }
    assert not low["mean AUROC"] and not low["price: ceiling minus ours"]
    assert low["minus zero-shot: interval above"]
    # ahead, by less than half an interval
    assert low["minus paper, our start: interval above"] is False
    assert low["seconds of one core, in all"] is False


def test_goals_of_what_was_not_run_are_neither_met_nor_missed():
    goals = ladder_goals.goals([], [])
    assert len(goals) == 7 * len(ladder_arms.EPSILONS)
    assert {goal["met"] for goal in goals} == {goal["value"] for goal in goals} == {None}


def test_the_price_keeps_its_interval_in_order():
    goals = ladder_goals.goals(ladder_levels.levels(by_arm()), [])
    estimate, low, high = next(
        goal["value"] for goal in goals if goal["what"].startswith("price") and goal["value"]
    )
    assert estimate == pytest.approx(0.10) and low < estimate < high
