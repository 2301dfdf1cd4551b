"""A data set's rows before an image is opened: the manifest's rules applied, absent files set
aside.

In: a manifest, its raw table and the locations of its images (`layouts.read`). Out: a `Source`: the
rows that can become images of a cohort, and the others with a reason. Raises `InputError` for wrong
columns, values outside the manifest's rules, paths outside the data root, too many absent files.
"""

import dataclasses
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors, fingerprints, paths_inside
from helpers.data.images import nifti_files
from helpers.data.manifest_schema import Manifest
from helpers.data.tables import (
    dicom_tags,
    file_names,
    further_columns,
    image_rows,
    label_rules,
    patient_checks,
    patient_rules,
    repeated_images,
    row_rules,
    rule_checks,
    source_files,
    source_text,
    split_rules,
)

EXCLUDED_COLUMNS = ["row", "image_id", "patient_id", "reason"]


@dataclasses.dataclass
class Source:
    """A data set's rows, before an image was opened.

    rows: a cohort's table (no `split` where it follows from a hash), with `row` (in the source
        table, from 0), what finds the image (`layouts.LOCATION_COLUMNS`), and of a file its
        `bytes`; `mask`, `inverted` if known.
    excluded: `EXCLUDED_COLUMNS`, the rows left out.
    notes: what a reader should know, in sentences.
    """

    rows: pd.DataFrame
    excluded: pd.DataFrame
    notes: list[str]


def apply_rules(
    manifest: Manifest, raw: pd.DataFrame, locations: pd.DataFrame, root: Path | None = None
) -> Source:
    """Apply the manifest's rules to a source table.

    Args:
        manifest: the rules.
        raw: the source table, any column types.
        locations: further columns, passed on unchanged; same index as `raw`.
        root: the data root; needed only where the split is given as lists.

    Raises:
        InputError: a column is absent, a value lies outside its rule, a rule matches nothing, rows
            of one image differ, or a patient is in two given splits.
        Unusable: no row is left.
    """
    where = source_files.table_name(manifest)
    text = row_rules.as_text(manifest, raw, where)
    rows = pd.DataFrame(
        {
            "row": np.arange(len(raw)),
            "image_id": source_text.fill_template(manifest.image_id, text),
        }
    )
    rows["patient_id"] = text[manifest.patient_id] if manifest.patient_id else rows["image_id"]
    reason = row_rules.filter_reasons(manifest, text, rows)
    if "unusable" in locations:
        reason = locations["unusable"].where(locations["unusable"] != "", reason)
    if manifest.split.is_given:
        rows["split"] = split_rules.given_split(manifest, text, rows["image_id"], where, root)
        reason = reason.where(reason.notna() | rows["split"].notna(), "in no given split")
    excluded = rows.assign(reason=reason)[reason.notna()][EXCLUDED_COLUMNS]
    notes = rule_checks.check_cells(manifest, text, excluded, where)
    notes += patient_checks.check_blanks(manifest, rows, reason, where)
    rows, text = rows[reason.isna()], text[reason.isna()]
    if rows.empty:
        rule_checks.refuse_unusable(
            f"at least one usable row in {where}",
            f"none of {len(raw):,}",
            "Correct the table or the manifest.",
            excluded,
        )
    if manifest.split.is_given:
        split_rules.refuse_patient_in_two_splits(rows, where)
    repeated_images.refuse_different(manifest, rows["image_id"], locations, root, where)
    kept, combined, notes_of_rows = _one_row_an_image(manifest, text, rows, locations, where)
    text = text.loc[kept.index]
    notes += patient_checks.check(manifest, kept.join(locations), where)
    labels = kept[list(manifest.findings)]
    kept = kept.drop(columns=list(manifest.findings))
    notes += notes_of_rows + patient_rules.add_patient_columns(manifest, text, kept, where)
    notes += dicom_tags.burnt_in_notes(raw.loc[kept.index])
    columns = kept.join(labels).join(further_columns.of(manifest, text)).join(locations)
    return Source(columns, pd.concat([excluded, combined]), notes)


def _one_row_an_image(
    manifest: Manifest,
    text: pd.DataFrame,
    rows: pd.DataFrame,
    locations: pd.DataFrame,
    where: str,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return the first row of each image with its labels, the other rows with a reason, notes."""
    images = image_rows.images_of(manifest, rows["image_id"], locations.loc[rows.index], where)
    is_kept = row_rules.check(manifest, text, rows["image_id"], images, where)
    kept, n_others = rows[is_kept].copy(), int((~is_kept).sum())
    how, reason = manifest.rows, row_rules.REPEATED
    if how and how.long:
        cells = row_rules.pivoted(manifest, text, rows["image_id"], images, where)
        labels = _labels(manifest, cells, where)
        reason = row_rules.COMBINED
    else:
        cells = text
        labels = _labels(manifest, text, where)
        if how and how.readers:
            labels = row_rules.combined_labels(labels, images, how.readers)
            reason = row_rules.COMBINED
    notes = rule_checks.check_labels(manifest, cells, labels.loc[kept.index], where)
    kept = kept.join(labels)
    others = rows[~is_kept].assign(reason=reason)[EXCLUDED_COLUMNS]
    if n_others:
        notes.append(
            f"{len(rows):,} rows are of {len(kept):,} images: "
            + (
                "one row of each is kept, since the others say the same."
                if reason == row_rules.REPEATED
                else f"labels combined by `rows`, {how.readers or 'a row a finding'}."
            )
        )
    return kept, others, notes


def _labels(manifest: Manifest, text: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a column of labels for each finding."""
    return pd.DataFrame(
        {
            finding: label_rules.labels_of(finding, rule, text, where)
            for finding, rule in manifest.findings.items()
        }
    )


def keep_present(manifest: Manifest, source: Source, root: Path | None) -> Source:
    """Move rows whose file is absent to the excluded ones; images that are drawn are all there.

    Args:
        manifest: how many files must be there, and checksums of tables.
        source: from `apply_rules`.
        root: the data root; None for a drawn cohort.

    Returns:
        The source; its rows have `bytes`, and `mask_bytes` where there are masks: a file that
        comes or changes makes another cohort. Its notes name files that differ from their checksum.

    Raises:
        Unusable: fewer files are there than `min_share_present` of the rows, or none.
    """
    if root is None:
        return source
    rows = source.rows
    sizes = {
        file: _size(paths_inside.path_inside(root, file)) if file else -1
        for file in rows["file"].unique()
    }
    rows = rows.assign(bytes=rows["file"].map(sizes).astype("int64"))
    is_absent = rows["bytes"] < 0
    absent = rows[is_absent]
    is_anywhere = getattr(manifest.layout, "anywhere", False)
    hint = file_names.hint_of_absence(
        absent["file"], rows.loc[~is_absent, "file"], root, is_anywhere
    )
    reason = absent["file"].map(lambda file: _reason_of_absence(root, file))
    excluded = pd.concat([source.excluded, absent.assign(reason=reason)[EXCLUDED_COLUMNS]])
    if 1 - is_absent.mean() < manifest.min_share_present:
        rule_checks.refuse_unusable(
            f"at least {100 * manifest.min_share_present:g}% of {len(rows):,} image files of"
            f" {manifest.name}",
            f"{(~is_absent).sum():,}; absent are {errors.examples(absent['file'].tolist())}",
            "Complete the download, or lower `min_share_present` in the manifest. How to get it: "
            + " ".join(manifest.how_to_get.split())
            + hint,
            excluded,
        )
    notes = source.notes + _checksum_notes(manifest, root)
    if hint:
        notes.append(f"Of {len(absent):,} rows without an image file:{hint}")
    if is_absent.all():
        rule_checks.refuse_unusable(
            f"at least one usable row in {source_files.table_name(manifest)}",
            f"none of {len(rows) + len(source.excluded):,}",
            "Correct the table or the manifest.",
            excluded,
        )
    if "mask" in rows:
        rows = rows.assign(
            mask_bytes=[
                _size(source_files.inside(root, mask)) if mask else -1 for mask in rows["mask"]
            ]
        )
    return Source(rows[~is_absent], excluded, notes)


def _reason_of_absence(root: Path, file: str) -> str:
    """Return why a row without an image file is left out."""
    if file and source_files.inside(root, file).is_dir():
        return f"a folder, not an image file (DICOM? {nifti_files.READ_DICOM})"
    return "image file absent"


def _size(path: Path | str) -> int:
    """Return the size of a regular file in bytes, -1 where there is none."""
    try:
        status = os.stat(path)
    except PermissionError:
        raise
    except OSError:  # absent, a name too long, a loop of links
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _checksum_notes(manifest: Manifest, root: Path) -> list[str]:
    """Return a sentence for each file that differs from the one the manifest was written for."""
    return [
        f"{name} differs from the file this manifest was written for: another release, or damaged."
        for name, checksum in manifest.checksums.items()
        if _size(source_files.inside(root, name)) >= 0
        and fingerprints.file_hash(root / name) != checksum
    ]
