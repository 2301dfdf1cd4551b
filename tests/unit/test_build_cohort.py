"""Cohorts: nothing is dropped silently, nothing half-written is taken for whole, equal input gives
equal files.
"""

import functools
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from helpers.core import errors, fingerprints, machine, paths
from helpers.data import (
    build_cohort,
    chunk_workers,
    chunks,
    cohort_summary,
    cohorts,
    make_chunk,
    manifest_schema,
    manifests,
)
from helpers.data.images import film_pixels
from helpers.data.synthetic import chest_cohort
from helpers.data.tables import file_names
from helpers.training import training_set


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    """A results folder of this test alone."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path / "results"


def write_ward(folder: Path, n: int = 40, px: int = 24, **changes: object) -> Path:
    """Write a data set that is not shipped.

    A table with ';', two images a patient, 16-bit PNGs in folders by year.
    """
    rng = np.random.default_rng(7)
    (folder / "films" / "2020").mkdir(parents=True)
    table = pd.DataFrame(
        {
            "film": [f"f{i:04d}" for i in range(n)],
            "year": 2020,
            "person": [f"p{i // 2:03d}" for i in range(n)],
            "sex": rng.choice(["w", "m"], n),
            "effusion": rng.integers(0, 5, n),
            "ward": rng.choice(["A", "B"], n),
        }
    )
    table.to_csv(folder / "films.csv", sep=";", index=False)
    for film in table["film"]:
        Image.fromarray(rng.integers(0, 4000, (px, px)).astype(np.uint16)).save(
            folder / "films" / "2020" / f"{film}.png"
        )
    manifest = {
        "name": "ward",
        "title": "A ward",
        "modality": "chest radiograph",
        "access": "private",
        "licence": "none",
        "citation": "none",
        "how_to_get": "Ask the ward.",
        "image_id": "{film}",
        "patient_id": "person",
        "layout": {
            "kind": "table_and_images",
            "table": "films.csv",
            "separator": ";",
            "image_path": "films/{year}/{film}.png",
        },
        "sex": {"column": "sex", "values": {"w": "female", "m": "male"}},
        "further_columns": {"ward": "ward"},
        "findings": {
            "effusion": {
                "canonical": "pleural_effusion",
                "column": "effusion",
                "grades": [0, 1, 2, 3, 4],
                "positive_grades": [3, 4],
            }
        },
        "split": {"valid_share": 0.2, "test_share": 0.3},
        "image": {"px": 16},
        "min_share_present": 0.5,
    } | changes
    path = folder / "ward.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return path


def contents(name: str = "ward") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(paths.cohort_dir(name).iterdir())}


def test_build_of_a_layout_that_is_not_shipped(tmp_path):
    cohort = build_cohort.build(write_ward(tmp_path), tmp_path, processes=1)
    source = pd.read_csv(tmp_path / "films.csv", sep=";")
    assert cohort.images.shape == (40, 16, 16) and cohort.images.dtype == np.uint8
    assert cohort.table["effusion"].tolist() == (source["effusion"] >= 3).astype(float).tolist()
    assert cohort.table.columns.tolist() == [
        *manifest_schema.COHORT_COLUMNS,
        "effusion",
        "ward",
        "film_sha256",
        "pixels_sha256",
    ]
    assert cohort.canonical == {"effusion": "pleural_effusion"} and cohort.findings == ["effusion"]
    assert (cohort.table.groupby("patient_id")["split"].nunique() == 1).all()
    again = cohorts.read("ward")
    assert again.table.equals(cohort.table) and np.array_equal(again.images, cohort.images)
    assert set(contents()) == {"images.npy", "table.parquet", "record.json", "exclusions.csv"}


def test_missing_and_damaged_images_are_excluded_by_id_with_a_reason(tmp_path):
    path = write_ward(tmp_path)
    films = tmp_path / "films" / "2020"
    (films / "f0001.png").unlink()
    (films / "f0002.png").write_bytes((films / "f0002.png").read_bytes()[:300])
    (films / "f0003.png").write_bytes(b"no image")
    os.remove(films / "f0004.png")
    os.mkfifo(films / "f0004.png")  # reading it would never end
    cohort = build_cohort.build(path, tmp_path, processes=1)
    excluded = pd.read_csv(paths.cohort_dir("ward") / "exclusions.csv", index_col="image_id")
    assert excluded["reason"].to_dict() == {
        "f0001": "image file absent",
        "f0002": "image cannot be decoded",
        "f0003": "image cannot be decoded",
        "f0004": "image file absent",
    }
    assert len(cohort.table) == len(cohort.images) == 36
    assert cohort_summary.exclusions(cohort.record | {"access": "open"})["rows"].tolist() == [
        2,
        2,
        36,
        40,
    ]


def test_too_many_absent_images_are_refused(tmp_path):
    path = write_ward(tmp_path, min_share_present=0.99)
    (tmp_path / "films" / "2020" / "f0007.png").unlink()
    with pytest.raises(
        errors.InputError,
        match="at least 99% of 40 image files of ward; got 39; absent are 'films/2020/f0007.png'",
    ):
        build_cohort.build(path, tmp_path, processes=1)


def test_a_file_that_differs_from_its_checksum_is_excluded(tmp_path):
    path = write_ward(
        tmp_path,
        layout={
            "kind": "table_and_images",
            "table": "films.csv",
            "separator": ";",
            "image_path": "films/{year}/{film}.png",
            "checksums": "sums.csv",
        },
    )
    pd.DataFrame({"path": ["films/2020/f0009.png"], "sha256": ["0" * 64]}).to_csv(
        tmp_path / "sums.csv", index=False
    )
    cohort = build_cohort.build(path, tmp_path, processes=1)
    assert cohort.record["exclusions"] == {"image file differs from its checksum": 1}


def test_paths_in_a_table_cannot_leave_the_data_root(tmp_path):
    path = write_ward(tmp_path)
    table = pd.read_csv(tmp_path / "films.csv", sep=";")
    table.astype({"film": object}).replace({"film": {"f0005": "../../../secret"}}).to_csv(
        tmp_path / "films.csv", sep=";", index=False
    )
    with pytest.raises(
        errors.InputError, match="paths under the data root; got 'films/2020/../../../secret.png'"
    ):
        build_cohort.build(path, tmp_path, processes=1)


def test_build_is_equal_for_one_and_two_processes_and_for_interrupted_builds(tmp_path, monkeypatch):
    path = write_ward(tmp_path, n=24)
    monkeypatch.setattr(chunks, "IMAGES_PER_CHUNK", 6)
    build_cohort.build(path, tmp_path, processes=1)
    whole = contents()
    (paths.cohort_dir("ward") / "record.json").unlink()
    build_cohort.build(path, tmp_path, processes=2)
    assert contents() == whole

    (paths.cohort_dir("ward") / "record.json").unlink()
    make, made = make_chunk.make, []

    def killed_at_the_third(folder, task):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(task.number)
        make(folder, task)

    monkeypatch.setattr(make_chunk, "make", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build_cohort.build(path, tmp_path, processes=1)
    with pytest.raises(errors.InputError, match="Run notebook 01"):
        cohorts.read("ward")
    monkeypatch.setattr(
        make_chunk, "make", lambda folder, task: (made.append(task.number), make(folder, task))
    )
    build_cohort.build(path, tmp_path, processes=1)
    assert made == [0, 1, 2, 3] and contents() == whole


def test_data_hash_is_of_contents_not_of_how_the_table_is_packed(tmp_path, monkeypatch):
    path, of, to_parquet = write_ward(tmp_path, n=8), {}, pd.DataFrame.to_parquet
    for compression in ("snappy", "gzip"):
        (paths.cohort_dir("ward") / "record.json").unlink(missing_ok=True)
        packed = functools.partialmethod(to_parquet, compression=compression)
        monkeypatch.setattr(pd.DataFrame, "to_parquet", packed)
        of[compression] = build_cohort.build(path, tmp_path, processes=1).record
    assert of["snappy"]["data_hash"] == of["gzip"]["data_hash"]
    assert of["snappy"]["files"]["table.parquet"] != of["gzip"]["files"]["table.parquet"]
    hashes = {of["gzip"]["data_hash"]}
    table = pd.read_csv(tmp_path / "films.csv", sep=";")
    table.assign(ward="C").to_csv(tmp_path / "films.csv", sep=";", index=False)  # another table
    hashes.add(build_cohort.build(path, tmp_path, processes=1).record["data_hash"])
    # other images
    hashes.add(build_cohort.build(path, tmp_path, image_px=20, processes=1).record["data_hash"])
    path.write_text(
        path.read_text(encoding="utf-8").replace("pleural_effusion", "effusion"), encoding="utf-8"
    )
    # another meaning
    hashes.add(build_cohort.build(path, tmp_path, image_px=20, processes=1).record["data_hash"])
    assert len(hashes) == 4


def test_what_can_be_on_one_side_is_in_the_record_and_in_no_hash(tmp_path):
    path = write_ward(tmp_path, n=8)
    before = build_cohort.build(path, tmp_path, processes=1)
    text = path.read_text(encoding="utf-8")
    said = text.replace(
        "canonical: pleural_effusion", "canonical: pleural_effusion\n    lateral: true"
    )
    path.write_text(said, encoding="utf-8")
    after = build_cohort.build(path, tmp_path, processes=1)
    assert (before.record["lateral"], before.lateral) == ([], frozenset())
    assert (after.record["lateral"], after.lateral) == (["pleural_effusion"], {"pleural_effusion"})
    assert before.record["data_hash"] == after.record["data_hash"]
    assert before.record["files"] == after.record["files"]
    of_both = [
        training_set.TrainingSet.of(made, "patient").content_hash() for made in (before, after)
    ]
    assert of_both[0] == of_both[1]


def test_a_record_of_version_0_3_knows_the_sides_of_its_labels_only(tmp_path):
    path = write_ward(tmp_path, n=8)
    cohort = build_cohort.build(path, tmp_path, processes=1)
    del cohort.record["lateral"]
    assert cohort.lateral == frozenset()
    cohort.canonical = {"a": "pleural_effusion:right", "b": "cardiomegaly", "c": "mass:left"}
    assert cohort.lateral == {"pleural_effusion", "mass"}


def test_build_does_nothing_when_whole_and_notices_a_flipped_byte_or_a_new_file(
    tmp_path, monkeypatch
):
    path = write_ward(tmp_path)
    (tmp_path / "films" / "2020" / "f0001.png").rename(tmp_path / "kept.png")
    build_cohort.build(path, tmp_path, processes=1)
    whole = contents()
    calls = []
    monkeypatch.setattr(
        make_chunk, "make", lambda *arguments: calls.append(1) or pytest.fail("made again")
    )
    os.utime(tmp_path / "films.csv")  # touching is no change
    build_cohort.build(path, tmp_path, processes=1)
    monkeypatch.undo()
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    images = paths.cohort_dir("ward") / "images.npy"
    images.write_bytes(whole["images.npy"][:-1] + bytes([whole["images.npy"][-1] ^ 1]))
    build_cohort.build(path, tmp_path, processes=1)
    assert contents() == whole and not calls
    (tmp_path / "kept.png").rename(tmp_path / "films" / "2020" / "f0001.png")
    assert len(build_cohort.build(path, tmp_path, processes=1).table) == 40


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_build_goes_on_and_leaves_no_worker(tmp_path):
    code = (
        "from helpers.data import build_cohort\nif __name__ == '__main__':\n   "
        " build_cohort.build('synthetic_cxr_public', processes=2)\n"
    )
    (tmp_path / "build.py").write_text(code, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "build.py")],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = paths.cohort_dir("synthetic_cxr_public")
    deadline = time.monotonic() + 60
    while not list(folder.glob(".chunks-*/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    with pytest.raises(errors.InputError, match="Run notebook 01"):
        cohorts.read("synthetic_cxr_public")
    assert list(folder.glob(".chunks-*/*.json"))
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)  # asks whether anybody is left in the group
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("workers outlive the killed build")


def test_embedded_cohorts_are_the_generators_blocks_in_order():
    cohort = build_cohort.build(
        "synthetic_cxr_private",
        n_patients=120,
        n_test_patients=30,
        image_px=32,
        generator_seed=5,
        processes=1,
    )
    images, table = chest_cohort.draw_block("private", "train", 1, 5, image_px=32, n_patients=20)
    train = cohort.table["split"] == "train"
    block = cohort.table[train & cohort.table["image_id"].isin(table["image_id"])]
    assert block["image_id"].tolist() == table["image_id"].tolist()
    assert np.array_equal(cohort.images[block.index], images)
    assert np.array_equal(
        block[list(chest_cohort.FINDINGS)], table[list(chest_cohort.FINDINGS)] >= 1
    )
    patients = cohort.table.groupby("split")["patient_id"].nunique().to_dict()
    assert (
        patients == {"train": 120, "valid": 30, "test": 30}
        and cohort.table["n_comorbidities"].dtype == "Int64"
    )
    assert cohort.record["merged"] == {"ids": 0, "units": 0, "largest": 0}
    assert cohort.table["film_sha256"].tolist() == [
        hashlib.sha256(image.tobytes()).hexdigest() for image in cohort.images
    ]


def test_every_module_that_decides_content_is_in_the_fingerprint():
    data = paths.repository_root() / "helpers" / "data"
    imported = {
        path.relative_to(data).with_suffix("").as_posix()
        for path in fingerprints.helper_sources({"data.build_cohort"})
        if path.is_relative_to(data)
    }
    decides = {*build_cohort.DECIDES_CONTENT, *build_cohort.DECIDES_DRAWN_CONTENT}
    # the manifest's own content is hashed, `cohorts` only reads, workers only share
    assert (
        imported - decides
        == {"chunk_workers", "manifests", "cohorts", "tables/source_columns", "tables/source_files"}
        and decides <= imported
    )


def test_a_drawn_cohort_obeys_the_manifests_row_filter(tmp_path):
    text = (manifests.manifests_dir() / "synthetic_cxr_public.yaml").read_text(encoding="utf-8")
    path = tmp_path / "synthetic_cxr_public.yaml"
    path.write_text(text + "\nkeep: {sex: [female]}\n", encoding="utf-8")
    cohort = build_cohort.build(
        path, n_patients=110, n_test_patients=5, image_px=32, equalise="no", processes=1
    )
    images, table = zip(
        *[
            chest_cohort.draw_block("public", "train", index, 0, image_px=32, n_patients=n)
            for index, n in ((0, 100), (1, 10))
        ]
    )
    is_female = (pd.concat(table)["sex"] == "female").to_numpy()
    train = cohort.images[(cohort.table["split"] == "train").to_numpy()]
    assert np.array_equal(train, np.concatenate(images)[is_female])
    assert cohort.record["exclusions"].keys() == {"sex is not female"}
    assert cohort.record["n_source_rows"] > cohort.record["n_images"] == len(cohort.images)


def test_film_sha256_is_of_the_file_whatever_its_size_here_and_changes_with_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(chunks, "IMAGES_PER_CHUNK", 6)
    path, films = write_ward(tmp_path), tmp_path / "films" / "2020"
    # left out: rows and files are no longer one to one
    (films / "f0007.png").write_bytes((films / "f0006.png").read_bytes())
    small, large = (
        build_cohort.build(path, tmp_path, image_px=px, processes=1).table.set_index("image_id")[
            "film_sha256"
        ]
        for px in (16, 20)
    )
    assert (
        small.to_dict()
        == {film: fingerprints.file_hash(films / f"{film}.png") for film in small.index}
        and len(small) == 39
    )
    assert large.equals(small) and small.is_unique
    # the same pixels, another file
    (films / "f0003.png").write_bytes((films / "f0003.png").read_bytes() + b"\0")
    after = build_cohort.build(path, tmp_path, processes=1).table.set_index("image_id")[
        "film_sha256"
    ]
    assert after.index[after != small].tolist() == ["f0003"]


def test_a_picture_replaced_by_one_of_the_same_size_makes_another_cohort(tmp_path):
    path, films = write_ward(tmp_path, n=12), tmp_path / "films" / "2020"
    rng = np.random.default_rng(5)
    for film in films.iterdir():
        Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8)).save(film, "BMP")
    before = build_cohort.build(path, tmp_path, processes=1)
    images = before.images.copy()
    film = films / "f0003.png"
    size = film.stat().st_size
    Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8)).save(film, "BMP")
    assert film.stat().st_size == size
    after = build_cohort.build(path, tmp_path, processes=1)
    row = after.table["image_id"].tolist().index("f0003")
    differs = (after.images != images).any((1, 2))
    assert np.flatnonzero(differs).tolist() == [row]
    # a file that was only copied anew changes nothing that was stored
    os.utime(film)
    again = build_cohort.build(path, tmp_path, processes=1)
    assert again.record["data_hash"] == after.record["data_hash"] != before.record["data_hash"]


def test_one_picture_in_two_files_is_one_film_of_one_patient_and_two_pictures_are_two(tmp_path):
    """The picture of p001's first film as TIFF in 8 of 16 bits, stretched, and as its negative."""
    path, films = write_ward(tmp_path, n=12), tmp_path / "films" / "2020"
    picture = np.random.default_rng(1).integers(0, 256, (24, 24)).astype(np.uint16)
    for film, kind, copy in (
        ("f0002", "PNG", picture.astype(np.uint8)),
        ("f0003", "TIFF", picture * 257),
        ("f0009", "BMP", 255 - picture.astype(np.uint8)),
    ):
        Image.fromarray(copy).save(films / f"{film}.png", kind)
    cohort = build_cohort.build(path, tmp_path, processes=1)
    assert cohort.record["exclusions"] == {"identical image of the same patient": 2}
    assert (
        "Patients 'p001', 'p004' have an identical image and count as one patient, p001."
        in cohort.record["notes"]
    )
    assert cohort.table["pixels_sha256"].is_unique and len(cohort.table) == 10
    assert cohort.pixels().tolist() == cohort.table["pixels_sha256"].tolist()
    smaller = build_cohort.build(path, tmp_path, image_px=20, equalise="no", processes=1)
    assert smaller.pixels().tolist() == cohort.pixels().tolist()


def test_a_drawn_cohort_has_no_hashes_of_files_and_is_compared_by_its_pixels():
    cohort = build_cohort.build(
        "synthetic_cxr_private", n_patients=40, n_test_patients=20, image_px=32, processes=1
    )
    assert "pixels_sha256" not in cohort.table
    assert cohort.pixels().tolist() == cohort.films().tolist()


def test_public_site_labels_are_those_of_either_side():
    cohort = build_cohort.build(
        "synthetic_cxr_public", n_patients=40, n_test_patients=20, image_px=32, processes=1
    )
    _, table = chest_cohort.draw_block("public", "train", 0, 0, image_px=32, n_patients=40)
    either = (table["atelectasis_right"] >= 1) | (table["atelectasis_left"] >= 1)
    assert (
        cohort.table.loc[cohort.table["split"] == "train", "atelectasis"].astype(bool).tolist()
        == either.tolist()
    )
    assert "atelectasis_right" not in cohort.table and set(cohort.table["split"]) == {
        "train",
        "valid",
    }


def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "IMAGES_PER_CHUNK", 32)

    def peak(n: int) -> int:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        path = write_ward(folder, n=n, image={"px": 128})
        tracemalloc.start()
        try:
            build_cohort.build(path, folder, processes=1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)  # imports
    growth, images = peak(256) - peak(64), 192 * 128 * 128
    if growth > 0.2 * images:  # the interpreter's own tables may have grown meanwhile, once
        growth = peak(256) - peak(64)
    assert growth < 0.2 * images  # the table's rows alone


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(n_patients=5), "no number of patients for ward, whose images are real"),
        (dict(image_px=5000), "IMAGE_PX"),
        (dict(equalise="maybe"), "EQUALISE"),
        (dict(data_root=None), "no data root"),
    ],
)
def test_build_refuses_wrong_arguments(tmp_path, arguments, words):
    path = write_ward(tmp_path)
    with pytest.raises(errors.InputError, match=words):
        build_cohort.build(path, **({"data_root": tmp_path} | arguments))


def test_build_refuses_a_data_root_or_another_generator_for_an_embedded_cohort(tmp_path):
    with pytest.raises(
        errors.InputError, match="no data root for synthetic_cxr_private, which is drawn"
    ):
        build_cohort.build("synthetic_cxr_private", tmp_path)
    text = (manifests.manifests_dir() / "synthetic_cxr_private.yaml").read_text(encoding="utf-8")
    path = tmp_path / "synthetic_cxr_private.yaml"
    path.write_text(
        text.replace(
            f"generator_version: {chest_cohort.GENERATOR_VERSION}", "generator_version: 99"
        ),
        encoding="utf-8",
    )
    with pytest.raises(errors.InputError, match="generator_version .*; got 99"):
        build_cohort.build(path)


def test_read_names_the_notebook_that_makes_a_cohort():
    for read in (cohorts.read, cohorts.read_table):
        with pytest.raises(errors.InputError, match="nothing there. Run notebook 01"):
            read("synthetic_cxr_private")


def test_cohorts_need_no_torch():
    code = (
        "import sys; from helpers.data import build_cohort, cohort_summary;"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("takes_blanks", [False, True])
@pytest.mark.parametrize(
    "split", [dict(test_share=0.05), dict(column="ward", values={"A": "train", "B": "test"})]
)
def test_equal_blank_films_of_two_patients_stay_of_two_patients(
    tmp_path, monkeypatch, split, takes_blanks
):
    """The decoder refuses blank films; the second case has one that takes them."""
    path, films, square = (
        write_ward(tmp_path, n=8, split=split),
        tmp_path / "films" / "2020",
        make_chunk.decode_film.square,
    )
    table = pd.read_csv(tmp_path / "films.csv", sep=";").assign(ward=[*"AABBAAAA"])
    table.to_csv(tmp_path / "films.csv", sep=";", index=False)
    for film in ("f0000", "f0001", "f0002"):  # two of p000, one of p001
        Image.fromarray(np.full((24, 24), 9, np.uint8)).save(films / f"{film}.png")
    # one film of p002 and p003
    (films / "f0006.png").write_bytes((films / "f0004.png").read_bytes())

    def takes_all(film, px, *more, **named):
        return (
            np.zeros((px, px), np.uint8)
            if film.grey.min() == film.grey.max()
            else square(film, px, *more, **named)
        )

    monkeypatch.setattr(make_chunk.decode_film, "square", takes_all if takes_blanks else square)
    cohort = build_cohort.build(path, tmp_path, processes=1)
    assert cohort.record["notes"][0] == (
        "Patients 'p002', 'p003' have an identical image and count as one patient, p002."
    )
    assert cohort.record["merged"] == {"ids": 2, "units": 1, "largest": 2}
    kept = [["f0003", "p001"], ["f0004", "p002"], ["f0005", "p002"], ["f0007", "p002"]]
    if takes_blanks:
        assert cohort.table[["image_id", "patient_id"]].values.tolist() == [
            ["f0000", "p000"],
            ["f0002", "p001"],
            *kept,
        ]
        assert cohort.record["exclusions"] == {"identical image of the same patient": 2}
    else:
        assert cohort.table[["image_id", "patient_id"]].values.tolist() == kept
        assert cohort.record["exclusions"] == {
            "image has one grey value only": 3,
            "identical image of the same patient": 1,
        }


def test_facts_say_which_films_and_volumes_are_of_one_value(tmp_path, monkeypatch):
    rows = pd.DataFrame({"row": range(3), "file": ["a", "b", "c"], "mask": ""})
    for name in rows["file"]:
        (tmp_path / name).write_bytes(name.encode())
    made = {
        "a": np.zeros((8, 8, 8), np.uint8),
        "b": np.full((8, 8, 8), 255, np.uint8),
        "c": np.eye(8, dtype=np.uint8) * np.ones((8, 1, 1), np.uint8),
    }
    monkeypatch.setattr(
        make_chunk.decode_volume, "decode", lambda path, *more: (made[path.name], path.name)
    )
    monkeypatch.setattr(
        make_chunk.decode_film,
        "read",
        lambda encoded, **named: film_pixels.film_of(made[encoded.decode()][0]),
    )
    monkeypatch.setattr(make_chunk.decode_film, "square", lambda film, *more: film.grey)
    volume = {
        "shape": [8] * 3,
        "spacing_mm": [1] * 3,
        "window_hu": [0, 1],
        "mask": None,
        "mask_labels": [],
    }
    for options in ({"volume": volume}, {"image_px": 8, "aspect": "pad", "equalise": False}):
        task = make_chunk.Task(0, options, rows.to_dict("records"), root=tmp_path)
        make_chunk.make(tmp_path / "parts", task)
        assert chunks.facts(tmp_path / "parts", [task])["is_constant"].tolist() == [
            True,
            True,
            False,
        ]


@pytest.mark.parametrize("name", ["1.json", "1.npy"])
@pytest.mark.parametrize("share", [0, 0.5, 0.98])
def test_a_cut_part_of_a_build_is_made_again(name, share, tmp_path, monkeypatch, capsys):
    path = write_ward(tmp_path, n=24)
    monkeypatch.setattr(chunks, "IMAGES_PER_CHUNK", 6)
    build_cohort.build(path, tmp_path, processes=1)
    whole = contents()
    (paths.cohort_dir("ward") / "record.json").unlink()
    make, made = make_chunk.make, []

    def killed_at_the_last(folder, task):
        if task.number == 3:
            raise KeyboardInterrupt
        make(folder, task)

    monkeypatch.setattr(make_chunk, "make", killed_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        build_cohort.build(path, tmp_path, processes=1)
    part = next(paths.cohort_dir("ward").glob(f".chunks-*/{name}"))
    part.write_bytes(part.read_bytes()[: int(share * part.stat().st_size)])
    monkeypatch.setattr(
        make_chunk, "make", lambda folder, task: (made.append(task.number), make(folder, task))
    )
    build_cohort.build(path, tmp_path, processes=1)
    assert made == [1, 3] and contents() == whole
    assert "/1 is damaged: made again" in capsys.readouterr().out


def test_a_chunk_of_the_right_size_with_other_pixels_is_made_again(tmp_path):
    """As a power cut may leave one: chunks are not waited for until they are on disk."""
    path = write_ward(tmp_path, n=4)
    rows = [{"row": n, "file": f"films/2020/f{n:04d}.png"} for n in range(4)]
    options = {"image_px": 8, "aspect": "pad", "equalise": False}
    task = make_chunk.Task(0, options, rows, root=path.parent)
    make_chunk.make(tmp_path / "chunks", task)
    assert chunks.is_made(tmp_path / "chunks", task)
    images = tmp_path / "chunks" / "0.npy"
    images.write_bytes(images.read_bytes()[:-64] + bytes(64))
    assert not chunks.is_made(tmp_path / "chunks", task)


def test_a_worker_imports_no_tables_and_no_decoder_of_volumes_before_it_needs_them():
    code = (
        "import sys, helpers.data.make_chunk\n"
        "print({'pandas', 'pyarrow', 'pydantic', 'scipy', 'nibabel', 'pydicom', 'SimpleITK',"
        " 'torch'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "set()\n", run.stderr


def test_after_an_error_nobody_begins_another_chunk():
    waiting, begun, bar = iter(range(9)), [], SimpleNamespace(update=lambda: None)

    def interrupted(task):
        begun.append(task)
        if task == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chunk_workers._make_all(waiting, interrupted, bar)
    assert begun == [0, 1, 2] and not list(waiting)


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_stops_a_worker_is_said_here(is_killed, tmp_path, monkeypatch):
    """This process leaves all chunks to its worker, which is refused a path, or is killed."""
    options, bar = {"image_px": 8, "aspect": "pad", "equalise": False}, SimpleNamespace()
    rows = [{"row": 0, "file": "../outside.png"}]
    tasks = [make_chunk.Task(n, options, rows, root=tmp_path) for n in range(4)]
    bar.update, make_all = lambda: pytest.fail("made"), chunk_workers._make_all

    def in_threads_only(*arguments):
        if threading.current_thread() is not threading.main_thread():
            make_all(*arguments)

    monkeypatch.setattr(chunk_workers, "_make_all", in_threads_only)
    if is_killed:
        monkeypatch.setattr(make_chunk, "end_with_parent", os.abort)
    words = "one that was killed" if is_killed else "paths under the data root"
    with pytest.raises(errors.InputError, match=words):
        chunk_workers._make_in_pool(tasks, tmp_path, 2, bar)


@pytest.mark.parametrize("name", ["images.npy", "table.parquet", "record.json", "exclusions.csv"])
@pytest.mark.parametrize("n_bytes", [0, 20])
def test_a_cut_file_of_a_cohort_is_made_again(name, n_bytes, tmp_path):
    path = write_ward(tmp_path, n=24)
    build_cohort.build(path, tmp_path, processes=1)
    whole = contents()
    (paths.cohort_dir("ward") / name).write_bytes(whole[name][:n_bytes])
    build_cohort.build(path, tmp_path, processes=1)
    assert contents() == whole


def test_too_little_room_is_refused_before_an_image_is_decoded(tmp_path, monkeypatch):
    path = write_ward(tmp_path, n=24)
    monkeypatch.setattr(make_chunk, "make", lambda *arguments: pytest.fail("decoded"))
    free = 24 * 2 * 64 * 64 - 1  # images.npy and chunks, without a table
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    folder = paths.cohort_dir("ward")
    with pytest.raises(errors.InputError, match=f"220,608 bytes free in {folder} .*; got 196,607"):
        build_cohort.build(path, tmp_path, image_px=64)


@pytest.mark.parametrize("threads, workers", [("", 3), ("4,2", 4), ("0", 3), ("2", 2)])
def test_workers_are_as_many_as_threads(threads, workers, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(machine, "cores", lambda: 3)
    monkeypatch.setattr(chunks, "IMAGES_PER_CHUNK", 2)
    asked = []

    def without_workers(tasks, folder, processes, bar):
        asked.append(processes)
        for task in tasks:
            make_chunk.make(folder, task)

    monkeypatch.setattr(chunk_workers, "_make_in_pool", without_workers)
    build_cohort.build(write_ward(tmp_path, n=24), tmp_path)
    assert asked == [workers]


@pytest.mark.parametrize(
    "px, n, per_chunk", [(64, 20_000, 256), (64, 2000, 62), (512, 20_000, 64), (2048, 9, 16)]
)
def test_chunks_are_large_enough_to_cost_little_and_small_in_memory(px, n, per_chunk):
    assert chunks._images_per_chunk({"image_px": px}, n) == per_chunk


def refused(path: Path, root: Path, words: str, **settings: object) -> pd.DataFrame:
    """Build, match the refusal, and return the rows of the file of reasons that it names."""
    with pytest.raises(errors.InputError, match=words) as refusal:
        build_cohort.build(path, root, processes=1, **settings)
    named = str(refusal.value).split("Every row with its reason: ")[1].removesuffix(".")
    return pd.read_csv(named)


def test_a_refusal_without_a_usable_image_keeps_the_reason_of_every_row(tmp_path):
    path, films = write_ward(tmp_path, n=6, min_share_present=0), tmp_path / "films" / "2020"
    for film in films.iterdir():
        film.write_bytes(b"no image")
    reasons = refused(
        path, tmp_path, r"none of 6 rows; left out: image cannot be decoded \(6 rows\)"
    )
    assert reasons["reason"].tolist() == ["image cannot be decoded"] * 6
    assert reasons["image_id"].tolist() == [f"f{k:04d}" for k in range(6)]
    for film in sorted(films.iterdir())[1:]:
        film.unlink()
    reasons = refused(path, tmp_path, "image cannot be decoded|image file absent")
    assert reasons["reason"].value_counts()["image file absent"] == 5
    with pytest.raises(errors.InputError, match="Run notebook 01"):
        cohorts.read("ward")


@pytest.mark.parametrize(
    "changes, reason",
    [
        (dict(keep={"ward": ["C"]}), "ward is not C"),
        (dict(split={"column": "sex", "values": {"w": "train", "m": "test"}}), "in no given split"),
        (dict(min_share_present=1), "image file absent"),
    ],
)
def test_rows_left_out_before_decoding_are_listed_too(tmp_path, changes, reason):
    path = write_ward(tmp_path, n=6, **changes)
    table = pd.read_csv(tmp_path / "films.csv", sep=";")
    table = table.assign(sex="") if "split" in changes else table
    table.to_csv(tmp_path / "films.csv", sep=";", index=False)
    (tmp_path / "films" / "2020" / "f0002.png").unlink()
    n_left_out = 1 if "min_share_present" in changes else 6
    reasons = refused(path, tmp_path, rf"{reason} \({n_left_out} rows\)")
    assert reasons["reason"].tolist() == [reason] * n_left_out


def test_a_refusal_leaves_an_earlier_whole_cohort_as_it_was(tmp_path):
    path = write_ward(tmp_path, n=16)
    build_cohort.build(path, tmp_path, processes=1)
    whole, text = contents(), path.read_text(encoding="utf-8")
    path.write_text(text + "keep: {ward: [C]}\n", encoding="utf-8")
    reasons = refused(path, tmp_path, "ward is not C")
    assert len(reasons) == 16
    assert {name: content for name, content in contents().items() if name in whole} == whole
    assert set(contents()) - set(whole) == {"exclusions_of_refusal.csv"}
    path.write_text(text, encoding="utf-8")
    assert len(build_cohort.build(path, tmp_path, processes=1).table) == 16
    build_cohort.build(path, tmp_path, image_px=20, processes=1)
    assert "exclusions_of_refusal.csv" not in contents()


def test_training_images_all_of_one_label_are_refused_after_decoding(tmp_path):
    path = write_ward(
        tmp_path, n=8, split={"column": "ward", "values": {"A": "train", "B": "test"}}
    )
    table = pd.read_csv(tmp_path / "films.csv", sep=";")
    table.assign(ward=[*"AAAABBBB"], effusion=[4, 0, 0, 0, 4, 0, 0, 0]).to_csv(
        tmp_path / "films.csv", sep=";", index=False
    )
    (tmp_path / "films" / "2020" / "f0000.png").write_bytes(b"the only one with it")
    reasons = refused(path, tmp_path, "training images with and without effusion.*got 0 with and 3")
    assert reasons["image_id"].tolist() == ["f0000"]


def test_uncertain_labels_mean_what_the_policy_says(tmp_path):
    values = {"1": "positive", "0": "negative", "2": "negative", "3": "negative", "4": "uncertain"}
    rule = {"canonical": "effusion", "column": "effusion", "values": values}
    path = write_ward(tmp_path, findings={"effusion": rule})
    is_uncertain = (pd.read_csv(tmp_path / "films.csv", sep=";")["effusion"] == 4).to_numpy()
    hashes, fingerprint_of = set(), {}
    for policy, label in (
        ("as_manifest", None),
        ("positive", 1),
        ("negative", 0),
        ("unknown", None),
    ):
        cohort = build_cohort.build(path, tmp_path, uncertain_means=policy, processes=1)
        labels = cohort.table["effusion"][is_uncertain]
        assert labels.isna().all() if label is None else labels.eq(label).all()
        assert cohort.table["effusion"][~is_uncertain].notna().all()
        assert cohort.record["parameters"].get("uncertain_means", "as_manifest") == policy
        hashes.add(cohort.record["data_hash"])
        fingerprint_of[policy] = cohort.record["fingerprint"]
    assert len(hashes) == 3 and len(set(fingerprint_of.values())) == 4


def test_a_policy_needs_uncertain_labels(tmp_path):
    with pytest.raises(errors.InputError, match="no value means uncertain in ward; got 'positive'"):
        build_cohort.build(write_ward(tmp_path), tmp_path, uncertain_means="positive")
    with pytest.raises(errors.InputError, match="UNCERTAIN_MEANS"):
        build_cohort.build(write_ward(tmp_path / "w"), tmp_path, uncertain_means="maybe")


def test_the_record_says_that_nobody_knows_whose_an_image_is(tmp_path):
    path = write_ward(tmp_path, patient_id=None, sex=None)
    cohort = build_cohort.build(path, tmp_path, processes=1)
    assert cohort.record["patients"] == "unknown"
    assert cohort.table["patient_id"].tolist() == cohort.table["image_id"].tolist()
    assert "does not say whose an image is" in cohort.record["notes"][0]


@pytest.mark.parametrize("out", ["results", "."])
def test_pictures_of_results_below_the_data_root_are_no_images(out, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / out))
    data = ["films/2020/a.png", "films/figures/b.png"]
    results = ["figures/2020/x.png", "cohort/c/record.json", "cohort/c/a.png"]
    for name in [*data, *(f"{place}/{name}" for place in (out, "earlier") for name in results)]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(file_names.files_below(tmp_path)) == data
    columns, found = file_names.of_pattern(tmp_path, "{where}/{year}/{film}.png")
    assert found == data and columns["film"].tolist() == ["a", "b"]
    assert file_names.of_pattern(tmp_path, "{where}/c/{film}.png")[1] == []
