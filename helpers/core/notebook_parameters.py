"""Checks of the notebooks' parameters by their models, and the models as tables.

A model checks the parameters cell of its notebook, the profiles and `--set`; the docs' parameter
table is made from it. In: UPPER_CASE names and values. Out: values, or a table of the fields.
Raises `InputError` for the first value outside its range or choices.
"""

import contextlib
import types
import typing
from collections.abc import Mapping
from typing import Literal

import pandas as pd
import pydantic
from pydantic.fields import FieldInfo

from helpers.core import errors
from helpers.core.parameter_models import MODELS


def check(number: str, values: Mapping[str, object]) -> None:
    """Accept the parameters of a notebook.

    Args:
        number: of the notebook, "01" to "06".
        values: UPPER_CASE name -> value, e.g. `globals()`; other names pass.

    Raises:
        InputError: a parameter is absent, of another type, or outside its range or choices.
    """
    for name in MODELS[number].model_fields:
        if name not in values:
            errors.refuse(
                f"{name} in the parameters cell of notebook {number}", "none", "Put it back."
            )
        _value(MODELS[number], name, values[name])


def check_some(number: str, values: Mapping[str, object]) -> None:
    """Accept some parameters of a notebook.

    Raises:
        InputError: a name that the notebook does not have, or a value as in `check`.
    """
    fields = MODELS[number].model_fields
    for name, value in values.items():
        errors.one_of(f"the parameter of notebook {number}", name, sorted(fields))
        _value(MODELS[number], name, value)


def setting(number: str, name: str, value: object) -> object:
    """Return the value of a profile or of the command line as the notebook is to have it.

    An integer serves as a float, as does YAML's text 1e-5.

    Raises:
        InputError: as in `check`.
    """
    model = MODELS[number]
    if isinstance(value, str) and float in _types(model.model_fields[name]):
        with contextlib.suppress(ValueError):  # refused below
            value = float(value)
    return _value(model, name, value)


def _value(model: type[pydantic.BaseModel], name: str, value: object) -> object:
    """Return a value that the model accepts, an integer as a float where it has one."""
    parameters = model.model_construct()
    try:
        setattr(parameters, name, value)
    except pydantic.ValidationError:
        _refuse(name, value, model.model_fields[name])
    accepted = getattr(parameters, name)
    return accepted if isinstance(accepted, float) else value


def _refuse(name: str, value: object, field: FieldInfo) -> None:
    """Refuse a value in the house's words; of a list of choices, its first wrong one."""
    if choices := _choices(field):
        errors.one_of(name, value, choices)
    (item, *_) = typing.get_args(field.annotation) or (None,)
    if typing.get_origin(item) is Literal and isinstance(value, list):
        for part in value:
            errors.one_of(f"each of {name}", part, typing.get_args(item))
    errors.refuse(
        f"{name} to be {_form(field)}",
        repr(value),
        f"Set {name} in the parameters cell, the profile or with --set.",
    )


# ---- fields in words


def table(number: str) -> pd.DataFrame:
    """Return a notebook's parameters for the docs, a row each, in the cell's order.

    Returns:
        Columns parameter, type (and range or choices), unit, paper, meaning, rarely (bool).
    """
    return pd.DataFrame(
        [
            {
                "parameter": name,
                "type": _form(field),
                **{key: field.json_schema_extra[key] for key in ("unit", "paper")},
                "meaning": field.description,
                "rarely": field.json_schema_extra["rarely"],
            }
            for name, field in MODELS[number].model_fields.items()
        ]
    )


def _types(field: FieldInfo) -> tuple:
    """Return the types a field allows: of `float | None` both."""
    is_union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
    return typing.get_args(field.annotation) if is_union else (field.annotation,)


def _choices(field: FieldInfo) -> list:
    """Return the values a field allows where they are named, None among them where it may be."""
    literals = [kind for kind in _types(field) if typing.get_origin(kind) is Literal]
    named = [value for kind in literals for value in typing.get_args(kind)]
    return named + [None] * (bool(named) and type(None) in _types(field))


def _form(field: FieldInfo) -> str:
    """Return in words what a field allows, e.g. "a number in (0, 1000] or None"."""
    if form := field.json_schema_extra["form"]:
        return form
    if choices := _choices(field):
        return f"one of {', '.join(map(str, choices))}"
    kinds = {bool: "True or False", int: "an integer", float: "a number", str: "a text"}
    form = next(words for kind, words in kinds.items() if kind in _types(field))
    limits = {
        key: getattr(limit, key)
        for limit in field.metadata
        for key in ("gt", "ge", "le")
        if hasattr(limit, key)
    }
    if limits:
        low = f"({limits['gt']:.10g}" if "gt" in limits else f"[{limits['ge']:.10g}"
        form += f" in {low}, {limits['le']:.10g}]"
    return form + (" or None" if type(None) in _types(field) else "")


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
