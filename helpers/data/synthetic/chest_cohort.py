"""Draw the embedded cohorts: chest phantoms of two sites, with effects planted in known places.

In: a site, a split, the index of a block of patients, a seed. Out: images of 8 bit and a table, one
row per image.
Refuses: unknown sites and splits, sizes outside the range drawn for. A block depends on nothing but
its own key: a larger cohort contains the smaller one, and blocks can be drawn in any order.
The generator is frozen: a change of any label or image asks for a new GENERATOR_VERSION.
"""

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.synthetic import chest_phantom

FINDINGS = (
    "cardiomegaly",
    "congestion",
    "pleural_effusion_right",
    "pleural_effusion_left",
    "pneumonic_infiltrates_right",
    "pneumonic_infiltrates_left",
    "atelectasis_right",
    "atelectasis_left",
)
GENERATOR_VERSION = 1
BLOCK_PATIENTS = 100
SITES = ("public", "private")
SPLITS = ("train", "valid", "test")

# Planted effects: factors on how strongly a finding is drawn. See `planted_truth`.
FEMALE_SEVERITY, OLD_SEVERITY, SCANNER_B_SEVERITY = 0.77, 0.72, 1.9
OLD_AGE_YEARS = 80
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
_GRADE_SEVERITY = np.array([0.0, 0.6, 0.9, 1.2, 1.6])
_SEVERITY = 1.7  # how easy the cohort is

# Anatomy: mean, standard deviation between patients, change in women, change per 16 years of age,
# least value.
_ANATOMY = {
    "lung_width": (0.30, 0.02, -0.016, 0.0, 0.2),
    "lung_height": (0.60, 0.04, -0.035, -0.02, 0.4),
    "heart": (0.27, 0.025, -0.012, 0.012, 0.15),
    "body": (0.86, 0.05, 0.0, 0.0, 0.6),
    "density": (0.60, 0.05, 0.0, -0.02, 0.3),
    "asymmetry": (0.0, 0.02, 0.0, 0.0, -1.0),
    "breast": (0.09, 0.05, 0.0, 0.0, 0.0),  # women only
    "rib_count": (3.4, 0.3, 0.0, 0.0, 1.0),
    "rib_contrast": (0.055, 0.018, 0.0, -0.009, 0.0),
    "kyphosis": (0.0, 0.025, 0.0, 0.02, -1.0),
    "aorta": (0.06, 0.03, 0.0, 0.02, 0.0),
}
# Places within a lung, from its axis and in x or y of the film; the same ranges on both sides.
_FINDING_PLACES = {
    "infiltrate_radius": (0.11, 0.20),
    "infiltrate_width": (0.7, 1.3),
    "infiltrate_x": (-0.18, 0.18),
    "infiltrate_y": (-0.45, 0.40),
    "atelectasis_y": (0.0, 0.32),
    "atelectasis_width": (0.035, 0.055),
}
_DISTRACTOR_PLACES = {
    "blob_x": (-0.2, 0.2),
    "blob_y": (-0.5, 0.4),
    "blob_radius": (0.06, 0.18),
    "band_y": (-0.4, 0.4),
}


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
        ValueError: an argument outside its range.
    """
    errors.number("image_px", image_px, 32, 512, integer=True)
    table, forms, grain = _draw_whole_table(site, split, index, seed, n_patients, scanner_b_share)
    shapes = _draw_shapes(forms, table, _SITES[site])
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
    table, *_ = _draw_whole_table(site, split, index, seed, n_patients, scanner_b_share)
    is_kept = table["patient"] < n_patients
    return table[is_kept].drop(columns="patient").reset_index(drop=True)


def _draw_whole_table(
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
    return pd.DataFrame(
        [
            (
                "sex",
                "female",
                "male",
                "harder",
                FEMALE_SEVERITY,
                0.42,
                "all",
                -0.07,
                -0.01,
                -0.09,
                -0.01,
            ),
            (
                "age_years",
                "80+",
                "under 80",
                "harder",
                OLD_SEVERITY,
                0.19,
                "all",
                -0.08,
                -0.01,
                -0.10,
                -0.01,
            ),
            (
                "admission",
                "weekend",
                "weekday",
                "null",
                1.0,
                2 / 7,
                "all",
                -0.04,
                0.04,
                -0.05,
                0.05,
            ),
            (
                "scanner",
                "B",
                "A",
                "harder_when_private",
                SCANNER_B_SEVERITY,
                SCANNER_B_SHARE,
                "all",
                -0.07,
                0.05,
                -0.45,
                -0.04,
            ),
        ],
        columns=[
            "attribute",
            "group",
            "comparison",
            "effect",
            "severity_factor",
            "share",
            "findings",
            "contrast_low",
            "contrast_high",
            "private_contrast_low",
            "private_contrast_high",
        ],
    )


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
            # Patients on scanner B have more images: ordinary training learns them well, a promise
            # per
            # patient does not.
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


def _draw_shapes(
    rng: np.random.Generator, table: pd.DataFrame, site: dict
) -> dict[str, np.ndarray]:
    """Return what `chest_phantom.draw_films` draws each image from."""
    severity = _severity(rng, table, site)
    shapes = (
        _anatomy(rng, table) | _finding_shapes(rng, severity) | _distractors(rng, len(table), site)
    )
    shapes |= _exposure(rng, len(table), site, (table["scanner"] == "B").to_numpy())
    shapes["heart"] = shapes["heart"] + shapes.pop("heart_growth") + site["heart"]
    return {
        name: (
            value.astype(np.float32).reshape(
                value.shape if value.ndim == 3 else (*value.shape, 1, 1)
            )
        )
        for name, value in shapes.items()
    }


def _severity(rng: np.random.Generator, table: pd.DataFrame, site: dict) -> np.ndarray:
    """Return how strongly each finding is drawn, (n, 8), 0 where absent.

    Here the planted effects act.
    """
    grades = table[list(FINDINGS)].to_numpy()
    factor = (
        _SEVERITY
        * site["severity"]
        * np.where(table["sex"] == "female", FEMALE_SEVERITY, 1.0)
        * np.where(table["age_years"] >= OLD_AGE_YEARS, OLD_SEVERITY, 1.0)
        * np.where(table["scanner"] == "B", SCANNER_B_SEVERITY, 1.0)
    )
    return (
        factor[:, None] * _GRADE_SEVERITY[grades] * np.exp(0.3 * rng.standard_normal(grades.shape))
    )


def _anatomy(rng: np.random.Generator, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what stays from film to film of a patient; it depends on sex and age."""
    is_female = (table["sex"] == "female").to_numpy(float)
    age = (table["age_years"].to_numpy() - 66) / 16
    shapes = {}
    for name, (mean, sd, female, per_age, least) in _ANATOMY.items():
        personal = rng.standard_normal(BLOCK_PATIENTS)[table["patient"]]
        shapes[name] = np.maximum(mean + sd * personal + female * is_female + per_age * age, least)
    shapes["breast"] = shapes["breast"] * is_female
    return shapes


def _finding_shapes(rng: np.random.Generator, severity: np.ndarray) -> dict[str, np.ndarray]:
    """Return size, place and density of the findings.

    `severity` is (n, 8) in the order of FINDINGS.
    """
    n = len(severity)
    effusion, infiltrate, atelectasis = severity[:, 2:4], severity[:, 4:6], severity[:, 6:8]
    return _uniform_by_side(rng, n, _FINDING_PLACES) | dict(
        heart_growth=severity[:, 0] * np.maximum(0.052 + 0.015 * rng.standard_normal(n), 0)
        + 0.014 * rng.standard_normal(n),
        congestion=0.10 * severity[:, 1] + 0.02 * rng.standard_normal(n),
        effusion=0.17 * np.minimum(effusion, 2.5),
        effusion_height=0.06 + 0.05 * np.minimum(effusion, 3) + 0.28 * rng.random((n, 2)) ** 2,
        infiltrate=0.26 * infiltrate,
        atelectasis=0.17 * atelectasis,
        atelectasis_slope=0.35 * rng.standard_normal((n, 2)),
        volume_loss=(atelectasis > 0) * np.maximum(0.08 + 0.06 * rng.standard_normal((n, 2)), 0),
    )


def _distractors(rng: np.random.Generator, n: int, site: dict) -> dict[str, np.ndarray]:
    """Return what is seen on films but is no labelled finding.

    Blunted angles, blobs, bands, lines.
    """
    return _uniform_by_side(rng, n, _DISTRACTOR_PLACES) | dict(
        blunting=0.06 * np.abs(rng.standard_normal((n, 2))),
        blob=(rng.random((n, 2)) < 0.35) * 0.07 * np.exp(0.5 * rng.standard_normal((n, 2))),
        band=(rng.random((n, 2)) < 0.30) * 0.05 * np.exp(0.5 * rng.standard_normal((n, 2))),
        band_slope=0.5 * rng.standard_normal((n, 2)),
        line=0.18 * (rng.random(n) < site["line_share"]),
        line_x=0.25 * rng.standard_normal(n),
        line_slope=0.4 * rng.standard_normal(n),
        line_end=0.6 * rng.random(n),
        phase=rng.random(n),
    )


def _exposure(
    rng: np.random.Generator, n: int, site: dict, is_b: np.ndarray
) -> dict[str, np.ndarray]:
    """Return projection, field and processing.

    Scanner B has less noise, does not sharpen, and inverts.
    """
    return dict(
        scale=site["scale"] * np.exp(site["scale_sd"] * rng.standard_normal(n)),
        tilt=site["tilt"] * rng.standard_normal(n),
        shift_x=site["shift"] * rng.standard_normal(n),
        shift_y=site["low"] + site["shift"] * rng.standard_normal(n),
        inspiration=0.05 * rng.standard_normal(n),
        aeration=0.36 + 0.04 * rng.standard_normal(n),
        field=site["field_sd"] * rng.standard_normal((n, 6, 6)),
        contrast=np.full(n, site["contrast"]),
        offset=0.04 * rng.standard_normal(n),
        noise=np.where(is_b, 0.5, 1.0) * site["noise"],
        blur=np.where(is_b, 0.0, site["blur"]),
        sharpening=np.where(is_b, 0.0, site["sharpening"]),
        tone=np.exp(site["tone"] + 0.18 * rng.standard_normal(n)),
        inverted=is_b.astype(float),
        frame=np.where(rng.random(n) < site["frame_share"], 0.86 + 0.14 * rng.random(n), 2.0),
    )


def _uniform_by_side(rng: np.random.Generator, n: int, ranges: dict) -> dict[str, np.ndarray]:
    """Return name -> (n, 2), uniform between the two numbers given for the name."""
    return {name: low + (high - low) * rng.random((n, 2)) for name, (low, high) in ranges.items()}
