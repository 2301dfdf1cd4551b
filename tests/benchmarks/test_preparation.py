"""The benchmark of data preparation goes through all its files, three ways, and counts right."""

import numpy as np
import pandas as pd
import preparation
from PIL import Image

from helpers.data import cohorts


def test_files_are_as_many_as_asked_for_and_each_another_picture(tmp_path):
    preparation.write_files(tmp_path / "data", 5, n_phantoms=2)
    pictures = [
        np.asarray(Image.open(path)) for path in sorted((tmp_path / "data/images").iterdir())
    ]
    assert len({picture.tobytes() for picture in pictures}) == 5
    assert {picture.shape for picture in pictures} == {(256, 256)}
    table = pd.read_csv(tmp_path / "data/images.csv")
    assert len(table) == 5 and table["patient"].tolist() == ["p0", "p0", "p1", "p1", "p2"]


def test_all_ways_take_all_files_and_are_compared(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    row = preparation.compare(12, 1, 1, tmp_path)
    assert row["files"] == row["images"] == 12 == len(cohorts.read("phantom_files").table)
    loop = np.load(tmp_path / "loop.npy")
    np.testing.assert_array_equal(loop, cohorts.read("phantom_files").images)  # of its own decoder
    (bare,), (built,) = row["seconds"]["bare"], row["seconds"]["build"]
    assert row["build_over_bare"] == bare / built
    assert row["images_per_second"]["build"] == 12 / built
    assert 0.02 < row["build_gigabytes"] < 4
