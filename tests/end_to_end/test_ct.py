"""CT through the same notebooks.

The real PANORAMA table with drawn volumes, folders of a private cohort, bad input.
"""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from helpers.analysis import shortcuts
from helpers.core import errors
from helpers.data import build_cohort, manifests
from helpers.data.images import decode_volume
from helpers.data.synthetic import abdomen_cohort

TABLE = (
    Path(os.environ.get("REAL_DATA_ROOT") or "/nowhere") / "panorama" / "clinical_information.xlsx"
)
needs_table = pytest.mark.skipif(
    not TABLE.exists(),
    reason="REAL_DATA_ROOT is not set, or has no panorama/clinical_information.xlsx",
)
ORIENTATIONS = ("RAS", "LPS", "PIR")  # of the files written
TINY = (
    "VOLUME_SHAPE=[8, 32, 32]",
    "WIDTH=8",
    "EPSILONS=[8]",
    "02.EPOCHS=1",
    "03.EPOCHS=1",
    "N_BOOTSTRAP=20",
    "MIN_PATIENTS=2",
)
pytestmark = pytest.mark.usefixtures("results")


def write_volume(path: Path, hounsfield: np.ndarray, number: int) -> None:
    """Write a drawn volume (head, front, right first) as NIfTI, in one of several orientations,
    every fourth one oblique.
    """
    affine = np.zeros((4, 4))
    affine[:3, :3], affine[3, 3] = -np.diag([9.0, 12.0, 12.0])[::-1], 1  # anisotropic
    image = nibabel.Nifti1Image(hounsfield, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(ORIENTATIONS[number % 3])
    )
    image = image.as_reoriented(turn)
    if number % 4 == 0:
        angle = 0.15
        tilt = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        image = nibabel.Nifti1Image(
            np.asarray(image.dataobj),
            nibabel.affines.from_matvec(tilt @ image.affine[:3, :3], tilt @ image.affine[:3, 3]),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def drawn(n: int, has_it: list[bool]) -> list[np.ndarray]:
    """Return volumes of n patients, with the tumour where asked for."""
    cases, controls = [], []
    for index in range(-(-n // 8) + 1):
        volumes, table = abdomen_cohort.draw_block(
            "ct_private", "train", index, 5, (16, 32, 32), (9.0, 12.0, 12.0)
        )
        for volume, label in zip(volumes, table["pancreatic_cancer"]):
            (cases if label else controls).append(volume)
    return [(cases if is_case else controls).pop() for is_case in has_it]


@pytest.fixture
def panorama(tmp_path) -> tuple[Path, pd.DataFrame]:
    """The real table, and drawn volumes in the documented layout for 60 of its rows, in two
    batches.
    """
    table, root = pd.read_excel(TABLE, dtype=str), tmp_path / "panorama"
    root.mkdir()
    (root / TABLE.name).write_bytes(TABLE.read_bytes())
    is_other = table["level"].isin(["MSD_dataset", "NIH_dataset"])
    rows = pd.concat([table[is_other].iloc[:16], table[~is_other].iloc[:44]])
    for number, (study, volume) in enumerate(
        zip(rows["PANORAMA_study_id"], drawn(60, (rows["label"] == "PDAC").tolist()))
    ):
        write_volume(root / f"batch_{number % 2 + 1}" / f"{study}_0000.nii.gz", volume, number)
    truncated = next(root.glob("batch_1/*.nii.gz"))
    truncated.write_bytes(truncated.read_bytes()[:-2000])
    return root, rows


@needs_table
def test_the_real_table_is_read_as_documented(panorama):
    root, rows = panorama
    cohort = build_cohort.build("panorama", root, volume_shape=[8, 16, 16], processes=1)
    assert cohort.record["n_source_rows"] == 2238
    assert cohort.record["n_images"] == 59
    assert cohort.record["exclusions"] == {"image file absent": 2178, "volume cannot be decoded": 1}
    everybody = pd.read_excel(TABLE)
    assert everybody["PANORAMA_patient_id"].nunique() == 2224
    assert (everybody["label"] == "PDAC").sum() == 676
    table = cohort.table.set_index("image_id")
    of_rows = rows.set_index("PANORAMA_study_id").loc[table.index]
    assert (table["pancreatic_cancer"] == (of_rows["label"] == "PDAC")).all()
    unknown = of_rows["patient_age"].isna()
    assert (table.loc[unknown, "sex"] == "unknown").all()
    assert table.loc[unknown, "age_years"].isna().all()
    assert unknown.sum() >= 15
    assert (
        table.loc[~unknown, "age_years"]
        == of_rows.loc[~unknown, "patient_age"].str.rstrip("Y").astype(float)
    ).all()
    assert set(table["source"]) == {"MSD", "NIH", "own hospitals"}
    assert cohort.images.shape[1:] == (
        8,
        16,
        16,
    )


@needs_table
def test_scanner_and_source_alone_tell_cases_from_controls_in_the_real_table():
    """Philips scanners hold 76 % PDAC.

    The AUROC of the scanner alone is about 0.7 by the real table.
    """
    everybody = pd.read_excel(TABLE)
    n = len(everybody)
    table = pd.DataFrame(
        {
            "image_id": everybody["PANORAMA_study_id"],
            "patient_id": everybody["PANORAMA_patient_id"].astype(str),
            "split": np.where(np.arange(n) % 2, "train", "test"),
            "scanner": everybody["scanner"],
            "pancreatic_cancer": (everybody["label"] == "PDAC").astype(float),
        }
    )
    test = table[table["split"] == "test"]
    chance = test[["image_id", "patient_id", "split"]].assign(
        finding="pancreatic_cancer",
        label=test["pancreatic_cancer"],
        score=np.random.default_rng(0).random(len(test)),
    )
    scanner = shortcuts.beside_model(
        {"run": chance}, table, ["scanner"], n_bootstrap=2, min_patients=10
    ).iloc[0]
    assert 0.66 < scanner["alone"] < 0.76
    assert abs(scanner["within"] - 0.5) < 0.05


@needs_table
def test_the_profile_runs_on_volumes_in_the_documented_layout(panorama, tmp_path, run_study):
    root, _ = panorama
    words, settings = ("--data-root", str(root), "--jobs", "1"), (*TINY, "DELTA=0.002")
    study = run_study("panorama", tmp_path / "out", *words, settings=settings)
    assert study.code == 0, study.complaint
    record = json.loads((tmp_path / "out/runs/panorama-dp-eps8-seed0/record.json").read_text())
    assert record["ledger"]["guarantee"] == "valid"
    assert record["ledger"]["unit"] == "patient"
    shortcuts_found = pd.read_csv(next((tmp_path / "out/tables").glob("05_shortcuts.csv")))
    assert set(shortcuts_found["column"]) == {"scanner", "source"}
    assert shortcuts_found["alone"].between(0, 1).all()


def write_folders(root: Path) -> None:
    """Write a cohort in the layout of the paper's.

    A folder a split, in it a folder a class, and a table of people.
    """
    rng, people, scans = np.random.default_rng(2), [], drawn(44, [bool(k % 2) for k in range(44)])
    for split, n in (("train", 24), ("val", 8), ("test", 12)):
        for number in range(n):
            is_case, volume = bool(number % 2), scans.pop(0)
            name = f"{split}_{number:03d}"
            write_volume(
                root / split / ("PDAC" if is_case else "control") / f"{name}.nii", volume, number
            )
            people.append(
                [name, f"patient {name}", "MF"[int(rng.integers(2))], int(rng.integers(40, 85))]
            )
    pd.DataFrame(people, columns=["name", "patient", "sex", "age"]).to_csv(
        root / "people.csv", index=False
    )


@pytest.mark.slow
def test_folders_by_split_and_class_and_the_papers_settings(tmp_path, run_study):
    root = tmp_path / "pdac"
    write_folders(root)
    words = ("--data-root", str(root), "--jobs", "1")
    settings = (*TINY, "03.EXPECTED_BATCH_SIZE=8", "DELTA=0.09")
    study = run_study("pdac_paper", tmp_path / "out", *words, settings=settings)
    assert study.code == 0, study.complaint
    cohort = json.loads((tmp_path / "out/cohort/pdac_tum/record.json").read_text())
    assert cohort["n_images"] == 44
    assert cohort["exclusions"] == {}
    record = json.loads(next((tmp_path / "out/runs").glob("pdac_tum-dp-*/record.json")).read_text())
    assert record["ledger"]["guarantee"].startswith("not valid (delta is")
    assert "no guarantee" in study.said
    settings = ("03.CONFIRM=[]", *settings)
    refused = run_study("pdac_paper", tmp_path / "out", *words, settings=settings)
    assert refused.code == 2
    assert "Expected DELTA below 1 / 24 training images" in refused.complaint


def test_bad_folders_and_tables_are_refused_in_words(tmp_path):
    root = tmp_path / "pdac"
    (root / "train" / "PDAC" / "series").mkdir(parents=True)
    (root / "train" / "PDAC" / "series" / "1.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(errors.InputError, match=r"got DICOM files in .*dicom_files"):
        build_cohort.build("pdac_tum", root, processes=1)
    write_folders(root)
    people = pd.read_csv(root / "people.csv", dtype=str)
    for column, wrong, words in (
        ("age", "abc", "column 'age' of .* to hold ages in years .*; got 'abc' in 44 rows"),
        ("sex", "X", "column 'sex' of .* to hold M or F; got 'X'"),
    ):
        people.assign(**{column: wrong}).to_csv(root / "people.csv", index=False)
        with pytest.raises(errors.InputError, match=words):
            build_cohort.build("pdac_tum", root, processes=1)
    twice = pd.concat([people, people.iloc[:1].assign(patient="another")])
    twice.to_csv(root / "people.csv", index=False)
    with pytest.raises(errors.InputError, match="one row for each name in people.csv; got 1 more"):
        build_cohort.build("pdac_tum", root, processes=1)
    people.assign(name=people["name"] + ".nii").to_csv(root / "people.csv", index=False)
    with pytest.raises(errors.InputError, match="44 would match but for the file ending"):
        build_cohort.build("pdac_tum", root, processes=1)
    people.iloc[1:].to_csv(root / "people.csv", index=False)  # a volume whose patient is not known
    with pytest.raises(errors.InputError, match="1 rows of .* without one.*unmatched: .rows."):
        build_cohort.build("pdac_tum", root, processes=1)
    shipped = (manifests.manifests_dir() / "pdac_tum.yaml").read_text(encoding="utf-8")
    partial = tmp_path / "pdac_tum.yaml"
    partial.write_text(
        shipped.replace("table: people.csv", "table: people.csv\n  unmatched: [rows]"),
        encoding="utf-8",
    )
    cohort = build_cohort.build(partial, root, volume_shape=[8, 16, 16], processes=1)
    assert cohort.record["exclusions"] == {"no patient_id": 1}
    assert len(cohort.table) == 43
    people.to_csv(root / "people.csv", index=False)
    (root / "val" / "other").mkdir()
    (root / "val" / "PDAC" / "val_001.nii").rename(root / "val" / "other" / "val_001.nii")
    with pytest.raises(
        errors.InputError, match="column 'class' of .* to hold PDAC or control; got 'other'"
    ):
        build_cohort.build("pdac_tum", root, processes=1)


def test_one_scan_in_two_files_that_are_typed_differently_is_one_scan(tmp_path):
    root = tmp_path / "pdac"
    write_folders(root)
    scan = nibabel.load(root / "train" / "PDAC" / "train_001.nii")
    again = nibabel.Nifti1Image(np.asarray(scan.dataobj, np.float32), scan.affine)
    nibabel.save(again, root / "test" / "PDAC" / "test_001.nii")
    cohort = build_cohort.build("pdac_tum", root, volume_shape=[8, 32, 32], processes=1)
    assert cohort.record["exclusions"] == {"identical image in an earlier split": 1}
    assert "test_001" not in set(cohort.table["image_id"])
    assert "train_001" in set(cohort.table["image_id"])
    kept = cohort.table.set_index("image_id").loc["train_001", "film_sha256"]
    assert (
        kept
        == decode_volume.decode(
            root / "test" / "PDAC" / "test_001.nii", (8, 8, 8), (9, 12, 12), (-150, 250)
        )[1]
    )
    assert cohort.table["film_sha256"].str.len().eq(64).all()
    assert cohort.table["film_sha256"].is_unique


@needs_table
def test_a_folder_in_place_of_a_volume_and_a_missing_label(panorama):
    root, rows = panorama
    file = next(root.glob("batch_2/*.nii.gz"))
    file.unlink()
    file.mkdir()
    shipped = manifests.manifests_dir() / "panorama.yaml"
    path = root.parent / "panorama.yaml"
    path.write_text(
        shipped.read_text(encoding="utf-8")
        .replace("  anywhere: true", "  anywhere: false")
        .replace('image_path: "{', 'image_path: "batch_2/{'),
        encoding="utf-8",
    )
    cohort = build_cohort.build(path, root, volume_shape=[8, 16, 16], processes=1)
    assert any("dicom_files" in reason for reason in cohort.record["exclusions"])
    assert cohort.record["n_images"] == 29
    table = pd.read_excel(root / TABLE.name, dtype=str)
    table.loc[table["PANORAMA_study_id"] == cohort.table["image_id"][0], "label"] = None
    table.to_excel(root / TABLE.name, index=False)
    again = build_cohort.build(path, root, volume_shape=[8, 16, 16], processes=1)
    assert again.table["pancreatic_cancer"].isna().sum() == 1
    (root / TABLE.name).write_bytes(b"no workbook")
    with pytest.raises(errors.InputError, match="clinical_information.xlsx to be a table"):
        build_cohort.build(path, root, processes=1)


def test_sizes_of_volumes_and_of_images_are_not_mixed_up():
    with pytest.raises(
        errors.InputError, match="VOLUME_SHAPE and WINDOW_HU for synthetic_ct_private"
    ):
        build_cohort.build("synthetic_ct_private", image_px=64)
    with pytest.raises(
        errors.InputError, match="no VOLUME_SHAPE and no WINDOW_HU for synthetic_cxr_private"
    ):
        build_cohort.build("synthetic_cxr_private", window_hu=[0, 100])
    with pytest.raises(errors.InputError, match="WINDOW_HU to be .lower, upper."):
        build_cohort.build("synthetic_ct_private", window_hu=[250, -150])
