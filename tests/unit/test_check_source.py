"""A data set before an image is opened: counts worked by hand, and what is suspicious about it."""

import pandas as pd
import pytest
import yaml

from helpers.core import errors
from helpers.data import __main__ as command_line
from helpers.data import manifest_schema, manifests
from helpers.data.first_look import check_source
from helpers.data.first_look import source_suspicions as suspicions
from helpers.data.tables import source_columns, split_rules

MANIFEST = dict(
    name="ward",
    title="A ward",
    modality="chest radiograph",
    access="private",
    licence="none",
    citation="none",
    how_to_get="Ask.",
    layout=dict(kind="table_and_images", table="films.csv", image_path="images/{file}"),
    image_id="{file}",
    patient_id="patient",
    sex=dict(column="sex", values=dict(F="female", M="male")),
    age=dict(column="age"),
    further_columns=dict(scanner="scanner"),
    split=dict(column="split", values=dict(train="train", valid="valid", test="test")),
    findings=dict(
        effusion=dict(
            canonical="effusion", column="effusion", values={"1": "positive", "0": "negative"}
        )
    ),
    image=dict(px=32),
    min_share_present=0.5,
    sizes=dict(rows=9, images=7),
)
TABLE = """file,patient,sex,age,scanner,split,effusion,ward
a.png,p1,F,70,A,train,1,3
b.png,p1,F,71,A,train,0,3
c.png,p2,M,50,B,train,,4
d.png,p3,M,60,B,valid,1,4
e.png,p3,M,60,B,valid,0,4
f.png,p4,F,80,A,test,1,5
g.png,p5,,,A,test,0,5
h.png,p6,M,40,B,test,0,5
"""


@pytest.fixture
def ward(tmp_path):
    """A manifest's path and a data root: eight rows, the file of the last one is absent."""
    (tmp_path / "images").mkdir()
    for name in "abcdefg":
        (tmp_path / f"images/{name}.png").write_bytes(name.encode())
    (tmp_path / "films.csv").write_text(TABLE)
    path = tmp_path / "ward.yaml"
    path.write_text(yaml.safe_dump(MANIFEST, sort_keys=False))
    return path, tmp_path


def rows_of(n=40, **columns):
    """Rows of a cohort without anything odd; `columns` replace or add some."""
    defaults = {
        "image_id": [f"i{k}" for k in range(n)],
        "patient_id": [f"p{k // 2}" for k in range(n)],
        "split": [("train", "valid", "test")[k // 2 % 3] for k in range(n)],
        "sex": [("female", "male")[k // 2 % 2] for k in range(n)],
        "age_years": [30.0 + k // 2 for k in range(n)],
        "effusion": [float(k % 2) for k in range(n)],
        "scanner": [("A", "B")[k % 2] for k in range(n)],
        "file": [f"{k}.png" for k in range(n)],
        "bytes": [100 + k for k in range(n)],
    }
    return pd.DataFrame(defaults | columns)


def manifest_of(**changes):
    """The ward's manifest with changes."""
    return manifest_schema.Manifest.model_validate(MANIFEST | changes)


def test_labels_by_split_counts_images(ward):
    check = check_source.read(manifests.read(ward[0]), ward[1])
    counts = check_source.labels_by_split(check).set_index("split")
    assert counts.loc["train", ["positive", "negative", "unknown"]].tolist() == [1, 1, 1]
    assert counts.loc["valid", ["positive", "negative", "unknown"]].tolist() == [1, 1, 0]
    assert counts.loc["test", ["positive", "negative", "unknown"]].tolist() == [1, 1, 0]
    assert check.n_rows == 8 and check.n_absent_files == 1 and check.unused == ["ward"]
    assert len(check.source.rows) == 7 and check_source.n_training_patients(check) == 2
    assert check_source.cohort_bytes(check) == 7 * 32 * 32


def test_split_by_hash_is_the_one_that_building_takes(ward):
    manifest = manifest_of(split=dict(valid_share=0.2, test_share=0.1))
    check = check_source.read(manifest, ward[1])
    for row in check.source.rows.itertuples():
        assert row.split == split_rules.hash_split(row.patient_id, manifest.split)


def test_command_prints_what_is_there(ward, capsys):
    assert command_line.main(["check", str(ward[0]), "--data-root", str(ward[1])]) == 0
    said = capsys.readouterr().out
    for words in (
        "8 in films.csv",
        "not read       ward",
        "absent files   1",
        "1 image file absent",
        "5; images of one: median 1, most 2",
        "2 female, 2 male, 1 unknown (patients)",
        "50 to 80, median 65 years; unknown 1 (patients)",
        "9 rows (here 8), 7 images (the same)",
        "2 patients; DELTA of notebook 03 below 1 / (10 x 2) = 5.0e-02",
    ):
        assert words in said, words


@pytest.mark.parametrize(
    "words, status, message",
    [
        (["check", "{ward}", "--data-root", "/nowhere"], 1, "films.csv under the data root"),
        (["check", "{ward}"], 1, "got no data root"),
        (["check", "absent.yaml"], 2, "a file at absent.yaml"),
        (["check", "chestxray15"], 2, "Did you mean 'chestxray14'"),
        (["check", "synthetic_cxr_public"], 1, "which is drawn"),
    ],
)
def test_command_refuses_in_one_line(words, status, message, ward, capsys):
    assert command_line.main([word.format(ward=ward[0]) for word in words]) == status
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_wrong_manifest_is_refused_as_data_are(ward, capsys):
    ward[0].write_text(ward[0].read_text().replace("px: 32", "pixels: 32"))
    assert command_line.main(["check", str(ward[0]), "--data-root", str(ward[1])]) == 1
    said = capsys.readouterr().err
    assert "image.pixels" in said and "ward.yaml" in said and said.count("\n") == 1


def test_a_place_that_cannot_be_written_is_named(ward, capsys):
    words = ["new", str(ward[1] / "films.csv"), "--to", str(ward[1] / "films.csv/x")]
    assert command_line.main(words) == 1
    assert "films.csv" in capsys.readouterr().err


def test_rows_are_shown_although_the_files_are_refused(ward, capsys):
    for path in ward[1].glob("images/[a-f].png"):
        path.unlink()
    assert command_line.main(["check", str(ward[0]), "--data-root", str(ward[1])]) == 1
    said = capsys.readouterr()
    assert "8 in films.csv" in said.out and "absent files   not looked for" in said.out
    assert "at least 50% of 8 image files" in said.err


def test_an_absent_column_names_field_and_file_and_the_nearest_column():
    manifest = manifest_of(age=dict(column="Agee"))
    with pytest.raises(
        errors.InputError, match=r"Did you mean 'age'\? Correct the file, or `age.column` in ward"
    ):
        source_columns.check(manifest, TABLE.split("\n")[0].split(","), "films.csv")
    assert source_columns.fields_of(manifest, "file") == ["layout.image_path", "image_id"]
    assert source_columns.fields_of(manifest, "effusion") == ["findings.effusion.column"]
    assert source_columns.fields_of(manifest, "scanner") == ["further_columns.scanner"]
    assert source_columns.fields_of(manifest_of(keep=dict(ward=["3"])), "ward") == ["keep.ward"]


# ---- what is suspicious


def test_nothing_is_suspicious_about_plain_rows():
    rows = rows_of(n=400)
    assert suspicions.of_rows(manifest_of(), rows) == []


@pytest.mark.parametrize(
    "columns, words",
    [
        (dict(patient_id=[f"p{k % 5}" for k in range(400)]), "Only 5 patients for 400"),
        (dict(patient_id=["x"] * 80 + [f"p{k}" for k in range(320)]), "One patient has 80 images"),
        (dict(sex=["female", "male"] * 200), "200 patients have two sexes"),
        (dict(sex=["unknown"] * 400), "Nobody's sex is known"),
        (dict(sex=["male"] * 400), "All known sexes are male"),
        (
            dict(age_years=[30.0, 50.0] + [40.0 + k % 20 // 2 for k in range(398)]),
            "1 patients have",
        ),
        (dict(age_years=[0.0] * 40 + [30 + k / 7 for k in range(360)]), "Age 0 on 20 of"),
        (dict(age_years=[30 + k // 2 / 4 for k in range(320)] + [90.0] * 80), "Age 90 on 40 of"),
        (dict(age_years=[k % 20 / 1000 for k in range(400)]), "is `age.unit` right"),
        (dict(effusion=[1.0, 0.0] * 10 + [float("nan")] * 380), "unknown on 95%"),
        (dict(effusion=[1.0] * 396 + [0.0] * 4), "present on 99%"),
        (
            dict(effusion=[float(k < 8 or k % 2 and k // 2 % 3 > 0) for k in range(400)]),
            "2 with and 65 without it in train",
        ),
        (dict(split=["train"] * 400), "No image is in the split test"),
        (dict(scanner=[f"2019-03-{1 + k % 28:02d}" for k in range(400)]), "scanner holds dates"),
        (dict(scanner=[f"s{k}" for k in range(400)]), "400 different values"),
        (dict(scanner=["ge", "GE"] * 200), "differ only in case"),
        (dict(image_id=["A.png", "a.png"] + [f"i{k}" for k in range(398)]), "2 image ids differ"),
        (dict(bytes=[0, 0] + [100] * 398), "2 files have no bytes"),
        (
            dict(file=["x/a.png", "y/a.png"] + [f"{k}.png" for k in range(398)], bytes=[9] * 400),
            "1 files have the name and the size",
        ),
    ],
)
def test_what_is_odd_about_rows_is_said(columns, words):
    sentences = suspicions.of_rows(manifest_of(), rows_of(n=400, **columns))
    assert any(words in sentence for sentence in sentences), sentences


def test_a_data_set_without_patients_is_suspicious():
    (sentence,) = suspicions.of_patients(manifest_of(patient_id=None), rows_of(n=400))
    assert "`patient_id` is null" in sentence and "not to people" in sentence


def test_the_same_name_in_every_study_s_folder_is_not_a_copy():
    files = [f"study{k}/view1_frontal.jpg" for k in range(400)]
    assert suspicions.of_rows(manifest_of(), rows_of(n=400, file=files, bytes=[9] * 400)) == []


def test_one_column_read_twice_is_said():
    finding = MANIFEST["findings"]["effusion"]
    manifest = manifest_of(findings=dict(effusion=finding, oedema=finding))
    rows = rows_of(n=400).assign(oedema=rows_of(n=400)["effusion"])
    assert any("one column twice" in sentence for sentence in suspicions.of_rows(manifest, rows))


def test_no_sentence_names_a_patient_or_an_image():
    rows = rows_of(n=400, patient_id=["secret"] * 80 + [f"p{k}" for k in range(320)])
    rows["image_id"] = ["SECRET", "secret"] + [f"i{k}" for k in range(398)]
    assert not [s for s in suspicions.of_rows(manifest_of(), rows) if "secret" in s.casefold()]
