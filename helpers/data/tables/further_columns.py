"""Columns of a cohort's table beyond its patients and findings, by a manifest's rules.

In: a manifest and its source columns as text. Out: the further columns, `mask` and `inverted`.
Raises nothing of its own.
"""

import pandas as pd

from helpers.data.manifest_schema import Manifest
from helpers.data.rule_schema import Named
from helpers.data.tables import source_text


def of(manifest: Manifest, text: pd.DataFrame) -> pd.DataFrame:
    """Return further columns, `mask` where volumes have one, `inverted` where a rule says so.

    Args:
        manifest: the rules.
        text: source columns.
    """
    columns = pd.DataFrame(index=text.index)
    for name, rule in manifest.further_columns.items():
        columns[name] = text[rule] if isinstance(rule, str) else _renamed(rule, text[rule.column])
    if manifest.volume and manifest.volume.mask:
        columns["mask"] = source_text.fill_template(manifest.volume.mask, text)
    if rule := manifest.image.inverted:
        columns["inverted"] = text[rule.column].isin(rule.values)
    return columns


def _renamed(rule: Named, text: pd.Series) -> pd.Series:
    """Return a further column with its values renamed; blank stays blank."""
    other = text if rule.other is None else rule.other
    return text.map(rule.values).where(text.isin(list(rule.values)), other).mask(text == "", "")
