"""Which series of a CT study is its volume.

In: the tags of DICOM files (`dicom_tags.read_header`). Out: one row a study, with the files of one
series in order, or the reason why it has none. Raises nothing.
"""

from pathlib import Path

import numpy as np
import pandas as pd

MIN_SLICES = 8
# how far a slice may lie from where even spacing has it, as a share of the spacing: beyond the
# rounding of tags, below what one missing slice does (half a spacing at least)
_MAX_SHIFT = 0.25
_ROUNDING = 0.005  # of cosines, and of mm between pixels, within one series
_MIN_AXIAL = 0.8  # cosine to the body's axis: gantries tilt up to 30 degrees
_CT_CLASSES = ("", "1.2.840.10008.5.1.4.1.1.2")  # single slices; "" where anonymised away
_NO_SCAN = {
    "LOCALIZER",
    "PERFUSION",
    "SCREEN SAVE",
    "DOSE_INFO",
    "MIP",
    "MINIP",
    "PROJECTION IMAGE",
}
_NO_SERIES = f"CT study without an axial series of at least {MIN_SLICES} slices"


def one_series_a_study(headers: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Choose each CT study's volume.

    A study is what has one PatientID and StudyInstanceUID (one folder, where the UID is blank); a
    series what has one SeriesInstanceUID (or folder) and one orientation, size and pixel spacing,
    and one AcquisitionNumber where slices have the same position (phases in one series). A copy of
    a slice, with the same SOPInstanceUID, does not count.

    Of a study's series, those are left that are single CT slices across the body's axis, at least
    `MIN_SLICES`, evenly spaced, without two at one position, and no localizer, perfusion map,
    projection or report page by their ImageType. Of these: ORIGINAL\\PRIMARY\\AXIAL before others,
    then the one with most slices, then the first by SeriesInstanceUID.

    Args:
        headers: a row a file, from `dicom_tags.read_header` with `file` and `folder`.
        root: the data root.

    Returns:
        A row a study, in the order of its files: the header of the lowest slice, with `slices`,
        `slice_bytes` and `unusable`. A file without an image is a row of its own.
    """
    is_image = headers["unusable"] == ""
    images = headers[is_image]
    study = [images["PatientID"], images["StudyInstanceUID"]]
    study.append(images["folder"].where(images["StudyInstanceUID"] == "", ""))
    studies = [_chosen(files, root) for _, files in images.groupby(study, sort=False)]
    others = headers[~is_image].assign(slices="", slice_bytes=0)
    return pd.concat([pd.DataFrame(studies), others]).sort_index().reset_index(drop=True)


def _chosen(study: pd.DataFrame, root: Path) -> pd.Series:
    """Return a study's row."""
    candidates, reason = [], _reason_without_series(study)
    repeated = study["SOPInstanceUID"].duplicated() & (study["SOPInstanceUID"] != "")
    series = study["SeriesInstanceUID"].where(study["SeriesInstanceUID"] != "", study["folder"])
    form = [_alike(study[name]) for name in ("ImageOrientationPatient", "PixelSpacing")]
    kind = [series, study["Rows"], study["Columns"], *form]
    stacks = [stack for _, stack in study[~repeated].groupby(kind, sort=False)]
    for slices in filter(_may_be_scan, [part for stack in stacks for part in _acquisitions(stack)]):
        slices = slices.iloc[np.argsort(_heights(slices), kind="stable")]
        problem = spacing_problem(np.array(slices["ImagePositionPatient"].tolist()))
        is_first = _is_original_axial(slices["ImageType"].iloc[0])
        rank = (bool(problem), not is_first, -len(slices), slices["SeriesInstanceUID"].iloc[0])
        candidates.append((rank, len(candidates), slices, problem))
    if not candidates:
        return _with(study.iloc[0], slices="", slice_bytes=0, unusable=reason)
    _, _, slices, problem = min(candidates, key=lambda candidate: candidate[:2])
    n_bytes = sum((root / file).stat().st_size for file in slices["file"])
    row = slices.iloc[0].rename(study.index[0])
    return _with(row, slices="\n".join(slices["file"]), slice_bytes=n_bytes, unusable=problem)


def _acquisitions(stack: pd.DataFrame) -> list[pd.DataFrame]:
    """Return a stack's acquisitions where it holds several at the same heights, else the stack."""
    if stack["ImagePositionPatient"].is_unique:
        return [stack]
    return [acquisition for _, acquisition in stack.groupby("AcquisitionNumber")]


def _with(row: pd.Series, **cells: object) -> pd.Series:
    """Return a row with further cells."""
    return pd.Series(row.to_dict() | cells, name=row.name, dtype=object)


def _alike(column: pd.Series) -> pd.Series:
    """Return a number for each tuple, the same for tuples that differ by rounding only."""
    kinds: list[tuple[float, ...]] = []
    number_of = {}
    for numbers in dict.fromkeys(column):
        alike = [number for number, kind in enumerate(kinds) if _is_close(numbers, kind)]
        number_of[numbers] = alike[0] if alike else len(kinds)
        if not alike:
            kinds.append(numbers)
    return column.map(lambda numbers: number_of[numbers])


def _is_close(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Return whether two tuples are the same within `_ROUNDING`, or both empty."""
    if not first or not second:
        return first == second
    return bool(np.abs(np.subtract(first, second)).max() < _ROUNDING)


def _reason_without_series(study: pd.DataFrame) -> str:
    """Return why a study without a candidate is left out."""
    if not (study["Modality"] == "CT").any():
        return "study without CT"
    if (study["NumberOfFrames"] > 1).any():
        return f"{_NO_SERIES}; enhanced CT of several frames in a file is not read"
    geometry = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
    if len(study) >= MIN_SLICES:
        absent = [name for name in geometry if not study[name].map(bool).any()]
        if absent:
            return f"CT study whose slices do not say where they lie: no {', '.join(absent)}"
    return _NO_SERIES


def _may_be_scan(slices: pd.DataFrame) -> bool:
    """Return whether files of one size and orientation are slices across the body's axis."""
    first = slices.iloc[0]
    if len(slices) < MIN_SLICES or not first["ImageOrientationPatient"]:
        return False
    row, column = np.reshape(first["ImageOrientationPatient"], (2, 3))
    return bool(
        (slices["Modality"] == "CT").all()
        and slices["SOPClassUID"].isin(_CT_CLASSES).all()
        and (slices["NumberOfFrames"] <= 1).all()
        and slices["ImagePositionPatient"].map(bool).all()
        and first["PixelSpacing"]
        and min(first["PixelSpacing"]) > 0
        and abs(np.cross(row, column)[2]) >= _MIN_AXIAL
        and not slices["ImageType"].map(lambda text: bool(_NO_SCAN & _values(text))).any()
    )


def _values(image_type: str) -> set[str]:
    """Return the values of an ImageType."""
    return {value.strip().upper() for value in image_type.split("\\")}


def _is_original_axial(image_type: str) -> bool:
    """Return whether an ImageType is that of slices as the scanner first made them."""
    return {"ORIGINAL", "PRIMARY", "AXIAL"} <= _values(image_type)


def _heights(slices: pd.DataFrame) -> np.ndarray:
    """Return where slices lie along the body's axis, in mm; they are parallel."""
    return np.array([position[2] for position in slices["ImagePositionPatient"]])


def spacing_problem(positions: np.ndarray) -> str:
    """Return why slices are no even stack, "" where they are.

    Args:
        positions: (slices, 3) in mm, of each slice's first pixel, in order.
    """
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if steps.min() < 0.01:
        return "CT series with two slices at one position"
    even = np.linspace(positions[0], positions[-1], len(positions))
    shift = np.linalg.norm(positions - even, axis=1).max()
    if shift <= _MAX_SHIFT * np.median(steps):
        return ""
    if steps.max() > 1.5 * np.median(steps):
        return "CT series with a gap between slices"
    return "CT series with uneven spacing"
