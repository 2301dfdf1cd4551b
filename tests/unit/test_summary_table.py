"""The summary as it is shown, and README's numbers, which are the stored ones."""

import numpy as np
import pandas as pd
import pytest

from helpers.core import errors, files, paths
from helpers.study import summary_table

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
    row = summary_table.summary(one_run()).iloc[0]
    assert row["mean AUROC"] == "0.800 [0.750, 0.850]" and row["epsilon"] == "2 per patient"
    assert summary_table.summary(one_run(mode="demo")).iloc[0]["epsilon"] == "2 per patient (demo)"
    assert row["by sex"] == "-0.020 [-0.050, +0.010]" and row["by age"] == "not estimable"


def test_summary_refuses_a_table_without_its_columns():
    with pytest.raises(errors.InputError, match="macro_auroc"):
        summary_table.summary(one_run().drop(columns="macro_auroc"))


def test_readme_shows_the_expected_demo():
    readme = (paths.repository_root() / "README.md").read_text(encoding="utf-8")
    table = pd.read_csv(EXPECTED / "demo.csv")
    assert summary_table.renew_readme(readme, table) == readme, "run `make expected`"
    with pytest.raises(errors.InputError, match="demo table"):
        summary_table.renew_readme("no marks here", one_run())


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


def test_seconds_of_finished_steps_are_kept_with_their_parameters(tmp_path, monkeypatch):
    monkeypatch.setattr(summary_table, "seconds_path", lambda name: tmp_path / f"{name}.json")
    done = {"key": "k", "seconds": 12.34, "parameters": "p"}
    files.write_json(tmp_path / ".state/03_a.json", done)
    files.write_json(tmp_path / ".state/04_b.json", {"seconds": 5.0})  # begun again, not finished
    summary_table.keep_seconds(tmp_path, "demo")
    kept = files.read_json(tmp_path / "demo.json", "")
    assert kept["steps"] == {"03_a": {"seconds": 12.3, "parameters": "p"}}
    assert kept["hardware"]["cores"] >= 1
