"""The ways to install the package stay in step."""

import os
import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.core import paths

ROOT = paths.repository_root()


def pins(name):
    """{package: version} of a requirements file, all of whose lines must be pins."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines if line), (
        name
    )
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if line}


def test_no_package_is_pinned_twice_and_none_only_for_one_system():
    direct, indirect = pins("requirements.txt"), pins("constraints.txt")
    assert not set(direct) & set(indirect)
    assert not [name for name in indirect if re.match("nvidia|cuda|triton", name)]


def test_no_file_names_an_index():
    for name in (
        "requirements.txt",
        "constraints.txt",
        "environment.yml",
        "Makefile",
        "pyproject.toml",
    ):
        assert not re.search(r"index-url|find-links|https?://", (ROOT / name).read_text()), name


def test_conda_environment_installs_the_same_files():
    *_, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip["pip"] == ["-r requirements.txt", "-c constraints.txt"]


def test_ranges_of_the_package_hold_the_pinned_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins("requirements.txt")
    ranges = [
        Requirement(text)
        for text in project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    ]
    for requirement in ranges:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), (
            requirement.name
        )
    assert {canonicalize_name(requirement.name) for requirement in ranges} == set(pinned)


def test_the_version_is_the_same_wherever_it_is_said():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    assert newest == version


def targets_of(target):
    """The targets that a target of the Makefile runs first."""
    makefile = (ROOT / "Makefile").read_text()
    return re.search(rf"^{target}: ([a-z -]+?)  ##", makefile, re.MULTILINE).group(1).split()


def test_continuous_integration_runs_the_tests():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_github_runs_each_part_of_make_test_on_six_systems_and_builds_the_docs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    *first, side_by_side = targets_of("test")
    assert (first, side_by_side) == (["lint", "unit"], "notebooks-beside-studies")
    assert matrix["target"] == [*first, "nbval", "end-to-end"]
    assert (len(matrix["os"]), len(matrix["python"])) == (2, 3)
    assert workflow["jobs"]["test"]["steps"][-1]["run"] == "make ${{ matrix.target }}"
    assert workflow["jobs"]["docs"]["steps"][-1]["run"] == "make docs"


def test_lint_comes_first_and_benchmarks_are_tested_by_test_all_only():
    assert targets_of("test")[0] == targets_of("test-all")[0] == "lint"
    assert "test-benchmarks" not in targets_of("test")
    assert set(targets_of("test")) | {"test-benchmarks", "mutants"} == set(targets_of("test-all"))


def test_hooks_before_a_commit_run_the_pinned_linters():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    assert [hook["id"] for hook in hooks[0]["hooks"]] == ["ruff", "ruff-format", "lint-imports"]


def test_the_issue_form_asks_for_the_record_and_warns_of_patient_data():
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml").read_text())
    fields = {field.get("id"): field for field in form["body"]}
    assert "record.json" in fields["record"]["attributes"]["label"]
    assert fields["no_patient_data"]["attributes"]["options"][0]["required"] is True


def test_make_help_lists_every_target():
    declared = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text()).group(1).split()
    shown = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in shown.splitlines()] == declared


def test_make_says_what_is_missing_when_no_python_fits(tmp_path):
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    old = tmp_path / "python3.6"
    old.write_text("#!/bin/sh\necho 3.6\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "-s", "unit", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and not (tmp_path / ".venv").exists()
    assert (
        "Expected Python 3.11, 3.12 or 3.13" in done.stderr
        and "(3.6)" in done.stderr
        and "6 GB" in done.stderr
    )


@pytest.mark.parametrize("target", ["nbval", "notebooks"])
@pytest.mark.parametrize("fails", ["", "1.06"])
def test_notebook_03_runs_at_three_budgets_before_the_analyses(target, fails, tmp_path):
    # a Python that notes what it was asked for, and fails at the budget in FAILS
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *"$FAILS"}}*) [ -z "$FAILS" ];; esac\n'
    )
    python.chmod(0o755)
    for name in ("01_a", "02_b", "03_dp_training", "04_c", "05_d"):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    done = subprocess.run(
        ["make", "-s", target, f"PY={python}"],
        cwd=tmp_path,
        env=os.environ | {"FAILS": fails},
        capture_output=True,
    )
    first, *private = log.read_text().splitlines()
    assert "01_a.ipynb notebooks/02_b.ipynb" in first and "03_dp" not in first
    assert any('"EPSILON": 0.29' in line for line in private[:3])
    assert any('"EPSILON": 1.06' in line for line in private[:3])
    assert any(line.endswith("03_dp_training.ipynb") for line in private[:3])
    if fails:
        assert done.returncode == 2 and len(private) == 3
    else:
        assert done.returncode == 0 and "04_c.ipynb notebooks/05_d.ipynb" in private[3]
