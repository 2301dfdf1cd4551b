"""Predictions of somebody else's model: read, and refused in words."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import external_predictions, metric_table, study_results
from helpers.core import errors


@pytest.fixture
def files_of(tmp_path):
    """Two files as somebody else would write them, and their paths."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "image_id": range(100, 220),
            "patient_id": np.repeat(range(40), 3),
            "sex": ["female", "male", None] * 40,
        }
    )
    predictions = table[["image_id"]].assign(
        finding="effusion", label=rng.integers(0, 2, 120), score=rng.random(120)
    )
    return (
        save(tmp_path, "table.csv", table),
        save(tmp_path, "ours.csv", predictions),
        table,
        predictions,
    )


def save(folder, name, table):
    table.to_csv(folder / name, index=False)
    return str(folder / name)


def test_two_files_are_a_study(files_of, tmp_path):
    table_path, path, table, predictions = files_of
    other = tmp_path / "private.parquet"
    predictions.assign(score=1 - predictions["score"]).to_parquet(other)
    images, record, records, run_predictions = study_results.opened(
        "",
        [],
        [{"path": path, "arm": "baseline"}, {"path": str(other), "arm": "dp", "epsilon": 8}],
        table_path,
    )
    assert record == {"access": "outside", "findings": ["effusion"]}
    assert list(run_predictions) == [
        "ours",
        "private",
    ]
    assert set(images["sex"]) == {"female", "male", "unknown"}
    assert (images["split"] == "test").all()
    assert images["effusion"].tolist() == predictions["label"].tolist()
    assert images["patient_id"].iloc[3] == "1"
    alone = metric_table.replicate(
        {"ours": run_predictions["ours"]}, images, ["sex"], n_bootstrap=20
    )
    assert alone.loc[("ours", "auroc", "effusion", "sex", "female"), 0] > 0
    assert alone.xs("accuracy", level="metric").isna().all().all()  # no valid, so no threshold


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda table: table.rename(columns={"score": "probability"}),
            "columns 'score' in .*ours.csv",
        ),
        (
            lambda table: table.assign(score=table["score"] * 3),
            r"scores in \[0, 1\] in .*ours.csv.*not logits",
        ),
        (
            lambda table: pd.concat([table, table.iloc[:2]]),
            "one row for each image and finding in .*ours.csv; got 2 repeated",
        ),
        (
            lambda table: table.assign(image_id=table["image_id"] + 50),
            "a row in .*table.csv for every image of .*ours.csv; got 50 without",
        ),
        (lambda table: table.assign(label=2), "labels 1, 0 or missing"),
        (lambda table: table.assign(score="high"), "numbers in score of .*ours.csv; got 'high'"),
        (
            lambda table: table.assign(score=[None] + [0.5] * 119),
            "a score in every row of .*ours.csv; got 1 without",
        ),
        (
            lambda table: table.assign(split="train"),
            "split valid or test in .*ours.csv; got 'train'",
        ),
        (
            lambda table: table.assign(split="validation"),
            "split valid or test in .*ours.csv; got 'validation'",
        ),
        (
            lambda table: table.assign(split=["valid", "test"] * 60),
            "each patient in one split of .*ours.csv; got 40 in several",
        ),
    ],
)
def test_predictions_not_in_order_are_refused_by_the_name_of_the_file(files_of, change, message):
    table_path, path, _, predictions = files_of
    change(predictions).to_csv(path, index=False)
    with pytest.raises(errors.InputError, match=message):
        external_predictions.study([{"path": path, "arm": "baseline"}], table_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda table: table.drop(columns="patient_id"), "columns 'patient_id' in .*table.csv"),
        (
            lambda table: pd.concat([table, table.iloc[:1]]),
            "one row an image in .*table.csv; got 1 repeated, e.g. '100'",
        ),
        (
            lambda table: table.assign(patient_id=[None] + list(range(119))),
            "a patient_id in every row",
        ),
        (lambda table: table.assign(sex="F"), "sex female, male or empty in .*table.csv; got 'F'"),
        (
            lambda table: table.assign(age_years="48Y"),
            "numbers in age_years of .*table.csv; got '48Y'",
        ),
    ],
)
def test_tables_not_in_order_are_refused_by_the_name_of_the_file(files_of, change, message):
    table_path, path, table, _ = files_of
    change(table).to_csv(table_path, index=False)
    with pytest.raises(errors.InputError, match=message):
        external_predictions.study([{"path": path, "arm": "baseline"}], table_path)


@pytest.mark.parametrize(
    "entry, message",
    [
        ("ours.csv", "PREDICTIONS to be like"),
        ({"path": "x.csv"}, "PREDICTIONS to be like"),
        ({"path": "x.csv", "arm": "private"}, "arm to be one of"),
        ({"path": "x.csv", "arm": "dp"}, "epsilon for arm dp"),
        ({"path": "x.csv", "arm": "baseline", "epsilon": 2}, "epsilon for arm dp"),
        ({"path": "absent.csv", "arm": "baseline"}, "a file at absent.csv"),
        ({"path": "x.csv", "arm": "dp", "epsilon": 2, "unit": "Patients"}, "unit to be one of"),
    ],
)
def test_entries_of_another_form_are_refused(files_of, entry, message):
    with pytest.raises(errors.InputError, match=message):
        external_predictions.study([entry], files_of[0])


def test_two_files_of_one_arm_are_not_taken_for_seeds(files_of, tmp_path):
    table_path, path, _, predictions = files_of
    again = save(tmp_path, "again.csv", predictions)
    with pytest.raises(errors.InputError, match="differ in arm, epsilon, unit, recipe or seed"):
        external_predictions.study(
            [{"path": path, "arm": "baseline"}, {"path": again, "arm": "baseline"}], table_path
        )
    assert (
        len(
            external_predictions.study(
                [{"path": path, "arm": "baseline"}, {"path": again, "arm": "baseline", "seed": 1}],
                table_path,
            )[1]
        )
        == 2
    )
    with pytest.raises(errors.InputError, match="Set TABLE"):
        external_predictions.study([{"path": path, "arm": "baseline"}], "")


def test_a_file_that_is_no_table_is_refused(files_of):
    table_path, path, *_ = files_of
    with open(path, "wb") as stream:
        stream.write(b"\x00\xff\x00,")
    with pytest.raises(errors.InputError, match="ours.csv"):
        external_predictions.study([{"path": path, "arm": "baseline"}], table_path)
