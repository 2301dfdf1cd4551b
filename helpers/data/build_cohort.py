"""Build a cohort from the files of a data set or from the embedded generator, and read it back.

In: a data manifest and a data root. Out: `<results>/cohort/<name>/` with `images.npy`,
`table.parquet`, `record.json` and `exclusions.csv`. Refuses: what the manifest's rules refuse; a
cohort that was not built or is not whole.

Images are made in parts by several processes. A part that is on disk is not made again, so a killed
build goes on where it was; no step holds more than a part in memory.
"""

import hashlib
import importlib.metadata
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors, files, fingerprints, notebook_parameters, paths, progress
from helpers.data import chunks, cohorts, duplicates, manifest_schema, manifests, source_tables

_DECIDES_CONTENT = (
    "build_cohort",
    "chunks",
    "decode_film",
    "decode_volume",
    "duplicates",
    "source_tables",
    "label_rules",
    "manifest_schema",
)
_GENERATORS = ("chest_cohort", "chest_phantom", "abdomen_cohort", "abdomen_phantom")


def build(
    name: str | Path | manifest_schema.Manifest,
    data_root: str | Path | None = None,
    *,
    image_px: int = 0,
    equalise: str = "as_manifest",
    volume_shape: list[int] | tuple = (),
    window_hu: list[float] | tuple = (),
    n_patients: int = 0,
    n_test_patients: int = 0,
    generator_seed: int = 0,
    processes: int | None = None,
) -> cohorts.Cohort:
    """Build a cohort, unless the same one is there and whole, and return it.

    Needs about twice the cohort's size on disk while it runs. In a script, call it under `if
    __name__ == "__main__":`, because processes are spawned.

    Args:
        name: a manifest, its name, or the path of its YAML file.
        data_root: folder of the real data; None for an embedded cohort.
        image_px: height and width; 0 = as in the manifest.
        equalise: "yes", "no" or "as_manifest": histogram equalisation.
        volume_shape: depth, height, width of CT volumes in voxels; () = as in the manifest. The
            spacing stays.
        window_hu: lower and upper end of their window in Hounsfield units; () = as in the manifest.
        n_patients: training patients; 0 = as in the manifest. Embedded cohorts only, as the next.
        n_test_patients: patients of `valid` and of `test`, each; a split that the manifest leaves
            empty stays so.
        generator_seed: added to the manifest's seed; without effect on real data.
        processes: workers; None = OMP_NUM_THREADS or all cores; 1 = none but this one.

    Guarantees: equal input gives equal files, whatever the processes and interruptions. What
    decides a training image's content or presence is a function of its patient alone (patients with
    an identical image or scan are one patient).

    Raises:
        InputError: see the module; nothing of an earlier whole cohort is changed then.
    """
    manifest = name if isinstance(name, manifest_schema.Manifest) else manifests.read(name)
    options = _size_options(
        manifest, image_px, equalise, volume_shape, window_hu
    ) | _patient_options(manifest, n_patients, n_test_patients, generator_seed)
    if manifest.layout.kind == "synthetic":
        source, tasks = None, chunks.generator_tasks(manifest, options, data_root)
    else:
        root = manifests.locate(manifest, data_root)
        source = source_tables.read(manifest, root)
        tasks = chunks.file_tasks(manifest, options, root, source.rows)
    fingerprint = _fingerprint(manifest, options, source)
    folder = paths.cohort_dir(manifest.name)
    if not _is_whole(folder, fingerprint):
        part_folder = folder / f".parts-{fingerprint[:16]}"
        facts = _make(tasks, part_folder, manifest.name, processes)
        source = source or source_tables.to_cohort_form(
            manifest, facts, facts[["part", "at"]], "the generator's table"
        )
        _assemble(
            folder,
            part_folder,
            manifest,
            options,
            fingerprint,
            *duplicates.settle(manifest, source, facts),
        )
        for leftover in folder.glob(".parts-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return cohorts.read(manifest.name)


def _size_options(
    manifest: manifest_schema.Manifest,
    image_px: int,
    equalise: str,
    volume_shape: list[int] | tuple,
    window_hu: list[float] | tuple,
) -> dict:
    """Return how an image or a volume is made, checked."""
    notebook_parameters.check_some(
        {
            "IMAGE_PX": image_px,
            "EQUALISE": equalise,
            "VOLUME_SHAPE": list(volume_shape),
            "WINDOW_HU": list(window_hu),
        }
    )
    manifests.size_fits(manifest, image_px, equalise, volume_shape, window_hu)
    if rule := manifest.volume:
        return {
            "volume": (
                rule.model_dump(mode="json")
                | ({"shape": list(volume_shape)} if volume_shape else {})
                | ({"window_hu": list(window_hu)} if window_hu else {})
            )
        }
    return {
        "image_px": image_px or manifest.image.px,
        "aspect": manifest.image.aspect,
        "equalise": manifest.image.equalise if equalise == "as_manifest" else equalise == "yes",
    }


def _patient_options(
    manifest: manifest_schema.Manifest, n_patients: int, n_test_patients: int, generator_seed: int
) -> dict:
    """Return how many patients are drawn of an embedded cohort, checked."""
    notebook_parameters.check_some(
        {
            "N_PATIENTS": n_patients,
            "N_TEST_PATIENTS": n_test_patients,
            "GENERATOR_SEED": generator_seed,
        }
    )
    options = {}
    if manifest.layout.kind == "synthetic":
        wanted = {"train": n_patients, "valid": n_test_patients, "test": n_test_patients}
        options["patients"] = {
            split: count and (wanted[split] or count)
            for split, count in manifest.layout.patients.items()
        }
        options["generator_seed"] = manifest.layout.generator_seed + generator_seed
    elif n_patients or n_test_patients:
        errors.refuse(
            f"no number of patients for {manifest.name}, whose images are real",
            [n_patients, n_test_patients],
            "Leave N_PATIENTS, N_TEST_PATIENTS and N_PUBLIC_PATIENTS at 0 for real data.",
        )
    return options


def _fingerprint(
    manifest: manifest_schema.Manifest, options: dict, source: source_tables.Source | None
) -> str:
    """Return one hash of all that decides a cohort.

    Rules, options, source rows with file sizes, code.
    """
    rows = "" if source is None else source.rows.to_csv() + source.excluded.to_csv()
    here = Path(__file__).parent
    sources = [here / f"{module}.py" for module in _DECIDES_CONTENT]
    if source is None:
        sources += [here / "synthetic" / f"{module}.py" for module in _GENERATORS]
    code = [fingerprints.file_hash(path) for path in sources]
    return fingerprints.fingerprint(
        {
            "manifest": manifests.manifest_hash(manifest),
            "options": options,
            "rows": rows,
            "code": code,
        }
    )


def _is_whole(folder: Path, fingerprint: str) -> bool:
    """Return whether the same cohort is there, with files as they were written."""
    if not (folder / "record.json").exists():
        return False
    record = files.read_json(folder / "record.json", cohorts.MADE_BY)
    return record["fingerprint"] == fingerprint and record["files"] == _hashes(folder)


def _hashes(folder: Path) -> dict[str, str | None]:
    """Return the hash of each file of a cohort, None where it is absent."""
    return {
        name: fingerprints.file_hash(folder / name) if (folder / name).exists() else None
        for name in ("images.npy", "table.parquet", "exclusions.csv")
    }


def _make(tasks: list[chunks.Task], folder: Path, name: str, processes: int | None) -> pd.DataFrame:
    """Make the parts that are not on disk yet, and return the facts of all."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [task for task in tasks if not chunks.is_made(folder, task)]
    processes = processes or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    processes = min(processes, len(missing))
    if missing:
        with progress.progress(len(missing), f"{name}, parts") as bar:
            if processes <= 1:
                for task in missing:
                    chunks.make(folder, task)
                    bar.update()
            else:
                _make_in_pool(missing, folder, processes, bar)
    return pd.concat([chunks.facts(folder, task) for task in tasks], ignore_index=True)


def _make_in_pool(tasks: list[chunks.Task], folder: Path, processes: int, bar) -> None:
    """Make parts in spawned processes (the same way on every system.

    A fork could copy locks of a kernel's threads).
    """
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=chunks.end_with_parent
    ) as pool:
        futures = [pool.submit(chunks.make, folder, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BrokenProcessPool:
            errors.refuse(
                "all workers to finish",
                "one that was killed (out of memory?)",
                "Run again: finished parts are kept. OMP_NUM_THREADS sets the number of workers.",
            )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _assemble(
    folder: Path,
    part_folder: Path,
    manifest: manifest_schema.Manifest,
    options: dict,
    fingerprint: str,
    rows: pd.DataFrame,
    excluded: pd.DataFrame,
    notes: list[str],
    merged: dict[str, int],
) -> None:
    """Write the cohort's files, the record last."""
    findings = list(manifest.findings)
    size = options["volume"]["shape"] if "volume" in options else [options["image_px"]] * 2
    is_drawn = manifest.layout.kind == "synthetic"
    film_sha256 = [] if is_drawn else rows["sha256"].tolist()
    (folder / "record.json").unlink(missing_ok=True)
    # a part after the other: no more is held
    with files.atomic_path(folder / "images.npy") as path, open(path, "wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *size)}
        )
        for part, in_part in rows.groupby("part", sort=False):
            images = chunks.images(part_folder, part)[in_part["at"].to_numpy()]
            stream.write(images)
            film_sha256 += (
                [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
                if is_drawn
                else []
            )
    table = (
        rows[[*manifest_schema.COHORT_COLUMNS, *findings, *manifest.further_columns]]
        .assign(film_sha256=film_sha256)
        .reset_index(drop=True)
    )
    files.write_table(folder / "table.parquet", table)
    files.write_table(folder / "exclusions.csv", excluded)
    decoders = (
        []
        if manifest.access == "embedded"
        else ["nibabel", "scipy"]
        if manifest.volume
        else ["pillow"]
    )
    hashes, meaning = (
        _hashes(folder),
        {finding: rule.meaning for finding, rule in manifest.findings.items()},
    )
    files.write_json(
        folder / "record.json",
        {
            "cohort": manifest.name,
            "title": manifest.title,
            "access": manifest.access,
            "findings": findings,
            "canonical": meaning,
            "planted_truth": (
                chunks.generator_of(manifest).planted_truth().to_dict("records")
                if manifest.access == "embedded"
                else []
            ),
            "n_source_rows": len(rows) + len(excluded),
            "n_images": len(rows),
            "n_patients": table["patient_id"].nunique(),
            "exclusions": excluded["reason"].value_counts().to_dict(),
            "notes": notes,
            "merged": merged,
            "parameters": options,
            "manifest_hash": manifests.manifest_hash(manifest),
            "fingerprint": fingerprint,
            "data_hash": fingerprints.fingerprint(
                {
                    "images.npy": hashes["images.npy"],
                    "table": fingerprints.table_hash(table),
                    "canonical": meaning,
                }
            ),
            "files": hashes,
            "versions": {
                name: importlib.metadata.version(name) for name in ("numpy", "pandas", *decoders)
            },
        },
    )
