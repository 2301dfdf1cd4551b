"""Whether a CT volume is in Hounsfield units, by where the bulk of its voxels lies.

In: voxels as stored, their slope and intercept. Out: voxels in which padding is air. Raises
`UnusableImage`, with a reason that can be counted, for values that have another unit.

Air is -1000, lung -850, fat -100, soft tissue 20 to 80 and with contrast up to 300; little but bone
lies above 700. What lies below `LOWEST_HU` is padding and says nothing: its value is anybody's
choice. A crop without air, or even without fat, is right as long as nothing else speaks against it.
"""

import numpy as np

from helpers.data.images.image_limits import UnusableImage

AIR_HU = -1000.0
LOWEST_HU = -1100.0  # with the noise of air; less is padding outside the field of view
SAMPLED_VOXELS = 2**20  # enough to see where the bulk of a volume lies
_WRONG = "volume not in Hounsfield units: "
NO_INTERCEPT = _WRONG + "soft tissue lies near 1000, expected near 40 (rescale intercept missing?)"
TWICE = _WRONG + "hardly a voxel lies where soft tissue is expected, near 40 (intercept twice?)"
TINY_UNIT = _WRONG + "nearly all values lie within 10 of each other (scaled to 0..1?)"
NO_AIR = _WRONG + "the background lies near 0, expected -1000 (scaled to 0..255? MR?)"
NARROW = "volume cut to a window of Hounsfield units that is narrower than the one asked for"


def doubt(values: np.ndarray, window_hu: tuple[float, float]) -> str | None:
    """Return why values are not Hounsfield units, or not all that a window shows.

    Args:
        values: any shape, finite, of a volume or of evenly spaced voxels of it.
        window_hu: lower and upper end of the window that is to be shown.
    """
    inside = values[values > LOWEST_HU]
    if not inside.size or inside.min() == inside.max():
        return None
    tissue = inside[inside > -300]
    soft_share = np.mean((inside > -200) & (inside < 300))
    has_fat_or_air = np.mean(inside < -80) > 0.01
    dense_share = np.mean(tissue > 700) if tissue.size else 0.0
    if _is_tiny(inside):
        return TINY_UNIT
    below = values[values <= LOWEST_HU]  # padding has one value, air and fat have noise
    has_noise_below = below.size and np.mean(below > below.min()) * below.size > 0.01 * values.size
    is_without_tissue = soft_share < 0.01 or (soft_share < 0.05 and has_noise_below)
    if is_without_tissue and np.median(inside) < -300:
        return TWICE
    if dense_share > 0.3 or (dense_share > 0.05 and not has_fat_or_air):
        return NO_INTERCEPT
    if is_without_tissue:
        return TWICE
    if not has_fat_or_air and (_has_background_at_0(inside) or _is_of_8_bits(inside)):
        return NO_AIR
    return NARROW if _is_cut_to(inside, window_hu) else None


def refuse_other_unit(
    voxels: np.ndarray, slope: float, intercept: float, window_hu: tuple[float, float]
) -> None:
    """Accept a volume of Hounsfield units, by a sample of its voxels.

    Args:
        voxels: as stored.
        slope, intercept: make Hounsfield units of them.
        window_hu: see `doubt`.

    Raises:
        UnusableImage: see `doubt`.
    """
    stride = max(1, int(np.ceil((voxels.size / SAMPLED_VOXELS) ** (1 / 3))))
    sample = voxels[::stride, ::stride, ::stride]
    if reason := doubt(sample * np.float64(slope) + intercept, window_hu):
        raise UnusableImage(reason)
    if voxels.dtype == np.uint8 and slope == 1 and intercept == 0:  # air cannot be stored
        raise UnusableImage(NO_AIR)


def air_outside(voxels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Return floats with air in place of what is not a number outside the field of view.

    Raises:
        UnusableImage: such voxels inside it, between two numbers of a row, or infinite ones.
    """
    if np.isinf(voxels).any():
        raise UnusableImage("volume with infinite voxels, which are not numbers")
    is_missing = np.isnan(voxels)
    if not is_missing.any():
        return voxels
    for axis in range(3):
        from_start = np.logical_or.accumulate(~is_missing, axis)
        from_end = np.flip(np.logical_or.accumulate(np.flip(~is_missing, axis), axis), axis)
        if (is_missing & from_start & from_end).any():
            raise UnusableImage("volume with voxels inside it that are not numbers")
    air = voxels.dtype.type((AIR_HU - intercept) / slope)
    return np.where(is_missing, air, voxels)


def without_padding(voxels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Return stored voxels with air in place of what lies below `LOWEST_HU`."""
    lowest, air = ((level - intercept) / slope for level in (LOWEST_HU, AIR_HU))
    is_padding = voxels < lowest if slope > 0 else voxels > lowest
    return np.where(is_padding, voxels.dtype.type(air), voxels) if is_padding.any() else voxels


def _is_tiny(inside: np.ndarray) -> bool:
    """Return whether values have another unit: all of them, or nearly all around 0, within 10."""
    low, median, high = np.percentile(inside, [0.5, 50, 99.5])
    return inside.max() - inside.min() <= 10 or (high - low <= 10 and abs(median) <= 5)


def _has_background_at_0(inside: np.ndarray) -> bool:
    """Return whether many voxels lie at or around 0, and the others not near it.

    Tissue alone has no such background: its lowest values are a tail of noise.
    """
    lowest = inside.min()
    if -5 <= lowest <= 30 and np.mean(inside == lowest) > 0.02:
        return True
    above = inside[inside > 20]
    return bool(np.mean(abs(inside) <= 20) > 0.05 and above.size and np.median(above) > 90)


def _is_of_8_bits(inside: np.ndarray) -> bool:
    """Return whether values are the integers from 0 to 255, which noise of a scan oversteps."""
    low, high = inside.min(), inside.max()
    is_within = low >= 0 and 200 <= high <= 255
    return bool(is_within and len(np.unique(inside)) > 50 and (inside == np.rint(inside)).all())


def _is_cut_to(inside: np.ndarray, window_hu: tuple[float, float]) -> bool:
    """Return whether values were cut at both ends, at least one of them inside the window."""
    low, high = inside.min(), inside.max()
    is_cut = (
        -900 < low < -50
        and high < 1000
        and np.mean(inside == low) > 0.05
        and np.mean(inside == high) > 0.001
        and len(np.unique(inside)) > 50  # drawn tissue without noise has few values
    )
    return bool(is_cut and (low > window_hu[0] or high < window_hu[1]))
