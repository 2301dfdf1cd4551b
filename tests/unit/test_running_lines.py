"""How far running steps are: what their bars say, and how a terminal shows it."""

import io
import os
import sys
from types import SimpleNamespace

import pytest
import screen

from helpers.core import files, progress
from helpers.study import durations, notebook_files, plan, running_lines, step_cache, terminal

NAME = "03_dp_training-same_recipe_clipped-eps7.89-seed0"


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The file in which bars say how far they are, and all that was written into it."""
    path, written = tmp_path / "a_step.progress", []
    monkeypatch.setenv(progress.VARIABLE, str(path))
    write = files.write_json

    def write_and_keep(*arguments, **named):
        written.append(arguments[1])
        write(*arguments, **named)

    monkeypatch.setattr(files, "write_json", write_and_keep)
    return path, written


# ---- bars


def test_a_bar_says_where_it_began_and_how_far_it_is(told, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0)
    bar = progress.progress(9, "steps", 4)
    bar.images_a_piece = 10.0
    bar.update(2)
    said = files.readable_json(told[0])
    assert (said["label"], said["done"], said["total"]) == ("steps", 6, 9)
    assert said["rate"] > 0 and said["images_a_piece"] == 10
    assert told[1][0]["done"] == 4 and told[1][0]["rate"] is None
    bar.close()
    assert not told[0].exists()


def test_a_bar_writes_nothing_where_nobody_asks_and_seldom_where_somebody_does(
    told, monkeypatch, tmp_path
):
    with progress.progress(2000, "steps") as bar:
        for _ in range(2000):
            bar.update()
        assert len(told[1]) == 1  # at the beginning; the next one after 2 s
    monkeypatch.delenv(progress.VARIABLE)
    with progress.progress(2, "steps") as bar:
        bar.update(2)
    assert len(told[1]) == 2 and not list(tmp_path.iterdir())


def test_a_full_disk_ends_no_training(told, monkeypatch):
    monkeypatch.setattr(files, "write_json", lambda *a, **b: (_ for _ in ()).throw(OSError(28)))
    with progress.progress(2, "steps") as bar:
        bar.update(2)


def test_an_earlier_bar_that_goes_leaves_the_newest_alone(told):
    first, second = progress.progress(2, "first"), progress.progress(2, "second")
    first.close()
    assert files.readable_json(told[0])["label"] == "second"
    second.close()
    assert not told[0].exists()


# ---- lines


@pytest.mark.parametrize(
    "name, shown",
    [
        ("02_baseline_training-seed0", "02_baseline_training-seed0"),
        ("03_dp_training-same_recipe-eps7.89-seed0", "03-same_recipe-eps7.89-seed0"),
        (NAME, "03-same_..pped-eps7.89-seed0"),
    ],
)
def test_a_long_name_of_a_step_leaves_out_what_others_have_too(name, shown):
    assert running_lines.fitted(name) == shown
    assert len(shown) <= running_lines.NAME_COLUMNS


def step(name, *needs):
    return plan.Step(name, notebook_files.notebooks()["03"], {"SEED": 1}, needs=list(needs))


def running(name, tmp_path, seconds=30.0, **bar):
    """A step under way, whose bar says `bar`."""
    path = tmp_path / f"{name}.progress"
    if bar:
        files.write_json(path, bar)
    process = SimpleNamespace(seconds=seconds)
    return SimpleNamespace(step=step(name), process=process, seen=running_lines.Seen(path))


@pytest.fixture
def pty_of(monkeypatch):
    """pty_of(columns): standard output is a terminal of that width; returns how to read it."""
    opened = []

    def make(columns):
        reader, writer = os.openpty()
        screen.set_columns(reader, columns)
        opened.append((reader, os.fdopen(writer, "w")))
        monkeypatch.setattr(sys, "stdout", opened[-1][1])
        monkeypatch.setenv("TERM", "xterm")
        return lambda: screen.read_all(reader)

    yield make
    monkeypatch.undo()
    for reader, writer in opened:
        writer.close()
        os.close(reader)


def cut(line, columns):
    """A line as a terminal of some width shows it."""
    return line if len(line) <= columns else f"{line[: columns - 1]}…"


@pytest.mark.parametrize("columns", [80, 60, 30])
def test_running_steps_have_lines_that_are_replaced_and_never_broken(columns, pty_of, tmp_path):
    read, view = pty_of(columns), screen.Screen(columns)
    lines = running_lines.Lines(durations.Durations(step_cache.Results(tmp_path)), 5)
    both = [
        running(NAME, tmp_path, label="steps", done=45, total=69, rate=8.0, images_a_piece=256.0),
        running("04_fairness_analysis", tmp_path),
    ]
    for _ in range(3):
        lines.looked_at = 0.0
        lines.show(both, [], 2)
    view.write(read())
    first = "  03-same_..pped-eps7.89-seed0 steps 45 of 69, 2,048 images/s, 3 s left"
    whole = [first, "  04_fairness_analysis         for 30 s", "  0 of 5 steps have ended"]
    assert view.shown == [cut(line, columns) for line in whole]
    lines.end("04_fairness_analysis", "done", 31.4, both[:1], [], 2)
    lines.looked_at = 0.0
    lines.show(both[:1], [], 2)
    view.write(read())
    ended = f"[1/5] {'04_fairness_analysis':42} done         31 s"
    assert "".join(view.shown).startswith(ended[:columns].rstrip())
    assert view.shown[-2] == cut(first, columns)
    assert view.shown[-1].startswith("  1 of 5 steps have ended")
    lines.clear()
    view.write(read())
    assert "steps" not in "".join(view.shown)


def test_without_a_terminal_there_are_plain_lines_only(monkeypatch, tmp_path):
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stdout", plain)
    lines = running_lines.Lines(durations.Durations(step_cache.Results(tmp_path)), 2)
    lines.show([running(NAME, tmp_path, label="steps", done=1, total=2)], [step("b")], 2)
    lines.end("a", "done", 3, [], [step("b")], 2)
    lines.clear()
    assert plain.getvalue() == f"[1/2] {'a':42} done          3 s   1 to go, not timed before\n"
    lines.end("b", "unchanged", 0, [], [step("c")], 1)  # perhaps the next one is, too
    assert plain.getvalue().endswith(f"[2/2] {'b':42} unchanged     0 s\n")


def test_a_dumb_terminal_is_none(pty_of, monkeypatch):
    pty_of(80)
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.Terminal().is_live


def test_more_lines_than_rows_are_not_broken(pty_of):
    read, shown, view = pty_of(80), terminal.Terminal(), screen.Screen(80)
    for _ in range(2):
        shown.show([f"line {number}" for number in range(40)])
    view.write(read())
    assert len(view.shown) <= 24 and view.shown[0] == "line 0"
    shown.clear()
    view.write(read())
    assert not view.shown


# ---- seconds


def test_a_step_takes_at_least_until_its_bar_is_full_and_as_long_as_before(tmp_path):
    expected = durations.Durations(step_cache.Results(tmp_path))
    lines = running_lines.Lines(expected, 1)
    of_bar = running("a", tmp_path, label="steps", done=10, total=30, rate=2.0)
    of_bar.seen.look()
    assert lines._seconds_left(of_bar) == pytest.approx(10, abs=0.5)
    expected.note(of_bar.step, 100)
    assert lines._seconds_left(of_bar) == pytest.approx(70)
    expected.note(of_bar.step, 0)  # 50 on average
    assert lines._seconds_left(of_bar) == pytest.approx(20)
    assert lines._seconds_left(running("b", tmp_path, 60.0)) == 0


def test_all_steps_end_when_the_last_one_does_side_by_side():
    # a alone; then b and c side by side, d in the place of b; e after all: 10 + 4 + 5 + 1
    steps = [(step("a"), 10), (step("b", "a"), 4), (step("c", "a"), 7), (step("d", "a"), 5)]
    steps.append((step("e", "a", "b", "c", "d"), 1))
    assert durations.until_all_end({}, steps, 2) == 20
    assert durations.until_all_end({}, steps, 1) == 27
    assert durations.until_all_end({"a": 3}, steps[1:], 2) == 13
    assert durations.until_all_end({}, [], 2) == 0


def test_seconds_are_of_this_command_then_of_the_folder_then_of_expected(tmp_path, monkeypatch):
    made, other = step("a"), plan.Step("a", notebook_files.notebooks()["03"], {"SEED": 2})
    kept = {"seconds": 40.0, "parameters": durations.fingerprints.fingerprint(made.parameters)}
    about = {"hardware": {"cores": 2, "machine": "x"}, "steps": {"a": kept}}
    monkeypatch.setattr(
        files, "readable_json", lambda path: about if "expected" in str(path) else {}
    )
    expected = durations.Durations(step_cache.Results(tmp_path), "demo")
    assert expected.seconds(made) == 40 and "expected/ was made (2 cores, x)" in expected.source(
        made
    )
    assert expected.seconds(other) is None and expected.source(other) == durations.NEVER
    monkeypatch.undo()
    files.write_json(tmp_path / ".state" / "a.json", kept | {"seconds": 7.0})
    assert expected.seconds(made) == 7 and expected.source(made) == "in this folder"
    assert expected.source(other) == durations.NEVER  # the same step with another seed
    expected.note(made, 5.0)
    assert expected.seconds(other) == 5  # the same notebook


@pytest.mark.parametrize(
    "seconds, words", [(0, "0 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (9000, "2.5 h")]
)
def test_seconds_in_words(seconds, words):
    assert durations.in_words(seconds) == words
