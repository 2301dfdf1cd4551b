"""JupyterLab as `make lab` starts it: its start page, all cells of each notebook run by the menu,
cells run again, sliders moved.

The tests share one server and one page, and follow each other in this order.
"""

import re
from pathlib import Path

import nbformat
import pytest
from playwright import sync_api

from helpers.core import files, fingerprints, paths
from helpers.study import notebook_files

NOTEBOOKS = sorted(path.stem for path in notebook_files.notebooks().values())
PRIVATE = "03_dp_training_in_private_mode"
START = paths.repository_root() / "START.md"
TINY = {  # what each notebook has for its run to take seconds
    "01": {"N_PATIENTS": 80, "N_TEST_PATIENTS": 30, "N_PUBLIC_PATIENTS": 50},
    "02": {"PRETRAIN_EPOCHS": 1, "EPOCHS": 1, "WIDTH": 8},
    "03": {"DELTA": 1e-3},
    "04": {"ATTRIBUTES": ["sex", "age", "scanner"], "N_BOOTSTRAP": 20, "MIN_PATIENTS": 3},
    "05": {"ATTRIBUTES": ["sex", "age", "scanner"], "N_BOOTSTRAP": 20, "MIN_PATIENTS": 3},
    "06": {
        "EPSILONS": [7.89],
        "DELTA": 1e-3,
        "N_AUDITED": 40,
        "N_MODELS": 6,
        "N_CANARIES": 128,
        "NON_PRIVATE_EPOCHS": 1,
    },
}
IN_PRIVATE_MODE = TINY["03"] | {"MODE": "private", "SEED": 1}
MOST_MS = 600_000  # for all cells of a notebook; on a quiet machine they take seconds
# What stands under the sliders of a cell, without the sliders and their numbers.
UNDER_SLIDERS = """cell => {
    const shown = cell.querySelector('.jp-Cell-outputArea').cloneNode(true);
    shown.querySelectorAll('.widget-slider').forEach(slider => slider.remove());
    return shown.innerHTML;
}"""


def write_smaller(source: Path, target: Path, parameters: dict) -> None:
    """Write a notebook without outputs, with other parameters at the end of their cell."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    nbformat.write(notebook, target)


@pytest.fixture(scope="module")
def lab(browser, copy_repository, start_lab, tmp_path_factory):
    """JupyterLab on a copy of the package, whose notebooks are small."""
    folder = copy_repository(tmp_path_factory.mktemp("lab") / "package")
    own = folder / "notebooks"
    for stem in NOTEBOOKS:
        write_smaller(own / f"{stem}.ipynb", own / f"{stem}.ipynb", TINY[stem[:2]])
    source = paths.repository_root() / "notebooks/03_dp_training.ipynb"
    write_smaller(source, own / f"{PRIVATE}.ipynb", IN_PRIVATE_MODE)
    return start_lab(folder)


class Notebook:
    """The notebook that is open in front, with all its cells and an idle kernel."""

    def __init__(self, page, path: Path) -> None:
        self.tab = page.tab
        self.panel = self.tab.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        last = len(nbformat.read(path, as_version=4).cells) - 1
        self.panel.locator(".jp-Cell").nth(last).wait_for(state="attached")
        self.tab.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
        self.prompts = self.panel.locator(".jp-CodeCell .jp-InputPrompt")

    def run_all(self) -> None:
        """Run all cells by the menu, wait for their end, and demand that none complains."""
        self.tab.get_by_role("menuitem", name="Run", exact=True).click()
        self.tab.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        waiting = self.panel.locator(".jp-CodeCell .jp-InputPrompt", has_text="*")
        waiting.first.wait_for(state="attached")
        sync_api.expect(waiting, "cells that still wait").to_have_count(0, timeout=MOST_MS)
        for kind in ("error", "stderr"):
            outputs = self.panel.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']")
            assert outputs.all_text_contents() == [], kind
        assert "[ ]:" not in self.prompts.all_text_contents(), self.outputs()[-1000:]

    def outputs(self) -> str:
        """The text of all outputs."""
        return "\n".join(self.panel.locator(".jp-OutputArea-output").all_text_contents())

    def figures(self) -> list[int]:
        """The width of each picture, 0 where it is broken."""
        return self.panel.locator(".jp-OutputArea-output img").evaluate_all(
            "pictures => pictures.map(picture => picture.naturalWidth)"
        )


def shut_kernels_down(page, lab) -> None:
    """Free their memory."""
    headers = {"Authorization": f"token {lab.token}"}
    for kernel in page.tab.request.get(f"{lab.url}/api/kernels", headers=headers).json():
        page.tab.request.delete(f"{lab.url}/api/kernels/{kernel['id']}", headers=headers)


def open_file(page, lab, path: str) -> None:
    """Open a file by its address, in a workspace where nothing else is open."""
    page.tab.goto(f"{lab.url}/lab/workspaces/tests/tree/{path}?reset&token={lab.token}")


def test_the_start_page_shows_and_nothing_else_asks_for_attention(lab, page):
    asked = []
    page.tab.on("request", lambda request: asked.append(request.url))
    page.tab.goto(f"{lab.url}/?token={lab.token}")
    assert "Start here" in page.tab.locator(".jp-MarkdownViewer h1").inner_text()
    page.tab.wait_for_timeout(5000)
    assert page.tab.locator(".jp-Dialog, .Toastify__toast").all_inner_texts() == []
    assert page.outside == [] == [url for url in asked if re.search("/api/(news|update)", url)]


def test_a_link_to_a_page_opens_it_rendered(lab, page):
    start = page.tab.locator(".jp-MarkdownViewer:not(.lm-mod-hidden)")
    names = [Path(name) for name in re.findall(r"\((\S+\.md)\)", START.read_text())]
    assert names
    for name in names:
        start.locator(f"a[href*='{name}?']").click()
        page.tab.locator(".lm-mod-current .lm-TabBar-tabLabel", has_text=name.name).wait_for()
        title = (paths.repository_root() / name).read_text().splitlines()[0].strip("# ")
        start.locator("h1", has_text=title).wait_for()
        page.tab.locator(".lm-TabBar-tabLabel", has_text="START.md").click()


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_link_opens_its_notebook_and_all_cells_run(lab, page, stem):
    page.tab.locator(".lm-TabBar-tabLabel", has_text="START.md").click()
    page.tab.locator(f".jp-MarkdownViewer a[href*='notebooks/{stem}.ipynb']").click()
    notebook = Notebook(page, lab.folder / f"notebooks/{stem}.ipynb")
    notebook.run_all()
    widths = notebook.figures()
    assert widths and min(widths) > 0
    shut_kernels_down(page, lab)


def test_all_cells_run_again_read_a_finished_private_run_and_spend_nothing(lab, page):
    open_file(page, lab, f"notebooks/{PRIVATE}.ipynb")
    notebook = Notebook(page, lab.folder / f"notebooks/{PRIVATE}.ipynb")
    notebook.run_all()
    (steps,) = re.findall(r"Goes on from step 0 of (\d+)\.", notebook.outputs())
    run = lab.results / "runs/synthetic_cxr_private-dp-eps7.89-seed1"
    register = lab.results / "register/spent.jsonl"
    first = register.read_text(), fingerprints.file_hash(run / "weights.safetensors")
    ledger = files.read_json(run / "record.json", "")["ledger"]
    assert ledger["steps_done"] == int(steps) > 0

    notebook.run_all()
    assert f"Goes on from step {steps} of {steps}. 1 private run in" in notebook.outputs()
    assert (register.read_text(), fingerprints.file_hash(run / "weights.safetensors")) == first
    assert files.read_json(run / "record.json", "")["ledger"] == ledger
    shut_kernels_down(page, lab)


def test_a_slider_of_the_course_moves_what_stands_under_it(lab, page):
    (lesson,) = (lab.folder / "course/solutions").glob("2_*.ipynb")
    open_file(page, lab, lesson.relative_to(lab.folder).as_posix())
    notebook = Notebook(page, lesson)
    notebook.run_all()
    cell = notebook.panel.locator(".jp-CodeCell", has=page.tab.locator(".widget-slider")).first
    before = cell.evaluate(UNDER_SLIDERS)
    cell.get_by_role("slider").first.focus()
    page.tab.keyboard.press("ArrowRight")
    page.tab.wait_for_function(
        f"([cell, before]) => ({UNDER_SLIDERS})(cell) != before",
        arg=[cell.element_handle(), before],
    )  # it ends in an error if nothing changes
    assert page.outside == []
