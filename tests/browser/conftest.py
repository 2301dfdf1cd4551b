"""What the browser tests share: the system's Chromium, pages that note what goes wrong in them, and
JupyterLab as `make lab` starts it, on a copy of the package.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from end_to_end.conftest import finish, run_study, start_study  # noqa: F401 - fixtures
from playwright import sync_api

from helpers.core import paths

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSIDE = ("file:", "data:", "blob:", "about:")
NOT_COPIED = (".git", ".venv", "results", "results_*", "__pycache__", "_build", ".*_cache")


class Page:
    """A page of the browser that notes errors and refuses every request to elsewhere.

    Attributes:
        tab: Playwright's page.
        errors: of the console, and exceptions of scripts.
        outside: addresses that were asked for outside of files and this machine.
    """

    def __init__(self, context: sync_api.BrowserContext) -> None:
        self.errors: list[str] = []
        self.outside: list[str] = []
        context.route("**/*", self._only_inside)
        self.tab = context.new_page()
        self.tab.on("console", self._note)
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))

    def _only_inside(self, route: sync_api.Route) -> None:
        address = route.request.url
        if address.startswith((*INSIDE, "http://127.0.0.1:")):
            route.continue_()
        else:
            self.outside.append(address)
            route.abort()

    def _note(self, message: sync_api.ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url')})")


@pytest.fixture(scope="session")
def browser() -> Iterator[sync_api.Browser]:
    """The system's Chromium; tests are skipped where there is none."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=program, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page(browser) -> Iterator[Page]:
    """A page for the tests of one file, of the size of a small screen."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(60_000)
    yield Page(context)
    context.close()


@pytest.fixture(autouse=True)
def picture(tmp_path) -> Path:
    """Where a picture of the page goes if the test fails."""
    return tmp_path / "page.png"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Of a test that fails, keep what the page shows, and say where."""
    report = yield
    page = item.funcargs.get("page")
    if report.when == "call" and report.failed and page:
        with contextlib.suppress(sync_api.Error):  # of a page that is gone
            page.tab.screenshot(path=item.funcargs["picture"])
            report.sections.append(("a picture of the page", str(item.funcargs["picture"])))
    return report


@dataclasses.dataclass
class Lab:
    """JupyterLab under way.

    Attributes:
        url: of the server.
        token: that opens it.
        folder: the copy of the package it works in.
        results: where the notebooks write.
    """

    url: str
    token: str
    folder: Path
    results: Path


@pytest.fixture(scope="session")
def start_lab(tmp_path_factory) -> Iterator[Callable[[Path], Lab]]:
    """start_lab(folder): JupyterLab as `make lab` starts it in a copy of the package, for a user
    who never had it before.
    """
    started = []

    def start(folder: Path) -> Lab:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        lab = Lab(f"http://127.0.0.1:{port}", "of-the-tests", folder, folder / "results")
        options = f"--no-browser --port={port} --IdentityProvider.token={lab.token}"
        options += " --allow-root" * (os.geteuid() == 0)
        venv = paths.repository_root() / ".venv"
        home = tmp_path_factory.mktemp("home")
        log = home / "lab.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                ["make", "-o", f"{venv}/.installed", "lab", f"VENV={venv}", f"OPTIONS={options}"],
                cwd=folder,
                env=os.environ | _of_a_new_user(home) | {"PYTHONPATH": str(folder)},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        started.append(process)
        _wait_for(lab, process, log)
        return lab

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _of_a_new_user(home: Path) -> dict[str, str]:
    """The environment of somebody without settings, workspaces or results of their own."""
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    return {name: str(home / name.lower()) for name in places} | {
        "RESULTS_DIR": "",
        "PRIVACY_REGISTER": "",
    }


def _wait_for(lab: Lab, process: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers."""
    for _ in range(240):
        assert process.poll() is None, f"`make lab` ended: {log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(f"{lab.url}/api", timeout=5).close()
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"`make lab` did not answer in a minute: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def copy_repository() -> Callable[[Path], Path]:
    """copy_repository(folder): all that a reader gets, in a folder that may be changed."""

    def copy(folder: Path) -> Path:
        ignored = shutil.ignore_patterns(*NOT_COPIED)
        return shutil.copytree(paths.repository_root(), folder, ignore=ignored)

    return copy
