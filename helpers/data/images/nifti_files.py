"""One NIfTI file in, its voxels as they are stored, its affine and its scale out.

In: the path of a `.nii` or `.nii.gz` file. Out: arrays. Raises `UnusableImage`, with a reason that
can be counted, for damaged files, more than three dimensions, spacings of 0, colours, DICOM;
`InputError` where nibabel is not installed.
"""

from pathlib import Path

import numpy as np

from helpers.core import errors
from helpers.data.images import dicom_library
from helpers.data.images.image_limits import UnusableImage

MAX_VOXELS = 2**29
READ_DICOM = "the layout dicom_files reads it"


def nibabel():
    """Return the module nibabel."""
    try:
        import nibabel as module
    except ImportError:
        errors.refuse(
            "the package nibabel, which reads CT volumes",
            "an environment without it",
            "pip install nibabel, or .[ct]",
        )
    return module


def read(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return a file's voxels (three dimensions, as stored), its affine, and the slope and intercept
    that make them its values.
    """
    library = nibabel()
    try:
        with open(path, "rb") as stream:
            if dicom_library.is_dicom(stream.read(dicom_library.HEAD_BYTES)):
                raise UnusableImage(f"a DICOM file, not NIfTI ({READ_DICOM})")
        image = library.load(path)
        shape, affine = image.shape, np.array(image.affine, dtype=float)
        shape = shape[:3] if shape[3:] == (1,) else shape
        if len(shape) != 3:
            raise UnusableImage(f"volume of {len(shape)} dimensions")
        if np.prod(shape) > MAX_VOXELS or min(shape) < 2:
            raise UnusableImage("volume too large or without depth")
        with library.openers.ImageOpener(path) as stream:
            # a check would make 1 of 0
            as_stored = type(image.header).from_fileobj(stream, check=False)
        # nibabel would make one up
        if not any(int(image.header[code]) for code in ("qform_code", "sform_code")):
            raise UnusableImage("volume whose header does not say where right, front and head are")
        if (
            not np.isfinite(affine).all()
            or min(as_stored.get_zooms()[:3]) <= 0
            or abs(np.linalg.det(affine[:3, :3])) < 1e-6
        ):
            raise UnusableImage("volume with a spacing of 0")
        if image.get_data_dtype().kind not in "iuf":
            raise UnusableImage("volume of colours or pairs, not of numbers")
        scale = (image.dataobj.slope, image.dataobj.inter)
        return np.asanyarray(image.dataobj.get_unscaled()).reshape(shape), affine, scale
    except UnusableImage:
        raise
    except Exception:  # a damaged file can raise almost anything
        raise UnusableImage("volume cannot be decoded") from None
