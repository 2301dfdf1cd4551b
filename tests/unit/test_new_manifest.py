"""A first manifest from a table: what it guesses of tables as they are, and what it asks."""

import pandas as pd
import pytest

from helpers.core import errors
from helpers.data import __main__ as command_line
from helpers.data import manifests
from helpers.data.first_look import check_source, column_guesses, label_guesses, new_manifest

RADIOGRAPHS = pd.DataFrame(
    {
        "file": [f"r{k}.png" for k in range(60)],
        "patient": [f"p{k // 2}" for k in range(60)],
        "sex": [("F", "M")[k // 2 % 2] for k in range(60)],
        "age": [str(30 + k // 2) for k in range(60)],
        "effusion_grade": [str(k % 5) for k in range(60)],
    }
)
NIH = pd.DataFrame(
    {
        "Image Index": [f"{k // 2:08d}_{k % 2:03d}.png" for k in range(60)],
        "Finding Labels": [("No Finding", "Effusion|Mass", "Effusion")[k % 3] for k in range(60)],
        "Follow-up #": [str(k % 2) for k in range(60)],
        "Patient ID": [f"{k // 2:05d}" for k in range(60)],
        "Patient Age": [f"{30 + k // 2}" for k in range(60)],
        "Patient Gender": [("M", "F")[k // 2 % 2] for k in range(60)],
        "View Position": [("PA", "AP")[k % 2] for k in range(60)],
    }
)
CHEXPERT = pd.DataFrame(
    {
        "Path": [
            f"CheXpert-small/train/patient{k // 4:05d}/study{1 + k // 2 % 2}/view{1 + k % 2}_"
            f"{('frontal', 'lateral')[k % 2]}.jpg"
            for k in range(80)
        ],
        "Sex": [("Female", "Male")[k // 4 % 2] for k in range(80)],
        "Age": [str(20 + k // 4) for k in range(80)],
        "Frontal/Lateral": [("Frontal", "Lateral")[k % 2] for k in range(80)],
        "AP/PA": [("AP", "")[k % 2] for k in range(80)],
        "Cardiomegaly": [("1.0", "", "0.0", "-1.0")[k // 2 % 4] for k in range(80)],
        "Pleural Effusion": [("1.0", "0.0")[k // 4 % 2] for k in range(80)],
    }
)


def new(tmp_path, table, folder, images, *options):
    """The manifest that `new` writes for a table in a folder with images, and the data root."""
    path = tmp_path / "data" / folder / "table.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    for image in images:
        file = tmp_path / "data" / image
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.encode())
    words = ["new", str(path), "--name", "mine", "--to", str(tmp_path), *options]
    assert command_line.main(words) == 0
    return manifests.read(tmp_path / "mine.yaml")


def test_radiographs_with_grades(tmp_path, capsys):
    images = [f"images/{name}" for name in RADIOGRAPHS["file"]]
    manifest = new(tmp_path, RADIOGRAPHS, "", images)
    assert (
        f"check {tmp_path / 'mine.yaml'} --data-root {tmp_path / 'data'}" in capsys.readouterr().out
    )
    assert manifest.layout.image_path == "images/{file}" and manifest.image_id == "{file}"
    assert manifest.patient_id == "patient" and manifest.sex.values == {"F": "female", "M": "male"}
    (finding,) = manifest.findings.values()
    assert finding.grades == [0, 1, 2, 3, 4] and finding.positive_grades == [2, 3, 4]
    check = check_source.read(manifest, tmp_path / "data")
    assert len(check.source.rows) == 60 and check.n_absent_files == 0
    assert check.source.rows["effusion_grade"].sum() == 36
    assert check.source.rows["age_years"].tolist() == [30 + k // 2 for k in range(60)]


def test_findings_that_can_be_on_one_side_are_guessed_of_films_only(tmp_path):
    names = ["Pleural Effusion", "No Finding", "Cardiomegaly", "Lung Lesion", "Effusion Right"]
    rib = dict.fromkeys([*names, "Rib Fracture"], RADIOGRAPHS["sex"].map({"F": "1", "M": "0"}))
    table = RADIOGRAPHS.assign(**rib)
    manifest = new(tmp_path, table, "", [f"images/{name}" for name in table["file"]])
    assert {name for name, rule in manifest.findings.items() if rule.lateral} == {
        "effusion_grade",
        "pleural_effusion",
        "lung_lesion",
        "rib_fracture",
    }
    (tmp_path / "mine.yaml").unlink()
    table["file"] = table["file"].str.replace(".png", ".nii.gz")
    volumes = new(tmp_path, table, "", [f"images/{name}" for name in table["file"]])
    assert not any(rule.lateral for rule in volumes.findings.values())


def test_findings_listed_in_a_cell(tmp_path):
    images = [f"images_001/images/{name}" for name in NIH["Image Index"]]
    manifest = new(tmp_path, NIH, "", images)
    assert manifest.layout.image_path == "images_001/images/{Image Index}"
    assert set(manifest.findings) == {"effusion", "mass"}
    assert manifest.further_columns == {"view_position": "View Position"}
    check = check_source.read(manifest, tmp_path / "data")
    assert check.source.rows["patient_id"].nunique() == 30
    assert check.source.rows["effusion"].sum() == 40 and check.source.rows["mass"].sum() == 20
    assert (
        command_line.main(
            ["check", str(tmp_path / "mine.yaml"), "--data-root", str(tmp_path / "data")]
        )
        == 0
    )


def test_patients_that_stand_only_in_the_path(tmp_path):
    manifest = new(tmp_path, CHEXPERT, "CheXpert-small", CHEXPERT["Path"])
    assert manifest.layout.table == "CheXpert-small/table.csv"
    assert manifest.layout.image_path == "{Path}" and manifest.patient_id == "patient"
    assert manifest.keep == {"Frontal/Lateral": ["Frontal"]}
    assert manifest.findings["cardiomegaly"].values == {
        "-1": "uncertain",
        "0": "negative",
        "1": "positive",
    }
    check = check_source.read(manifest, tmp_path / "data")
    assert len(check.source.rows) == 40 and check.source.rows["patient_id"].nunique() == 20
    assert check.source.rows["patient_id"].iloc[3] == "patient00001"
    counts = check.source.rows["cardiomegaly"].value_counts(dropna=False)
    assert (
        counts[1] == 10 and counts[0] == 10 and check.source.rows["cardiomegaly"].isna().sum() == 20
    )


def test_each_guess_and_each_open_question_is_marked(tmp_path):
    table = pd.DataFrame(
        {
            "file": ["a.png", "b.png", "b.png"],
            "gender": ["0", "1", "1"],
            "effusion": ["1", "0", "0"],
        }
    )
    new(tmp_path, table, "", [])
    lines = (tmp_path / "mine.yaml").read_text().splitlines()
    for field in ("title", "licence", "layout", "patient_id"):
        assert any(line.startswith(f"{field}:") and "# answer" in line for line in lines), field
    assert any("effusion" in line and "# guess" in line for line in lines)
    assert any(line.startswith("# sex:") for line in lines)  # 0 and 1 say nothing by themselves
    assert any(line.startswith("rows:") and "1 rows name an image" in line for line in lines)


def test_several_readers_of_an_image_and_a_row_a_finding(tmp_path):
    images = [f"images/{name}" for name in RADIOGRAPHS["file"]]
    file = [f"r{k // 3}.png" for k in range(180)]
    patient = [f"p{k // 6}" for k in range(180)]
    reader = [f"R{k % 3}" for k in range(180)]
    called = [str(int(k % 3 < 2) if k // 3 % 2 else 0) for k in range(180)]
    table = pd.DataFrame(dict(file=file, patient=patient, reader=reader, effusion=called))
    manifest = new(tmp_path, table, "", images)
    assert manifest.rows.readers == "majority" and not manifest.further_columns
    rows = check_source.read(manifest, tmp_path / "data").source.rows
    assert len(rows) == 60 and rows["effusion"].sum() == 30
    (tmp_path / "mine.yaml").unlink()

    finding = [("effusion", "mass", "oedema")[k % 3] for k in range(180)]
    table = pd.DataFrame(dict(file=file, patient=patient, finding=finding, label=called))
    manifest = new(tmp_path, table, "", [])
    assert (manifest.rows.long.finding, manifest.rows.long.value) == ("finding", "label")
    check = check_source.stages(manifest, tmp_path / "data")
    with pytest.raises(errors.InputError, match="with and without oedema"):
        next(check)  # no image has it
    (tmp_path / "mine.yaml").unlink()
    table["label"] = [str(k // 3 % 2) for k in range(180)]
    manifest = new(tmp_path, table, "", [])
    rows = check_source.read(manifest, tmp_path / "data").source.rows
    assert len(rows) == 60 and rows[["effusion", "mass", "oedema"]].sum().tolist() == [30] * 3


@pytest.mark.parametrize("encoding, separator", [("cp1252", ";"), ("utf-8", "\t"), ("utf-16", ",")])
def test_a_table_as_a_spreadsheet_of_another_country_writes_it(encoding, separator, tmp_path):
    table = RADIOGRAPHS.assign(Gerät=[("Größe", "Maß")[k % 2] for k in range(60)])
    table.to_csv(tmp_path / "t.csv", index=False, sep=separator, encoding=encoding)
    for name in RADIOGRAPHS["file"]:
        (tmp_path / name).write_bytes(b"x")
    assert command_line.main(["new", str(tmp_path / "t.csv"), "--to", str(tmp_path)]) == 0
    manifest = manifests.read(tmp_path / "t.yaml")
    assert manifest.layout.separator == separator
    check = check_source.read(manifest, tmp_path)
    assert check.source.rows["gerat"].unique().tolist() == ["Größe", "Maß"]


def test_images_inside_a_parquet_file(tmp_path):
    table = RADIOGRAPHS.assign(Image=[{"bytes": b"png", "path": "x"}] * 60)
    table.to_parquet(tmp_path / "train-0.parquet")
    words = ["new", str(tmp_path / "train-0.parquet"), "--name", "mine", "--to", str(tmp_path)]
    assert command_line.main(words) == 0
    manifest = manifests.read(tmp_path / "mine.yaml")
    assert manifest.layout.kind == "parquet_images" and manifest.layout.image_column == "Image"
    check = check_source.read(manifest, tmp_path)
    assert len(check.source.rows) == 60 and check.source.rows["effusion_grade"].sum() == 36


def test_images_without_ending_in_the_table_and_in_another_folder(tmp_path):
    table = RADIOGRAPHS.assign(file=RADIOGRAPHS["file"].str.removesuffix(".png"))
    images = [f"films/{name}" for name in RADIOGRAPHS["file"]]
    manifest = new(tmp_path, table, "tables", images, "--images", str(tmp_path / "data/films"))
    assert manifest.layout.table == "tables/table.csv"
    assert manifest.layout.image_path == "films/{file}.png"


def test_a_table_in_a_folder_beside_that_of_the_images(tmp_path):
    images = [f"img/{name}" for name in RADIOGRAPHS["file"]]
    manifest = new(tmp_path, RADIOGRAPHS, "tables", images)
    assert manifest.layout.table == "tables/table.csv"
    assert manifest.layout.image_path == "img/{file}"
    assert len(check_source.read(manifest, tmp_path / "data").source.rows) == 60


def test_who_a_patient_is_is_asked_where_no_column_says_it(tmp_path):
    table = RADIOGRAPHS.drop(columns=["patient", "sex", "age"])
    new(tmp_path, table, "", [])
    text = (tmp_path / "mine.yaml").read_text()
    for words in (
        "no column names a patient",
        "no column names the sex",
        "no column names the age",
    ):
        assert f"# answer: {words}" in text, words
    (tmp_path / "mine.yaml").unlink()
    new(tmp_path, RADIOGRAPHS.rename(columns={"patient": "case"}), "", [])
    assert "images only. Does case name one?" in (tmp_path / "mine.yaml").read_text()
    (tmp_path / "mine.yaml").unlink()
    new(tmp_path, RADIOGRAPHS.assign(sex=["1", "2"] * 30), "", [])
    assert (
        "# sex: {column: sex, values: {'1': male, '2': female}}"
        in (tmp_path / "mine.yaml").read_text()
    )


def test_files_in_several_folders_are_found_by_name(tmp_path):
    images = [f"part{k % 3}/{name}" for k, name in enumerate(RADIOGRAPHS["file"])]
    manifest = new(tmp_path, RADIOGRAPHS, "", images)
    assert manifest.layout.anywhere and manifest.layout.image_path == "{file}"


def test_no_identifier_of_the_table_is_in_the_manifest(tmp_path):
    table = RADIOGRAPHS.assign(
        patient=[f"Doe{k // 2}" for k in range(60)],
        name=[f"Jane Doe {k}" for k in range(60)],
        diagnosis_text=[f"seen by Dr. {k}" for k in range(60)],
    )
    new(tmp_path, table, "", [])
    text = (tmp_path / "mine.yaml").read_text()
    assert "Doe" not in text and "r17" not in text and "seen by" not in text


def test_a_manifest_that_is_there_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("mine")
    RADIOGRAPHS.to_csv(tmp_path / "mine.csv", index=False)
    assert command_line.main(["new", str(tmp_path / "mine.csv"), "--to", str(tmp_path)]) == 2
    assert "Choose another --name" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    "content, message", [("", "table"), ("a,b\n", "one row"), (None, "a file at")]
)
def test_a_table_without_rows_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    with pytest.raises(errors.InputError, match=message):
        new_manifest.write(tmp_path / "t.csv", None, None, tmp_path)
    assert not list(tmp_path.glob("*.yaml"))


# ---- guesses of columns


def guess(function, **columns):
    """The values that a function guesses of a table with these columns."""
    return [guess.value for guess in function(pd.DataFrame(columns))]


def test_ages_with_limits_codes_and_days():
    (rule,) = guess(column_guesses.age, age=["30", ">89", "90+", "unknown", "999", "41"])
    assert rule["at_least"] == {">89": 90, "90+": 90} and rule["missing"] == ["unknown", "999"]
    (rule,) = guess(column_guesses.age, Age=["12000", "20000", ""])
    assert rule["unit"] == "days"
    (rule,) = guess(column_guesses.age, PatientAge=["042Y", "018M"])
    assert rule == {"column": "PatientAge"}
    (rule,) = guess(column_guesses.age, AgeMonths=["480", "300,5"])
    assert rule == {"column": "AgeMonths", "unit": "months"}
    (rule,) = guess(column_guesses.age, Alter=["48,5", "30"])
    assert rule == {"column": "Alter"}
    (rule,) = guess(column_guesses.age, PatientBirth=["1938"], StudyDate_DICOM=["20190101"])
    assert rule["birth_date"] == "PatientBirth" and rule["date_formats"][-1] == "%Y"


@pytest.mark.parametrize(
    "cells, values",
    [
        (["yes", "no", ""], {"no": "negative", "yes": "positive"}),
        (["ja", "nein"], {"ja": "positive", "nein": "negative"}),
        (["Oui", "Non", ""], {"Non": "negative", "Oui": "positive"}),
        (["si", "no"], {"no": "negative", "si": "positive"}),
        (["True", "False"], {"False": "negative", "True": "positive"}),
        (["1.0", "0.0", "-1.0"], {"-1": "uncertain", "0": "negative", "1": "positive"}),
        (["1", "0", "NA"], {"0": "negative", "1": "positive"}),
    ],
)
def test_words_of_presence(cells, values):
    (rule,) = guess(label_guesses.findings, effusion=cells)
    assert rule["values"] == values


def test_a_blank_is_absence_where_only_presence_is_written():
    (rule,) = guess(label_guesses.findings, effusion=["1", "", ""])
    assert rule["blank_means"] == "negative"


def test_list_literals_and_counts():
    rules = guess(label_guesses.findings, Labels=["['effusion', 'mass']", "['normal']", "[]"] * 5)
    assert [rule["contains"] for rule in rules] == [["effusion"], ["mass"]]
    assert {rule["cell"] for rule in rules} == {"list"}
    assert (
        guess(label_guesses.findings, image_count=["1", "2", "3"], study_id=["0", "1", "0"]) == []
    )


@pytest.mark.parametrize(
    "birth, study, forms",
    [
        ("14.03.1950", "01.02.2010 10:30", ["%d.%m.%Y"]),
        ("14/03/1950", "2010-02-01", ["%Y-%m-%d", "%d/%m/%Y"]),
        ("03/14/1950", "02/01/2010", ["%m/%d/%Y"]),
        ("1950-03-14", "20100201", None),
    ],
)
def test_forms_of_dates(birth, study, forms):
    (rule,) = guess(column_guesses.age, Geburtsdatum=[birth], StudyDate=[study])
    assert rule.get("date_formats") == forms


@pytest.mark.parametrize(
    "name, kind",
    [
        ("OUR_patient_id", "patient"),
        ("PatientID", "patient"),
        ("Subject ID", "patient"),
        ("Patient Gender", "sex"),
        ("StudyDate_DICOM", "study"),
    ],
)
def test_columns_are_known_by_their_names(name, kind):
    assert column_guesses.named(pd.DataFrame({name: ["x"]}), kind) == name


def test_names_of_findings_are_names_of_a_cohort_s_columns():
    assert column_guesses.slug("No Finding!", []) == "no_finding"
    assert column_guesses.slug("Mask", []) == "source_mask"
    assert column_guesses.slug("a b", ["a_b"]) != "a_b"
    assert column_guesses.slug("1st", []) == "source_1st"
