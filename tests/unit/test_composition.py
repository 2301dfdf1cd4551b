"""Several runs are counted as one mechanism, with its steps, its noise and the least of their
deltas.
"""

import math

import pytest

from helpers.core import errors
from helpers.privacy import accounting, composition

LINE = {
    "run": "r",
    "uuid": "a",
    "time": "2026-11-28T10:00:00+00:00",
    "unit": "patient",
    "noise_multiplier": 1.0,
    "sample_rate": 0.1,
    "steps_planned": 8,
    "steps": 8,
    "delta": 1e-5,
    "n_images": 1,
    "pos_weight": "none",
    "is_ended": False,
    "why": "",
}


def test_epsilon_together_is_that_of_all_steps():
    runs = [LINE | {"steps": 8}, LINE | {"steps": 12}]
    assert composition.epsilon_together(runs) == (
        accounting.epsilon_spent(1.0, 0.1, 20, 1e-5),
        1e-5,
    )
    assert composition.epsilon_together([])[0] == 0
    with_image = composition.epsilon_together(runs + [LINE | {"unit": "image", "n_images": 3}])
    assert with_image > composition.epsilon_together(runs + [LINE])


def test_the_least_delta_holds_for_all():
    runs = [LINE, LINE | {"delta": 1e-2}]
    assert composition.epsilon_together(runs) == (
        accounting.epsilon_spent(1.0, 0.1, 16, 1e-5),
        1e-5,
    )


def test_a_run_with_weights_from_private_labels_has_no_bound():
    runs = [LINE, LINE | {"pos_weight": "private labels"}]
    assert composition.epsilon_together(runs)[
        0
    ] == math.inf and "no bound at all" in composition.in_words(runs)
    assert "upper bound" not in composition.in_words(
        runs
    ) and "upper bound" in composition.in_words([LINE])
    with pytest.raises(
        errors.InputError,
        match="keep BUDGET = 900; got 2 on these patients, together no bound at all",
    ):
        composition.check_budget(900.0, runs)


def test_a_budget_is_kept_to_the_last_digit():
    together = composition.epsilon_together([LINE])[0]
    composition.check_budget(together, [LINE])
    composition.check_budget(None, [LINE] * 9)
    with pytest.raises(errors.InputError, match="Nothing was trained"):
        composition.check_budget(together * 0.999, [LINE])


@pytest.mark.parametrize("unit, n_images", [("patient", 1), ("image", 5)])
def test_a_promise_becomes_a_line_with_its_rate_noise_and_steps(unit, n_images):
    promised = {
        "unit": unit,
        "n_units": 200,
        "expected_batch_size": 20,
        "steps": 8,
        "noise_multiplier": 0.7,
        "delta": 1e-6,
        "max_images_per_patient": 5,
        "pos_weight": "public",
    }
    assert composition.line_of(promised) == {
        "unit": unit,
        "noise_multiplier": 0.7,
        "sample_rate": 0.1,
        "steps_planned": 8,
        "steps": 8,
        "delta": 1e-6,
        "n_images": n_images,
        "pos_weight": "public",
    }
    assert composition.line_of(promised, 3)["steps"] == 3


def test_table_has_a_row_a_run_with_its_own_epsilon():
    table = composition.table(
        [
            LINE,
            LINE
            | {
                "run": "s",
                "sample_rate": 0.2,
                "steps": 4,
                "is_ended": True,
                "why": "finished",
            },
        ]
    )
    assert (
        table["run"].tolist() == ["r", "s"]
        and table["steps"].tolist() == [8, 4]
        and table["begun"].tolist() == ["2026-11-28 10:00"] * 2
    )
    assert table["epsilon"].tolist() == [
        accounting.epsilon_spent(1.0, 0.1, 8, 1e-5),
        accounting.epsilon_spent(1.0, 0.2, 4, 1e-5),
    ]
    assert table["state"].tolist() == ["not ended: counts as planned", "finished"]
