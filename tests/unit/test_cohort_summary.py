"""Tables of who is in a cohort, worked by hand; patients of closed data are not named."""

import numpy as np
import pandas as pd
import pytest

from helpers.data import cohort_summary


def test_prevalence_on_four_images_worked_by_hand():
    table = pd.DataFrame(
        {
            "patient_id": ["1", "2", "3", "4"],
            "sex": ["female"] * 4,
            "effusion": [1.0, 0.0, 0.0, 1.0],
        }
    )
    row = cohort_summary.prevalence_by_group(table, ["effusion"], "sex", "open").iloc[0]
    # One image a patient: Wilson, n = 4, p = 1/2: (1/2 + 3.8416/8) / (1 + 3.8416/4) = 0.5,
    # half = sqrt(3.8416 (1/16 + 3.8416/64)) / 1.9604 = 0.3500
    assert (row["prevalence"], row["n_patients"]) == (0.5, 4)
    assert row["low"] == pytest.approx(0.1500, abs=2e-4) and row["high"] == pytest.approx(
        0.8500, abs=2e-4
    )


def test_prevalence_interval_counts_patients_and_misses_no_group():
    single = pd.DataFrame(
        {
            "patient_id": [str(i) for i in range(50)],
            "sex": "male",
            "effusion": [float(i % 5 == 0) for i in range(50)],
        }
    )
    # four equal images a patient tell no more than one
    fourfold = pd.concat([single] * 4, ignore_index=True)
    columns = ["prevalence", "low", "high", "n_patients"]
    one, four = (
        cohort_summary.prevalence_by_group(table, ["effusion"], "sex", "open")[columns].iloc[0]
        for table in (single, fourfold)
    )
    np.testing.assert_allclose(one.astype(float), four.astype(float))
    with_unknown = cohort_summary.prevalence_by_group(
        single.assign(sex=["unknown"] + ["female"] * 49), ["effusion"], "sex", "open"
    )
    assert (
        with_unknown["group"].tolist() == ["female", "unknown"] and with_unknown["low"].ge(0).all()
    )


def test_prevalence_by_split_is_that_of_each_split_alone():
    table = pd.DataFrame({"patient_id": list("abcdef"), "split": ["train"] * 3 + ["test"] * 3})
    table["effusion"] = [1.0, 1.0, 0.0, 0.0, 0.0, np.nan]
    rows = cohort_summary.prevalence_by_split(table, ["effusion"], "open").set_index("split")
    assert rows["prevalence"].to_dict() == pytest.approx({"train": 2 / 3, "test": 0.0})
    assert rows["n_images"].to_dict() == {"train": 3, "test": 2}  # of known label
    closed = cohort_summary.prevalence_by_split(table, ["effusion"], "on request")
    assert closed["n_images"].isna().all()


def test_examples_are_of_the_training_split_and_one_for_each_finding():
    table = pd.DataFrame(
        {"split": ["test", "train", "train", "train"], "a": [1, 1, 0, 1], "b": [0, 1, 0, 0]}
    )
    assert cohort_summary.examples(table, ["a", "b"])["shows"].to_dict() == {
        2: "none of the findings",
        3: "a",
        1: "b",
    }


def test_size_verdict_warns_of_a_small_cohort():
    table = pd.DataFrame({"split": "train", "patient_id": [str(i) for i in range(1000)]})
    assert "enough to try DP-SGD" in cohort_summary.size_verdict(table)
    assert "Its 58 training patients are far too few" in cohort_summary.size_verdict(table.head(58))


def test_notes_that_name_patients_are_shown_of_open_data_only():
    record = {
        "cohort": "ward",
        "access": "open",
        "notes": ["Patients 1, 2 have an identical image."],
    }
    (said,) = cohort_summary.notes(record)
    assert "Patients 1, 2" in said
    (said,) = cohort_summary.notes(record | {"access": "private"})
    assert "Patients 1, 2" not in said and "1 notes in its record.json" in said
    (said,) = cohort_summary.notes(record | {"notes": []})
    assert "nothing else" in said
