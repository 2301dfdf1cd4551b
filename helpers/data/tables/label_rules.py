"""Labels of findings, by a manifest's rules: which cell means present, absent or unknown.

In: a finding's rule and its source columns as text (`row_rules.as_text`). Out: 1, 0 or NaN for each
row; the rules in words. Raises `InputError` for values outside a rule; the message names table,
column and value.
"""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.manifest_schema import Manifest
from helpers.data.rule_schema import Finding
from helpers.data.tables import listed_entries, source_text

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
    """Return labels by `contains`; a cell that lists nothing is blank."""
    entries = listed_entries.of_cells(finding, rule, text, where)
    if rule.known:
        unknown = {cell: bool(listed - set(rule.known)) for cell, listed in entries.items()}
        source_text.refuse_values(
            text,
            text.map(unknown),
            where,
            "entries known for it, "
            + ("in a list" if rule.cell == "list" else f"separated by {rule.separator!r}"),
            f"findings.{finding}.known",
            "".join(
                source_text.nearest(entry, rule.known)
                for entry in sorted(frozenset().union(*entries.values()) - set(rule.known))[:1]
            ),
        )
    positive = text.map(
        {cell: float(bool(listed & set(rule.contains))) for cell, listed in entries.items()}
    )
    lists_nothing = text.map({cell: not listed for cell, listed in entries.items()})
    return positive.mask(lists_nothing, _MEANING[rule.blank_means])


def plain_number(value: str) -> str:
    """Return a number in one form (1.0 and 01 are 1), and true or false in small letters; any other
    text, also long codes, as it is.
    """
    if value.casefold() in ("true", "false"):  # Excel's TRUE is read as True
        return value.casefold()
    if re.fullmatch(r"[+-]?\d{1,15}(\.\d*)?", value):
        return f"{float(value):.15g}"
    return value


def _label_values(finding: str, rule: Finding, text: pd.Series, where: str) -> pd.Series:
    """Return labels by `values`; numbers are compared as numbers (1.0 is 1)."""
    means = _MEANING | {"uncertain": _MEANING[rule.uncertain_means]}
    _refuse_one_number(finding, rule)
    meaning = {plain_number(value): means[name] for value, name in rule.values.items()}
    meaning = {"": _MEANING[rule.blank_means]} | meaning
    values = text.map({cell: plain_number(cell) for cell in text.unique()})
    is_odd = ~values.isin(list(meaning))
    source_text.refuse_values(
        text,
        is_odd,
        where,
        " or ".join(rule.values),
        f"findings.{finding}.values",
        source_text.nearest(text[is_odd].iloc[0], list(rule.values)) if is_odd.any() else "",
    )
    return values.map(meaning).astype(float)


def _refuse_one_number(finding: str, rule: Finding) -> None:
    """Accept `values` in which no number has two meanings."""
    spellings = {}
    for value in rule.values:
        spellings.setdefault(plain_number(value), []).append(value)
    for values in spellings.values():
        if len({rule.values[value] for value in values}) > 1:
            errors.refuse(
                f"one meaning of a number in `findings.{finding}.values`",
                f"{errors.examples(values)}, which are one number",
                "Cells are compared as numbers. Keep one of them, or write these codes in the table"
                " with a letter.",
            )


def with_uncertain(manifest: Manifest, policy: str) -> Manifest:
    """Return a manifest in which every finding's uncertain values mean the same.

    Args:
        manifest: of a data set.
        policy: "positive" (U-ones), "negative" (U-zeros), "unknown" (U-ignore), or "as_manifest".

    Source: Irvin et al. (2019), CheXpert, for the names of the policies.
    """
    if policy == "as_manifest":
        return manifest
    findings = {
        finding: rule.model_copy(update={"uncertain_means": policy})
        for finding, rule in manifest.findings.items()
    }
    return manifest.model_copy(update={"findings": findings})


def has_uncertain(manifest: Manifest) -> bool:
    """Return whether a value of some finding means uncertain."""
    return any("uncertain" in rule.values.values() for rule in manifest.findings.values())


def policies(wanted: list[Manifest], policy: str) -> dict[str, str]:
    """Return what uncertain labels mean in each data set of a study: name -> policy.

    Data sets without such labels keep "as_manifest".

    Args:
        wanted: manifests, the study's cohort first.
        policy: UNCERTAIN_MEANS, see `with_uncertain`.

    Raises:
        InputError: a policy, and no data set has uncertain labels.
    """
    names = {manifest.name: has_uncertain(manifest) for manifest in wanted}
    if policy != "as_manifest" and not any(names.values()):
        errors.refuse(
            f"UNCERTAIN_MEANS = 'as_manifest', as no value means uncertain in {', '.join(names)}",
            repr(policy),
            "Leave it out, or say in the manifest which value is `uncertain`.",
        )
    return {name: policy if is_met else "as_manifest" for name, is_met in names.items()}


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
