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
from helpers.data.synthetic import chest_patients, chest_phantom, chest_shapes, truth_table
from helpers.data.synthetic.chest_shapes import (
    BLOCK_PATIENTS,
    FEMALE_SEVERITY,
    FINDINGS,
    OLD_AGE_YEARS,
    OLD_SEVERITY,
    SCANNER_B_SEVERITY,
)

GENERATOR_VERSION = 1
SITES = ("public", "private")
SPLITS = ("train", "valid", "test")
SCANNER_B_SHARE = 0.06  # of the private patients

# What `draw_with_and_without` shows: a finding and the scanner.
EXAMPLES = (
    ("cardiomegaly", "A"),
    ("pneumonic_infiltrates_right", "A"),
    ("pleural_effusion_left", "A"),
    ("pleural_effusion_left", "B"),
)
_BLOCKS_SEARCHED = 10  # for a clear example of each


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
    shapes = chest_shapes.draw_shapes(forms, table, chest_patients.SITE_TRAITS[site])
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
    patients = chest_patients.draw_patients(people, site, split, index, scanner_b_share)
    return chest_patients.draw_days(days, patients), forms, grain


def draw_with_and_without(site: str, seed: int, image_px: int) -> pd.DataFrame:
    """Draw the same patients with and without a finding, for a reader who has never seen one.

    Of each of EXAMPLES the training patient is taken who shows it most, with the fewest others.
    Both films have the same random forms and grain; without the finding, its grade is 0.

    Args:
        site: one of SITES; examples of scanner B are left out where there is none.
        seed: of the whole cohort.
        image_px: height and width, 32 to 512.

    Returns:
        Two rows an example, with the finding and without: finding, scanner, image_id, is_present,
        pixels ((image_px, image_px) uint8), and x, y: where the two films differ most, from the
        left and from the top, 0 to 1 (NaN without the finding).
    """
    tables = {index: draw_table(site, "train", index, seed) for index in range(_BLOCKS_SEARCHED)}
    images = pd.concat(tables, names=["index", "row"])
    others = images[list(FINDINGS)].sum(axis=1)
    rows = []
    for finding, scanner in EXAMPLES:
        candidates = images[(images["scanner"] == scanner) & (images[finding] > 0)]
        if candidates.empty:
            continue
        order = candidates.assign(others=others - candidates[finding])
        index, row = order.sort_values([finding, "others"], ascending=[False, True]).index[0]
        films = [
            _draw_one(site, int(index), seed, row, image_px, absent) for absent in (None, finding)
        ]
        difference = np.abs(films[0].astype(np.float32) - films[1])
        spread = chest_phantom.box_mean(difference[None], max(1, image_px // 24))[0]
        y, x = (np.array(np.unravel_index(spread.argmax(), spread.shape)) + 0.5) / image_px
        image_id = images.loc[(index, row), "image_id"]
        rows.append([finding, scanner, image_id, True, films[0], x, y])
        rows.append([finding, scanner, image_id, False, films[1], np.nan, np.nan])
    columns = ["finding", "scanner", "image_id", "is_present", "pixels", "x", "y"]
    return pd.DataFrame(rows, columns=columns)


def _draw_one(
    site: str, index: int, seed: int, row: int, image_px: int, absent: str | None
) -> np.ndarray:
    """Return one film of a training block, without one finding if that is named."""
    table, forms, grain = _draw_block_table(
        site, "train", index, seed, BLOCK_PATIENTS, SCANNER_B_SHARE
    )
    if absent:
        table[absent] = 0
    shapes = chest_shapes.draw_shapes(forms, table, chest_patients.SITE_TRAITS[site])
    of_row = {name: value[row : row + 1] for name, value in shapes.items()}
    return chest_phantom.draw_films(of_row, grain, image_px)[0]


def planted_truth() -> pd.DataFrame:
    """Return the effects planted in the private cohort, for tests and for notebook 04.

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
            f"{OLD_AGE_YEARS}+",
            f"under {OLD_AGE_YEARS}",
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
