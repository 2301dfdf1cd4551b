"""What is suspicious about a data set before an image is opened: right in form, and likely wrong.

In: a manifest and the rows that its rules give (`source_tables.Source.rows`, with `split`). Out:
sentences that say what was seen and why it matters; no row, patient or file is named in them.
Raises nothing.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

import pandas as pd

from helpers.data.manifest_schema import SPLITS, Manifest

FEW_PATIENTS = 10
LONGEST_FOLLOW_UP_YEARS = 15
MANY_GROUPS = 20
MOST_COPIES = 3


def of_rows(manifest: Manifest, rows: pd.DataFrame) -> list[str]:
    """Return all that is suspicious about a data set's rows.

    Args:
        manifest: the rules.
        rows: image_id, patient_id, split, sex, age_years, findings, further columns, and of files
            `file` and `bytes`.
    """
    if rows.empty:
        return []
    return [
        *of_patients(manifest, rows),
        *of_ages(rows),
        *of_labels(list(manifest.findings), rows),
        *of_columns(list(manifest.further_columns), rows),
        *of_files(rows),
    ]


def of_patients(manifest: Manifest, rows: pd.DataFrame) -> Iterator[str]:
    """Yield what speaks against `patient_id` and `sex` as read."""
    if manifest.patient_id is None:
        yield (
            "`patient_id` is null: every image counts as a patient of its own. Privacy is promised"
            " to images, not to people; images of one person can be in training and test. Name the"
            " patient's column if there is one."
        )
        return
    counts = rows["patient_id"].value_counts()
    if len(rows) >= 50 and len(counts) < 10:
        yield (
            f"Only {len(counts)} patients for {len(rows):,} images: does patient_id name a patient?"
        )
    if (
        counts.max() >= 20
        and counts.max() >= 20 * counts.median()
        and counts.max() > len(rows) / 100
    ):
        yield (
            f"One patient has {counts.max():,} images (median {counts.median():g}): often an"
            " identifier that stands for several people, such as a code for unknown."
        )
    if manifest.sex:
        known = rows[rows["sex"] != "unknown"]
        n_patients = int((known.groupby("patient_id")["sex"].nunique() > 1).sum())
        if n_patients:
            yield (
                f"{n_patients:,} patients have two sexes: patient_id may join different people, or"
                " the column is unreliable."
            )
        if known.empty:
            yield "Nobody's sex is known: is `sex.column` the right one?"
        elif known["sex"].nunique() == 1 and len(known) >= 20:
            yield f"All known sexes are {known['sex'].iloc[0]}: is `sex.values` complete?"


def of_ages(rows: pd.DataFrame) -> Iterator[str]:
    """Yield what speaks against the ages as read."""
    ages = rows[["patient_id", "age_years"]].dropna()
    if ages.empty:
        return
    span = ages.groupby("patient_id")["age_years"].agg(lambda age: age.max() - age.min())
    n_jumps = int((span > LONGEST_FOLLOW_UP_YEARS).sum())
    if n_jumps:
        yield (
            f"{n_jumps:,} patients have ages more than {LONGEST_FOLLOW_UP_YEARS} years apart:"
            " patient_id may join different people, or an age is mistyped."
        )
    years = ages.drop_duplicates()["age_years"].round(2)
    counts = years.value_counts()
    if len(years) < 20:
        return
    if counts.get(0, 0) > 0.05 * len(years):
        yield (
            f"Age 0 on {int(counts[0]):,} of {len(years):,} patients: infants, or a code for"
            " unknown? Then list it under `age.missing`."
        )
    piled = counts.drop(0, errors="ignore")
    if len(piled) > 1 and piled.iloc[0] > 0.1 * len(years) and piled.iloc[0] > 3 * piled.iloc[1]:
        yield (
            f"Age {piled.index[0]:g} on {int(piled.iloc[0]):,} of {len(years):,} patients: a code,"
            " or ages cut off there? A cut-off makes one wide group; a code belongs under"
            " `age.missing`."
        )
    if len(counts) > 1 and years.max() < 3:
        yield f"Nobody is older than {years.max():g} years: is `age.unit` right?"


def of_labels(findings: list[str], rows: pd.DataFrame) -> Iterator[str]:
    """Yield what speaks against the labels as read, and findings too rare to be judged."""
    for finding in findings:
        labels = rows[finding]
        known = labels.dropna()
        if labels.isna().mean() > 0.9:
            yield (
                f"{finding} is unknown on {100 * labels.isna().mean():.0f}% of the images: if a"
                " blank cell means absent, say `blank_means: negative`."
            )
        if len(known) >= 50 and known.mean() > 0.95:
            yield (
                f"{finding} is present on {100 * known.mean():.0f}% of the labelled images: is its"
                " rule the wrong way round?"
            )
        few = [
            f"{counts[1]} with and {counts[0]} without it in {split}"
            for split in SPLITS
            if (rows["split"] == split).any()
            for counts in [[_n_patients(rows, split, finding, label) for label in (0, 1)]]
            if min(counts) < FEW_PATIENTS
        ]
        if few:
            yield f"{finding}: too few patients for an AUROC by group: {'; '.join(few)}."
    for split in SPLITS:
        if len(rows) and not (rows["split"] == split).any():
            yield f"No image is in the split {split}: is `split` right?"
    for number, finding in enumerate(findings):
        for other in findings[number + 1 :]:
            if len(rows) >= 20 and rows[finding].equals(rows[other].rename(finding)):
                yield f"{finding} and {other} have the same label on every row: one column twice?"


def _n_patients(rows: pd.DataFrame, split: str, finding: str, label: int) -> int:
    """Return how many patients of a split have an image with this label."""
    return rows.loc[(rows["split"] == split) & (rows[finding] == label), "patient_id"].nunique()


def of_columns(further: list[str], rows: pd.DataFrame) -> Iterator[str]:
    """Yield what speaks against the further columns as groups."""
    for column in further:
        values = rows.loc[rows[column] != "", column].astype(str)
        distinct = values.unique()
        is_date = values.str.match(r"(19|20)\d\d-?[01]\d-?[0-3]\d(\D|$)|\d\d?[./]\d\d?[./]\d{2,4}$")
        if len(values) and is_date.mean() > 0.5:
            yield (
                f"{column} holds dates: they help to identify patients and are kept in the cohort's"
                " table. Leave the column out, or keep a year."
            )
        elif len(distinct) > MANY_GROUPS:
            yield (
                f"{column} has {len(distinct):,} different values: as a group most are too small,"
                " and an identifier does not belong into the cohort's table."
            )
        if len(pd.Series(distinct).str.casefold().unique()) < len(distinct):
            yield f"{column} has values that differ only in case: they become different groups."


def of_files(rows: pd.DataFrame) -> Iterator[str]:
    """Yield what speaks against the files and the images' names."""
    folded = rows["image_id"].str.casefold()
    n_alike = int((folded.duplicated(keep=False) & ~rows["image_id"].duplicated(keep=False)).sum())
    if n_alike:
        yield (
            f"{n_alike:,} image ids differ from another only in case: on some disks they are one"
            " file."
        )
    if "bytes" not in rows:
        return
    n_empty = int((rows["bytes"] == 0).sum())
    if n_empty:
        yield f"{n_empty:,} files have no bytes: copied in part? They are left out as unreadable."
    files = rows.loc[rows["bytes"] > 0, ["file", "bytes"]].drop_duplicates("file")
    names = files["file"].map(lambda file: PurePosixPath(file).name)
    # view1_frontal.jpg in the folder of every study says nothing
    files = files.assign(name=names)[names.map(names.value_counts()) <= MOST_COPIES]
    n_copies = int(files.duplicated(["name", "bytes"]).sum())
    if n_copies:
        yield (
            f"{n_copies:,} files have the name and the size of a file in another folder: copies? An"
            " identical image is kept once."
        )
