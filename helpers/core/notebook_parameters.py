"""Ranges and choices of the notebooks' parameters.

In: UPPER_CASE parameters. Out: nothing. Raises `InputError` for the first value outside its range
or choices.
"""

import re
from collections.abc import Mapping

from helpers.core import errors

# One rule per parameter of the notebooks, so that `run_all.py` can refuse a value before any kernel
# starts.
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
# None: by budget or rule, in notebook 03
_MAY_BE_NONE = (
    "NOISE_MULTIPLIER",
    "EXPECTED_BATCH_SIZE",
    "EPOCHS",
    "LEARNING_RATE",
    "TARGET_SENSITIVITY",
    "BUDGET",
)
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
    wanted = (
        'PLANNED to be a list of [attribute, contrast, epsilon], e.g. ["sex", "female - male",'
        " 1.06]"
    )
    for each in value if isinstance(value, list) else [None]:
        form = [type(part) for part in each] if isinstance(each, list) else []
        if form not in ([str, str, float], [str, str, int]):
            errors.refuse(
                wanted,
                repr(value if each is None else each),
                "Correct PLANNED of notebook 04; [] plans none.",
            )
    if len(value) > MOST_PLANNED:
        errors.refuse(
            f"at most {MOST_PLANNED} planned comparisons",
            len(value),
            "Keep those that matter: each takes power from the others.",
        )


def _age_edges(value: object) -> None:
    """Accept lower edges of age bands in years."""
    is_numbers = isinstance(value, list) and all(
        isinstance(edge, (int, float)) and not isinstance(edge, bool) for edge in value
    )
    if (
        not is_numbers
        or len(value) < 2
        or value[0] != 0
        or any(low >= high for low, high in zip(value, value[1:]))
        or value[-1] > 120
    ):
        errors.refuse(
            "AGE_EDGES to be lower edges of age bands in years, from 0 upwards, e.g. [0, 30, 60,"
            " 70, 80]",
            repr(value),
            "The last band is open. Correct AGE_EDGES of notebook 04.",
        )


def _volume_shape(value: object) -> None:
    """Accept depth, height and width in voxels, or none."""
    is_sizes = (
        isinstance(value, list)
        and len(value) in (0, 3)
        and all(type(size) is int and 8 <= size <= 512 for size in value)
    )
    if not is_sizes:
        errors.refuse(
            "VOLUME_SHAPE to be [depth, height, width], 8 to 512 voxels each, or []",
            repr(value),
            "For example [32, 64, 64].",
        )


def _window(value: object) -> None:
    """Accept both ends of a window in Hounsfield units, or none."""
    is_ends = (
        isinstance(value, list)
        and len(value) in (0, 2)
        and all(type(end) in (int, float) and abs(end) < 1e4 for end in value)
    )
    if not is_ends or value and not value[0] < value[1]:
        errors.refuse(
            "WINDOW_HU to be [lower, upper] in Hounsfield units, or []",
            repr(value),
            "For example [-150, 250].",
        )


MOST_PLANNED = 12  # comparisons of notebook 04: more would leave none of them any power
_PARAMETER_FORMS = {
    "PLANNED": _planned,
    "AGE_EDGES": _age_edges,
    "VOLUME_SHAPE": _volume_shape,
    "WINDOW_HU": _window,
}


def parameters(values: Mapping[str, object]) -> None:
    """Accept parameters of a notebook whose values lie in the range of their name.

    Args:
        values: UPPER_CASE name -> value; names without a rule pass.

    Raises:
        InputError: the first value outside its range or its choices.
    """
    for name, value in values.items():
        if name in _PARAMETER_RULES and (value is not None or name not in _MAY_BE_NONE):
            errors.number(name, value, **_PARAMETER_RULES[name])
        if name in _PARAMETER_CHOICES:
            errors.one_of(name, value, _PARAMETER_CHOICES[name])
        if name in _PARAMETER_FORMS:
            _PARAMETER_FORMS[name](value)
        if name == "RECIPE" and not re.fullmatch("[a-z0-9_]+", str(value)):
            errors.refuse(
                "RECIPE of small letters, digits and _, since it names files",
                repr(value),
                "For example my_recipe.",
            )


def mode_fits(mode: str, access: str) -> None:
    """Accept private mode for any cohort, and demo mode for embedded ones only.

    Args:
        mode: "demo" or "private".
        access: of the cohort's manifest.

    Raises:
        InputError: demo mode on real data: its noise can be recomputed from the seed, and it shows
            diagnostics.
    """
    if mode == "demo" and access != "embedded":
        errors.refuse(
            "MODE = 'private' on real data",
            "MODE = 'demo', which promises nothing",
            "Set MODE for notebook 03 in the profile or with --set 03.MODE=private.",
        )
