"""Draw the embedded CT cohorts: volumes of the upper abdomen, with and without a tumour of the
pancreas, of two sites.

In: a site, a split, the index of a block of patients, a seed. Out: volumes in Hounsfield units and
a table, one row per volume. Raises `InputError` for unknown sites and splits. One volume a patient.
A block depends on nothing but its own key, as in `chest_cohort`; effects are planted on purpose.
The generator is frozen: a change of any label or voxel asks for a new GENERATOR_VERSION.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.synthetic import abdomen_phantom, abdomen_shapes, truth_table
from helpers.data.synthetic.abdomen_shapes import FEMALE_SIZE

GENERATOR_VERSION = 2
BLOCK_PATIENTS = 25
SITES = ("ct_public", "ct_private")
SPLITS = ("train", "valid", "test")
FINDINGS = ("pancreatic_cancer",)
SCANNER_B_SHARE = 0.12  # of the private patients

# How a site acquires volumes and whom it admits; Hounsfield units where not said otherwise.
_SITES = {
    "ct_public": dict(
        code="pb",
        prevalence=0.5,
        pancreas_hu=112.0,
        liver_hu=100.0,
        aorta_hu=230.0,
        noise=14.0,
        kernel_blur=0.3,
        slice_blur=0.3,
        couch=0.0,
        size=1.0,
        shift_mm=7.0,
        contrast=1.1,
        has_scanner_b=False,
    ),
    "ct_private": dict(
        code="pv",
        prevalence=0.45,
        pancreas_hu=92.0,
        liver_hu=112.0,
        aorta_hu=160.0,
        noise=17.0,
        kernel_blur=0.45,
        slice_blur=0.55,
        couch=1000.0,
        size=1.07,
        shift_mm=10.0,
        contrast=1.0,
        has_scanner_b=True,
    ),
}
_SPLIT_CODES = {"train": "tr", "valid": "va", "test": "te"}


def draw_block(
    site: str,
    split: str,
    index: int,
    seed: int,
    shape: tuple[int, int, int] = (32, 64, 64),
    spacing_mm: tuple[float, float, float] = (3.5, 2.5, 2.5),
    n_patients: int = BLOCK_PATIENTS,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw the volumes and the table of one block of patients.

    Args:
        site: one of SITES.
        split: "train", "valid" or "test"; no patient is in two.
        index: which block, 0 or more; patients are numbered index * BLOCK_PATIENTS onwards.
        seed: of the whole cohort, 0 or more.
        shape: depth, height, width in voxels.
        spacing_mm: along the same; the patients are the same whatever both are.
        n_patients: the first so many patients of the block, 1 to BLOCK_PATIENTS.

    Returns:
        volumes: (n, *shape) int16 Hounsfield units, head first, front first, the patient's right on
            the viewer's left.
        table: n rows in the same order; image_id, patient_id, sex ("female"/"male"), age_years
            (25-95), scanner ("A"/"B"), admission ("weekday"/"weekend"), pancreatic_cancer (1 or 0),
            and lesion: "z y x radius" in mm from the middle, or "".

    Guarantees: equal arguments give equal results; fewer patients give a prefix of the whole block.

    Raises:
        InputError: an argument outside its range.
    """
    table, shapes, grain = _draw_patients_and_shapes(site, split, index, seed, n_patients)
    volumes = np.empty((n_patients, *shape), np.int16)
    for number, patient_shapes in enumerate(shapes):
        volume = abdomen_phantom.draw_volume(
            patient_shapes, grain.standard_normal(shape, dtype=np.float32), spacing_mm
        )
        volumes[number] = np.rint(np.clip(volume, -1024, 3000))
    return volumes, table


def draw_table(
    site: str, split: str, index: int, seed: int, n_patients: int = BLOCK_PATIENTS
) -> pd.DataFrame:
    """Return the table of `draw_block` without drawing a volume; the arguments are the same."""
    return _draw_patients_and_shapes(site, split, index, seed, n_patients)[0]


def _draw_patients_and_shapes(
    site: str, split: str, index: int, seed: int, n_patients: int
) -> tuple[pd.DataFrame, list[SimpleNamespace], np.random.Generator]:
    """Return the table of a block's first patients, the shapes of each, the generator of grain."""
    errors.one_of("site", site, SITES)
    errors.one_of("split", split, SPLITS)
    errors.number("index", index, 0, 9999, integer=True)
    errors.number("seed", seed, 0, 2**63, integer=True)
    errors.number("n_patients", n_patients, 1, BLOCK_PATIENTS, integer=True)
    key = np.random.SeedSequence(
        [GENERATOR_VERSION, 2 + SITES.index(site), SPLITS.index(split), index, seed]
    )
    people, forms, grain = (np.random.Generator(np.random.PCG64(child)) for child in key.spawn(3))
    table = _draw_patients(people, site, split, index)
    shapes_of_block = abdomen_shapes.draw_shapes(forms, table, _SITES[site])
    shapes = [
        SimpleNamespace(**{name: values[number] for name, values in shapes_of_block.items()})
        for number in range(n_patients)
    ]
    return table.iloc[:n_patients].assign(lesion=[*map(_lesion_text, shapes)]), shapes, grain


def _lesion_text(p: SimpleNamespace) -> str:
    """Return "z y x radius" of a patient's lesion in mm from the middle of the volume, or ""."""
    if not p.lesion:
        return ""
    values = (*abdomen_phantom.lesion_place(p), p.lesion * p.size)
    return " ".join(f"{value:.1f}" for value in values)


def planted_truth() -> pd.DataFrame:
    """Return the effects by sex and admission planted in the private cohort, with ranges for 325
    test patients.

    A range is the truth among 10,000 patients and two standard errors of 325 on each side, so that
    chance is in it (`benchmarks/results/ct_planted_truth.json`). Age (lesions of lower contrast
    from OLD_AGE_YEARS on) and scanner B are left out.

    Returns:
        Columns as of `chest_cohort.planted_truth`.
    """
    row = truth_table.row
    effects = [
        row(
            "sex",
            "female",
            "male",
            effect="harder",
            factor=FEMALE_SIZE,
            share=0.45,
            contrast=(-0.08, 0.03),
            private_contrast=(-0.09, 0.04),
        ),
        row(
            "admission",
            "weekend",
            "weekday",
            effect="null",
            factor=1.0,
            share=2 / 7,
            contrast=(-0.06, 0.06),
            private_contrast=(-0.07, 0.07),
        ),
    ]
    return pd.DataFrame(effects)


def _draw_patients(rng: np.random.Generator, site: str, split: str, index: int) -> pd.DataFrame:
    """Return one row per patient of a block."""
    n, about = BLOCK_PATIENTS, _SITES[site]
    age = np.clip(65 + 12 * rng.standard_normal(n), 25, 95).round(1)
    names = [f"{about['code']}ct-{_SPLIT_CODES[split]}-{index * n + i:06d}" for i in range(n)]
    # Who is older more often has the tumour; the odds are multiplied by about 1.4 in 12 years.
    odds = (
        about["prevalence"] / (1 - about["prevalence"]) * (1 + 0.4 * (age - 65) / 12).clip(0.2, 2.5)
    )
    return pd.DataFrame(
        {
            "image_id": names,
            "patient_id": names,
            "sex": np.where(rng.random(n) < 0.45, "female", "male"),
            "age_years": age,
            "scanner": np.where(
                (rng.random(n) < SCANNER_B_SHARE) & about["has_scanner_b"], "B", "A"
            ),
            "admission": np.where(rng.random(n) < 2 / 7, "weekend", "weekday"),
            "pancreatic_cancer": (rng.random(n) < odds / (1 + odds)).astype(np.int64),
        }
    )
