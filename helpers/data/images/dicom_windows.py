"""The stored values of a DICOM radiograph in, the values that a viewer shows at first out.

In: the tags of a file, as pydicom has them, and an array. Out: arrays of the same shape. What the
exceptions of damaged tags mean is for `decode_dicom` to say.
"""

import numpy as np

# what a window must leave of a film: grey values, and the share of pixels between black and white
MIN_LEVELS, MIN_INSIDE = 16, 0.05
SAMPLED_PIXELS = 2**16  # at least, evenly spaced


def rescaled(file, stored: np.ndarray) -> np.ndarray:
    """Return the stored values after the modality LUT, or the rescale."""
    if tables := file.get("ModalityLUTSequence"):
        return _looked_up(stored, tables[0], file.original_encoding[1])
    slope, intercept = (
        _first_number(file.get(name), otherwise)
        for name, otherwise in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    return stored.astype(np.float32) * np.float32(slope or 1) + np.float32(intercept)


def shown(file, values: np.ndarray) -> np.ndarray:
    """Return the values after the first VOI LUT or window, unless it hides the film.

    One that leaves fewer than `MIN_LEVELS` grey values of more, or fewer than `MIN_INSIDE` of the
    pixels between black and white, was not meant for it.
    """
    through = None
    if tables := file.get("VOILUTSequence"):
        through = _looked_up(np.rint(values).astype(np.int64), tables[0], file.original_encoding[1])
    else:
        centre, width = (
            _first_number(file.get(name), np.nan) for name in ("WindowCenter", "WindowWidth")
        )
        function = str(file.get("VOILUTFunction") or "LINEAR").strip().upper()
        if np.isfinite(centre) and width >= (1 if function == "LINEAR" else 1e-6):
            through = window(values, centre, width, function)
    return values if through is None or _hides_the_film(values, through) else through


def _hides_the_film(values: np.ndarray, shown: np.ndarray) -> bool:
    """Return whether a window leaves too little of a film, see `shown`."""
    low, high = shown.min(), shown.max()
    if low == high:
        return True
    stride = max(1, int((shown.size / SAMPLED_PIXELS) ** 0.5))
    sample, levels = values[::stride, ::stride], (shown[::stride, ::stride] - low) / (high - low)
    if len(np.unique(sample)) < MIN_LEVELS:
        return False
    is_inside = (levels > 0) & (levels < 1)
    return len(np.unique(np.rint(levels * 255))) < MIN_LEVELS or is_inside.mean() < MIN_INSIDE


def window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Return values from 0 to 1 by a window.

    Args:
        values: float32, any shape.
        centre, width: in the unit of `values`; a width of at least 1 for LINEAR, above 0 else.
        function: LINEAR, LINEAR_EXACT or SIGMOID; any other counts as LINEAR.

    Source: DICOM PS3.3 C.11.2.1.2.1, C.11.2.1.3.
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - np.float32(centre)) / width, -80, 80)))
    if function != "LINEAR_EXACT":
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return np.clip((values - np.float32(centre)) / np.float32(width) + np.float32(0.5), 0, 1)


def _looked_up(values: np.ndarray, table, is_little_endian: bool) -> np.ndarray:
    """Return the entries of a look-up table; values beyond its ends have the entry at the end.

    pydicom's own function counts in the type of the entries, so tables of 8 bit wrap around.
    """
    n_entries, first, _ = (int(number) for number in table.LUTDescriptor)
    n_entries = n_entries or 2**16
    if first > 2**15 - 1 and values.min() < 0:  # a negative number, stored as if unsigned
        first -= 2**16
    entries = table.LUTData
    if isinstance(entries, bytes):
        words = "<u2" if is_little_endian else ">u2"
        entries = np.frombuffer(entries, words if len(entries) >= 2 * n_entries else np.uint8)
    entries = np.asarray(entries, np.float32)[:n_entries]
    return entries[np.clip(values.astype(np.int64) - first, 0, len(entries) - 1)]


def _first_number(value: object, otherwise: float) -> float:
    """Return a tag's value, the first of several; `otherwise` where it is blank or no number."""
    try:
        return float(value[0] if hasattr(value, "__getitem__") else value)
    except (TypeError, ValueError, IndexError):
        return float(otherwise)
