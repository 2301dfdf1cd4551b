"""A drawn cohort as one more layout: its table, and the blocks of patients its images come from.

In: a manifest of layout `synthetic`, the options of a build (`patients` a split, `generator_seed`,
size of an image or volume). Out: the source table, and of each row its block and its index in that
block; a block's images. Raises `InputError` for a manifest written for another generator.
"""

from types import ModuleType

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.manifest_schema import Manifest
from helpers.data.synthetic import abdomen_cohort, chest_cohort


def generator_of(manifest: Manifest) -> ModuleType:
    """Return the module that draws a manifest's site."""
    return abdomen_cohort if manifest.volume else chest_cohort


def blocks(manifest: Manifest, options: dict) -> list[dict]:
    """Return the blocks of patients of a cohort, in order, each as arguments of `draw_table`.

    Args:
        manifest: names the site.
        options: `patients`, how many of each split; `generator_seed`.
    """
    block_patients = generator_of(manifest).BLOCK_PATIENTS
    return [
        dict(
            site=manifest.layout.site,
            split=split,
            index=index,
            seed=options["generator_seed"],
            n_patients=min(block_patients, n_patients - first),
        )
        for split, n_patients in options["patients"].items()
        for index, first in enumerate(range(0, n_patients, block_patients))
    ]


def draw_source(manifest: Manifest, options: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of a drawn cohort, without drawing an image.

    Args:
        manifest: of layout `synthetic`.
        options: see `blocks`.

    Returns:
        raw: a row an image, with its split; findings as the generator grades them.
        locations: `block` (number in `blocks`) and `image_in_block`; same index.

    Raises:
        InputError: the manifest was written for another version of the generator.
    """
    generator = generator_of(manifest)
    if manifest.layout.generator_version != generator.GENERATOR_VERSION:
        errors.refuse(
            f"generator_version {generator.GENERATOR_VERSION} in the manifest {manifest.name}",
            manifest.layout.generator_version,
            "Use the release of the package that this manifest belongs to.",
        )
    tables, locations = [], []
    for number, block in enumerate(blocks(manifest, options)):
        table = generator.draw_table(**block).assign(split=block["split"])
        tables.append(table)
        locations.append(pd.DataFrame({"block": number, "image_in_block": range(len(table))}))
    return pd.concat(tables, ignore_index=True), pd.concat(locations, ignore_index=True)


def draw_images(block: dict, options: dict) -> np.ndarray:
    """Return the images of a block: uint8 films, or int16 volumes in Hounsfield units.

    Args:
        block: one of `blocks`.
        options: `image_px`, or `volume` with `shape` and `spacing_mm`.
    """
    if volume := options.get("volume"):
        size = {name: volume[name] for name in ("shape", "spacing_mm")}
        return abdomen_cohort.draw_block(**block, **size)[0]
    return chest_cohort.draw_block(**block, image_px=options["image_px"])[0]
