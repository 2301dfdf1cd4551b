"""Figures draw what the table says, and say what is missing."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers import figures, runs

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def groups_table():
    return pd.DataFrame({"label": ["female (10 patients)"] * 2 + ["male (2 patients)"] * 2,
                         "arm_label": ["no privacy", "epsilon 2"] * 2, "finding": ["edema"] * 4,
                         "estimate": [0.8, 0.7, np.nan, np.nan], "low": [0.7, 0.6, np.nan, np.nan],
                         "high": [0.9, 0.8, np.nan, np.nan]})


def test_plot_by_group_draws_every_estimate_and_says_what_is_not_estimable():
    ax = figures.plot_by_group(groups_table(), "mean AUROC")
    drawn = sorted(float(value) for line in ax.lines for value in line.get_xdata() if np.isfinite(value))
    assert drawn == [0.7, 0.8]
    assert [text.get_text() for text in ax.texts] == ["not estimable"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["female (10 patients)", "male (2 patients)"]


def test_plot_privacy_utility_draws_private_runs_with_their_intervals():
    table = pd.DataFrame({"arm": ["zero_shot", "baseline", "dp", "dp"], "epsilon": [np.nan, np.nan, 8.0, 1.0],
                          "unit": [None, None, "patient", "patient"], "recipe": "default",
                          "macro_auroc": [0.7, 0.9, 0.8, 0.75], "low": [0.65, 0.85, 0.75, 0.7], "high": [0.75, 0.95, 0.85, 0.8]})
    ax = figures.plot_privacy_utility(table)
    points, _, bars = ax.containers[0]
    assert points.get_xdata().tolist() == [1.0, 8.0] and points.get_ydata().tolist() == [0.75, 0.8]
    assert [segment[:, 1].round(2).tolist() for segment in bars[0].get_segments()] == [[0.7, 0.8], [0.75, 0.85]]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"private, per patient", "no privacy", "public model (zero-shot)"}


def test_plot_privacy_utility_of_one_run_without_epsilon():
    ax = figures.plot_privacy_utility(pd.DataFrame({"arm": ["baseline"], "epsilon": [np.nan], "unit": [None], "recipe": ["default"], "macro_auroc": [0.9],
                                                    "low": [0.85], "high": [0.95]}))
    assert len(ax.containers) == 0 and len(ax.lines) == 1


def test_plot_by_finding_writes_value_and_interval_into_each_cell():
    table = groups_table().assign(finding=["edema", "edema", "mass", "mass"])
    ax = figures.plot_by_finding(table)
    assert [text.get_text() for text in ax.texts] == ["0.800\n[0.700, 0.900]", "0.700\n[0.600, 0.800]",
                                                      "not estimable", "not estimable"]


def test_arm_colors_tell_arms_apart_also_in_grey():
    assert figures.arm_colors(["no privacy, seed 1"]) == {"no privacy, seed 1": "black"}
    colors = figures.arm_colors(["zero-shot", "no privacy", "epsilon 0.29", "epsilon 1.06", "epsilon 7.89"])
    grey = sorted(matplotlib.colors.to_rgb(color) @ np.array([0.299, 0.587, 0.114]) for color in colors.values())
    assert min(np.diff(grey)) > 0.03


def test_save_figure_writes_picture_and_table(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    table = groups_table()
    runs.save_figure(figures.plot_by_group(table, "mean AUROC"), "04_test", table)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")} == {
        "figures/04_test.png", "figures/04_test.svg", "tables/04_test.csv"}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tables/04_test.csv"), table)
