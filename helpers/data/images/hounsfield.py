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
HIGHEST_HU = 3071.0  # of 12 bits; padding may have it, or more
LOWEST_HU = -1100.0  # with the noise of air; less is padding outside the field of view
SAMPLED_VOXELS = 2**20  # enough to see where the bulk of a volume lies
_WRONG = "volume not in Hounsfield units: "
NO_INTERCEPT = _WRONG + "soft tissue lies near 1000, expected near 40 (rescale intercept missing?)"
TWICE = _WRONG + "hardly a voxel lies where soft tissue is expected, near 40 (intercept twice?)"
TINY_UNIT = _WRONG + "nearly all values lie within 10 of each other (scaled to 0..1?)"
NO_AIR = _WRONG + "the background lies near 0, expected -1000 (scaled to 0..255? MR?)"
OTHER_AIR = _WRONG + "air lies elsewhere than near -1000 (another scale or intercept?)"
ZERO_PADDING = _WRONG + "outside the field of view it is 0, which is water, expected -1000"
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
    if not has_fat_or_air and (
        _has_background_at_0(inside) or _is_of_8_bits(inside) or _is_stretched(inside)
    ):
        return NO_AIR
    if _has_other_air(values, inside, below):
        return OTHER_AIR
    return NARROW if _is_cut_to(inside, window_hu) else None


def refuse_other_unit(
    voxels: np.ndarray,
    slope: float,
    intercept: float,
    window_hu: tuple[float, float],
    is_padding: np.ndarray | None = None,
) -> None:
    """Accept a volume of Hounsfield units, by a sample of its voxels.

    Args:
        voxels: as stored.
        slope, intercept: make Hounsfield units of them.
        window_hu: see `doubt`.
        is_padding: same shape, voxels that say nothing; None for none.

    Raises:
        UnusableImage: see `doubt`.
    """
    stride = max(1, int(np.ceil((voxels.size / SAMPLED_VOXELS) ** (1 / 3))))
    evenly = (slice(None, None, stride),) * 3
    sample = voxels[evenly] if is_padding is None else voxels[evenly][~is_padding[evenly]]
    if reason := doubt(sample * np.float64(slope) + intercept, window_hu):
        raise UnusableImage(reason)
    corners = voxels[tuple(slice(None, None, max(1, size - 1)) for size in voxels.shape)]
    if (corners * np.float64(slope) + intercept == 0).all() and voxels.min() != voxels.max():
        raise UnusableImage(ZERO_PADDING)
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


def high_padding(voxels: np.ndarray, slope: float, intercept: float) -> np.ndarray | None:
    """Return where a volume has padding of a high value outside its field of view, or None.

    It is one value, the volume's highest, of at least `HIGHEST_HU`, in at least a twentieth of the
    outermost voxels; what hangs together with these is padding. Metal inside is not.
    """
    highest = voxels.max() if slope > 0 else voxels.min()
    if float(highest) * slope + intercept < HIGHEST_HU:
        return None
    is_highest = voxels == highest
    border = np.ones(voxels.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    if is_highest[border].mean() < 0.05:
        return None
    from scipy import ndimage

    parts, _ = ndimage.label(is_highest)
    outside = np.unique(parts[border & is_highest])
    return np.isin(parts, outside)


def with_air(
    voxels: np.ndarray, is_padding: np.ndarray, slope: float, intercept: float
) -> np.ndarray:
    """Return stored voxels with air where there is padding, or the darkest value that they have."""
    air, darkest = (AIR_HU - intercept) / slope, voxels.min() if slope > 0 else voxels.max()
    is_too_dark = air < darkest if slope > 0 else air > darkest
    return np.where(is_padding, darkest if is_too_dark else voxels.dtype.type(air), voxels)


def _has_other_air(values: np.ndarray, inside: np.ndarray, below: np.ndarray) -> bool:
    """Return whether air, where there is much of it, lies elsewhere than near -1000, or most of
    what is not air where nothing of a body does.

    Lung is no air: it lies from -950 to -700. Dark values are those below -300.
    """
    noise = below
    if below.size:  # padding is one value or a few
        levels, index, counts = np.unique(np.rint(below), return_inverse=True, return_counts=True)
        noise = below[(counts <= 0.3 * below.size)[index.ravel()] & (below > below.min())]
    dark = np.concatenate([noise, inside[inside < -300]])
    n_voxels = noise.size + inside.size
    if dark.size > 0.05 * n_voxels and noise.size > 0.02 * n_voxels and np.median(dark) < -1100:
        return True
    between = np.mean((inside > -700) & (inside < -200))
    if between > 0.15 and between > 2 * np.mean(inside <= -700):
        return True
    tissue = inside[(inside > -300) & (inside < 700)]
    if not tissue.size or dark.size < 0.05 * n_voxels:
        return False
    return bool(np.median(tissue) > 90 and np.percentile(dark, 5) > -880)


def _is_stretched(inside: np.ndarray) -> bool:
    """Return whether values reach from 0 to exactly the upper end of a usual scale."""
    low, high = float(inside.min()), float(inside.max())
    return abs(low) < 1e-3 and any(abs(high - end) < 1e-3 for end in (100, 255, 1000, 1023, 4095))


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
