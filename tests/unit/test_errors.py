"""Validations accept what is right, and their messages say what to do."""

import math

import pandas as pd
import pytest

from helpers.core import errors


def test_refuse_says_expected_got_and_do():
    with pytest.raises(errors.InputError, match=r"^Expected a; got b\. Do c\.$"):
        errors.refuse("a", "b", "Do c.")


def test_examples_shows_three_and_counts_the_rest():
    assert errors.examples([1, 2, 3, 4, 5]) == "1, 2, 3 (+2 more)"
    assert errors.examples(["a"]) == "'a'"


def test_one_of_returns_the_value_or_names_the_closest():
    assert errors.one_of("unit", "image", ("patient", "image")) == "image"
    with pytest.raises(errors.InputError, match="Did you mean 'patient'"):
        errors.one_of("unit", "pateint", ("patient", "image"))


def test_one_of_many_names_the_closest_before_the_list():
    names = ["CLIP_NORM", "COHORT", "DELTA", "EPOCHS", "EPSILON", "MODE", "SEED"]
    with pytest.raises(errors.InputError, match="got 'EPOCH'. Did you mean 'EPOCHS'\\? Known are"):
        errors.one_of("the parameter", "EPOCH", names)
    with pytest.raises(errors.InputError, match="to be one of CLIP_NORM.*Choose one of these"):
        errors.one_of("the parameter", "zzz", names)


@pytest.mark.parametrize(
    "written, meant",
    [("patientid", "Patient ID"), ("PATIENT_ID", "Patient ID"), ("Agee", "age"), ("zzz", None)],
)
def test_nearest_looks_past_case_blanks_and_underscores(written, meant):
    said = errors.nearest(written, ["Patient ID", "age", "Finding Labels"])
    assert said == (f"Did you mean {meant!r}?" if meant else "")


@pytest.mark.parametrize("value", [0, -1, 11, math.nan, math.inf, "1", True, None])
def test_number_refuses_what_is_outside_or_no_number(value):
    with pytest.raises(errors.InputError, match=r"X to be a number in \(0, 10\]"):
        errors.number("X", value, 0, 10, open_low=True)


def test_number_accepts_its_ends_unless_open():
    assert errors.number("X", 0, 0, 10) == 0 and errors.number("X", 10, 0, 10) == 10


def test_number_refuses_a_fraction_where_an_integer_is_wanted():
    with pytest.raises(errors.InputError, match="an integer"):
        errors.number("EPOCHS", 1.5, 1, 10, integer=True)


def test_same_length_names_the_arrays():
    errors.same_length(labels=[1, 2], scores=[3, 4])
    with pytest.raises(
        errors.InputError, match="labels and scores of one length; got {'labels': 1, 'scores': 2}"
    ):
        errors.same_length(labels=[1], scores=[1, 2])


def test_has_columns_names_the_absent_ones():
    with pytest.raises(errors.InputError, match="columns 'b' in t.csv; got columns 'a'"):
        errors.has_columns(pd.DataFrame({"a": [1]}), ["a", "b"], "t.csv")


def test_file_exists_says_what_makes_it(tmp_path):
    assert errors.file_exists(tmp_path, "") == tmp_path
    with pytest.raises(errors.InputError, match="Run notebook 01 first"):
        errors.file_exists(tmp_path / "absent", "Run notebook 01 first.")
