"""Layouts: tables below one another and joined, folders, names of files as a disk spells them."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.core import errors
from helpers.data import manifest_schema
from helpers.data.tables import (
    dicom_tags,
    file_names,
    layouts,
    read_arrays,
    source_tables,
    split_rules,
)

BASE = dict(
    name="ward",
    title="A ward",
    modality="chest radiograph",
    access="private",
    licence="none",
    citation="none",
    how_to_get="Ask.",
    layout=dict(kind="table_and_images", table="films.csv", image_path="{file}"),
    image_id="{file}",
    patient_id="patient",
    split=dict(test_share=0.3, valid_share=0.2),
    findings=dict(
        effusion=dict(
            canonical="effusion", column="effusion", values={"1": "positive", "0": "negative"}
        )
    ),
)
FILMS = "file,patient,effusion\na.png,1,1\nb.png,1,0\nc.png,2,0\n"
NFC, NFD = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))


def of(**changes: object) -> manifest_schema.Manifest:
    layout = BASE["layout"] | changes.pop("layout", {})
    return manifest_schema.Manifest.model_validate(BASE | changes | dict(layout=layout))


def folders(pattern: str, table: str | None = None, **changes: object) -> manifest_schema.Manifest:
    layout = dict(kind="folders", pattern=pattern, table=table, **changes.pop("layout", {}))
    return manifest_schema.Manifest.model_validate(
        BASE | dict(image_id="{name}", layout=layout) | changes
    )


def read(manifest: manifest_schema.Manifest, root: Path) -> pd.DataFrame:
    """Return raw table and locations side by side."""
    raw, locations = layouts.read(manifest, root, {})
    assert list(raw.index) == list(locations.index) == list(range(len(raw)))
    return raw.assign(**{f"{name}_on_disk": locations[name] for name in locations})


def write(root: Path, **content: str) -> Path:
    for name, text in content.items():
        path = root / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# ---- tables


def test_tables_stand_one_below_the_other_and_rows_know_their_table(tmp_path):
    write(tmp_path, films__csv=FILMS, more__csv="effusion,patient,file\n1,3,d.png\n")
    table = read(of(layout=dict(table=["films.csv", "more.csv"])), tmp_path)
    assert table["patient"].tolist() == ["1", "1", "2", "3"]
    assert table["table_file"].tolist() == ["films.csv"] * 3 + ["more.csv"]
    write(tmp_path, more__csv="file,patient,effusion,sex\nd.png,3,1,F\n")
    with pytest.raises(errors.InputError, match="columns of films.csv in more.csv; got 'sex'"):
        read(of(layout=dict(table=["films.csv", "more.csv"])), tmp_path)


def test_missing_cells_are_blank_and_further_sheets_are_named(tmp_path):
    write(tmp_path, films__csv=FILMS.replace("0", "NA"))
    assert read(of(missing=["NA"]), tmp_path)["effusion"].tolist() == ["1", "", ""]
    with pd.ExcelWriter(tmp_path / "films.xlsx") as book:
        pd.DataFrame({"note": ["x"]}).to_excel(book, sheet_name="Read me", index=False)
        pd.DataFrame({"file": ["a.png"]}).to_excel(book, sheet_name="Films", index=False)
    with pytest.raises(errors.InputError, match="Only the first sheet.*'Films'"):
        read(of(layout=dict(table="films.xlsx")), tmp_path)


def test_damaged_identifiers_are_refused_in_every_layout(tmp_path):
    write(tmp_path, films__csv=FILMS.replace(",2,", ",1.6768E+15,"))
    with pytest.raises(errors.InputError, match="column 'patient' of films.csv; got '1.6768E"):
        read(of(), tmp_path)
    touch(tmp_path, "1/1.6768E+15.png")
    manifest = folders("{effusion}/{name}.png", patient_id="name")
    with pytest.raises(errors.InputError, match="column 'name' of .*got '1.6768E"):
        read(manifest, tmp_path)


def test_parquet_shards_keep_long_identifiers(tmp_path):
    patients = [123456789012345678, 123456789012345679, None]
    table = pd.DataFrame(
        {"file": ["a", "b", "c"], "patient": pd.array(patients, "Int64"), "effusion": [1, 0, 1]}
    ).assign(image=b"x")
    table.to_parquet(tmp_path / "films.parquet")
    manifest = manifest_schema.Manifest.model_validate(
        BASE | dict(layout=dict(kind="parquet_images", shards=["*.parquet"], image_column="image"))
    )
    assert read(manifest, tmp_path)["patient"].tolist() == [*map(str, patients[:2]), ""]
    table.assign(patient=[1.23e17, 1.24e17, None]).to_parquet(tmp_path / "films.parquet")
    with pytest.raises(errors.InputError, match="identifiers as text in column 'patient'"):
        read(manifest, tmp_path)


# ---- joins


def joined(root: Path, people: str, rows: dict | None = None, **rule: object) -> pd.DataFrame:
    write(root, films__csv=FILMS, people__csv=people)
    rule = dict(table="people.csv", by={"patient": "id"}) | rule
    return read(of(layout=dict(joins=[rule]), rows=rows), root)


def test_a_join_adds_columns_by_equal_identifiers(tmp_path):
    table = joined(tmp_path, "id,sex,patient\n2,M,2\n1,F,1\n,,\n1,F,1\n")
    assert table["sex"].tolist() == ["F", "F", "M"] and table["id"].tolist() == ["1", "1", "2"]
    table = joined(tmp_path, "id,sex,effusion\n2,M,1\n1,F,0\n", columns=["sex"])
    assert table["sex"].tolist() == ["F", "F", "M"] and table["effusion"].tolist() == [
        "1",
        "0",
        "0",
    ]
    table = joined(tmp_path, "id,sex\n3,M\n1,F\n", unmatched=["rows", "table"])
    assert table["sex"].tolist() == ["F", "F", ""]
    table = joined(tmp_path, "id,sex\n2,M\n1,F\n1,M\n", rows=dict(readers="majority"))
    assert table["sex"].tolist() == ["F", "M", "F", "M", "M"]
    assert table["file"].tolist() == ["a.png", "a.png", "b.png", "b.png", "c.png"]
    table = joined(
        tmp_path,
        "id,name,sex\n1,a.png,F\n1,b.png,M\n2,c.png,F\n",
        by={"patient": "id", "file": "name"},
    )
    assert table["sex"].tolist() == ["F", "M", "F"]


@pytest.mark.parametrize(
    "people, rule, words",
    [
        (
            "id,sex\n001,M\n002,F\n",
            {},
            "3 rows of films.csv without one, e.g. '1', '2'; 2 rows of people.csv without one, e.g."
            " '001', '002'.*unmatched: \\[rows, table\\].* 2 would match but for leading zeros",
        ),
        ("id,sex\n1,M\n2,F\n3,F\n", {}, "1 rows of people.csv.*'3'.*`unmatched: \\[table\\]`"),
        ("id,sex\n1,M\n,F\n", dict(unmatched=["table"]), "1 rows of films.csv.*1 blank"),
        ("id,sex\n1,M\n2,F\n2,M\n", {}, "one row for each id in people.csv; got 1 more, e.g. '2'"),
        ("id,effusion\n1,1\n2,0\n", {}, "'effusion' to be the same .*got 1 rows.*'0 and 1'"),
        ("id,sex\n1,M\n2,F\n", dict(columns=["age"]), "columns 'age' in people.csv"),
        ("id,sex\n1,M\n2,F\n", dict(by=["patient"]), "columns 'patient' in people.csv"),
        ("id,sex\n1.6E+15,M\n2,F\n", {}, "identifiers as text in column 'id' of people.csv"),
    ],
)
def test_a_join_that_leaves_rows_or_contradicts_is_refused(tmp_path, people, rule, words):
    with pytest.raises(errors.InputError, match=words):
        joined(tmp_path, people, **rule)


def test_the_table_beside_folders_is_a_join(tmp_path):
    touch(tmp_path, f"train/{NFD}.png", "test/005.png", "test/.DS_Store", "test/._005.png")
    write(tmp_path, people__csv=f"name,patient,effusion\n{NFC},p1,1\n005,p2,0\n")
    manifest = folders("{part}/{name}.png", "people.csv")
    table = read(manifest, tmp_path).set_index("patient")
    assert table["effusion"].to_dict() == {"p1": "1", "p2": "0"}
    assert table.loc["p1", ["name", "file_on_disk"]].tolist() == [NFC, f"train/{NFD}.png"]
    write(tmp_path, people__csv=f"name,patient,effusion\n{NFC},p1,1\n5,p2,0\n")
    with pytest.raises(errors.InputError, match="1 would match but for leading zeros"):
        read(manifest, tmp_path)
    partial = folders("{part}/{name}.png", "people.csv", layout=dict(unmatched=["rows", "table"]))
    assert sorted(read(partial, tmp_path)["patient"]) == ["", "p1"]


# ---- names of files


@pytest.mark.parametrize("is_anywhere", [True, False])
@pytest.mark.parametrize("in_table, on_disk", [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_names_are_compared_in_one_unicode_form(tmp_path, in_table, on_disk, is_anywhere):
    folder = "" if is_anywhere else f"{in_table}/"
    touch(tmp_path, f"{on_disk}/{on_disk}.png")
    write(tmp_path, films__csv=f"file,patient,effusion\n{in_table}.png,1,1\n")
    layout = dict(image_path=folder + "{file}", anywhere=is_anywhere)
    assert read(of(layout=layout), tmp_path)["file_on_disk"].tolist() == [
        f"{on_disk}/{on_disk}.png"
    ]


def test_one_name_in_two_folders_is_refused_only_where_it_is_asked_for(tmp_path):
    touch(
        tmp_path,
        "1/a.png",
        "1/b.png",
        "1/c.png",
        "2/d.png",
        "3/d.png",
        "__MACOSX/a.png",
        ".t/b.png",
    )
    write(tmp_path, films__csv=FILMS)
    table = read(of(layout=dict(anywhere=True)), tmp_path)
    assert table["file_on_disk"].tolist() == ["1/a.png", "1/b.png", "1/c.png"]
    touch(tmp_path, "masks/b.png")
    with pytest.raises(
        errors.InputError, match="1 names with several, e.g. '1/b.png', 'masks/b.png'"
    ):
        read(of(layout=dict(anywhere=True)), tmp_path)


def test_names_on_disk_that_differ_in_unicode_form_only_are_refused(tmp_path):
    touch(tmp_path, f"{NFC}.png", f"{NFD}.png")
    write(tmp_path, films__csv=f"file,patient,effusion\n{NFC}.png,1,1\n")
    with pytest.raises(errors.InputError, match="differ in more than their Unicode form"):
        read(of(), tmp_path)


def test_files_that_differ_from_the_pattern_in_letter_case_are_refused(tmp_path):
    touch(tmp_path, "train/a.png", "train/b.PNG")
    with pytest.raises(errors.InputError, match="1 that differ in letter case, e.g. 'train/b.PNG'"):
        read(folders("{patient}/{name}.png"), tmp_path)


def test_images_with_another_ending_are_refused_but_not_previews_of_the_same(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "a/1.jpg", "a/notes.txt")
    pattern = "{effusion}/{name}.png"
    assert file_names.of_pattern(tmp_path, pattern)[1] == ["a/1.png", "a/2.png"]
    touch(tmp_path, "a/3.JPG", "a/4.dcm")
    with pytest.raises(errors.InputError, match="2 with another ending, e.g. .*'a/3.JPG'"):
        file_names.of_pattern(tmp_path, pattern)


@pytest.mark.parametrize(
    "pattern, stray, is_missed",
    [
        ("**/*.dcm", "a/2.DCM", True),
        ("**/*.dcm", "a/2.dicom", True),
        ("**/*.dcm", "a/IM2", True),
        ("**/*.dcm", "a/1.2.840.77", True),
        ("*/*.dcm", "b/2.ima", True),
        ("**/*.dcm", "a/notes.txt", False),
        ("**/*.dcm", "DICOMDIR", False),
        ("a/*.dcm", "b/2.DCM", False),
        ("**/*", "a/2.DCM", False),
    ],
)
def test_dicom_files_of_another_ending_are_refused(tmp_path, pattern, stray, is_missed):
    touch(tmp_path, "a/1.dcm", stray)
    (tmp_path / stray).write_bytes(b"\0" * 128 + b"DICM")
    if is_missed:
        with pytest.raises(errors.InputError, match="1 in the same folders that are not, e.g"):
            dicom_tags._files(tmp_path, pattern)
    else:
        assert "a/1.dcm" in dicom_tags._files(tmp_path, pattern)


def test_names_that_are_not_utf8_are_refused_where_they_count(tmp_path):
    touch(tmp_path, "a/1.png")
    odd = os.fsdecode(b"a/M\xfcller1.png")
    (tmp_path / odd).touch()
    with pytest.raises(errors.InputError, match="names of files in UTF-8 .*1 in another encoding"):
        read(folders("{patient}/{name}.png"), tmp_path)
    absent = pd.Series(["a/Weber2.png"])
    for is_anywhere in (False, True):
        assert file_names.hint_of_absence(absent, absent[:0], tmp_path, is_anywhere) == ""
    assert list(file_names.files_below(tmp_path)) == ["a/1.png"]


def test_a_name_taken_out_of_an_extracted_column_finds_its_image(tmp_path):
    write(tmp_path, films__csv="code,patient,effusion\nx/a-1,1,1\nx/b-2,2,0\n")
    extract = dict(
        last=dict(column="code", pattern="/(.+)"), file=dict(column="last", pattern="^([a-z])")
    )
    manifest = of(layout=dict(image_path="{file}.png"), extract=extract, image_id="{code}")
    assert read(manifest, tmp_path)["file_on_disk"].tolist() == ["a.png", "b.png"]


def npz(folder: Path, labels: np.ndarray, n_images: int | None = None) -> tuple:
    n_images = len(labels) if n_images is None else n_images
    np.savez(
        folder / "a.npz", train_images=np.ones((n_images, 4, 4), np.uint8), train_labels=labels
    )
    return read_arrays.read(folder / "a.npz", ["train"], are_volumes=False)


def test_labels_of_arrays_are_text_with_every_digit(tmp_path):
    for labels, text in (
        (np.array([1234567, 2]), ["1234567", "2"]),
        (np.array([1234567.0, 0.5]), ["1234567", "0.5"]),
        (np.array([2**62 + 1, 0]), [str(2**62 + 1), "0"]),
        (np.array([True, False]), ["1", "0"]),
        (np.array(["mass", " no "]), ["mass", "no"]),
        (np.array([b"mass", b"no"]), ["mass", "no"]),
        (np.array([np.nan, 1]), ["", "1"]),
    ):
        assert npz(tmp_path, labels)[0]["label_0"].tolist() == text
    two = npz(tmp_path, np.array([[1, 0], [0, 1]]))[0]
    assert two[["label_0", "label_1"]].values.tolist() == [["1", "0"], ["0", "1"]]
    with pytest.raises(errors.InputError, match="images in train_images of a.npz; got none"):
        npz(tmp_path, np.empty((0, 1), int))


@pytest.mark.parametrize(
    "absent, present, words",
    [
        ("img/a.png", "img/a.PNG", "letter case"),
        ("img/a", "img/a.png", "the file ending"),
        ("img/5.png", "img/005.png", "leading zeros"),
        ("img/a.png", "images/a.png", "There is no folder 'img'"),
        ("img/a.png", "img/x.png", None),
    ],
)
def test_absent_files_get_a_hint(tmp_path, absent, present, words):
    touch(tmp_path, present)
    hint = file_names.hint_of_absence(
        pd.Series([absent, ""]), pd.Series([present]).iloc[:0], tmp_path
    )
    assert words in hint if words else hint == ""


def test_absent_files_are_refused_with_the_hint(tmp_path):
    touch(tmp_path, "a.PNG", "b.PNG", "c.PNG")
    write(tmp_path, films__csv=FILMS)
    for layout in (dict(), dict(anywhere=True)):
        manifest = of(layout=layout)
        source = source_tables.apply_rules(
            manifest, *layouts.read(manifest, tmp_path, {}), tmp_path
        )
        with pytest.raises(errors.InputError, match="3 would match but for letter case"):
            source_tables.keep_present(manifest, source, tmp_path)


# ---- lists of images


def listed(root: Path, train: bytes, test: bytes, **rule: str) -> list:
    (root / "train.txt").write_bytes(train)
    (root / "test.txt").write_bytes(test)
    manifest = of(split=dict(lists=dict(train="train.txt", test="test.txt"), **rule))
    images = pd.Series(["a.png", "b.png", f"{NFC}.png"])
    return split_rules.given_split(manifest, pd.DataFrame(), images, "films.csv", root).tolist()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_are_read_in_whatever_form_an_editor_saved_them(tmp_path, encoding):
    train = f"a.png\r\n\r\n{NFD}.png \r\na.png".encode(encoding)
    assert listed(tmp_path, train, "b.png\n".encode(encoding)) == ["train", "test", "train"]


@pytest.mark.parametrize(
    "train, rule, words",
    [
        (b"", {}, "a line an image in train.txt; got an empty file"),
        (b"a.png\nz.png\n", {}, "train.txt.*got 1 of 2 lines that are none, e.g. 'z.png'.*ignore"),
        (b"images/a.png\n", {}, "1 would match but for folders in front of the name"),
        (b"a\n", dict(extra_lines="ignore"), "1 of 1 lines.* would match but for the file ending"),
        ("ü.png\n".encode("latin-1"), {}, "train.txt to be text in UTF-8"),
        ("a.png\n".encode("utf-16-le"), {}, "train.txt to be text in UTF-8; got zero bytes"),
        (b"a.png\nb.png\n", {}, "each image in one list"),
    ],
)
def test_lists_that_name_no_image_are_refused(tmp_path, train, rule, words):
    with pytest.raises(errors.InputError, match=words):
        listed(tmp_path, train, b"b.png\n", **rule)


def test_lines_beyond_a_part_of_the_data_set_can_be_ignored(tmp_path):
    train = b"a.png\nelsewhere.png\n"
    assert listed(tmp_path, train, b"b.png\n", extra_lines="ignore")[:2] == ["train", "test"]
