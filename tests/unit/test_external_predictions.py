"""Predictions of somebody else's model: read, and refused in words."""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import external_predictions, metric_table, study_results
from helpers.core import errors
from helpers.data import groups


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


def opened(folder, table, predictions):
    """Return table of images and predictions, read from two files of the given tables."""
    images, _, of_runs = external_predictions.study(
        [{"path": save(folder, "theirs.csv", predictions), "arm": "baseline"}],
        save(folder, "people.csv", table),
    )
    return images, of_runs["theirs"]


def test_columns_that_only_sound_like_an_age_or_a_sex_are_groups(files_of, tmp_path):
    *_, table, predictions = files_of
    table = table.drop(columns="sex").assign(scanner_age=3, age_group="old", female_reader="yes")
    images, _ = opened(tmp_path, table, predictions)
    assert images["age_years"].isna().all() and set(images["sex"]) == {"unknown"}
    assert set(images["scanner_age"]) == {"3"}


def test_findings_that_differ_by_letter_case_only_are_refused(files_of, tmp_path):
    *_, table, predictions = files_of
    predictions["finding"] = ["effusion", "Effusion"] * 60
    with pytest.raises(errors.InputError, match="one spelling .*got 'Effusion', 'effusion'"):
        opened(tmp_path, table, predictions)


def test_findings_and_groups_called_NA_or_None_are_findings_and_groups(files_of, tmp_path):
    *_, table, predictions = files_of
    both = pd.concat([predictions, predictions.assign(finding="NA")])
    table = table.assign(implant=["None", "port", "null"] * 40, region=["NA", "EU", ""] * 40)
    images, rows = opened(tmp_path, table, both)
    assert rows["finding"].value_counts().to_dict() == {"effusion": 120, "NA": 120}
    grouped = groups.add_groups(images, ["implant", "region"])
    assert grouped["group_implant"].tolist() == ["None", "port", "null"] * 40
    assert grouped["group_region"].tolist() == ["NA", "EU", "unknown"] * 40


@pytest.mark.parametrize("missing", [None, 2])
@pytest.mark.parametrize("ending", ["csv", "parquet", "xlsx"])
def test_codes_have_the_same_name_whether_or_not_one_is_missing(
    files_of, tmp_path, ending, missing
):
    *_, table, predictions = files_of
    table = table.assign(site=[1, 2, missing] * 40)
    path = str(tmp_path / f"people.{ending}")
    {"csv": table.to_csv, "parquet": table.to_parquet, "xlsx": table.to_excel}[ending](
        path, index=False
    )
    theirs = save(tmp_path, "theirs.csv", predictions)
    images, *_ = external_predictions.study([{"path": theirs, "arm": "baseline"}], path)
    sites = groups.add_groups(images, ["site"])["group_site"]
    assert sites.tolist() == ["1", "2", "2" if missing else "unknown"] * 40
    assert images["image_id"].tolist() == list(map(str, range(100, 220)))


def test_ages_and_counts_that_cannot_be_are_unknown_and_told(files_of, tmp_path, capsys):
    *_, table, predictions = files_of
    table = table.assign(
        age_years=[70, 999, -1, 120] * 30, n_comorbidities=[2, 99, None, "NA"] * 30
    )
    images, _ = opened(tmp_path, table, predictions)
    np.testing.assert_array_equal(images["age_years"][:4], [70, np.nan, np.nan, 120])
    np.testing.assert_array_equal(images["n_comorbidities"][:4], [2, np.nan, np.nan, np.nan])
    assert capsys.readouterr().out.splitlines() == [
        "60 images of people.csv have age_years below 0 or above 120, e.g. '-1', '999': they count"
        " as unknown.",
        "30 images of people.csv have n_comorbidities below 0 or above 90, e.g. '99': they count as"
        " unknown.",
    ]
    opened(tmp_path, table.assign(age_years=70, n_comorbidities=1), predictions)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(age=70), "the column age_years in .*people.csv; got 'age' in its place"),
        (dict(PatientAge=70), "'PatientAge' in its place. Rename it to age_years"),
        (dict(age_years=range(9000, 9120)), "age_years from 0 to 120.*Give ages in years"),
        (dict(Gender="F", sex=None), "the column sex .*got 'Gender' in its place"),
        (dict(age_days=9000), "'age_days' in its place. Write the ages in years into a column"),
        (dict(patient_id=range(100, 220)), "patient_id to say whose .*own id in all 120 rows"),
        (dict(patient_id=["Unknown"] * 2 + list(range(118))), "got 'Unknown' in 2 rows, which"),
        (dict(comorbidities=2), "the column n_comorbidities .*'comorbidities' in its place"),
        (dict(patient_id="1.6768E+15"), "identifiers as text in column 'patient_id' of .*people"),
        (dict(image_id=[f"0{i}" for i in range(100, 220)]), "would match but for leading zeros"),
        (dict(patient_id="nan"), "a patient_id in every row of .*people.csv; got 120 without"),
    ],
)
def test_columns_called_otherwise_and_damaged_identifiers_are_refused(
    files_of, tmp_path, change, words
):
    *_, table, predictions = files_of
    table = table.assign(**change).dropna(axis=1, how="all")
    with pytest.raises(errors.InputError, match=words) as refusal:
        opened(tmp_path, table, predictions)
    assert "manifest" not in str(refusal.value)


@pytest.mark.parametrize("positive, negative", [("True", "False"), ("TRUE", "FALSE"), ("1.0", "0")])
def test_labels_may_be_truth_values(files_of, tmp_path, positive, negative):
    *_, table, predictions = files_of
    labels = predictions["label"].map({1: positive, 0: negative}).where(predictions.index > 1, "NA")
    _, rows = opened(tmp_path, table, predictions.assign(label=labels))
    assert rows["label"].isna().tolist() == [True, True] + [False] * 118
    assert rows["label"][2:].tolist() == predictions["label"][2:].tolist()


def test_a_column_of_age_groups_is_no_age(files_of, tmp_path):
    *_, table, predictions = files_of
    images, _ = opened(tmp_path, table.assign(age_group="60-69", dosage=2, image=1), predictions)
    assert images["age_years"].isna().all() and set(images["age_group"]) == {"60-69"}


def test_wrong_columns_of_predictions_name_no_manifest(files_of, tmp_path):
    *_, table, predictions = files_of
    for change in ({"score": "Score"}, {"finding": "findings"}):
        with pytest.raises(errors.InputError, match="Did you mean") as refusal:
            opened(tmp_path, table, predictions.rename(columns=change))
        assert "manifest" not in str(refusal.value)
    with pytest.raises(errors.InputError, match="columns 'split' in"):
        opened(tmp_path, table, predictions.assign(Split="valid"))
    with pytest.raises(errors.InputError, match="a finding in every row of .*; got 120 without"):
        opened(tmp_path, table, predictions.assign(finding=""))
