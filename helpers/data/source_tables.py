"""Read a data set's own table, and find which of its rows can become images of a cohort.

In: a manifest and a data root. Out: a `Source`: rows in the form of a cohort's table, the others
each with a reason.
Refuses: unreadable tables, wrong columns, values outside the manifest's rules, too many absent
files. One reader for each *kind* of layout.
"""

import dataclasses
import os
import re
import stat
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.core import errors, fingerprints
from helpers.data import decode_volume, label_rules, manifest_schema, manifests

EXCLUDED_COLUMNS = ["row", "image_id", "patient_id", "reason"]


@dataclasses.dataclass
class Source:
    """A data set's rows, before an image was opened.

    rows: a cohort's table (no `split` where it follows from a hash), with `row` (in the source
        table, from 0) and what finds the image: `file` (under the data root) and its `bytes`;
        `sha256`, `inverted`, `group`, `place` if known.
    excluded: `EXCLUDED_COLUMNS`, the rows left out.
    notes: what a reader should know, in sentences.
    """

    rows: pd.DataFrame
    excluded: pd.DataFrame
    notes: list[str]


def read(manifest: manifest_schema.Manifest, root: Path) -> Source:
    """Return the rows of a data set whose files are there, and the others with their reasons.

    Raises:
        InputError: the table cannot be read, breaks a rule of the manifest, or names paths outside
            the root; or fewer files are there than `min_share_present` of the rows kept.
    """
    try:
        if manifest.layout.kind == "parquet_images":
            raw, places = _read_shards(manifest, root)
        elif manifest.layout.kind == "folders":
            raw, places = _read_folders(manifest, root)
        else:
            raw, places = _read_csv(manifest, root)
        source = to_cohort_form(manifest, raw, places, manifests.expected_files(manifest)[0], root)
        source.notes += _checksum_notes(manifest, root)
        return _present_only(manifest, root, source)
    except PermissionError as error:
        manifests.refuse_unreadable(error)


def to_cohort_form(
    manifest: manifest_schema.Manifest,
    raw: pd.DataFrame,
    places: pd.DataFrame,
    where: str,
    root: Path | None = None,
) -> Source:
    """Apply the manifest's rules to a source table.

    Args:
        manifest: the rules.
        raw: the source table, any column types.
        places: further columns, passed on unchanged; same index as `raw`.
        where: name of the table, for messages.
        root: the data root; needed only where the split is given as lists.

    Raises:
        InputError: a column is absent, a value lies outside its rule, or a patient is in two given
            splits.
    """
    errors.has_columns(raw, manifest.source_columns, where)
    text = raw[manifest.source_columns].apply(label_rules.as_text)
    rows = pd.DataFrame(
        {
            "row": np.arange(len(raw)),
            "image_id": label_rules.fill_template(manifest.image_id, text),
            "patient_id": text[manifest.patient_id],
        }
    )
    reason = label_rules.filter_reasons(manifest, text, rows)
    if manifest.split.is_given:
        rows["split"] = label_rules.given_split(manifest, text, rows["image_id"], where, root)
        reason = reason.where(reason.notna() | rows["split"].notna(), "in no given split")
    excluded = rows.assign(reason=reason)[reason.notna()][EXCLUDED_COLUMNS]
    kept, text = rows[reason.isna()].copy(), text[reason.isna()]
    if manifest.split.is_given:
        label_rules.refuse_patient_in_two_splits(kept, where)
    notes = label_rules.add_person(manifest, text, kept, where)
    for finding, rule in manifest.findings.items():
        kept[finding] = label_rules.labels_of(finding, rule, text, where)
    for name, column in manifest.further_columns.items():
        kept[name] = (
            text[column]
            if isinstance(column, str)
            else label_rules.renamed(column, text[column.column])
        )
    if manifest.volume and manifest.volume.mask:
        kept["mask"] = label_rules.fill_template(manifest.volume.mask, text)
    if manifest.image.inverted:
        kept["inverted"] = text[manifest.image.inverted.column].isin(manifest.image.inverted.values)
    return Source(kept.join(places), excluded, notes)


def _read_csv(manifest: manifest_schema.Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table as text, and `file` and, where the data set has checksums, `sha256` of each
    row.
    """
    layout = manifest.layout
    raw = _read_text_table(manifest, root, layout.table, layout.encoding, layout.separator)
    errors.has_columns(raw, manifest.source_columns, layout.table)
    text = raw[manifest.source_columns].apply(label_rules.as_text)
    places = pd.DataFrame({"file": label_rules.fill_template(layout.image_path, text)})
    if layout.anywhere:
        found = {
            path.name: path.relative_to(root).as_posix()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        places["file"] = places["file"].map(lambda name: found.get(name, name))
    if layout.checksums:
        known = _read_text_table(manifest, root, layout.checksums, "utf-8", ",")
        errors.has_columns(known, ["path", "sha256"], layout.checksums)
        places["sha256"] = places["file"].map(
            known.drop_duplicates("path").set_index("path")["sha256"]
        )
    return raw, places


def _read_text_table(
    manifest: manifest_schema.Manifest, root: Path, name: str, encoding: str, separator: str
) -> pd.DataFrame:
    """Return a CSV file, or the first sheet of an Excel file, with every cell as text."""
    try:
        if name.endswith(".xlsx"):
            return pd.read_excel(manifests.inside(root, name), dtype=str, keep_default_na=False)
        return pd.read_csv(
            manifests.inside(root, name),
            dtype=str,
            keep_default_na=False,
            encoding=encoding,
            sep=separator,
        )
    except (
        UnicodeDecodeError,
        LookupError,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        EOFError,
        ValueError,
        BadZipFile,
        ImportError,
    ) as error:
        errors.refuse(
            f"{name} to be a table in {encoding}, separated by {separator!r}",
            str(error),
            f"Download it again, or correct `layout` in the manifest {manifest.name}.",
        )


def _read_folders(
    manifest: manifest_schema.Manifest, root: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the folders' and files' names say of each image, with the columns of the table if
    there is one, and its `file`.
    """
    layout = manifest.layout
    form = re.compile(
        "".join(
            f"(?P<{part[1:-1]}>[^/]+?)" if part.startswith("{") else re.escape(part)
            for part in re.split(r"(\{[^{}]+\})", layout.pattern)
        )
    )
    paths = sorted(
        path.relative_to(root).as_posix()
        for path in root.glob(re.sub(r"\{[^{}]+\}", "*", layout.pattern))
    )
    raw = pd.DataFrame([form.fullmatch(path).groupdict() for path in paths])
    if layout.table:
        known = _read_text_table(manifest, root, layout.table, "utf-8", ",")
        errors.has_columns(known, ["name"], layout.table)
        known = (
            known.assign(name=known["name"].str.strip())
            .drop(columns=[c for c in raw if c in known and c != "name"])
            .drop_duplicates()
        )
        if len(twice := known.loc[known["name"].duplicated(), "name"].tolist()):
            errors.refuse(
                f"one row a name in {layout.table}",
                f"{len(twice)} names with rows that differ, e.g. {errors.examples(twice)}",
                "Correct the table.",
            )
        raw = raw.merge(known, on="name", how="left")
    return raw, pd.DataFrame({"file": paths})


def _read_shards(
    manifest: manifest_schema.Manifest, root: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all shards' columns but the images, and `file`, `group` (row group) and `place` in it
    of each row.
    """
    tables, places = [], []
    for path in sorted({path for pattern in manifest.layout.shards for path in root.glob(pattern)}):
        file = path.relative_to(root).as_posix()
        try:
            with pq.ParquetFile(manifests.inside(root, file)) as shard:
                errors.has_columns(
                    pd.DataFrame(columns=shard.schema_arrow.names),
                    [*manifest.source_columns, manifest.layout.image_column],
                    file,
                )
                for group in range(shard.num_row_groups):
                    tables.append(
                        shard.read_row_group(group, columns=manifest.source_columns).to_pandas()
                    )
                    places.append(
                        pd.DataFrame(
                            {"file": file, "group": group, "place": range(len(tables[-1]))}
                        )
                    )
        except pa.ArrowException as error:
            errors.refuse(f"{file} to be a whole parquet file", str(error), "Download it again.")
    return pd.concat(tables, ignore_index=True), pd.concat(places, ignore_index=True)


def _present_only(manifest: manifest_schema.Manifest, root: Path, source: Source) -> Source:
    """Move rows whose file is absent to the excluded ones, and refuse when too many are."""
    rows = source.rows
    sizes = {
        file: _size(manifests.inside(root, file)) if file else -1 for file in rows["file"].unique()
    }
    rows = rows.assign(bytes=rows["file"].map(sizes).astype("int64"))
    is_absent = rows["bytes"] < 0
    if len(rows) and 1 - is_absent.mean() < manifest.min_share_present:
        errors.refuse(
            f"at least {100 * manifest.min_share_present:g}% of {len(rows):,} image files of"
            f" {manifest.name}",
            f"{(~is_absent).sum():,}; absent are"
            f" {errors.examples(rows.loc[is_absent, 'file'].tolist())}",
            "Complete the download, or lower `min_share_present` in the manifest. How to get it: "
            + " ".join(manifest.how_to_get.split()),
        )
    absent = rows[is_absent]
    is_folder = absent["file"].map(
        lambda file: bool(file) and manifests.inside(root, file).is_dir()
    )
    reason = is_folder.map(
        {
            False: "image file absent",
            True: f"a folder, not an image file (DICOM? {decode_volume.TO_NIFTI})",
        }
    )
    excluded = pd.concat([source.excluded, absent.assign(reason=reason)[EXCLUDED_COLUMNS]])
    if is_absent.all():
        errors.refuse(
            f"at least one usable row in {manifests.expected_files(manifest)[0]}",
            f"none: {errors.examples(excluded['reason'].value_counts().index.tolist())}",
            "Correct the table or the manifest.",
        )
    if "mask" in rows:  # a mask that comes or changes makes another cohort
        rows = rows.assign(
            mask_bytes=[
                _size(manifests.inside(root, mask)) if mask else -1 for mask in rows["mask"]
            ]
        )
    return Source(rows[~is_absent], excluded, source.notes)


def _size(path: Path) -> int:
    """Return the size of a regular file in bytes, -1 where there is none."""
    try:
        status = os.stat(path)
    except PermissionError:
        raise
    except OSError:  # absent, a name too long, a loop of links
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _checksum_notes(manifest: manifest_schema.Manifest, root: Path) -> list[str]:
    """Return a sentence for each file that differs from the one the manifest was written for."""
    return [
        f"{name} differs from the file this manifest was written for: another release, or damaged."
        for name, known in manifest.checksums.items()
        if _size(manifests.inside(root, name)) >= 0 and fingerprints.file_hash(root / name) != known
    ]
