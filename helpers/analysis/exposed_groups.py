"""Whether membership inference succeeds more against some groups of patients than against others.

In: what models with and without each patient say, groups of patients. Out: contrasts with
intervals over patients and models together, verdicts, a sentence.

Source: two-way clustered variance: Cameron, Gelbach and Miller (2011), "Robust inference with
multiway clustering".
"""

import numpy as np
import pandas as pd
from scipy import stats

from helpers.analysis import attack_success, equivalence
from helpers.core import small_counts
from helpers.data import groups

MORE, LESS, TOO_FEW = "more exposed", "less exposed", "too few patients"
INCONCLUSIVE = equivalence.INCONCLUSIVE
GROUP_COLUMNS = (
    "attribute",
    "group",
    "n_patients",
    "auroc",
    "contrast",
    "low",
    "high",
    "share_exposed",
    "p",
    "verdict",
)


def groups_of_patients(
    table: pd.DataFrame, patients: list[str], attributes: list[str], findings: list[str]
) -> pd.DataFrame:
    """Return the groups of each patient.

    Args:
        table: of the cohort, a row an image.
        patients: in the order wanted.
        attributes: of the table, see `groups.add_groups`; a patient whose images are of several
            groups is "several".
        findings: a patient with an image of the finding is "present", else "absent".

    Returns:
        A row a patient: patient_id, a column an attribute and finding, and "images" ("1", "2-3",
        ">= 4").
    """
    grouped = groups.add_groups(table, attributes)
    by_patient = grouped.groupby("patient_id")
    of_patient = pd.DataFrame(index=pd.Index(patients, name="patient_id"))
    for attribute in attributes:
        column = by_patient[f"group_{attribute}"]
        of_patient[attribute] = column.first().where(column.nunique() == 1, "several")
    counts = by_patient.size().reindex(patients)
    of_patient["images"] = np.select([counts == 1, counts < 4], ["1", "2-3"], ">= 4")
    for finding in findings:
        of_patient[finding] = np.where(
            by_patient[finding].max().reindex(patients) == 1, "present", "absent"
        )
    return of_patient.reset_index()


def by_group(
    with_patient: np.ndarray, without: np.ndarray, of_patients: pd.DataFrame, margin: float
) -> pd.DataFrame:
    """Return the mean AUROC against the patients of each group, and the contrast to the others.

    Args:
        with_patient, without: see `attack_success.placements`.
        of_patients: a row a patient, in their order; from `groups_of_patients`.
        margin: a contrast that does not matter, AUROC.

    Returns:
        A row a group: attribute, group, n_patients, auroc, contrast (group - all others), low,
        high (95 %), share_exposed (patients with an AUROC of at least
        `attack_success.EXPOSED`), p (adjusted by
        Holm for all contrasts of the table), verdict: "equivalent" (90 % interval within the
        margin), else "more exposed" or "less exposed" (p < 0.05), "inconclusive", or "too few
        patients", whose number is not said, nor others from which it would follow. Of an
        attribute with two groups, women, those with a finding, or the smaller one.
    """
    inside, outside = attack_success.placements(with_patient, without)
    aurocs, rows = inside.mean(0), []
    for attribute in of_patients.columns.drop("patient_id"):
        names = of_patients[attribute]
        for group in _compared(names):
            chosen = (names == group).to_numpy()
            row = {"attribute": attribute, "group": group, "verdict": TOO_FEW}
            row["n_patients"] = int(chosen.sum())
            if min(chosen.sum(), (~chosen).sum()) < small_counts.FEWEST:
                rows.append(row)
                continue
            contrast, error, freedom = _contrast(inside, outside, chosen)
            wide, narrow = (stats.t.ppf(p, freedom) * error for p in (0.975, 0.95))
            is_within = abs(contrast) + narrow < margin
            rows.append(
                row
                | {
                    "auroc": aurocs[chosen].mean(),
                    "contrast": contrast,
                    "low": contrast - wide,
                    "high": contrast + wide,
                    "share_exposed": (aurocs[chosen] >= attack_success.EXPOSED - 1e-9).mean(),
                    "p": 2 * stats.t.sf(abs(contrast) / max(error, 1e-12), freedom),
                    "verdict": equivalence.EQUIVALENT if is_within else INCONCLUSIVE,
                }
            )
    table = pd.DataFrame(rows, columns=GROUP_COLUMNS).astype({"n_patients": "Int64"})
    table = small_counts.without_small(table, ["n_patients"], ["n_patients"], ["attribute"])
    table.loc[table["verdict"] == TOO_FEW, "n_patients"] = pd.NA  # all others may be few
    known = table["p"].notna()
    table.loc[known, "p"] = equivalence.holm(table.loc[known, "p"].to_numpy(float))
    is_called = (table["p"] < equivalence.ALPHA) & (table["verdict"] != equivalence.EQUIVALENT)
    table.loc[is_called, "verdict"] = np.where(table.loc[is_called, "contrast"] > 0, MORE, LESS)
    return table


def _compared(names: pd.Series) -> list[str]:
    """Return the groups that are compared with all others: of two groups one, as the other says the
    same: women, those with a finding, or the smaller one.
    """
    sizes = names.value_counts()
    if len(sizes) != 2:
        return sorted(sizes.index, key=groups.sort_key)
    return [next((name for name in ("female", "present") if name in sizes), sizes.index[-1])]


def _contrast(
    inside: np.ndarray, outside: np.ndarray, chosen: np.ndarray
) -> tuple[float, float, float]:
    """Return the mean AUROC of a group minus that of the others, its standard error, crossed over
    patients and pairs of models, and the degrees of freedom.
    """
    weight = chosen / chosen.sum() - ~chosen / (~chosen).sum()
    aurocs = inside.mean(0)
    centred = aurocs - np.where(chosen, aurocs[chosen].mean(), aurocs[~chosen].mean())
    # of a pair: both models' parts in each patient's AUROC
    of_cell = weight * (inside + outside - 2 * aurocs) / len(inside)
    of_patient, of_pair = weight * centred, of_cell.sum(axis=1)
    n_pairs, n_fewest = len(inside), min(chosen.sum(), (~chosen).sum())
    variance = (
        (of_patient**2).sum() * n_fewest / (n_fewest - 1)
        + (of_pair**2).sum() * n_pairs / (n_pairs - 1)
        - (of_cell**2).sum()
    )
    largest = max((of_patient**2).sum(), (of_pair**2).sum(), variance)
    return float(aurocs @ weight), float(np.sqrt(largest)), float(min(n_fewest, n_pairs) - 1)


def in_words(table: pd.DataFrame, arm: str) -> str:
    """Return one sentence: are all groups equally protected in this arm?

    Args:
        table: of `by_group`.
        arm: what the sentence calls it.
    """
    exposed, lesser = (table[table["verdict"] == verdict] for verdict in (MORE, LESS))
    n_open, n_few = ((table["verdict"] == verdict).sum() for verdict in (INCONCLUSIVE, TOO_FEW))
    if len(exposed) or len(lesser):
        said = f"{arm}: not equal protection."
        for verdict, rows in ((MORE, exposed), (LESS, lesser)):
            named = "; ".join(
                f"{row.attribute.replace('_', ' ')}: {row.group} {row.contrast:+.3f}"
                f" [{row.low:+.3f}, {row.high:+.3f}]"
                for row in rows.itertuples()
            )
            said += f" {verdict.capitalize()} than all others: {named}." if named else ""
        return said
    if n_open:
        return (
            f"{arm}: no group is shown to be more exposed than the others; {n_open} of"
            f" {len(table) - n_few} contrasts are inconclusive."
        )
    if n_few == len(table):
        return f"{arm}: no group has enough patients."
    return f"{arm}: equal protection within the margin, of groups with enough patients."
