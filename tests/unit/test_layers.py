"""Imports within `helpers` go down only, and helpers know no notebook machinery."""

import ast
import re

import pytest

from helpers import files, runs

FOLDER = runs.repository_root() / "helpers"
# From the bottom up; within a layer a module may import those to its left.
LAYERS = ["checks schema",
          "files locks runs manifests rules images volumes sources duplicates groups",
          "phantoms ct_phantoms synthetic synthetic_ct parts cohorts networks models accounting attacks promise privacy statement composition register lineage private_runs randomness units layer_gradients network_checks clipping metrics resampling published",
          "replicates fairness correlations verdicts curves shortcuts outside training_sets arms group_gradients scoring checkpoints training starts exact_steps selftest recipes overview answers figures group_figures volume_figures profiles studies spending results report"]
ORDER = " ".join(LAYERS).split()
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
MACHINERY = {"papermill", "nbformat", "nbclient", "nbconvert", "IPython", "ipykernel", "run_all", "run_notebook"}
DATA_SET_NAMES = "covid|chestxray14|chexpert|mimic|taix|padchest|vindr|panorama|uka"


def imported(source: str) -> set[str]:
    """The top-level packages that a source imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}}


def test_layers_name_every_module_once():
    assert sorted(ORDER) == MODULES, "a new module needs its layer in LAYERS"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module):
    source = (FOLDER / f"{module}.py").read_text(encoding="utf-8")
    up = [name for name in files.helpers_imported(source) if ORDER.index(name) >= ORDER.index(module)]
    assert not up, f"{module} imports {up}, which stand above it or beside it to the right"
    assert not imported(source) & MACHINERY


@pytest.mark.parametrize("module", [module for module in MODULES if module != "synthetic"])
def test_no_data_set_is_named_in_code(module):
    source = (FOLDER / f"{module}.py").read_text(encoding="utf-8")
    assert not re.findall(DATA_SET_NAMES, source, re.IGNORECASE)


def test_analysis_needs_no_torch():
    needed = {path.stem for path in files.helper_sources({"fairness", "correlations", "verdicts", "answers", "figures", "report"})}
    assert not {"torch" for module in needed if "torch" in imported((FOLDER / f"{module}.py").read_text())}


def test_the_plan_needs_no_torch():
    needed = {path.stem for path in files.helper_sources({"studies", "results", "report"})}
    assert not [module for module in needed if "torch" in imported((FOLDER / f"{module}.py").read_text())]
