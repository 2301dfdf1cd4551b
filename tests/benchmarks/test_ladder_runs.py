"""What is kept of runs, and which are run again."""

import argparse
import dataclasses
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import ladder
import ladder_plan
import ladder_runs
import numpy as np
import pytest
from ladder_arms import Settings

ABOUT = {"generator_version": 2, "n_patients": 1000, "delta": 5e-5}
ZERO, CEILING, OURS = Settings("zero-shot"), Settings("ceiling"), Settings("ours, patient", 1.06)
AUROCS = {"zero-shot": 0.7, "ceiling": 0.9, "ours, patient": 0.8}


def test_rows_of_another_generator_are_run_again(tmp_path):
    out, about = (
        tmp_path / "ladder.json",
        {
            "generator_version": 2,
            "n_patients": 1000,
            "delta": 5e-5,
        },
    )
    assert ladder_runs.rows_of(out, about) == []
    out.write_text(json.dumps(about | {"rows": [{"arm": "ceiling"}]}))
    assert ladder_runs.rows_of(out, about) == [{"arm": "ceiling"}]
    for name in about:
        assert ladder_runs.rows_of(out, about | {name: 3}) == []
    assert len(ladder_runs.rows_of(ladder_plan.RESULTS / "ladder.json", ladder_plan.SAME)) > 50


def test_every_stored_run_has_its_replicates_and_its_estimate_among_them():
    stored = json.loads((ladder_plan.RESULTS / "ladder.json").read_text())
    values = np.load(ladder_plan.RESULTS / "ladder_replicates.npz")
    keys = [ladder_runs.key_of(ladder_runs.settings_of(row, Settings)) for row in stored["rows"]]
    assert sorted(keys) == sorted(values)
    for key, row in zip(keys, stored["rows"]):
        assert values[key][0] == pytest.approx(row["auroc"], abs=1e-6)


def finished(settings, auroc):
    """Return a row and replicates, as `ladder.run` does."""
    return dataclasses.asdict(settings) | {"auroc": auroc}, np.full(11, auroc)


def collected(path, monkeypatch, wanted, tune=False):
    """Collect planted runs; return the arms that were run, and what the results hold."""
    begun = []

    def in_turn(missing, jobs, until, run, make_start):
        begun.extend(settings.arm for settings in missing)
        yield from (run(settings) for settings in missing)

    monkeypatch.setattr(ladder_runs, "in_turn", in_turn)
    ladder_runs.collect(
        wanted,
        path,
        argparse.Namespace(tune=tune, jobs=1, minutes=1),
        about=ABOUT,
        run=lambda settings: finished(settings, AUROCS[settings.arm]),
        make_start=None,
        summarise=ladder.summary,
    )
    return begun, json.loads(path.read_text())


def test_the_same_command_goes_on_and_keeps_rows_of_an_earlier_version(tmp_path, monkeypatch):
    path, earlier = tmp_path / "ladder.json", Settings("0.3: zero-shot", start="strong", shifts=1)
    results = ladder_runs.Results([ZERO], path, ABOUT, is_tuning=False)
    results.add(*finished(earlier, 0.7))
    results.write()
    assert collected(path, monkeypatch, [ZERO, OURS])[0] == ["zero-shot", "ours, patient"]
    # another setting of ours, and the ceiling: the old row of ours is let go
    wanted = [ZERO, CEILING, dataclasses.replace(OURS, epochs=3)]
    begun, stored = collected(path, monkeypatch, wanted)
    assert begun == ["ceiling", "ours, patient"]
    arms = ["zero-shot", "ceiling", "ours, patient", "0.3: zero-shot"]
    assert [row["arm"] for row in stored["rows"]] == arms
    assert [level["arm"] for level in stored["levels"]] == arms[:3] and stored["goals"]
    assert len(np.load(tmp_path / "ladder_replicates.npz")) == 4
    assert collected(path, monkeypatch, wanted)[0] == []


def test_trials_are_rows_alone(tmp_path, monkeypatch):
    path = tmp_path / "ladder_trials.json"
    _, stored = collected(path, monkeypatch, [ZERO, OURS], tune=True)
    assert len(stored["rows"]) == 2 and stored["levels"] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["ladder_trials.json"]


def test_a_start_is_made_once_and_before_the_first_run_that_needs_it(monkeypatch):
    done = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, jobs, mp_context):
            super().__init__(jobs)

    def run(settings):
        done.append((settings.arm, settings.start))
        return finished(settings, 0.8)

    monkeypatch.setattr(ladder_runs, "ProcessPoolExecutor", Pool)
    starts = ("halves", "none", "halves", "halves_inverted")
    wanted = [Settings(f"arm {n}", start=start) for n, start in enumerate(starts)]
    results = list(ladder_runs.in_turn(wanted, 1, math.inf, run, done.append))
    assert [row["arm"] for row, _ in results] == [settings.arm for settings in wanted]
    assert done == [
        "halves",
        ("arm 0", "halves"),
        ("arm 1", "none"),
        ("arm 2", "halves"),
        "halves_inverted",
        ("arm 3", "halves_inverted"),
    ]
    assert list(ladder_runs.in_turn(wanted, 1, 0.0, run, done.append)) == []  # no time is left


def test_a_start_is_made_beside_the_runs_that_do_not_need_it(monkeypatch):
    class Pool(ThreadPoolExecutor):
        def __init__(self, jobs, mp_context):
            super().__init__(jobs)

    first_is_over = threading.Event()

    def run(settings):
        first_is_over.set()
        return finished(settings, 0.8)

    def make_start(name):
        assert first_is_over.wait(timeout=30)

    monkeypatch.setattr(ladder_runs, "ProcessPoolExecutor", Pool)
    wanted = [Settings("later", start="halves"), Settings("beside", start="none")]
    results = list(ladder_runs.in_turn(wanted, 2, math.inf, run, make_start))
    assert [row["arm"] for row, _ in results] == ["beside", "later"]
