"""Make the notebooks of the course from `course/source/`.

    python course/make_notebooks.py

Each lesson is one file in jupytext's percent format. Its exercise is the lesson without the cells
tagged `solution`; its solution is the lesson without the cells tagged `gap`, and is executed
afterwards (`make course`).
"""

from pathlib import Path

import jupytext
import nbformat
from nbconvert.preprocessors import TagRemovePreprocessor

HERE = Path(__file__).parent
# jupyterquiz would fetch MathJax for its questions, which have no formulas, from the network.
OFFLINE = """from IPython.display import Javascript

Javascript("if (window.MathJax && !window.MathJax.typeset) window.MathJax.typeset = () => {};")"""
HIDDEN = {"tags": ["remove-input"], "jupyter": {"source_hidden": True}}
LEFT_OUT = {"exercises": "solution", "solutions": "gap"}  # folder: the tag of what it lacks


def notebook(source: Path, left_out: str) -> nbformat.NotebookNode:
    """Return a lesson as a notebook without outputs.

    Args:
        source: the lesson, in jupytext's percent format.
        left_out: cells with this tag are removed.
    """
    lesson = jupytext.read(source)
    lesson.metadata.pop("jupytext", None)
    for number, cell in enumerate(lesson.cells):
        cell.id = f"{source.stem[:1]}-{number:03}"  # the same in each build
        if cell.source.startswith("display_quiz("):  # whose source has the answers
            cell.metadata = HIDDEN
    first = next(n for n, cell in enumerate(lesson.cells) if cell.cell_type == "code")
    offline = nbformat.v4.new_code_cell(OFFLINE, metadata=HIDDEN, id=f"{source.stem[:1]}-offline")
    lesson.cells.insert(first + 1, offline)
    remover = TagRemovePreprocessor(remove_cell_tags={left_out})
    return remover.preprocess(lesson, {})[0]


def main() -> None:
    """Write both notebooks of each lesson."""
    for folder, left_out in LEFT_OUT.items():
        (HERE / folder).mkdir(exist_ok=True)
        for source in sorted((HERE / "source").glob("*.py")):
            nbformat.write(notebook(source, left_out), HERE / folder / f"{source.stem}.ipynb")


if __name__ == "__main__":
    main()
