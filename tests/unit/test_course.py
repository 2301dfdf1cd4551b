"""Lessons have the house's shape, and their notebooks are those of their sources."""

import ast
import re

import make_notebooks
import nbformat
import pytest

SOURCES = sorted((make_notebooks.HERE / "source").glob("*.py"))
MACHINE_PATH = re.compile(r"(/home/|/root/|/tmp/|/work/|/Users/|[A-Z]:\\)")

lessons = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def stored(source, folder):
    """A lesson's notebook as it stands in the repository."""
    path = make_notebooks.HERE / folder / f"{source.stem}.ipynb"
    return nbformat.read(path, as_version=4)


def cells(source, tag):
    """The code cells of a lesson with a tag, in either notebook."""
    folder = {"gap": "exercises", "solution": "solutions"}[tag]
    return [
        cell.source
        for cell in stored(source, folder).cells
        if cell.cell_type == "code" and tag in cell.metadata.get("tags", [])
    ]


def questions(source):
    """The questions of a lesson's self-checks, a list for each."""
    of_lesson = "\n".join(cell.source for cell in stored(source, "exercises").cells)
    calls = re.findall(r"^display_quiz\((.*?)^\)", of_lesson, re.MULTILINE | re.DOTALL)
    return [ast.literal_eval(call.strip()) for call in calls]


def test_there_are_six_lessons():
    assert [source.stem[:2] for source in SOURCES] == [f"{n}_" for n in range(1, 7)]


@lessons
@pytest.mark.parametrize("folder", make_notebooks.LEFT_OUT)
def test_stored_notebooks_are_those_of_the_source(source, folder):
    made = make_notebooks.notebook(source, make_notebooks.LEFT_OUT[folder])
    expected = [(cell.id, cell.cell_type, cell.source) for cell in made.cells]
    found = [(c.id, c.cell_type, c.source) for c in stored(source, folder).cells]
    assert found == expected, "make course"


@lessons
def test_a_lesson_says_what_is_learnt_and_how_long_it_takes(source):
    first = stored(source, "exercises").cells[0].source
    assert first.splitlines()[0].startswith(f"# Lesson {source.stem[0]}: ")
    assert first.splitlines()[0].endswith("?")
    assert "**You will learn**" in first and "**Before you start**" in first
    minutes = [int(number) for number in re.findall(r"\| (\d+) \|$", first, re.MULTILINE)]
    assert 30 <= sum(minutes) <= 45


@lessons
def test_each_of_three_to_five_exercises_has_a_solution(source):
    gaps, solutions = cells(source, "gap"), cells(source, "solution")
    assert 3 <= len(gaps) <= 5 and len(solutions) == len(gaps)
    for number, gap in enumerate(gaps, 1):
        name = f"Exercise {source.stem[0]}.{number}"
        assert re.search(rf'raise NotImplementedError\(\s*"{name}: ', gap)
        assert "NotImplementedError" not in solutions[number - 1]


@lessons
def test_two_or_more_self_checks_whose_answers_are_marked(source):
    checks = questions(source)
    assert len(checks) >= 2
    for question in sum(checks, []):
        right = [a for a in question["answers"] if a.get("correct")]
        assert right and question["type"] in ("multiple_choice", "many_choice", "numeric")
        assert len(right) == 1 or question["type"] != "multiple_choice"
        assert all(answer.get("feedback") for answer in question["answers"])


@lessons
def test_exercises_have_no_outputs_and_solutions_have_them_without_errors(source):
    for cell in stored(source, "exercises").cells:
        assert not cell.get("outputs")
    executed = [c for c in stored(source, "solutions").cells if c.cell_type == "code"]
    assert all(cell.execution_count for cell in executed)
    outputs = sum((cell.outputs for cell in executed), [])
    assert len(outputs) > 5
    for output in outputs:
        assert output.output_type != "error" and output.get("name") != "stderr", output
        data = output.get("data", {})
        for text in (output.get("text"), data.get("text/plain"), data.get("text/html")):
            assert not MACHINE_PATH.search(text or ""), text


@lessons
def test_code_cells_of_a_lesson_are_short(source):
    for cell in stored(source, "solutions").cells:
        if cell.cell_type == "code" and "display_quiz(" not in cell.source:
            assert len(cell.source.splitlines()) <= 30, cell.source
