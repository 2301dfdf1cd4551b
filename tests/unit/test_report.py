"""The study's table and page, and README's numbers, which are the stored ones."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import price_parts
from helpers.core import errors, paths
from helpers.study import checklist, report

EXPECTED = paths.repository_root() / "expected"


def one_run(**changes):
    row = {
        "run": "r",
        "arm": "dp",
        "epsilon": 2.0,
        "unit": "patient",
        "recipe": "default",
        "mode": "private",
        "macro_auroc": 0.8,
        "low": 0.75,
        "high": 0.85,
        "sex_contrast": -0.02,
        "sex_low": -0.05,
        "sex_high": 0.01,
        "age_contrast": np.nan,
        "age_low": np.nan,
        "age_high": np.nan,
    }
    return pd.DataFrame([row | changes])


def test_summary_writes_each_number_with_its_interval():
    row = report.summary(one_run()).iloc[0]
    assert row["mean AUROC"] == "0.800 [0.750, 0.850]" and row["epsilon"] == "2 per patient"
    assert report.summary(one_run(mode="demo")).iloc[0]["epsilon"] == "2 per patient (demo)"
    assert row["by sex"] == "-0.020 [-0.050, +0.010]" and row["by age"] == "not estimable"


def test_summary_refuses_a_table_without_its_columns():
    with pytest.raises(errors.InputError, match="macro_auroc"):
        report.summary(one_run().drop(columns="macro_auroc"))


def test_page_escapes_what_it_shows(tmp_path):
    (tmp_path / "f.png").write_bytes(b"png")
    page = report.page(
        "<b>title", report.summary(one_run()), tmp_path / "f.png", {"a<b": "notebooks/a.html"}
    )
    assert (
        "<b>title" not in page
        and "&lt;b&gt;title" in page
        and 'href="notebooks/a.html"' in page
        and "a&lt;b" in page
    )


def test_page_says_what_the_price_is_made_of_and_where_it_does_not_know(tmp_path):
    (tmp_path / "f.png").write_bytes(b"png")
    shown = report.summary(one_run())
    assert price_parts.ABSENT in report.page("t", shown, tmp_path / "f.png", {})
    row = {"epsilon": 8.0, "unit": "patient", "recipe": "default", "low": 0.01, "high": 0.03}
    rows = [
        row | {"of_seeds": "", "part": part, "difference": "a minus b", "estimate": 0.02}
        for part in price_parts.PARTS
    ]
    table = pd.DataFrame(rows)
    page = report.page("t", shown, tmp_path / "f.png", {}, price=table)
    assert page.count("+0.020 [+0.010, +0.030]") == 4 + 4  # in the table and in the sentence
    assert price_parts.in_words(table) in page and "8 per patient" in page
    unknown = report.parts(table.assign(estimate=np.nan))
    assert (unknown["mean AUROC lost"] == "not estimable").all()
    assert (
        report.parts(table.assign(of_seeds="of seed 0"))["budget"][0] == "8 per patient, of seed 0"
    )


def test_page_shows_no_parts_of_runs_of_another_recipe(tmp_path):
    (tmp_path / "f.png").write_bytes(b"png")
    row = {"epsilon": 8.0, "unit": "patient", "recipe": "default", "of_seeds": np.nan}
    table = pd.DataFrame([row | {"part": price_parts.ANOTHER, "difference": "EPOCHS"}])
    page = report.page("t", report.summary(one_run()), tmp_path / "f.png", {}, price=table)
    assert price_parts.in_words(table) in page and "differ from the private one in EPOCHS" in page
    assert price_parts.ANOTHER not in page and "mean AUROC lost" not in page


def test_checklist_links_to_what_is_there_and_says_what_is_not():
    links = {
        "01_data": "notebooks/01_data.html",
        "03_dp-same_recipe-eps1": "notebooks/03_dp-same_recipe-eps1.html",
        "03_dp-eps1": "notebooks/03_dp-eps1.html",
        "03_dp-eps8": "notebooks/03_dp-eps8.html",
        "05_paper": "notebooks/05_paper.html",
        "runs/": "runs/",
    }
    rows = checklist.rows(links, ["tables/05_one_image_each.csv"]).splitlines()
    assert len(rows) == len(checklist.CHECKLIST)
    assert '<a href="notebooks/01_data.html">' in rows[0] and "in the paper" in rows[-1]
    shown = "\n".join(rows)
    assert '<a href="tables/05_one_image_each.csv">' in shown and "05_paper.html" in shown
    # the first of several with privacy
    assert "/03_dp-eps1.html" in shown and "03_dp-eps8" not in shown and "same_recipe" not in shown
    assert shown.count("not in this study") == sum(
        artefact in ("{02}", "{04}") or artefact.startswith("tables/04_")
        for *_, artefact in checklist.CHECKLIST
    )


def test_readme_shows_the_expected_demo():
    readme = (paths.repository_root() / "README.md").read_text(encoding="utf-8")
    table = pd.read_csv(EXPECTED / "demo.csv")
    assert report.renew_readme(readme, table) == readme, "run `make expected`"
    with pytest.raises(errors.InputError, match="demo table"):
        report.renew_readme("no marks here", one_run())


@pytest.mark.parametrize(
    "name, cohort",
    [
        ("demo", "synthetic_cxr_private"),
        ("smoke", "synthetic_cxr_private"),
        ("demo_ct", "synthetic_ct_private"),
    ],
)
def test_expected_numbers_are_those_of_this_profile(name, cohort):
    table = pd.read_csv(EXPECTED / f"{name}.csv")
    assert table["run"].tolist()[:2] == [f"{cohort}-zero_shot", f"{cohort}-baseline-seed0"]
    assert table["macro_auroc"].between(table["low"], table["high"]).all()
