"""Each public data set's manifest on the documented files, with the oddities of the real ones."""

import gzip
import importlib.util
import os
from pathlib import Path

import data_trees
import numpy as np
import pandas as pd
import pytest

from helpers.core import errors
from helpers.data import build_cohort, cohorts, manifests
from helpers.data.tables import layouts, source_tables

NIH = Path(os.environ.get("REAL_DATA_ROOT") or "/nowhere") / "chestxray14"
needs_nih = pytest.mark.skipif(
    not (NIH / "Data_Entry_2017.csv").exists(),
    reason="REAL_DATA_ROOT is not set, or has no chestxray14/Data_Entry_2017.csv",
)
IMAGE_LEVEL = ["rsna_pneumonia", "vindr_cxr", "pneumoniamnist", "chestmnist", "nodulemnist3d"]
N_IMAGES = 40  # of a data set without patients


def build(name: str, root: Path) -> cohorts.Cohort:
    """A small cohort of a shipped manifest."""
    image_px = 0 if manifests.read(name).volume else 32
    return build_cohort.build(name, root, image_px=image_px, processes=1)


def in_order(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Columns of a table, rows by image_id."""
    table = table.sort_values("image_id")[columns].reset_index(drop=True)
    return table.astype({column: object for column in columns if table[column].dtype == "str"})


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("name", data_trees.WRITERS)
def test_data_set_is_read_as_documented(name, tmp_path):
    n = N_IMAGES if name in IMAGE_LEVEL else 24
    tree = data_trees.write(name, tmp_path / "files", n)
    cohort = build(name, tmp_path / "files")
    columns = ["image_id", "patient_id", "sex", *tree.findings]
    columns += ["view"] if "view" in tree.expected else []
    made, expected = in_order(cohort.table, columns), in_order(tree.expected, columns)
    pd.testing.assert_frame_equal(made, expected, check_dtype=False)
    age = in_order(cohort.table, ["image_id", "age_years"])["age_years"].astype(float)
    expected_age = in_order(tree.expected, ["image_id", "age_years"])["age_years"].astype(float)
    np.testing.assert_allclose(age, expected_age, atol=0.05)
    if "split" in tree.expected:
        split = cohort.table.set_index("image_id")["split"]
        given = tree.expected.set_index("image_id")["split"]
        is_given = given.notna() & (given != "train")
        assert split[given.index][is_given].tolist() == given[is_given].tolist()
        assert set(split[given.index][~is_given]) <= {"train", "valid"}
    assert set(cohort.table["split"]) == {"train", "valid", "test"}
    assert cohort.table.groupby("patient_id")["split"].nunique().max() == 1
    assert cohort.record["exclusions"] == tree.exclusions
    assert manifests.read(name).findings.keys() == set(tree.findings)


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("name", ["vindr_cxr", "padchest", "chestmnist", "nodulemnist3d"])
def test_images_lie_beside_their_own_row_and_dense_is_bright(name, tmp_path):
    data_trees.write(name, tmp_path / "files", N_IMAGES)
    cohort = build(name, tmp_path / "files")
    finding = {"nodulemnist3d": "malignant"}.get(name, "pleural_effusion")
    size = cohort.images.shape[-1]
    box = (slice(None), *[slice(size // 2 + 2, size - 5)] * (cohort.images.ndim - 1))
    inside = cohort.images[box].reshape(len(cohort.table), -1).mean(axis=1)
    label = cohort.table[finding].to_numpy()
    assert inside[label == 1].min() > inside[label == 0].max()


@pytest.mark.parametrize("name", IMAGE_LEVEL)
def test_data_sets_without_patients_say_so(name):
    manifest = manifests.read(name)
    assert manifest.patient_id is None
    assert "image level only" in manifest.title
    assert "guarantee is about images" in " ".join(manifest.how_to_get.split())


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Whole arrays for train, val and test, with some replaced."""
    rng = np.random.default_rng(0)
    whole = {}
    for prefix in ("train", "val", "test"):
        labels = np.arange(8).reshape(-1, 1) % 2
        whole[f"{prefix}_labels"] = labels
        whole[f"{prefix}_images"] = data_trees.films(rng, labels[:, 0], (28, 28))
    np.savez(path, **(whole | arrays))


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"val_labels": np.ones((7, 1))}, "as many rows in val_labels as in val_images"),
        ({"val_images": np.ones((8, 28, 28))}, "of 8 or 16 bit in val_images.*type float64"),
        ({"val_images": np.ones((8, 9, 28, 28), np.uint8)}, r"got shape \(8, 9, 28, 28\)"),
        ({"val_images": np.array([{}] * 8, object)}, "a whole npz file"),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, words):
    write_npz(tmp_path / "pneumoniamnist.npz", **arrays)
    with pytest.raises(errors.InputError, match=words):
        build("pneumoniamnist", tmp_path)


@pytest.mark.usefixtures("results")
def test_npz_that_is_cut_or_lacks_an_array_is_refused(tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    np.savez(path, train_images=np.zeros((2, 28, 28), np.uint8), train_labels=np.zeros((2, 1)))
    with pytest.raises(errors.InputError, match="an array val_images in pneumoniamnist.npz"):
        build("pneumoniamnist", tmp_path)
    write_npz(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(errors.InputError, match="a whole npz file.*Download it again"):
        build("pneumoniamnist", tmp_path)


@pytest.mark.usefixtures("results")
def test_coloured_and_16_bit_arrays_are_read_as_grey(tmp_path):
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (8, 28, 28)).astype(np.uint8)
    other = rng.integers(0, 256, (8, 28, 28)).astype(np.uint8)
    write_npz(
        tmp_path / "pneumoniamnist.npz",
        train_images=np.stack([grey] * 3, axis=-1),
        val_images=other.astype(np.uint16) * 257,
        test_images=data_trees.films(rng, np.ones(8), (28, 28))[..., None],
    )
    cohort = build_cohort.build("pneumoniamnist", tmp_path, image_px=28, processes=1)
    is_valid = (cohort.table["split"] == "valid").to_numpy()
    for made, source in zip(cohort.images[is_valid], other):
        assert np.corrcoef(made.ravel(), source.ravel())[0, 1] > 0.999
    for made, source in zip(cohort.images[(cohort.table["split"] == "train").to_numpy()], grey):
        assert np.corrcoef(made.ravel(), source.ravel())[0, 1] > 0.999


@pytest.mark.usefixtures("results")
def test_volumes_of_arrays_are_cut_or_padded_around_their_middle(tmp_path):
    data_trees.write("nodulemnist3d", tmp_path, N_IMAGES)
    cohort = build_cohort.build("nodulemnist3d", tmp_path, processes=1)
    assert cohort.record["versions"].keys() == {"numpy", "pandas"}  # no decoder, nor its extra
    whole = cohort.images[:]
    small = build_cohort.build("nodulemnist3d", tmp_path, volume_shape=[20, 28, 32], processes=1)
    assert (small.images[:, :, :, 2:30] == whole[:, 4:24]).all()
    assert not small.images[:, :, :, :2].any()
    with pytest.raises(errors.InputError, match="no WINDOW_HU for nodulemnist3d"):
        build_cohort.build("nodulemnist3d", tmp_path, window_hu=[-100, 200], processes=1)


@pytest.fixture(scope="module")
def nih(tmp_path_factory) -> cohorts.Cohort:
    """The cohort of the real films, built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS_DIR", str(tmp_path_factory.mktemp("nih")))
        return build_cohort.build("chestxray14_part", NIH)


@needs_nih
def test_real_films_are_all_accounted_for(nih):
    source = pd.read_csv(NIH / "Data_Entry_2017.csv", dtype=str, keep_default_na=False)
    assert len(source) == 11_217
    assert source["Patient ID"].nunique() == nih.record["n_patients"] == 2_923
    excluded = pd.read_csv(
        Path(nih.images.filename).with_name("exclusions.csv"), dtype={"patient_id": str}
    )
    assert nih.record["exclusions"] == {"identical image of the same patient": 3}
    assert excluded["image_id"].tolist() == [
        "00000820_016.png",
        "00001989_005.png",
        "00002658_002.png",
    ]
    assert nih.images.shape == (11_214, 64, 64)


@needs_nih
def test_real_patients_have_one_sex_one_split_and_the_ages_of_the_table(nih):
    source = pd.read_csv(NIH / "Data_Entry_2017.csv", dtype=str).set_index("Image Index")
    rows = source.loc[nih.table["image_id"]]
    assert nih.table["patient_id"].tolist() == rows["Patient ID"].tolist()
    assert nih.table["age_years"].tolist() == rows["Patient Age"].astype(float).tolist()
    assert (nih.table["sex"] == "male").tolist() == (rows["Patient Gender"] == "M").tolist()
    assert nih.table["view"].tolist() == rows["View Position"].tolist()
    by_patient = nih.table.groupby("patient_id")[["sex", "split"]].nunique()
    assert (by_patient == 1).all(axis=None)
    share = nih.table.groupby("patient_id")["split"].first().value_counts(normalize=True)
    assert share["train"] == pytest.approx(0.6, abs=0.03)
    assert share["test"] == pytest.approx(0.25, abs=0.03)


@needs_nih
def test_real_labels_are_those_of_the_table(nih):
    source = pd.read_csv(NIH / "Data_Entry_2017.csv", dtype=str).set_index("Image Index")
    labels = source.loc[nih.table["image_id"], "Finding Labels"].str.split("|")
    for finding, words in {
        "cardiomegaly": {"Cardiomegaly"},
        "congestion": {"Edema"},
        "pleural_effusion": {"Effusion"},
        "pneumonic_infiltrates": {"Infiltration", "Consolidation", "Pneumonia"},
        "atelectasis": {"Atelectasis"},
    }.items():
        expected = [float(bool(words & set(row))) for row in labels]
        assert nih.table[finding].tolist() == expected


# ---- real tables, in the package torchxrayvision where it is installed

REAL_TABLES = {  # rows, rows kept, their patients, films of unknown sex
    "chexpert": (223_414, 191_027, 64_534, 1),
    "padchest": (160_861, 110_633, 67_247, 18),
    "nih_google_labels": (4_376, 4_376, 1_695, 0),
}


def real_tables() -> Path | None:
    """The folder of the package's tables, without importing it."""
    package = importlib.util.find_spec("torchxrayvision")
    return Path(package.origin).parent / "data" if package else None


def write_real_tables(name: str, root: Path) -> None:
    """Write the tables of a data set as it comes, from those of the package."""
    folder = real_tables()
    read = {"dtype": str, "keep_default_na": False}
    if name == "padchest":
        table = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
        (root / table).write_bytes(gzip.decompress((folder / f"{table}.gz").read_bytes()))
    elif name == "chexpert":  # its valid.csv is not there: ten films stand in for it
        train = pd.read_csv(folder / "chexpert_train.csv.gz", **read)
        valid = train.head(10).replace({"Path": {"train/patient": "valid/patient9"}}, regex=True)
        train.to_csv(root / "train.csv", index=False)
        valid.to_csv(root / "valid.csv", index=False)
    else:
        labels = pd.read_csv(folder / "google2019_nih-chest-xray-labels.csv.gz", **read)
        (root / "four_findings_expert_labels").mkdir()
        for split, file in (("val", "validation"), ("test", "test")):
            labels[labels["Set Id"] == split].drop(columns="Set Id").to_csv(
                root / "four_findings_expert_labels" / f"{file}_labels.csv", index=False
            )


@pytest.mark.slow
@pytest.mark.skipif(not real_tables(), reason="torchxrayvision, which has the tables, is absent")
@pytest.mark.parametrize("name", REAL_TABLES)
def test_real_tables_follow_the_rules(name, tmp_path):
    write_real_tables(name, tmp_path)
    manifest = manifests.read(name)
    raw, locations = layouts.read(manifest, tmp_path, {})
    source = source_tables.apply_rules(manifest, raw, locations, tmp_path)
    n_rows, n_kept, n_patients, n_sex_unknown = REAL_TABLES[name]
    rows = source.rows
    if name == "chexpert":
        rows = rows[rows["split"] == "train"]
        n_rows += 10
    assert len(raw) == n_rows
    assert (len(rows), rows["patient_id"].nunique()) == (n_kept, n_patients)
    assert (rows["sex"] == "unknown").sum() == n_sex_unknown
    assert rows["age_years"].between(0, 106).mean() > 0.9997
    if name == "padchest":
        listed = raw.loc[rows.index, "Labels"].str
        effusions = ("pleural", "loculated pleural", "loculated fissural")
        counted = listed.contains("|".join(f"' ?{word} effusion'" for word in effusions))
        assert (rows["pleural_effusion"] == 1).sum() == counted.sum() == 7_021
    if name == "chexpert":
        frontal = raw[(raw["Frontal/Lateral"] == "Frontal") & (raw["table_file"] == "train.csv")]
        is_blank_or_absent = frontal["Cardiomegaly"].isin(["", "0", "0.0"])
        assert (rows["cardiomegaly"] == 0).sum() == is_blank_or_absent.sum()
