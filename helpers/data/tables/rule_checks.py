"""Rules of a manifest that match nothing, found before an image is decoded.

In: a manifest and its source columns as text, or the rows of a cohort. Out: notes, sentences on
what is possible but odd. Raises `InputError` for a rule that matches no row, and for a finding
without positive or without negative images; `Unusable` where no image is left. Drawn cohorts are
not judged: few drawn patients may have none of a finding.
"""

import re

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.manifest_schema import SPLITS, Manifest
from helpers.data.rule_schema import Finding
from helpers.data.tables import label_rules, listed_entries, source_text

_OTHER_SEPARATORS = re.compile(r"[|,;/\n\t]")


class Unusable(errors.InputError):
    """A data set of which no cohort can be made; `excluded` has every row left out, with reason."""

    def __init__(self, message: str, excluded: pd.DataFrame) -> None:
        """Keep the rows left out: row, image_id, patient_id, reason."""
        super().__init__(message)
        self.excluded = excluded


def refuse_unusable(expected: str, got: str, do: str, excluded: pd.DataFrame) -> None:
    """Raise `Unusable` with the house's one-line message, the commonest reasons in it.

    Raises:
        Unusable: always.
    """
    reasons = [f"{why} ({n:,} rows)" for why, n in excluded["reason"].value_counts().items()]
    commonest = f"; left out: {'; '.join(reasons[:3])}" if reasons else ""
    raise Unusable(f"Expected {expected}; got {got}{commonest}. {do}", excluded)


def check_cells(
    manifest: Manifest, text: pd.DataFrame, excluded: pd.DataFrame, where: str
) -> list[str]:
    """Accept `keep` and `image.inverted` where their values are spelt as in the table.

    Returns:
        A note for each value of `keep`, `sex`, `split`, `further_columns` and `image.inverted` that
        no row has.

    Args:
        manifest: the rules.
        text: source columns of all rows.
        excluded: the rows left out, with reason.
        where: name of the table.

    Raises:
        Unusable: a column of `keep` has none of its values.
        InputError: another spelling of a value of `keep` or `image.inverted` occurs as well.
    """
    if manifest.layout.kind == "synthetic" or text.empty:
        return []
    notes = []
    for column, values in manifest.keep.items():
        cells = text[column]
        absent = [value for value in values if not (cells == value).any()]
        if len(absent) == len(values):
            refuse_unusable(
                f"a row of {where} with {column!r} of {' or '.join(map(repr, values))}",
                f"none; it holds {source_text.commonest(cells)}",
                f"{source_text.nearest(values[0], cells.unique())}Correct `keep` in the manifest.",
                excluded,
            )
        field = f"keep.{column}"
        source_text.refuse_lookalikes(values, cells.unique(), f"column {column!r}", field)
        notes += [_never(field, value, cells) for value in absent]
    mapped = [
        (rule.column, field, rule.values)
        for rule, field in ((manifest.sex, "sex.values"), (manifest.split, "split.values"))
        if rule and rule.column
    ]
    mapped += [
        (rule.column, f"further_columns.{name}.values", rule.values)
        for name, rule in manifest.further_columns.items()
        if not isinstance(rule, str)
    ]
    if inverted := manifest.image.inverted:
        field = "image.inverted.values"
        mapped.append((inverted.column, field, inverted.values))
        source_text.refuse_lookalikes(
            inverted.values,
            text[inverted.column].unique(),
            f"column {inverted.column!r} of {where}",
            field,
        )
    for column, field, values in mapped:
        cells = text[column]
        notes += [_never(field, value, cells) for value in values if not (cells == value).any()]
    return notes


def check_labels(
    manifest: Manifest, text: pd.DataFrame, labels: pd.DataFrame, where: str
) -> list[str]:
    """Accept findings that some images have and others not; return notes.

    Args:
        manifest: the rules.
        text: the label columns of the rows that are used.
        labels: of the images, a column a finding.
        where: name of the table.

    Raises:
        InputError: `contains` matches no entry, misses another spelling or sees another separator;
            a finding is present, or absent, in no image.
    """
    if manifest.layout.kind == "synthetic":
        return []
    notes = []
    for finding, rule in manifest.findings.items():
        cells = pd.concat([text[column] for column in rule.columns])
        if rule.contains:
            notes += _check_entries(finding, rule, cells.rename(text[rule.columns[0]].name), where)
        if rule.values:
            numbers = {label_rules.plain_number(cell) for cell in cells.unique()}
            notes += [
                _never(f"findings.{finding}.values", value, cells)
                for value in rule.values
                if label_rules.plain_number(value) not in numbers
            ]
        positive, negative = (int((labels[finding] == value).sum()) for value in (1, 0))
        if not positive or not negative:
            unknown = len(labels) - positive - negative
            errors.refuse(
                f"images with and without {finding} in {where}",
                f"{positive:,} with, {negative:,} without, {unknown:,} unknown; column"
                f" {' or '.join(map(repr, rule.columns))} holds {source_text.commonest(cells)}",
                _label_hint(finding, rule, cells, negative == 0),
            )
    return notes


def _check_entries(finding: str, rule: Finding, cells: pd.Series, where: str) -> list[str]:
    """Accept the entries of `contains` when one occurs, spelt and separated in one way."""
    entries = listed_entries.of_cells(finding, rule, cells, where)
    existing = sorted(frozenset().union(*entries.values()))
    field, column = f"findings.{finding}.contains", f"column {cells.name!r} of {where}"
    absent = [entry for entry in rule.contains if entry not in existing]
    if not rule.known:
        parts = {
            part.strip(): entry
            for entry in existing
            if entry not in rule.contains
            for part in (_OTHER_SEPARATORS.split(entry) if rule.cell == "separated" else [])
        }
        hidden = [entry for entry in rule.contains if entry in parts]
        if hidden:
            errors.refuse(
                f"{hidden[0]!r} in {column} between separators {rule.separator!r}",
                f"the one entry {parts[hidden[0]]!r}",
                f"Set `findings.{finding}.separator`, or list all entries in `known`.",
            )
        source_text.refuse_lookalikes(
            rule.contains if len(absent) < len(rule.contains) else [], existing, column, field
        )
    if len(absent) == len(rule.contains):
        errors.refuse(
            f"a row of {where} that lists {' or '.join(map(repr, rule.contains))} in {column}",
            f"none; it holds {source_text.commonest(cells)}",
            f"{source_text.nearest(rule.contains[0], existing)}Correct `{field}` in the manifest.",
        )
    notes = [_never(field, entry, existing) for entry in absent]
    return notes + ([] if rule.known else listed_entries.near_notes(finding, rule, cells, entries))


def _label_hint(finding: str, rule: Finding, cells: pd.Series, is_without_negative: bool) -> str:
    """Return what to do about a finding that all images have, or none."""
    if is_without_negative and (cells == "").any() and rule.blank_means == "unknown":
        return (
            f"If a blank cell means absent, set `findings.{finding}.blank_means: negative`;"
            " otherwise leave the finding out."
        )
    return f"Correct `findings.{finding}` in the manifest, or leave the finding out."


def _never(field: str, value: str, existing: pd.Series | list[str]) -> str:
    """Return a note on a value of a rule that does not occur."""
    return f"No row has {value!r} of `{field}`. {source_text.nearest(value, set(existing))}".strip()


def check_splits(
    manifest: Manifest, rows: pd.DataFrame, excluded: pd.DataFrame, where: str
) -> list[str]:
    """Accept a cohort whose training images have each finding and lack it; return notes.

    Args:
        manifest: the rules.
        rows: of the cohort, with `split` and its findings.
        excluded: every other row with its reason.
        where: name of the table.

    Raises:
        Unusable: no training image has a finding, or none is without it.
    """
    if manifest.layout.kind == "synthetic":
        return []
    notes = []
    for split in SPLITS:
        labels = rows.loc[rows["split"] == split, list(manifest.findings)]
        for finding in manifest.findings if len(labels) else []:
            counts = [int((labels[finding] == value).sum()) for value in (1, 0)]
            if all(counts):
                continue
            if split == "train":
                refuse_unusable(
                    f"training images with and without {finding} in {where}",
                    f"{counts[0]:,} with and {counts[1]:,} without among"
                    f" {len(labels):,} (of all {len(rows):,} images"
                    f" {int(np.nansum(rows[finding])):,} with)",
                    "Give the training split more patients, or leave the finding out of the"
                    " manifest.",
                    excluded,
                )
            notes.append(
                f"Of {len(labels):,} images in {split}, {counts[0]:,} have {finding} and"
                f" {counts[1]:,} do not: no AUROC of it there."
            )
    return notes
