"""Build a cohort: from a data set's table and files, or from an embedded generator.

In: a data manifest and a data root. Out: `<results>/cohort/<name>/` with `images.npy`,
`table.parquet`, `record.json` and `exclusions.csv`. Raises `InputError` for what the manifest's
rules refuse, and for options that do not fit the data set.

Images are made in chunks by several processes. A chunk that is on disk is not made again, so a
killed build goes on where it was; no step holds more than a chunk in memory.
"""

import math
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from helpers.core import errors, fingerprints, machine, notebook_parameters, paths, progress
from helpers.data import (
    chunks,
    cohort_files,
    cohorts,
    duplicates,
    layouts,
    manifest_schema,
    manifests,
    source_files,
    source_tables,
)

# Modules whose change builds cohorts again; the second only drawn ones.
DECIDES_CONTENT = (
    "build_cohort",
    "chunks",
    "cohort_files",
    "decode_film",
    "decode_volume",
    "duplicates",
    "label_rules",
    "layout_schema",
    "layouts",
    "manifest_schema",
    "patient_rules",
    "rule_schema",
    "source_tables",
    "source_text",
    "split_rules",
)
DECIDES_DRAWN_CONTENT = (
    "synthetic/generators",
    "synthetic/chest_cohort",
    "synthetic/chest_patients",
    "synthetic/chest_phantom",
    "synthetic/chest_shapes",
    "synthetic/abdomen_cohort",
    "synthetic/abdomen_phantom",
    "synthetic/abdomen_shapes",
    "synthetic/truth_table",
)

TABLE_BYTES_PER_IMAGE = 1000  # facts, table and exclusions, rather more than measured


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
        processes: workers; None = OMP_NUM_THREADS, or the cores this process may use; 1 = none but
            this one.

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
    root = source_files.locate(manifest, data_root)
    with source_files.readable():
        raw, locations = layouts.read(manifest, root, options)
        source = source_tables.apply_rules(manifest, raw, locations, root)
        source = source_tables.keep_present(manifest, source, root)
    fingerprint = _fingerprint(manifest, options, source)
    folder = paths.cohort_dir(manifest.name)
    if not cohort_files.is_whole(folder, fingerprint):
        chunk_folder = folder / f".chunks-{fingerprint[:16]}"
        tasks = chunks.tasks(manifest, options, root, source.rows)
        missing = [task for task in tasks if not chunks.is_made(chunk_folder, task)]
        _refuse_full_disk(folder, options, len(source.rows), missing)
        _make(missing, chunk_folder, manifest.name, processes)
        facts = pd.concat([chunks.facts(chunk_folder, task) for task in tasks], ignore_index=True)
        settled = duplicates.settle(manifest, source, facts)
        cohort_files.write(folder, chunk_folder, manifest, options, fingerprint, settled)
        for leftover in [*folder.glob(".chunks-*"), *folder.glob(".parts-*")]:  # .parts: of 0.1.0
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
        "01",
        {
            "IMAGE_PX": image_px,
            "EQUALISE": equalise,
            "VOLUME_SHAPE": list(volume_shape),
            "WINDOW_HU": list(window_hu),
        },
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
        "01",
        {
            "N_PATIENTS": n_patients,
            "N_TEST_PATIENTS": n_test_patients,
            "GENERATOR_SEED": generator_seed,
        },
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
    manifest: manifest_schema.Manifest, options: dict, source: source_tables.Source
) -> str:
    """Return one hash of all that decides a cohort: manifest, options, source rows with file sizes,
    code.
    """
    is_drawn = manifest.layout.kind == "synthetic"
    modules = DECIDES_CONTENT + (DECIDES_DRAWN_CONTENT if is_drawn else ())
    return fingerprints.fingerprint(
        {
            "manifest": manifests.manifest_hash(manifest),
            "options": options,
            "rows": source.rows.to_csv() + source.excluded.to_csv(),
            "code": [
                fingerprints.file_hash(Path(__file__).parent / f"{module}.py") for module in modules
            ],
        }
    )


def _refuse_full_disk(
    folder: Path, options: dict, n_images: int, missing: list[chunks.Task]
) -> None:
    """Accept a disk with room for `images.npy`, for the chunks to come and for the table.

    Raises:
        InputError: too little is free; names the folder and the bytes.
    """
    size = options["volume"]["shape"] if "volume" in options else [options["image_px"]] * 2
    n_in_chunks = sum(len(task.rows) for task in missing)
    needed_bytes = (n_images + n_in_chunks) * math.prod(size) + n_images * TABLE_BYTES_PER_IMAGE
    machine.refuse_full_disk(folder, needed_bytes, f"{n_images:,} images, once in chunks")


def _make(missing: list[chunks.Task], folder: Path, name: str, processes: int | None) -> None:
    """Make the chunks that are not on disk yet."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = min(processes or machine.threads(), len(missing))
    if missing:
        with progress.progress(len(missing), f"{name}, chunks") as bar:
            if processes <= 1:
                for task in missing:
                    chunks.make(folder, task)
                    bar.update()
            else:
                _make_in_pool(missing, folder, processes, bar)


def _make_in_pool(tasks: list[chunks.Task], folder: Path, processes: int, bar) -> None:
    """Make chunks in spawned processes: a fork could copy locks of a kernel's threads."""
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
                "Run again: finished chunks are kept. OMP_NUM_THREADS sets the number of workers.",
            )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
