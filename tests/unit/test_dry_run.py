"""What a study would do, said without doing it."""

import argparse
import re

import pytest

import run_all
from helpers.core import files, fingerprints
from helpers.study import batches, dry_run, notebook_files, plan, profiles, step_cache


def test_without_arguments_nothing_is_done_but_said(tmp_path, capsys, monkeypatch):
    read = run_all.read_arguments
    elsewhere = {"out": tmp_path / "out"}
    monkeypatch.setattr(
        run_all, "read_arguments", lambda words: argparse.Namespace(**vars(read(words)) | elsewhere)
    )
    assert run_all.main([]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Nothing was done.") and "run_all.py --profile demo --out" in said
    assert "run_all.py --list" in said and not list(tmp_path.iterdir())
    for step in plan.plan(*profiles.collect(profiles.read_profile("demo"), [])):
        # timed with these very parameters: else see `make expected`
        assert re.search(rf"^  {step.id} +about \d+ (s|min) +to run$", said, re.MULTILINE)
    assert "steps to run" in said and "without those never timed" not in said


@pytest.fixture
def batch_of_two(tmp_path):
    """A batch whose first step is unchanged, and its second one new."""
    notebook = notebook_files.notebooks()["01"]
    first, second = plan.Step("01_a", notebook, {}), plan.Step("01_b", notebook, {}, needs=["01_a"])
    results = step_cache.Results(tmp_path)
    for page in step_cache.pages(first):
        files.write_text(tmp_path / page, "")
    results.store(first, results.key(first), 300.0)
    return batches.Batch(results, [first, second], [first, second], jobs=1)


def test_a_plan_says_what_is_unchanged_and_how_long_the_rest_takes(batch_of_two):
    done, new, whole = dry_run.plan_lines(batch_of_two, with_parameters=False)
    assert done.split() == ["01_a", "unchanged"] and new.split() == ["01_b", "to", "run"]
    assert whole == "1 step to run; none was timed, in this folder or in expected/."
    kept = {"seconds": 120.0, "parameters": fingerprints.fingerprint({})}
    files.write_json(batch_of_two.results.out / ".state/01_b.json", kept)
    done, _, new, parameters, whole = dry_run.plan_lines(batch_of_two, with_parameters=True)
    assert "about 2 min" in new and parameters.strip() == "{}"
    assert whole == "1 step to run, together about 2 min (timed in this folder)."


def test_what_is_decided_later_counts_as_to_be_run(batch_of_two):
    first, second = batch_of_two.steps
    batch_of_two.results.store(second, batch_of_two.results.key(second), 60.0)
    for page in step_cache.pages(second):
        files.write_text(batch_of_two.results.out / page, "")
    assert dry_run.plan_lines(batch_of_two, False)[-1].startswith("Nothing is left to do")
    (batch_of_two.results.out / step_cache.pages(first)[0]).unlink()
    done, new, whole = dry_run.plan_lines(batch_of_two, False)
    assert done.endswith("about 5 min  to run") and new.endswith("decided after 01_a")
    assert whole == "2 steps to run, together about 6 min (timed in this folder)."
