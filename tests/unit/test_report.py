"""A study's report: answers worked by hand from small tables, and the page of a folder that has
little.
"""

import re

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import price_parts
from helpers.core import errors, files
from helpers.study import (
    __main__ as command,
)
from helpers.study import (
    checklist,
    report,
    report_answers,
    report_privacy,
    report_sections,
    report_who_pays,
    report_words,
)

WORSE = "worse by more than the margin, for the "
DIFFERENT = "differs from 0, not beyond the margin"


def arms(**changes):
    """A summary of a model without privacy and a private one."""
    both = {"recipe": "default", "n_seeds": 1, "low": 0.75, "high": 0.85, "macro_auroc": 0.8}
    both |= dict.fromkeys([f"{of}_{what}" for of in ("sex", "age") for what in ("low", "high")])
    both |= {"sex_contrast": -0.02, "age_contrast": np.nan, "mode": None}
    base = both | {"run": "base", "arm": "baseline", "arm_label": "no privacy", "unit": None}
    private = {
        "run": "dp",
        "arm": "dp",
        "arm_label": "epsilon 2",
        "unit": "patient",
        "epsilon": 2.0,
    }
    return pd.DataFrame([base, both | private | {"mode": "demo"} | changes])


def change(attribute, group, verdict, estimate=-0.03, needed=1234.0):
    """A row of 04_gap_changes.csv of the private arm."""
    row = {"run": "dp", "arm_label": "epsilon 2", "attribute": attribute, "group": group}
    row |= {"verdict": verdict, "estimate": estimate, "low": estimate - 0.04, "margin": 0.02}
    return row | {"high": estimate + 0.04, "patients_needed": needed}


NOT_PLANNED = pd.DataFrame(columns=["arm_label", "attribute", "group", "verdict"])


# ---- who pays


@pytest.mark.parametrize(
    "rows, level, answer, needed",
    [
        ([("scanner", "B - A", WORSE + "group")], "bad", "Yes, for scanner B", ""),
        ([("scanner", "B - A", WORSE + "rest", 0.1)], "bad", "Yes, for scanner A", ""),
        (
            [("age", ">= 80 - rest", WORSE + "rest", 0.1)],
            "bad",
            "Yes, for all but age 80 or more",
            "",
        ),
        ([("sex", "female - male", "equivalent")], "good", "No: equivalent", ""),
        (
            [("sex", "female - male", "inconclusive")],
            "unsure",
            "Too few patients: need ~1,300",
            "",
        ),
        (  # as many patients are there
            [("sex", "female - male", "inconclusive", -0.013, 899.0)],
            "unsure",
            "Inconclusive",
            "",
        ),
        (  # it is not known how many
            [("sex", "female - male", "inconclusive", -0.03, np.nan)],
            "unsure",
            "Too few patients to tell",
            "",
        ),
        # one equivalent contrast does not answer for another one, nor one that needs fewer patients
        (
            [
                ("age", "[30, 60) - rest", "equivalent", -0.05),
                ("age", ">= 80 - rest", "inconclusive", -0.01, 5600.0),
                ("age", "[60, 80) - rest", "inconclusive", -0.04, 100.0),
            ],
            "unsure",
            "Too few patients: need ~5,600",
            "",
        ),
        (
            [("sex", "female - male", DIFFERENT)],
            "unsure",
            "In part, for women: not shown to exceed the margin",
            "1,300",
        ),
        (
            [("age", "[0, 30) - rest", "not estimable", np.nan, np.nan)],
            "unsure",
            "Too few patients to estimate",
            "",
        ),
    ],
)
def test_an_attribute_has_yes_or_no_only_where_a_verdict_says_so(rows, level, answer, needed):
    changes = pd.DataFrame([change(*row) for row in rows])
    (of,) = report_who_pays.who_pays(changes, NOT_PLANNED, arms(), 900)
    (one,) = of["answers"]
    assert (one["level"], one["answer"], one["needed"]) == (level, answer, needed)
    assert not one["is_planned"]


def test_the_number_of_patients_needed_is_a_lower_bound_with_more_seeds_than_one():
    changes = pd.DataFrame([change("sex", "female - male", "inconclusive")])
    of_seeds = arms(n_seeds=3)
    (one,) = report_who_pays.who_pays(changes, NOT_PLANNED, of_seeds, np.nan)[0]["answers"]
    assert one["answer"] == "Too few patients: need >1,300"


def test_planned_comparisons_alone_decide_with_their_adjusted_verdict():
    changes = pd.DataFrame(
        [
            change("age", ">= 80 - rest", WORSE + "group"),
            change("age", "[30, 60) - rest", WORSE + "group", -0.2),
        ]
    )
    planned = pd.DataFrame([["epsilon 2", "age", ">= 80 - rest", "inconclusive"]])
    planned.columns = NOT_PLANNED.columns
    (one,) = report_who_pays.who_pays(changes, planned, arms(), 900)[0]["answers"]
    assert one["is_planned"] and one["answer"].startswith("Too few patients: ")
    assert one["contrast"] == "age 80 or more minus the rest"
    assert one["why"] == "the one planned of 2 contrasts"


@pytest.mark.parametrize(
    "rows, contrast, why",
    [
        ([("sex", "female - male", "equivalent")], "women minus men", ""),
        (
            [("comorbidities", f"{n} - rest", "equivalent", n / 100) for n in (0, 1, 2)],
            "comorbidities 2 minus the rest",
            "all 3 contrasts; this one changes most",
        ),
        (
            [
                ("age", ">= 80 - rest", "equivalent", -0.05),
                ("age", "[60, 80) - rest", "inconclusive", -0.04, 100.0),
                ("age", "[30, 60) - rest", "inconclusive", -0.01, 5600.0),
            ],
            "age 30 to under 60 minus the rest",
            "2 of 3 contrasts; this one needs most",
        ),
        (
            [
                ("age", ">= 80 - rest", WORSE + "group", -0.05),
                ("age", "[60, 80) - rest", WORSE + "rest", 0.09),
                ("age", "[30, 60) - rest", "equivalent", -0.2),
            ],
            "age 60 to under 80 minus the rest",
            "2 of 3 contrasts; this one changes most",
        ),
        (
            [("age", ">= 80 - rest", DIFFERENT), ("age", "[30, 60) - rest", "equivalent")],
            "age 80 or more minus the rest",
            "1 of 2 contrasts",
        ),
    ],
)
def test_which_of_several_contrasts_is_shown_and_why(rows, contrast, why):
    changes = pd.DataFrame([change(*row) for row in rows])
    (one,) = report_who_pays.who_pays(changes, NOT_PLANNED, arms(), 900)[0]["answers"]
    assert (one["contrast"], one["why"]) == (contrast, why)


def test_groups_that_are_not_estimable_are_named_beside_a_no():
    rows = [
        ("age", "[0, 30) - rest", "not estimable", np.nan),
        ("age", ">= 80 - rest", "equivalent"),
    ]
    changes = pd.DataFrame([change(*row) for row in rows])
    (one,) = report_who_pays.who_pays(changes, NOT_PLANNED, arms(), 900)[0]["answers"]
    assert one["answer"] == "No: equivalent"
    assert one["left_out"] == "age 0 to under 30 minus the rest"


def test_numbers_of_patients_have_two_digits_and_are_rounded_up():
    numbers = [7.2, 99.5, 1234, 8064.2, 13686.2, np.nan]
    assert [report_words.rounded(n) for n in numbers] == [
        *("8", "100", "1,300", "8,100", "14,000", "")
    ]


# ---- models, worst group


def test_findings_missed_are_100_minus_sensitivity_with_the_limits_turned():
    level = {"finding": "macro", "attribute": "all", "metric": "sensitivity"}
    metrics = pd.DataFrame(
        [
            level | {"run": "base", "estimate": 0.8, "low": 0.7, "high": 0.85},
            level | {"run": "dp", "estimate": np.nan, "low": np.nan, "high": np.nan},
        ]
    )
    difference = {"against": "no privacy", "run": "dp"}
    paired = pd.DataFrame(
        [
            difference | {"metric": "auroc", "estimate": -0.05, "low": -0.07, "high": -0.03},
            difference | {"metric": "sensitivity", "estimate": -0.1, "low": -0.13, "high": -0.08},
        ]
    )
    base, private = report_answers.models(arms(), metrics, paired)
    assert base["missed"] == "20.0 [15.0, 30.0]" and base["minus_no_privacy"] == "reference"
    assert base["minus_public"] == report_answers.NOT_KNOWN  # there is no public model
    assert private["missed"] == "not estimable" and private["missed_more"] == "+10.0 [+8.0, +13.0]"
    assert private["minus_no_privacy"] == "-0.050 [-0.070, -0.030]"
    assert private["name"] == "private, epsilon 2 per patient (demo)"
    unclear = paired.assign(low=[-0.07, -0.03], high=[0.001, 0.014], estimate=[-0.05, -0.003])
    (_, private) = report_answers.models(arms(), metrics, unclear)
    assert private["minus_no_privacy"] == "-0.050 [-0.070, +0.001], includes 0"
    assert private["missed_more"] == "+0.3 [-1.4, +3.0], includes 0"
    (_, private) = report_answers.models(arms(), metrics, paired.iloc[:0])
    assert private["minus_public"] == report_answers.NOT_KNOWN  # an older folder


MISSED_OF_B = pd.DataFrame(
    [["dp", "scanner", "B", 0.3], ["dp", "scanner", "not: B", 0.7]],
    columns=["run", "attribute", "group", "estimate"],
).assign(finding="macro", metric="sensitivity")


def worst_of(low, high, n_patients, verdict, **changed):
    """The worst group of a private arm whose scanner B has this interval, and this change."""
    level = {"attribute": "scanner", "group": "B", "arm": "dp", "unit": "patient", "run": "dp"}
    level["mode"] = "demo"
    level |= {"arm_label": "epsilon 2", "estimate": (low + high) / 2, "low": low, "high": high}
    other = level | {"attribute": "sex", "group": "female", "estimate": 0.95}
    cells = pd.DataFrame([level]).drop(columns=["arm", "unit", "mode"]).assign(**changed)
    sizes = pd.DataFrame([{"attribute": "scanner", "group": "B", "n_patients": n_patients}])
    changes = pd.DataFrame([change("scanner", "B - A", verdict)])
    worst = pd.DataFrame([other, level])
    return report_answers.worst_groups(worst, cells, sizes, changes, MISSED_OF_B)


def test_the_worst_group_is_named_and_raises_an_alarm_at_chance_or_beyond_the_margin():
    (group,) = worst_of(0.41, 0.52, 52, "inconclusive")
    assert (group["name"], group["n_patients"], group["level"]) == ("scanner B", "52", "bad")
    assert group["rows"][0]["remark"] == "not shown above chance"
    assert worst_of(0.41, 0.49, 52, "inconclusive")[0]["rows"][0]["remark"] == "worse than chance"
    assert worst_of(0.7, 0.8, 52, "inconclusive")[0]["level"] == "unsure"
    assert worst_of(0.7, 0.8, 52, WORSE + "group")[0]["level"] == "bad"
    assert worst_of(0.7, 0.8, np.nan, "equivalent")[0]["n_patients"] == "not shown"


def test_what_privacy_changed_for_the_worst_group_stands_beside_that_of_all_others():
    changed = {"change": -0.2, "change_low": -0.3, "change_high": -0.1}
    of_rest = {"rest_change": -0.01, "rest_change_low": -0.03, "rest_change_high": 0.01}
    (group,) = worst_of(0.41, 0.52, 52, "inconclusive", **changed, **of_rest)
    (row,) = group["rows"]
    assert row["change"] == "-0.200 [-0.300, -0.100]"
    assert row["rest_change"] == "-0.010 [-0.030, +0.010], includes 0"
    assert (row["missed"], row["rest_missed"]) == ("70.0", "30.0")
    (group,) = worst_of(0.41, 0.52, 52, "inconclusive", **changed)
    assert group["rows"][0]["rest_change"] == report_answers.NOT_KNOWN  # an older folder
    (group,) = worst_of(0.41, 0.52, 52, "inconclusive", **dict.fromkeys(changed, np.nan))
    assert group["rows"][0]["change"] == report_answers.NOT_KNOWN  # there is no model without


def test_a_group_is_said_to_be_worst_in_the_arms_in_which_it_is():
    level = {"arm": "dp", "unit": "patient", "mode": "demo", "low": 0.5, "high": 0.9}
    worst = pd.DataFrame(
        [
            level | {"run": run, "arm_label": f"epsilon {epsilon}"} | group
            for run, epsilon, group in (
                ("a", 1, {"attribute": "scanner", "group": "B", "estimate": 0.6}),
                ("a", 1, {"attribute": "sex", "group": "female", "estimate": 0.7}),
                ("b", 8, {"attribute": "scanner", "group": "B", "estimate": 0.8}),
                ("b", 8, {"attribute": "sex", "group": "female", "estimate": 0.75}),
            )
        ]
    )
    cells = worst.drop(columns=["arm", "unit", "mode"])
    changes = pd.DataFrame([change("scanner", "B - A", "inconclusive")])
    sizes = pd.DataFrame(columns=["attribute", "group", "n_patients"])
    found = report_answers.worst_groups(worst, cells, sizes, changes, MISSED_OF_B)
    assert [(group["name"], group["where"]) for group in found] == [
        ("scanner B", "in private, epsilon 1 per patient (demo)"),
        ("women", "in private, epsilon 8 per patient (demo)"),
    ]
    (alone,) = report_answers.worst_groups(worst[:2], cells[:2], sizes, changes, MISSED_OF_B)
    assert alone["where"] == "under privacy"
    assert alone["rows"][0]["missed"] == "not estimable"
    assert report_answers.worst_without_privacy(worst) == ""
    public = worst.assign(arm=["baseline", "baseline", "dp", "dp"])
    assert report_answers.worst_without_privacy(public) == "scanner B (0.600)"


def test_what_remains_to_be_checked_follows_from_what_was_found():
    group = {"name": "scanner B", "level": "bad"}
    pays = [
        {"attribute": "scanner", "answers": [{"level": "bad"}, {"level": "unsure"}]},
        {"attribute": "sex", "answers": [{"level": "good"}]},
    ]
    banner = {"is_guaranteed": False}
    items = report_answers.to_check(True, banner, [group], pays, arms(), set())
    assert len(items) == 10 and items[3].startswith("scanner B: look at its images")
    assert not any("sex" in item for item in items)
    banner["is_guaranteed"], there = True, {"04_elsewhere", "06_attacks"}
    items = report_answers.to_check(False, banner, [], pays[1:], arms().assign(n_seeds=3), there)
    assert len(items) == 2 and "medical device" in items[0]


def test_private_arms_are_named_with_mode_and_recipe():
    row = {"arm": "dp", "arm_label": "epsilon 8 per image, paper_our_public", "unit": "image"}
    rows = [
        row | {"mode": "demo"},
        row | {"mode": "private", "arm_label": "epsilon 8, a_b", "unit": "patient"},
        row | {"mode": "no guarantee", "arm_label": "epsilon 8", "unit": "patient"},
    ]
    assert [report_words.arm_name(row) for row in pd.DataFrame(rows).itertuples()] == [
        "private, epsilon 8 per image (demo), the paper's recipe from our public model",
        "private, epsilon 8 per patient, recipe a b",
        "private, epsilon 8 per patient (no guarantee)",
    ]


def test_an_operating_point_is_in_the_field_s_words():
    words = report_words.operating_point
    assert (
        words("false alarms 0.2 on valid") == "false-positive rate 0.2, set on validation patients"
    )
    assert words("Youden's") == "Youden's, set on validation patients" and words("") == ""


# ---- what is said of the data, of privacy, of patients


RECORD = {"title": "T", "n_images": 2000, "n_patients": 1000, "exclusions": {}, "licence": "L"}
RECORD["n_source_rows"] = 2000


@pytest.mark.parametrize(
    "access, modes, headline, is_guaranteed",
    [
        (
            "embedded",
            ["demo"],
            "The images are drawn by a program: no patient is in them. Demo mode: nothing is"
            " guaranteed to anyone.",
            False,
        ),
        (
            "on request",
            ["private"],
            "Data of patients that are not public. Private mode: the models below have the"
            " guarantees that this page states.",
            True,
        ),
        (
            "open",
            ["private", "no guarantee"],
            "Public data of patients. Not every private model has a guarantee: see the table of"
            " budgets.",
            False,
        ),
        (
            None,
            [],
            "Predictions of models trained elsewhere. No privacy ledger came with them: whether"
            " anything is guaranteed is not known.",
            False,
        ),
    ],
)
def test_the_first_line_says_what_data_and_whether_anything_is_guaranteed(
    access, modes, headline, is_guaranteed
):
    record = RECORD | {"access": access} if access else {}
    banner = report_privacy.banner(record, modes, True)
    assert (banner["headline"], banner["is_guaranteed"]) == (headline, is_guaranteed)
    without = report_privacy.banner(record, [], False)
    assert "No model was trained with privacy" in without["headline"]


def test_counts_that_are_missing_are_not_shown():
    splits = pd.DataFrame({"cohort": "c", "split": ["train", "valid", "test"], "patients": 100})
    columns = ["images", "images_per_patient", "female_percent", "sex_unknown", "age_unknown"]
    columns += ["age_years_median", "age_years_min", "age_years_max"]
    splits[columns] = np.nan
    row = {"cohort": "c", "finding": "a_b", "prevalence": 0.5, "low": 0.4, "high": 0.6}
    present = pd.DataFrame(
        [row | {"split": "test"}, row | {"split": "train", "prevalence": np.nan}]
    )
    table = {row[0]: row[1:] for row in report_sections.cohort_table(splits, present, "c")}
    assert table["patients"] == ["100"] * 3 and table["sex unknown, patients"] == ["not shown"] * 3
    assert table["a b, % of images [95 % CI]"] == ["not shown", "not shown", "50.0 [40.0, 60.0]"]
    assert "fewer than 10" in report_sections.small_groups({"access": "on request"})
    assert "fewer than 10" in report_sections.small_groups({})  # data of others
    assert not report_sections.small_groups({"access": "open"})


def test_parts_of_the_price_are_shown_but_not_of_another_recipe():
    row = {"epsilon": 8.0, "unit": "patient", "recipe": "default", "low": 0.01, "high": 0.03}
    rows = [
        row | {"of_seeds": np.nan, "part": part, "difference": "a minus b", "estimate": 0.02}
        for part in price_parts.PARTS
    ]
    summary = arms(epsilon=8.0)
    shown = report_sections.parts(pd.DataFrame(rows), summary)
    assert len(shown) == 4 and shown[0]["lost"] == "+0.020 [+0.010, +0.030]"
    assert shown[0]["budget"] == "8 per patient (demo)"
    (unclear, *_) = report_sections.parts(pd.DataFrame(rows).assign(low=-0.01), summary)
    assert unclear["lost"] == "+0.020 [-0.010, +0.030], includes 0"
    unknown = report_sections.parts(
        pd.DataFrame(rows).assign(estimate=np.nan, low=np.nan, of_seeds="of seed 0"), summary
    )
    assert unknown[0]["lost"] == "not estimable" and unknown[0]["budget"].endswith("of seed 0")
    another = pd.DataFrame([row | {"of_seeds": "", "part": price_parts.ANOTHER}])
    assert report_sections.parts(another, summary) == []
    none = pd.DataFrame(rows).iloc[:0].astype(object)  # as read from a table without rows
    assert report_sections.parts(none, summary) == []


def test_budgets_and_planned_comparisons_say_that_a_demo_promises_nothing():
    spent = {"run": "dp", "unit": "patient", "steps": 20, "epsilon": 2.0, "delta": 1e-6}
    spent = pd.DataFrame([spent | {"state": "ended"}])
    shown = [report_privacy.budgets(spent, arms(mode=mode))[0] for mode in ("demo", "private")]
    assert [row["epsilon"] for row in shown] == ["2 (demo)", "2"]
    row = {"arm_label": "epsilon 2", "attribute": "sex", "group": "female - male", "epsilon": 2.0}
    row |= {"estimate": 0.0, "low": -0.1, "high": 0.1, "p_holm": 1.0, "minimum_detectable": 0.1}
    planned = pd.DataFrame([row | {"verdict": "inconclusive"}])
    changes = pd.DataFrame([change("sex", "female - male", "inconclusive")])
    shown = [report_sections.planned_rows(planned, changes, arms(mode=m)) for m in ("demo", None)]
    assert [rows[0]["budget"] for rows in shown] == ["2 (demo)", "2"]


def test_that_nobody_was_merged_is_no_limit_of_a_promise():
    entries = {"merged patients": "none", "running time": "t"}
    records = {"a": {"ledger": {"not_covered": entries}}}
    assert report_privacy.not_covered(records) == {"running time": "t"}
    some = {"b": {"ledger": {"not_covered": entries | {"merged patients": "2 into 1"}}}}
    assert report_privacy.not_covered(records | some)["merged patients"] == "2 into 1"


# ---- the page


@pytest.fixture
def folder(tmp_path):
    """What notebook 04 writes of other people's predictions, as far as a page needs it."""
    change_rows = [
        change("sex", "female - male", "inconclusive"),
        change("<b>site", "1 - 0", WORSE + "group", -0.3),
    ]
    not_run = {"attribute": "sex", "group": "female - male", "verdict": "budget not run"}
    changes = pd.DataFrame(change_rows).assign(seeds="1 each: these models only")
    level = {"finding": "macro", "attribute": "all", "group": "all", "metric": "sensitivity"}
    level |= {"estimate": np.nan, "low": np.nan, "high": np.nan}
    worst = ["run", "attribute", "group", "arm", "arm_label", "unit", "estimate", "low", "high"]
    sizes = {"attribute": "all", "group": "all", "label": "all", "n_patients": 70}
    sizes |= {"n_images": 90, "positive_fraction": 0.1}
    means = {"metric": "auroc", "attribute": "all", "n_findings": 1, "findings": "effusion"}
    planned = ["arm_label", "attribute", "group", "verdict", "epsilon", "estimate", "low", "high"]
    planned += ["p_holm", "minimum_detectable"]
    tables = {
        "summary": arms(mode=None),
        "metrics": pd.DataFrame([level | {"run": "base"}, level | {"run": "dp"}]),
        "worst_groups": pd.DataFrame(columns=worst),
        "groups_at_once": pd.DataFrame(columns=[*worst, "shrunk"]),
        "group_sizes": pd.DataFrame([sizes]),
        "gap_changes": changes,
        "planned": pd.DataFrame([not_run | {"epsilon": 1.06}], columns=planned),
        "spent": pd.DataFrame(columns=["run", "unit", "steps", "epsilon", "delta", "state"]),
        "spent_together": pd.DataFrame({"what was spent": ["What was spent is not known here."]}),
        "price_parts": pd.DataFrame(columns=price_parts.COLUMNS),
        "findings_averaged": pd.DataFrame([means]),
    }
    for name, table in tables.items():
        files.write_table(tmp_path / f"tables/04_{name}.csv", table)
    files.write_text(tmp_path / "figures/04_privacy_utility.svg", "<svg/>")
    files.write_text(tmp_path / "04.html", "a page")
    return tmp_path


def test_the_page_of_other_peoples_predictions_says_what_is_not_known(folder):
    page = report.of_folder(folder, "<i>Theirs", [])
    assert "Predictions of models trained elsewhere. No privacy ledger came" in page
    assert "Not known: no private model here has a privacy ledger." in page
    assert "What was spent is not known here." in page and price_parts.ABSENT in page
    assert "Yes, for &lt;b&gt;site 1" in page and "<b>site" not in page
    assert "<title>&lt;i&gt;Theirs</title>" in page and "<i>Theirs" not in page
    assert '<a href="04.html">' in page and "ro-crate" not in page and "notebooks/" not in page
    assert '<a href="tables/">tables/</a>: the numbers' in page and "register/" not in page
    assert "Too few patients: need ~1,300" in page and "nan" not in page
    assert "<td>budget not run</td>" in page


def test_the_page_needs_no_network_and_reads_its_title_and_steps_back(folder):
    page = report.of_folder(folder, "A & B", ["01_data", "03_dp-eps1.06"])
    assert not re.search(r"(src|href)=\"(https?:)?//|@import|url\(|<script", page)
    assert report.said_by(page) == ("A & B", ["01_data", "03_dp-eps1.06"])
    assert page.count("<h1>") == 1 and '<html lang="en">' in page
    pictures = re.findall(r"<img src=\"data:image/(\S+?);base64,[^\"]+\" alt=\"([^\"]+)\"", page)
    assert [kind for kind, alt in pictures] == ["svg+xml"]


def test_the_worst_group_stands_beside_all_others(folder):
    level = {"attribute": "sex", "group": "female", "arm_label": "epsilon 2", "run": "dp"}
    level |= {"estimate": 0.5, "low": 0.4, "high": 0.6}
    worst = pd.DataFrame([level | {"arm": "dp", "unit": "patient"}])
    cell = level | {"change": -0.2, "change_low": -0.3, "change_high": -0.1}
    cell |= {"rest_change": 0.0, "rest_change_low": -0.1, "rest_change_high": 0.1}
    files.write_table(folder / "tables/04_worst_groups.csv", worst)
    files.write_table(folder / "tables/04_groups_at_once.csv", pd.DataFrame([cell]))
    page = report.of_folder(folder, "t", [])
    assert "<strong>Women</strong> (test patients: not shown) has the smallest mean AUROC" in page
    row = re.search(r"0\.500 \[0\.400, 0\.600\].*", page).group(0)
    assert '<strong class="alarm">not shown above chance</strong>' in row
    less, alike, missed = re.findall(r"<td>(.*?)</td>", row)
    minus = "\N{MINUS SIGN}"
    assert less == f'{minus}0.200<br><span class="ci">[{minus}0.300, {minus}0.100]</span>'
    assert alike.startswith("+0.000<br>") and alike.endswith("</span><br>includes 0")
    assert missed == "not estimable<br>others not estimable" and '"Includes 0"' in page


def test_findings_missed_stand_beside_auroc_and_includes_0_is_explained_where_it_is_said(folder):
    page = report.of_folder(folder, "t", [])
    columns = re.findall(r'<th scope="col">([^<]+)</th>', page)
    assert columns[:3] == ["model", "AUROC", "missed of 100"] and "Includes 0" not in page
    row = {"run": "dp", "metric": "auroc", "against": "no privacy", "estimate": 0.0}
    row |= {"low": -0.1, "high": 0.1, "operating_point": "false alarms 0.2 on valid"}
    files.write_table(folder / "tables/04_paired_differences.csv", pd.DataFrame([row]))
    page = report.of_folder(folder, "t", [])
    assert '<span class="ci">[\N{MINUS SIGN}0.100, +0.100]</span><br>includes 0</td>' in page
    assert "Includes 0" in page and "(false-positive rate 0.2, set on validation patients)" in page


def test_in_print_no_letter_is_smaller_than_9_points(folder):
    style = report.of_folder(folder, "t", []).split("@media print")[1].split("</style>")[0]
    sizes = {float(size) for size in re.findall(r"font-size: ([\d.]+)pt", style)}
    assert min(sizes) == 9.0 and not re.search(r"font-size: [\d.]+r?em", style)
    assert "code, figcaption, .source, .small { font-size: 9pt }" in style  # 0.9 on a screen


def test_the_register_of_a_study_is_explained_among_the_files_but_not_linked(folder):
    page = report.of_folder(folder, "t", ["01_data"])
    assert "<code>register/</code>, unless it is kept elsewhere, is the privacy register" in page
    assert "salted hashes of patients" in page and 'href="register' not in page
    assert "<code>register/</code>" not in report.of_folder(folder, "t", [])  # of others' models


def test_a_minus_is_written_for_numbers_alone():
    assert report.with_minus("-0.05 [-0.10, +0.01] 1e-05 B - A") == (
        "\N{MINUS SIGN}0.05 [\N{MINUS SIGN}0.10, +0.01] 1e-05 B - A"
    )


def test_the_command_writes_a_page_again_and_refuses_a_folder_without_tables(folder, capsys):
    assert command.main([str(folder), "--title", "Theirs"]) == 0
    first = (folder / "index.html").read_text(encoding="utf-8")
    assert command.main([str(folder)]) == 0
    assert (folder / "index.html").read_text(encoding="utf-8") == first
    assert report.said_by(first) == ("Theirs", [])
    assert command.main([str(folder / "nothing")]) == 2
    assert "Run notebook 04 first." in capsys.readouterr().err
    (folder / "tables/04_summary.csv").write_text("run,arm\n")
    with pytest.raises(errors.InputError, match="04_summary.csv"):
        report.of_folder(folder, "t", [])


def test_checklist_links_to_what_is_there_and_says_what_is_not():
    links = {
        "01_data": "notebooks/01_data.html",
        "03_dp-same_recipe-eps1": "notebooks/03_dp-same_recipe-eps1.html",
        "03_dp-eps1": "notebooks/03_dp-eps1.html",
        "03_dp-eps8": "notebooks/03_dp-eps8.html",
        "05_paper": "notebooks/05_paper.html",
        "runs/": "runs/",
    }
    rows = checklist.rows(links, ["tables/05_one_image_each.csv"])
    assert len(rows) == len(checklist.CHECKLIST)
    assert rows[0]["address"] == "notebooks/01_data.html" and rows[-1]["answer"] == "in the paper"
    addresses = {row["address"] for row in rows}
    assert {"tables/05_one_image_each.csv", "notebooks/05_paper.html"} < addresses
    # the first of several with privacy
    assert "notebooks/03_dp-eps1.html" in addresses and "notebooks/03_dp-eps8.html" not in addresses
    assert sum(row["answer"] == "not in this study" for row in rows) == sum(
        artefact in ("{02}", "{04}") or artefact.startswith("tables/04_")
        for *_, artefact in checklist.CHECKLIST
    )
