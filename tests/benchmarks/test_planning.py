"""Hours of studies follow from steps, loader and sizes; the loader is measured at its task."""

import loader
import numpy as np
import planning_tables
import pytest

STEPS = {
    "rows": [
        {"setting": f"{px}px_3ch", "variant": variant, "milliseconds": milliseconds}
        for px, variant, milliseconds in (
            (224, "non-private", 16.0),
            (224, "ours, patient", 32.0),
            (512, "non-private", 64.0),
            (512, "ours, patient", 128.0),
        )
    ]
}
BATCHES = {"224px_3ch": 16, "512px_3ch": 128}


def test_an_image_takes_its_part_of_a_step_and_the_loader():
    at = planning_tables.seconds_per_image
    # 64 ms / 128 images + 0.5 ms; 128 / 128 + 0.5
    assert at(STEPS, BATCHES, 512, 0.5) == pytest.approx({"ordinary": 0.001, "private": 0.0015})
    # 16 / 16 + 0.5 (224 / 512)^2
    assert at(STEPS, BATCHES, 224, 0.5)["ordinary"] == pytest.approx(0.001 + 0.0005 * 0.19140625)


def test_hours_of_taix_ray_worked_by_hand():
    # 20 passes through 112,120 public and 215,381 own films; six budgets, six passes each
    passes = planning_tables.passes_of("taix_ray")
    assert passes == {"ordinary": 20 * (112120 + 215381), "private": 36 * 215381, "budgets": 6}
    table = planning_tables.hours_table(STEPS, BATCHES, 0.5).set_index(["data set", "px"])
    row = table.loc[("taix_ray", 512)]
    assert row["hours, private pass"] == pytest.approx(215381 * 0.0015 / 3600)
    hours = (passes["ordinary"] * 0.001 + passes["private"] * 0.0015) / 3600
    assert row["hours, study, 1 GPU"] == pytest.approx(hours)
    assert row["at least, 8 GPUs"] == pytest.approx(hours / 8)
    assert row["GB of images.npy"] == pytest.approx(56.46, abs=0.01)


def test_the_loader_is_measured_on_the_drawn_films_and_over_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "PATIENTS_A_STEP", 40)
    monkeypatch.setattr(loader, "FILMS_AT_A_TIME", 32)
    rows = loader.write_films(tmp_path / "images.npy", 600, 48, n_drawn=50)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert len(set(rows)) == 50 and (images.any((1, 2)).nonzero()[0] == rows).all()
    data = loader.training_films(images, 120)
    assert len(data.units) == 120 and (np.concatenate(data.units) == np.arange(600)).all()
    row = loader.speed(data, rows, 3, repeats=2, n=20)
    assert row["films_per_second"]["loader"] == 20 / min(row["seconds"]["loader"])
    row = loader.epoch(data, 1)
    assert row["steps"] == 3 and 300 < row["films"] < 900 and len(row["tenths"]) == 10
    assert row["peak_gb"] >= row["tenths"][-1]["resident_gb"] > row["tenths"][-1]["mapped_gb"] > 0
