"""A study in a terminal: running steps have lines, which are gone at its end, however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest
import screen

from helpers.core import paths

COLUMNS = 60


@pytest.fixture
def start(tmp_path):
    """The first step of the smoke study, under way in a terminal of its own; its results folder."""
    reader, writer = os.openpty()
    screen.set_columns(reader, COLUMNS)
    out = tmp_path / "out"
    words = ["--profile", "smoke", "--only", "01", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "run_all.py", *words],
        cwd=paths.repository_root(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TERM": "xterm"},
        # ignored in what a script starts in the background, also these tests
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(writer)
    yield process, reader, out
    process.kill()
    os.close(reader)


def watch(process, reader, view, until=lambda: False):
    """Follow a terminal to the end of the process, or until something is true."""
    began = time.monotonic()
    while True:
        is_over = process.poll() is not None
        view.write(screen.read_all(reader))
        if is_over or until():
            return
        assert time.monotonic() - began < 600
        time.sleep(0.05)


def test_a_running_step_has_a_line_which_gives_way_to_that_of_its_end(start):
    process, reader, out = start
    view = screen.Screen(COLUMNS)
    watch(process, reader, view)
    assert process.returncode == 0 and not process.stderr.read()
    during = [row for rows in view.seen for row in rows if row.startswith("  01_data_preparation")]
    assert any(" synthetic_cxr_private, " in row for row in during)
    assert max(map(len, during)) <= COLUMNS
    title, ended = "".join(view.shown).split("[1/1]")
    assert title.startswith("Smoke test") and ended.split()[:2] == ["01_data_preparation", "done"]
    assert not list(out.glob(".state/*progress*"))


def test_the_line_of_a_study_that_is_stopped_is_gone(start):
    process, reader, out = start
    view = screen.Screen(COLUMNS)
    watch(process, reader, view, lambda: view.shown[-1:] == ["  0 of 1 steps have ended"])
    process.send_signal(signal.SIGINT)
    watch(process, reader, view)
    assert process.returncode == 130 and "stopped" in process.stderr.read()
    assert not [row for row in view.shown if row.startswith("  ")]
    assert not list(out.glob(".state/*.progress"))
