"""What the site's generator writes: tables, docstrings, and that nothing is forgotten."""

import re

import docstrings
import generate
import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement

from helpers.core import paths
from helpers.study import notebook_files

DOCS = paths.repository_root() / "docs"


def test_a_table_is_rounded_blank_where_missing_and_keeps_bars_as_text():
    table = pd.DataFrame({"name": ["a|b", None], "auroc": [0.12345, np.nan], "n": [3, 4]})
    assert generate.as_markdown(table).splitlines() == [
        "| name | auroc | n |",
        "|---|---|---|",
        r"| a\|b | 0.123 | 3 |",
        "|  |  | 4 |",
    ]


def test_an_estimate_is_shown_with_its_interval_and_a_missing_one_is_blank():
    assert generate.with_interval([0.01, -0.002, 0.02], "+") == "+0.010 [-0.002, +0.020]"
    assert generate.with_interval(np.nan) == ""


def test_items_that_are_returned_become_bullets_and_further_lines_join_them():
    lines = [
        "Do it.",
        "",
        "Returns:",
        "    rows: those *kept*,",
        "        in order.",
        "    notes: text.",
    ]
    assert docstrings.for_sphinx(lines)[2:5] == [
        ":returns:",
        r"    - rows: those \*kept\*, in order.",
        "    - notes: text.",
    ]


def test_a_sentence_that_is_returned_stays_one_even_with_a_colon():
    lines = ["Returns:", "    An upper bound: 0", "      for no steps."]
    assert docstrings.for_sphinx(lines)[:2] == [
        ":returns:",
        "    - An upper bound: 0 for no steps.",
    ]


def test_indented_text_is_literal_and_code_is_left_alone():
    assert docstrings.for_sphinx(["Two ways:", "  fast: a*b", "  slow"])[:3] == [
        "::",
        "",
        "    Two ways:",
    ]
    assert docstrings.for_sphinx(["See `a_*` and b*."])[0] == r"See `a_*` and b\*."


def test_every_parameter_of_every_notebook_is_in_the_table():
    text = generate.parameters()
    for path in notebook_files.notebooks().values():
        rows = text.split(f"## Notebook {path.stem}\n")[1].split("## Notebook")[0]
        for name in notebook_files.default_parameters(path):
            assert f"| `{name}` |" in rows, name


def test_every_direct_dependency_has_a_reason():
    table = (DOCS / "installation.md").read_text(encoding="utf-8").lower()
    text = (paths.repository_root() / "requirements.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name = Requirement(line).name.lower()
            assert re.search(rf"^\|.*\b{name}\b.*\|.*\|$", table, re.MULTILINE), name


def test_every_row_of_the_glossary_has_our_word_the_field_s_term_and_a_sentence():
    lines = (DOCS / "glossary.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    assert len(rows) >= 30
    assert all(len(row) == 4 and all(cell.strip() for cell in row[:3]) for row in rows)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_includes_or_takes_in_is_generated(page):
    text = page.read_text(encoding="utf-8")
    numbers = set(generate.numbers())
    assert set(re.findall(r"\{\{ (\w+) \}\}", text)) <= numbers
    written = (DOCS / "generate.py").read_text(encoding="utf-8")
    for fragment in re.findall(r"_generated/(\w+)\.md", text):
        assert f'"{fragment}": ' in written, fragment


PEERS = (DOCS / "peers.md").read_text(encoding="utf-8")
PEER_ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PEERS.splitlines()
    if re.match(r"\| \w", line)
]


def test_other_software_is_compared_in_26_rows():
    assert len(PEER_ROWS) == 26
    assert {len(row) for row in PEER_ROWS} == {9}


@pytest.mark.parametrize("row", PEER_ROWS, ids=lambda row: row[0])
def test_each_yes_and_partly_about_software_has_a_link_and_each_no_has_none(row):
    for cell in row[1:]:
        if cell in ("no", "not found"):
            continue
        assert re.match(r"\[yes\]|yes: \[|partly: \[", cell), cell
        links = re.findall(r"\[[^]]+\](?:\(([^)]+)\)|\[([^]]+)\])", cell)
        assert len(links) == cell.count("](") + cell.count("]["), cell
        for target, key in links:
            if key:
                pinned = rf"^\[{key}\]: https://github\.com/[\w-]+/[\w-]+/blob/[0-9a-f]{{40}}/\S+$"
                assert re.search(pinned, PEERS, re.MULTILINE), key
            else:
                assert_a_page_has(target)


def assert_a_page_has(target):
    """A relative link of a page leads to a file, and to a heading of it."""
    name, _, anchor = target.partition("#")
    path = DOCS / name.replace("_generated/notebooks/", "../notebooks/")
    assert path.is_file(), target
    if anchor:
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {
            re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings
        }
