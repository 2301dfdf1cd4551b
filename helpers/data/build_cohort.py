"""Build a cohort: from a data set's table and files, or from an embedded generator.

In: a data manifest and a data root. Out: `<results>/cohort/<name>/` with `images.npy`,
`table.parquet`, `record.json` and `exclusions.csv`. Raises `InputError` for what the manifest's
rules refuse, and for options that do not fit the data set.

Images are made in chunks by several processes. A chunk that is on disk is not made again, so a
killed build goes on where it was; no step holds more than a chunk in memory.
"""

import os
import shutil
from pathlib import Path

import pandas as pd

from helpers.core import errors, fingerprints, paths, paths_inside
from helpers.data import (
    build_options,
    chunk_workers,
    chunks,
    cohort_files,
    cohorts,
    duplicates,
    manifest_schema,
    manifests,
)
from helpers.data.tables import (
    label_rules,
    layouts,
    rule_checks,
    source_files,
    source_tables,
)

# Modules whose change builds cohorts again; the second only drawn ones.
DECIDES_CONTENT = (
    "build_cohort",
    "build_options",
    "chunks",
    "cohort_files",
    "duplicates",
    "images/decode_dicom",
    "images/decode_film",
    "images/decode_volume",
    "images/dicom_library",
    "images/dicom_series",
    "images/dicom_volume",
    "images/dicom_windows",
    "images/film_pixels",
    "images/hounsfield",
    "images/image_limits",
    "images/nifti_files",
    "layout_schema",
    "make_chunk",
    "manifest_schema",
    "rule_schema",
    "tables/age_advice",
    "tables/csv_rows",
    "tables/damaged_identifiers",
    "tables/dicom_tags",
    "tables/encoded_images",
    "tables/file_names",
    "tables/further_columns",
    "tables/image_rows",
    "tables/joins",
    "tables/label_rules",
    "tables/layouts",
    "tables/listed_entries",
    "tables/patient_ages",
    "tables/patient_checks",
    "tables/patient_rules",
    "tables/read_arrays",
    "tables/read_excel",
    "tables/read_table",
    "tables/repeated_images",
    "tables/row_rules",
    "tables/rule_checks",
    "tables/source_tables",
    "tables/source_text",
    "tables/split_rules",
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
    uncertain_means: str = "as_manifest",
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
        uncertain_means: "positive", "negative" or "unknown", what uncertain labels of all findings
            count as; "as_manifest": each finding's own rule.
        processes: that decode: this one and workers; None = OMP_NUM_THREADS, or the cores this
            process may use.

    Guarantees: equal input gives equal files, whatever the processes and interruptions. What
    decides a training image's content or presence is a function of its patient alone (patients with
    an identical image or scan are one patient).

    Raises:
        InputError: see the module; nothing of an earlier whole cohort is changed then. Where no
            image is usable, the reason of every row is written, see
            `cohort_files.write_refusal`.
    """
    manifest = name if isinstance(name, manifest_schema.Manifest) else manifests.read(name)
    options = (
        build_options.of_images(manifest, image_px, equalise, volume_shape, window_hu)
        | build_options.of_patients(manifest, n_patients, n_test_patients, generator_seed)
        | build_options.of_labels(manifest, uncertain_means)
    )
    root = source_files.locate(manifest, data_root)
    try:
        with source_files.readable():
            raw, locations = layouts.read(manifest, root, options)
            ruled = label_rules.with_uncertain(manifest, uncertain_means)
            source = source_tables.apply_rules(ruled, raw, locations, root)
            source = source_tables.keep_present(manifest, source, root)
        _make(manifest, options, root, source, processes)
    except rule_checks.Unusable as refusal:
        reasons = cohort_files.write_refusal(paths.cohort_dir(manifest.name), refusal.excluded)
        raise errors.InputError(f"{refusal} Every row with its reason: {reasons}.") from None
    return cohorts.read(manifest.name)


def _make(
    manifest: manifest_schema.Manifest,
    options: dict,
    root: Path | None,
    source: source_tables.Source,
    processes: int | None,
) -> None:
    """Decode a data set's images and write the cohort, unless the same one is there and whole."""
    fingerprint = _fingerprint(manifest, options, source, root)
    folder = paths.cohort_dir(manifest.name)
    if cohort_files.is_whole(folder, fingerprint):
        return
    chunk_folder = folder / f".chunks-{fingerprint[:16]}"
    tasks = chunks.tasks(manifest, options, root, source.rows)
    facts = chunk_workers.make(tasks, chunk_folder, manifest.name, options, processes)
    settled = duplicates.settle(manifest, source, facts)
    where = source_files.table_name(manifest)
    notes = rule_checks.check_splits(manifest, settled.rows, settled.excluded, where)
    settled = settled._replace(notes=settled.notes + notes)
    cohort_files.write(folder, chunk_folder, manifest, options, fingerprint, settled)
    for leftover in [*folder.glob(".chunks-*"), *folder.glob(".parts-*")]:  # .parts: of 0.1.0
        shutil.rmtree(leftover, ignore_errors=True)


def _fingerprint(
    manifest: manifest_schema.Manifest,
    options: dict,
    source: source_tables.Source,
    root: Path | None,
) -> str:
    """Return one hash of all that decides a cohort: manifest, options, source rows with file sizes,
    when each file was last changed, code.
    """
    is_drawn = manifest.layout.kind == "synthetic"
    modules = DECIDES_CONTENT + (DECIDES_DRAWN_CONTENT if is_drawn else ())
    return fingerprints.fingerprint(
        {
            "manifest": manifests.manifest_hash(manifest),
            "options": options,
            "rows": source.rows.to_csv() + source.excluded.to_csv(),
            "changed": _changed_ns(source.rows, root),
            "code": [
                fingerprints.file_hash(Path(__file__).parent / f"{module}.py") for module in modules
            ],
        }
    )


def _changed_ns(rows: pd.DataFrame, root: Path | None) -> list[int]:
    """Return when each file of a data set (image, shard, mask, slice) was last changed, in ns; []
    for drawn images. Pictures of one size may replace others.
    """
    if root is None:
        return []
    columns = rows.columns.intersection(["file", "mask", "slices"])
    cells = pd.concat([rows[name] for name in columns]).dropna().unique()
    names = [name for cell in cells for name in cell.split("\n") if name]
    paths_of_files = [paths_inside.path_inside(root, name) for name in names]
    return [os.stat(path).st_mtime_ns if os.path.exists(path) else -1 for path in paths_of_files]
