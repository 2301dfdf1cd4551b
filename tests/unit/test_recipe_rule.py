"""The rule of the default recipe."""

import itertools

import pytest

from helpers.core import errors
from helpers.training import recipe_rule

EPSILONS, UNITS = (0.01, 0.29, 1.06, 7.89, 100), (1, 10, 40, 200, 2900, 8800, 30_000, 150_000)
ORDER = ["head", "all_then_head"]


@pytest.mark.parametrize("start", recipe_rule.STARTS)
def test_the_rule_is_monotone_in_budget_and_number_of_units(start):
    def ranks(epsilon, n_units):
        rule = recipe_rule.recipe_for(epsilon, n_units, start)
        return [
            ORDER.index(value) if value in ORDER else value
            for value in (rule | ({"TRAINED": "head"} if start == "unknown" else {})).values()
        ]

    for (e1, e2), n in itertools.product(itertools.pairwise(EPSILONS), UNITS):
        assert all(low <= high for low, high in zip(ranks(e1, n), ranks(e2, n)))
    for (n1, n2), e in itertools.product(itertools.pairwise(UNITS), EPSILONS):
        assert all(low <= high for low, high in zip(ranks(e, n1), ranks(e, n2)))


def test_a_step_of_all_weights_expects_about_one_unit_in_16_of_many_and_256_of_few_or_all():
    for n in UNITS:
        batch = recipe_rule.recipe_for(1.0, n)["EXPECTED_BATCH_SIZE"]
        assert batch == min(n, 256) if n < 4096 else 1 / 24 < batch / n < 1 / 10


def test_what_is_trained_follows_from_the_start_the_budget_and_the_number_of_units():
    trained = {
        (start, epsilon): recipe_rule.recipe_for(epsilon, 8800, start)["TRAINED"]
        for start in recipe_rule.STARTS
        for epsilon in (0.29, 1.06, 20)
    }
    assert trained == {
        ("alike", 0.29): "head",
        ("alike", 1.06): "head",
        ("alike", 20): "all_then_head",
        ("drawn", 0.29): "head",
        ("drawn", 1.06): "all_then_head",
        ("drawn", 20): "all_then_head",
        ("unknown", 0.29): "all",
        ("unknown", 1.06): "all",
        ("unknown", 20): "all",
    }


@pytest.mark.parametrize(
    ("pretrain", "cohort", "head", "public_head", "start"),
    [
        ("none", "synthetic_cxr_private", "halves", "halves", "unknown"),
        ("a/start.safetensors", "taix_ray", "halves", "halves", "unknown"),
        ("synthetic_cxr_public", "synthetic_cxr_private", "halves", "halves", "alike"),
        ("synthetic_cxr_public", "synthetic_cxr_private", "halves", "pooled", "unknown"),
        ("synthetic_cxr_public", "synthetic_cxr_private", "sided", "sided", "unknown"),
        ("synthetic_cxr_public", "taix_ray", "halves", "halves", "drawn"),
        ("chestxray14", "taix_ray", "halves", "halves", "alike"),
        ("chestxray14", "panorama", "levels", "levels", "unknown"),
    ],
)
def test_the_start_is_judged_by_what_is_public(pretrain, cohort, head, public_head, start):
    assert recipe_rule.start_of(pretrain, cohort, head, public_head) == start


def test_other_networks_have_a_standardised_head_that_is_pooled():
    of = ("synthetic_cxr_public", "synthetic_cxr_private", "pooled", "pooled")
    assert recipe_rule.start_of(*of) == "unknown"
    assert recipe_rule.start_of(*of, "resnet18") == "alike"
    assert recipe_rule.start_of("a/start.pth", *of[1:], "resnet18") == "unknown"


def test_settle_keeps_what_is_given_and_says_what_the_rule_decided():
    chosen, origin = recipe_rule.settle(1.06, 8800, TRAINED="all", EPOCHS=3, HEAD_STEPS=None)
    rule = recipe_rule.recipe_for(1.06, 8800)
    assert chosen == {
        "TRAINED": "all",
        "EXPECTED_BATCH_SIZE": rule["EXPECTED_BATCH_SIZE"],
        "EPOCHS": 3,
        "LEARNING_RATE": rule["LEARNING_RATE"],
        "CLIP_NORM": 1.0,
    }
    assert origin == {
        "TRAINED": "by hand",
        "EXPECTED_BATCH_SIZE": "by the rule",
        "EPOCHS": "by hand",
        "LEARNING_RATE": "by the rule",
        "CLIP_NORM": "by the rule",
    }


def test_settings_of_all_weights_by_hand_mean_that_all_weights_are_trained():
    assert recipe_rule.settle(1.06, 8800, EPOCHS=3)[0]["TRAINED"] == "all"
    both = recipe_rule.settle(1.06, 8800, EPOCHS=3, HEAD_STEPS=5)[0]
    assert both["TRAINED"] == "all_then_head" and both["HEAD_STEPS"] == 5


@pytest.mark.parametrize(
    ("declared", "lost"),
    [
        ({"TRAINED": "head", "EPOCHS": 3}, "EPOCHS"),
        ({"TRAINED": "all", "HEAD_STEPS": 3}, "HEAD_STEPS"),
        ({"TRAINED": "head", "HEAD_SHARE": 0.5}, "HEAD_SHARE"),
    ],
)
def test_settings_of_what_is_not_trained_are_refused(declared, lost):
    with pytest.raises(errors.InputError, match=f"None as {lost} where TRAINED"):
        recipe_rule.settle(1.06, 8800, **declared)


def test_the_head_alone_takes_every_unit_in_each_step_and_comes_second_after_all_weights():
    alone = recipe_rule.settle(1.06, 8800)[0]
    clip_norm, batching, second = recipe_rule.batching_of(alone, 8800, 8)
    assert (clip_norm, batching.expected_batch_size, second) == (0.1, 8800, None)
    assert batching.epochs == alone["HEAD_STEPS"] and batching.steps_per_epoch(8800) == 1
    both = recipe_rule.settle(7.89, 8800, TRAINED="all_then_head")[0]
    clip_norm, batching, second = recipe_rule.batching_of(both, 8800, 8)
    assert (clip_norm, batching.expected_batch_size) == (1.0, 512)
    assert (second.steps, second.clip_norm) == (both["HEAD_STEPS"], 0.1)
