"""Figures of a cohort draw what the table says, where it says."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.figures import cohort_figures, volume_figures

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_plot_with_and_without_lays_images_out_by_caption_and_points_where_told():
    black = np.zeros((4, 4), np.uint8)
    table = pd.DataFrame(
        [
            ["effusion", "with", black, 0.25, 0.5],
            ["effusion", "without", black + 9, np.nan, np.nan],
            ["cardiomegaly", "with", black + 5, 0.75, 0.5],
        ],
        columns=["column", "row", "pixels", "x", "y"],
    )
    ax = cohort_figures.plot_with_and_without(table)
    corners = [tuple(image.get_extent()[:2]) + tuple(image.get_extent()[2:]) for image in ax.images]
    assert corners == [(0, 1, 1, 0), (0, 1, 2.04, 1.04), (1.04, 2.04, 1, 0)]
    arrows = [text for text in ax.texts if isinstance(text, matplotlib.text.Annotation)]
    assert [arrow.xy for arrow in arrows] == [(0.25, 0.5), (1.79, 0.5)]
    assert arrows[0].get_position()[0] < 0.25 < 1.79 < arrows[1].get_position()[0]  # from outside
    captions = [text.get_text() for text in ax.texts if text not in arrows]
    assert captions == ["effusion", "cardiomegaly", "with", "without"]


def test_plot_examples_has_four_in_a_row_and_a_caption_under_each():
    images = [np.full((3, 3), k, np.uint8) for k in range(5)]
    ax = cohort_figures.plot_examples(images, list("abcde"))
    lefts_and_tops = [(image.get_extent()[0], image.get_extent()[3]) for image in ax.images]
    assert lefts_and_tops == [(0, 0), (1, 0), (2, 0), (3, 0), (0, -1.2)]
    assert [text.get_text() for text in ax.texts] == list("abcde")


def test_plot_prevalence_draws_a_point_and_its_interval_for_each_finding_and_group():
    table = pd.DataFrame(
        [
            ["effusion", "female", 10, 0.5, 0.4, 0.6],
            ["effusion", "male", 20, 0.3, 0.2, 0.4],
            ["pneumonia", "male", 20, 0.1, 0.0, 0.2],  # no woman with a known label
        ],
        columns=["finding", "group", "n_patients", "prevalence", "low", "high"],
    )
    ax = cohort_figures.plot_prevalence(table)
    points = [[float(value) for value in line.get_xdata()] for line in ax.lines]
    assert points[0][0] == 0.5 and np.isnan(points[0][1]) and points[1] == [0.3, 0.1]
    ends = [segment[:, 0].tolist() for segment in ax.collections[1].get_segments()]
    assert ends == [[0.2, 0.4], [0.0, 0.2]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "female (n=10 patients)",
        "male (n=20 patients)",
    ]


def test_plot_three_planes_outlines_a_lesion_only_where_there_is_one():
    slices = [
        ["case", "axial", np.zeros((4, 4), np.uint8), 40.0, 40.0, 10.0, 20.0, 5.0],
        ["control", "axial", np.zeros((4, 4), np.uint8), 40.0, 40.0, np.nan, np.nan, np.nan],
    ]
    columns = ["caption", "plane", "pixels", "width_mm", "height_mm", "across", "down", "radius"]
    ax = volume_figures.plot_three_planes(pd.DataFrame(slices, columns=columns))
    (circle,) = ax.patches
    assert circle.center == (10.0, 20.0) and circle.radius == 5.0 and len(ax.images) == 2
    assert [text.get_text() for text in ax.texts] == ["case, axial", "control, axial"]
