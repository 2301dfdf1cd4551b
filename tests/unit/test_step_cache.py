"""What a step's results depend on: contents, not times; and what is never cleared."""

import os
from pathlib import Path

import pytest

from helpers.core import files
from helpers.privacy import private_runs
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
    note = results.out / "runs" / f"{cohort}-dp-eps1-seed0" / private_runs.NOTE
    files.write_json(note, {"uuid": "a", "identity": {}})
    results.clear(step, everything=True)
    assert [(results.out / path).exists() for path in step.outputs] == [is_kept, is_kept]


def test_a_step_that_runs_again_keeps_the_network_that_is_as_written(baseline):
    results, step = baseline
    results.clear(step, everything=False)
    assert (results.out / NETWORK).exists()
