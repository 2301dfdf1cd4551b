"""From a block's table to the shapes of its phantoms: organs, lesion, duct, acquisition.

In: a generator of random numbers, a table, what is known of the site. Out: name -> float32 array,
one value a patient, as `abdomen_phantom.draw_volume` takes it. The planted effects act here. Frozen
with the generator, see `abdomen_cohort`.
"""

import numpy as np
import pandas as pd

# Planted effects. See `planted_truth`.
FEMALE_SIZE, OLD_CONTRAST = 0.74, 0.72  # factors on radius and contrast of a lesion
OLD_AGE_YEARS = 76
SCANNER_B_CONTRAST = 1.35

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


def draw_shapes(rng: np.random.Generator, table: pd.DataFrame, site: dict) -> dict[str, np.ndarray]:
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
