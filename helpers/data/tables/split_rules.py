"""Who is in which split: as the data set gives it, or by a stable hash of the patient.

In: a manifest's `split` and its source columns as text. Out: train, valid or test. Raises
`InputError` for values outside the rule, an image in two lists, lists that are empty or name images
that the table does not have, a patient in two given splits.
"""

import hashlib
from pathlib import Path

import pandas as pd

from helpers.core import errors
from helpers.data.manifest_schema import Manifest
from helpers.data.rule_schema import SplitRule
from helpers.data.tables import read_table, source_files, source_text


def hash_split(patient_id: str, rule: SplitRule) -> str:
    """Return a patient's split by a stable hash: the same on every machine and whoever else is in
    the data.

    Args:
        patient_id: as recorded.
        rule: with `test_share` and `valid_share`, fractions of all patients.
    """
    digest = hashlib.sha256(f"split:{patient_id}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < rule.test_share:
        return "test"
    return "valid" if draw < rule.test_share + rule.valid_share else "train"


def given_split(
    manifest: Manifest,
    text: pd.DataFrame,
    image_id: pd.Series,
    where: str,
    root: Path | None,
) -> pd.Series:
    """Return the split that the data set gives each row, missing where it gives none.

    Args:
        manifest: with `split.column` or `split.lists`.
        text: source columns.
        image_id: of each row; same index.
        where: name of the table, for messages.
        root: the data root; needed for lists only.

    Raises:
        InputError: a value outside the rule, an image in two lists, an empty list, or lines that
            name no row.
    """
    rule = manifest.split
    if rule.column:
        column = text[rule.column]
        source_text.refuse_values(
            column,
            ~column.isin(["", *rule.values]),
            where,
            " or ".join(rule.values),
            "split.values",
        )
        return column.map(rule.values)
    split = pd.Series(None, index=image_id.index, dtype=object)
    for name, path in rule.lists.items():
        lines = read_table.read_lines(source_files.inside(root, path), path)
        _refuse_extra_lines(lines, path, image_id, where, rule)
        is_listed = image_id.isin(pd.Series(lines, dtype=str))
        in_two_lists = image_id[is_listed & split.notna()].tolist()
        if in_two_lists:
            errors.refuse(
                f"each image in one list of {', '.join(rule.lists.values())}",
                f"{len(in_two_lists)} in two, e.g. {errors.examples(in_two_lists)}",
                "Correct the lists.",
            )
        split[is_listed] = name
    return split


def _refuse_extra_lines(
    lines: list[str], path: str, image_id: pd.Series, where: str, rule: SplitRule
) -> None:
    """Accept a list whose every line is an image of the table, or any list that names some where
    the rule ignores other lines.

    Raises:
        InputError: the list is empty, or lines name no image.
    """
    if not lines:
        errors.refuse(f"a line an image in {path}", "an empty file", "Write the list again.")
    images = image_id.drop_duplicates()
    listed = pd.Series(lines, dtype=str).drop_duplicates()
    extra = listed[~listed.isin(images)]
    if len(extra) == len(listed) or (len(extra) and rule.extra_lines == "refuse"):
        cause = source_text.likely_cause(extra, images[~images.isin(listed)])
        errors.refuse(
            f"image ids of {where} in {path}, such as"
            f" {errors.examples(images[images != ''].tolist()[:1])}",
            f"{len(extra):,} of {len(listed):,} lines that are none, e.g."
            f" {errors.examples(extra.tolist())}",
            "Correct the list"
            + (
                ", or write `extra_lines: ignore` under `split` where the table is a part of the"
                " data set."
                if len(extra) < len(listed)
                else "."
            )
            + cause,
        )


def refuse_patient_in_two_splits(rows: pd.DataFrame, where: str) -> None:
    """Accept a given split only when no patient is in two of its parts.

    Raises:
        InputError: some are; names three.
    """
    pairs = rows[["patient_id", "split"]].drop_duplicates()
    shared = sorted(pairs.loc[pairs["patient_id"].duplicated(), "patient_id"].unique())
    if shared:
        errors.refuse(
            f"no patient in two splits of {where}",
            f"{len(shared)}, e.g. {errors.examples(shared)}",
            "Correct the split, or remove it from the manifest: patients are then split by a hash.",
        )
