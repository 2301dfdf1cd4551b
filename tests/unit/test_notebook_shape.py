"""Every notebook has the house's shape, and its stored outputs belong to its code."""

import ast
import json
import re

import pytest

from helpers.core import paths
from helpers.study import notebook_files

PATHS = sorted((paths.repository_root() / "notebooks").glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(/home/|/root/|/tmp/|/work/|/Users/|[A-Z]:\\\\)")

pytestmark = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    """The notebook, with the sources of its cells as text."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def code(path):
    """The code cells of a notebook."""
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def strictly_compared(path):
    """The code cells whose stored output nbval compares."""
    return [cell for cell in code(path) if "nbval-check-output" in cell["metadata"].get("tags", [])]


def test_kernel_is_python3(path):
    assert read(path)["metadata"]["kernelspec"]["name"] == "python3"


def test_one_parameters_cell_of_literals_each_with_its_meaning(path):
    assert notebook_files.default_parameters(path)
    (cell,) = notebook_files.code_cells(path, "parameters")
    assert all("#" in line for line in cell.splitlines() if line)


def test_parameters_are_checked_by_the_model_of_the_notebook(path):
    calls = [
        cell for cell in code(path) if f'check("{path.name[:2]}", globals())' in cell["source"]
    ]
    assert len(calls) == 1


def test_no_parameter_is_assigned_again(path):
    names = set(notebook_files.default_parameters(path))
    for cell in code(path):
        if "parameters" not in cell["metadata"].get("tags", []):
            stored = {
                node.id
                for node in ast.walk(ast.parse(cell["source"]))
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            assert not stored & names


def test_few_code_cells_but_for_the_comparison_with_the_paper(path):
    assert len(code(path)) <= 30 or path.name.startswith("05")


def test_first_cell_asks_a_question(path):
    first = read(path)["cells"][0]
    assert first["cell_type"] == "markdown" and "?" in first["source"].splitlines()[0]


def test_prose_stands_beside_code(path):
    n_prose = sum(cell["cell_type"] == "markdown" for cell in read(path)["cells"])
    assert 0.5 * len(code(path)) <= n_prose <= 2 * len(code(path))


def test_code_cells_are_short(path):
    short = [cell for cell in code(path) if "parameters" not in cell["metadata"].get("tags", [])]
    assert max(cell["source"].count("\n") + 1 for cell in short) <= 22


def test_code_is_plain_and_defines_no_class(path):
    for cell in code(path):
        assert not [
            node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, ast.ClassDef)
        ]
        assert not re.search(r"sys\.path|os\.chdir|filterwarnings|# ?TODO", cell["source"])


def test_file_is_small(path):
    assert path.stat().st_size < 1_000_000


def test_cells_were_executed_in_order(path):
    assert [cell["execution_count"] for cell in code(path)] == list(
        range(1, len(code(path)) + 1)
    ), "run `make notebooks`"


def test_strictly_compared_cells_have_a_stored_output(path):
    # nbval passes a strict cell without stored output whatever it prints.
    assert strictly_compared(path) and all(cell["outputs"] for cell in strictly_compared(path))


def test_outputs_hold_no_path_warning_or_error(path):
    for cell in code(path):
        for output in cell["outputs"]:
            text = json.dumps(
                {
                    kind: data
                    for kind, data in output.get("data", {}).items()
                    if kind.startswith("text")
                }
                | {"text": output.get("text", "")}
            )
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            assert (
                not MACHINE_PATH.search(text) and "Warning" not in text and "Traceback" not in text
            )


def test_metadata_holds_no_trace_of_an_execution(path):
    notebook = read(path)
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info", "sources_sha256"}
    assert all(set(cell["metadata"]) <= {"tags", "alt"} for cell in notebook["cells"])


def test_every_picture_has_an_alternative_text(path):
    for cell in code(path):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                assert cell["metadata"].get("alt") or output["metadata"]["image/png"]["alt"]


def test_sources_are_those_of_the_stored_outputs(path):
    assert read(path)["metadata"].get("sources_sha256") == notebook_files.sources_hash(path), (
        "run `make notebooks`"
    )
