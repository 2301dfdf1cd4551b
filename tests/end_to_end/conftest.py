"""What the end-to-end tests share: the commands of the README, and a copy of the package.

Each fixture that runs something returns a function.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from helpers.core import files, fingerprints, locks, paths

STEP_LINE = re.compile(r"^\[\d+/\d+\] (\S+) +(\S+) ", re.MULTILINE)
PACKAGE = (
    "helpers",
    "notebooks",
    "profiles",
    "data_manifests",
    "benchmarks",
    "run_all.py",
    "run_notebook.py",
    "pyproject.toml",
)


@dataclasses.dataclass
class Finished:
    """A finished command: exit code, what it printed and complained, the state of each step."""

    code: int
    said: str
    complaint: str

    @property
    def states(self) -> dict[str, str]:
        """{step: done, unchanged or FAILED}."""
        return dict(STEP_LINE.findall(self.said))


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """A results folder of the test's own."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture(scope="session")
def start_study() -> Callable[..., subprocess.Popen]:
    """start_study(profile, out, *words, settings=[...]): the README's command, under way.

    `package` is the copy to run it in, `environment` what to change in the environment.
    """

    def start(
        profile: str,
        out: Path,
        *words: str,
        settings: Iterable[str] = (),
        package: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen:
        command = [sys.executable, "run_all.py", "--profile", profile, "--out", str(out), *words]
        return subprocess.Popen(
            command + [word for setting in settings for word in ("--set", setting)],
            cwd=package or paths.repository_root(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (environment or {}),
        )

    return start


@pytest.fixture(scope="session")
def finish() -> Callable[[subprocess.Popen], Finished]:
    """finish(process): wait for its end."""

    def wait(process: subprocess.Popen) -> Finished:
        try:
            said, complaint = process.communicate(timeout=600)
        finally:
            process.kill()
        return Finished(process.returncode, said, complaint)

    return wait


@pytest.fixture(scope="session")
def run_study(start_study, finish) -> Callable[..., Finished]:
    """run_study(...): as `start_study`, to its end."""
    return lambda *words, **options: finish(start_study(*words, **options))


@pytest.fixture(scope="session")
def smoke_study(tmp_path_factory, run_study) -> tuple[Path, Finished]:
    """The smoke study, run once for all workers: its results folder, which nobody may change, and
    what the command said.
    """
    common = tmp_path_factory.getbasetemp()
    common = common.parent if "PYTEST_XDIST_WORKER" in os.environ else common
    folder = common / "smoke_study" / "results"
    with (common / "smoke_study.lock").open("w") as handle:
        locks.wait_for(handle)  # the other worker may be at it
        if not (folder.parent / "finished.json").exists():
            study = run_study("smoke", folder)
            assert study.code == 0, study.complaint
            files.write_json(folder.parent / "finished.json", dataclasses.asdict(study))
    return folder, Finished(**files.read_json(folder.parent / "finished.json", ""))


@pytest.fixture(scope="session")
def run_notebook() -> Callable[..., Finished]:
    """run_notebook(name, parameters, page, results): execute one notebook as the README says."""

    def run(name: str, parameters: dict, page: Path, results: Path) -> Finished:
        words = ["--to", str(page), "--parameters", json.dumps(parameters)]
        done = subprocess.run(
            [sys.executable, "run_notebook.py", f"notebooks/{name}.ipynb", *words],
            cwd=paths.repository_root(),
            text=True,
            capture_output=True,
            env=os.environ | {"RESULTS_DIR": str(results)},
            timeout=600,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def copy_package() -> Callable[[Path], Path]:
    """copy_package(folder): a copy of the package, in which a module may be edited."""

    def copy(folder: Path) -> Path:
        for part in PACKAGE:
            source = paths.repository_root() / part
            if source.is_dir():
                without_caches = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / part, ignore=without_caches)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / part)
        return folder

    return copy


@pytest.fixture(scope="session")
def file_hashes() -> Callable[[Path], dict[str, str]]:
    """file_hashes(folder): {file: hash} of all files in it but those in hidden places."""

    def hashes(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): fingerprints.file_hash(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
        }

    return hashes
