"""The cohorts of the ladder on real films: who is private, and what was public before.

In: the folder of ChestX-ray14 in part (`data_manifests/chestxray14_part.yaml`). Out: for each
start a private and a public cohort, under the results folder. Raises `InputError` for absent files,
and for a public cohort that has a private patient or film.

Start "drawn": all real patients are private, and the public ones are drawn. Start "archive": the
first archive of the data set (patients up to `LAST_PUBLIC`) is the public hospital, the patients
after it are the private one. Both have the same films of different patients.
"""

import shutil
from pathlib import Path

import pandas as pd

from helpers.core import errors
from helpers.data import build_cohort, cohorts, manifest_schema, manifests
from helpers.training import pretraining, same_films

REAL, DRAWN = "chestxray14_part", "synthetic_cxr_public"
STARTS = ("drawn", "archive")
LAST_PUBLIC = 1335  # the last patient of the first archive
PX, N_DRAWN = 64, 1500  # as in profiles/chestxray14_part.yaml
COLUMN = "Archive"  # added to the table of the divided data set


def of_start(start: str, data_root: Path, scratch: Path) -> tuple[cohorts.Cohort, cohorts.Cohort]:
    """Return the private and the public cohort of a start, built if they are not there.

    Guarantees: no private patient, and no private film, is in the public cohort.

    Args:
        start: one of `STARTS`.
        data_root: folder with the real table and `images/`.
        scratch: folder for the divided data set.

    Raises:
        InputError: see the module.
    """
    if errors.one_of("start", start, STARTS) == "drawn":
        private = build_cohort.build(REAL, data_root, image_px=PX)
        public = build_cohort.build(DRAWN, image_px=PX, n_patients=N_DRAWN)
    else:
        divided = divide(data_root, scratch / "divided")
        private = build_cohort.build(part_of("later"), divided, image_px=PX)
        public = build_cohort.build(part_of("first"), divided, image_px=PX)
    check_apart(private, public)
    return private, public


def part_of(archive: str) -> manifest_schema.Manifest:
    """Return the manifest of one part of the divided data set.

    Args:
        archive: "first", of which nobody is needed to test on, or "later".
    """
    whole = manifests.read(REAL)
    split = whole.split if archive == "later" else whole.split.model_copy(update={"test_share": 0})
    return whole.model_copy(
        update={
            "name": f"chestxray14_{archive}",
            "keep": {COLUMN: [archive]},
            "split": split,
            "sizes": {},
        }
    )


def divide(data_root: Path, folder: Path) -> Path:
    """Return a copy of the data set whose table says to which archive a patient belongs.

    Args:
        data_root: of the whole.
        folder: of the copy; nothing is done where its table is there.
    """
    table = folder / "Data_Entry_2017.csv"
    if not table.exists():
        rows = pd.read_csv(data_root / table.name, dtype=str)
        is_first = rows["Patient ID"].astype(int) <= LAST_PUBLIC
        shutil.copytree(data_root / "images", folder / "images", dirs_exist_ok=True)
        rows[COLUMN] = is_first.map({True: "first", False: "later"})
        rows.to_csv(table, index=False)
    return folder


def check_apart(private: cohorts.Cohort, public: cohorts.Cohort) -> None:
    """Accept two cohorts without a common patient or film.

    Raises:
        InputError: they share one.
    """
    shared = set(private.table["patient_id"]) & set(public.table["patient_id"])
    if shared:
        errors.refuse(
            f"no patient of {private.name} in {public.name}",
            f"{len(shared)}, e.g. {errors.examples(sorted(shared))}",
            "Divide the data set by patient.",
        )
    same_films.check(private, public, "none")
    pretraining.refuse_shared(public, private)
