"""Draw the embedded cohorts: chest phantoms of two sites, with effects planted in known places.

In: a site, a split, the index of a block of patients, a seed. Out: images of 8 bit and a table, one
row per image. Raises `InputError` for unknown sites and splits, and sizes outside the range drawn
for. A block depends on nothing but its own key: a larger cohort contains the smaller one, and
blocks can be drawn in any order. The generator is frozen: a change of any label or image asks for a
new GENERATOR_VERSION.
"""

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.synthetic import chest_phantom, chest_shapes, truth_table
from helpers.data.synthetic.chest_shapes import (
    BLOCK_PATIENTS,
    FEMALE_SEVERITY,
    FINDINGS,
    OLD_SEVERITY,
    SCANNER_B_SEVERITY,
)

GENERATOR_VERSION = 1
SITES = ("public", "private")
SPLITS = ("train", "valid", "test")

SCANNER_B_SHARE = 0.06

# How a site acquires images and whom it admits; `scale` above 1 shows more around the chest.
_SITES = {
    "public": dict(
        code="pb",
        scale=1.02,
        scale_sd=0.04,
        tilt=0.04,
        shift=0.04,
        low=0.0,
        blur=0.0,
        sharpening=0.0,
        field_sd=0.03,
        noise=0.05,
        contrast=1.0,
        tone=0.0,
        line_share=0.15,
        frame_share=0.1,
        heart=0.0,
        liability=-0.25,
        severity=1.15,
        has_scanner_b=False,
    ),
    "private": dict(
        code="pv",
        scale=1.12,
        scale_sd=0.07,
        tilt=0.07,
        shift=0.07,
        low=0.06,
        blur=0.3,
        sharpening=0.8,
        field_sd=0.042,
        noise=0.045,
        contrast=0.9,
        tone=0.3,
        line_share=0.6,
        frame_share=0.6,
        heart=0.03,
        liability=0.0,
        severity=1.0,
        has_scanner_b=True,
    ),
}
_SPLIT_CODES = {"train": "tr", "valid": "va", "test": "te"}

# Liability to each finding: loading on age, on co-morbidities, and the threshold of grade 1.
_AGE_LOADING = np.array([0.45, 0.30, 0.25, 0.25, 0.10, 0.10, 0.20, 0.20])
_COMORBIDITY_LOADING = np.array([0.35, 0.35, 0.25, 0.25, 0.20, 0.20, 0.10, 0.10])
_GRADE_1 = np.array([0.20, 1.90, 1.65, 1.55, 1.30, 1.45, 1.40, 1.55])
_GRADE_STEP = 0.5  # of liability from one grade to the next


def draw_block(
    site: str,
    split: str,
    index: int,
    seed: int,
    image_px: int = 48,
    n_patients: int = BLOCK_PATIENTS,
    scanner_b_share: float = SCANNER_B_SHARE,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw the images and the table of one block of patients.

    Args:
        site: one of SITES.
        split: "train", "valid" or "test"; no patient is in two.
        index: which block, 0 or more; patients are numbered index * BLOCK_PATIENTS onwards.
        seed: of the whole cohort, 0 or more.
        image_px: height and width, 32 to 512; the patients and grades are the same at every size.
        n_patients: the first so many patients of the block, 1 to BLOCK_PATIENTS.
        scanner_b_share: fraction of private patients on scanner B, 0 to 1 (the public site has
            none).

    Returns:
        images: (n, image_px, image_px) uint8, fixed window, patient's right on the viewer's left.
        table: n rows in the same order; image_id, patient_id, sex ("female"/"male"), age_years
            (18-99), n_comorbidities, scanner ("A"/"B"), admission ("weekday"/"weekend"), and each
            of FINDINGS as an integer grade, 0 (absent) to 4 (severe).

    Guarantees: equal arguments give equal results; fewer patients give a prefix of the whole block.

    Raises:
        InputError: an argument outside its range.
    """
    errors.number("image_px", image_px, 32, 512, integer=True)
    table, forms, grain = _draw_block_table(site, split, index, seed, n_patients, scanner_b_share)
    shapes = chest_shapes.draw_shapes(forms, table, _SITES[site])
    is_kept = (table["patient"] < n_patients).to_numpy()
    images = chest_phantom.draw_films(
        {name: value[is_kept] for name, value in shapes.items()}, grain, image_px
    )
    return images, table[is_kept].drop(columns="patient").reset_index(drop=True)


def draw_table(
    site: str,
    split: str,
    index: int,
    seed: int,
    n_patients: int = BLOCK_PATIENTS,
    scanner_b_share: float = SCANNER_B_SHARE,
) -> pd.DataFrame:
    """Return the table of `draw_block` without drawing an image; the arguments are the same."""
    table, *_ = _draw_block_table(site, split, index, seed, n_patients, scanner_b_share)
    is_kept = table["patient"] < n_patients
    return table[is_kept].drop(columns="patient").reset_index(drop=True)


def _draw_block_table(
    site: str, split: str, index: int, seed: int, n_patients: int, scanner_b_share: float
) -> tuple[pd.DataFrame, np.random.Generator, np.random.Generator]:
    """Return the table of all patients of a block, and the generators of forms and of grain."""
    errors.one_of("site", site, SITES)
    errors.one_of("split", split, SPLITS)
    errors.number("index", index, 0, 9999, integer=True)
    errors.number("seed", seed, 0, 2**63, integer=True)
    errors.number("n_patients", n_patients, 1, BLOCK_PATIENTS, integer=True)
    errors.number("scanner_b_share", scanner_b_share, 0, 1)
    key = np.random.SeedSequence(
        [GENERATOR_VERSION, SITES.index(site), SPLITS.index(split), index, seed]
    )
    people, days, forms, grain = (
        np.random.Generator(np.random.PCG64(child)) for child in key.spawn(4)
    )
    patients = _draw_patients(people, site, split, index, scanner_b_share)
    return _draw_days(days, patients, _SITES[site]), forms, grain


def planted_truth() -> pd.DataFrame:
    """Return the effects planted in the private cohort, for tests and the last section of notebook
    04.

    Returns:
        One row per effect: attribute, group, comparison; effect ("harder", "null",
        "harder_when_private"); severity_factor (factor on what is drawn of a finding) and share
        (expected fraction of patients) of the group; findings (scope); contrast_low and
        contrast_high, the range expected of mean AUROC, group minus comparison, for a non-private
        model and 900 test patients, and the same for a private one at epsilon near 1.
    """
    row = truth_table.row
    effects = [
        row(
            "sex",
            "female",
            "male",
            effect="harder",
            factor=FEMALE_SEVERITY,
            share=0.42,
            contrast=(-0.07, -0.01),
            private_contrast=(-0.09, -0.01),
        ),
        row(
            "age_years",
            "80+",
            "under 80",
            effect="harder",
            factor=OLD_SEVERITY,
            share=0.19,
            contrast=(-0.08, -0.01),
            private_contrast=(-0.10, -0.01),
        ),
        row(
            "admission",
            "weekend",
            "weekday",
            effect="null",
            factor=1.0,
            share=2 / 7,
            contrast=(-0.04, 0.04),
            private_contrast=(-0.05, 0.05),
        ),
        row(
            "scanner",
            "B",
            "A",
            effect="harder_when_private",
            factor=SCANNER_B_SEVERITY,
            share=SCANNER_B_SHARE,
            contrast=(-0.07, 0.05),
            private_contrast=(-0.45, -0.04),
        ),
    ]
    return pd.DataFrame(effects)


def _draw_patients(
    rng: np.random.Generator, site: str, split: str, index: int, scanner_b_share: float
) -> pd.DataFrame:
    """Return one row per patient of a block.

    Who they are, and their lasting liability to each finding.
    """
    n = BLOCK_PATIENTS
    age = np.clip(66 + 16 * rng.standard_normal(n), 18, 99).round(1)
    n_comorbidities = np.minimum(rng.poisson(0.45 * np.exp((age - 40) / 28)), 12)
    is_b = (rng.random(n) < scanner_b_share) & _SITES[site]["has_scanner_b"]
    patients = pd.DataFrame(
        {
            "patient_id": [
                f"{_SITES[site]['code']}-{_SPLIT_CODES[split]}-{index * n + i:06d}"
                for i in range(n)
            ],
            "sex": np.where(rng.random(n) < 0.42, "female", "male"),
            "age_years": age,
            "n_comorbidities": n_comorbidities,
            "scanner": np.where(is_b, "B", "A"),
            "admission": np.where(rng.random(n) < 2 / 7, "weekend", "weekday"),
            # Patients on scanner B have more images: ordinary training learns them well, training
            # with a promise to each patient does not.
            "n_images": np.clip(
                1
                + rng.poisson(2.4 * np.exp(0.6 * rng.standard_normal(n) - 0.18))
                + is_b * rng.poisson(2.5, n),
                1,
                8,
            ),
        }
    )
    liability = (
        np.outer((age - 66) / 16, _AGE_LOADING)
        + np.outer((n_comorbidities - 1.2) / 1.3, _COMORBIDITY_LOADING)
        + 0.9 * rng.standard_normal((n, 8))
        + 0.4 * rng.standard_normal((n, 1))
        + _SITES[site]["liability"]
    )
    return patients.join(pd.DataFrame(liability, columns=list(FINDINGS)))


def _draw_days(rng: np.random.Generator, patients: pd.DataFrame, site: dict) -> pd.DataFrame:
    """Return one row per image: the patient's row repeated, with the grades of that day."""
    patient = np.repeat(np.arange(len(patients)), patients["n_images"])
    table = patients.drop(columns="n_images").iloc[patient].reset_index(drop=True)
    liability = table[list(FINDINGS)].to_numpy() + 0.7 * rng.standard_normal((len(table), 8))
    grades = np.floor((liability - _GRADE_1) / _GRADE_STEP) + 1
    table[list(FINDINGS)] = np.clip(grades, 0, 4).astype(np.int64)
    table.insert(
        0,
        "image_id",
        table["patient_id"] + "-" + table.groupby("patient_id").cumcount().astype(str),
    )
    return table.assign(patient=patient)
