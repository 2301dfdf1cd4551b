"""Whether printed numbers can be what they are said to be.

In: a table of printed AUROCs (`published_results.read`). Out: sums of the printed counts, and which
AUROCs a single test set with these counts can have. Raises `InputError` for what is no printed
AUROC or no count.
"""

import math
from fractions import Fraction

import numpy as np
import pandas as pd

from helpers.analysis import published_results
from helpers.core import errors


def count_check(table: pd.DataFrame) -> pd.DataFrame:
    """Return the sums of the groups' counts from `read`, one row an attribute, and whether all rows
    of a study `agree`.
    """
    counted = table[(table["attribute"] != published_results.ALL) & table["n_positive"].notna()]
    sums = counted.groupby(["study", "attribute", "epsilon"], sort=False)[
        ["n_positive", "n_negative"]
    ].sum()
    sums = sums.reset_index().drop(columns="epsilon").drop_duplicates(ignore_index=True)
    kinds = sums.drop(columns="attribute").drop_duplicates().groupby("study").size()
    return sums.assign(
        n=sums["n_positive"] + sums["n_negative"], agree=sums["study"].map(kinds) == 1
    )


def attainability(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `read` with counts, means over findings left out, and `attainable`, see
    `attainable_auroc`.
    """
    counted = table[table["n_positive"].notna() & (table["metric"] == "auroc")].reset_index(
        drop=True
    )
    attainable = [
        attainable_auroc(row.auroc, row.n_positive, row.n_negative, row.digits)
        for row in counted.itertuples()
    ]
    return counted.assign(attainable=np.array(attainable, dtype=bool))


def attainable_auroc(value: float, n_positive: int, n_negative: int, digits: int) -> bool:
    """Return whether a printed AUROC can be that of a single test set with the printed counts.

    An AUROC is the share of the pairs (positive, negative) that are ranked rightly, a tie counting
    one half. With P positives and N negatives it is k / (2 P N) for a whole k; a value is
    attainable if one of these rounds to it, either way when it lies halfway. 0.9377 with P = 23, N
    = 63: k / 2898 in [0.93765, 0.93775] needs k in [2717.31, 2717.60], where no number is whole. So
    0.9377 is a mean (over seeds, folds or resamples), has other counts, or is misprinted.
    Attainable says little: by chance a share of 2 P N / 10^digits of all values is, and all from 2
    P N = 10^digits on.

    Args:
        value, digits: as printed, a fraction in [0, 1], and the number of its printed decimals.
        n_positive, n_negative: P and N, whole, at least 1.

    Raises:
        InputError: the value lies outside [0, 1] or has more decimals; a count is below 1 or not
            whole.

    Source: Brown and Heathers (2017), Soc Psychol Personal Sci 8:363, the same test of printed
    means.
    """
    if not 0 <= value <= 1 or published_results.exact(value) * 10**digits % 1:
        errors.refuse(
            f"an AUROC in [0, 1] with at most {digits} decimals",
            value,
            "Pass it as printed, as a fraction.",
        )
    if min(n_positive, n_negative) < 1 or n_positive % 1 or n_negative % 1:
        errors.refuse(
            "whole counts of at least 1",
            f"{n_positive} positive and {n_negative} negative",
            "Leave the value out.",
        )
    half_wins, half_step = 2 * int(n_positive) * int(n_negative), Fraction(1, 2 * 10**digits)
    lowest = math.ceil(max(published_results.exact(value) - half_step, 0) * half_wins)
    return lowest <= math.floor(min(published_results.exact(value) + half_step, 1) * half_wins)
