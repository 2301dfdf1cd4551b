"""From rows of a source table to one row an image: `missing`, `extract` and `rows` of a manifest.

In: a manifest and its raw table. Out: the columns that rules read as text, with extracted ones;
which rows are of one image, and their labels combined. Raises `InputError` for a cell in which an
extraction finds nothing, for several rows of an image that no rule combines, and for rows of one
image that differ in more than labels.
"""

import re

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.manifest_schema import Manifest
from helpers.data.tables import image_rows, patient_checks, source_text

_FRACTION_ZERO = r"^([+-]?\d+)\.0*$"
FEW = 0.01  # of the images: as many may be listed under two patients, who are then one
REPEATED, COMBINED = "repeated row of an image", "combined with another row of its image"


def as_text(manifest: Manifest, raw: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the columns that a manifest's rules read as text, and those it extracts.

    Args:
        manifest: `missing` says which cells are blank, `extract` what is taken out of others.
        raw: the source table, any column types.
        where: name of the table, for messages.

    Raises:
        InputError: a column is absent, an extracted one has the name of another, or a cell that is
            not blank does not match the pattern, or an identifier is cut out of a number.
    """
    errors.has_columns(raw, manifest.read_columns, where)
    text = raw[manifest.read_columns].apply(source_text.as_text)
    if manifest.missing:
        missing = {re.sub(_FRACTION_ZERO, r"\1", cell.strip()) for cell in manifest.missing}
        plain = text.replace(_FRACTION_ZERO, r"\1", regex=True)  # -999.0 is -999
        text = text.mask(plain.isin(missing), "")
    taken = [name for name in manifest.extract if name in raw]
    if taken:
        errors.refuse(
            f"new names of columns in `extract` for {where}",
            f"{errors.examples(taken)}, which are there",
            "Rename them in the manifest.",
        )
    text = source_text.with_extracted(text, manifest.extract, where)
    patient_checks.refuse_cut_numbers(manifest, text, where)
    return text


def filter_reasons(manifest: Manifest, text: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """Return the reason for which the row filter leaves a row out, missing where it stays."""
    reason = pd.Series(None, index=text.index, dtype=object)
    for column, values in manifest.keep.items():
        reason[reason.isna() & ~text[column].isin(values)] = (
            f"{column} is not {' or '.join(values)}"
        )
    for column in ("image_id", "patient_id"):
        reason[reason.isna() & (rows[column] == "")] = f"no {column}"
    return reason


def differing(
    text: pd.DataFrame, images: image_rows.Images, columns: list[str]
) -> dict[str, np.ndarray]:
    """Return the columns in which a row differs from the first of its image, and which rows do."""
    differs = {}
    for column in columns:
        cells = text[column].to_numpy()
        is_other = cells != cells[images.first][images.number]
        if is_other.any():
            differs[column] = is_other
    return differs


def check(
    manifest: Manifest,
    text: pd.DataFrame,
    image_id: pd.Series,
    images: image_rows.Images,
    where: str,
) -> np.ndarray:
    """Return which rows stay, where rows of an image are equal, or a rule combines their labels.

    The first row of each image stays. Where few images (`FEW`) are listed under two patients and
    rows are equal in all else, a row of each patient stays: `duplicates` makes these patients one.

    Args:
        manifest: with or without `rows`.
        text: source columns.
        image_id: of each row; same index.
        images: which rows are of one image.
        where: name of the table.

    Returns:
        (n_rows,) whether the row stays.

    Raises:
        InputError: rows of one image differ, in labels without a rule, in anything else with one.
    """
    others = differing(text, images, manifest.image_columns)
    labels = [] if manifest.rows else manifest.label_columns
    differs = others | differing(text, images, labels)
    if not differs:
        return images.is_first
    names = image_id[np.any(list(differs.values()), axis=0)].nunique()
    is_few = names <= FEW * len(images.first)
    if is_few and not manifest.rows and list(differs) == [manifest.patient_id]:
        pairs = pd.DataFrame(
            {"image": images.number, "patient": text[manifest.patient_id].to_numpy()}
        )
        return ~pairs.duplicated().to_numpy()
    column, is_other = next(iter(differs.items()))
    row = is_other.argmax()
    of_image = images.number == images.number[row]
    cells = list(dict.fromkeys(text[column].to_numpy()[of_image]))
    return errors.refuse(
        f"one row an image in {where}" + (", but for labels" if manifest.rows else ""),
        f"{len(text):,} rows of {len(images.first):,} images; rows of {names:,} images differ in"
        f" {errors.examples(list(differs))}, e.g. {image_id.iloc[row]!r} has {int(of_image.sum())}"
        f" rows with {errors.examples(cells)} in {column!r}",
        _way_out(manifest, list(others)),
    )


def _way_out(manifest: Manifest, other_columns: list[str]) -> str:
    """Return what to do about rows of one image that differ."""
    if other_columns:
        return (
            f"`rows` combines labels only, not {errors.examples(other_columns)}: correct the table,"
            " choose rows by `keep`, or give `image_id` as a template that tells images apart."
        )
    listing = [rule.columns[0] for rule in manifest.findings.values() if rule.contains]
    if listing:
        return (
            "A row a finding: add `rows: {readers: any}` to the manifest, or `rows: {long:"
            f" {{finding: {listing[0]}}}}}` with the findings' names as columns. Several readers:"
            " `rows: {readers: majority}`."
        )
    return (
        "Several readers or boxes: add `rows: {readers: majority}`, `any` or `all` to the manifest."
        " A row a finding: `rows: {long: {finding: <column>, value: <column>}}`."
    )


def combined_labels(labels: pd.DataFrame, images: image_rows.Images, how: str) -> pd.DataFrame:
    """Return labels of images from those of their rows.

    Args:
        labels: (n_rows, n_findings) 1, 0 or NaN (unknown).
        images: which rows are of one image.
        how: "majority" of the known labels, unknown at a tie; "any": 1 if one is 1, else unknown if
            one is unknown; "all": 0 if one is 0, else unknown if one is unknown.

    Returns:
        (n_images, n_findings), with the index of each image's first row.
    """
    combined = pd.DataFrame(index=labels.index[images.first])
    for finding, values in labels.items():
        n_rows, positive, negative = (
            np.bincount(images.number, is_counted, len(images.first))
            for is_counted in (np.ones(len(values)), values == 1, values == 0)
        )
        is_sure = positive + negative == n_rows
        known = {
            "majority": (positive > negative, negative > positive),
            "any": (positive > 0, is_sure & (positive == 0)),
            "all": (is_sure & (negative == 0), negative > 0),
        }[how]
        combined[finding] = np.select(known, (1.0, 0.0), np.nan)
    return combined


def pivoted(
    manifest: Manifest,
    text: pd.DataFrame,
    image_id: pd.Series,
    images: image_rows.Images,
    where: str,
) -> pd.DataFrame:
    """Return a row an image of a table with a row a finding: a column each finding's name.

    Args:
        manifest: with `rows.long`.
        text: source columns.
        image_id: of each row; same index.
        images: which rows are of one image.
        where: name of the table.

    Returns:
        (n_images, label columns): the finding's value, "1" where the table has no values, "" where
        the image's rows do not list it.

    Raises:
        InputError: a finding that no row lists, or one with two values for an image.
    """
    rule = manifest.rows.long
    names = text[rule.finding]
    values = text[rule.value].to_numpy() if rule.value else np.full(len(text), "1", object)
    wide = pd.DataFrame(index=text.index[images.first])
    source_text.refuse_lookalikes(
        manifest.label_columns, names.unique(), f"column {rule.finding!r} of {where}", "any_of"
    )
    for name in manifest.label_columns:
        rows = np.flatnonzero(names == name)
        if not len(rows):
            errors.refuse(
                f"rows with {name!r} in column {rule.finding!r} of {where}",
                f"none; it holds {source_text.commonest(names)}",
                source_text.nearest(name, names.unique() if name != rule.finding else [])
                + "With `rows.long` a finding's `column` is a name in that column, e.g."
                f" `column: {names.mode()[0]}, values: {{1: positive}}, blank_means: negative`.",
            )
        cells = np.full(len(images.first), "", object)
        cells[images.number[rows]] = values[rows]
        is_other = cells[images.number[rows]] != values[rows]
        if is_other.any():
            of_image = images.number[rows] == images.number[rows][is_other.argmax()]
            errors.refuse(
                f"one value of {name!r} an image in column {rule.value!r} of {where}",
                f"{errors.examples(list(dict.fromkeys(values[rows][of_image])))} for"
                f" {image_id.iloc[rows[of_image.argmax()]]!r}",
                "Correct the table. Values of several readers need a column a finding and"
                " `rows: {readers: majority}`.",
            )
        wide[name] = cells
    return wide
