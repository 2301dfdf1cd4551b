"""The rule of the default recipe."""

import itertools

from helpers.training import recipe_rule

EPSILONS, UNITS = (0.01, 0.29, 1.06, 7.89, 100), (1, 10, 40, 200, 2900, 8800, 30_000, 150_000)


def test_the_rule_is_monotone_in_budget_and_number_of_units():
    for name in ("LEARNING_RATE", "EXPECTED_BATCH_SIZE", "EPOCHS"):
        for (e1, e2), n in itertools.product(itertools.pairwise(EPSILONS), UNITS):
            assert recipe_rule.recipe_for(e1, n)[name] <= recipe_rule.recipe_for(e2, n)[name]
        for (n1, n2), e in itertools.product(itertools.pairwise(UNITS), EPSILONS):
            assert recipe_rule.recipe_for(e, n1)[name] <= recipe_rule.recipe_for(e, n2)[name]


def test_a_step_expects_about_one_unit_in_16_of_many_and_256_of_few_or_all():
    for n in UNITS:
        batch = recipe_rule.recipe_for(1.0, n)["EXPECTED_BATCH_SIZE"]
        assert batch == min(n, 256) if n < 4096 else 1 / 24 < batch / n < 1 / 10


def test_batch_and_epochs_do_not_depend_on_the_budget():
    assert (
        len(
            {
                (r["EXPECTED_BATCH_SIZE"], r["EPOCHS"])
                for r in (recipe_rule.recipe_for(e, 8800) for e in EPSILONS)
            }
        )
        == 1
    )


def test_settle_keeps_what_is_given_and_says_what_the_rule_decided():
    chosen, origin = recipe_rule.settle(
        1.06, 8800, EXPECTED_BATCH_SIZE=None, EPOCHS=3, LEARNING_RATE=None
    )
    rule = recipe_rule.recipe_for(1.06, 8800)
    assert chosen == rule | {"EPOCHS": 3} and list(chosen) == [
        "EXPECTED_BATCH_SIZE",
        "EPOCHS",
        "LEARNING_RATE",
    ]
    assert origin == {
        "EXPECTED_BATCH_SIZE": "by the rule",
        "EPOCHS": "by hand",
        "LEARNING_RATE": "by the rule",
    }
