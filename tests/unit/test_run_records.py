"""Runs have their documented names and forms, and a run with a record is whole."""

import os
import subprocess

import numpy as np
import pandas as pd
import pytest

from helpers.core import (
    errors,
    figure_files,
    files,
    fingerprints,
    machine,
    paths,
    random_streams,
    run_records,
)


def predictions(**changed):
    """A right table of predictions of one image, with columns changed."""
    return pd.DataFrame(
        {
            "image_id": ["i"],
            "patient_id": ["p"],
            "split": ["test"],
            "finding": ["f"],
            "label": [1.0],
            "score": [0.5],
        }
        | changed
    )


def record(run="c-baseline-seed0", **changed):
    """A right record."""
    return run_records.new_record(
        **dict.fromkeys(run_records.RECORD_KEYS)
        | {"run": run, "cohort": "c", "arm": "baseline"}
        | changed
    )


def finished(results, **changed):
    """A run that was written whole."""
    made = record(**changed)
    files.write_text(paths.run_dir(made["run"]) / "weights.safetensors", "weights")
    run_records.finish_run(made, predictions())
    return made["run"]


@pytest.mark.parametrize(
    "arguments, name",
    [
        (("zero_shot",), "c-zero_shot"),
        (("baseline", 3), "c-baseline-seed3"),
        (("dp", 0, 1.06), "c-dp-eps1.06-seed0"),
        (("dp", 0, 8.0, "paper_recipe"), "c-dp-eps8-seed0-paper_recipe"),
    ],
)
def test_run_name_is_that_of_the_design(arguments, name):
    assert run_records.run_name("c", *arguments) == name


def test_results_dir_is_moved_by_one_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    assert (
        paths.run_dir("r") == tmp_path / "runs" / "r"
        and paths.cohort_dir("c") == tmp_path / "cohort" / "c"
    )
    monkeypatch.delenv("RESULTS_DIR")
    assert paths.results_dir() == paths.repository_root() / "results"


def test_runs_of_a_cohort_leave_out_models_of_others_tried_on_it(results):
    trained_here, tried_here = (
        finished(results),
        finished(results, run="c-from-d-baseline-seed0", trained_on="d"),
    )
    assert run_records.runs_of("c") == [trained_here] and run_records.is_whole(tried_here)


def test_new_record_refuses_an_absent_key():
    with pytest.raises(errors.InputError, match="a run record with 'cohort'"):
        run_records.new_record(**{key: None for key in run_records.RECORD_KEYS if key != "cohort"})


def test_finished_run_is_whole_and_can_be_read(results):
    run = finished(results)
    assert run_records.is_whole(run) and run_records.read_record(run)["arm"] == "baseline"
    pd.testing.assert_frame_equal(
        run_records.read_predictions(run), predictions(), check_dtype=False
    )


def test_a_record_is_replaced_and_never_removed_first(results, monkeypatch):
    run = finished(results)
    seen, unlink = [], type(results).unlink
    monkeypatch.setattr(
        type(results),
        "unlink",
        lambda self, *arguments, **named: (
            seen.append(self.name) or unlink(self, *arguments, **named)
        ),
    )
    run_records.finish_run(record(seed=5), predictions())
    assert (
        run_records.read_record(run)["seed"] == 5
        and run_records.is_whole(run)
        and "record.json" not in seen
    )


def test_a_checkpoint_goes_only_after_the_record_stands(results, monkeypatch):
    run = finished(results)
    checkpoint = paths.run_dir(run) / "checkpoint.pt"
    checkpoint.write_bytes(b"steps")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            files, "write_json", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        run_records.finish_run(record(), predictions())
    assert checkpoint.exists()
    run_records.finish_run(record(), predictions())
    assert not checkpoint.exists()


def test_flipped_byte_in_predictions_is_noticed(results):
    path = paths.run_dir(run := finished(results)) / "predictions.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not run_records.is_whole(run)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"score": [1.5]}, "scores in"),
        ({"score": [np.nan]}, "scores in"),
        ({"label": [2.0]}, "labels 1, 0 or missing"),
    ],
)
def test_check_predictions_refuses_other_forms(changed, message):
    with pytest.raises(errors.InputError, match=message):
        run_records.check_predictions(predictions(**changed), "a table")


def test_check_predictions_refuses_two_rows_for_one_image_and_finding():
    with pytest.raises(errors.InputError, match="one row for each image and finding"):
        run_records.check_predictions(pd.concat([predictions(), predictions()]), "a table")


def test_runs_of_lists_arms_in_order_and_one_cohort_only(results):
    for run, arm, epsilon in [
        ("b-dp", "dp", 8.0),
        ("a-dp", "dp", 1.0),
        ("z", "zero_shot", None),
        ("m", "baseline", None),
    ]:
        finished(results, run=run, arm=arm, epsilon_target=epsilon)
    finished(results, run="other", cohort="d")
    assert run_records.runs_of("c") == ["z", "m", "a-dp", "b-dp"]
    assert run_records.read_record("z")["files"]["weights.safetensors"] == fingerprints.file_hash(
        paths.run_dir("z") / "weights.safetensors"
    )


def test_random_stream_repeats_and_differs_by_seed_name_and_step():
    def first(*key):
        return random_streams.random_stream(*key).random()

    assert first(1, "noise", 2) == first(1, "noise", 2)
    assert (
        len(
            {
                first(1, "noise", 2),
                first(2, "noise", 2),
                first(1, "order", 2),
                first(1, "noise", 3),
                first(1 + 2**32, "noise", 2),
            }
        )
        == 5
    )


def test_save_figure_writes_picture_drawing_and_table(results):
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    figure_files.save_figure(ax, "04_curve", pd.DataFrame({"x": [1]}))
    assert {path.relative_to(results).as_posix() for path in results.rglob("*.*")} == {
        "figures/04_curve.png",
        "figures/04_curve.svg",
        "tables/04_curve.csv",
    }


@pytest.mark.parametrize("text", ["", "  "])
def test_a_blank_results_dir_is_none(text, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", text)
    assert paths.results_dir() == paths.repository_root() / "results"


def test_results_dir_may_be_relative_or_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RESULTS_DIR", "my results")
    assert paths.results_dir() == tmp_path / "my results"
    monkeypatch.setenv("RESULTS_DIR", "~/results")
    assert paths.results_dir() == tmp_path / "home" / "results"


def git(folder, *words):
    """Run git in a folder, as somebody."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package unpacked below a folder: as much of it as `commit` looks at."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = tmp_path / "outer" / "package"
    module = root / "helpers" / "core" / "run_records.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    monkeypatch.setattr(paths, "repository_root", lambda: root.resolve())
    monkeypatch.setattr(run_records, "__file__", str(module))
    return root


@pytest.mark.parametrize("is_ignored", [True, False])
def test_the_commit_is_not_that_of_a_repository_around_the_package(is_ignored, package):
    outer = package.parent
    (outer / ".gitignore").write_text("package\n" if is_ignored else "")
    git(outer, "init")
    git(outer, "add", ".")
    git(outer, "commit", "-m", "theirs")
    assert run_records.commit() is None


def test_the_commit_is_that_of_the_packages_own_repository(package, monkeypatch):
    git(package.parent, "init")
    git(package.parent, "commit", "--allow-empty", "-m", "theirs")
    git(package, "init")
    assert run_records.commit() is None  # nothing committed yet
    git(package, "commit", "--allow-empty", "-m", "without the package")
    assert run_records.commit() is None
    git(package, "add", ".")
    git(package, "commit", "-m", "ours")
    # as in a git hook of the repository around it
    monkeypatch.setenv("GIT_DIR", str(package.parent / ".git"))
    head = (package / ".git" / "refs" / "heads" / "main").read_text().strip()
    assert run_records.commit() == head
    (package / "helpers" / "core" / "run_records.py").write_text("changed")
    assert run_records.commit() == f"{head}+changes"


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run_records.commit() is None


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_record_means_that_the_run_is_not_whole(content, results):
    run = finished(results)
    (paths.run_dir(run) / "record.json").write_text(content)
    assert not run_records.is_whole(run)


def test_cut_predictions_are_refused_by_name(results):
    run = finished(results)
    (paths.run_dir(run) / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(errors.InputError, match="predictions.parquet.*Run notebook 02 or 03"):
        run_records.read_predictions(run)


@pytest.mark.parametrize("threads, number", [("", 3), ("4,2", 4), ("0", 3)])
def test_hardware_takes_any_number_of_threads(threads, number, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(machine, "cores", lambda: 3)
    assert run_records.hardware()["threads"] == number
