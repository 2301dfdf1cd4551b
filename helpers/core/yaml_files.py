"""YAML files as they were written: nothing is lost, and text that YAML reads otherwise is named.

In: the path of a YAML file. Out: its content. Raises `InputError` for what is no YAML, a key that
is written twice, and keys that YAML reads as something else than what is written, such as `yes`;
the message names file and line.
"""

import datetime
from pathlib import Path

import yaml
from pydantic import ValidationError

from helpers.core import errors, text_files

_MERGE, _BOOL = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML in which `on` and `off` are text, as in YAML 1.2: joins have a field `on`."""


_Loader.yaml_implicit_resolvers = {
    letter: resolvers
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if letter not in ("o", "O")
}


def read(path: Path, name: str | None = None) -> object:
    """Return the content of a YAML file, text in one Unicode normal form.

    Args:
        path: of the file.
        name: how messages call it; None for its name without folders.

    Raises:
        InputError: see the module.
    """
    name = name or path.name
    text = text_files.read(path, name)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, name, set())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse_yaml(name, f"{error.problem} in line {mark.line + 1}" if mark else str(error))
    except errors.InputError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        _refuse_yaml(name, " ".join(str(error).split()))


def _refuse_yaml(name: str, problem: str) -> None:
    """Raise `InputError` for a file that is not YAML."""
    errors.refuse(f"{name} to be a YAML file", problem, "Correct the file.")


def _check(node: yaml.Node, name: str, seen: set[int]) -> None:
    """Accept a part of a file without repeated keys and without keys that need quotes.

    Raises:
        InputError: a key twice, a key or list item that YAML reads as something else.
    """
    if id(node) in seen:  # an alias of what was checked
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_other_meaning(item, name, is_key=False)
            _check(item, name, seen)
    if isinstance(node, yaml.MappingNode):
        lines = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    errors.refuse(
                        f"each key once in {name}",
                        f"{key.value!r} in line {lines[key.value]} and in line {line}",
                        "Rename one of them, or write both as one.",
                    )
                lines[key.value] = line
                _refuse_other_meaning(key, name, is_key=True)
            if isinstance(value, yaml.ScalarNode):
                _refuse_other_number(value, name)
            _check(value, name, seen)


def _refuse_other_meaning(node: yaml.Node, name: str, is_key: bool) -> None:
    """Accept a key or an item of a list that YAML reads as it is written.

    Raises:
        InputError: `yes` or `no` (truth values), `01` (an octal number), and the like.
    """
    if not isinstance(node, yaml.ScalarNode) or node.style is not None or node.tag == _MERGE:
        return
    value = _Loader("").construct_object(node)
    is_other = node.tag == _BOOL or (
        is_key
        and not isinstance(value, str)
        and (value is None or isinstance(value, float | datetime.date) or str(value) != node.value)
    )
    if is_other:
        _refuse_unquoted(node, value, name)
    _refuse_other_number(node, name)


def _refuse_other_number(node: yaml.ScalarNode, name: str) -> None:
    """Accept a number that is written as it counts.

    Raises:
        InputError: 01 (octal), 1:30 (sixty to the hour), 1_000.
    """
    if node.style is None and node.tag.endswith((":int", ":float")):
        value = _Loader("").construct_object(node)
        is_whole = isinstance(value, int)
        if str(value) != node.value if is_whole else set(":_") & set(node.value):
            _refuse_unquoted(node, value, name)


def _refuse_unquoted(node: yaml.ScalarNode, value: object, name: str) -> None:
    """Raise `InputError` for text without quotes that YAML reads as another value."""
    errors.refuse(
        f"quotes around {node.value or 'a blank'} in line {node.start_mark.line + 1} of {name}",
        f"{node.value or 'a blank'}, which YAML reads as {value!r}",
        f'To mean the text, quote it: "{node.value}".',
    )


def problems(error: ValidationError) -> str:
    """Return what is wrong with the first three fields, and what YAML may have misread."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'the whole'}: {_said(problem)}{_misread(problem)}"
        for problem in error.errors()[:3]
    )


def _said(problem: dict) -> str:
    """Return what is wrong with a field, in plain words."""
    if problem["type"] == "too_short" and not problem["input"]:
        return "is empty; write at least one entry below it"
    return problem["msg"]


def _misread(problem: dict) -> str:
    """Return what a value without quotes became, for a field that is text; else ""."""
    value, misread = problem.get("input"), bool | datetime.date | dict | None
    if problem["type"] != "string_type" or not isinstance(value, misread):
        return ""
    if isinstance(value, dict):
        is_template = len(value) == 1 and list(value.values()) == [None]
        return f' (quote it: "{{{next(iter(value))}}}")' if is_template else ""
    return f" (YAML reads it as {value!r}; to mean the text, quote it)"
