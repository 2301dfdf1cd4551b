"""Figures draw what the table says, and say what is missing."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.core import figure_files
from helpers.figures import (
    curve_figures,
    group_figures,
    house_style,
    paper_figures,
    price_figures,
    training_figures,
)

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def groups_table():
    return pd.DataFrame(
        {
            "label": ["female (10 patients)"] * 2 + ["male (2 patients)"] * 2,
            "arm_label": ["no privacy", "epsilon 2"] * 2,
            "finding": ["edema"] * 4,
            "estimate": [0.8, 0.7, np.nan, np.nan],
            "low": [0.7, 0.6, np.nan, np.nan],
            "high": [0.9, 0.8, np.nan, np.nan],
        }
    )


def test_plot_by_group_draws_every_estimate_and_says_what_is_not_estimable():
    ax = group_figures.plot_by_group(groups_table(), "mean AUROC")
    drawn = sorted(
        float(value) for line in ax.lines for value in line.get_xdata() if np.isfinite(value)
    )
    assert drawn == [0.7, 0.8]
    assert [text.get_text() for text in ax.texts] == ["not estimable"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "female (10 patients)",
        "male (2 patients)",
    ]
    assert ax.get_ylim() == (1.5, -0.5)


def test_bands_tell_whose_arms_belong_together():
    table = pd.concat([groups_table().assign(label=name) for name in "abcd"])
    table["arm_label"] = "no privacy"
    ax = group_figures.plot_by_group(table.drop_duplicates("label"), "mean AUROC")
    bands = [(band.get_y(), band.get_y() + band.get_height()) for band in ax.patches]
    assert bands == [(0.5, 1.5), (2.5, 3.5)]
    grey = {
        patch.get_facecolor()[:3]
        for patch in ax.patches
        if len(set(patch.get_facecolor()[:3])) == 1
    }
    assert not grey  # grey is the margin


def test_a_legend_has_the_words_of_the_report_for_a_recipe_in_short_lines():
    name = house_style.in_lines("epsilon 8 per image, paper_our_public").replace("\n", " ")
    assert name == "epsilon 8 per image, the paper's recipe from our public model"
    assert house_style.in_lines("same recipe, no noise or clipping").count("\n") == 1
    assert house_style.in_lines("epsilon 1, own_one") == "epsilon 1, own one"
    name = house_style.in_lines("same recipe, no noise, paper_recipe").replace("\n", " ")
    assert name == "same recipe, no noise, the paper's recipe"


def test_plot_privacy_utility_draws_private_runs_with_their_intervals():
    table = pd.DataFrame(
        {
            "arm": ["zero_shot", "baseline", "dp", "dp"],
            "epsilon": [np.nan, np.nan, 8.0, 1.0],
            "unit": [None, None, "patient", "patient"],
            "recipe": "default",
            "macro_auroc": [0.7, 0.9, 0.8, 0.75],
            "low": [0.65, 0.85, 0.75, 0.7],
            "high": [0.75, 0.95, 0.85, 0.8],
        }
    )
    ax = price_figures.plot_privacy_utility(table)
    points, _, bars = ax.containers[0]
    assert points.get_xdata().tolist() == [1.0, 8.0]
    assert points.get_ydata().tolist() == [0.75, 0.8]
    assert [segment[:, 1].round(2).tolist() for segment in bars[0].get_segments()] == [
        [0.7, 0.8],
        [0.75, 0.85],
    ]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "private, per patient",
        "no privacy",
        "public model (zero-shot)",
    }


def test_the_same_recipe_without_noise_stands_open_beside_its_budget_and_joins_no_line():
    table = pd.DataFrame(
        {
            "arm": ["baseline", "same_recipe", "same_recipe_clipped", "dp"],
            "epsilon": [np.nan, np.nan, np.nan, 8.0],
            "recipe_of_epsilon": [np.nan, 8.0, 8.0, np.nan],
            "unit": [None, None, None, "patient"],
            "recipe": "default",
            "macro_auroc": [0.9, 0.86, 0.85, 0.8],
            "low": [0.88, 0.84, 0.83, 0.78],
            "high": [0.92, 0.88, 0.87, 0.82],
        }
    )
    ax = price_figures.plot_privacy_utility(table)
    (whole, *_), (clipped, *_), (private, *_) = ax.containers
    for points, value in ((whole, 0.86), (clipped, 0.85)):
        assert points.get_ydata().tolist() == [value] and 6.8 < points.get_xdata()[0] < 8
        assert (points.get_markerfacecolor(), points.get_linestyle()) == ("white", "None")
    assert private.get_ydata().tolist() == [0.8] and ax.get_xticks().tolist() == [8.0]
    assert ax.get_xlim() == (5.0, 8 * 1.6)
    assert sum("no privacy" in text.get_text() for text in ax.get_legend().get_texts()) == 3


def test_image_level_runs_never_look_like_one_more_budget():
    table = pd.DataFrame(
        {
            "arm": "dp",
            "epsilon": [1.0, 8.0, 1.0, 8.0],
            "unit": ["patient", "patient", "image", "image"],
            "recipe": "default",
            "macro_auroc": [0.75, 0.8, 0.7, 0.72],
            "low": 0.6,
            "high": 0.9,
        }
    )
    ax = price_figures.plot_privacy_utility(table)
    (patient, *_), (image, *_) = ax.containers
    assert patient.get_linestyle() == "-"
    assert image.get_linestyle() == "None"
    assert image.get_markerfacecolor() == "white"
    assert image.get_marker() != patient.get_marker()
    assert patient.get_ydata().tolist() == [0.75, 0.8]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "private, per patient",
        "per image",
    ]


def test_arm_styles_give_image_level_arms_open_markers_of_another_colour():
    styles = house_style.arm_styles(["no privacy", "epsilon 1", "epsilon 8", "epsilon 8 per image"])
    *others, image = styles.values()
    assert image["markerfacecolor"] == "white"
    assert all(style["markerfacecolor"] == style["color"] for style in others)
    assert image["color"] not in [style["color"] for style in others]
    assert image["marker"] not in [style["marker"] for style in others]


def test_plot_privacy_utility_of_one_run_without_epsilon():
    ax = price_figures.plot_privacy_utility(
        pd.DataFrame(
            {
                "arm": ["baseline"],
                "epsilon": [np.nan],
                "unit": [None],
                "recipe": ["default"],
                "macro_auroc": [0.9],
                "low": [0.85],
                "high": [0.95],
            }
        )
    )
    assert len(ax.containers) == 0
    assert len(ax.lines) == 1


def test_plot_by_finding_writes_value_and_interval_into_each_cell():
    table = groups_table().assign(finding=["edema", "edema", "mass", "mass"])
    ax = price_figures.plot_by_finding(table)
    assert [text.get_text() for text in ax.texts] == [
        "0.800\n[0.700, 0.900]",
        "0.700\n[0.600, 0.800]",
        "not estimable",
        "not estimable",
    ]


def test_arm_colors_tell_arms_apart_also_in_grey():
    assert house_style.arm_colors(["no privacy, seed 1"]) == {"no privacy, seed 1": "black"}
    colors = house_style.arm_colors(
        ["zero-shot", "no privacy", "epsilon 0.29", "epsilon 1.06", "epsilon 7.89"]
    )
    grey = sorted(
        matplotlib.colors.to_rgb(color) @ np.array([0.299, 0.587, 0.114])
        for color in colors.values()
    )
    assert min(np.diff(grey)) > 0.03


def test_save_figure_writes_picture_and_table(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    table = groups_table()
    figure_files.save_figure(group_figures.plot_by_group(table, "mean AUROC"), "04_test", table)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")} == {
        "figures/04_test.png",
        "figures/04_test.svg",
        "tables/04_test.csv",
    }
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tables/04_test.csv"), table)


def test_plot_privacy_utility_draws_single_seeds_as_dots():
    table = pd.DataFrame(
        {
            "run": ["a"],
            "arm": ["dp"],
            "epsilon": [2.0],
            "unit": ["patient"],
            "recipe": ["default"],
            "macro_auroc": [0.8],
            "low": [0.7],
            "high": [0.9],
        }
    )
    ax = price_figures.plot_privacy_utility(
        table, pd.DataFrame({"run": ["a", "a", "base"], "estimate": [0.78, 0.82, 0.9]})
    )
    dots = [line for line in ax.lines if line.get_label() == "single seeds"][0]
    assert dots.get_ydata().tolist() == [0.78, 0.82]
    assert dots.get_xdata().tolist() == [2.0, 2.0]


def contrast_rows():
    return pd.DataFrame(
        {
            "label": ["female - male"] * 4,
            "arm": ["baseline", "zero_shot", "dp", "dp"],
            "arm_label": ["no privacy", "zero-shot", "e8", "e1"],
            "epsilon": [np.nan, np.nan, 8.0, 1.0],
            "estimate": [0.0, -0.05, -0.02, -0.04],
            "low": [-0.01, -0.06, -0.03, -0.05],
            "high": [0.01, -0.04, -0.01, -0.03],
        }
    )


def test_plot_contrasts_draws_zero_and_the_margin():
    ax = group_figures.plot_contrasts(contrast_rows(), "contrast", 0.02)
    assert any(set(line.get_xdata()) == {0} for line in ax.lines)
    assert [patch.get_width() for patch in ax.patches] == [pytest.approx(0.04)]
    assert "margin, 0.02" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_plot_against_epsilon_orders_budgets_and_shares_axes():
    axes = group_figures.plot_against_epsilon(
        pd.concat([contrast_rows(), contrast_rows().assign(label="B - A")]), "contrast"
    )
    assert len(axes) == 2
    assert axes[0].get_ylim() == axes[1].get_ylim()
    line = [line for line in axes[0].lines if line.get_label() == "private"][0]
    assert line.get_xdata().tolist() == [1.0, 8.0]
    assert line.get_ydata().tolist() == [-0.04, -0.02]


def test_plot_finding_by_group_marks_what_leaves_zero_out_and_what_is_not_estimable():
    table = pd.DataFrame(
        {
            "finding": ["edema", "edema"],
            "label": ["female", "male"],
            "estimate": [-0.1, np.nan],
            "low": [-0.2, np.nan],
            "high": [-0.05, np.nan],
        }
    )
    ax = price_figures.plot_finding_by_group(table, "difference")
    assert [(text.get_text(), text.get_fontweight()) for text in ax.texts] == [
        ("-0.10", "bold"),
        ("n. e.", "normal"),
    ]


def test_plot_drops_has_a_panel_a_property_and_names_every_finding():
    table = pd.DataFrame(
        {
            "finding": ["edema", "mass"],
            "arm_label": "epsilon 1",
            "drop": [-0.1, -0.05],
            "low": [-0.2, -0.1],
            "high": [0.0, 0.0],
            "n": [100, 200],
            "auroc": [0.9, 0.8],
        }
    )
    axes = paper_figures.plot_drops(table, {"n": "images", "auroc": "AUROC"})
    assert [ax.get_xlabel() for ax in axes] == ["images", "AUROC"]
    assert [text.get_text() for text in axes[0].texts] == ["1", "2"]
    assert axes[1].texts[-1].get_text() == "1 edema\n2 mass"


def test_plot_published_leaves_out_infinite_budgets():
    curves = pd.DataFrame(
        {
            "study": ["theirs"] * 2 + ["ours"],
            "epsilon": [1.0, np.inf, 2.0],
            "difference": [-0.1, 0, -0.2],
            "chance_corrected_ratio": [0.8, 1, 0.7],
        }
    )
    contrasts = pd.DataFrame(
        {
            "study": ["theirs"] * 2,
            "label": "female - male",
            "epsilon": [1.0, np.inf],
            "contrast": [0.1, 0.2],
        }
    )
    axes = paper_figures.plot_published(curves, contrasts)
    assert [
        line.get_xdata().tolist()
        for line in axes[0].lines
        if line.get_label() in ("theirs", "ours")
    ] == [[1.0], [2.0]]
    assert "no interval" in axes[1].get_ylabel()


def test_plot_roc_and_calibration_have_a_panel_an_arm():
    points = pd.DataFrame(
        {
            "arm_label": ["a", "a", "b", "b"],
            "group": ["female", "male"] * 2,
            "false_alarm_rate": 0.5,
            "sensitivity": 0.7,
            "mean_score": 0.3,
            "share": 0.4,
            "low": 0.3,
            "high": 0.5,
        }
    )
    for plot in (curve_figures.plot_roc, curve_figures.plot_calibration):
        axes = plot(points)
        # two groups and the diagonal
        assert [ax.get_title() for ax in axes] == ["a", "b"]
        assert len(axes[0].lines) == 3


def test_plot_net_benefit_draws_each_group_beside_calling_everybody():
    points = pd.DataFrame(
        {
            "arm_label": "a",
            "group": ["female"] * 3 + ["male"] * 3,
            "chance": [0.1, 0.2, 0.3] * 2,
            "net_benefit": 0.02,
            "everybody": [0.1, 0.0, -0.4] * 2,
        }
    )
    (ax,) = curve_figures.plot_net_benefit(points)
    assert len(ax.lines) == 5  # two groups, each with calling everybody, and 0
    drawn = [line.get_ydata() for line in ax.lines]
    assert np.isnan(drawn[1][2])  # far below 0 nobody would
    assert "no interval" in ax.get_ylabel()


def test_plot_group_gradients_has_a_line_a_group_and_what_it_would_be_without_clipping():
    table = pd.DataFrame(
        {
            "epoch": [0, 1] * 2,
            "group": ["A", "A", "B", "B"],
            "n_units": 9,
            "gradient_norm": [1, 2, 3, 4],
            "clipped_fraction": 0.5,
            "followed": [0.9, 0.8, 0.3, 0.2],
            "followed_without": [0.9, 0.8, 0.6, 0.5],
        }
    )
    axes = training_figures.plot_group_gradients(table)
    assert [len(ax.lines) for ax in axes] == [2, 2, 4]
    assert axes[0].lines[1].get_ydata().tolist() == [3, 4]
