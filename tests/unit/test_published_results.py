"""Published results.

What is shipped can be read, the unverified stays out, what printed numbers can and cannot be.
"""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import yaml

from helpers.analysis import printed_numbers, published_results
from helpers.core import errors

MINIMAL = {
    "name": "own",
    "title": "Own results",
    "source": "Ward report, table 1",
    "transcription": "first-hand",
    "unit": "patient",
    "delta": 0.001,
    "verified": True,
    "digits": 2,
    "metric": "auroc",
    "rows": [{"epsilon": 1.0, "auroc": 0.75}],
}


def written(folder, **changes):
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes), encoding="utf-8")
    return path


def values(*rows):
    """A table in the form of `read`: (epsilon, attribute, group, n_positive, n_negative, auroc)."""
    table = pd.DataFrame(
        rows, columns=["epsilon", "attribute", "group", "n_positive", "n_negative", "auroc"]
    )
    return table.astype({"n_positive": "Int64", "n_negative": "Int64"}).assign(
        study="own", digits=2
    )


@pytest.fixture(scope="module")
def pdac():
    return published_results.read("pdac")


# ---- reading


@pytest.mark.parametrize("name", published_results.names())
def test_read_accepts_every_shipped_file(name):
    table = published_results.read(name, verified_only=False)
    assert list(table) == published_results.COLUMNS
    assert set(table["study"]) == {name}
    assert len(table)
    assert table["auroc"].between(0.5, 1).all()
    assert np.isinf(table["epsilon"]).any()
    assert table["source"].str.len().min() > 20


def test_shipped_tables_are_whole(pdac):
    assert set(published_results.names()) >= {"pdac", "uka_cxr_unverified", "uka_domain_transfer"}
    assert pdac.groupby("attribute").size().to_dict() == {"age quartile": 40, "all": 10, "sex": 20}
    assert list(pdac["epsilon"].unique()) == [0.29, 0.54, 1.06, 2.04, 4.71, 5, 6, 7, 8, np.inf]
    assert len(published_results.read("uka_domain_transfer")) == 10
    assert pdac["source"].str.endswith("transcription: second-hand").all()


@pytest.mark.parametrize("name", published_results.names())
def test_read_never_returns_an_unverified_value_unless_asked(name, tmp_path):
    assert published_results.read(name)["verified"].all()
    rows = [{"epsilon": 1.0, "auroc": 0.7, "verified": False}, {"epsilon": 2.0, "auroc": 0.8}]
    mixed = published_results.read(written(tmp_path, rows=rows))
    assert mixed["epsilon"].tolist() == [2]
    assert list(mixed.index) == [0]
    assert published_results.read(tmp_path / "own.yaml", verified_only=False)[
        "verified"
    ].tolist() == [False, True]


def test_nothing_verified_gives_empty_tables_throughout():
    nothing = published_results.read("uka_cxr_unverified")
    assert nothing.empty
    assert len(published_results.read("uka_cxr_unverified", verified_only=False)) == 2
    for reduce in (
        published_results.contrasts,
        published_results.relative,
        printed_numbers.count_check,
        printed_numbers.attainability,
    ):
        assert reduce(nothing).empty
    assert published_results.correlation_with_epsilon(published_results.contrasts(nothing)).empty


def test_read_fills_in_what_a_row_leaves_out(tmp_path):
    row = published_results.read(
        written(tmp_path, delta=None, rows=[{"epsilon": "inf", "auroc": 0.8, "digits": 1}])
    ).iloc[0]
    assert row["epsilon"] == np.inf
    assert row["attribute"] == row["group"] == "all"
    assert row["digits"] == 1
    assert pd.isna(row["n_positive"])
    assert np.isnan(row["delta"])
    assert row["unit"] == "patient"


def test_read_refuses_an_unknown_name_and_lists_the_known(tmp_path):
    with pytest.raises(errors.InputError, match=r"pdac, .*got 'pdca'.*Did you mean 'pdac'"):
        published_results.read("pdca")
    with pytest.raises(
        errors.InputError,
        match=r"a file at .*other.yaml; got nothing there. Known published results: .*pdac",
    ):
        published_results.read(tmp_path / "other.yaml")


COUNTED = {"epsilon": 1.0, "auroc": 0.75, "n_positive": 3, "n_negative": 2}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"titel": "A"}, r"own.yaml; got titel: Extra inputs"),
        ({"source": None}, r"source: Input should be a valid string"),
        ({"name": "other"}, r"name: own in own.yaml; got name: other"),
        ({"verified": "perhaps"}, r"verified: Input should be a valid boolean"),
        ({"unit": "hospital"}, r"unit: Input should be 'image' or 'patient'"),
        ({"rows": []}, r"rows: is empty; write at least one entry"),
        (
            {"rows": [{"epsilon": 1.0, "auroc": 75}]},
            r"rows.0.auroc: Input should be less than or equal to 1",
        ),
        (
            {"rows": [{"epsilon": 1.0, "auroc": -0.1}]},
            r"rows.0.auroc: Input should be greater than or equal to 0",
        ),
        ({"rows": [{"epsilon": 1.0, "auroc": float("nan")}]}, r"rows.0.auroc: Input should be"),
        (
            {"rows": [{"epsilon": float("nan"), "auroc": 0.7}]},
            r"rows.0.epsilon: Input should be greater than 0",
        ),
        (
            {"rows": [{"epsilon": None, "auroc": 0.7}]},
            r"rows.0.epsilon: Input should be a valid number",
        ),
        (
            {"rows": [{"epsilon": 1.0, "auroc": 0.755}]},
            r"epsilon 1, all has more decimals than digits: 2",
        ),
        (
            {"rows": [{"epsilon": 1.0, "auroc": 0.7}, {"epsilon": 1.0, "auroc": 0.8}]},
            r"epsilon 1, all has two rows",
        ),
        (
            {"rows": [COUNTED | {"n_negative": None}]},
            r"epsilon 1, all has only one of n_positive and n_negative",
        ),
        (
            {"rows": [COUNTED | {"n_positive": 0}]},
            r"rows.0.n_positive: Input should be greater than or equal to 1",
        ),
    ],
)
def test_read_refuses_wrong_fields_and_names_file_and_field(tmp_path, changes, words):
    with pytest.raises(errors.InputError, match=words):
        published_results.read(written(tmp_path, **changes))


@pytest.mark.parametrize(
    "text", ["a: [1", "- a\n- b", "", "!!python/object/apply:os.system ['true']"]
)
def test_read_refuses_what_is_no_mapping_and_runs_nothing(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(errors.InputError, match="own.yaml"):
        published_results.read(tmp_path / "own.yaml")


# ---- reductions


def test_contrasts_of_one_budget_worked_by_hand(pdac):
    contrasts = (
        published_results.contrasts(pdac).query("epsilon == 0.29").set_index("group")["contrast"]
    )
    assert contrasts["female - male"] == pytest.approx(0.8547 - 0.8811)
    # quartiles hold 86, 85, 79 and 75 volumes
    assert contrasts["youngest 25% - rest"] == pytest.approx(
        0.8792 - (85 * 0.8587 + 79 * 0.8444 + 75 * 0.8915) / 239
    )
    assert contrasts["oldest 25% - rest"] == pytest.approx(
        0.8915 - (86 * 0.8792 + 85 * 0.8587 + 79 * 0.8444) / 250
    )
    assert len(contrasts) == 5
    assert len(published_results.contrasts(pdac)) == 50


def test_contrasts_are_missing_where_a_group_or_a_count_is():
    contrasts = published_results.contrasts(
        values(
            (1, "sex", "female", 5, 5, 0.7),
            (1, "age", "[0, 60)", 5, 5, 0.7),
            (1, "age", ">= 60", None, None, 0.8),
            (2, "age", "[0, 60)", 5, 5, 0.7),
        )
    )
    assert contrasts["group"].tolist() == [
        "female - male",
        "[0, 60) - rest",
        ">= 60 - rest",
        "[0, 60) - rest",
    ]
    assert np.isnan(contrasts["contrast"][[0, 1, 3]]).all()
    assert contrasts["contrast"][2] == pytest.approx(0.1)


def test_correlation_with_epsilon_agrees_with_numpy_and_leaves_infinity_out(pdac):
    table = published_results.contrasts(pdac)
    correlations = published_results.correlation_with_epsilon(table).set_index("group")
    assert (correlations["n"] == 9).all()
    assert len(correlations) == 5
    for group, part in table[table["epsilon"] < np.inf].groupby("group"):
        assert correlations.loc[group, "r_epsilon"] == pytest.approx(
            np.corrcoef(part["contrast"], part["epsilon"])[0, 1]
        )
        assert correlations.loc[group, "r_log_epsilon"] == pytest.approx(
            np.corrcoef(part["contrast"], np.log(part["epsilon"]))[0, 1]
        )


def test_correlation_of_a_straight_line_is_one_and_of_a_constant_or_two_budgets_missing():
    def correlation(contrasts):
        table = pd.DataFrame(
            {
                "study": "own",
                "attribute": "sex",
                "group": "female - male",
                "epsilon": [1.0, 2.0, 4.0, np.inf],
                "contrast": contrasts,
            }
        )
        return published_results.correlation_with_epsilon(table).iloc[0]

    assert correlation([0.1, 0.2, 0.4, 0.0])["r_epsilon"] == pytest.approx(1)
    assert correlation([0.1, 0.2, 0.3, 0.0])["r_log_epsilon"] == pytest.approx(1)
    assert np.isnan(correlation([0.3 - 0.2, 0.1, 0.2 - 0.1, 0.0])["r_epsilon"])
    assert correlation([0.1, 0.2, np.nan, 0.0])["n"] == 2
    assert np.isnan(correlation([0.1, 0.2, np.nan, 0.0])["r_epsilon"])


def test_relative_worked_by_hand(pdac):
    ratios = published_results.relative(pdac).set_index("epsilon")
    assert ratios.loc[0.29, "difference"] == pytest.approx(0.8684 - 0.9970)
    assert ratios.loc[0.29, "chance_corrected_ratio"] == pytest.approx(0.3684 / 0.4970)
    assert ratios.loc[np.inf, ["difference", "chance_corrected_ratio"]].tolist() == [0, 1]
    without = published_results.relative(pdac[pdac["epsilon"] < np.inf])
    assert len(without) == 9
    assert without[["difference", "chance_corrected_ratio"]].isna().all(axis=None)
    at_chance = published_results.relative(
        values((1, "all", "all", None, None, 0.6), (np.inf, "all", "all", None, None, 0.5))
    )
    assert at_chance["chance_corrected_ratio"].isna().all()


# ---- can it be so?


def test_count_check_finds_that_the_counts_do_not_close(pdac):
    counts = printed_numbers.count_check(pdac).set_index("attribute")
    assert counts.loc["sex", ["n_positive", "n_negative", "n"]].tolist() == [172, 152, 324]
    assert counts.loc["age quartile", ["n_positive", "n_negative", "n"]].tolist() == [173, 152, 325]
    assert 325 == 0.2 * 1625
    assert not counts["agree"].any()
    assert len(counts) == 2


def test_count_check_accepts_what_agrees_and_shows_sums_that_change_with_the_budget():
    rows = [
        (1, "sex", "female", 3, 4, 0.7),
        (1, "sex", "male", 5, 6, 0.7),
        (1, "age", "[0, 60)", 8, 10, 0.7),
    ]
    assert printed_numbers.count_check(values(*rows))["agree"].tolist() == [True, True]
    changed = printed_numbers.count_check(values(*rows, (2, "age", "[0, 60)", 8, 11, 0.7)))
    assert len(changed) == 3
    assert not changed["agree"].any()


def test_22_of_40_age_quartile_aurocs_are_unattainable(pdac):
    aurocs = printed_numbers.attainability(pdac)
    unattainable = aurocs[~aurocs["attainable"]]
    assert unattainable.groupby("attribute").size().to_dict() == {"age quartile": 22, "sex": 1}
    assert len(aurocs) == 60  # the total has no counts
    assert printed_numbers.attainability(pdac.assign(metric="macro_auroc")).empty


def test_22_of_40_holds_without_ties_too(pdac):
    def whole_wins_reach(row):
        wins = np.arange(row.n_positive * row.n_negative + 1)
        # |wins / pairs - value| <= half of the last digit, in whole numbers
        return (abs(20_000 * wins - 2 * round(row.auroc * 10_000) * wins[-1]) <= wins[-1]).any()

    ages = pdac[pdac["attribute"] == "age quartile"]
    assert sum(not whole_wins_reach(row) for row in ages.itertuples()) == 22


@pytest.mark.parametrize(
    "value, n_positive, n_negative, digits, expected",
    [
        # 2 x 3 pairs, 12 half wins: k / 12 = 0, 0.083, 0.167, 0.25, 0.333, 0.417, 0.5, 0.583,
        # 0.667,
        # ...
        (0.58, 2, 3, 2, True),
        (0.67, 2, 3, 2, True),
        (0.66, 2, 3, 2, False),
        (0.55, 2, 3, 2, False),
        (0.0, 2, 3, 2, True),
        (1.0, 2, 3, 2, True),
        (0.99, 2, 3, 2, False),
        (0.01, 2, 3, 2, False),
        (0.5, 1, 1, 1, True),
        (0.9, 1, 1, 1, False),  # one pair: 0, a tie or 1
        # 1/8 = 0.125 lies halfway: down or up
        (0.12, 2, 2, 2, True),
        (0.13, 2, 2, 2, True),
        (0.14, 2, 2, 2, False),
        (0.9377, 23, 63, 4, False),  # k / 2898: 2717 / 2898 = 0.93754, 2718 / 2898 = 0.93789
        (0.8792, 23, 63, 4, True),  # 1274 of 1449 pairs = 0.87923
    ],
)
def test_attainable_auroc_worked_by_hand(value, n_positive, n_negative, digits, expected):
    assert printed_numbers.attainable_auroc(value, n_positive, n_negative, digits) is expected


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_attainable_auroc_agrees_with_trying_every_number_of_half_wins(digits):
    step = 10**digits
    for n_positive, n_negative in [(1, 1), (1, 4), (2, 2), (3, 5), (4, 4), (5, 8), (7, 9)]:
        half_wins = 2 * n_positive * n_negative
        exact = [Fraction(k, half_wins) * step for k in range(half_wins + 1)]
        half = Fraction(1, 2)
        # halves up, halves down
        rounded = {math.floor(x + half) for x in exact} | {math.ceil(x - half) for x in exact}
        attainable_aurocs = {
            value
            for value in range(step + 1)
            if printed_numbers.attainable_auroc(value / step, n_positive, n_negative, digits)
        }
        assert attainable_aurocs == rounded


def test_every_value_is_attainable_with_enough_pairs_and_not_with_fewer():
    # 2 x 50 = 10^2
    assert all(printed_numbers.attainable_auroc(value / 100, 5, 10, 2) for value in range(101))
    # 98
    assert not all(printed_numbers.attainable_auroc(value / 100, 7, 7, 2) for value in range(101))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((93.77, 23, 63, 4), r"an AUROC in \[0, 1\] with at most 4 decimals; got 93.77"),
        ((float("nan"), 23, 63, 4), r"got nan"),
        ((0.93771, 23, 63, 4), r"at most 4 decimals; got 0.93771"),
        ((0.9, 0, 63, 4), r"whole counts of at least 1; got 0 positive and 63 negative"),
        ((0.9, 2.5, 63, 4), r"got 2.5 positive"),
    ],
)
def test_attainable_auroc_refuses_what_is_no_printed_auroc_or_no_count(arguments, words):
    with pytest.raises(errors.InputError, match=words):
        printed_numbers.attainable_auroc(*arguments)
