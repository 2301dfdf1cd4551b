"""From a block's table to the shapes of its phantoms: anatomy, findings, distractors, exposure.

In: a generator of random numbers, a table with grades, what is known of the site. Out: name ->
float32 array, as `chest_phantom.draw_films` takes it. The planted effects act here. Frozen with the
generator, see `chest_cohort`.
"""

import numpy as np
import pandas as pd

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
BLOCK_PATIENTS = 100

# Planted effects: factors on how strongly a finding is drawn. See `planted_truth`.
FEMALE_SEVERITY, OLD_SEVERITY, SCANNER_B_SEVERITY = 0.77, 0.72, 1.9
OLD_AGE_YEARS = 80

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


def draw_shapes(rng: np.random.Generator, table: pd.DataFrame, site: dict) -> dict[str, np.ndarray]:
    """Return what `chest_phantom.draw_films` draws each image from.

    Args:
        rng: of all forms of a block.
        table: of a whole block: a row an image; `patient` (number in the block), sex, age_years,
            scanner, grades of FINDINGS.
        site: how it acquires images.

    Guarantees: a change of grades changes nothing but what is drawn of those findings; every other
        form stays, because the numbers drawn do not depend on the table.
    """
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
    """Return how strongly each finding is drawn, (n, 8), 0 where absent, planted effects in it."""
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
    """Return size, position and density of the findings; `severity` is (n, 8), as FINDINGS."""
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
    """Return what is on films but is no labelled finding: blunted angles, blobs, bands, lines."""
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
    """Return projection, field and processing: scanner B has less noise, no sharpening, inverts."""
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
