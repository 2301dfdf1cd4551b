"""Groups: band edges belong to the upper band, nothing is dropped."""

import numpy as np
import pandas as pd
import pytest

from helpers.core import errors
from helpers.data import groups


def test_bands_put_an_edge_into_the_upper_band():
    ages = pd.Series([0, 29.9, 30, 60, 79.99, 80, 104, np.nan], name="age_years")
    assert groups.bands(ages, groups.AGE_EDGES_YEARS).tolist() == [
        "[0, 30)",
        "[0, 30)",
        "[30, 60)",
        "[60, 70)",
        "[70, 80)",
        ">= 80",
        ">= 80",
        "unknown",
    ]


def test_bands_keep_the_index_and_accept_counts_with_gaps():
    counts = pd.Series(
        [0, 1, 2, 3, None], index=[9, 8, 7, 6, 5], dtype="Int64", name="n_comorbidities"
    )
    banded = groups.bands(counts, groups.COMORBIDITY_EDGES)
    assert banded.to_dict() == {9: "[0, 1)", 8: "[1, 3)", 7: "[1, 3)", 6: ">= 3", 5: "unknown"}


def test_bands_refuse_a_value_outside_the_edges():
    with pytest.raises(errors.InputError, match=r"age_years in \[0, inf\); got -1"):
        groups.bands(pd.Series([5.0, -1.0], name="age_years"), groups.AGE_EDGES_YEARS)


def test_add_groups_knows_crossings_and_further_columns_and_keeps_every_row():
    table = pd.DataFrame(
        {"sex": ["female", "unknown"], "age_years": [82.0, np.nan], "view": ["PA", None]}
    )
    grouped = groups.add_groups(table, ["sex", "sex x age", "view"])
    assert grouped["group_sex x age"].tolist() == ["female x >= 80", "unknown x unknown"]
    assert grouped["group_view"].tolist() == ["PA", "unknown"]
    assert "group_sex" not in table  # the input is unchanged


def test_add_groups_cuts_age_at_given_edges_and_at_quartiles_of_test_patients():
    table = pd.DataFrame(
        {
            "patient_id": ["a", "a", "b", "c", "d", "e", "f"],
            "split": ["test"] * 6 + ["train"],
            "age_years": [20, 20, 40, 60, 80, np.nan, 99],
        }
    )
    assert groups.add_groups(table, ["age"], [0, 50])["group_age"].tolist() == ["[0, 50)"] * 3 + [
        ">= 50"
    ] * 2 + ["unknown", ">= 50"]
    # patients of 20, 40, 60, 80 years: quartiles 35, 50, 65; the second image of a counts nothing
    assert groups.add_groups(table, ["age quartile"])["group_age quartile"].tolist() == [
        "[0, 35)",
        "[0, 35)",
        "[35, 50)",
        "[50, 65)",
        ">= 65",
        "unknown",
        ">= 65",
    ]


def test_add_groups_refuses_an_unknown_attribute():
    table = pd.DataFrame({"sex": ["female"], "view": ["PA"]})
    with pytest.raises(errors.InputError, match="group attribute.*'veiw'.*Did you mean 'view'"):
        groups.add_groups(table, ["veiw"])


@pytest.mark.parametrize("attribute", ["patient_id", "image_id", "split", "ward"])
def test_only_columns_that_make_groups_are_offered(attribute):
    columns = dict(image_id="a", patient_id="p", split="test", sex="male", age_years=50.0)
    table = pd.DataFrame([columns | dict(effusion=1.0, view="PA", film_sha256="x")])
    with pytest.raises(errors.InputError) as refusal:
        groups.add_groups(table, [attribute])
    assert "one of sex, age, age quartile, comorbidities, sex x age, view; got" in str(
        refusal.value
    )


@pytest.mark.parametrize("site", [[1, 2, None], ["1", "2", ""], pd.array([1, 2, None], "Int64")])
def test_a_code_has_one_name_whether_or_not_another_is_missing(site):
    table = pd.DataFrame({"site": site})
    assert groups.add_groups(table, ["site"])["group_site"].tolist() == ["1", "2", "unknown"]
    shares = pd.DataFrame({"share": [1.0, 0.5, None]})
    assert groups.add_groups(shares, ["share"])["group_share"].tolist() == ["1.0", "0.5", "unknown"]
