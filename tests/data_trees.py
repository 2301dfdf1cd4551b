"""The documented folders of public data sets, with drawn images and the oddities of the real ones.

`write(name, root, n_patients)` writes a data set's files below `root` and returns a `Tree`: what a
cohort that was read right holds. Names of columns, forms of cells and oddities are those of the
real tables; patients and images are drawn.
"""

import dataclasses
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

PX = 40
CHEXPERT_COLUMNS = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity"]
CHEXPERT_COLUMNS += ["Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"]
CHEXPERT_COLUMNS += ["Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"]
CHEXPERT_COLUMNS += ["Support Devices"]
NIH_COLUMNS = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"]
NIH_COLUMNS += ["Patient Gender", "View Position", "OriginalImage[Width", "Height]"]
NIH_COLUMNS += ["OriginalImagePixelSpacing[x", "y]"]
NIH_WORDS = ["Cardiomegaly", "Edema", "Effusion", "Consolidation", "Infiltration", "Atelectasis"]


@dataclasses.dataclass
class Tree:
    """What a cohort of the files should hold.

    expected: a row a film kept, in any order: image_id, patient_id, sex, age_years, findings, and
        `split` where one is given. exclusions: reason -> rows. findings: names.
    """

    expected: pd.DataFrame
    exclusions: dict[str, int]
    findings: list[str]


def write(name: str, root: Path, n_patients: int = 24) -> Tree:
    """Write the files of the data set `name` below root."""
    root.mkdir(parents=True, exist_ok=True)
    return WRITERS[name](root, n_patients, np.random.default_rng(len(name)))


def films(rng: np.random.Generator, is_bright: np.ndarray, shape: tuple = (PX, PX)) -> np.ndarray:
    """Noise, no two alike, with a bright box where `is_bright`: (n, *shape) uint8."""
    images = rng.integers(20, 120, (len(is_bright), *shape)).astype(np.uint8)
    box = (slice(None), *(slice(size // 2, size - 4) for size in shape))
    images[box] += (100 * np.asarray(is_bright)).astype(np.uint8).reshape(-1, *[1] * len(shape))
    return images


def save(path: Path, image: np.ndarray) -> None:
    """Write an image by its file's ending (8 or 16 bit)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def save_dicom(path: Path, image: np.ndarray, inverted: bool = False, **tags: str) -> None:
    """Write a film of 12 bit as an uncompressed DICOM file with these tags."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        ComputedRadiographyImageStorage,
        generate_uid(),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    film.Modality, film.Rows, film.Columns, film.SamplesPerPixel = "CR", *image.shape, 1
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    with warnings.catch_warnings():  # some ages are no ages of DICOM, as in the real files
        warnings.simplefilter("ignore")
        for keyword, value in tags.items():
            setattr(film, keyword, value)
    wide = image.astype(np.uint16) * 16
    film.PixelData = (4095 - wide if inverted else wide).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        film.save_as(path, enforce_file_format=True)


def patients_of_rows(n_patients: int, rng: np.random.Generator) -> np.ndarray:
    """The number of the patient of each film: 1 to 3 films a patient."""
    return np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))


def nih_table(patients: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of `Data_Entry_2017.csv`, and the sex in words."""
    table = pd.DataFrame({"patient": patients})
    table["Follow-up #"] = table.groupby("patient").cumcount()
    table["Patient ID"] = table["patient"] + 1
    table["Image Index"] = [
        f"{p:08d}_{k:03d}.png" for p, k in zip(table["Patient ID"], table["Follow-up #"])
    ]
    words = rng.random((len(table), len(NIH_WORDS))) < 0.3
    table["Finding Labels"] = [
        "|".join(np.array(NIH_WORDS)[row]) if row.any() else "No Finding" for row in words
    ]
    table["Patient Age"] = 20 + table["patient"] % 70 + table["Follow-up #"]
    table["Patient Gender"] = np.where(table["patient"] % 2, "M", "F")
    table["View Position"] = np.where(rng.random(len(table)) < 0.6, "PA", "AP")
    return table.assign(
        **dict.fromkeys(NIH_COLUMNS[7:], 0.143),
        sex=table["Patient Gender"].map({"M": "male", "F": "female"}),
    )


def _chestxray14_part(root: Path, n_patients: int, rng: np.random.Generator) -> Tree:
    """Two films of one patient are the same picture; one film is nearly of one grey value."""
    table = nih_table(np.sort(np.r_[patients_of_rows(n_patients, rng), 0, 0]), rng)
    images = films(rng, table["Finding Labels"].str.contains("Effusion"))
    images[1] = images[0]
    images[2] = 90
    images[2, 5, 5] = 91
    for name, image in zip(table["Image Index"], images):
        save(root / "images" / name, image)
    table[NIH_COLUMNS].to_csv(root / "Data_Entry_2017.csv", index=False)
    labels = table["Finding Labels"].str
    expected = pd.DataFrame(
        {
            "image_id": table["Image Index"],
            "patient_id": table["Patient ID"].astype(str),
            "sex": table["sex"],
            "age_years": table["Patient Age"].astype(float),
            "view": table["View Position"],
            "cardiomegaly": labels.contains("Cardiomegaly") * 1.0,
            "congestion": labels.contains("Edema") * 1.0,
            "pleural_effusion": labels.contains("Effusion") * 1.0,
            "pneumonic_infiltrates": labels.contains("Consolidation|Infiltration") * 1.0,
            "atelectasis": labels.contains("Atelectasis") * 1.0,
        }
    ).drop(index=1)
    return Tree(expected, {"identical image of the same patient": 1}, list(expected.columns[5:]))


def chexpert_cells(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Cells of the 14 findings: 1.0, 0.0, -1.0 and blank."""
    cells = rng.choice(["1.0", "0.0", "-1.0", ""], (n, 14), p=[0.3, 0.2, 0.1, 0.4])
    return pd.DataFrame(cells, columns=CHEXPERT_COLUMNS)


def chexpert_labels(cells: pd.DataFrame) -> pd.DataFrame:
    """U-ignore, with blank as absent, worked out anew."""
    means = {"1.0": 1.0, "0.0": 0.0, "": 0.0, "-1.0": np.nan}
    known = cells.apply(lambda column: column.map(means))
    either = known[["Consolidation", "Pneumonia"]]
    return pd.DataFrame(
        {
            "cardiomegaly": known["Cardiomegaly"],
            "congestion": known["Edema"],
            "pleural_effusion": known["Pleural Effusion"],
            "pneumonic_infiltrates": either.max(axis=1).where(
                either.eq(1).any(axis=1) | either.notna().all(axis=1)
            ),
            "atelectasis": known["Atelectasis"],
        }
    )


def _chexpert(root: Path, n_patients: int, rng: np.random.Generator) -> Tree:
    """The patient is only in the path; lateral films; one of sex Unknown; age ends at 90."""
    patient = np.r_[patients_of_rows(n_patients, rng), 64540 + np.arange(max(6, n_patients // 4))]
    table = pd.DataFrame({"patient": patient})
    study = table.groupby("patient").cumcount() + 1
    is_valid = table["patient"] >= 64540
    folder = np.where(is_valid, "valid", "train")
    film = [f"patient{p + 1:05d}/study{s}/view1_frontal" for p, s in zip(patient, study)]
    cells = chexpert_cells(len(table), rng)
    table = pd.DataFrame(
        {
            "Path": [f"CheXpert-v1.0-small/{f}/{name}.jpg" for f, name in zip(folder, film)],
            "Sex": np.where(table["patient"] % 2, "Male", "Female"),
            "Age": 21 + table["patient"] % 70,
            "Frontal/Lateral": "Frontal",
            "AP/PA": rng.choice(["AP", "PA"], len(table)),
        }
    ).join(cells)
    table.loc[0, "Sex"] = "Unknown"
    images = films(rng, table["Pleural Effusion"] == "1.0", (PX, PX - 8))
    for path, image in zip(table["Path"], images):
        save(root / path.split("/", 1)[1], image)
    expected = pd.DataFrame(
        {
            "image_id": film,
            "patient_id": [f"patient{p + 1:05d}" for p in patient],
            "sex": table["Sex"].map({"Male": "male", "Female": "female", "Unknown": "unknown"}),
            "age_years": table["Age"].astype(float),
            "view": table["AP/PA"],
        }
    ).join(chexpert_labels(cells))
    expected.loc[is_valid, "split"] = "test"
    lateral = table.iloc[1:4].assign(**{"Frontal/Lateral": "Lateral", "AP/PA": ""})
    lateral["Path"] = lateral["Path"].str.replace("view1_frontal", "view2_lateral")
    for path in lateral["Path"]:
        save(root / path.split("/", 1)[1], images[0])
    pd.concat([table[~is_valid], lateral]).to_csv(root / "train.csv", index=False)
    table[is_valid].to_csv(root / "valid.csv", index=False)
    return Tree(
        expected, {"Frontal/Lateral is not Frontal": 3}, list(chexpert_labels(cells).columns)
    )


def _mimic_cxr_jpg(root: Path, n_patients: int, rng: np.random.Generator) -> Tree:
    """Compressed tables; ages from an anchor year; a patient whom MIMIC-IV does not know; a study
    without labels; lateral films.
    """
    number = patients_of_rows(n_patients, rng)
    rows = pd.DataFrame({"subject_id": 10_000_032 + 11 * number})
    rows["study_id"] = 50_000_000 + np.arange(len(rows)) * 7
    rows["dicom_id"] = [
        "-".join(f"{value:08x}" for value in rng.integers(0, 2**32, 5)) for _ in range(len(rows))
    ]
    rows["ViewPosition"] = rng.choice(["AP", "PA"], len(rows))
    rows["StudyDate"] = [f"{2150 + n % 30}0701" for n in number]
    rows["split"] = np.select([number % 4 == 0, number % 4 == 1], ["test", "validate"], "train")
    cells = chexpert_cells(len(rows), rng)
    images = films(rng, cells["Pleural Effusion"] == "1.0", (PX + 10, PX))
    lateral = pd.concat([rows.iloc[:4].assign(dicom_id=[f"lateral{k}" for k in range(4)])])
    lateral["ViewPosition"] = ["LATERAL", "LL", "", "LATERAL"]
    metadata = pd.concat([rows, lateral])
    for row in metadata.itertuples():
        folder = f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}"
        save(root / folder / f"{row.dicom_id}.jpg", images[row.Index])
    metadata.drop(columns="split").assign(Rows=PX, StudyTime=213014.531).to_csv(
        root / "mimic-cxr-2.0.0-metadata.csv.gz", index=False
    )
    metadata[["dicom_id", "study_id", "subject_id", "split"]].to_csv(
        root / "mimic-cxr-2.0.0-split.csv.gz", index=False
    )
    without_labels = len(rows) - 1
    rows[["subject_id", "study_id"]].join(cells).drop(index=without_labels).to_csv(
        root / "mimic-cxr-2.0.0-chexpert.csv.gz", index=False
    )
    people = pd.DataFrame({"subject_id": np.r_[rows["subject_id"].unique()[1:], 19_999_999]})
    people["gender"] = np.where(people["subject_id"] % 2, "F", "M")
    people["anchor_age"] = 30 + people["subject_id"] % 50
    people["anchor_year"] = 2150
    people.assign(anchor_year_group="2011 - 2013", dod="").to_csv(
        root / "patients.csv.gz", index=False
    )
    known = rows[["subject_id"]].merge(people, on="subject_id", how="left")
    expected = pd.DataFrame(
        {
            "image_id": rows["dicom_id"],
            "patient_id": rows["subject_id"].astype(str),
            "split": rows["split"].replace("validate", "valid"),
            "sex": known["gender"].map({"M": "male", "F": "female"}).fillna("unknown"),
            "age_years": known["anchor_age"] + rows["StudyDate"].str[:4].astype(int) - 2150.0,
            "view": rows["ViewPosition"],
        }
    ).join(chexpert_labels(cells))
    return Tree(
        expected.drop(index=without_labels),
        {
            "ViewPosition is not AP or PA": 4,
            "in mimic-cxr-2.0.0-chexpert.csv.gz is not yes": 1,
        },
        list(chexpert_labels(cells).columns),
    )


def _padchest(root: Path, n_patients: int, rng: np.random.Generator) -> Tree:
    """Ids of 36 digits, years of birth as 1930.0, nan and None for blank, sex O, list literals with
    blanks in them, 16-bit files in several folders, one of them cut.
    """
    words = ["cardiomegaly", "heart insufficiency", " pulmonary edema", "hilar congestion"]
    words += ["vascular redistribution", " pleural effusion", "loculated pleural effusion"]
    words += ["loculated fissural effusion", "pneumonia", " infiltrates", "consolidation"]
    words += ["atelectasis", " laminar atelectasis", "lobar atelectasis", "segmental atelectasis"]
    words += ["total atelectasis", "unchanged", "", "COPD signs", "apical pleural thickening"]
    number = patients_of_rows(n_patients, rng)
    n = len(number)
    listed = [
        ["normal"] if chosen.sum() == 0 else list(np.array(words, object)[chosen])
        for chosen in rng.random((n, len(words))) < 0.08
    ]
    for row, word in enumerate(words):  # each at least once
        listed[5 + row % (n - 5)] = [*listed[5 + row % (n - 5)], word]
    table = pd.DataFrame(
        {
            "ImageID": [f"{10**37 + 7 * k}_{k:06x}.png" for k in range(n)],
            "ImageDir": np.arange(n) % 3,
            "StudyDate_DICOM": [f"20{10 + k % 8}0915" for k in range(n)],
            "StudyID": [f"{10**37 + 7 * k}" for k in range(n)],
            "PatientID": [f"{839860488694292331637988235681460000 + int(p)}" for p in number],
            "PatientBirth": [f"{1925 + p % 70}.0" for p in number],
            "PatientSex_DICOM": np.where(number % 2, "M", "F"),
            "ViewPosition_DICOM": "POSTEROANTERIOR",
            "Projection": rng.choice(["PA", "AP", "AP_horizontal"], n),
            "Manufacturer_DICOM": rng.choice(["PhilipsMedicalSystems", "ImagingDynamics"], n),
            "WindowCenter_DICOM": "None",
            "MethodLabel": rng.choice(["Physician", "RNN_model"], n),
            "Labels": [str(row) for row in listed],
        }
    )
    table.loc[number == 0, "PatientSex_DICOM"] = "O"
    table.loc[number == 1, "PatientSex_DICOM"] = "nan"
    table.loc[number == 2, "PatientBirth"] = ""
    table.loc[3, "Labels"] = "nan"
    table.loc[[4, 5], "Projection"] = ["L", "EXCLUDE"]
    entries = [{word.strip() for word in row} for row in listed]
    effusions = {word.strip() for word in words if "effusion" in word}
    images = films(rng, np.array([bool(effusions & row) for row in entries]))
    for row, image in zip(table.itertuples(), images):
        save(root / str(row.ImageDir) / row.ImageID, image.astype(np.uint16) * 16)
    cut = root / str(table.loc[6, "ImageDir"]) / table.loc[6, "ImageID"]
    cut.write_bytes(cut.read_bytes()[:-800])
    table.to_csv(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv")

    def lists(*wanted: str) -> pd.Series:
        return pd.Series([float(bool(row & set(wanted))) for row in entries])

    atelectasis = [word.strip() for word in words if "atelectasis" in word]
    expected = pd.DataFrame(
        {
            "image_id": table["ImageID"],
            "patient_id": table["PatientID"],
            "sex": table["PatientSex_DICOM"].map({"M": "male", "F": "female"}).fillna("unknown"),
            "study_year": table["StudyDate_DICOM"].str[:4].astype(int),
            "birth_year": pd.to_numeric(table["PatientBirth"]),
            "view": table["Projection"],
            "cardiomegaly": lists("cardiomegaly"),
            "congestion": lists(*[word.strip() for word in words[1:5]]),
            "pleural_effusion": lists(*[word.strip() for word in words[5:8]]),
            "pneumonic_infiltrates": lists("pneumonia", "infiltrates", "consolidation"),
            "atelectasis": lists(*atelectasis),
        }
    )
    findings = list(expected.columns[6:])
    is_blank = np.array([row == {""} for row in entries])
    is_blank[3] = True
    expected.loc[is_blank, findings] = np.nan
    # born in the middle of the year, on average: 15 September is 0.2 years later
    expected["age_years"] = expected.pop("study_year") - expected.pop("birth_year") + 0.21
    return Tree(
        expected.drop(index=[4, 5, 6]),
        {
            "Projection is not PA or AP or AP_horizontal": 2,
            "image cannot be decoded": 1,
        },
        findings,
    )


def _rsna_pneumonia(root: Path, n_films: int, rng: np.random.Generator) -> Tree:
    """A row a box, so several rows a film; headers with an age of 155; no patient is known."""
    target = rng.random(n_films) < 0.4
    names = [f"{k:08x}-3906-4c2f-b5b4-8aa1280f6181" for k in range(n_films)]
    age, sex = 20 + np.arange(n_films) % 60, np.where(np.arange(n_films) % 3, "M", "F")
    age[0] = 155
    view = rng.choice(["PA", "AP"], n_films)
    boxes = []
    for name, image, is_positive, a, s, v in zip(names, films(rng, target), target, age, sex, view):
        save_dicom(
            root / "stage_2_train_images" / f"{name}.dcm",
            image,
            PatientID=name,
            PatientAge=str(a),
            PatientSex=s,
            ViewPosition=v,
        )
        for k in range(2 if is_positive else 1):
            box = [100.0 + k, 50.0, 200.0, 300.0] if is_positive else [""] * 4
            boxes.append([name, *box, int(is_positive)])
    pd.DataFrame(boxes, columns=["patientId", "x", "y", "width", "height", "Target"]).to_csv(
        root / "stage_2_train_labels.csv", index=False
    )
    expected = pd.DataFrame(
        {
            "image_id": names,
            "patient_id": names,
            "sex": np.where(sex == "M", "male", "female"),
            "age_years": np.where(age > 120, np.nan, age),
            "view": view,
            "pneumonic_infiltrates": target * 1.0,
        }
    )
    others = {"combined with another row of its image": int(target.sum())}
    return Tree(expected, others, ["pneumonic_infiltrates"])


def _vindr_cxr(root: Path, n_films: int, rng: np.random.Generator) -> Tree:
    """Three readers a training film, one row a test film; columns that differ between the tables;
    ages 000Y and absent; MONOCHROME1.
    """
    columns = ["Cardiomegaly", "Pleural effusion", "Infiltration", "Consolidation", "Pneumonia"]
    columns += ["Atelectasis"]
    names = [f"{k:032x}" for k in rng.integers(1, 2**62, n_films)]
    votes = rng.integers(0, 4, (n_films, len(columns)))
    is_test = np.arange(n_films) % 4 == 0
    rows, readers = {True: [], False: []}, ["R8", "R9", "R10"]
    for name, vote, test in zip(names, votes, is_test):
        for k, reader in enumerate(readers[: 1 if test else 3]):
            cells = dict(zip(columns, (vote >= 2) * 1 if test else (vote > k) * 1))
            rows[test].append({"image_id": name} | ({} if test else {"rad_id": reader}) | cells)
    (root / "annotations").mkdir()
    for test, file, other in ((False, "train", "Other diseases"), (True, "test", "Other disease")):
        pd.DataFrame(rows[test]).assign(**{other: 0, "No finding": 0}).to_csv(
            root / "annotations" / f"image_labels_{file}.csv", index=False
        )
    age = np.array(["000Y", "", "061Y"], object)[np.arange(n_films) % 3]
    sex = np.array(["M", "F", "O", ""], object)[np.arange(n_films) % 4]
    images = films(rng, votes[:, 1] >= 2)
    for k, name in enumerate(names):
        tags = {"PatientAge": age[k], "PatientSex": sex[k]}
        save_dicom(
            root / ("test" if is_test[k] else "train") / f"{name}.dicom",
            images[k],
            inverted=k % 5 == 0,
            **{keyword: value for keyword, value in tags.items() if value},
        )

    def majority(*names_of_columns: str) -> np.ndarray:
        """Two of three readers saw any of these: reader k said 1 where vote > k."""
        readers_who_did = votes[:, [columns.index(name) for name in names_of_columns]].max(axis=1)
        return (readers_who_did >= 2) * 1.0

    expected = pd.DataFrame(
        {
            "image_id": names,
            "patient_id": names,
            "sex": pd.Series(sex).map({"M": "male", "F": "female"}).fillna("unknown"),
            "age_years": np.where(age == "061Y", 61.0, np.nan),
            "split": np.where(is_test, "test", None),
            "cardiomegaly": majority("Cardiomegaly"),
            "pleural_effusion": majority("Pleural effusion"),
            "pneumonic_infiltrates": majority("Infiltration", "Consolidation", "Pneumonia"),
            "atelectasis": majority("Atelectasis"),
        }
    )
    others = {"combined with another row of its image": 2 * int((~is_test).sum())}
    return Tree(expected, others, list(expected.columns[5:]))


def _uka_cxr(root: Path, n_patients: int, rng: np.random.Generator) -> Tree:
    """Grades 1 to 4, with 0 and 5 for no grade; sex as 0 and 1; an age of 0 and one of 999."""
    findings = ["cardiomegaly", "congestion"] + [
        f"{finding}_{side}"
        for finding in ("pleural_effusion", "pneumonic_infiltrates", "atelectasis")
        for side in ("right", "left")
    ]
    number = patients_of_rows(n_patients, rng)
    grades = rng.choice(range(6), (len(number), 8), p=[0.05, 0.3, 0.2, 0.25, 0.15, 0.05])
    table = pd.DataFrame(
        {
            "image_id": 100_000_000 + np.arange(len(number)),
            "split": np.select([number % 5 == 0, number % 5 == 1], ["test", "valid"], "train"),
            "subset": [f"subset{k % 3}" for k in range(len(number))],
            "age": 40 + number % 50,
            "gender": number % 2,
            "subject_id": 7000 + number,
        }
    ).join(pd.DataFrame(grades, columns=findings))
    table.loc[[0, len(table) - 1], "age"] = [0, 999]
    for row, image in zip(table.itertuples(), films(rng, grades[:, 2] >= 3)):
        save(root / row.subset / f"{row.image_id}.jpg", image)
    table.to_csv(root / "UKA_master_list.csv", index=False)
    means = {0: np.nan, 1: 0.0, 2: 0.0, 3: 1.0, 4: 1.0, 5: np.nan}
    expected = pd.DataFrame(
        {
            "image_id": table["image_id"].astype(str),
            "patient_id": table["subject_id"].astype(str),
            "split": table["split"],
            "sex": table["gender"].map({0: "male", 1: "female"}),
            "age_years": table["age"].replace(999, np.nan).astype(float),
        }
    ).join(table[findings].apply(lambda column: column.map(means)))
    return Tree(expected, {}, findings)


def _nih_google_labels(root: Path, n_patients: int, rng: np.random.Generator) -> Tree:
    """Two tables with the columns of NIH's and four more; YES and NO; an age of 155; blank where a
    film was not adjudicated.
    """
    table = nih_table(patients_of_rows(n_patients, rng), rng)
    findings = {
        "fracture": "Fracture",
        "pneumothorax": "Pneumothorax",
        "pneumonic_infiltrates": "Airspace opacity",
        "nodule_or_mass": "Nodule or mass",
    }
    is_present = rng.random((len(table), 4)) < 0.35
    table = table.join(
        pd.DataFrame(np.where(is_present, "YES", "NO"), columns=list(findings.values()))
    )
    table.loc[0, "Fracture"] = ""
    table.loc[1, "Patient Age"] = 155
    for name, image in zip(table["Image Index"], films(rng, is_present[:, 2])):
        save(root / "images" / name, image)
    is_test = table["patient"] % 3 == 0
    (root / "four_findings_expert_labels").mkdir()
    for rows, name in ((table[~is_test], "validation"), (table[is_test], "test")):
        rows[[*NIH_COLUMNS, *findings.values()]].to_csv(
            root / "four_findings_expert_labels" / f"{name}_labels.csv", index=False
        )
    expected = pd.DataFrame(
        {
            "image_id": table["Image Index"],
            "patient_id": table["Patient ID"].astype(str),
            "sex": table["sex"],
            "age_years": table["Patient Age"].replace(155, np.nan).astype(float),
            "split": np.where(is_test, "test", None),
        }
    ).join(pd.DataFrame(is_present * 1.0, columns=list(findings)))
    expected.loc[0, "fracture"] = np.nan
    return Tree(expected, {}, list(findings))


def _mnist(
    name: str, findings: dict[str, list[int]], n_labels: int, shape: tuple
) -> Callable[[Path, int, np.random.Generator], Tree]:
    """The writer of an npz file of MedMNIST; findings -> columns of the labels, any of which."""

    def write_npz(root: Path, n_images: int, rng: np.random.Generator) -> Tree:
        arrays, tables = {}, []
        for prefix, n in (("train", n_images), ("val", n_images // 3), ("test", n_images // 3)):
            labels = (rng.random((n, n_labels)) < 0.4).astype(np.uint8)
            columns = {f: labels[:, c].max(axis=1) * 1.0 for f, c in findings.items()}
            arrays[f"{prefix}_images"] = films(rng, columns[list(findings)[-1]], shape)
            arrays[f"{prefix}_labels"] = labels
            image_id = [f"{prefix}_{k}" for k in range(n)]
            split = {"val": "valid"}.get(prefix, prefix)
            known = {"image_id": image_id, "patient_id": image_id, "split": split}
            tables.append(pd.DataFrame(known | {"sex": "unknown", "age_years": np.nan} | columns))
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        (root / f"{name}.npz").write_bytes(stream.getvalue())
        return Tree(pd.concat(tables, ignore_index=True), {}, list(findings))

    return write_npz


WRITERS = {
    "chestxray14_part": _chestxray14_part,
    "chexpert": _chexpert,
    "mimic_cxr_jpg": _mimic_cxr_jpg,
    "padchest": _padchest,
    "rsna_pneumonia": _rsna_pneumonia,
    "vindr_cxr": _vindr_cxr,
    "uka_cxr": _uka_cxr,
    "nih_google_labels": _nih_google_labels,
    "pneumoniamnist": _mnist("pneumoniamnist", {"pneumonia": [0]}, 1, (28, 28)),
    "chestmnist": _mnist(
        "chestmnist",
        {
            "cardiomegaly": [1],
            "congestion": [9],
            "pneumonic_infiltrates": [3, 6, 8],
            "atelectasis": [0],
            "pleural_effusion": [2],
        },
        14,
        (28, 28),
    ),
    "nodulemnist3d": _mnist("nodulemnist3d", {"malignant": [0]}, 1, (28, 28, 28)),
}
