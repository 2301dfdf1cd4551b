"""Patients needed: a planted law is found again, with an interval that covers, or refused."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import patients_needed
from helpers.core import errors

SIZES, EPSILONS = (1000, 2000, 4000, 8800, 17_500, 35_000), (1.06, 7.89)


def curve_of(law, noise=0.0, n_replicates=200, seed=0):
    """A learning curve of a law: runs and test patients (the same for all runs) both vary."""
    rng, rows = np.random.default_rng(seed), []
    of_patients = noise * rng.standard_normal(1 + n_replicates)
    for n_patients in SIZES:
        for epsilon in EPSILONS:
            share = law.share(n_patients * epsilon) + noise * rng.standard_normal()
            replicates = (share + of_patients[1:] + of_patients[0]).tolist()
            row = (n_patients, epsilon, share + of_patients[0], replicates)
            rows.append(dict(zip(patients_needed.COLUMNS, row)))
    return pd.DataFrame(rows)


def test_the_law_worked_by_hand():
    law = patients_needed.Law(scale=10_000, power=0.5)
    # half at the scale; (40,000 / 10,000)^0.5 = 2, and 2 / (1 + 2)
    assert law.share(np.array([10_000, 40_000])) == pytest.approx([1 / 2, 2 / 3])
    assert law.product(2 / 3) == pytest.approx(40_000)


@pytest.mark.parametrize("power", [0.4, 0.8, 1.5])
def test_a_planted_law_is_found_again(power):
    law = patients_needed.Law(20_000, power)
    needed = patients_needed.patients_needed(1.06, 0.6, curve_of(law), n_bootstrap=20)
    wanted = 20_000 * (0.6 / 0.4) ** (1 / power) / 1.06
    assert needed.estimate == pytest.approx(wanted, rel=0.001) and needed.misfit < 1e-6
    assert needed.low == pytest.approx(wanted, rel=0.01) == needed.high  # nothing varies


def test_the_interval_covers_and_grows_with_noise():
    law, wanted, hits, widths = patients_needed.Law(20_000, 0.7), 20_000 / 7.89, 0, {}
    for noise in (0.01, 0.04):
        found = [
            patients_needed.patients_needed(
                7.89, 0.5, curve_of(law, noise, seed=seed), n_bootstrap=100
            )
            for seed in range(12)
        ]
        hits += sum(needed.low < wanted < needed.high for needed in found)
        widths[noise] = np.mean([needed.high / needed.low for needed in found])
    assert hits >= 18 and widths[0.04] > widths[0.01] > 1


def test_smaller_budgets_need_more_patients_and_larger_shares_too():
    table = patients_needed.table(
        curve_of(patients_needed.Law(20_000, 0.7)), list(EPSILONS), [0.3, 0.5, 0.7]
    )
    by_budget = table.pivot(index="share", columns="epsilon", values="patients")
    assert (by_budget[1.06] > by_budget[7.89]).all() and by_budget[7.89].is_monotonic_increasing
    far = patients_needed.table(curve_of(patients_needed.Law(20_000, 0.7)), [1.06], [0.98])
    assert far["patients"].isna().all()


def test_no_number_is_given_far_from_the_patients_that_were_measured():
    law = patients_needed.Law(20_000, 0.7)
    curve = curve_of(law)
    for epsilon, n_patients in ((1.06, 120_000), (7.89, 300)):  # products are within the curve
        with pytest.raises(errors.InputError, match="from 1,000 to 35,000 patients"):
            patients_needed.patients_needed(epsilon, law.share(n_patients * epsilon), curve)
    near = law.share(90_000 * 1.06)
    needed = patients_needed.patients_needed(1.06, near, curve_of(law, 0.05), n_bootstrap=100)
    assert needed.high == np.inf and needed.low > 1000 / 3
    few = law.share(500 * 7.89)
    needed = patients_needed.patients_needed(7.89, few, curve_of(law, 0.05), n_bootstrap=100)
    assert needed.low == 0 and needed.high < np.inf


def test_what_the_curve_does_not_tell_is_refused():
    curve = curve_of(patients_needed.Law(20_000, 0.7))
    with pytest.raises(errors.InputError, match="a share that the curve tells of, 0"):
        patients_needed.patients_needed(1.06, 0.98, curve)
    with pytest.raises(errors.InputError, match="epsilon"):
        patients_needed.patients_needed(20, 0.5, curve)
    with pytest.raises(errors.InputError, match="target_share"):
        patients_needed.patients_needed(1.06, 1.0, curve)
    with pytest.raises(errors.InputError, match="at least 4 different patients x epsilon; got 2"):
        patients_needed.patients_needed(1.06, 0.5, curve[curve["n_patients"] == 1000])
    with pytest.raises(errors.InputError, match="replicates"):
        patients_needed.patients_needed(1.06, 0.5, curve.drop(columns="replicates"))
