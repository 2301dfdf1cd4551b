"""Real data through manifests.

The real COVID-19 collection where it is, and documented layouts with drawn files.
"""

import hashlib
import io
import json
import os
import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image

from helpers.core import errors
from helpers.data import (
    build_cohort,
    cohort_summary,
    cohorts,
    manifest_schema,
    manifests,
)
from helpers.data.images import decode_film, decode_volume, dicom_volume
from helpers.data.synthetic import chest_cohort
from helpers.data.tables import dicom_tags, layouts, source_files

COVID = Path(os.environ.get("REAL_DATA_ROOT") or "/nowhere") / "covid-chestxray"
needs_covid = pytest.mark.skipif(
    not (COVID / "metadata.csv").exists(),
    reason="REAL_DATA_ROOT is not set, or has no covid-chestxray/metadata.csv",
)
DICOM = COVID.with_name("dicom_cxr")
needs_dicom = pytest.mark.skipif(
    not (DICOM / "RG1_UNCR.dcm").exists(),
    reason="REAL_DATA_ROOT is not set, or has no dicom_cxr/RG1_UNCR.dcm",
)
CT_SLICES = COVID.with_name("ct_dicom")
needs_ct_slices = pytest.mark.skipif(
    not (CT_SLICES / "upper_abdomen").is_dir(),
    reason="REAL_DATA_ROOT is not set, or has no ct_dicom/upper_abdomen",
)
pytestmark = pytest.mark.usefixtures("results")


def png(image: np.ndarray | Image.Image) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def covid(tmp_path_factory) -> cohorts.Cohort:
    """The cohort of the real files, built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS_DIR", str(tmp_path_factory.mktemp("covid")))
        return build_cohort.build("covid_chestxray", COVID)


@needs_covid
def test_every_row_of_the_real_table_is_accounted_for(covid):
    table = pd.read_csv(COVID / "metadata.csv", dtype=str, keep_default_na=False)
    closing = cohort_summary.exclusions(covid.record).set_index("what became of it")["rows"]
    assert closing.to_dict() == {
        "image file absent": 278,
        "modality is not X-ray": 84,
        "view is not PA or AP or AP Supine": 47,
        "identical image of the same patient": 3,
        "kept": 261,
        "rows of the source": 673,
    }
    excluded = pd.read_csv(
        Path(covid.images.filename).with_name("exclusions.csv"), dtype={"patient_id": str}
    )
    assert len(excluded) == 412
    assert excluded["row"].is_unique
    assert len(table) == 673
    for row in excluded[excluded["reason"] == "image file absent"].itertuples():
        source = table.loc[row.row]
        assert source["filename"] == row.image_id
        assert not (COVID / source["folder"] / source["filename"]).exists()


@needs_covid
def test_two_real_patients_with_identical_images_are_one_unit(covid):
    (note,) = covid.record["notes"]
    first, second = re.fullmatch(
        r"Patients '(\d+)', '(\d+)' have an identical image and count as one patient, \1\.", note
    ).groups()
    kept = set(covid.table["patient_id"])
    assert covid.record["n_patients"] == len(kept) == 151
    assert first in kept
    assert second not in kept
    assert (covid.table.groupby("patient_id")["split"].nunique() == 1).all()


@needs_covid
def test_real_labels_ages_and_images_are_those_of_the_source(covid):
    source = (
        pd.read_csv(COVID / "metadata.csv", dtype=str, keep_default_na=False)
        .drop_duplicates("filename")
        .set_index("filename")
    )
    source = source.loc[covid.table["image_id"]]
    assert (
        covid.table["covid19"].tolist()
        == source["finding"].str.contains("COVID-19").astype(float).tolist()
    )
    assert covid.table["age_years"].isna().tolist() == (source["age"] == "").tolist()
    assert covid.table["sex"].isin(["female", "male", "unknown"]).all()
    assert set(covid.table["view"]) == {"PA", "AP", "AP Supine"}
    grey = covid.images.reshape(261, -1)
    # equalised, none is empty
    assert (grey.max(axis=1) == 255).all()
    assert (grey.std(axis=1) > 40).all()


@needs_covid
def test_real_files_that_are_damaged_or_absent_are_left_out_by_name(tmp_path):
    root, path = tmp_path / "covid", tmp_path / "covid_chestxray.yaml"
    (root / "images").mkdir(parents=True)
    films = sorted((COVID / "images").iterdir())
    for file in [
        COVID / "metadata.csv",
        COVID / "checksums.csv",
        *films[:12],
        *films[12::20],  # some with COVID-19 among the training patients
    ]:
        (root / file.relative_to(COVID)).write_bytes(file.read_bytes())
    damaged = root / "images" / "000001-12.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    with pytest.raises(
        errors.InputError, match="at least 40% of 542 image files of covid_chestxray"
    ):
        build_cohort.build("covid_chestxray", root)
    shipped = manifests.manifests_dir() / "covid_chestxray.yaml"
    path.write_text(
        shipped.read_text(encoding="utf-8").replace(
            "min_share_present: 0.4", "min_share_present: 0"
        ),
        encoding="utf-8",
    )
    cohort = build_cohort.build(path, root, image_px=32, processes=1)
    assert cohort.record["exclusions"]["image file differs from its checksum"] == 1
    assert "000001-12.jpg" not in set(cohort.table["image_id"])
    assert cohort.record["n_images"] + sum(cohort.record["exclusions"].values()) == 673


def write_chestxray14(root: Path, n_patients: int = 60) -> pd.DataFrame:
    """Write the documented table, lists and PNG files (one RGBA, one impossible age), with phantoms
    as images.
    """
    images, drawn = chest_cohort.draw_block(
        "public", "train", 0, 0, image_px=64, n_patients=n_patients
    )
    patient = drawn["patient_id"].astype("category").cat.codes + 1
    names = [
        f"{p:08d}_{v:03d}.png" for p, v in zip(patient, drawn.groupby("patient_id").cumcount())
    ]
    words = {
        "cardiomegaly": "Cardiomegaly",
        "congestion": "Edema",
        "pleural_effusion_left": "Effusion",
        "pneumonic_infiltrates_left": "Consolidation",
        "pneumonic_infiltrates_right": "Infiltration",
        "atelectasis_left": "Atelectasis",
    }
    labels = [
        "|".join(w for f, w in words.items() if row[f] > 0) or "No Finding"
        for row in drawn.to_dict("records")
    ]
    table = pd.DataFrame(
        {
            "Image Index": names,
            "Finding Labels": labels,
            "Follow-up #": 0,
            "Patient ID": patient,
            "Patient Age": drawn["age_years"].astype(int),
            "Patient Gender": drawn["sex"].map({"male": "M", "female": "F"}),
            "View Position": "AP",
            "Unnamed": "",
        }
    )
    table.loc[0, "Patient Age"] = 414
    (root / "images").mkdir(parents=True)
    for name, image in zip(names, images):
        as_rgba = Image.fromarray(image).convert("RGBA")
        (root / "images" / name).write_bytes(png(as_rgba if name == names[3] else image))
    table.to_csv(root / "Data_Entry_2017.csv", index=False)
    is_test = patient > 0.75 * n_patients
    (root / "test_list.txt").write_text(
        "\n".join(table.loc[is_test, "Image Index"]), encoding="utf-8"
    )
    (root / "train_val_list.txt").write_text(
        "\n".join(table.loc[~is_test, "Image Index"]) + "\n", encoding="utf-8"
    )
    return table


def test_chestxray14_as_documented(tmp_path):
    table = write_chestxray14(tmp_path / "nih")
    cohort = build_cohort.build("chestxray14", tmp_path / "nih", image_px=64, processes=1)
    assert len(cohort.table) == len(table)
    assert cohort.record["exclusions"] == {}
    assert (
        "1 rows with an impossible age (below 0 or above 120 years) count as age unknown; column"
        " 'Patient Age' has there '414' (1)."
    ) in cohort.record["notes"]
    expected = {
        finding: table["Finding Labels"].str.contains(words).astype(float).tolist()
        for finding, words in {
            "cardiomegaly": "Cardiomegaly",
            "congestion": "Edema",
            "pleural_effusion": "Effusion",
            "pneumonic_infiltrates": "Infiltration|Consolidation|Pneumonia",
            "atelectasis": "Atelectasis",
        }.items()
    }
    assert {finding: cohort.table[finding].tolist() for finding in cohort.findings} == expected
    is_test = table["Patient ID"] > 45
    assert ((cohort.table["split"] == "test") == is_test.to_numpy()).all()
    assert 0 < (cohort.table["split"] == "valid").sum() < (cohort.table["split"] == "train").sum()


def test_chestxray14_refuses_what_is_wrong_in_it(tmp_path):
    root = tmp_path / "nih"
    table = write_chestxray14(root, n_patients=20)
    path, lists = root / "Data_Entry_2017.csv", root / "test_list.txt"

    def refused(words: str) -> None:
        with pytest.raises(errors.InputError, match=words):
            build_cohort.build("chestxray14", root, processes=1)

    table.assign(**{"Finding Labels": "Effusion|Pneumonitis"}).to_csv(path, index=False)
    refused(
        "column 'Finding Labels' of Data_Entry_2017.csv to hold entries known for it.*got"
        " 'Effusion.Pneumonitis'"
    )
    table.drop(columns="Patient ID").to_csv(path, index=False)
    refused("columns 'Patient ID' in Data_Entry_2017.csv")
    table.to_csv(path, index=False)
    lists.write_text(
        lists.read_text(encoding="utf-8") + "\n" + table["Image Index"][0], encoding="utf-8"
    )
    refused("each image in one list of train_val_list.txt, test_list.txt; got 1 in two")
    listed = table["Image Index"][table["Patient ID"] == table["Patient ID"][0]].tolist()
    assert len(listed) > 1  # the first patient's images: one in either list
    (root / "train_val_list.txt").write_text(
        "\n".join(set(table["Image Index"]) - {listed[0]}), encoding="utf-8"
    )
    lists.write_text(listed[0], encoding="utf-8")
    refused("no patient in two splits of Data_Entry_2017.csv; got 1")
    lists.unlink()
    refused("no test_list.txt in .*How to get it")


def write_taix_ray(root: Path, break_one: bool = False) -> pd.DataFrame:
    """Write parquet shards as documented.

    Hexadecimal ids, ages in days, grades, the PNG in a struct; phantoms as images.
    """
    (root / "data").mkdir(parents=True)
    tables = []
    for split, name, n_patients in (
        ("train", "train", 40),
        ("valid", "val", 15),
        ("test", "test", 15),
    ):
        images, drawn = chest_cohort.draw_block(
            "private", split, 0, 0, image_px=72, n_patients=n_patients
        )

        def hexadecimal(ids: pd.Series) -> pd.Series:
            return ids.map(lambda text: hashlib.sha256(text.encode()).hexdigest())

        table = pd.DataFrame(
            {
                "UID": hexadecimal(drawn["image_id"]),
                "Fold": 0,
                "Split": name,
                "PatientID": hexadecimal(drawn["patient_id"]),
                "PhysicianID": hexadecimal(drawn["sex"]),
                "StudyDate": "2015-03-01",
                "Age": (drawn["age_years"] * 365.25).astype(int),
                "Sex": drawn["sex"].map({"male": "M", "female": "F"}),
                "HeartSize": drawn["cardiomegaly"].clip(upper=3),
                "PulmonaryCongestion": drawn["congestion"],
            }
        )
        for column, finding in (
            ("PleuralEffusion", "pleural_effusion"),
            ("PulmonaryOpacities", "pneumonic_infiltrates"),
            ("Atelectasis", "atelectasis"),
        ):
            for side in ("Right", "Left"):
                table[f"{column}_{side}"] = drawn[f"{finding}_{side.lower()}"]
        encoded = [
            {"bytes": png(image[:60]), "path": f"{uid}.png"}
            for uid, image in zip(table["UID"], images)
        ]
        if break_one and split == "train":
            encoded[1] = {"bytes": encoded[1]["bytes"][:500], "path": None}
            encoded[2] = {"bytes": None, "path": "elsewhere.png"}
        shard = pa.Table.from_pandas(table, preserve_index=False).append_column(
            "Image", pa.array(encoded)
        )
        half = len(table) // 2
        for number, rows in enumerate((shard.slice(0, half), shard.slice(half))):
            pq.write_table(
                rows, root / "data" / f"{name}-{number:05d}-of-00002.parquet", row_group_size=25
            )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def test_taix_ray_as_documented(tmp_path):
    source = write_taix_ray(tmp_path / "taix")
    cohort = build_cohort.build(
        "taix_ray", tmp_path / "taix", image_px=48, equalise="no", processes=1
    )
    table = cohort.table.set_index("image_id").loc[source["UID"]]
    assert len(table) == len(source)
    assert cohort.record["exclusions"] == {}
    assert table["split"].tolist() == source["Split"].replace("val", "valid").tolist()
    np.testing.assert_allclose(table["age_years"], source["Age"] / 365.25)
    assert table["cardiomegaly"].tolist() == (source["HeartSize"] >= 2).astype(float).tolist()
    assert (
        table["atelectasis_left"].tolist()
        == (source["Atelectasis_Left"] >= 2).astype(float).tolist()
    )
    # Rows of all shards and row groups lie beside their own image: 72 wide, 60 high, so 40 of 48
    # rows are not padding.
    blocks = [
        chest_cohort.draw_block("private", split, 0, 0, image_px=72, n_patients=n)[0]
        for split, n in (("train", 40), ("valid", 15), ("test", 15))
    ]
    order = cohort.table.reset_index().set_index("image_id").loc[source["UID"], "index"]
    for row, image in list(zip(order, np.concatenate(blocks)))[::17]:
        expected = Image.fromarray(image[:60].astype(np.float32)).resize(
            (48, 40), Image.Resampling.BILINEAR
        )
        made = cohort.images[row]
        assert not made[:4].any()
        assert not made[44:].any()
        assert np.corrcoef(made[4:44].ravel(), np.asarray(expected).ravel())[0, 1] > 0.999


def test_taix_ray_with_damaged_images_grades_and_shards(tmp_path):
    root = tmp_path / "taix"
    source = write_taix_ray(root, break_one=True)
    cohort = build_cohort.build("taix_ray", root, image_px=32, processes=2)
    assert cohort.record["exclusions"] == {"image cannot be decoded": 2}
    assert not set(source["UID"][1:3]) & set(cohort.table["image_id"])
    shard = root / "data" / "val-00000-of-00002.parquet"
    table = pq.read_table(shard)
    wrong = table.set_column(
        table.column_names.index("HeartSize"), "HeartSize", pa.array([4] * len(table))
    )
    pq.write_table(wrong, shard)
    with pytest.raises(
        errors.InputError,
        match="column 'HeartSize' of data/train-.* to hold grades 0, 1, 2, 3; got '4'",
    ):
        build_cohort.build("taix_ray", root, image_px=32, processes=1)
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(
        errors.InputError, match="data/val-00000-of-00002.parquet to be a whole parquet file"
    ):
        build_cohort.build("taix_ray", root, image_px=32, processes=1)
    # the whole cohort of before is untouched
    assert len(cohorts.read("taix_ray").table) == len(source) - 2


def test_a_missing_data_root_says_what_is_expected_and_how_to_get_it(tmp_path):
    for name in ("covid_chestxray", "chestxray14", "taix_ray"):
        expected = source_files.expected_files(manifests.read(name))[0].replace("*", r"\*")
        with pytest.raises(
            errors.InputError,
            match=(
                f"{expected}.* under the data root of {name}; got the empty folder .*How to get it:"
                " From"
            ),
        ):
            build_cohort.build(name, tmp_path)


def test_study_in_private_mode_on_documented_parquet_started_from_a_layout_that_is_not_shipped(
    tmp_path, run_study
):
    write_taix_ray(tmp_path / "taix_ray")
    write_chestxray14(tmp_path / "ours")
    layout = (manifests.manifests_dir() / "chestxray14.yaml").read_text(encoding="utf-8")
    layout = (
        layout.replace("name: chestxray14", "name: ours")
        .replace("Patient Gender", "who")
        .replace("images/{", "films/{")
    )
    (tmp_path / "ours.yaml").write_text(layout, encoding="utf-8")
    (tmp_path / "ours" / "images").rename(tmp_path / "ours" / "films")
    table = tmp_path / "ours" / "Data_Entry_2017.csv"
    table.write_text(
        table.read_text(encoding="utf-8").replace("Patient Gender", "who"), encoding="utf-8"
    )

    settings = [
        f"PRETRAIN={tmp_path / 'ours.yaml'}",
        "IMAGE_PX=48",
        "WIDTH=8",
        "CHANNELS=1",
        "EPSILON=7.89",
        "DELTA=0.005",
        "PRETRAIN_EPOCHS=1",
        "EPOCHS=1",
        "03.EXPECTED_BATCH_SIZE=8",
        "N_BOOTSTRAP=20",
        "MIN_PATIENTS=2",
    ]
    roots = [f"{name}={tmp_path / name}" for name in ("taix_ray", "ours")]
    words = [word for root in roots for word in ("--data-root", root)]
    study = run_study("taix_ray", tmp_path / "out", *words, settings=settings)
    assert study.code == 0, study.complaint
    record = json.loads((tmp_path / "out/runs/taix_ray-dp-eps7.89-seed0/record.json").read_text())
    assert record["ledger"]["guarantee"] == "valid"
    assert record["ledger"]["epsilon_spent"]["PLD"] <= 7.89
    page = (tmp_path / "out/notebooks/03_dp_training-eps7.89-seed0.ipynb").read_text()
    assert "Whatever the method, an attacker" in page
    assert "There is no privacy guarantee" not in page


@pytest.mark.slow
@needs_covid
def test_study_on_the_real_files(tmp_path, run_study):
    words = ("--data-root", str(COVID))
    study = run_study("covid_chestxray", tmp_path / "out", *words)
    assert study.code == 0, study.complaint
    assert "not estimable" in (tmp_path / "out/notebooks/04_fairness_analysis.html").read_text()


@needs_dicom
def test_one_real_film_in_three_encodings_is_one_upright_picture():
    plain, lossless, lossy = (
        decode_film.decode((DICOM / f"RG1_{form}.dcm").read_bytes(), 128).astype(int)
        for form in ("UNCR", "J2KR", "J2KI")
    )
    assert np.array_equal(plain, lossless)
    assert np.abs(plain - lossy).mean() < 2
    # stored as MONOCHROME1, shown with dense tissue bright: the abdomen and the mediastinum are
    # brighter than the lungs beside it, at half height
    abdomen, mediastinum = plain[110:120, 40:90].mean(), plain[40:60, 60:68].mean()
    lungs = [plain[30:60, 35:45].mean(), plain[30:60, 85:95].mean()]
    assert max(lungs) + 20 < min(abdomen, mediastinum)
    assert (plain[:, :3] == 0).all()  # 1955 rows, 1841 columns: padded on the sides


@needs_dicom
@pytest.mark.parametrize("pattern", ["mlut_18", "vlut_04"])
def test_the_real_look_up_tables_give_the_same_test_pattern(pattern):
    made = decode_film.decode((DICOM / f"{pattern}.dcm").read_bytes(), 512)
    # SMPTE: fields of 0 to 30 % on the left from below, of 70 to 100 % on the right from above
    fields = made[[340, 285, 245, 160, 160, 245, 285, 340], [117] * 4 + [395] * 4]
    np.testing.assert_allclose(fields / 255, [0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 1], atol=0.02)


@needs_dicom
def test_a_real_file_without_pixels_is_left_out_and_its_text_decoded():
    with pytest.raises(decode_film.UnusableImage, match=r"without an image \(CR\)"):
        decode_film.decode((DICOM / "chrJapMulti.dcm").read_bytes(), 64)
    header = dicom_tags.read_header(DICOM / "chrJapMulti.dcm")
    assert header["PatientID"] == "2008-4" and header["PatientSex"] == "M"


def ct_manifest(**changes: object) -> manifest_schema.Manifest:
    """Read folders of slices as studies; the folder is the patient."""
    return manifest_schema.Manifest.model_validate(
        dict(
            name="abdomen",
            title="Upper abdomen",
            modality="CT",
            access="private",
            licence="none",
            citation="none",
            how_to_get="Ask.",
            layout=dict(kind="dicom_files", files="**/*"),
            image_id="{folder}",
            patient_id="folder",
            findings=dict(
                siemens=dict(
                    canonical="siemens", column="Manufacturer", values={"SIEMENS": "positive"}
                )
            ),
            split=dict(test_share=0.3, valid_share=0.2),
            volume=dict(shape=[16, 96, 96], spacing_mm=[2.5, 4, 4], window_hu=[-150, 250]),
        )
        | changes
    )


@needs_ct_slices
def test_the_real_abdomen_of_dicom_slices_is_read_the_right_way_round(tmp_path):
    raw, locations = layouts.read(ct_manifest(), CT_SLICES, {})
    chosen = locations[locations["unusable"] == ""]
    assert raw.loc[chosen.index, "folder"].tolist() == ["upper_abdomen"]
    slices = [CT_SLICES / file for file in chosen["slices"].item().split("\n")]
    assert len(slices) == 20
    voxels, affine, _ = dicom_volume.read(slices)
    assert (voxels.shape, voxels.min(), voxels.max()) == ((512, 512, 20), -1024, 1839)
    # against pydicom, which reads one slice at a time
    for path in slices[::6]:
        tags = pydicom.dcmread(path)
        left, back, up = np.array(tags.ImagePositionPatient) + [
            150 * tags.PixelSpacing[1],
            200 * tags.PixelSpacing[0],
            0,
        ]
        index = np.rint(np.linalg.inv(affine) @ [-left, -back, up, 1]).astype(int)[:3]
        expected = tags.pixel_array[200, 150] * tags.RescaleSlope + tags.RescaleIntercept
        assert voxels[tuple(index)] == expected
    grid, sha256 = decode_volume.decode(slices, (16, 96, 96), (2.5, 4, 4), (-1000, 1000))
    hounsfield = grid / 255 * 2000 - 1000
    assert np.median(hounsfield[8, 44:56, 22:32]) == pytest.approx(115, abs=30)  # liver: right
    assert hounsfield[8, :15].max() < -900  # air in front
    assert hounsfield[8, 62:75, 40:56].max() > 400  # spine: at the back
    nifti = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), affine), nifti)
    assert decode_volume.decode(nifti, (16, 96, 96), (2.5, 4, 4), (-1000, 1000))[1] == sha256


@needs_ct_slices
def test_real_single_slices_are_left_out_with_reasons_and_their_tags_read():
    raw, locations = layouts.read(ct_manifest(), CT_SLICES, {})
    lone = raw["folder"] == "one_slice"
    reasons = locations.loc[lone, "unusable"]
    assert len(reasons) == 7  # two of the eight files are of one study
    assert reasons.str.startswith("CT study without an axial series of at least 8 slices").all()
    assert (
        reasons.str.contains("enhanced CT").tolist()
        == (raw.loc[lone, "name"] == "eCT_Supplemental").tolist()
    )
    ages = raw.loc[lone].set_index("name")["PatientAge"]
    assert (ages["CT_small"], ages["J2K_pixelrep_mismatch"]) == ("000Y", "076Y")


@needs_ct_slices
def test_real_slices_read_as_single_pictures():
    lossless = (CT_SLICES / "one_slice" / "bad_sequence.dcm").read_bytes()
    assert decode_film.decode(lossless, 64).std() > 30
    # its JPEG 2000 stream says unsigned, its tag signed: 0 to 8191 where -2000 to 1896 is right
    mismatch = (CT_SLICES / "one_slice" / "J2K_pixelrep_mismatch.dcm").read_bytes()
    assert np.mean(decode_film.decode(mismatch, 64) == 0) > 0.4  # air
