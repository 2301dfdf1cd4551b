"""Whether `patient_id` of a manifest can say whose an image is.

In: a manifest, the ids of images and patients. Out: notes, sentences on what is possible but odd.
Raises `InputError` where every image has a patient of its own by name, all have one patient, many
rows have none, or an identifier is cut out of a number. Drawn cohorts are not judged.
"""

import re

import pandas as pd

from helpers.core import errors
from helpers.data.layout_schema import template_columns
from helpers.data.manifest_schema import Manifest

MIN_ROWS_TO_JUDGE = 20  # with fewer, a patient a row may be chance
MANY_BLANK = 0.2  # of the rows without a patient
BLANK = "no patient_id"  # why a row is left out
# what is recorded in place of a patient's identifier; 0 only where no patient is 1
_WORDS = "na n/a nan none null unknown unk anonymous anonymized anonymised anon anonym unbekannt"
PLACEHOLDERS = {"0", "-1", "-", "--", "?", ".", "xxx", *_WORDS.split()}
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
    odd = _patients_alike(patients) + _placeholders(images["patient_id"])
    if len(patients) < len(images) or manifest.one_image_a_patient:
        return odd
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
    if is_enough:
        odd.append(
            f"Each of {len(images):,} images has a patient of its own in"
            f" {manifest.patient_id!r}: is it a patient's name, not an image's or a study's?"
        )
    return odd


def check_blanks(
    manifest: Manifest, rows: pd.DataFrame, reason: pd.Series, where: str
) -> list[str]:
    """Accept rows without a patient, unless each block of rows names its patient on the first only.

    Args:
        manifest: with or without `patient_id`.
        rows: image_id and patient_id of all rows, in the table's order.
        reason: for which the row filter leaves a row out, missing where it stays.
        where: name of the table.

    Returns:
        A note where many rows have no patient.

    Raises:
        InputError: many rows have none, each behind a row that names one for the first time.
    """
    is_blank = (rows["patient_id"] == "") & (rows["image_id"] != "")
    counts = (
        int((is_blank & (reason == BLANK)).sum()),
        int((reason.isna() | (reason == BLANK)).sum()),
    )
    if not manifest.patient_id or counts[0] <= MANY_BLANK * counts[1]:
        return []
    what = f"{counts[0]:,} of {counts[1]:,} rows of {where} have a blank {manifest.patient_id!r}"
    named = rows.loc[rows["patient_id"] != "", "patient_id"]
    n_behind = int((is_blank & ~is_blank.shift(fill_value=True)).sum())
    is_merged = (
        len(rows) > MIN_ROWS_TO_JUDGE
        and not is_blank.iloc[0]
        and n_behind > MANY_BLANK * len(named)
        and named.nunique() > 0.9 * len(named)
    )
    if is_merged and manifest.layout.kind != "dicom_files":
        errors.refuse(
            f"a patient in each row of {where}",
            f"a blank {manifest.patient_id!r} in {counts[0]:,} of {counts[1]:,} rows, {n_behind:,}"
            " times behind a row that names a patient",
            "Likely merged cells, saved as CSV or in Excel: the patient stands in the first row of"
            " several. Unmerge the cells, fill the patient into each row and export again; where"
            " nobody knows the patient, take the rows out of the table.",
        )
    return [f"{what}: these rows are left out."]


def refuse_cut_numbers(manifest: Manifest, text: pd.DataFrame, where: str) -> None:
    """Accept extracted identifiers whose pattern begins and ends at no place between two digits.

    Args:
        manifest: its `patient_id` and `image_id` may read columns of `extract`.
        text: source columns, with the extracted ones.
        where: name of the table.

    Raises:
        InputError: P0(\\d) takes 1 out of P012.
    """
    identifiers = {manifest.patient_id, *template_columns(manifest.image_id)}
    for name, rule in reversed(manifest.extract.items()):
        if name not in identifiers:
            continue
        identifiers.add(rule.column)
        cells = text[rule.column]
        if "(?" in rule.pattern:  # look-ahead and look-behind say what stands around
            continue
        cut = {}
        for cell in cells.unique():
            match = re.search(rule.pattern, cell)
            if match and any(
                re.search(r"\d{2}", cell[max(k - 1, 0) : k + 1]) for k in match.span()
            ):
                cut[cell] = match[1]
        if cut:
            cell, part = next(iter(cut.items()))
            errors.refuse(
                f"`extract.{name}.pattern` to take whole numbers out of {rule.column!r} of {where}",
                f"{part!r} out of {cell!r}, in {int(cells.isin(list(cut)).sum()):,} rows",
                "Different numbers become one. Correct the pattern, e.g. (\\d+); where a part is"
                " meant, let the pattern match the other digits, too: (\\d{2})\\d*.",
            )


def _placeholders(patients: pd.Series) -> list[str]:
    """Return a note where a word for unknown stands in place of several images' patient."""
    counts = patients.str.casefold().value_counts()
    words = sorted(word for word in PLACEHOLDERS & set(counts.index) if counts[word] > 1)
    if "0" in words and "1" in counts.index:
        words.remove("0")
    if not words:
        return []
    return [
        f"patient_id is {' or '.join(map(repr, words))} on {int(counts[words].sum()):,} rows: they"
        " count as one patient. If it means unknown, list it under `missing`."
    ]


def _are_equal(patients: pd.Series, names: pd.Series) -> bool:
    """Return whether patients are called as their images, but for folders and file endings."""
    return all(
        _ENDING.sub("", patient)
        in (_ENDING.sub("", name), _ENDING.sub("", name.rsplit("/", 1)[-1]))
        for patient, name in zip(patients, names)
    )


def _patients_alike(patients: pd.Series) -> list[str]:
    """Return a note where patient ids differ by letter case, leading zeros, ".0", an apostrophe in
    front, wide digits or signs that are not seen only.
    """
    plain = patients.str.normalize("NFKC").str.casefold()
    plain = plain.str.replace(r"[\u200b-\u200f\u2060\ufeff]|^'|\.0+$", "", regex=True)
    plain = plain.str.replace(r"(?<!\w)0+(?=\d)", "", regex=True)
    alike = patients[plain.duplicated(keep=False)]
    if alike.empty:
        return []
    pair = patients[plain == plain[alike.index[0]]].tolist()
    return [
        f"{len(alike):,} patient ids differ from another one in letter case, leading zeros or form"
        f" only, e.g. {', '.join(map(ascii, pair[:3]))}: they count as different patients."
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
