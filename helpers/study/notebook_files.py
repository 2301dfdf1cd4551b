"""Notebooks as files: their code cells, default parameters, and the helpers they import.

In: the notebooks' JSON. Out: text, names, literals, and the parameters of a notebook as a table.
Nothing is executed. Raises `InputError` for code that is not Python, or a parameters cell that
holds something other than literals.
"""

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.core import errors, files, fingerprints, notebook_parameters, paths

NOTEBOOKS = paths.repository_root() / "notebooks"


def notebooks() -> dict[str, Path]:
    """Return the notebooks by number: "01", "02", ..."""
    return {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def code_cells(notebook: Path, tag: str | None = None) -> list[str]:
    """Return the sources of a notebook's code cells, or only of those with a tag."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and (tag is None or tag in cell["metadata"].get("tags", []))
    ]


def sources_hash(notebook: Path) -> str:
    """Return the SHA-256 of a notebook's code."""
    return hashlib.sha256(json.dumps(code_cells(notebook)).encode()).hexdigest()


def helpers_used(notebook: Path) -> set[str]:
    """Return the names of the helper modules that a notebook imports.

    Raises:
        InputError: a code cell is not Python.
    """
    modules = set()
    for number, source in enumerate(code_cells(notebook), 1):
        try:
            modules |= fingerprints.helpers_imported(source)
        except SyntaxError as error:
            errors.refuse(
                f"Python in code cell {number} of {notebook.name}", error, "Correct the cell."
            )
    return modules


def default_parameters(notebook: Path) -> dict[str, Any]:
    """Return the names and defaults of a notebook's parameters cell.

    Raises:
        InputError: not exactly one such cell, or something other than literals in it.
    """
    helpers_used(notebook)  # refuses what is not Python before the first kernel starts
    cells = code_cells(notebook, "parameters")
    if len(cells) != 1:
        errors.refuse(
            f"one cell tagged `parameters` in {notebook.name}",
            len(cells),
            "Tag the cell of its parameters.",
        )
    try:
        return {
            node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cells[0]).body
        }
    except (ValueError, SyntaxError, AttributeError) as error:
        errors.refuse(
            f"only lines NAME = literal in the parameters cell of {notebook.name}",
            error,
            "Move the rest on.",
        )


def injected_parameters(notebook: Path) -> dict:
    """Return the parameters with which a stored notebook was executed; {} for its defaults.

    Raises:
        InputError: it is not there, or not JSON.
        SyntaxError, ValueError, KeyError: it is no notebook, or has other than literals there.
    """
    content = files.read_json(notebook, "Run the study with run_all.py first.")
    for cell in content["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            lines = ast.parse("".join(cell["source"])).body
            return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
    return {}


def parameter_table(number: str) -> pd.DataFrame:
    """Return a notebook's parameters for the docs: the table of its model, with the defaults of its
    parameters cell.

    Args:
        number: of the notebook, "01" to "06".
    """
    defaults = default_parameters(notebooks()[number])
    table = notebook_parameters.table(number)
    table.insert(1, "default", [repr(defaults[name]) for name in table["parameter"]])
    return table
