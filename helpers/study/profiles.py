"""Profiles: what a study sets, checked against the notebooks' parameters.

In: a profile (YAML), settings from the command line. Out: {notebook: {parameter: value}} and the
lists a study goes through. Raises `InputError` for unknown names, and for values that the model of
the notebook's parameters does not accept.

Notebooks are read here as JSON files only: nothing is executed, and nothing imports torch.
"""

import ast
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import pydantic

from helpers.core import errors, notebook_parameters, paths, yaml_files
from helpers.core.parameter_models import MODELS
from helpers.study import notebook_files

PROFILES = paths.repository_root() / "profiles"
# a profile's lists, expanded to one step for each value
_LISTS = {"EPSILONS": "EPSILON", "SEEDS": "SEED"}
# the same in every notebook, or its inputs would not be there
_SHARED = ("COHORT", "PRETRAIN", "SEED", "HEAD", "EVALUATE_ON")
# the same in both analyses, whichever is named: 05 reads the replicates that 04 drew with them
_ANALYSES = ("04", "05")
_OF_BOTH_ANALYSES = (
    "RUNS",
    "PREDICTIONS",
    "TABLE",
    "ATTRIBUTES",
    "AGE_EDGES",
    "N_BOOTSTRAP",
    "MIN_PATIENTS",
    "SEED",
)
# notebooks that follow another one: 03 has the head of 02, except where a comparison sets it
_FOLLOWS = {("03", "HEAD")}


class Profile(pydantic.BaseModel, extra="forbid"):
    """A study: only what differs from the notebooks' defaults."""

    title: str
    parameters: dict[str, Any] = {}
    notebooks: dict[Literal["01", "02", "03", "04", "05", "06"], dict[str, Any]] = {}
    # further private runs: what of notebook 03 differs; RECIPE names each
    comparisons: list[dict[str, Any]] = []
    # two runs of the largest budget's recipe without noise, with and without clipping: they say
    # what the price of privacy is made of, and take as long as its private run
    ablation: bool = True
    # notebook 06: many small models, which are attacked
    audit: bool = False


# ---- profiles and settings


def names() -> list[str]:
    """Return the names of the known profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def read_profile(name: str) -> Profile:
    """Return a profile.

    Raises:
        InputError: unknown (lists the known ones), not YAML, not in the form of `Profile`, or with
            what `collect` refuses; names the file.
    """
    errors.one_of("the profile", name, names())
    where = f"profiles/{name}.yaml"
    try:
        profile = Profile.model_validate(yaml_files.read(PROFILES / f"{name}.yaml", where))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        errors.refuse(
            f"a profile in {where}",
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            "A profile has a title, and may have `parameters`, `notebooks`, `comparisons`,"
            " `ablation` and `audit`.",
        )
    try:
        collect(profile, [])
    except errors.InputError as error:
        raise errors.InputError(f"{where}: {error}") from None
    return profile


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

    The lists: EPSILONS and SEEDS, the comparisons, each {parameter of notebook 03: value}, and
    whether there are an ablation and an audit; budgets from the command line replace both budgets
    and comparisons. A comparison keeps what it sets itself: that is its recipe.

    Raises:
        InputError: an unknown notebook or parameter (names the known ones), or a value that the
            notebook's model does not accept.
    """
    defaults = {
        number: notebook_files.default_parameters(notebook_files.notebooks()[number])
        for number in ("01", "02", "03")
    }
    chosen = {number: {} for number in MODELS}
    lists = {"EPSILONS": [defaults["03"]["EPSILON"]], "SEEDS": [defaults["02"]["SEED"]]}
    in_profile = [(None, name, value) for name, value in profile.parameters.items()] + [
        (number, name, value)
        for number, values in profile.notebooks.items()
        for name, value in values.items()
    ]
    for number, name, value in in_profile + list(settings):
        if number is not None:
            errors.one_of("the notebook", number, list(MODELS))
        if plural := _list_of(number, name):
            lists[plural] = _checked_list(plural, value if name in _LISTS else [value])
            continue
        for owner in _owners(number, name):
            chosen[owner][name] = notebook_parameters.setting(owner, name, value)
    is_one_budget = any(name in ("EPSILON", "EPSILONS") for _, name, _ in settings)
    lists["ablation"], lists["audit"] = profile.ablation, profile.audit
    lists["comparisons"] = (
        []
        if is_one_budget
        else [_comparison(number, values) for number, values in enumerate(profile.comparisons, 1)]
    )
    for name in ("COHORT", "PRETRAIN", "EVALUATE_ON"):
        value = _anchored(chosen["01"].get(name, defaults["01"][name]))
        for number in chosen:
            chosen[number] |= {name: value} if name in MODELS[number].model_fields else {}
    return chosen, lists


def _list_of(number: str | None, name: str) -> str | None:
    """Return the list, EPSILONS or SEEDS, that a setting belongs to; None for any other setting."""
    is_budget = number in (None, "03") and name in ("EPSILON", "EPSILONS")
    is_seed = number is None and name in ("SEED", "SEEDS")
    return (name if name in _LISTS else f"{name}S") if is_budget or is_seed else None


def _owners(number: str | None, name: str) -> list[str]:
    """Return the numbers of the notebooks that a setting goes to.

    Raises:
        InputError: no notebook has the parameter, or all must have the same.
    """
    if number in _ANALYSES and name in _OF_BOTH_ANALYSES:
        return list(_ANALYSES)
    if number is not None and name in _SHARED:
        errors.refuse(
            f"{name} for all notebooks",
            f"{name} for {number} alone",
            f"Set {name} without a number.",
        )
    if name == "WITHOUT":
        errors.refuse(
            "`ablation` of a profile, true or false",
            "WITHOUT",
            "A study makes such runs by itself; others are made in notebook 03.",
        )
    where = notebook_files.notebooks()[number].stem if number else "the notebooks"
    models = {number: MODELS[number]} if number else MODELS
    known = set().union(*(model.model_fields for model in models.values()))
    errors.one_of(
        f"the parameter of {where}", name, sorted(known | (set() if number else set(_LISTS)))
    )
    return [
        owner
        for owner, model in models.items()
        if name in model.model_fields and (owner, name) not in _FOLLOWS
    ]


def _comparison(number: int, values: dict[str, Any]) -> dict[str, Any]:
    """Return what a further private run sets of notebook 03, checked.

    Raises:
        InputError: no RECIPE or EPSILON, a parameter that is not one of notebook 03 alone or is
            MODE, or a value that the notebook's model does not accept.
    """
    for name in ("RECIPE", "EPSILON"):
        if name not in values:
            errors.refuse(
                f"{name} in comparison {number} of the profile",
                sorted(values),
                "It names the run: add it.",
            )
    allowed = sorted(
        set(MODELS["03"].model_fields) - {*_SHARED, "MODE", "WITHOUT"} | {"HEAD", "SEED"}
    )
    for name in values:
        errors.one_of(f"the parameter of comparison {number}", name, allowed)
    return {name: notebook_parameters.setting("03", name, value) for name, value in values.items()}


def _anchored(name_or_path: str) -> str:
    """Return a name as it is, the path of a file as an absolute path.

    Kernels have working directories of their own.
    """
    is_path = name_or_path.endswith((".yaml", ".yml", *paths.WEIGHT_FILES))
    return str(Path(name_or_path).expanduser().resolve()) if is_path else name_or_path


def _checked_list(name: str, values: Any) -> list:
    """Return the values of a profile's list, each of them allowed and none twice."""
    if not isinstance(values, list) or not values:
        errors.refuse(f"{name} to be a list of values", repr(values), f"Write {name}: [1, 2].")
    values = [notebook_parameters.setting("03", _LISTS[name], value) for value in values]
    if len({f"{value:g}" for value in values}) < len(values):
        errors.refuse(f"different values in {name}", values, "Remove the repeated one.")
    return values
