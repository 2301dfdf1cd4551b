"""Whether `patient_id` of a manifest can say whose an image is.

In: a manifest, the ids of images and patients. Out: notes, sentences on what is possible but odd.
Raises `InputError` where every image has a patient of its own by name, or all have one patient.
Drawn cohorts are not judged.
"""

import re

import pandas as pd

from helpers.core import errors
from helpers.data.layout_schema import template_columns
from helpers.data.manifest_schema import Manifest

MIN_ROWS_TO_JUDGE = 20  # with fewer, a patient a row may be chance
_ENDING = re.compile(r"(\.(png|jpe?g|tiff?|bmp|gif|jp2|dcm|dicom|nii|gz|npy|mha))+$", re.IGNORECASE)


def check(manifest: Manifest, images: pd.DataFrame, where: str) -> list[str]:
    """Accept patient ids that can tell whose an image is; return notes.

    Args:
        manifest: `one_image_a_patient` confirms that every image has a patient of its own.
        images: image_id, patient_id and, if known, file; each image once.
        where: name of the table.

    Raises:
        InputError: every image has a patient of its own by name, without that confirmation; or all
            have the same.
    """
    is_known = manifest.patient_id and manifest.layout.kind != "synthetic"
    if not is_known or len(images) < 2:
        return []
    patients = images["patient_id"].drop_duplicates()
    is_enough = len(images) > MIN_ROWS_TO_JUDGE
    if is_enough and len(patients) == 1:
        errors.refuse(
            f"`patient_id: {manifest.patient_id}` to say whose an image is in {where}",
            f"{patients.iloc[0]!r} in all {len(images):,} rows",
            "Name the patient's column.",
        )
    if len(patients) < len(images) or manifest.one_image_a_patient:
        return _patients_alike(patients)
    is_image = is_enough and manifest.patient_id in _sources_of_image_id(manifest)
    if is_image or any(
        _are_equal(patients, images[name]) for name in ("image_id", "file") if name in images
    ):
        errors.refuse(
            f"`patient_id: {manifest.patient_id}` to say whose an image is in {where}",
            f"another one in each of {len(images):,} rows, as the image's name, e.g."
            f" {errors.examples(patients.tolist())}",
            "Name the patient's column, or take the patient out of another column by `extract`. If"
            " each patient has one image, confirm with `one_image_a_patient: true`; if nobody knows"
            " whose an image is, set `patient_id: null` (privacy of images only).",
        )
    notes = _patients_alike(patients)
    if is_enough:
        notes.append(
            f"Each of {len(images):,} images has a patient of its own in"
            f" {manifest.patient_id!r}: is it a patient's name, not an image's or a study's?"
        )
    return notes


def _are_equal(patients: pd.Series, names: pd.Series) -> bool:
    """Return whether patients are called as their images, but for folders and file endings."""
    return all(
        _ENDING.sub("", patient)
        in (_ENDING.sub("", name), _ENDING.sub("", name.rsplit("/", 1)[-1]))
        for patient, name in zip(patients, names)
    )


def _patients_alike(patients: pd.Series) -> list[str]:
    """Return a note where patient ids differ by letter case or leading zeros only."""
    plain = patients.str.casefold().str.replace(r"(?<!\w)0+(?=\d)", "", regex=True)
    alike = patients[plain.duplicated(keep=False)]
    if alike.empty:
        return []
    pair = patients[plain == plain[alike.index[0]]].tolist()
    return [
        f"{len(alike):,} patient ids differ from another one in letter case or leading zeros only,"
        f" e.g. {errors.examples(pair)}: they count as different patients."
    ]


def _sources_of_image_id(manifest: Manifest) -> set[str]:
    """Return the columns that names of images are made of, and those extracted from one of them."""
    templates = manifest.image_id, getattr(manifest.layout, "image_path", "")
    sources = {column for template in templates for column in template_columns(template)}
    for name, rule in reversed(manifest.extract.items()):
        if name in sources:
            sources.add(rule.column)
    for name, rule in manifest.extract.items():
        if rule.column in sources:
            sources.add(name)
    return sources
