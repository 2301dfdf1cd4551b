"""A data set in seconds, before any image is decoded: what is there, what is left out, what is
suspicious.

In: a manifest and a data root. Out: a `Check`, and the same as lines of text.
Raises `InputError` for what building the cohort would refuse
before it opens an image.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data import manifest_schema
from helpers.data.first_look import source_suspicions
from helpers.data.tables import (
    layouts,
    rule_checks,
    source_files,
    source_tables,
    split_rules,
)


@dataclasses.dataclass
class Check:
    """What is known of a data set before an image is opened.

    manifest: its rules.
    n_rows: of the source table.
    unused: columns of the table that no rule reads.
    source: its rows, with `split`, and the rows left out.
    n_absent_files: rows without their file; None before files were looked for.
    """

    manifest: manifest_schema.Manifest
    n_rows: int
    unused: list[str]
    source: source_tables.Source
    n_absent_files: int | None = None


def stages(manifest: manifest_schema.Manifest, data_root: str | Path | None) -> Iterator[Check]:
    """Yield what is known after the table was read, and again after files were looked for.

    Raises:
        InputError: what the manifest's rules refuse; no data set with files.
    """
    if manifest.layout.kind == "synthetic":
        errors.refuse(
            "a data set with files",
            f"{manifest.name}, which is drawn",
            "There is nothing to check.",
        )
    root = source_files.locate(manifest, data_root)
    with source_files.readable():
        raw, locations = layouts.read(manifest, root, {})
        source = source_tables.apply_rules(manifest, raw, locations, root)
        used = {*manifest.read_columns, "table_file"}
        check = Check(
            manifest,
            len(raw),
            [column for column in raw if column not in used],
            _with_split(manifest, source),
        )
        yield check
        present = source_tables.keep_present(manifest, source, root)
        check = dataclasses.replace(
            check,
            source=_with_split(manifest, present),
            n_absent_files=len(source.rows) - len(present.rows),
        )
        yield check
        where = source_files.table_name(manifest)
        rule_checks.check_splits(manifest, check.source.rows, check.source.excluded, where)


def read(manifest: manifest_schema.Manifest, data_root: str | Path | None) -> Check:
    """Return all that is known of a data set before an image is opened.

    Raises:
        InputError: see `stages`.
    """
    *_, check = stages(manifest, data_root)
    return check


def _with_split(
    manifest: manifest_schema.Manifest, source: source_tables.Source
) -> source_tables.Source:
    """Return the source with the split of each row, as it is before identical images are found."""
    rows = source.rows
    units = rows["patient_id"] if manifest.patient_id else rows["image_id"]
    by_hash = units.map(lambda unit: split_rules.hash_split(unit, manifest.split)).astype(object)
    split = (
        rows["split"].mask(rows["split"] == "train", by_hash)
        if manifest.split.is_given
        else by_hash
    )
    return dataclasses.replace(source, rows=rows.assign(split=split))


# ---- tables


def suspicions(check: Check) -> list[str]:
    """Return what is suspicious, a sentence each."""
    return source_suspicions.of_rows(check.manifest, check.source.rows)


def labels_by_split(check: Check) -> pd.DataFrame:
    """Return how many images have each label.

    Returns:
        One row a finding and split: finding, split, positive, negative, unknown.
    """
    rows = check.source.rows
    return pd.DataFrame(
        [
            {
                "finding": finding,
                "split": split,
                "positive": int((labels == 1).sum()),
                "negative": int((labels == 0).sum()),
                "unknown": int(labels.isna().sum()),
            }
            for finding in check.manifest.findings
            for split in manifest_schema.SPLITS
            for labels in [rows.loc[rows["split"] == split, finding]]
        ]
    )


def cohort_bytes(check: Check) -> int:
    """Return the size of the cohort's images on disk, 1 byte a pixel or voxel, as the manifest
    makes them.
    """
    volume = check.manifest.volume
    shape = volume.shape if volume else [check.manifest.image.px] * 2
    return len(check.source.rows) * int(np.prod(shape, dtype=np.int64))


def n_training_patients(check: Check) -> int:
    """Return how many training patients there are; images where patients are not known."""
    train = check.source.rows.query("split == 'train'")
    return train["patient_id" if check.manifest.patient_id else "image_id"].nunique()


# ---- in words


def lines(check: Check) -> list[str]:
    """Return a check as lines of text; only notes of the rules may name a patient."""
    words = _table_in_words(check) | _people_in_words(check)
    given = "as given" if check.manifest.split.is_given else "by a hash of the patient"
    return [
        f"{check.manifest.name}: {check.manifest.title}",
        *(f"  {name:14} {text}" for name, text in words.items() if text),
        "  labels: images with / without / unknown, before identical images are found;"
        f" split {given}",
        *(f"    {line}" for line in _labels_in_words(check)),
        *(f"  note: {note}" for note in check.source.notes),
        *(f"  suspicious: {sentence}" for sentence in suspicions(check)),
    ]


def _table_in_words(check: Check) -> dict[str, str]:
    """Return what is said of rows, columns and files."""
    reasons = check.source.excluded["reason"].value_counts()
    absent = check.n_absent_files
    return {
        "rows": f"{check.n_rows:,} in {source_files.table_name(check.manifest)}",
        "columns read": ", ".join(check.manifest.source_columns),
        "not read": ", ".join(check.unused) or "none",
        "images": f"{len(check.source.rows):,}",
        "absent files": "not looked for" if absent is None else f"{absent:,}",
        "left out": "; ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "none",
        "published": _published(check),
        "disk": f"{cohort_bytes(check) / 1e6:,.1f} MB at the manifest's size, twice that while the"
        " cohort is built",
    }


def _people_in_words(check: Check) -> dict[str, str]:
    """Return what is said of patients, or of images where patients are not known."""
    n_train = n_training_patients(check)
    units = "patients" if check.manifest.patient_id else "images"
    delta = f"DELTA of notebook 03 below 1 / (10 x {n_train:,}) = {1 / (10 * max(n_train, 1)):.1e}"
    rows = check.source.rows
    counts = rows["patient_id"].value_counts()
    people = rows.drop_duplicates("patient_id") if check.manifest.patient_id else rows
    most = f"images of one: median {counts.median():g}, most {counts.max():,}"
    return {
        "patients": f"{len(counts):,}; {most}" if check.manifest.patient_id else "not known",
        "sex": ", ".join(f"{n:,} {sex}" for sex, n in people["sex"].value_counts().items())
        + f" ({units})",
        "age": f"{_ages(people['age_years'])} ({units})",
        "training": f"{n_train:,} {units}; {delta}" if n_train else f"no {units}",
    }


def _labels_in_words(check: Check) -> list[str]:
    """Return the labels by split as lines of a table."""
    table = labels_by_split(check)
    table["images"] = [
        f"{row.positive:,} / {row.negative:,} / {row.unknown:,}" for row in table.itertuples()
    ]
    wide = table.pivot(index="finding", columns="split", values="images")
    wide = wide.loc[list(check.manifest.findings), list(manifest_schema.SPLITS)]
    width = max(map(len, wide.index))
    return [
        f"{finding:{width}}  " + "  ".join(f"{cell:>20}" for cell in cells)
        for finding, cells in [("", wide.columns), *zip(wide.index, wide.to_numpy())]
    ]


def _ages(age_years: pd.Series) -> str:
    """Return the ages in words."""
    known = age_years.dropna()
    if known.empty:
        return "unknown of all"
    return (
        f"{known.min():g} to {known.max():g}, median {known.median():g} years;"
        f" unknown {age_years.isna().sum():,}"
    )


def _published(check: Check) -> str:
    """Return the published sizes beside what is there."""
    rows = check.source.rows
    counts = {
        "rows": check.n_rows,
        "images": len(rows),
        "patients": rows["patient_id"].nunique() if check.manifest.patient_id else 0,
    }
    return ", ".join(
        f"{size:,} {what} ({'the same' if counts[what] == size else f'here {counts[what]:,}'})"
        for what, size in check.manifest.sizes.items()
    )
