"""Labels of findings, by a manifest's rules: which cell means present, absent or unknown.

In: a finding's rule and its source columns as text (`source_text.as_text`). Out: 1, 0 or NaN for
each row; the rules in words. Raises `InputError` for values outside a rule; the message names
table, column and value.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers.data import source_text
from helpers.data.manifest_schema import Manifest
from helpers.data.rule_schema import Finding

_MEANING = {"positive": 1.0, "negative": 0.0, "unknown": np.nan}


def labels_of(finding: str, rule: Finding, text: pd.DataFrame, where: str) -> pd.Series:
    """Return 1, 0 or NaN for each row; of several columns 1 if any is 1, else NaN if any is NaN."""
    labels = pd.concat(
        [_rule_of(rule)(finding, rule, text[column], where) for column in rule.columns], axis=1
    )
    return labels.max(axis=1).where(labels.eq(1).any(axis=1) | labels.notna().all(axis=1))


def _rule_of(rule: Finding) -> Callable:
    """Return the function of the one rule a finding has."""
    return (
        _label_grades
        if rule.positive_grades
        else _label_entries
        if rule.contains
        else _label_values
    )


def _label_grades(finding: str, rule: Finding, text: pd.Series, where: str) -> pd.Series:
    """Return labels by `positive_grades`."""
    numbers = source_text.numbers(text)
    source_text.refuse_values(
        text,
        (text != "") & ~numbers.isin(rule.grades),
        where,
        f"grades {', '.join(map(str, rule.grades))}",
        f"findings.{finding}.grades",
    )
    return (
        numbers.isin(rule.positive_grades)
        .astype(float)
        .mask(text == "", _MEANING[rule.blank_means])
    )


def _label_entries(finding: str, rule: Finding, text: pd.Series, where: str) -> pd.Series:
    """Return labels by `contains`: a cell lists entries between separators."""
    entries = {
        cell: {entry.strip() for entry in cell.split(rule.separator)} for cell in text.unique()
    }
    if rule.known:
        source_text.refuse_values(
            text,
            (text != "") & ~text.map(lambda cell: entries[cell] <= set(rule.known)),
            where,
            f"entries known for it, separated by {rule.separator!r}",
            f"findings.{finding}.known",
        )
    positive = text.map(
        {
            cell: float(bool(entries_of_cell & set(rule.contains)))
            for cell, entries_of_cell in entries.items()
        }
    )
    return positive.mask(text == "", _MEANING[rule.blank_means])


def _label_values(finding: str, rule: Finding, text: pd.Series, where: str) -> pd.Series:
    """Return labels by `values`; numbers are compared as numbers (1.0 is 1)."""

    def plain(value: str) -> str:
        try:
            return f"{float(value):g}"
        except ValueError:
            return value

    means = _MEANING | {"uncertain": _MEANING[rule.uncertain_means]}
    meaning = {plain(value): means[name] for value, name in rule.values.items()} | {
        "": _MEANING[rule.blank_means]
    }
    values = text.map({cell: plain(cell) for cell in text.unique()})
    source_text.refuse_values(
        text,
        ~values.isin(list(meaning)),
        where,
        " or ".join(rule.values),
        f"findings.{finding}.values",
    )
    return values.map(meaning).astype(float)


def describe(manifest: Manifest) -> pd.DataFrame:
    """Return the label rules in words.

    Returns:
        One row a finding: finding, canonical, source, positive_if, alternative, blank.
    """

    def grades(values: list[int]) -> str:
        return f"grade {', '.join(map(str, values))}" if values else "-"

    def words(rule: Finding) -> str:
        positive = [value for value, meaning in rule.values.items() if meaning == "positive"]
        return (
            f"{grades(rule.positive_grades)} of {rule.grades[0]} to {rule.grades[-1]}"
            if rule.grades
            else (
                f"lists {' or '.join(rule.contains)}"
                if rule.contains
                else f"is {' or '.join(positive)}"
            )
        )

    return pd.DataFrame(
        [
            {
                "finding": finding,
                "canonical": rule.meaning,
                "source": " or ".join(rule.columns),
                "positive_if": words(rule),
                "alternative": grades(rule.alternative_positive_grades),
                "blank": rule.blank_means,
            }
            for finding, rule in manifest.findings.items()
        ]
    )
