"""What a step's results depend on: contents, not times; and what is never cleared."""

import os
from pathlib import Path

import pytest

from helpers.core import files, paths
from helpers.privacy import private_run_files
from helpers.study import notebook_files, plan, step_cache

NETWORK = plan.network_file("c")


def test_content_hash_of_a_file_follows_its_contents_not_its_time(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    results = step_cache.Results(tmp_path)
    before = results.content_hash(Path("a"))
    os.utime(tmp_path / "a", (1, 1))
    assert results.content_hash(Path("a")) == before
    (tmp_path / "a").write_bytes(b"two")
    assert results.content_hash(Path("a")) != before
    assert results.content_hash(Path("absent")) is None


def test_content_hash_of_a_folder_sees_files_come_go_and_grow(tmp_path):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    results, hashes = step_cache.Results(tmp_path), []
    for content in (b"", b"1", b"22"):
        hashes.append(results.content_hash(data))
        (data / "images" / "a.png").write_bytes(content)
    os.utime(data / "images" / "a.png", (1, 1))
    assert len(set(hashes)) == 3 and results.content_hash(data) == results.content_hash(data)


@pytest.fixture
def baseline(tmp_path):
    """A results folder, and the step that wrote the network and the start of its cohort "c"."""
    step = plan.Step(
        "02_x",
        notebook_files.notebooks()["02"],
        {},
        outputs=[Path("runs/c-zero_shot/record.json"), NETWORK],
    )
    results = step_cache.Results(tmp_path)
    for path in step.outputs + step_cache.pages(step):
        files.write_text(tmp_path / path, "{}")
    results.store(step, results.key(step), 1.0)
    return results, step


def test_a_changed_record_of_the_network_means_run_again(baseline):
    results, step = baseline
    assert results.is_done(step)
    (results.out / NETWORK).write_text('{"width": 8}')
    assert not results.is_done(step)


@pytest.mark.parametrize("cohort, is_kept", [("c", True), ("other", False)])
def test_force_keeps_network_and_start_of_a_cohort_with_private_runs(cohort, is_kept, baseline):
    results, step = baseline
    note = results.out / "runs" / f"{cohort}-dp-eps1-seed0" / private_run_files.NOTE
    files.write_json(note, {"uuid": "a", "identity": {}})
    results.clear(step, everything=True)
    assert [(results.out / path).exists() for path in step.outputs] == [is_kept, is_kept]


def test_a_step_that_runs_again_keeps_the_network_that_is_as_written(baseline):
    results, step = baseline
    results.clear(step, everything=False)
    assert (results.out / NETWORK).exists()


def write(folder, *names):
    """Write files that hold their names."""
    for name in names:
        files.write_text(folder / name, name)


@pytest.mark.parametrize("out", ["results", "deep/er/results", "."])
def test_results_below_the_data_root_are_no_data(out, tmp_path):
    write(tmp_path, "a.png", "deep/b.png")
    results = step_cache.Results((tmp_path / out).resolve())
    before = results.content_hash(tmp_path)
    write(results.out, ".lock", ".state/01.json", "cohort/c/record.json", "figures/01_a.png")
    write(results.out, "runs/c-dp/record.json", "notebooks/01.html", "index.html", "tables/t.csv")
    assert results.content_hash(tmp_path) == before
    write(tmp_path, "deep/c.png")
    assert results.content_hash(tmp_path) != before


def test_results_of_other_runs_are_no_data_either(tmp_path):
    write(tmp_path, "a.png", "elsewhere/.state/01.json", "elsewhere/figures/01_a.png")
    write(tmp_path, "by_hand/cohort/c/record.json", "by_hand/figures/01_a.png")
    write(tmp_path, "figures/b.png", "cohort/c.png")  # folders of the hospital's own
    names = [path.relative_to(tmp_path).as_posix() for path in paths.files_below(tmp_path)]
    assert names == ["a.png", "cohort/c.png", "figures/b.png"]


def test_data_below_the_results_are_data(tmp_path):
    write(tmp_path, ".state/01.json", "data/a.png", "data/figures/b.png")
    results = step_cache.Results(tmp_path)
    before = results.content_hash(tmp_path / "data")
    write(tmp_path, "data/figures/c.png")
    assert results.content_hash(tmp_path / "data") != before


@pytest.mark.parametrize("content", ["", "null", "[]", '{"key": 1}', "{"])
def test_a_damaged_state_means_run_again(content, baseline):
    results, step = baseline
    (results.out / ".state" / "02_x.json").write_text(content)
    assert not results.is_done(step)
