"""The patients of a chest cohort: who they are, their liability to findings, grades of each day.

In: generators of random numbers, a site, a split, the index of a block. Out: a row a patient, then
a row an image. Frozen with the generator, see `chest_cohort`.
"""

import numpy as np
import pandas as pd

from helpers.data.synthetic.chest_shapes import BLOCK_PATIENTS, FINDINGS

# How a site acquires images and whom it admits; `scale` above 1 shows more around the chest.
SITE_TRAITS = {
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


def draw_patients(
    rng: np.random.Generator, site: str, split: str, index: int, scanner_b_share: float
) -> pd.DataFrame:
    """Return one row per patient of a block: who they are, their lasting liability to findings."""
    n = BLOCK_PATIENTS
    age = np.clip(66 + 16 * rng.standard_normal(n), 18, 99).round(1)
    n_comorbidities = np.minimum(rng.poisson(0.45 * np.exp((age - 40) / 28)), 12)
    is_b = (rng.random(n) < scanner_b_share) & SITE_TRAITS[site]["has_scanner_b"]
    patients = pd.DataFrame(
        {
            "patient_id": [
                f"{SITE_TRAITS[site]['code']}-{_SPLIT_CODES[split]}-{index * n + i:06d}"
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
        + SITE_TRAITS[site]["liability"]
    )
    return patients.join(pd.DataFrame(liability, columns=list(FINDINGS)))


def draw_days(rng: np.random.Generator, patients: pd.DataFrame) -> pd.DataFrame:
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
