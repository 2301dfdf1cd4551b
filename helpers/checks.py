"""Validations whose messages say what was expected, what was found and what to do.

In: values a user can get wrong. Out: nothing, or the value itself. Refuses: by `InputError`, whose one-line
message is all a user needs to see (`run_all.py` prints it without a traceback).
"""

import difflib
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd


class InputError(ValueError):
    """A parameter, path, file or table that the user can put right."""


def refuse(expected: str, got: object, do: str) -> None:
    """Raise `InputError` with the house's one-line message.

    Raises:
        InputError: always.
    """
    raise InputError(f"Expected {expected}; got {got}. {do}")


def examples(values: Collection, most: int = 3) -> str:
    """Return at most `most` of the values as text, with the number left out."""
    shown = ", ".join(repr(value) for value in list(values)[:most])
    return shown + (f" (+{len(values) - most} more)" if len(values) > most else "")


def one_of(name: str, value: object, allowed: Collection) -> object:
    """Return `value` if it is one of `allowed`.

    Raises:
        InputError: it is not; names the closest allowed value.
    """
    if value not in allowed:
        close = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Choose one of these."
        refuse(f"{name} to be one of {', '.join(map(str, allowed))}", repr(value), hint)
    return value


def number(name: str, value: object, low: float, high: float, integer: bool = False, open_low: bool = False) -> float:
    """Return `value` if it is a finite number in [low, high], or in (low, high] with `open_low`.

    Raises:
        InputError: another type, not finite, or outside the range.
    """
    kind = "an integer" if integer else "a number"
    wanted = f"{name} to be {kind} in {'(' if open_low else '['}{low:g}, {high:g}{']' if high < math.inf else ')'}"
    is_number = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value > high or value < low or (open_low and value == low):
        refuse(wanted, repr(value), f"Set {name} in the parameters cell, the profile or with --set.")
    return value


def same_length(**arrays: Collection) -> None:
    """Accept arrays of one common length.

    Raises:
        InputError: lengths differ; names each array and its length.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        refuse(f"{' and '.join(lengths)} of one length", lengths, "Pass arrays of the same images in the same order.")


def has_columns(table: pd.DataFrame, columns: Collection[str], where: str) -> None:
    """Accept a table that has all `columns`.

    Raises:
        InputError: some are absent; names them and the columns there are.
    """
    absent = [column for column in columns if column not in table.columns]
    if absent:
        refuse(f"columns {examples(absent)} in {where}", f"columns {examples(list(table.columns), 12)}",
               "Correct the file, or the column names in the manifest.")


def file_exists(path: Path, made_by: str) -> Path:
    """Return `path` if a file or folder is there.

    Args:
        path: the file or folder needed.
        made_by: what makes it, as an instruction ("Run notebook 01 first").

    Raises:
        InputError: nothing is there.
    """
    if not Path(path).exists():
        refuse(f"a file at {path}", "nothing there", made_by)
    return Path(path)


# One rule per parameter of the notebooks, so that `run_all.py` can refuse a value before any kernel starts.
_PARAMETER_RULES = {
    "EPSILON": dict(low=0, high=1000, open_low=True),
    "DELTA": dict(low=0, high=0.1, open_low=True),
    "CLIP_NORM": dict(low=0, high=1e6, open_low=True),
    "SEED": dict(low=0, high=2**31, integer=True),
    "EPOCHS": dict(low=1, high=1e5, integer=True),
    "PRETRAIN_EPOCHS": dict(low=1, high=1e5, integer=True),
    "BATCH_SIZE": dict(low=1, high=1e7, integer=True),
    "EXPECTED_BATCH_SIZE": dict(low=1, high=1e7, integer=True),
    "PHYSICAL_BATCH_SIZE": dict(low=1, high=1e6, integer=True),
    "MAX_IMAGES_PER_PATIENT": dict(low=1, high=1e4, integer=True),
    "VIEWS_PER_IMAGE": dict(low=1, high=1e4, integer=True),
    "LEARNING_RATE": dict(low=0, high=100, open_low=True),
    "PRETRAIN_LEARNING_RATE": dict(low=0, high=100, open_low=True),
    "NOISE_MULTIPLIER": dict(low=0, high=1e6),
    "AVERAGING": dict(low=0, high=0.9999),
    "N_PATIENTS": dict(low=0, high=1e8, integer=True),
    "N_TEST_PATIENTS": dict(low=0, high=1e8, integer=True),
    "N_PUBLIC_PATIENTS": dict(low=0, high=1e8, integer=True),
    "GENERATOR_SEED": dict(low=0, high=2**31, integer=True),
    "IMAGE_PX": dict(low=0, high=2048, integer=True),
    "WIDTH": dict(low=8, high=512, integer=True),
    "N_BOOTSTRAP": dict(low=20, high=1e5, integer=True),
    "MIN_PATIENTS": dict(low=1, high=1e5, integer=True),
    "TARGET_SENSITIVITY": dict(low=0, high=1, open_low=True),
    "MARGIN": dict(low=0, high=0.5, open_low=True),
    "BUDGET": dict(low=0, high=1000, open_low=True),
}
_MAY_BE_NONE = ("NOISE_MULTIPLIER", "EXPECTED_BATCH_SIZE", "EPOCHS", "LEARNING_RATE",  # None: by budget or rule, in notebook 03
                "TARGET_SENSITIVITY", "BUDGET")
_PARAMETER_CHOICES = {
    "PRIVACY_UNIT": ("patient", "image"),
    "MODE": ("demo", "private"),
    "PRECISION": ("float32", "bfloat16"),
    "SCHEDULE": ("cosine", "constant"),
    "POS_WEIGHT": ("none", "public", "private"),
    "HEAD": ("sided", "pooled"),
    "TRAINED": ("all", "last_block", "norms_and_head", "head"),
    "PRETRAIN_AUGMENTATION": ("strong", "shift"),
    "EQUALISE": ("as_manifest", "yes", "no"),
}


def _planned(value: object) -> None:
    """Accept planned comparisons, [attribute, contrast, epsilon] each."""
    wanted = 'PLANNED to be a list of [attribute, contrast, epsilon], e.g. ["sex", "female - male", 1.06]'
    for each in value if isinstance(value, list) else [None]:
        form = [type(part) for part in each] if isinstance(each, list) else []
        if form not in ([str, str, float], [str, str, int]):
            refuse(wanted, repr(value if each is None else each), "Correct PLANNED of notebook 04; [] plans none.")
    if len(value) > MOST_PLANNED:
        refuse(f"at most {MOST_PLANNED} planned comparisons", len(value), "Keep those that matter: each takes power from the others.")


def _age_edges(value: object) -> None:
    """Accept lower edges of age bands in years."""
    is_numbers = isinstance(value, list) and all(isinstance(edge, (int, float)) and not isinstance(edge, bool) for edge in value)
    if not is_numbers or len(value) < 2 or value[0] != 0 or any(low >= high for low, high in zip(value, value[1:])) or value[-1] > 120:
        refuse("AGE_EDGES to be lower edges of age bands in years, from 0 upwards, e.g. [0, 30, 60, 70, 80]", repr(value),
               "The last band is open. Correct AGE_EDGES of notebook 04.")


def _volume_shape(value: object) -> None:
    """Accept depth, height and width in voxels, or none."""
    is_sizes = isinstance(value, list) and len(value) in (0, 3) and all(type(size) is int and 8 <= size <= 512 for size in value)
    if not is_sizes:
        refuse("VOLUME_SHAPE to be [depth, height, width], 8 to 512 voxels each, or []", repr(value), "For example [32, 64, 64].")


def _window(value: object) -> None:
    """Accept both ends of a window in Hounsfield units, or none."""
    is_ends = isinstance(value, list) and len(value) in (0, 2) and all(type(end) in (int, float) and abs(end) < 1e4 for end in value)
    if not is_ends or value and not value[0] < value[1]:
        refuse("WINDOW_HU to be [lower, upper] in Hounsfield units, or []", repr(value), "For example [-150, 250].")


MOST_PLANNED = 12  # comparisons of notebook 04: more would leave none of them any power
_PARAMETER_FORMS = {"PLANNED": _planned, "AGE_EDGES": _age_edges, "VOLUME_SHAPE": _volume_shape, "WINDOW_HU": _window}


def parameters(values: Mapping[str, object]) -> None:
    """Accept parameters of a notebook whose values lie in the range of their name.

    Args:
        values: UPPER_CASE name -> value; names without a rule pass.

    Raises:
        InputError: the first value outside its range or its choices.
    """
    for name, value in values.items():
        if name in _PARAMETER_RULES and (value is not None or name not in _MAY_BE_NONE):
            number(name, value, **_PARAMETER_RULES[name])
        if name in _PARAMETER_CHOICES:
            one_of(name, value, _PARAMETER_CHOICES[name])
        if name in _PARAMETER_FORMS:
            _PARAMETER_FORMS[name](value)
        if name == "RECIPE" and not re.fullmatch("[a-z0-9_]+", str(value)):
            refuse("RECIPE of small letters, digits and _, since it names files", repr(value), "For example my_recipe.")


def mode_fits(mode: str, access: str) -> None:
    """Accept private mode for any cohort, and demo mode for embedded ones only.

    Args:
        mode: "demo" or "private".
        access: of the cohort's manifest.

    Raises:
        InputError: demo mode on real data: its noise can be recomputed from the seed, and it shows diagnostics.
    """
    if mode == "demo" and access != "embedded":
        refuse("MODE = 'private' on real data", "MODE = 'demo', which promises nothing",
               "Set MODE for notebook 03 in the profile or with --set 03.MODE=private.")
