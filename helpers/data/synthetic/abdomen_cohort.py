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
from helpers.data.synthetic import abdomen_phantom, truth_table

GENERATOR_VERSION = 2
BLOCK_PATIENTS = 25
SITES = ("ct_public", "ct_private")
SPLITS = ("train", "valid", "test")
FINDINGS = ("pancreatic_cancer",)

# Planted effects. See `planted_truth`.
FEMALE_SIZE, OLD_CONTRAST = 0.74, 0.72  # factors on radius and contrast of a lesion
OLD_AGE_YEARS = 76
SCANNER_B_SHARE, SCANNER_B_CONTRAST = 0.12, 1.35

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

# Anatomy in mm and Hounsfield units: mean, standard deviation between patients, change in women,
# change per 12 years of age, least.
_ANATOMY = {
    "body_x": (158.0, 13.0, -9.0, 0.0, 120.0),
    "body_y": (112.0, 10.0, -6.0, 2.0, 85.0),
    "fat_mm": (15.0, 6.0, 6.0, 0.0, 4.0),
    "liver": (72.0, 7.0, -4.0, 0.0, 50.0),
    "liver_z": (-18.0, 9.0, 0.0, 0.0, -60.0),
    "spleen": (42.0, 6.0, -3.0, 0.0, 25.0),
    "spleen_z": (-30.0, 8.0, 0.0, 0.0, -70.0),
    "aorta": (10.0, 1.2, -1.0, 0.6, 6.0),
    "pancreas": (11.0, 1.4, -0.6, -0.9, 6.5),
    "pancreas_z": (0.0, 9.0, 0.0, 3.0, -40.0),
    "pancreas_y": (0.0, 5.0, 0.0, 0.0, -20.0),
    "pancreas_x": (0.0, 6.0, 0.0, 0.0, -25.0),
    "pancreas_rise": (46.0, 10.0, 0.0, 0.0, 10.0),
    "pancreas_arch": (70.0, 14.0, 0.0, 0.0, 20.0),
    "spleen_hu": (118.0, 9.0, 0.0, 0.0, 80.0),
    "kidney_hu": (165.0, 14.0, 0.0, 0.0, 110.0),
    "stomach_hu": (25.0, 25.0, 0.0, 0.0, -60.0),
    "duodenum_hu": (35.0, 15.0, 0.0, 0.0, 0.0),
    "bowel_hu": (70.0, 18.0, 0.0, 0.0, 20.0),
}


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
    shapes_of_block = _draw_shapes(forms, table, _SITES[site])
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
            contrast=(-0.09, 0.02),
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
            private_contrast=(-0.06, 0.06),
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


def _draw_shapes(
    rng: np.random.Generator, table: pd.DataFrame, site: dict
) -> dict[str, np.ndarray]:
    """Return what `abdomen_phantom.draw_volume` draws each volume from.

    Here the planted effects act.
    """
    n, age = len(table), (table["age_years"].to_numpy() - 65) / 12
    is_female, is_b, has_it = (
        (table[column] == value).to_numpy()
        for column, value in (("sex", "female"), ("scanner", "B"), ("pancreatic_cancer", 1))
    )
    shapes = {
        name: np.maximum(
            mean + sd * rng.standard_normal(n) + female * is_female + per_age * age, least
        )
        for name, (mean, sd, female, per_age, least) in _ANATOMY.items()
    }
    shapes |= {
        name: site[name] + 9 * rng.standard_normal(n) for name in ("liver_hu", "pancreas_hu")
    }
    shapes["aorta_hu"] = site["aorta_hu"] + 25 * rng.standard_normal(n)
    radius = 16.0 * np.exp(0.30 * rng.standard_normal(n)) * np.where(is_female, FEMALE_SIZE, 1.0)
    contrast = (82 + 18 * rng.standard_normal(n)).clip(20) * site["contrast"]
    contrast = contrast * np.where(table["age_years"] >= OLD_AGE_YEARS, OLD_CONTRAST, 1.0)
    lesion_t, dilated, mild = 0.75 * rng.random(n), rng.random(n) < 0.75, rng.random(n) < 0.10
    shapes |= dict(
        lesion=np.where(has_it, radius.clip(5, 28), 0.0),
        lesion_t=lesion_t,
        lesion_contrast=contrast * np.where(is_b, SCANNER_B_CONTRAST, 1.0),
        duct=np.where(
            has_it & dilated,
            3.5 + 2.5 * rng.random(n),
            np.where(mild, 3.0 + 2.0 * rng.random(n), 0.0),
        ),
        duct_from=np.where(has_it, lesion_t, 0.6 * rng.random(n)),
        cyst=np.where(rng.random(n) < 0.12, 4 + 5 * rng.random(n), 0.0),
        cyst_t=rng.random(n),
        phase=rng.random(n),
        size=site["size"] * np.exp(0.05 * rng.standard_normal(n)),
        noise=site["noise"] * np.exp(0.2 * rng.standard_normal(n)) * np.where(is_b, 0.6, 1.0),
        kernel_blur=np.where(is_b, 0.8, site["kernel_blur"]),
        slice_blur=np.where(is_b, 0.1, site["slice_blur"]),
        offset=np.where(is_b, 28.0, 0.0) + 4 * rng.standard_normal(n),
        couch=np.where(is_b, 0.0, site["couch"]),
    )
    shapes |= {f"shift_{axis}": site["shift_mm"] * rng.standard_normal(n) for axis in "zyx"}
    shapes = {name: value.astype(np.float32) for name, value in shapes.items()}
    return shapes | {"bowel": rng.standard_normal((n, 6, 9, 11)).astype(np.float32)}
