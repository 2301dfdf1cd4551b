"""Identical images: which patients they make one, and which images they leave out.

In: a data set's rows and the hash of each image's decoded pixels at their native size (of a volume:
of its scan; of a drawn image: as stored): the same picture in two files is identical, however each
is packed. Out: `Settled`: the rows kept, all rows left out with reasons, notes, how many
patients were made one. Raises `InputError` for two kept images with one id, and for a cohort
without an image.

| identical images | split by hash | given split |
|---|---|---|
| of one patient | all but the first are left out | the same |
| of two patients, same split | the two are one patient, then as above | the same |
| of two patients, two splits | the two are one patient, then as above | the later one goes |
| of two patients, blank (of one value) | both stay, of two patients | the same |

A person under two names is one unit of privacy; a blank image does not say whose it is (decoders
refuse it, but who is one patient must not depend on that). Nothing is left out of a training split
because of *another* patient's data, so that the promise to a patient holds.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data import manifest_schema
from helpers.data.tables import rule_checks, source_tables, split_rules


class Settled(NamedTuple):
    """What became of a data set's rows.

    rows: those kept, in the source's order, with `split`, `sha256`, `pixels_sha256`, `chunk` and
        `index_in_chunk`.
    excluded: `source_tables.EXCLUDED_COLUMNS`, every other row of the source.
    notes: sentences.
    merged: counts in the training split. `ids`: of the source's patient ids that are one patient
        with another id; `units`: of the patients that they are; `largest`: ids of the one with
        most.
    """

    rows: pd.DataFrame
    excluded: pd.DataFrame
    notes: list[str]
    merged: dict[str, int]


def settle(
    manifest: manifest_schema.Manifest, source: source_tables.Source, facts: pd.DataFrame
) -> Settled:
    """Decide what becomes of every row.

    Args:
        manifest: the rules.
        source: its rows.
        facts: one row for each of the source's, see `chunks.facts`.

    Raises:
        InputError: two images kept have one id.
        Unusable: none is kept.
    """
    decoded = source.rows.drop(columns="sha256", errors="ignore").merge(
        facts, on="row", validate="one_to_one"
    )
    rows = decoded[decoded["reason"].isna()]
    # What images of two patients must share to be identical: a blank one shares it with its own
    # patient's only.
    content = rows["pixels_sha256"].where(
        ~rows["is_constant"], rows["pixels_sha256"] + rows["patient_id"]
    )
    unit, merge_notes = _one_patient(
        rows, [content, rows["split"]] if manifest.split.is_given else [content]
    )
    source_ids, rows = rows["patient_id"], rows.assign(patient_id=unit)
    rows = rows.assign(split=_split(manifest, rows))
    reason = _duplicate_reasons(rows, content)
    excluded = pd.concat(
        [
            table[source_tables.EXCLUDED_COLUMNS]
            for table in (
                source.excluded,
                decoded[decoded["reason"].notna()],
                rows.assign(reason=reason)[reason.notna()],
            )
        ]
    )
    kept = rows[reason.isna()].sort_values("row")
    excluded = excluded.sort_values("row", ignore_index=True)
    _refuse_unusable(manifest, kept, excluded)
    return Settled(
        kept,
        excluded,
        [*source.notes, *merge_notes, *_uniform_notes(kept)],
        _merge_counts(rows, source_ids),
    )


def _uniform_notes(kept: pd.DataFrame) -> list[str]:
    """Return a sentence about images that show hardly more than noise, if there are such."""
    uniform = kept.loc[kept["is_nearly_uniform"] & ~kept["is_constant"], "image_id"].tolist()
    if not uniform:
        return []
    return [
        f"{len(uniform)} images are nearly uniform (98 % of their pixels within 4 grey values):"
        f" what they show is noise, e.g. {errors.examples(uniform)}."
    ]


def _split(manifest: manifest_schema.Manifest, rows: pd.DataFrame) -> pd.Series:
    """Return the split of each row: as given, or by a hash; some of a given train becomes valid."""
    by_hash = rows["patient_id"].map(
        lambda patient: split_rules.hash_split(patient, manifest.split)
    )
    if not manifest.split.is_given:
        return by_hash
    return rows["split"].mask(rows["split"] == "train", by_hash)


def _merge_counts(rows: pd.DataFrame, source_ids: pd.Series) -> dict[str, int]:
    """Return how many of the source's patient ids became one training patient with another."""
    ids = source_ids[rows["split"] == "train"].groupby(rows["patient_id"]).nunique()
    ids = ids[ids > 1]
    return {
        "ids": int(ids.sum()),
        "units": len(ids),
        "largest": int(ids.max()) if len(ids) else 0,
    }


def _refuse_unusable(
    manifest: manifest_schema.Manifest, kept: pd.DataFrame, excluded: pd.DataFrame
) -> None:
    """Accept rows only when there is one, and no image id twice."""
    repeated = kept.loc[kept["image_id"].duplicated(), "image_id"].tolist()
    if repeated:
        errors.refuse(
            f"one image an image_id in {manifest.name}",
            f"{len(repeated)} repeated, e.g. {errors.examples(repeated)}",
            "Give `image_id` in the manifest as a template that tells them apart.",
        )
    if kept.empty:
        rule_checks.refuse_unusable(
            f"at least one usable image in {manifest.name}",
            f"none of {len(excluded):,} rows",
            "Look at the files, or correct the manifest.",
            excluded,
        )


def _one_patient(rows: pd.DataFrame, alike: list[pd.Series]) -> tuple[pd.Series, list[str]]:
    """Return patient ids in which patients with an image of the same values in all of `alike` are
    one, named by the smallest id; and a note for each that was several.
    """
    same_as = {patient: patient for patient in rows["patient_id"]}

    def smallest(patient: str) -> str:
        while same_as[patient] != patient:
            patient = same_as[patient]
        return patient

    # nearly all images are of one patient only: those are not looked at one by one
    pairs = pd.DataFrame({"patient_id": rows["patient_id"]} | dict(enumerate(alike)))
    pairs = pairs.drop_duplicates()
    shared = pairs[pairs.duplicated(list(range(len(alike))), keep=False)]
    patients_of_image = shared.groupby(list(range(len(alike))))["patient_id"]
    for _, (first_patient, *other_patients) in patients_of_image:
        for patient in other_patients:
            first, second = sorted((smallest(first_patient), smallest(patient)))
            same_as[second] = first
    unit = rows["patient_id"].map(smallest)
    notes = [
        f"Patients {errors.examples(sorted(set(ids)), 5)} have an identical image and count as one"
        f" patient, {name}."
        for name, ids in rows["patient_id"].groupby(unit.where(unit.isin(_merged(rows, unit))))
    ]
    return unit, notes


def _merged(rows: pd.DataFrame, unit: pd.Series) -> pd.Series:
    """Return the patients that were several."""
    return unit[unit != rows["patient_id"]]


def _duplicate_reasons(rows: pd.DataFrame, content: pd.Series) -> pd.Series:
    """Return why an identical image is left out, missing where it is not."""
    rank = rows["split"].map(manifest_schema.SPLITS.index)
    earliest = rank.groupby(content).transform("min")
    reason = np.where(
        rows.duplicated(["patient_id", "pixels_sha256"]),
        "identical image of the same patient",
        np.where(rank > earliest, "identical image in an earlier split", None),
    )
    return pd.Series(reason, index=rows.index, dtype=object)
