"""The exercises of the course run up to the first gap, which names itself.

On the folder that RESULTS_DIR names, with the results of notebooks 01 to 03 (`make nbval`).
"""

import os

import make_notebooks
import nbclient
import nbformat
import pytest

EXERCISES = sorted((make_notebooks.HERE / "exercises").glob("*.ipynb"))

pytestmark = pytest.mark.skipif(
    "RESULTS_DIR" not in os.environ, reason="needs RESULTS_DIR; `make nbval` sets it"
)


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_an_exercise_runs_up_to_its_first_gap(path):
    notebook = nbformat.read(path, as_version=4)
    gaps = [n for n, cell in enumerate(notebook.cells) if "gap" in cell.metadata.get("tags", [])]
    del notebook.cells[gaps[0] + 2 :]  # a gap that is a function complains where it is called
    with pytest.raises(nbclient.exceptions.CellExecutionError) as stopped:
        nbclient.NotebookClient(notebook, timeout=600).execute()
    assert stopped.value.ename == "NotImplementedError"
    assert stopped.value.evalue.startswith(f"Exercise {path.stem[0]}.1: ")
