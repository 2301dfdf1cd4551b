"""Groups that are more exposed are found, and groups that are not are not called so."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import exposed_groups

ATTRIBUTE = "scanner"


def audit_of(extra, seed, n_patients=120, n_minority=20, n_pairs=8):
    """What models with and without each patient say; a minority's members are `extra` standard
    deviations further from the others.
    """
    stream = np.random.default_rng(seed)
    minority = np.arange(n_patients) < n_minority
    shift = 0.5 + extra * minority
    of_models = stream.normal(0, 0.3, (2, n_pairs, 1))  # what is common to a model's patients
    inside, outside = stream.normal(size=(2, n_pairs, n_patients)) + of_models
    of_patients = pd.DataFrame(
        {"patient_id": np.arange(n_patients).astype(str), ATTRIBUTE: np.where(minority, "B", "A")}
    )
    return inside + shift, outside, of_patients


def test_a_more_exposed_minority_is_found():
    table = exposed_groups.by_group(*audit_of(2.0, 0), 0.05)
    assert table["group"].tolist() == ["B"] and table["verdict"].tolist() == [exposed_groups.MORE]
    assert table["low"].iloc[0] > 0.1 and table["n_patients"].iloc[0] == 20
    assert "not equal protection" in exposed_groups.in_words(table, "non-private")
    assert "scanner: B +0." in exposed_groups.in_words(table, "non-private")


def test_absent_contrasts_are_called_no_more_often_than_they_may_be():
    rows = [exposed_groups.by_group(*audit_of(0.0, seed), 0.05).iloc[0] for seed in range(150)]
    called = sum(row["verdict"] in (exposed_groups.MORE, exposed_groups.LESS) for row in rows)
    assert called <= 15  # 5 % of 150 are 7.5; more than 15 has a chance below 1 %
    covered = sum(row["low"] <= 0 <= row["high"] for row in rows)
    assert covered == 150 - called  # one contrast a table: nothing to adjust for


def test_contrast_is_the_difference_of_means_and_its_interval_covers():
    true = np.mean(
        [
            exposed_groups.by_group(*audit_of(1.0, seed, 2000, 400), 0.05)["contrast"].iloc[0]
            for seed in range(30)
        ]
    )
    rows = [exposed_groups.by_group(*audit_of(1.0, seed), 0.05).iloc[0] for seed in range(150)]
    assert sum(row["low"] <= true <= row["high"] for row in rows) >= 135


def test_groups_of_few_patients_have_no_contrast():
    table = exposed_groups.by_group(*audit_of(2.0, 0, n_minority=9), 0.05)
    assert table["verdict"].tolist() == [exposed_groups.TOO_FEW]
    assert table[["n_patients", "auroc", "contrast", "low", "share_exposed"]].isna().all(axis=None)
    assert exposed_groups.in_words(table, "epsilon 1") == "epsilon 1: no group has enough patients."


def test_a_hidden_number_does_not_follow_from_the_others():
    inside, outside, of_patients = audit_of(0.0, 0)
    names = np.repeat(["a", "b", "c"], [8, 40, 72])
    table = exposed_groups.by_group(inside, outside, of_patients.assign(scanner=names), 0.05)
    assert table["n_patients"].isna().tolist() == [True, True, False]
    assert table["contrast"].notna().tolist() == [False, True, True]


def test_equal_groups_of_much_data_are_equivalent():
    table = exposed_groups.by_group(*audit_of(0.0, 3, 4000, 2000, 64), 0.05)
    assert table["verdict"].tolist() == ["equivalent"]
    assert "equal protection within the margin" in exposed_groups.in_words(table, "epsilon 1")


def test_a_difference_within_the_margin_does_not_matter_though_it_is_sure():
    table = exposed_groups.by_group(*audit_of(0.06, 3, 4000, 2000, 64), 0.05)
    assert table["p"].iloc[0] < 0.05 and table["verdict"].tolist() == ["equivalent"]


def test_groups_of_patients_take_all_their_images():
    table = pd.DataFrame(
        {
            "patient_id": ["a", "a", "b", "c", "c", "c", "c"],
            "split": "train",
            "scanner": ["A", "B", "B", "A", "A", "A", "A"],
            "mass": [0, 1, 0, np.nan, 0, 0, 0],
        }
    )
    found = exposed_groups.groups_of_patients(table, ["c", "a", "b"], ["scanner"], ["mass"])
    assert found["patient_id"].tolist() == ["c", "a", "b"]
    assert found["scanner"].tolist() == ["A", "several", "B"]
    assert found["images"].tolist() == [">= 4", "2-3", "1"]
    assert found["mass"].tolist() == ["absent", "present", "absent"]


@pytest.mark.parametrize(
    ("names", "compared"),
    [
        (["male", "female", "female"], ["female"]),
        (["present", "present", "absent"], ["present"]),
        (["A", "A", "B"], ["B"]),
        (["1", ">= 4", "2-3"], [">= 4", "1", "2-3"]),
    ],
)
def test_of_two_groups_one_is_compared(names, compared):
    assert exposed_groups._compared(pd.Series(names)) == compared
