"""DICOM files as a source: their tags as a table, the series of CT studies as volumes."""

import importlib

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_phantoms import SECRETS, film, film_dataset, middle_of_ball, saved, write_series
from pydicom.uid import JPEG2000Lossless

from helpers.core import errors, paths
from helpers.data import build_cohort, manifest_schema
from helpers.data.images import decode_volume, dicom_series, dicom_volume
from helpers.data.tables import dicom_tags, layouts

pytestmark = pytest.mark.usefixtures("results")
rng = np.random.default_rng(16)
BASE = dict(
    name="ward",
    title="A ward",
    modality="chest radiograph",
    access="private",
    licence="none",
    citation="none",
    how_to_get="Ask.",
    layout=dict(kind="dicom_files", files="**/*"),
    image_id="{SOPInstanceUID}",
    patient_id="PatientID",
    sex=dict(column="PatientSex", values={"M": "male", "F": "female", "O": "unknown"}),
    age=dict(column="PatientAge"),
    keep=dict(Modality=["CR", "DX"]),
    further_columns=dict(view="ViewPosition"),
    findings=dict(
        left=dict(canonical="left", column="Laterality", values={"L": "positive", "R": "negative"})
    ),
    split=dict(test_share=0.3, valid_share=0.2),
)
CT = dict(
    modality="CT",
    image_id="{PatientID}-{StudyInstanceUID}",
    keep=dict(Modality=["CT"]),
    volume=dict(shape=[12, 30, 30], spacing_mm=[3, 4, 4], window_hu=[-150, 600]),
)
GRID = ((12, 30, 30), (3.0, 4.0, 4.0), (-150.0, 600.0))


@pytest.fixture
def results(tmp_path_factory, monkeypatch):
    """Results outside of the data root."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path_factory.mktemp("results")))


def manifest(**changes):
    return manifest_schema.Manifest.model_validate(BASE | changes)


def picture():
    return rng.integers(0, 4000, (24, 20)).astype(np.uint16)


def write_films(root, n=12):
    """A folder a patient, a film in it; tags that differ, names that are UIDs."""
    for number in range(n):
        folder = root / f"P{number:03d}"
        folder.mkdir(parents=True)
        tags = dict(
            PatientID=f"{number:05d}",
            PatientSex="MFO"[number % 3],
            PatientAge=f"{30 + number:03d}Y",
            Laterality="LR"[number % 2],
            PhotometricInterpretation=f"MONOCHROME{1 + number % 2}",
            BurnedInAnnotation="YES" if number < 2 else "NO",
            uid=f"77.{number}",
        )
        (folder / f"1.2.826.0.1.77.{number}").write_bytes(film(picture(), 12, **tags))


def test_tags_are_the_table_and_neither_names_nor_private_tags_reach_a_file(tmp_path):
    write_films(tmp_path / "data")
    cohort = build_cohort.build(manifest(), tmp_path / "data", image_px=16, processes=1)
    table = cohort.table.sort_values("patient_id", ignore_index=True)
    assert table["patient_id"].tolist() == [f"{n:05d}" for n in range(12)]
    assert table["image_id"].tolist() == [f"1.2.826.0.1.77.{n}" for n in range(12)]
    assert table["age_years"].tolist() == list(range(30, 42))
    assert table["sex"].tolist() == ["male", "female", "unknown"] * 4
    assert table["left"].tolist() == [1, 0] * 6
    assert set(table["view"]) == {"PA"}
    notes = " ".join(cohort.record["notes"])
    assert "2 images may have text burnt in" in notes
    assert "pydicom" in cohort.record["versions"]
    written = [path for path in paths.cohort_dir("ward").rglob("*") if path.is_file()]
    assert {"table.parquet", "record.json", "exclusions.csv"} <= {path.name for path in written}
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in content], path
    stored = pd.read_parquet(paths.cohort_dir("ward") / "table.parquet").to_csv()
    assert not [secret for secret in SECRETS if secret in stored]


def test_the_raw_table_holds_no_other_tag_than_those_listed(tmp_path):
    write_films(tmp_path, 2)
    raw, locations = layouts.read(manifest(), tmp_path, {})
    assert list(raw) == ["file", "name", "folder", *dicom_tags.COLUMNS]
    assert not [secret for secret in SECRETS if secret in raw.to_csv()]
    assert raw["name"].tolist() == ["1.2.826.0.1.77.0", "1.2.826.0.1.77.1"]  # no ending cut off
    assert raw["folder"].tolist() == ["P000", "P001"]
    assert locations["file"].tolist() == [f"P00{n}/1.2.826.0.1.77.{n}" for n in (0, 1)]


def test_files_that_are_no_images_are_left_out_with_a_reason(tmp_path):
    write_films(tmp_path, 12)
    report = film_dataset(picture(), Modality="SR", uid="9")
    for keyword in ("Rows", "Columns", "PixelData"):
        del report[keyword]
    (tmp_path / "report").write_bytes(saved(report))
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "README.txt").write_text("Exported by the PACS")
    (tmp_path / "nobody.dcm").write_bytes(film(picture(), PatientID="", uid="10"))
    (tmp_path / "slice.DCM").write_bytes(film(picture(), Modality="CT", uid="11"))
    cohort = build_cohort.build(manifest(), tmp_path, image_px=16, processes=1)
    assert cohort.record["exclusions"] == {
        "DICOM file without an image (SR)": 1,
        "DICOM file without an image (modality not said)": 1,
        "not a DICOM file": 1,
        "no patient_id": 1,
        "Modality is not CR or DX": 1,
    }
    assert len(cohort.table) == 12


def test_text_of_other_character_sets_is_decoded_and_in_one_normal_form(tmp_path):
    decomposed = "Zu\u0308rich-1"
    latin = film(picture(), SpecificCharacterSet="ISO_IR 100", PatientID="Zürich-1", uid="1")
    unicode_ = film(picture(), SpecificCharacterSet="ISO_IR 192", PatientID=decomposed, uid="2")
    (tmp_path / "a.dcm").write_bytes(latin)
    (tmp_path / "b.dcm").write_bytes(unicode_)
    raw, _ = layouts.read(manifest(), tmp_path, {})
    assert raw["PatientID"].tolist() == ["Zürich-1"] * 2


def test_age_from_birth_and_study_date(tmp_path):
    (tmp_path / "a.dcm").write_bytes(
        film(picture(), PatientBirthDate="19500101", StudyDate="20200102", PatientAge="")
    )
    raw, _ = layouts.read(manifest(), tmp_path, {})
    assert raw.loc[0, ["PatientBirthDate", "StudyDate", "PatientAge"]].tolist() == [
        "19500101",
        "20200102",
        "",
    ]


def test_results_below_the_data_root_are_not_part_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    write_films(tmp_path, 12)
    first, second = (
        build_cohort.build(manifest(), tmp_path, image_px=16, processes=1) for _ in range(2)
    )
    assert first.record == second.record and first.record["exclusions"] == {}


def volumes(root):
    """The rows of a CT source: reasons, or voxels and affine of the chosen series."""
    _, locations = layouts.read(manifest(**CT), root, {})
    return [
        row["unusable"] or dicom_volume.read([root / file for file in row["slices"].split("\n")])
        for row in locations.to_dict("records")
    ]


@pytest.mark.parametrize(
    "form",
    [
        {},
        dict(tilt_degrees=20, heights_mm=range(-30, 60, 3)),
        dict(tilt_degrees=-20, heights_mm=range(-30, 60, 3)),
        dict(heights_mm=range(33, -1, -3)),  # numbered from the head
        dict(heights_mm=[n * 3 + 0.03 * (n % 2) for n in range(12)]),  # rounded positions
        dict(compression=JPEG2000Lossless),
        dict(rescale=(0.5, -1000)),
        dict(image_type="DERIVED\\PRIMARY\\AXIAL"),
    ],
)
def test_a_series_is_read_where_it_lies_in_hounsfield_units(form, tmp_path):
    write_series(tmp_path, **form)
    [(voxels, affine, _)] = volumes(tmp_path)
    assert (voxels.min(), voxels.max()) == (-1000, 500)
    np.testing.assert_allclose(middle_of_ball(voxels, affine), [-12, -8, 18], atol=0.6)


@pytest.mark.parametrize(
    "heights_mm, reason",
    [
        ([0, 3, 6, 9, 15, 18, 21, 24, 27, 30], "CT series with a gap between slices"),
        ([0, 3, 6, 9, 12, 15, 18, 21, 27], "CT series with a gap between slices"),
        ([0, 6, 9, 12, 15, 18, 21, 24, 27], "CT series with a gap between slices"),
        ([0, 3, 6, 9, 12, 16, 20, 24, 28, 32], "CT series with uneven spacing"),
        ([0, 3, 6, 6, 9, 12, 15, 18, 21], "CT series with two slices at one position"),
        (range(0, 21, 3), "CT study without an axial series of at least 8 slices"),
    ],
)
def test_a_stack_that_is_not_even_is_left_out_with_a_reason(heights_mm, reason, tmp_path):
    write_series(tmp_path, heights_mm)
    assert volumes(tmp_path) == [reason]


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient"])
def test_slices_that_do_not_say_where_they_lie_have_a_reason_of_their_own(tag, tmp_path):
    for path in write_series(tmp_path):
        dataset = pydicom.dcmread(path)
        del dataset[tag]
        dataset.save_as(path)
    assert volumes(tmp_path) == [f"CT study whose slices do not say where they lie: no {tag}"]


def test_of_a_study_the_axial_original_with_most_slices_is_read(tmp_path):
    write_series(tmp_path / "a", series="1.2.3.5.1", heights_mm=range(0, 36, 3))
    wanted = write_series(tmp_path / "b", series="1.2.3.5.2", heights_mm=range(0, 60, 3))
    write_series(tmp_path / "c", series="1.2.3.5.3", heights_mm=range(0, 60, 3))
    many = range(0, 72, 3)
    for number, tags in enumerate(
        [
            dict(image_type="ORIGINAL\\PRIMARY\\LOCALIZER"),
            dict(image_type="DERIVED\\PRIMARY\\PERFUSION\\RCBF"),
            dict(image_type="DERIVED\\SECONDARY\\MIP"),
            dict(image_type="DERIVED\\PRIMARY\\AXIAL"),
            dict(orientation=(1, 0, 0, 0, 0, -1)),
            dict(orientation=(0, 1, 0, 0, 0, -1)),
        ]
    ):
        write_series(tmp_path / f"x{number}", many, series=f"1.2.3.5.0.{number}", **tags)
    # a localizer, and a page of another size, in the wanted series
    write_series(
        tmp_path / "b", [400], series="1.2.3.5.2", first=50, orientation=(1, 0, 0, 0, 0, -1)
    )
    write_series(tmp_path / "b", [60], series="1.2.3.5.2", first=51, size=16)
    # a series with more slices, that has a gap
    write_series(tmp_path / "d", [*range(0, 72, 3), 78], series="1.2.3.5.4")
    _, locations = layouts.read(manifest(**CT), tmp_path, {})
    assert locations["unusable"].tolist() == [""]
    assert locations.loc[0, "slices"].split("\n") == [
        path.relative_to(tmp_path).as_posix() for path in wanted
    ]
    assert locations.loc[0, "slice_bytes"] == sum(path.stat().st_size for path in wanted)


def test_a_study_is_of_one_patient_and_a_copy_of_a_slice_does_not_count(tmp_path):
    write_series(tmp_path / "a", PatientID="p1")
    write_series(tmp_path / "copy", PatientID="p1")  # the same SOPInstanceUIDs
    write_series(tmp_path / "other", PatientID="p2")  # a study's UID given to two patients
    raw, locations = layouts.read(manifest(**CT), tmp_path, {})
    assert raw["PatientID"].tolist() == ["p1", "p2"]
    assert [len(slices.split("\n")) for slices in locations["slices"]] == [12, 12]
    assert locations["unusable"].tolist() == ["", ""]


def test_of_two_phases_in_one_series_the_first_is_read(tmp_path):
    late = write_series(tmp_path, first=20, AcquisitionNumber=2, body_hounsfield=90)
    early = write_series(tmp_path, AcquisitionNumber=1)
    [(voxels, _, _)] = volumes(tmp_path)
    assert len(late) == len(early) == voxels.shape[2] and (voxels == 40).any()
    assert not (voxels == 90).any()


def test_orientations_that_differ_by_rounding_are_of_one_series(tmp_path):
    for number, height in enumerate(range(0, 36, 3)):
        small = 0.0005 + 1e-5 * (-1) ** number
        write_series(tmp_path, [height], first=number, orientation=(1, 0, 0, 0, 1, small))
    [(voxels, _, _)] = volumes(tmp_path)
    assert voxels.shape[2] == 12


def test_without_uids_a_folder_is_a_study(tmp_path):
    for folder in ("a", "b"):
        write_series(tmp_path / folder, study="", series="")
    raw, locations = layouts.read(manifest(**CT), tmp_path, {})
    assert raw["folder"].tolist() == ["a", "b"]
    assert locations["unusable"].tolist() == ["", ""]


def test_studies_without_ct_and_of_several_frames_say_so(tmp_path):
    (tmp_path / "a.dcm").write_bytes(film(picture(), StudyInstanceUID="1.1"))
    (tmp_path / "b.dcm").write_bytes(
        film(picture(), Modality="CT", NumberOfFrames=2, StudyInstanceUID="1.2")
    )
    (tmp_path / "c.txt").write_text("notes")
    first, second, third = volumes(tmp_path)
    assert first == "study without CT" and third == "not a DICOM file"
    assert "enhanced CT of several frames in a file is not read" in second


def test_one_scan_as_dicom_and_as_nifti_has_one_hash_and_the_same_voxels(tmp_path):
    slices = write_series(tmp_path / "dicom", rescale=(0.5, -1000))
    voxels, affine, _ = dicom_volume.read(slices)
    turned = nibabel.Nifti1Image(voxels[::-1].astype(np.int16), affine @ np.diag([-1, 1, 1, 1]))
    turned.affine[:3, 3] = affine[:3, 3] + affine[:3, 0] * (len(voxels) - 1)
    turned = nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine)
    nibabel.save(turned, tmp_path / "scan.nii.gz")
    of_dicom, of_nifti = (
        decode_volume.decode(path, *GRID) for path in (slices, tmp_path / "scan.nii.gz")
    )
    assert of_dicom[1] == of_nifti[1]
    assert np.abs(of_dicom[0].astype(int) - of_nifti[0]).max() <= 1


def test_a_cohort_of_ct_studies(tmp_path):
    for number in range(8):
        write_series(
            tmp_path / f"P{number}" / "CT",
            study=f"1.2.3.{number}",
            series=f"1.2.3.{number}.1",
            PatientID=f"P{number}",
            Laterality="LR"[number % 2],
            body_hounsfield=40 + 5 * number,
        )
    broken = tmp_path / "P1" / "CT" / "IM0003"
    broken.write_bytes(broken.read_bytes()[:-400])
    cohort = build_cohort.build(manifest(**CT), tmp_path, processes=1)
    assert cohort.record["exclusions"] == {"CT series cannot be decoded": 1}
    assert "SimpleITK" in cohort.record["versions"]
    table = cohort.table.sort_values("patient_id", ignore_index=True)
    assert table["patient_id"].tolist() == [f"P{n}" for n in range(8) if n != 1]
    assert table["image_id"].tolist() == [f"P{n}-1.2.3.{n}" for n in range(8) if n != 1]
    assert table["left"].tolist() == [1 - n % 2 for n in range(8) if n != 1]
    assert not [secret for secret in SECRETS if secret in table.to_csv()]
    # of each study its own voxels: the body's grey follows from its Hounsfield units
    middle = cohort.images[cohort.table["patient_id"].argsort(), 6, 20, 20]
    hounsfield = np.array([40 + 5 * n for n in range(8) if n != 1])
    np.testing.assert_allclose(middle, (hounsfield + 150) / 750 * 255, atol=1)


def test_spacing_problem_agrees_with_slices_moved_by_hand():
    straight = np.array([[0, 0, 3.0 * n] for n in range(20)])
    assert dicom_series.spacing_problem(straight) == ""
    tilted = straight + np.array([[0, 0.5 * n, 0] for n in range(20)])
    assert dicom_series.spacing_problem(tilted) == ""
    shifted = straight.copy()
    shifted[7, 0] += 2  # one slice of another field of view
    assert dicom_series.spacing_problem(shifted) == "CT series with uneven spacing"


def test_without_the_packages_the_extra_is_named(tmp_path, monkeypatch):
    slices = write_series(tmp_path, range(0, 24, 3))
    monkeypatch.setitem(importlib.import_module("sys").modules, "SimpleITK", None)
    with pytest.raises(errors.InputError, match=r"SimpleITK.*pip install \.\[dicom\]"):
        dicom_volume.read(slices)
    monkeypatch.setitem(importlib.import_module("sys").modules, "pydicom", None)
    with pytest.raises(errors.InputError, match=r"pydicom.*pip install \.\[dicom\]"):
        layouts.read(manifest(), tmp_path, {})


def test_three_readers_labels_join_by_name_and_files_without_an_image_need_no_partner(tmp_path):
    table = ["image_id,rad_id,effusion,no_finding"]
    for number in range(8):
        (tmp_path / "train").mkdir(exist_ok=True)
        path = tmp_path / "train" / f"{number:032x}.dicom"
        path.write_bytes(film(picture(), 12, PatientID=f"p{number}", uid=f"5.{number}"))
        for reader in range(3):  # two of three see it in even films
            seen = int(number % 2 == 0 and reader != 1)
            table.append(f"{number:032x},R{reader},{seen},{1 - seen}")
    (tmp_path / "train" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "labels.csv").write_text("\n".join(table))
    cohort = build_cohort.build(
        manifest(
            layout=dict(
                kind="dicom_files",
                files="train/*",
                joins=[dict(table="labels.csv", by={"name": "image_id"})],
            ),
            image_id="{name}",
            rows=dict(readers="majority"),
            findings=dict(
                effusion=dict(
                    canonical="pleural_effusion",
                    column="effusion",
                    values={"1": "positive", "0": "negative"},
                )
            ),
        ),
        tmp_path,
        image_px=16,
        processes=1,
    )
    table = cohort.table.sort_values("patient_id", ignore_index=True)
    assert table["image_id"].tolist() == [f"{n:032x}" for n in range(8)]
    assert table["effusion"].tolist() == [1, 0] * 4
    reasons = cohort.record["exclusions"]
    assert reasons.pop("DICOM file without an image (modality not said)") == 1
    assert sum(reasons.values()) == 16 and len(reasons) == 1


def test_a_table_may_name_dicom_files_as_its_images(tmp_path):
    rows = ["name,patient,effusion,photometry"]
    for number in range(12):
        photometry = f"MONOCHROME{1 + number % 2}"
        encoded = film(picture(), 12, uid=f"6.{number}", PhotometricInterpretation=photometry)
        (tmp_path / f"{number}.dcm").write_bytes(encoded)
        rows.append(f"{number}.dcm,p{number},{number % 2},{photometry}")
    (tmp_path / "films.csv").write_text("\n".join(rows))
    changes = dict(
        layout=dict(kind="table_and_images", table="films.csv", image_path="{name}"),
        image_id="{name}",
        patient_id="patient",
        sex=None,
        age=None,
        keep={},
        further_columns={},
        findings=dict(
            effusion=dict(
                canonical="pleural_effusion",
                column="effusion",
                values={"1": "positive", "0": "negative"},
            )
        ),
    )
    plain = build_cohort.build(manifest(**changes), tmp_path, image_px=16, processes=1)
    pixels = plain.images[:].copy()
    inverted = dict(inverted=dict(column="photometry", values=["MONOCHROME1"]))
    said_twice = build_cohort.build(
        manifest(**changes | dict(image=inverted)), tmp_path, image_px=16, processes=1
    )
    assert len(pixels) == 12 and np.array_equal(said_twice.images, pixels)
