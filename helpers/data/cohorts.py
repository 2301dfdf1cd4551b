"""A built cohort: its images, its table, its record. Reading only; `build_cohort` makes it.

In: a cohort's name. Out: a `Cohort`, or its table alone. Raises `InputError` for a cohort that was
not built or is not whole. Imports neither torch nor a decoder, so that analysis can read tables.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors, files, fingerprints, paths
from helpers.data import manifest_schema, manifests

MADE_BY = "Run notebook 01 with this cohort first."


@dataclasses.dataclass(repr=False)
class Cohort:
    """Images and what is known of them.

    name: the manifest's name.
    images: (n, height, width) or, of CT, (n, depth, height, width) uint8, memory-mapped, read only.
    table: n rows in the same order: image_id, patient_id, split, sex, age_years, n_comorbidities,
        each finding (1 present, 0 absent, NaN unknown), further columns, film_sha256: of the image
        as it came, before anything was done to it (the file's bytes; a volume's scan, see
        `decode_volume.decode`; of a drawn image its pixels as stored, so that it differs by size);
        of real data also pixels_sha256: of the decoded picture at its native size, whatever file
        it came in (a volume's scan).
    findings: names of the finding columns.
    canonical: finding -> name under which data sets share it, with ":right" or ":left" where the
    label has a side.
    record: content of `record.json`.
    """

    name: str
    images: np.memmap
    table: pd.DataFrame
    findings: list[str]
    canonical: dict[str, str]
    record: dict

    @property
    def lateral(self) -> frozenset[str]:
        """Return the canonical names, without a side, of the findings that can be on one side.

        Of a cohort that version 0.3 built, those of which a label has a side.
        """
        with_side = [name.partition(":")[0] for name in self.canonical.values() if ":" in name]
        return frozenset(self.record.get("lateral", with_side))

    def films(self) -> np.ndarray:
        """Return (n,) the hash of each image as it came; of its pixels where the table has none."""
        if "film_sha256" in self.table:
            return self.table["film_sha256"].to_numpy()
        return np.array(
            [hashlib.sha256(np.ascontiguousarray(image)).hexdigest() for image in self.images]
        )

    def pixels(self) -> np.ndarray:
        """Return (n,) the hash of each image's picture, by which two data sets are compared; of
        a drawn image as it came.

        Raises:
            InputError: real data without it.
        """
        has_pictures(self.table, self.record, self.name)
        if "pixels_sha256" in self.table:
            return self.table["pixels_sha256"].to_numpy()
        return self.films()

    def training_patients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return patient id, film and picture of each training image, as the privacy register takes
        them.
        """
        is_train = (self.table["split"] == "train").to_numpy()
        patient_ids = self.table["patient_id"].to_numpy()
        return patient_ids[is_train], self.films()[is_train], self.pixels()[is_train]

    def __repr__(self) -> str:
        return (
            f"Cohort({self.name!r}, {len(self.table):,} images of"
            f" {self.table['patient_id'].nunique():,} patients)"
        )


def data_hash(images_hash: str, table: pd.DataFrame, canonical: dict[str, str]) -> str:
    """Return the hash of all that training sees of a cohort.

    Args:
        images_hash: of `images.npy`.
        table: of the cohort.
        canonical: finding -> name under which data sets share it.
    """
    return fingerprints.fingerprint(
        {
            "images.npy": images_hash,
            "table": fingerprints.table_hash(table),
            "canonical": canonical,
        }
    )


def has_pictures(table: pd.DataFrame, record: dict, name: str) -> None:
    """Accept a cohort's table with the hashes by which its pictures are compared with others'.

    A hash of a file does not tell one picture in two files. Drawn images are no files.

    Raises:
        InputError: a cohort of real data that an earlier version built.
    """
    if record.get("access", "private") != "embedded" and "pixels_sha256" not in table:
        errors.refuse(
            f"the column 'pixels_sha256' in the table of {name}",
            "a cohort of real data without it, built by an earlier version of this package",
            "Run notebook 01 again.",
        )


def patients_are_known(record: dict) -> bool:
    """Return whether a cohort's record says whose an image is (`patient_id` in the manifest)."""
    return record.get("patients") != "unknown"


def unit_fits(name: str, record: dict, unit: str) -> None:
    """Accept a privacy unit that the cohort's data can tell apart.

    Args:
        name: of the cohort.
        record: of the cohort.
        unit: PRIVACY_UNIT, "patient" or "image".

    Raises:
        InputError: patients as units, where nobody knows whose an image is.
    """
    if unit == "patient" and not patients_are_known(record):
        errors.refuse(
            f"PRIVACY_UNIT = 'image' for {name}, whose data do not say whose an image is",
            repr(unit),
            "Set PRIVACY_UNIT to 'image': images are protected one at a time, several of one person"
            " less; or name the patient's column in the manifest (`patient_id`).",
        )


def read(name: str | Path) -> Cohort:
    """Return a built cohort; images stay on disk until used.

    Args:
        name: of the manifest (its path is understood, too).

    Raises:
        InputError: not built yet, or not whole.
    """
    table, record = read_table(name)
    images = np.load(
        errors.file_exists(paths.cohort_dir(record["cohort"]) / "images.npy", MADE_BY),
        mmap_mode="r",
    )
    errors.same_length(images=images, table=table)
    return Cohort(record["cohort"], images, table, record["findings"], record["canonical"], record)


def read_table(name: str | Path) -> tuple[pd.DataFrame, dict]:
    """Return a built cohort's table and record, without its images.

    Raises:
        InputError: not built yet, or not whole.
    """
    folder = paths.cohort_dir(manifests.name_of(name))
    record = files.read_json(folder / "record.json", MADE_BY)
    table = pd.read_parquet(errors.file_exists(folder / "table.parquet", MADE_BY))
    errors.has_columns(
        table, [*manifest_schema.COHORT_COLUMNS, *record["findings"]], str(folder / "table.parquet")
    )
    return table, record
