"""One CT volume in, voxels of 8 bit out: one axis order, one spacing, one window.

In: the path of a `.nii` or `.nii.gz` file, or those of a DICOM series' slices, with any orientation
and spacing, also oblique. Out: (depth, height, width) uint8, head first, front first, the patient's
right on the viewer's left. Raises `UnusableImage`, with a reason that can be counted, for damaged
files, more than three dimensions, voxels that are not numbers, spacings of 0, values that are not
Hounsfield units, DICOM files in place of a NIfTI file; a reason that begins with "mask" is of a
mask that is absent, damaged, empty or of another scan.
Everything done to a volume is a function of that volume alone (and of the mask of its organ, if it
is centred on one).
"""

import hashlib
import itertools
from pathlib import Path

import numpy as np

from helpers.data.images import dicom_volume, hounsfield, nifti_files
from helpers.data.images.image_limits import UnusableImage

STRAY = 0.05  # of the size of an organ's largest part


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
    volume is interpolated linearly by its affine. What is not a number, lies below the Hounsfield
    units of air, or is one high value outside (`hounsfield.high_padding`), is padding and counts as
    air.

    Args:
        path: of the NIfTI file, or of the slices of one DICOM series, in order.
        shape: depth, height, width in voxels.
        spacing_mm: along the same.
        window_hu: Hounsfield units that become 0 and 255.
        mask: NIfTI file of labels; the grid's middle is that of the box around `mask_labels`, else
            that of the volume. Parts of these smaller than `STRAY` of the largest do not count. The
            grid's size never depends on it, and the labels must be the whole organ, lesion
            included, in cases and controls alike.
        mask_labels: see above.

    Returns:
        (depth, height, width) uint8, and the SHA-256 of the scan: of its Hounsfield units in one
        axis order, as integers. It is the same however a file is packed, typed, scaled or has its
        axes exchanged or flipped, and whatever its grid here is.

    Raises:
        UnusableImage: see the module.
        InputError: nibabel is not installed.
    """
    nibabel = nifti_files.nibabel()
    read = dicom_volume.read if isinstance(path, list) else nifti_files.read
    voxels, affine, (slope, intercept) = read(path)
    is_missing = np.isnan(voxels) if voxels.dtype.kind == "f" else None
    if is_missing is not None:
        voxels = hounsfield.air_outside(voxels, slope, intercept)
    is_high = hounsfield.high_padding(voxels, slope, intercept)
    masks = [mask for mask in (is_missing, is_high) if mask is not None]
    is_padding = np.logical_or.reduce(masks) if masks else None
    hounsfield.refuse_other_unit(voxels, slope, intercept, window_hu, is_padding)
    from nibabel import processing

    sha256 = _hash_of(voxels, affine, slope, intercept)
    middle = (
        affine @ [*(np.array(voxels.shape) - 1) / 2, 1]
        if mask is None
        else _middle_of(mask, mask_labels, voxels.shape, affine)
    )
    if is_high is not None:
        voxels = hounsfield.with_air(voxels, is_high, slope, intercept)
    voxels, affine = _averaged(
        hounsfield.without_padding(voxels, slope, intercept), affine, spacing_mm
    )
    to = np.zeros((4, 4))
    # depth runs down, height to the back, width to the left: against z, y, x of the scanner
    to[:3, :3] = -np.diag(spacing_mm)[::-1]
    to[:, 3] = middle - to @ [*(np.array(shape) - 1) / 2, 0]
    scan = nibabel.Nifti1Image(voxels * np.float32(slope) + np.float32(intercept), affine)
    grid = processing.resample_from_to(scan, (shape, to), order=1, cval=hounsfield.AIR_HU)
    eight_bit = window(np.asarray(grid.dataobj, np.float32), window_hu)
    if eight_bit.min() == eight_bit.max():
        raise UnusableImage("volume of one grey value in the window")
    return eight_bit, sha256


def window(volume_hu: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    """Return voxels of 8 bit: the lower end of the window is black, the upper white."""
    low, high = window_hu
    return np.rint(np.clip((volume_hu.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(
        np.uint8
    )


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


def _hash_of(voxels: np.ndarray, affine: np.ndarray, slope: float, intercept: float) -> str:
    """Return the hash of a scan, see `decode`.

    A slice at a time, so that no second volume is held.
    """
    orientations = nifti_files.nibabel().orientations
    turned = orientations.apply_orientation(voxels, orientations.io_orientation(affine))
    digest = hashlib.sha256(repr(turned.shape).encode())
    for level in range(turned.shape[2]):
        values = turned[:, :, level].astype(np.float64) * slope + intercept
        digest.update(np.rint(np.clip(values, -32768, 32767)).astype("<i2").tobytes())
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
    axis_of = nifti_files.nibabel().io_orientation(affine)[:, 0]
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


def _middle_of(
    mask: Path, labels: tuple[int, ...], shape: tuple[int, ...], affine: np.ndarray
) -> np.ndarray:
    """Return (x, y, z, 1) in the scanner's mm of the middle of the box around the voxels with one
    of the labels.
    """
    if not mask.is_file():
        raise UnusableImage("mask to centre on is absent")
    if not mask.stat().st_size:
        raise UnusableImage("mask to centre on is a file of 0 bytes")
    try:
        voxels, mask_affine, (slope, intercept) = nifti_files.read(mask)
    except UnusableImage as error:
        raise UnusableImage(f"mask to centre on: {error}".replace(": volume", ":")) from None
    box, mask_box = _box_mm(shape, affine), _box_mm(voxels.shape, mask_affine)
    coarsest_mm = max(np.linalg.norm(grid[:3, :3], axis=0).max() for grid in (affine, mask_affine))
    if np.abs(box - mask_box).max() > coarsest_mm:
        raise UnusableImage("mask to centre on lies elsewhere than its volume")
    wanted = [(label - intercept) / slope for label in labels]
    is_inside = np.isin(voxels, wanted)
    if not is_inside.any():
        labels = np.unique(voxels) * slope + intercept
        named = ", ".join(f"{label:g}" for label in labels[labels != 0][:5]) or "empty"
        raise UnusableImage(f"mask to centre on has none of its labels: {named}")
    inside = np.argwhere(_without_strays(is_inside))
    return mask_affine @ [*(inside.min(0) + inside.max(0)) / 2, 1]


def _without_strays(is_inside: np.ndarray) -> np.ndarray:
    """Return a mask without its parts that are smaller than `STRAY` of the largest: slips of a pen,
    of which one voxel would move the box. Voxels that touch, also at a corner, are one part.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(is_inside, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return (sizes >= STRAY * sizes.max())[parts] & is_inside


def _box_mm(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return (2, 3) the lowest and highest x, y, z in mm of the middles of a grid's voxels."""
    corners = np.array(list(itertools.product(*((0, size - 1) for size in shape))))
    corners_mm = corners @ affine[:3, :3].T + affine[:3, 3]
    return np.array([corners_mm.min(0), corners_mm.max(0)])
