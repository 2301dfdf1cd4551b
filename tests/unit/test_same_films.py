"""The same films in two data sets: found by pixels or files, refused or counted before training."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from helpers.core import errors
from helpers.data import build_cohort, cohorts
from helpers.privacy import register
from helpers.training import network_settings, pretraining, same_films

SPLITS = ("train", "valid", "test")


def cohort_of(name, films, access="private", px=16):
    """A cohort of one image a patient.

    Args:
        films: split, hash of the file and hash of the pixels of each.
    """
    table = pd.DataFrame(films, columns=["split", "film_sha256", "pixels_sha256"])
    ids = [f"{name}{row}" for row in range(len(table))]
    table = table.assign(image_id=ids, patient_id=ids, bright=1.0)
    record = {"access": access, "data_hash": name}
    images = np.zeros((len(table), px, px), np.uint8)
    return cohorts.Cohort(name, images, table, ["bright"], {"bright": "bright"}, record)


OURS = [("train", "f1", "x1"), ("train", "f2", "x2"), ("valid", "f3", "x3"), ("test", "f4", "x4")]
OTHERS = [(split, f"g{row}", f"y{row}") for row, split in enumerate(SPLITS * 2)]


def planned(private, public, evaluate_on="none"):
    """The public model of a study."""
    pretrain = public.name if public else "none"
    settings = network_settings.NetworkSettings(
        pretrain, evaluate_on, 8, 1, "pooled", "float32", 64
    )
    return pretraining.PublicModel.planned(
        settings,
        private,
        public,
        epochs=1,
        learning_rate=1e-3,
        augmentation="shift",
        batch_size=16,
    )


@pytest.mark.parametrize(
    "row, film, said",
    [
        ("train", ("f1", "other"), "1 films of ours are in PRETRAIN = public, e.g. 'ours0'"),
        ("train", ("other", "x1"), "1 films of ours are in PRETRAIN = public, e.g. 'ours0'"),
        ("valid", ("other", "x2"), "1 films of ours are in PRETRAIN = public, e.g. 'ours1'"),
        ("test", ("other", "x2"), "1 films of ours are in PRETRAIN = public, e.g. 'ours1'"),
        ("train", ("other", "x3"), "1 films of ours are in PRETRAIN = public, e.g. 'ours2'"),
        ("train", ("other", "x4"), "1 films of ours are in PRETRAIN = public, e.g. 'ours3'"),
        ("test", ("other", "x4"), ""),  # nothing is trained on either
        ("train", ("x1", "f1"), ""),  # a file's hash is no picture's
    ],
)
def test_films_of_real_patients_in_pretraining_are_refused_by_pixels_or_file(
    row, film, said, results
):
    ours, public = cohort_of("ours", OURS), cohort_of("public", [*OTHERS, (row, *film)])
    if not said:
        planned(ours, public)
        return
    with pytest.raises(errors.InputError, match=said + ".*the promise would be empty"):
        planned(ours, public)


def test_test_films_that_are_training_films_are_refused_or_counted(results, monkeypatch, capsys):
    tried = cohort_of("tried", [*OTHERS, ("test", "z", "x1"), ("valid", "z", "x2")])
    of_public = cohort_of("tried", [*OTHERS, ("test", "z", "p1")])
    public = cohort_of("public", [("train", "p", "p1"), ("test", "p", "x9")])
    for access in ("private", "open"):
        ours = cohort_of("ours", OURS, access)
        for elsewhere, said in (
            (tried, "1 test films of EVALUATE_ON = tried are training films of ours, e.g. 'tried6"),
            (tried, "1 valid films of EVALUATE_ON = tried are training films of ours"),
            (of_public, "1 test films of EVALUATE_ON = tried are training films of public"),
        ):
            monkeypatch.setattr(same_films, "_built", lambda name, made=elsewhere: made)
            with pytest.raises(errors.InputError, match=said):
                planned(ours, public, "tried")
    planned(cohort_of("ours", OURS, "embedded"), public, "tried")
    assert "Note: 1 test films of EVALUATE_ON = tried are training" in capsys.readouterr().out
    monkeypatch.setattr(same_films, "_built", lambda name: cohort_of("tried", OTHERS))
    planned(cohort_of("ours", OURS), public, "tried")
    assert not capsys.readouterr().out


def test_pretraining_on_images_of_another_size_is_refused(results):
    ours = cohort_of("ours", OURS)
    with pytest.raises(errors.InputError, match="16 x 16, as those of ours; got public of 24 x 24"):
        planned(ours, cohort_of("public", OTHERS, px=24))
    volumes = dataclasses.replace(ours, images=np.zeros((4, 8, 16, 16), np.uint8))
    pretraining.refuse_other_size(cohort_of("public", OTHERS, px=24), volumes)


def write_hospital(folder, name, kind, films, px):
    """A data set of films in files of some kind, and its manifest."""
    folder.mkdir()
    table = pd.DataFrame({"film": [f"{name}{row}.{kind}" for row in range(len(films))]})
    table = table.assign(person=[f"{name}-{row}" for row in range(len(films))], heart=1)
    table.loc[::2, "heart"] = 0
    for file, film in zip(table["film"], films):
        stream = io.BytesIO()
        Image.fromarray(film).save(stream, kind)
        (folder / file).write_bytes(stream.getvalue())
    table.to_csv(folder / "t.csv", index=False)
    manifest = {
        "name": name,
        "title": name,
        "modality": "chest radiograph",
        "access": "private",
        "licence": "none",
        "citation": "none",
        "how_to_get": "Ask.",
        "image_id": "{film}",
        "patient_id": "person",
        "layout": {"kind": "table_and_images", "table": "t.csv", "image_path": "{film}"},
        "findings": {
            "heart": {
                "canonical": "heart",
                "column": "heart",
                "values": {"1": "positive", "0": "negative"},
            }
        },
        "split": {"valid_share": 0.2, "test_share": 0.3},
        "image": {"px": px, "equalise": name == "ours"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return build_cohort.build(path, folder, processes=1)


def test_films_as_png_and_bmp_under_other_names_are_the_same_whatever_their_size_here(
    results, tmp_path
):
    rng = np.random.default_rng(4)
    films = [rng.integers(0, 256, (24, 20), dtype=np.uint8) for _ in range(24)]
    ours = write_hospital(tmp_path / "a", "ours", "png", films, 16)
    public = write_hospital(tmp_path / "b", "public", "bmp", films[::-1], 20)
    others = write_hospital(
        tmp_path / "c", "others", "png", [rng.permuted(film) for film in films], 16
    )
    assert not set(ours.films()) & set(public.films())
    assert set(ours.pixels()) == set(public.pixels()) and len(set(ours.pixels())) == 24
    assert len(same_films.shared_films(ours, SPLITS, public, SPLITS)) == 24
    with pytest.raises(errors.InputError, match="24 films of ours are in PRETRAIN = public"):
        planned(ours, public)
    with pytest.raises(errors.InputError, match="test films of EVALUATE_ON = public are training"):
        planned(ours, others, "public")
    planned(ours, others)
    # weights of the other data set are known by their patients' films, too
    patients = register.Register()
    of_ours, of_public, of_others = (
        patients.enrol(*cohort.training_patients()) for cohort in (ours, public, others)
    )
    in_both = set(ours.pixels()[ours.table["split"] == "train"]) & set(
        public.pixels()[public.table["split"] == "train"]
    )
    assert of_ours.shared_with(of_public) == {"films": len(in_both)}
    assert of_ours.shared_with(of_others) == {}
    with pytest.raises(errors.InputError, match=f"shares {len(in_both)} films"):
        pretraining.refuse_shared(public, ours)


def test_real_data_without_hashes_of_pictures_are_refused_and_no_hash_of_a_file_stands_for_one(
    results,
):
    ours, public = cohort_of("ours", OURS), cohort_of("public", [*OTHERS, ("train", "f9", "x1")])
    for access in ("private", "public", None):
        record = {"access": access, "data_hash": "a"} if access else {"data_hash": "a"}
        table = public.table.drop(columns="pixels_sha256")
        old = dataclasses.replace(public, table=table, record=record)
        for call, arguments in (
            (old.pixels, ()),
            (old.training_patients, ()),
            (same_films.shared_films, (ours, ("train",), old, SPLITS)),
        ):
            with pytest.raises(errors.InputError, match="pixels_sha256.*Run notebook 01 again"):
                call(*arguments)
    drawn = dataclasses.replace(old, record={"access": "embedded"})
    assert drawn.pixels().tolist() == drawn.films().tolist()


def test_a_record_that_does_not_say_whose_data_it_is_counts_as_private(results):
    ours, public = cohort_of("ours", OURS), cohort_of("public", [*OTHERS, ("train", "f1", "x1")])
    ours = dataclasses.replace(ours, record={"data_hash": "ours"})
    with pytest.raises(errors.InputError, match="the promise would be empty"):
        same_films.check(ours, public, "none")
