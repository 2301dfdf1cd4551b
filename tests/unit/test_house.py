"""The wings of `helpers`: what a fresh interpreter loads; planted faults find their text."""

import subprocess
import sys
from pathlib import Path

import pytest
from privacy_faults import FAULTS

from helpers.core import paths

HELPERS = paths.repository_root() / "helpers"


def modules(wing: str) -> list[str]:
    """Return the dotted names of a wing's modules."""
    return [
        ".".join(path.relative_to(HELPERS.parent).with_suffix("").parts)
        for path in sorted((HELPERS / wing).glob("*.py"))
        if path.stem not in ("__init__", "__main__")
    ]


@pytest.mark.parametrize(
    "wing, forbidden",
    [
        (
            "analysis",
            ("torch", "PIL", "nibabel", "helpers.data.build_cohort", "helpers.data.synthetic"),
        ),
        ("study", ("torch", "PIL", "nibabel", "helpers.data.build_cohort")),
        ("figures", ("torch", "nibabel", "helpers.core", "helpers.data")),
        ("privacy", ("helpers.data", "helpers.study", "helpers.training")),
    ],
)
def test_a_wing_loads_nothing_of_what_it_must_not_know(wing, forbidden):
    code = f"import sys; import {', '.join(modules(wing))}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert set(modules(wing)) <= loaded and not loaded.intersection(forbidden)


def test_every_module_belongs_to_a_wing_and_says_what_it_is_for():
    assert {path.name for path in HELPERS.glob("*.py")} == {"__init__.py"}
    for path in HELPERS.rglob("*.py"):
        assert path.read_text(encoding="utf-8").startswith('"""'), path


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_text_of_a_planted_fault_stands_in_its_module_once(fault):
    path = Path(HELPERS, *fault.module.split(".")).with_suffix(".py")
    assert path.read_text(encoding="utf-8").count(fault.right) == 1


def test_planted_faults_are_python_whose_names_exist(tmp_path):
    for number, fault in enumerate(FAULTS):
        path = Path(HELPERS, *fault.module.split(".")).with_suffix(".py")
        planted = path.read_text(encoding="utf-8").replace(fault.right, fault.wrong)
        (tmp_path / f"fault_{number}.py").write_text(planted, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F821"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert not done.returncode, done.stdout
