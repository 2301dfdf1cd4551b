"""One CT volume in, voxels of 8 bit out: one axis order, one spacing, one window.

In: the path of a `.nii` or `.nii.gz` file, or those of a DICOM series' slices, with any orientation
and spacing, also oblique. Out:
(depth, height, width) uint8, head first, front first, the patient's right on the viewer's left.
Raises `UnusableImage`, with a reason that can be counted, for damaged files, more than three
dimensions, voxels that are not numbers, spacings of 0, values that are not Hounsfield units, DICOM.
Everything done to a volume is a function of that volume alone (and of the mask of its organ, if it
is centred on one).
"""

import hashlib
from pathlib import Path

import numpy as np

from helpers.core import errors
from helpers.data import dicom_library, dicom_volume
from helpers.data.image_limits import UnusableImage

AIR_HU = -1000.0
READ_DICOM = "the layout dicom_files reads it"


def decode(
    path: Path | list[Path],
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    window_hu: tuple[float, float],
    mask: Path | None = None,
    mask_labels: tuple[int, ...] = (),
) -> tuple[np.ndarray, str]:
    """Return a volume of 8 bit on a grid of its own: resampled to a spacing, cropped or padded with
    air to a shape.

    Where the grid is at least twice as coarse, neighbouring voxels are averaged first; then the
    volume is interpolated linearly by its affine.

    Args:
        path: of the NIfTI file, or of the slices of one DICOM series, in order.
        shape: depth, height, width in voxels.
        spacing_mm: along the same.
        window_hu: Hounsfield units that become 0 and 255.
        mask: NIfTI file of labels; the grid's middle is that of the box around `mask_labels`, else
            that of the volume. The grid's size never depends on it, and the labels must be the
            whole organ, lesion included, in cases and controls alike.
        mask_labels: see above.

    Returns:
        (depth, height, width) uint8, and the SHA-256 of the scan: of its Hounsfield units in one
        axis order, as integers. It is the same however a file is packed, typed, scaled or has its
        axes exchanged or flipped, and whatever its grid here is.

    Raises:
        UnusableImage: see the module.
        InputError: nibabel is not installed.
    """
    nibabel = _nibabel()
    voxels, affine, (slope, intercept) = _read(path)
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise UnusableImage("volume with voxels that are not numbers")
    if min(float(end) * slope + intercept for end in (voxels.min(), voxels.max())) > -200:
        raise UnusableImage("volume without a value below -200: not in Hounsfield units")
    from nibabel import processing

    sha256 = _hash_of(voxels, affine, slope, intercept)
    middle = (
        affine @ [*(np.array(voxels.shape) - 1) / 2, 1]
        if mask is None
        else _middle_of(mask, mask_labels)
    )
    voxels, affine = _averaged(voxels, affine, spacing_mm)
    to = np.zeros((4, 4))
    # depth runs down, height to the back, width to the left: against z, y, x of the scanner
    to[:3, :3] = -np.diag(spacing_mm)[::-1]
    to[:, 3] = middle - to @ [*(np.array(shape) - 1) / 2, 0]
    hounsfield = nibabel.Nifti1Image(voxels * np.float32(slope) + np.float32(intercept), affine)
    grid = processing.resample_from_to(hounsfield, (shape, to), order=1, cval=AIR_HU)
    eight_bit = window(np.asarray(grid.dataobj, np.float32), window_hu)
    if eight_bit.min() == eight_bit.max():
        raise UnusableImage("volume of one grey value in the window")
    return eight_bit, sha256


def window(hounsfield: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    """Return voxels of 8 bit: the lower end of the window is black, the upper white."""
    low, high = window_hu
    return np.rint(
        np.clip((hounsfield.astype(np.float32) - low) / (high - low), 0, 1) * 255
    ).astype(np.uint8)


def three_planes(
    volume: np.ndarray, voxel: tuple[int, int, int] | None = None
) -> dict[str, np.ndarray]:
    """Return the axial, coronal and sagittal slice through a voxel (the middle one without it),
    each (rows, columns) uint8.
    """
    z, y, x = (
        int(np.clip(index, 0, size - 1))
        for index, size in zip(voxel or [size // 2 for size in volume.shape], volume.shape)
    )
    return {"axial": volume[z], "coronal": volume[:, y], "sagittal": volume[:, :, x]}


def _nibabel():
    """Return the module nibabel."""
    try:
        import nibabel
    except ImportError:
        errors.refuse(
            "the package nibabel, which reads CT volumes",
            "an environment without it",
            "pip install nibabel, or .[ct]",
        )
    return nibabel


def _read(path: Path | list[Path]) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Return a file's voxels (three dimensions, as stored), its affine, and the slope and intercept
    that make them its values.
    """
    if isinstance(path, list):
        return *dicom_volume.read_volume(path), (1.0, 0.0)
    nibabel = _nibabel()
    try:
        with open(path, "rb") as stream:
            if dicom_library.is_dicom(stream.read(dicom_library.HEAD_BYTES)):
                raise UnusableImage(f"a DICOM file, not NIfTI ({READ_DICOM})")
        image = nibabel.load(path)
        shape, affine = image.shape, np.array(image.affine, dtype=float)
        shape = shape[:3] if shape[3:] == (1,) else shape
        if len(shape) != 3:
            raise UnusableImage(f"volume of {len(shape)} dimensions")
        if np.prod(shape) > dicom_volume.MAX_VOXELS or min(shape) < 2:
            raise UnusableImage("volume too large or without depth")
        with nibabel.openers.ImageOpener(path) as stream:
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


def _hash_of(voxels: np.ndarray, affine: np.ndarray, slope: float, intercept: float) -> str:
    """Return the hash of a scan, see `decode`.

    A slice at a time, so that no second volume is held.
    """
    orientations = _nibabel().orientations
    turned = orientations.apply_orientation(voxels, orientations.io_orientation(affine))
    digest = hashlib.sha256(repr(turned.shape).encode())
    for level in range(turned.shape[2]):
        hounsfield = turned[:, :, level].astype(np.float64) * slope + intercept
        digest.update(np.rint(np.clip(hounsfield, -32768, 32767)).astype("<i2").tobytes())
    return digest.hexdigest()


def _averaged(
    voxels: np.ndarray, affine: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 means of blocks of voxels, where the spacing wanted is a multiple of theirs,
    and the blocks' affine.

    The outermost blocks are repeated once on each side: up to its border, not to the middle of its
    last block, a volume is no air.
    """
    stored_mm = np.linalg.norm(affine[:3, :3], axis=0)
    # of each stored axis: 0 for right-left, 1 front-back, 2 head-feet
    axis_of = _nibabel().io_orientation(affine)[:, 0]
    wanted_mm = np.array(spacing_mm)[[2 - int(axis) for axis in axis_of]]
    factors = [
        max(1, min(int(wanted / stored + 1e-6), size))
        for wanted, stored, size in zip(wanted_mm, stored_mm, voxels.shape)
    ]
    cut = voxels[
        tuple(slice(size // factor * factor) for size, factor in zip(voxels.shape, factors))
    ]
    # one axis after the other: little memory beside the volume's
    for axis, factor in enumerate(factors):
        blocks = cut.reshape(
            *cut.shape[:axis], cut.shape[axis] // factor, factor, *cut.shape[axis + 1 :]
        )
        cut = blocks.mean(axis=axis + 1, dtype=np.float32) if factor > 1 else cut
    larger = affine @ np.diag([*factors, 1.0])
    larger[:3, 3] = (affine @ [*(np.array(factors) - 1) / 2 - factors, 1])[:3]
    return np.pad(cut.astype(np.float32, copy=False), 1, mode="edge"), larger


def _middle_of(mask: Path, labels: tuple[int, ...]) -> np.ndarray:
    """Return (x, y, z, 1) in the scanner's mm of the middle of the box around the voxels with one
    of the labels.
    """
    if not mask.is_file():
        raise UnusableImage("mask to centre on is absent")
    voxels, affine, _ = _read(mask)
    inside = np.argwhere(np.isin(voxels, labels))
    if not len(inside):
        raise UnusableImage("mask to centre on is empty")
    return affine @ [*(inside.min(0) + inside.max(0)) / 2, 1]
