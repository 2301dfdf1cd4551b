"""Small tables that show who is in a cohort: counts by split, prevalences by group, rows worth
showing.

In: a cohort's table or record. Out: tidy tables and sentences for notebook 01 and its figures. A
missing value is counted, never dropped. Of data that are not open, counts of few patients and ages
of single ones are missing.
"""

import numpy as np
import pandas as pd

from helpers.core import small_counts
from helpers.data import groups, manifest_schema
from helpers.data.images import decode_volume

MIN_PATIENTS_TO_LEARN = 1000
RARE = "left out for rarer reasons"


def by_split(table: pd.DataFrame, access: str) -> pd.DataFrame:
    """Return one row a split: images, patients, images_per_patient, female_percent (of patients
    whose sex is known), sex_unknown and age_unknown (patients), age_years_median, age_years_min,
    age_years_max. Of data that are not open, counts of few patients are missing, and the youngest
    and oldest age, which are single patients'.

    Args:
        table: a cohort's table.
        access: to its data.
    """
    results = {}
    for split in manifest_schema.SPLITS:
        images = table[table["split"] == split]
        patients = images.drop_duplicates("patient_id")
        known_sex = patients.loc[patients["sex"] != "unknown", "sex"]
        age = patients["age_years"]
        results[split] = {
            "images": len(images),
            "patients": len(patients),
            "images_per_patient": len(images) / len(patients) if len(patients) else np.nan,
            "female_percent": 100 * (known_sex == "female").mean() if len(known_sex) else np.nan,
            "sex_unknown": len(patients) - len(known_sex),
            "age_unknown": int(age.isna().sum()),
            "age_years_median": age.median(),
            "age_years_min": age.min(),
            "age_years_max": age.max(),
        }
    counts = ["images", "patients", "sex_unknown", "age_unknown"]
    splits = pd.DataFrame(results).T.astype(dict.fromkeys(counts, int))
    if small_counts.is_open(access):
        return splits
    splits[["age_years_min", "age_years_max"]] = np.nan
    known = splits["patients"] - splits["sex_unknown"]
    women = (splits["female_percent"].fillna(0) * known / 100).round()
    splits = splits.assign(women=women, men=known - women)
    of_sex = ["sex_unknown", "women", "men"]
    splits = small_counts.without_small(splits, of_sex, ["sex_unknown", "female_percent"])
    splits = small_counts.without_small(splits, ["age_unknown"], ["age_unknown"])
    everything = [column for column in splits if column not in ("women", "men")]
    splits = small_counts.without_small(splits, ["patients"], everything)
    return splits.drop(columns=["women", "men"])


def size_verdict(table: pd.DataFrame) -> str:
    """Return a sentence on whether there are enough training patients for DP-SGD.

    With fewer than MIN_PATIENTS_TO_LEARN the noise added to a step is as large as the mean of the
    per-patient gradients, and delta, which must lie far below 1 / patients, leaves hardly a choice.

    Args:
        table: a cohort's table.
    """
    n_patients = table.loc[table["split"] == "train", "patient_id"].nunique()
    if n_patients < MIN_PATIENTS_TO_LEARN:
        return (
            f"Its {n_patients:,} training patients are far too few for DP-SGD: what follows shows"
            " that the software works, and no AUROC from it is a result."
        )
    return (
        f"Its {n_patients:,} training patients are enough to try DP-SGD; its cost in AUROC at this"
        " size is the study's question."
    )


def exclusions(record: dict) -> pd.DataFrame:
    """Return what became of the source's rows: one row a reason, then the images kept and the sum
    of all. Of data that are not open, reasons of few rows are one, with as many more as make it
    large; where all together are few, nothing but the images kept is said.

    Args:
        record: a cohort's record.

    Guarantees: the counts above the last add up to it.
    """
    reasons, n_rare = sorted(record["exclusions"].items(), key=lambda item: -item[1]), 0
    if not small_counts.is_open(record.get("access")):
        while reasons and (
            reasons[-1][1] < small_counts.FEWEST or 0 < n_rare < small_counts.FEWEST
        ):
            n_rare += reasons.pop()[1]
    if 0 < n_rare < small_counts.FEWEST:
        return pd.DataFrame([("kept", record["n_images"])], columns=["what became of it", "rows"])
    counts = [*reasons, *([(RARE, n_rare)] if n_rare else []), ("kept", record["n_images"])]
    counts.append(("rows of the source", sum(count for _, count in counts)))
    return pd.DataFrame(counts, columns=["what became of it", "rows"])


def notes(record: dict) -> list[str]:
    """Return what was noticed while building a cohort, in sentences; they name patients, so only of
    open data.

    Args:
        record: a cohort's record.
    """
    if not record["notes"]:
        return [f"{record['cohort']}: nothing else was noticed."]
    if not small_counts.is_open(record["access"]):
        return [
            f"{record['cohort']}: {len(record['notes'])} notes in its record.json, not shown as"
            " they name patients."
        ]
    return [f"{record['cohort']}: {note}" for note in record["notes"]]


def prevalence_by_group(
    table: pd.DataFrame, findings: list[str], attribute: str, access: str
) -> pd.DataFrame:
    """Return how often each finding is present among images, by group, with an interval that counts
    patients.

    Args:
        table: a cohort's table.
        findings: names of finding columns.
        attribute: as in `groups.add_groups`, e.g. "sex" or "age".
        access: to its data; where they are not open, cells with few patients with or without the
            finding are missing, and others from which these would follow.

    Returns:
        One row a finding and group: finding, group, n_patients and n_images (of known label),
        prevalence, low, high (95 %; all in 0..1). The interval is Wilson's for the number of
        independent images that would be as informative. A group without a known label has no row.

    Source: Kish (1965), "Survey Sampling" (design effect); Wilson (1927), J Am Stat Assoc
    22:209-212.
    """
    grouped, results = groups.add_groups(table, [attribute]), []
    for finding in findings:
        labelled = grouped[grouped[finding].notna()]
        names = labelled[f"group_{attribute}"].unique()
        for name in sorted(
            names, key=lambda name: (name == groups.UNKNOWN, name.startswith(">"), name)
        ):
            rows = labelled[labelled[f"group_{attribute}"] == name]
            low, high = _wilson_interval(rows[finding], rows["patient_id"])
            n_with, n_without = (
                rows.loc[rows[finding] == label, "patient_id"].nunique() for label in (1, 0)
            )
            results.append(
                {
                    "finding": finding,
                    "group": name,
                    "n_patients": rows["patient_id"].nunique(),
                    "n_images": len(rows),
                    "prevalence": rows[finding].mean(),
                    "low": low,
                    "high": high,
                    "n_with": n_with,
                    "n_without": n_without,
                }
            )
    cells = pd.DataFrame(results)
    if not small_counts.is_open(access):
        shown = ["n_patients", "n_images", "prevalence", "low", "high"]
        cells = small_counts.without_small(cells, ["n_with", "n_without"], shown, ["finding"])
    return cells.drop(columns=["n_with", "n_without"])


def prevalence_by_split(table: pd.DataFrame, findings: list[str], access: str) -> pd.DataFrame:
    """Return `prevalence_by_group` with the splits in place of groups, in a column `split`.

    Args:
        table, findings, access: see there.
    """
    named = table.assign(part=table["split"])  # "split" itself is no attribute
    return prevalence_by_group(named, findings, "part", access).rename(columns={"group": "split"})


def examples(table: pd.DataFrame, findings: list[str], most: int = 8) -> pd.DataFrame:
    """Return one row of the training split without a finding and one for each finding (alone, where
    there is such).

    Args:
        table: a cohort's table with its index 0..n-1.
        findings: names of finding columns.
        most: rows at most.

    Returns:
        Rows of the table, index kept (the image's in the cohort), with a column `shows`.
    """
    train = table[table["split"] == "train"]
    n_present = train[findings].sum(axis=1)
    chosen = {}
    for finding in [None, *findings]:
        fitting = train[n_present == 0] if finding is None else train[train[finding] == 1]
        fitting = fitting[~fitting.index.isin(chosen)]
        if len(fitting):
            chosen[n_present[fitting.index].idxmin()] = finding or "none of the findings"
    chosen = dict(list(chosen.items())[:most])
    return table.loc[list(chosen)].assign(shows=list(chosen.values()))


def slices(images: np.ndarray, shown: pd.DataFrame, rule: dict) -> pd.DataFrame:
    """Return the three planes of volumes, through the lesion where the table has one, for
    `volume_figures.plot_three_planes`.

    Args:
        images: the cohort's volumes.
        shown: rows from `examples`.
        rule: how the volumes were made: shape and spacing_mm, from the cohort's record.
    """
    rows, spacing = [], np.array(rule["spacing_mm"])
    for index, row in shown.iterrows():
        lesion = np.array((row.get("lesion") or "").split(), dtype=float)
        middle = (np.array(rule["shape"]) - 1) / 2
        voxel = tuple(np.rint(middle + lesion[:3] / spacing).astype(int)) if len(lesion) else None
        planes = decode_volume.three_planes(images[index], voxel)
        for plane, (down, across) in zip(planes, ((1, 2), (0, 2), (0, 1))):
            height, width = np.array(rule["shape"])[[down, across]] * spacing[[down, across]]
            circle = (
                [width / 2 + lesion[across], height / 2 + lesion[down], lesion[3]]
                if len(lesion)
                else [np.nan] * 3
            )
            rows.append(
                [row["shows"].replace("_", " "), plane, planes[plane], width, height, *circle]
            )
    return pd.DataFrame(
        rows,
        columns=["caption", "plane", "pixels", "width_mm", "height_mm", "across", "down", "radius"],
    )


def _wilson_interval(labels: pd.Series, patient_id: pd.Series) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of images that are clustered in patients."""
    z_squared, share, by_patient = (
        1.96**2,
        labels.mean(),
        labels.groupby(patient_id).agg(["sum", "size"]),
    )
    variance = ((by_patient["sum"] - share * by_patient["size"]) ** 2).sum() / len(labels) ** 2
    # as many independent images
    n = share * (1 - share) / variance if variance > 0 else len(by_patient)
    middle = (share + z_squared / (2 * n)) / (1 + z_squared / n)
    half = np.sqrt(z_squared * (share * (1 - share) / n + z_squared / (4 * n**2))) / (
        1 + z_squared / n
    )
    return max(0.0, middle - half), min(1.0, middle + half)
