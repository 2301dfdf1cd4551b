"""Profiles: what a study sets, checked against the notebooks' parameters.

In: a profile (YAML), settings from the command line, the notebooks' parameters cells. Out:
{notebook: {parameter: value}} and the lists a study goes through. Refuses: unknown names, values of
another type or outside their range.

Notebooks are read here as JSON files only: nothing is executed, and nothing imports torch.
"""

import ast
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from helpers.core import errors, notebook_parameters, paths
from helpers.study import notebook_files

PROFILES = paths.repository_root() / "profiles"
# a profile's lists, expanded to one step for each value
_LISTS = {"EPSILONS": "EPSILON", "SEEDS": "SEED"}
# the same in every notebook, or its inputs would not be there
_SHARED = ("COHORT", "PRETRAIN", "SEED", "WIDTH", "CHANNELS", "HEAD", "EVALUATE_ON")


class Profile(pydantic.BaseModel, extra="forbid"):
    """A study: only what differs from the notebooks' defaults."""

    title: str
    parameters: dict[str, Any] = {}
    notebooks: dict[Literal["01", "02", "03", "04"], dict[str, Any]] = {}
    # further private runs: what of notebook 03 differs; RECIPE names each
    comparisons: list[dict[str, Any]] = []


# ---- profiles and settings


def names() -> list[str]:
    """Return the names of the known profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read_profile(name: str) -> Profile:
    """Return a profile.

    Raises:
        InputError: unknown (lists the known ones), not YAML, or not in the form of `Profile`.
    """
    errors.one_of("the profile", name, names())
    try:
        return Profile.model_validate(
            yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))
        )
    except yaml.YAMLError as error:
        errors.refuse(
            f"YAML in profiles/{name}.yaml", " ".join(str(error).split()), "Correct the file."
        )
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        errors.refuse(
            f"a profile in profiles/{name}.yaml",
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            "A profile has a title, `parameters`, `notebooks` and `comparisons`.",
        )


def read_setting(text: str) -> tuple[str | None, str, Any]:
    """Return (number of the notebook or None for all, name, value) of `NAME=value` or
    `03.NAME=value`.

    Raises:
        InputError: not in that form.
    """
    target, equals, value = text.partition("=")
    number, dot, name = target.rpartition(".")
    if not equals or not name.isidentifier():
        errors.refuse(
            "--set NAME=value or --set 03.NAME=value", repr(text), "For example --set 03.EPOCHS=2."
        )
    try:
        return (number if dot else None), name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return (number if dot else None), name, value


def collect(
    profile: Profile, settings: Collection[tuple[str | None, str, Any]]
) -> tuple[dict, dict]:
    """Return what a study sets: {notebook: {parameter: value}}, later settings over earlier ones,
    and its lists.

    The lists: EPSILONS and SEEDS, and the comparisons, each {parameter of notebook 03: value};
    budgets from the command line replace both budgets and comparisons. A comparison keeps what it
    sets itself: that is its recipe.

    Raises:
        InputError: an unknown notebook or parameter (names the known ones), a value of another type
            than the default, or outside the range of its name.
    """
    defaults = {
        number: notebook_files.default_parameters(path)
        for number, path in notebook_files.notebooks().items()
    }
    chosen = {number: {} for number in defaults}
    lists = {"EPSILONS": [defaults["03"]["EPSILON"]], "SEEDS": [defaults["02"]["SEED"]]}
    in_profile = [
        (number, name, value)
        for number, values in profile.notebooks.items()
        for name, value in values.items()
    ]
    for number, name, value in (
        [(None, *item) for item in profile.parameters.items()] + in_profile + list(settings)
    ):
        if number is not None:
            errors.one_of("the notebook", number, list(defaults))
        if (
            number in (None, "03")
            and name in ("EPSILON", "EPSILONS")
            or number is None
            and name in ("SEED", "SEEDS")
        ):
            plural = name if name in _LISTS else name + "S"
            lists[plural] = _checked_list(plural, value if name in _LISTS else [value])
            continue
        if number is not None and name in _SHARED and not (number == "04" and name == "SEED"):
            errors.refuse(
                f"{name} for all notebooks",
                f"{name} for {number} alone",
                f"Set {name} without a number.",
            )
        owners = [number] if number else [n for n in defaults if name in defaults[n]]
        known = (
            defaults[number]
            if number
            else {k for values in defaults.values() for k in values} | set(_LISTS)
        )
        errors.one_of(
            "the parameter of"
            f" {notebook_files.notebooks()[number].stem if number else 'the notebooks'}",
            name,
            sorted(known),
        )
        for owner in owners:
            chosen[owner][name] = _typed(name, value, defaults[owner][name])
            notebook_parameters.parameters({name: chosen[owner][name]})
    is_one_budget = any(name in ("EPSILON", "EPSILONS") for _, name, _ in settings)
    lists["comparisons"] = (
        []
        if is_one_budget
        else [
            _comparison(number, given, defaults["03"])
            for number, given in enumerate(profile.comparisons, 1)
        ]
    )
    for name in ("COHORT", "PRETRAIN", "EVALUATE_ON"):
        value = _anchored(chosen["01"].get(name, defaults["01"][name]))
        for number in chosen:
            chosen[number] |= {name: value} if name in defaults[number] else {}
    return chosen, lists


def _comparison(number: int, given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return what a further private run sets of notebook 03, checked.

    Raises:
        InputError: no RECIPE or EPSILON, a parameter that is not one of notebook 03 alone or is
            MODE, or a value out of range.
    """
    for name in ("RECIPE", "EPSILON"):
        if name not in given:
            errors.refuse(
                f"{name} in comparison {number} of the profile",
                sorted(given),
                "It names the run: add it.",
            )
    for name in given:
        errors.one_of(
            f"the parameter of comparison {number}",
            name,
            sorted(set(defaults) - {*_SHARED, "MODE"} | {"HEAD"}),
        )
    values = {name: _typed(name, value, defaults[name]) for name, value in given.items()}
    notebook_parameters.parameters(values)
    return values


def _anchored(name_or_path: str) -> str:
    """Return a name as it is, the path of a file as an absolute path.

    Kernels have working directories of their own.
    """
    is_path = name_or_path.endswith((".yaml", ".yml", ".safetensors"))
    return str(Path(name_or_path).expanduser().resolve()) if is_path else name_or_path


def _checked_list(name: str, values: Any) -> list:
    """Return the values of a profile's list, each of them allowed and none twice."""
    if not isinstance(values, list) or not values:
        errors.refuse(f"{name} to be a list of values", repr(values), f"Write {name}: [1, 2].")
    for value in values:
        notebook_parameters.parameters({_LISTS[name]: value})
    if len({f"{value:g}" for value in values}) < len(values):
        errors.refuse(f"different values in {name}", values, "Remove the repeated one.")
    return values


def _typed(name: str, value: Any, default: Any) -> Any:
    """Return a value of its default's type.

    An integer serves as a float, as does YAML's text 1e-5, also where None is.
    """
    is_text = isinstance(value, str)
    if (isinstance(default, float) and (is_text or type(value) is int)) or (
        default is None and is_text
    ):
        try:
            return float(value)
        except ValueError:
            pass  # refused below
    if default is not None and type(value) is not type(default):
        errors.refuse(
            f"{name} of type {type(default).__name__}, like {default!r}",
            repr(value),
            (
                'Write texts in it in quotes: ["sex", "age"].'
                if isinstance(default, list)
                else "Correct the value."
            ),
        )
    return value
