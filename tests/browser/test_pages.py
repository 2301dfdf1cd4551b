"""The site and a study's report, opened as files: no error, no request, no dead link."""

import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from helpers.core import paths

SMALL = (
    "EVALUATE_ON=none",
    "EPSILONS=[1000]",
    "N_BOOTSTRAP=20",
    "01.N_PATIENTS=80",
    "01.N_TEST_PATIENTS=30",
    "01.N_PUBLIC_PATIENTS=50",
    '04.ATTRIBUTES=["sex", "age"]',
    "02.PRETRAIN_EPOCHS=1",
    "02.EPOCHS=1",
    "03.EPOCHS=1",
)
LINKS = """() => Array.from(document.querySelectorAll('[href], [src]'),
    element => element.href || element.src).filter(address => typeof address == 'string')"""
NAMES = "() => Array.from(document.querySelectorAll('[id], a[name]'), e => e.id || e.name)"


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory) -> Path:
    """The first page of the site, built anew."""
    folder = tmp_path_factory.mktemp("site") / "html"
    docs = paths.repository_root() / "docs"
    words = ["-W", "--keep-going", "-q", "-d", str(folder.parent / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *words, str(docs), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    return folder / "index.html"


@pytest.fixture(scope="module")
def report(browser, run_study, tmp_path_factory) -> Path:
    """The report of a small study."""
    folder = tmp_path_factory.mktemp("study") / "results"
    study = run_study("smoke", folder, settings=SMALL)
    assert study.code == 0, study.complaint
    return folder / "index.html"


def look_through(page, first: Path) -> tuple[list[str], list[str]]:
    """Open a page and, one after the other, all pages it leads to in its folder.

    Returns:
        the pages seen, and every link that leads nowhere: a file or a mark that is not there.
    """
    names, links, waiting = {}, set(), [first]
    while waiting:
        path = waiting.pop()
        if path in names:
            continue
        page.tab.goto(path.as_uri())
        names[path] = set(page.tab.evaluate(NAMES)) | {"", "top"}
        for address in page.tab.evaluate(LINKS):
            file, mark = file_and_mark(address)
            if not file:
                continue  # of another place, or not a link
            links.add((path.name, file, mark))
            if file.suffix == ".html" and file.is_file() and file.is_relative_to(first.parent):
                waiting.append(file)
    dead = [
        f"{page}: {file}#{mark}"
        for page, file, mark in sorted(links)
        if not file.exists() or mark not in names.get(file, {mark})
    ]
    return sorted(path.name for path in names), dead


def file_and_mark(address: str) -> tuple[Path | None, str]:
    """Return the file and the mark that an address names; None for one elsewhere."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "file":
        return None, ""
    return Path(urllib.parse.unquote(parts.path)), urllib.parse.unquote(parts.fragment)


def test_the_site_needs_nothing_from_elsewhere_and_has_no_dead_link(page, site):
    seen, dead = look_through(page, site)
    assert {"index.html", "privacy.html", "03_dp_training.html"} <= set(seen)
    assert page.errors == [] == page.outside
    assert dead == []


def test_the_search_of_the_site_finds_a_word(page, site):
    page.tab.goto((site.parent / "search.html").as_uri() + "?q=clipping")
    page.tab.locator("#search-results li").first.wait_for()
    assert page.errors == [] == page.outside


def test_a_report_needs_nothing_from_elsewhere_and_has_no_dead_link(page, report):
    seen, dead = look_through(page, report)
    assert len(seen) >= 6  # its notebooks, too
    assert page.errors == [] == page.outside
    assert dead == []
