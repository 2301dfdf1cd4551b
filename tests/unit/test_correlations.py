"""Correlations: by hand, against numpy, and how a shared term misleads."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, run_record

from helpers.analysis import correlations, study_arms
from helpers.analysis.metric_table import LEVELS


def test_pearson_agrees_with_numpy_and_needs_three_pairs():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(6, 50)), rng.normal(size=6)
    correlation = correlations.pearson(pd.DataFrame(x), y)
    assert correlation["estimate"] == pytest.approx(np.corrcoef(x[:, 0], y)[0, 1])
    assert correlation["low"] <= correlation["high"]
    assert correlation["n"] == 6
    assert np.isnan(correlations.pearson(pd.DataFrame(x[:2]), y[:2])["estimate"])


def budgets(*epsilons, **changes):
    """Records of private runs named by their budget."""
    return [run_record(f"e{epsilon:g}", "dp", epsilon, **changes) for epsilon in epsilons]


ARMS = arms_of(("base", "baseline"), *budgets(1.0))


def test_parity_against_epsilon_leaves_out_what_has_no_epsilon_and_other_recipes():
    theirs = budgets(9.0, recipe="theirs") + budgets(2.0, unit="image")
    arms = arms_of(("base", "baseline"), *budgets(0.5, 1.0, 4.0, 16.0), *theirs)
    values = {"base": 9.0, "e0.5": 1.0, "e1": 2.0, "e4": 4.0, "e16": 6.0, "e9": -50.0, "e2": 70.0}
    index = pd.MultiIndex.from_tuples(
        [(run, "accuracy", "macro", "sex", "female - male") for run in values], names=LEVELS
    )
    table = pd.DataFrame(np.outer(list(values.values()), np.ones(30)), index=index).assign(
        **dict.fromkeys(study_arms.BETWEEN_SEEDS, 0.0)
    )
    parity = correlations.parity_against_epsilon(table, arms, "accuracy").set_index("against")
    assert parity.loc["epsilon", "estimate"] == pytest.approx(
        np.corrcoef([0.5, 1, 4, 16], [1, 2, 4, 6])[0, 1]
    )
    # 1 to 6 is linear in the log
    assert parity.loc["log epsilon", "estimate"] == pytest.approx(1.0)
    assert (parity["n"] == 4).all()


def study(rng, n_findings=8, noise=0.03, drop=0.05):
    """AUROCs (findings) of one study whose true drop is the same for all findings.

    Measured on all and on two halves.
    """
    truth = rng.uniform(0.78, 0.90, n_findings)
    halves = [
        {
            "base": truth + noise * rng.standard_normal(n_findings),
            "e1": truth - drop + noise * rng.standard_normal(n_findings),
        }
        for _ in "ab"
    ]
    whole = {run: (halves[0][run] + halves[1][run]) / 2 for run in ("base", "e1")}
    return [
        pd.DataFrame(
            np.repeat(np.r_[aurocs["base"], aurocs["e1"]][:, None], 3, 1),
            index=pd.MultiIndex.from_product(
                [["base", "e1"], [f"f{k}" for k in range(n_findings)]], names=["run", "finding"]
            ),
        ).assign(**dict.fromkeys(study_arms.BETWEEN_SEEDS, 0.0))
        for aurocs in (whole, *halves)
    ]


def test_drops_against_non_private_auroc_lean_to_the_negative_only_where_coupled():
    rng = np.random.default_rng(0)
    n_positive = pd.Series(1.0, index=[f"f{k}" for k in range(8)])
    estimates = []
    for _ in range(300):
        whole, *halves = study(rng)
        estimates.append(
            correlations.of_drops(whole, halves, ARMS, "base", n_positive).set_index("against")[
                "estimate"
            ]
        )
    mean = pd.DataFrame(estimates).mean()
    assert mean["non-private AUROC, as published"] < -0.25
    assert abs(mean["mean of both arms"]) < 0.08
    assert abs(mean["non-private AUROC on the other half"]) < 0.08


def test_drops_by_finding_are_private_minus_non_private():
    whole, *halves = study(np.random.default_rng(1))
    influences = whole.assign(n_smaller=50.0, n_averaged=1.0, hidden_error=0.0)
    drops = correlations.drops_by_finding(influences, ARMS, "base", pd.Series({"f0": 70.0}))
    drops = drops.set_index("finding")
    assert drops.loc["f0", "drop"] == pytest.approx(
        whole.loc[("e1", "f0"), 0] - whole.loc[("base", "f0"), 0]
    )
    assert drops.loc["f0", "mean_auroc"] == pytest.approx(
        (whole.loc[("e1", "f0"), 0] + whole.loc[("base", "f0"), 0]) / 2
    )
    assert drops.loc["f0", "n_positive"] == 70
    assert drops.loc["f0", "arm_label"] == "epsilon 1"
    shuffled = whole.sort_index(level="finding", ascending=False)
    for table in (whole, shuffled):  # the order in which findings come decides nothing
        drop_correlations = correlations.of_drops(
            table,
            halves,
            ARMS,
            "base",
            pd.Series(np.arange(8.0), index=[f"f{k}" for k in range(8)]),
        )
        assert drop_correlations["estimate"].tolist() == pytest.approx(
            correlations.of_drops(
                whole,
                halves,
                ARMS,
                "base",
                pd.Series(np.arange(8.0), index=[f"f{k}" for k in range(8)]),
            )["estimate"].tolist()
        )
    rare = influences.copy()
    rare.loc[("e1", "f3")] = np.nan
    assert "f3" not in set(
        correlations.drops_by_finding(rare, ARMS, "base", pd.Series(dtype=float))["finding"]
    )
    assert correlations.drops_by_finding(influences, ARMS, None, pd.Series(dtype=float)).empty
    assert correlations.of_drops(whole, halves, ARMS, None, pd.Series(dtype=float)).empty


def test_halves_part_the_test_patients_and_leave_the_rest():
    table = pd.DataFrame(
        {
            "patient_id": np.repeat([f"p{k}" for k in range(50)], 2),
            "split": np.repeat(["test"] * 40 + ["valid"] * 10, 2),
        }
    )
    first, second = correlations.halves(table, 0)
    patients = [set(half.loc[half["split"] == "test", "patient_id"]) for half in (first, second)]
    assert len(patients[0]) == len(patients[1]) == 20
    assert not patients[0] & patients[1]
    assert all((half["split"] == "valid").sum() == 20 for half in (first, second))
