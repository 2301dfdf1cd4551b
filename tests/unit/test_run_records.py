"""Runs have their documented names and forms, and a run with a record is whole."""

import numpy as np
import pandas as pd
import pytest

from helpers.core import (
    errors,
    figure_files,
    files,
    fingerprints,
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
