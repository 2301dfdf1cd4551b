"""A cohort's files: `images.npy`, `table.parquet`, `exclusions.csv` and `record.json`.

In: the rows kept of a data set, and the folder of the chunks with their images. Out: the files,
each whole, the record last. Raises `InputError` for a record that is not JSON.
"""

import importlib.metadata
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import files, fingerprints
from helpers.data import chunks, cohorts, duplicates, manifest_schema, manifests
from helpers.data.synthetic import generators

REFUSED = "exclusions_of_refusal.csv"


def is_whole(folder: Path, fingerprint: str) -> bool:
    """Return whether the same cohort is there, with files as they were written."""
    record = files.readable_json(folder / "record.json")
    return record.get("fingerprint") == fingerprint and record.get("files") == _hashes(folder)


def write(
    folder: Path,
    chunk_folder: Path,
    manifest: manifest_schema.Manifest,
    options: dict,
    fingerprint: str,
    settled: duplicates.Settled,
) -> None:
    """Write a cohort, a chunk after the other: no more is held.

    Args:
        folder: of the cohort.
        chunk_folder: with the images.
        manifest: of the data set.
        options: of the build; stored as the record's `parameters`.
        fingerprint: of all that decides the cohort.
        settled: the rows kept and left out.
    """
    (folder / "record.json").unlink(missing_ok=True)
    (folder / REFUSED).unlink(missing_ok=True)
    _write_images(folder / "images.npy", chunk_folder, options, settled.rows)
    columns = [
        *manifest_schema.COHORT_COLUMNS,
        *manifest.findings,
        *manifest.further_columns,
        "sha256",
        *([] if manifest.access == "embedded" else ["pixels_sha256"]),
    ]
    table = settled.rows[columns].rename(columns={"sha256": "film_sha256"})
    table = table.reset_index(drop=True)
    files.write_table(folder / "table.parquet", table)
    files.write_table(folder / "exclusions.csv", settled.excluded)
    hashes = _hashes(folder)
    record = _record(manifest, settled, table, hashes["images.npy"])
    files.write_json(
        folder / "record.json",
        record | {"parameters": options, "fingerprint": fingerprint, "files": hashes},
    )


def write_refusal(folder: Path, excluded: pd.DataFrame) -> Path:
    """Write why each row of a data set without a usable image was left out; return the file.

    It is `exclusions.csv`, or `exclusions_of_refusal.csv` beside an earlier cohort, which stays as
    it was. The next cohort that is written removes the latter.

    Args:
        folder: of the cohort.
        excluded: `source_tables.EXCLUDED_COLUMNS`.
    """
    is_alone = not (folder / "record.json").exists()
    path = folder / ("exclusions.csv" if is_alone else REFUSED)
    files.write_table(path, excluded.sort_values("row"))
    return path


def _write_images(path: Path, chunk_folder: Path, options: dict, rows: pd.DataFrame) -> None:
    """Write the images of the rows, in their order."""
    size = options["volume"]["shape"] if "volume" in options else [options["image_px"]] * 2
    with files.atomic_path(path) as part, open(part, "wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *size)}
        )
        for chunk, rows_of_chunk in rows.groupby("chunk", sort=False):
            index = rows_of_chunk["index_in_chunk"].to_numpy()
            stream.write(chunks.images(chunk_folder, chunk)[index])


def _hashes(folder: Path) -> dict[str, str | None]:
    """Return the hash of each file of a cohort, None where it is absent."""
    return {
        name: fingerprints.file_hash(folder / name) if (folder / name).exists() else None
        for name in ("images.npy", "table.parquet", "exclusions.csv")
    }


def _record(
    manifest: manifest_schema.Manifest,
    settled: duplicates.Settled,
    table: pd.DataFrame,
    images_hash: str,
) -> dict:
    """Return what the record says of the data set and of the rows kept."""
    canonical = {finding: rule.meaning for finding, rule in manifest.findings.items()}
    is_drawn = manifest.access == "embedded"
    decoders = _decoders(manifest)
    truth = generators.generator_of(manifest).planted_truth() if is_drawn else pd.DataFrame()
    return {
        "cohort": manifest.name,
        "title": manifest.title,
        "licence": manifest.licence,
        "access": manifest.access,
        "findings": list(manifest.findings),
        "canonical": canonical,
        "lateral": sorted({rule.canonical for rule in manifest.findings.values() if rule.lateral}),
        "planted_truth": truth.to_dict("records"),
        "n_source_rows": len(table) + len(settled.excluded),
        "n_images": len(table),
        "n_patients": table["patient_id"].nunique(),
        "exclusions": settled.excluded["reason"].value_counts().to_dict(),
        "notes": settled.notes,
        "merged": settled.merged,
        **({} if manifest.patient_id else {"patients": "unknown"}),
        "manifest_hash": manifests.manifest_hash(manifest),
        "data_hash": cohorts.data_hash(images_hash, table, canonical),
        "versions": {
            name: importlib.metadata.version(name) for name in ("numpy", "pandas", *decoders)
        },
    }


def _decoders(manifest: manifest_schema.Manifest) -> list[str]:
    """Return the packages that decode a data set's images; volumes in an npz need none."""
    kind = manifest.layout.kind
    if kind == "synthetic" or (kind == "arrays" and manifest.volume):
        return []
    decoders = ["nibabel", "scipy"] if manifest.volume else ["pillow"]
    if kind == "dicom_files":
        decoders += ["pydicom", "SimpleITK"] if manifest.volume else ["pydicom"]
    return decoders
