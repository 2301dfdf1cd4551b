"""The development container names what there is. Nobody starts it here."""

import json
import re

from helpers.core import paths

ROOT = paths.repository_root()
DEFINITION = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_container_makes_a_target_of_the_makefile():
    program, target = DEFINITION["postCreateCommand"].split()
    of_makefile = target.replace(".venv", "$(VENV)") + ":"
    assert program == "make" and f"\n{of_makefile}" in MAKEFILE


def test_its_editor_uses_the_python_that_make_installs():
    chosen = DEFINITION["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert chosen.removeprefix("${containerWorkspaceFolder}/") == ".venv/bin/python"
    assert "\nVENV := .venv\nPY := $(VENV)/bin/python\n" in MAKEFILE


def test_its_python_is_one_that_the_package_accepts():
    version = re.search(r":.*?(3\.\d+)", DEFINITION["image"])[1]
    assert version in re.search(r"case \$\$version in ([\d.|]+)\)", MAKEFILE)[1].split("|")


def test_the_port_of_jupyterlab_is_forwarded():
    labels = {port: about["label"] for port, about in DEFINITION["portsAttributes"].items()}
    assert DEFINITION["forwardPorts"] == [8888] and "make lab" in labels["8888"]
    assert "\nlab:" in MAKEFILE
