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
        ("45years", r'age.unit_suffixes: {"years": years}'),
        ("45 J", r'age.unit_suffixes: {"J": years}'),
        ("010T", r'age.unit_suffixes: {"T": days}'),
        ("45 moons", r'age.unit_suffixes: {"moons": ...}'),
        ("90 or older", r'age.at_least: {"90 or older": 90}'),
        ("older than 89", r'age.at_least: {"older than 89": 90}'),
        ("16,425d", "Write '16,425d' without commas"),
    ],
)
def test_a_cell_that_no_rule_reads_is_refused_with_the_rule_that_would(cell, rule):
    with pytest.raises(errors.InputError, match=f"in 2 rows.*{rule.replace('+', '.')}"):
        ages(["41", cell, "42", cell])


def test_codes_for_unknown_and_decimal_commas_are_read_as_numbers():
    found, notes = ages(["99", "99.0", "099", "40,5", "18,25M", "45,123"], missing=["99"])
    np.testing.assert_allclose(found, [np.nan] * 3 + [40.5, 18.25 / 12, 45.123])
    assert notes == []
    with pytest.raises(errors.InputError, match="Write '16,425' without commas"):
        ages(["16,425", "12000"], unit="days")  # 45 years, or 16 days


def test_ages_that_are_impossible_on_most_rows_are_refused_with_the_unit():
    days = [str(12000 + 100 * k) for k in range(30)]
    for cells in (days, [*days, "0", "45"]):
        with pytest.raises(errors.InputError, match="30 impossible ones.*age.unit: days`"):
            ages(cells)
    assert np.isnan(ages(["999"] * 30 + ["50", "60"])[0]).sum() == 30  # a code: a note
    dates = {"birth": ["2010-01-01"], "study": ["1950-01-01"]}
    with pytest.raises(errors.InputError, match="Are the columns of `age` the right ones"):
        ages(dates, birth_date="birth", study_date="study")


def test_a_date_of_two_forms_is_refused_and_a_time_of_day_is_not():
    rule = dict(birth_date="birth", study_date="study")
    forms = dict(date_formats=["%d/%m/%Y", "%m/%d/%Y"])
    with pytest.raises(errors.InputError, match="one date a cell.*got '03/04/1950'"):
        ages({"birth": ["25/03/1950", "03/04/1950"], "study": ["01/01/2010"] * 2}, **rule | forms)
    found, _ = ages({"birth": ["25/03/1950"], "study": ["03/03/2010"]}, **rule | forms)
    assert 59 < found[0] < 60
    study = ["2010-03-14 10:30:00", "2010-03-14T23:59:59.5Z", "20100314 1:05 PM"]
    found, _ = ages({"birth": ["1950-03-14"] * 3, "study": study}, **rule)
    np.testing.assert_allclose(found, [60, 60, 60], atol=0.001)


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
