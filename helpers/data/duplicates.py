"""Identical images: which patients they make one, and which images they leave out.

In: a data set's rows and the hash of each image file (of a volume: of its scan). Out: the rows
kept, all rows left out with reasons, notes, and how many patients were made one.
Refuses: two kept images with one id, and a cohort without an image.

| identical images | split by hash | given split |
|---|---|---|
| of one patient | all but the first are left out | the same |
| of two patients, same split | the two are one patient, then as above | the same |
| of two patients, two splits | the two are one patient, then as above | the later of train, valid, test goes |
| of two patients, blank (of one value) | both stay, of two patients | the same |

A person under two names is one unit of privacy; a blank image does not say whose it is (decoders
refuse it, but who is one patient must not depend on that). Nothing is left out of a training split
because of *another* patient's data, so that the promise to a patient holds.
"""

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data import label_rules, manifest_schema, source_tables


def settle(
    manifest: manifest_schema.Manifest, source: source_tables.Source, facts: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, list[str], dict[str, int]]:
    """Decide what becomes of every row.

    Args:
        manifest: the rules.
        source: its rows; with `part` and `at` for images that were drawn.
        facts: of all parts; for files one row for each of the source's: row, sha256, reason,
            is_constant, part, at.

    Returns:
        rows: those kept, in the source's order, with `split`, `part` and `at`.
        excluded: `source_tables.EXCLUDED_COLUMNS`, every other row of the source.
        notes: sentences.
        merged: counts in the training split. `ids`: of the source's patient ids that are one
            patient with another id; `units`: of the patients that they are; `largest`: ids of the
            one with most.

    Raises:
        InputError: two images kept have one id, or none is kept.
    """
    rows, excluded, notes = source.rows, [source.excluded], list(source.notes)
    if "sha256" in facts:
        rows = rows.drop(columns="sha256", errors="ignore").merge(
            facts, on="row", validate="one_to_one"
        )
        excluded.append(rows[rows["reason"].notna()])
        rows = rows[rows["reason"].isna()]
    source_ids = rows["patient_id"]
    if "sha256" in facts:
        # What images of two patients must share to be identical: a blank one shares it with its own
        # patient's only.
        alike = rows["sha256"].where(~rows["is_constant"], rows["sha256"] + rows["patient_id"])
        unit, merges = _one_patient(
            rows, [alike, rows["split"]] if manifest.split.is_given else [alike]
        )
        rows, notes = rows.assign(patient_id=unit), notes + merges
    by_hash = rows["patient_id"].map(
        lambda patient: label_rules.hash_split(patient, manifest.split)
    )
    given = rows["split"] if manifest.split.is_given else pd.Series("train", index=rows.index)
    # some of a given train becomes valid
    rows = rows.assign(split=given.mask(given == "train", by_hash))
    ids = source_ids[rows["split"] == "train"].groupby(rows["patient_id"]).nunique()
    ids = ids[ids > 1]
    merged = {
        "ids": int(ids.sum()),
        "units": len(ids),
        "largest": int(ids.max()) if len(ids) else 0,
    }
    if "sha256" in facts:
        reason = _duplicate_reasons(rows, alike)
        excluded.append(rows.assign(reason=reason)[reason.notna()])
        rows = rows[reason.isna()]
    twice = rows.loc[rows["image_id"].duplicated(), "image_id"].tolist()
    if twice:
        errors.refuse(
            f"one image an image_id in {manifest.name}",
            f"{len(twice)} repeated, e.g. {errors.examples(twice)}",
            "Give `image_id` in the manifest as a template that tells them apart.",
        )
    if rows.empty:
        errors.refuse(
            f"at least one usable image in {manifest.name}",
            "none",
            "Correct `keep` in the manifest, or look at the files.",
        )
    left_out = pd.concat([part[source_tables.EXCLUDED_COLUMNS] for part in excluded]).sort_values(
        "row", ignore_index=True
    )
    return rows.sort_values("row"), left_out, notes, merged


def _one_patient(rows: pd.DataFrame, alike: list[pd.Series]) -> tuple[pd.Series, list[str]]:
    """Return patient ids in which patients with an image of the same values in all of `alike` are
    one, named by the smallest id.
    """
    named = {patient: patient for patient in rows["patient_id"]}

    def find(patient: str) -> str:
        while named[patient] != patient:
            patient = named[patient]
        return patient

    for _, patients in rows.groupby(alike)["patient_id"]:
        first = find(patients.iloc[0])
        for patient in patients.unique():
            one, other = sorted((find(first), find(patient)))
            named[other] = one
    merged = rows["patient_id"].map(find)
    notes = [
        f"Patients {errors.examples(sorted(set(ids)), 5)} have an identical image and count as one"
        f" patient, {unit}."
        for unit, ids in rows["patient_id"].groupby(merged)
        if ids.nunique() > 1
    ]
    return merged, notes


def _duplicate_reasons(rows: pd.DataFrame, alike: pd.Series) -> pd.Series:
    """Return why an identical image is left out, missing where it is not."""
    rank = rows["split"].map(manifest_schema.SPLITS.index)
    earliest = rank.groupby(alike).transform("min")
    within = rows.duplicated(["patient_id", "sha256"])
    reason = np.where(
        within,
        "identical image of the same patient",
        np.where(rank > earliest, "identical image in an earlier split", None),
    )
    return pd.Series(reason, index=rows.index, dtype=object)
