"""Claims: what counts as the same, what is said of what differs, and of what cannot be read."""

import math

import pandas as pd
import pytest

from helpers.core import claims
from helpers.core.claims import Claim


@pytest.mark.parametrize(
    "one, other, same",
    [
        (0.1 + 0.2, 0.3, True),
        (0.3, 0.31, False),
        (math.nan, math.nan, True),
        (math.nan, 0.0, False),
        (1, 1.0, True),
        (True, 1, False),
        (None, 0, False),
        ("0.3", 0.3, False),
        ("a", "a", True),
        (1e-5, 1.00001e-5, False),
    ],
)
def test_numbers_are_the_same_but_for_rounding_and_all_else_exactly(one, other, same):
    assert claims.is_same(one, other) == same
    assert claims.is_same(other, one) == same


def test_what_differs_is_named_where_it_is():
    stored = {"a": 1, "parts": [{"steps": 3}, {"steps": 4}], "only": "here"}
    again = {"a": 1, "parts": [{"steps": 3}, {"steps": 5}]}
    assert claims.difference("", stored, stored) == []
    assert claims.difference("", stored, again) == [
        "parts 2 steps is 4, computed 5",
        "only is 'here', computed None",
    ]
    assert claims.difference("it", [1, 2], [1]) == ["it is [1, 2], computed [1]"]
    table = pd.DataFrame({"x": [1.0, math.nan, 3.0], "y": ["a", "b", "c"]})
    assert claims.differences_of_tables(table, table.copy()) == []
    other = table.assign(x=[1.0, math.nan, 3.5], y=["a", "B", "C"])
    assert claims.differences_of_tables(table, other) == [
        "row 3, x is 3, computed 3.5",
        "row 2, y is 'b', computed 'B'",
    ]
    assert "2 rows of" in claims.differences_of_tables(table.head(2), table)[0]
    assert claims.differences_of_tables(table[["y", "x"]], table)


def test_a_claim_differs_before_it_is_unchecked_and_holds_last():
    assert claims.of_parts("it", []) == Claim("it", claims.HOLDS)
    assert claims.of_parts("it", [], "no file") == Claim("it", claims.UNCHECKED, "no file")
    assert claims.of_parts("it", ["a"], "no file") == Claim("it", claims.DIFFERS, "a")
    assert claims.of_parts("it", list("abcde")).detail == "a; b; c (+2 more)"


def test_an_error_is_a_claim_that_differs_and_quotes_nothing():
    def compute(name):
        yield Claim(name, claims.HOLDS)
        raise KeyError("patient 4711")

    assert list(claims.guarded("it", compute, "first")) == [
        Claim("first", claims.HOLDS),
        Claim("it", claims.DIFFERS, "its files cannot be read (KeyError)"),
    ]
