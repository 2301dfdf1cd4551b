"""Contrasts within strata: a planted Simpson table, and a harm that every stratum has."""

import numpy as np
import pandas as pd
import pytest
from conftest import arms_of, image_table, logistic, predictions_of, run_record

from helpers.analysis import estimate_tables, group_contrasts, influence_table, strata
from helpers.core import errors

ARMS = arms_of(("base", "baseline"), ("dp", "dp", 2.0))


def two_sites(harm=0.0, n=3000, seed=1):
    """Site B is small for men and large for women, has more sick patients and higher scores, which
    are worth less: in the pool women seem to be served worse. `harm` lowers the evidence in women
    of both sites.
    """
    rng = np.random.default_rng(seed)
    female = rng.random(n) < 0.5
    at_b = rng.random(n) < np.where(female, 0.7, 0.2)
    label = (rng.random(n) < np.where(at_b, 0.3, 0.5)).astype(float)
    evidence = np.where(at_b, 1.0, 2.4) * (1 - harm * female)
    noise = rng.standard_normal(n)
    table = image_table(
        np.arange(n),
        sex=np.where(female, "female", "male"),
        site=np.where(at_b, "B", "A"),
        view="PA",
        edema=label,
    )
    scores = {
        run: logistic(evidence * label + noise + 0.2 * rng.standard_normal(n))
        for run in ("base", "dp")
    }
    return table, {run: predictions_of(table, {"edema": score}) for run, score in scores.items()}


def of_sex(predictions, table):
    return influence_table.of_auroc(predictions, table, ["sex"])


def contrasts_of(harm=0.0, stratum="site", **options):
    table, predictions = two_sites(harm)
    influences = influence_table.of_auroc(predictions, table, ["sex", "site"])
    rows = strata.contrasts(predictions, table, influences, stratum, ARMS, **options)
    return rows[(rows["run"] == "base") & (rows["what"] == "contrast")].set_index("stratum")


def test_a_harm_that_no_site_has_is_seen_in_the_pool_and_gone_at_a_common_case_mix():
    rows = contrasts_of()
    assert list(rows.index) == ["pooled", "common case mix", "A", "B"]
    assert (rows["attribute"] == "sex").all()  # the stratum itself is no attribute
    assert rows.loc["pooled", "high"] < -0.04
    for name in ("A", "B", "common case mix"):
        assert rows.loc[name, "low"] < 0 < rows.loc[name, "high"]
    shares = rows.loc[["A", "B"], "share"]
    assert shares.sum() == pytest.approx(1) and shares["A"] == pytest.approx(0.55, abs=0.03)
    assert rows.loc["common case mix", "estimate"] == pytest.approx(
        (rows.loc[["A", "B"], "estimate"] * shares).sum()
    )
    assert rows.loc["common case mix", "share"] == pytest.approx(1)


def test_a_harm_that_every_site_has_stays():
    rows = contrasts_of(harm=0.5)
    assert (rows["high"] < 0).all()
    assert (rows["remark"] == "").all()


def test_a_sign_that_turns_is_remarked():
    table, predictions = two_sites(harm=-0.4)  # women are served better at each site
    rows = strata.contrasts(predictions, table, of_sex(predictions, table), "site", ARMS)
    of_base = rows[(rows["run"] == "base") & (rows["what"] == "contrast")].set_index("stratum")
    assert of_base.loc["pooled", "estimate"] < 0 < of_base.loc["common case mix", "low"]
    assert (of_base["remark"] == strata.OTHER_SIGN).all()


def test_changes_of_gaps_are_compared_within_strata_too():
    table, predictions = two_sites()
    influences = of_sex(predictions, table)
    rows = strata.contrasts(predictions, table, influences, "site", ARMS, baseline="base")
    changes = rows[rows["what"] == "gap_change"].set_index("stratum")
    assert set(changes["run"]) == {"dp"} and len(changes) == 4
    assert (changes["high"] - changes["low"] < 0.06).all()  # paired: most noise is shared
    assert changes["estimate"].abs().max() < 0.02


def test_a_stratum_in_which_a_group_is_not_estimable_is_left_out_and_the_share_says_so():
    table, predictions = two_sites()
    table.loc[(table["site"] == "A") & (table["sex"] == "female"), "edema"] = 0.0
    for rows in predictions.values():
        rows["label"] = table["edema"].to_numpy()
    rows = strata.contrasts(predictions, table, of_sex(predictions, table), "site", ARMS)
    of_base = rows[(rows["run"] == "base") & (rows["what"] == "contrast")].set_index("stratum")
    assert np.isnan(of_base.loc["A", "estimate"])
    assert of_base.loc["common case mix", "estimate"] == of_base.loc["B", "estimate"]
    assert of_base.loc["common case mix", "share"] == pytest.approx(0.45, abs=0.03)


def test_the_pooled_row_is_that_of_the_table_of_contrasts():
    table, predictions = two_sites()
    influences = of_sex(predictions, table)
    pooled = strata.contrasts(predictions, table, influences, "site", ARMS)
    pooled = pooled[pooled["stratum"] == "pooled"].set_index("run")
    shown = estimate_tables.auroc_contrasts(group_contrasts.with_means(influences), ARMS)
    shown = shown.set_index("run")
    for name in ("estimate", "low", "high"):
        assert pooled[name].to_dict() == pytest.approx(shown[name].to_dict())


@pytest.mark.slow
def test_the_common_case_mix_covers_in_small_groups_with_several_seeds():
    arms = arms_of(("base", "baseline"), run_record("dp", "baseline", seed=1))
    covered = []
    for seed in range(120):
        table, predictions = two_sites(n=260, seed=seed)
        rows = strata.contrasts(predictions, table, of_sex(predictions, table), "site", arms)
        row = rows.set_index("stratum").loc["common case mix"]
        covered.append(row["low"] <= 0 <= row["high"])
    assert np.mean(covered) > 0.91


def test_without_contrasts_there_are_no_rows_and_a_stratum_called_pooled_is_refused():
    table, predictions = two_sites()
    influences = influence_table.of_auroc(predictions, table, ["site"])
    assert list(strata.contrasts(predictions, table, influences, "site", ARMS)) == strata.COLUMNS
    alone = table.assign(sex="female")
    influences = of_sex(predictions, alone)
    assert strata.contrasts(predictions, alone, influences, "site", ARMS).empty
    named = table.assign(site=table["site"].replace({"A": "pooled"}))
    with pytest.raises(errors.InputError, match="other names of groups of site; got 'pooled'"):
        strata.contrasts(predictions, named, of_sex(predictions, named), "site", ARMS)


@pytest.mark.parametrize("weight", [0.95, -0.95])
def test_strata_of_images_share_patients_and_the_interval_knows(weight):
    """Each patient has a film of each view; what makes one score high does so in both, or reverses.

    The common case mix has the standard error of its influences, not that of strata apart.
    """
    rng, n = np.random.default_rng(3), 400
    female, label = rng.random(n) < 0.5, (rng.random(n) < 0.5).astype(float)
    lasting = rng.standard_normal(n)
    noise = np.r_[lasting, weight * lasting + np.sqrt(1 - weight**2) * rng.standard_normal(n)]
    table = image_table(
        np.tile(np.arange(n), 2),
        sex=np.tile(np.where(female, "female", "male"), 2),
        view=np.repeat(["AP", "PA"], n),
        a=np.tile(label, 2),
    )
    predictions = {"base": predictions_of(table, {"a": np.tile(label, 2) + noise})}
    influences = influence_table.of_auroc(predictions, table, ["sex"])
    rows = strata.contrasts(predictions, table, influences, "view", arms_of(("base", "baseline")))
    width = (rows["high"] - rows["low"]).set_axis(rows["stratum"])
    apart = np.hypot(width["AP"], width["PA"]) / 2  # as if no patient had both
    ratio = width["common case mix"] / apart
    assert 1.25 < ratio < 1.45 if weight > 0 else ratio < 0.6


def test_a_stratum_that_is_known_of_nobody_has_no_rows():
    table, predictions = two_sites()
    blank = table.assign(site="")
    rows = strata.contrasts(predictions, blank, of_sex(predictions, blank), "site", ARMS)
    assert list(rows) == strata.COLUMNS and rows.empty


def test_pooled_and_common_case_mix_stand_side_by_side_and_are_counted_in_words():
    table, predictions = two_sites(0.0)
    influences = influence_table.of_auroc(predictions, table, ["sex", "site"])
    rows = strata.contrasts(predictions, table, influences, "site", ARMS, baseline="base")
    rows = rows.assign(strata="site", label="female - male", arm_label=rows["run"])
    shown = strata.side_by_side(rows, "contrast")
    assert list(shown) == ["pooled", "common case mix", "mean over", "n_findings"]
    of_pool = rows[(rows["what"] == "contrast") & (rows["stratum"] == "pooled")].set_index("run")
    for (_, label, run), row in shown.iterrows():
        one = of_pool.loc[run]
        assert label == "female - male"
        assert row["mean over"] == "A, B"
        assert row["pooled"] == f"{one['estimate']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"

    def row(stratum, low, high, what="gap_change"):
        about = dict(strata="site", what=what, attribute="sex", group="female - male")
        about |= {"arm_label": "epsilon 1", "estimate": (low + high) / 2, "share": 0.94}
        return about | {"stratum": stratum, "low": low, "high": high}

    changes = [
        row("pooled", -0.06, 0.01),
        row("common case mix", -0.01, 0.01),
        row("A", -0.01, 0.01),
    ]
    rows = pd.DataFrame([*changes, row("pooled", -1, 1, "contrast")])
    planned = pd.DataFrame([dict(attribute="sex", group="female - male", arm_label="epsilon 1")])
    words = strata.in_words(rows, planned, 0.02)
    assert words.startswith(
        "Within strata of site (A; 94% of the patients): 1 of 1 planned changes"
    )
    assert "common case mix, 0 of 1 pooled" in words
    assert strata.in_words(rows, planned, 0.005).count("0 of 1") == 2
    assert strata.in_words(rows, planned.assign(group="other"), 0.02) == ""
    assert strata.in_words(pd.DataFrame(), planned, 0.02) == ""
