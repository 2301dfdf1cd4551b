"""Figures of benchmarks draw what the table says."""

import benchmark_figures
import matplotlib
import pandas as pd

matplotlib.use("Agg")


def test_plot_coverage_has_a_panel_for_patients_and_one_for_images():
    table = pd.DataFrame(
        {
            "correlation": [0, 0.5] * 2,
            "unit": ["patient"] * 2 + ["image"] * 2,
            "quantity": "contrast",
            "coverage": [0.95, 0.94, 0.95, 0.85],
            "standard_error": 0.005,
        }
    )
    axes = benchmark_figures.plot_coverage(table)
    assert [ax.containers[0][0].get_ydata().tolist() for ax in axes] == [[0.95, 0.94], [0.95, 0.85]]
    assert [ax.get_title() for ax in axes] == ["patients resampled", "images resampled"]
