"""The slices of one DICOM series in, its voxels in Hounsfield units and their affine out.

In: paths, in order. Raises `UnusableImage`, with a reason that can be counted, for series that
cannot be decoded; `InputError` where pydicom or SimpleITK is not installed.

SimpleITK decodes and rescales the slices. Where they lie follows from their own tags, so that a
tilted gantry is corrected by the affine, without interpolation.
"""

from pathlib import Path

import numpy as np

from helpers.core import errors
from helpers.data.images import dicom_library
from helpers.data.images.image_limits import MAX_BYTES, UnusableImage

MAX_VOXELS = 2**29
# how many numbers a tag holds
_N_NUMBERS = {
    "AcquisitionNumber": 1,
    "NumberOfFrames": 1,
    "Rows": 1,
    "Columns": 1,
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
}
GEOMETRY = ("SOPClassUID", *_N_NUMBERS)  # tags beside `dicom_tags.COLUMNS`


def geometry_of(tags) -> dict:
    """Return the tags of `GEOMETRY`: text, whole numbers (0 where absent), tuples of numbers (empty
    where absent or of another length).
    """
    geometry = {"SOPClassUID": str(tags.get("SOPClassUID") or "")}
    for keyword, length in _N_NUMBERS.items():
        value = tags.get(keyword)
        if length == 1:
            geometry[keyword] = int(value or 0)
        else:
            numbers = () if value is None or isinstance(value, str) else tuple(map(float, value))
            is_whole = len(numbers) == length and np.isfinite(numbers).all()
            geometry[keyword] = numbers if is_whole else ()
    return geometry


def read(paths: list[Path]) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return a series' voxels in Hounsfield units, their affine, and the scale 1 and 0.

    Args:
        paths: of the slices, as `one_series_a_study` orders them.

    Returns:
        (columns, rows, slices) as SimpleITK types them, and the (4, 4) affine from voxels to mm to
        the right, to the front and to the head, as nibabel's; slope and intercept, as
        `nifti_files.read` has them.

    Raises:
        UnusableImage, InputError: see the module.
    """
    library, simple_itk = dicom_library.pydicom(), _simple_itk()
    try:
        for path in paths:
            with open(path, "rb") as stream:
                if dicom_library.inflates_beyond(stream, MAX_BYTES):
                    raise UnusableImage("CT slice too large")
        ends = [
            library.dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*GEOMETRY])
            for path in (paths[0], paths[-1])
        ]
        first, last = map(geometry_of, ends)
        if first["Rows"] * first["Columns"] * len(paths) > MAX_VOXELS:
            raise UnusableImage("volume too large or without depth")
        reader = simple_itk.ImageSeriesReader()
        reader.SetFileNames([str(path) for path in paths])
        image = reader.Execute()
        voxels = _compact(simple_itk.GetArrayViewFromImage(image))
        affine = _affine(first, last, len(paths))
    except UnusableImage:
        raise
    except Exception:  # a damaged file can raise almost anything
        raise UnusableImage("CT series cannot be decoded") from None
    if voxels.ndim != 3 or len(voxels) != len(paths):
        raise UnusableImage("CT series of colours or of several frames")
    return voxels.transpose(), affine, (1.0, 0.0)


def _compact(voxels: np.ndarray) -> np.ndarray:
    """Return a copy in 16 bits where they hold all values: SimpleITK takes 32 for many scans."""
    is_short = voxels.dtype.kind in "iu" and -(2**15) <= voxels.min() <= voxels.max() < 2**15
    return voxels.astype(np.int16 if is_short else voxels.dtype)


def _affine(first: dict, last: dict, n_slices: int) -> np.ndarray:
    """Return the affine of a stack of slices from the tags of its ends.

    DICOM counts to the left, to the back and to the head; nibabel to the right and to the front.
    """
    row, column = np.reshape(first["ImageOrientationPatient"], (2, 3))
    start, end = (np.array(tags["ImagePositionPatient"]) for tags in (first, last))
    between_rows, between_columns = first["PixelSpacing"]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * between_columns, column * between_rows
    affine[:3, 2], affine[:3, 3] = (end - start) / (n_slices - 1), start
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _simple_itk():
    """Return the module SimpleITK, without its warnings."""
    try:
        import SimpleITK
    except ImportError:
        errors.refuse(
            "the package SimpleITK, which reads DICOM series of CT",
            "an environment without it",
            "pip install .[dicom]",
        )
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
