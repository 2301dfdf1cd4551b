"""Counts of few patients of data that are not open are hidden, and do not follow from totals."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import metric_table, paper_comparison, readable_tables
from helpers.core import errors, small_counts
from helpers.data import cohort_summary


def possible(shown, total):
    """All values that each hidden count (NaN) may have, given the total, hidden ones above 0."""
    hidden = [i for i, value in enumerate(shown) if np.isnan(value)]
    left = int(total - np.nansum(shown))
    values = [
        parts for parts in itertools.product(range(1, left + 1), repeat=len(hidden) - 1)
        if left - sum(parts) >= 1
    ] if hidden else []  # fmt: skip
    return [{*column} for column in zip(*((*parts, left - sum(parts)) for parts in values))]


@pytest.mark.parametrize("seed", range(60))
def test_no_small_count_follows_from_the_total(seed):
    generator = np.random.default_rng(seed)
    counts = generator.choice([0, 1, 2, 5, 9, 10, 12, 30], generator.integers(2, 5))
    table = pd.DataFrame({"n": counts})
    shown = small_counts.without_small(table, ["n"], ["n"])["n"].astype(float)
    is_small = (counts > 0) & (counts < small_counts.FEWEST)
    assert shown[is_small].isna().all()
    assert (shown[~shown.isna()] == counts[~shown.isna()]).all()
    assert shown.isna().any() == is_small.any()
    if shown.isna().sum() > 1 and counts[shown.isna()].sum() >= small_counts.FEWEST:
        assert all(len(values) > 1 for values in possible(shown.to_numpy(), counts.sum()))
    else:  # no further count could be hidden
        assert not is_small.any() or not (shown > 0).any()


def test_of_two_margins_neither_tells():
    cells = pd.DataFrame(
        {"age": list("aaabbbccc"), "sex": list("fmu") * 3, "n": [40, 50, 3, 60, 70, 20, 80, 90, 0]}
    )
    shown = small_counts.without_small(cells, ["n"], ["n"], ["age", "sex"])
    hidden = shown["n"].isna()
    assert hidden[2]
    for margin in ("age", "sex"):
        per_line = hidden.groupby(cells[margin]).sum()
        assert (per_line[per_line > 0] >= 2).all()


def test_one_total_says_nothing_of_another():
    table = pd.DataFrame({"attribute": ["sex"] * 2 + ["age"] * 3, "n": [50, 60, 4, 46, 60]})
    shown = small_counts.without_small(table, ["n"], ["n"], ["attribute"])
    assert shown["n"].isna().tolist() == [False, False, True, True, False]


def cohort_table():
    """A test split: 40 women, 60 men, 3 of unknown sex; 4 women and 20 men have an edema."""
    sex = ["female"] * 40 + ["male"] * 60 + ["unknown"] * 3
    edema = [1.0] * 4 + [0.0] * 36 + [1.0] * 20 + [0.0] * 43
    return pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(103)],
            "patient_id": [f"p{n}" for n in range(103)],
            "split": "test",
            "sex": sex,
            "age_years": [50.0] * 100 + [91.0, np.nan, np.nan],
            "edema": edema,
        }
    )


def test_sizes_of_small_groups_are_hidden_unless_data_are_open():
    def sizes(access):
        return metric_table.group_sizes(cohort_table(), ["edema"], ["sex"], None, access).set_index(
            "group"
        )

    assert sizes("open")["n_patients"].tolist() == [103, 40, 60, 3]
    closed = sizes("private")
    assert closed["n_patients"].isna().tolist() == [False, True, False, True]
    assert closed["positive_fraction"].isna().tolist() == [False, True, True, True]
    labels = readable_tables.with_sizes(closed.reset_index().assign(label="x"))
    assert labels.tolist()[1:3] == ["x (? patients, ? positive)", "x (60 patients, ? positive)"]


def test_prevalences_of_few_patients_are_hidden_unless_data_are_open():
    def shown(access):
        table = cohort_summary.prevalence_by_group(cohort_table(), ["edema"], "sex", access)
        return table.set_index("group")["prevalence"]

    assert shown("embedded").notna().all()
    # four women, and 24 - 20 are four; the three of unknown sex have none
    assert shown("credentialed").isna().all()


def test_unknown_values_of_few_and_single_ages_are_hidden_unless_data_are_open():
    row = cohort_summary.by_split(cohort_table(), "private").loc["test"]
    assert row[["sex_unknown", "age_unknown", "age_years_min", "age_years_max"]].isna().all()
    row = cohort_summary.by_split(cohort_table(), "open").loc["test"]
    assert (row["sex_unknown"], row["age_unknown"], row["age_years_max"]) == (3, 2, 91)


def test_rare_reasons_of_exclusion_are_one_unless_data_are_open():
    record = {"exclusions": {"no file": 40, "damaged": 2, "child": 3, "no view": 30}}
    record |= {"n_images": 500, "access": "private"}
    counts = cohort_summary.exclusions(record).set_index("what became of it")["rows"]
    assert counts.to_dict() == {
        "no file": 40, cohort_summary.RARE: 35, "kept": 500, "rows of the source": 575
    }  # fmt: skip
    assert "child" in cohort_summary.exclusions(record | {"access": "open"}).to_string()


def test_of_few_rows_left_out_no_number_is_said_unless_data_are_open():
    record = {"exclusions": {"damaged": 2, "child": 3}, "n_images": 500, "n_source_rows": 505}
    closed, open_ = record | {"access": "private"}, record | {"access": "open"}
    assert cohort_summary.exclusions(closed)["rows"].tolist() == [500]
    assert small_counts.left_out(closed).startswith("fewer than 10 rows")
    assert small_counts.left_out(open_).startswith("5 of the 505 rows")


def test_a_share_of_few_women_is_hidden_unless_data_are_open():
    table = cohort_table().assign(sex=["female"] * 4 + ["male"] * 99)
    assert pd.isna(cohort_summary.by_split(table, "private").loc["test", "female_percent"])
    assert cohort_summary.by_split(table, "open").loc["test", "female_percent"] > 3


def test_cells_of_a_crossing_do_not_tell_those_of_another_or_of_a_hidden_side():
    ages = [20] * 3 + [40] * 100 + [85] * 30 + [20] * 40 + [40] * 60 + [85] * 12
    table = pd.DataFrame(
        {
            "patient_id": [f"p{n}" for n in range(245)],
            "split": "test",
            "sex": ["female"] * 133 + ["male"] * 112,
            "age_years": ages,
            "edema": 1.0,
        }
    )
    sizes = metric_table.group_sizes(
        table, ["edema"], ["sex", "age", "sex x age"], [0, 30, 60, 80], "private"
    )
    crossed = sizes[sizes["attribute"] == "sex x age"].set_index("group")["n_patients"]
    hidden = crossed.isna()
    assert hidden["female x [0, 30)"]
    for side in (0, 1):
        per_line = hidden.groupby(hidden.index.str.split(" x ").str[side]).sum()
        assert (per_line[per_line > 0] >= 2).all()
    # a hidden side: 5 patients of [0, 30), and another age hidden with it
    few = table[(table["age_years"] != 20) | (np.arange(245) % 9 == 0)]
    sizes = metric_table.group_sizes(
        few, ["edema"], ["sex", "age", "sex x age"], [0, 30, 60, 80], "private"
    ).set_index(["attribute", "group"])["n_patients"]
    gone = sizes["age"].index[sizes["age"].isna()]
    assert len(gone) >= 2
    of_gone = [group for group in sizes["sex x age"].index if group.split(" x ")[1] in gone]
    assert sizes["sex x age"][of_gone].isna().all()


def test_findings_of_few_patients_are_hidden_unless_data_are_open():
    def cells(access):
        return paper_comparison.findings_per_image(cohort_table(), ["edema"], None, access)

    assert "(n=1)" in cells("open").to_string()
    closed = cells("private").to_string()
    assert paper_comparison.HIDDEN in closed and "(n=1)" not in closed


def test_estimates_from_few_patients_are_refused_unless_data_are_open():
    small_counts.estimable_fits(3, "open")
    small_counts.estimable_fits(10, None)
    with pytest.raises(errors.InputError, match="MIN_PATIENTS of at least 10 .* got 3"):
        small_counts.estimable_fits(3, "registration")
