"""DICOM files' tags as a source table: a row a radiograph, or a row a CT study.

In: a manifest of the layout `dicom_files`, the data root. Out: the raw table, all text, and the
locations of the images. No image is decoded. Raises `InputError` where pydicom is not installed
and for DICOM files that the layout's pattern misses.

Names of people and institutions, private tags and free text are not read: only the tags of
`COLUMNS` become cells, and a cohort stores only those that its manifest names.
"""

import os
import sys
import unicodedata
from pathlib import Path

import pandas as pd

from helpers.core import disk_names, errors, paths
from helpers.data.images import dicom_library, dicom_series, dicom_volume, image_limits
from helpers.data.manifest_schema import Manifest

# standard tags that a manifest's rules can read, by DICOM's keyword
COLUMNS = (
    "PatientID",
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "ViewPosition",
    "Modality",
    "Laterality",
    "BodyPartExamined",
    "PhotometricInterpretation",
    "BurnedInAnnotation",
    "Manufacturer",
    "ManufacturerModelName",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "ImageType",
    "PresentationIntentType",
)
# endings that are no part of a file's name; a name may be a UID, full of points
_ENDINGS = (".dcm", ".dicom", ".dic", ".ima")


def read_files(manifest: Manifest, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tags of all files of a layout, and where the images are.

    Args:
        manifest: its layout is `dicom_files`; with `volume`, one series a CT study is chosen (see
            `dicom_series.one_series_a_study`).
        root: the data root.

    Returns:
        raw: a row a file, or a study; columns `file` (the path without its ending), `name` (the
            file's), `folder` and `COLUMNS`, all text, "" where blank. Of a study, the tags and the
            file are those of the lowest slice.
        locations: same index; `file` under the data root; `unusable`, why the row has no image,
            else ""; of a study `slices`, the files in order from the feet, a line each, and
            `slice_bytes`.
    """
    dicom_library.pydicom()
    files = _files(root, manifest.layout.files)
    headers = pd.DataFrame([read_header(root / file, bool(manifest.volume)) for file in files])
    headers["file"] = files
    headers["folder"] = [os.path.dirname(file) for file in files]
    if manifest.volume:
        headers = dicom_series.one_series_a_study(headers, root)
    stems = headers["file"].map(_without_ending)
    raw = headers[["folder", *COLUMNS]].assign(file=stems, name=stems.map(os.path.basename))
    places = ["file", "unusable", *headers.columns.intersection(["slices", "slice_bytes"])]
    return raw[["file", "name", "folder", *COLUMNS]], headers[places]


def _files(root: Path, pattern: str) -> list[str]:
    """Return the files of a pattern below the root, but results.

    Raises:
        InputError: DICOM files in the same folders that the pattern's ending misses.
    """
    names = _listed(root, pattern)
    disk_names.refuse_other_encoding(names, root)
    folder, _, last = pattern.rpartition("/")
    ending = os.path.splitext(last)[1]
    if "*" in last and ending and not set("*?[") & set(ending):
        everything = f"{folder}/*" if folder else "*"
        others = sorted(set(_listed(root, everything)) - set(names))
        missed = [name for name in others if _may_be_dicom(root / name)]
        if missed:
            errors.refuse(
                f"DICOM files named as in {pattern}",
                f"{len(missed)} in the same folders that are not, e.g. {errors.examples(missed)}",
                f"Write `files: {everything!r}` in `layout`, which takes all files there, or move"
                " the others away.",
            )
    return names


def _listed(root: Path, pattern: str) -> list[str]:
    """Return the files of a pattern below the root, but results, sorted."""
    names = [p.relative_to(root).as_posix() for p in sorted(root.glob(pattern)) if p.is_file()]
    return paths.without_results(names, root)


def _may_be_dicom(path: Path) -> bool:
    """Return whether a file has an ending of DICOM files, or none and their content."""
    if path.name == "DICOMDIR" or disk_names.is_left_over(path.name):
        return False
    ending = path.suffix.lower()
    if ending in _ENDINGS:
        return True
    if ending and not ending[1:].isdecimal():
        return False
    with open(path, "rb") as stream:
        return dicom_library.is_dicom(stream.read(dicom_library.HEAD_BYTES))


def read_header(path: Path, with_geometry: bool = False) -> dict:
    """Return one file's `COLUMNS` as text, and why it holds no image, "" if it does.

    Args:
        path: of the file.
        with_geometry: also the tags of `dicom_volume.GEOMETRY`, as numbers.
    """
    library, empty = dicom_library.pydicom(), dict.fromkeys(COLUMNS, "")
    further = [*(dicom_volume.GEOMETRY if with_geometry else ()), "Rows", "SpecificCharacterSet"]
    try:
        with open(path, "rb") as stream:
            head = stream.read(dicom_library.HEAD_BYTES)
            if not dicom_library.is_dicom(head):
                return empty | {"unusable": "not a DICOM file"}
            stream.seek(0)
            if dicom_library.inflates_beyond(stream, image_limits.MAX_BYTES):
                return empty | {"unusable": "image file too large"}
            tags = library.dcmread(
                stream,
                stop_before_pixels=True,
                force=True,
                specific_tags=[*COLUMNS, *further],
            )
        header = {keyword: _as_text(tags.get(keyword)) for keyword in COLUMNS}
        if not all(text.isprintable() for text in header.values()):
            raise ValueError  # a wrong length: the text runs on into other tags, names perhaps
        if with_geometry:
            header |= dicom_volume.geometry_of(tags)
        # else a directory of media, a report, a presentation state
        has_image = bool(tags.get("Rows"))
    except PermissionError:
        raise
    except Exception:  # a damaged file can raise almost anything
        return empty | {"unusable": "DICOM file cannot be read"}
    unusable = "" if has_image else dicom_library.without_image(header["Modality"])
    return header | {"unusable": unusable}


def burnt_in_notes(raw: pd.DataFrame) -> list[str]:
    """Return a sentence on images whose tag says that text is burnt in.

    Args:
        raw: rows of `read_files`, or of any other table.
    """
    if "BurnedInAnnotation" not in raw or "SOPInstanceUID" not in raw:
        return []
    n_burnt_in = int((raw["BurnedInAnnotation"].str.upper() == "YES").sum())
    if not n_burnt_in:
        return []
    return [
        f"{n_burnt_in} images may have text burnt in (BurnedInAnnotation is YES): look at them, or"
        " leave them out with `keep`."
    ]


def _as_text(value: object) -> str:
    """Return a tag's value as text in one normal form; several values are joined by a backslash."""
    if value is None:
        return ""
    is_list = not isinstance(value, str) and hasattr(value, "__iter__")
    text = "\\".join(str(part).strip(" \0") for part in value) if is_list else str(value)
    # most tags are equal in all slices of a study: one text in memory for all of them
    return sys.intern(unicodedata.normalize("NFC", text.strip(" \0\n\t")))


def _without_ending(file: str) -> str:
    """Return a path without the ending of DICOM files."""
    stem, ending = os.path.splitext(file)
    return stem if ending.lower() in _ENDINGS else file
