"""Ages worked by hand: units, bounds, dates, codes for unknown; what no rule reads is named."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from helpers.core import errors
from helpers.data import rule_schema
from helpers.data.tables import patient_ages

YEAR = 365.25


def ages(cells: list[str] | dict[str, list[str]], **rule: object) -> tuple[list[float], list[str]]:
    columns = cells if isinstance(cells, dict) else {"age": cells}
    rule = rule if isinstance(cells, dict) else {"column": "age"} | rule
    text = pd.DataFrame(columns, dtype=object)
    years, notes = patient_ages.ages(rule_schema.Age.model_validate(rule), text, "films.csv")
    return years.tolist(), notes


@pytest.mark.parametrize(
    "cells, rule, years",
    [
        # DICOM's form, whatever the column's unit
        (["042Y", "018m", "003W", "010d"], {}, [42, 1.5, 21 / YEAR, 10 / YEAR]),
        (["042Y", "18"], dict(unit="months"), [42, 1.5]),
        (["7", "7.5", "", "52"], dict(unit="weeks"), [49 / YEAR, 52.5 / YEAR, np.nan, 364 / YEAR]),
        (
            ["5 mo", "61yrs", "2 weeks", "40"],
            dict(unit_suffixes={"mo": "months", "yrs": "years", "weeks": "weeks"}),
            [5 / 12, 61, 14 / YEAR, 40],
        ),
        (["5M"], dict(unit_suffixes={"M": "years"}), [5]),  # said so: before DICOM's form
        (
            [">89", "90+", "<1", "88"],
            dict(at_least={">89": 90, "90+": 90, "<1": 0}),
            [90, 90, 0, 88],
        ),
        (["n/a", "999", "33"], dict(missing=["n/a", "999"]), [np.nan, np.nan, 33]),
    ],
)
def test_ages_as_recorded_worked_by_hand(cells, rule, years):
    found, notes = ages(cells, **rule)
    np.testing.assert_allclose(found, years)
    assert notes == []


def test_codes_for_unknown_are_impossible_ages_counted_with_the_commonest():
    found, notes = ages(["999", "45", "-1", "999", "155", "999Y"])
    np.testing.assert_array_equal(found, [np.nan, 45, np.nan, np.nan, np.nan, np.nan])
    assert notes == [
        "5 rows with an impossible age (below 0 or above 120 years) count as age unknown; column"
        " 'age' has there '999' (2), '-1' (1), '155' (1) and 1 more."
    ]


@pytest.mark.parametrize(
    "cell, rule",
    [
        ("> 89", r'age.at_least: {"> 89": 90}'),
        (">=90", r'age.at_least: {">=90": 90}'),
        ("<1", r'age.at_least: {"<1": 0}'),
        ("90+", r'age.at_least: {"90+": 90}'),
        ("18 mths", r'age.unit_suffixes: {"mths": months}'),
        ("n/a", "age.missing: \\['n/a'\\]"),
        ("45,5", "age.missing: \\['45,5'\\]"),
    ],
)
def test_a_cell_that_no_rule_reads_is_refused_with_the_rule_that_would(cell, rule):
    with pytest.raises(errors.InputError, match=f"in 2 rows.*{rule.replace('+', '.')}"):
        ages(["41", cell, "42", cell])


def test_age_from_birth_and_study_dates():
    dates = {
        "birth": ["1950-03-14", "19500315", "1950", "1950.0", "", "1999-12-31 00:00:00"],
        "study": ["2010-03-14", "20100314", "2010-07-01", "20100101", "20100101", "20000101"],
    }
    rule = dict(birth_date="birth", study_date="study", date_formats=["%Y-%m-%d", "%Y%m%d", "%Y"])
    # on the 60th birthday, the day before, 60 years after 1 July, half a year less
    found, notes = ages(dates, **rule)
    np.testing.assert_allclose(found[:4], [60, 60, 60, 59.5], atol=0.005)
    assert found[0] >= 60 > found[1] and np.isnan(found[4]) and found[5] == 1 / YEAR and not notes


def test_a_birth_after_the_study_is_unknown_but_for_a_year_alone():
    dates = {"birth": ["2011-01-01", "2010", "1880-01-01"], "study": ["2010-03-01"] * 3}
    rule = dict(birth_date="birth", study_date="study", date_formats=["%Y-%m-%d", "%Y"])
    found, notes = ages(dates, **rule)
    np.testing.assert_array_equal(found, [np.nan, 0, np.nan])
    assert "2 rows with an impossible age" in notes[0] and "'2011-01-01' (1)" in notes[0]


def test_dates_in_no_form_are_refused_and_need_a_century():
    rule = dict(birth_date="birth", study_date="study")
    for odd in ("14.03.1950", "195011", "1950-13-01"):  # the second is no date of 1 January
        with pytest.raises(errors.InputError, match=f"dates as %Y-%m-%d or %Y%m%d; got '{odd}'"):
            ages({"birth": [odd], "study": ["2010-01-01"]}, **rule)
    with pytest.raises(ValidationError, match="a year of two digits"):
        ages({"birth": [], "study": []}, **rule | dict(date_formats=["%d.%m.%y"]))


def test_anchor_ages_are_moved_to_the_year_of_the_study():
    """MIMIC-IV: 52 in 2180 is 54 in 2182; 91 stands for all above 89."""
    table = {
        "age": ["52", "91", "", "20"],
        "year": ["2180", "2150", "2100", "2110.0"],
        "date": ["21820506", "21500101", "21000101", "21080101"],
    }
    rule = dict(anchor_age="age", anchor_year="year", study_date="date")
    np.testing.assert_array_equal(ages(table, **rule)[0], [54, 91, np.nan, 18])


@pytest.mark.parametrize(
    "rule",
    [
        {},
        dict(column="age", birth_date="b", study_date="s"),
        dict(column="age", study_date="s"),
        dict(birth_date="b"),
        dict(anchor_age="a", study_date="s"),
    ],
)
def test_an_age_has_one_source(rule):
    with pytest.raises(ValidationError, match="needs `column`, or `birth_date`"):
        rule_schema.Age.model_validate(rule)
