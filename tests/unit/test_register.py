"""The register keeps every line, recognises a torn one, and composes the runs of patients who are
the same.
"""

import errno
import multiprocessing
import os

import numpy as np
import pytest

from helpers.core import errors, locks
from helpers.privacy import register

IDS, FILMS = [f"p{k}" for k in range(20) for _ in range(2)], [f"film{k}" for k in range(40)]
LINE = {
    "run": "r",
    "cohort": "c",
    "unit": "patient",
    "noise_multiplier": 1.0,
    "sample_rate": 0.1,
    "steps_planned": 8,
    "steps": 8,
    "delta": 1e-5,
    "n_images": 1,
    "pos_weight": "none",
}


@pytest.fixture
def run_register(tmp_path):
    """A register of its own."""
    return register.Register(tmp_path / "register")


def begin(run_register, uuid, **changes):
    run_register.append("begin", uuid, **LINE | {"patients": "key"} | changes)


def test_its_place_is_beside_the_results_or_where_the_variable_points(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.delenv("PRIVACY_REGISTER", raising=False)
    assert register.Register().path == tmp_path / "results" / "register" / "spent.jsonl"
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "hospital"))
    assert register.Register().path == tmp_path / "hospital" / "spent.jsonl"


def test_a_run_counts_as_planned_until_it_has_ended(run_register):
    begin(run_register, "a")
    assert [line["steps"] for line in run_register.runs(["key"])] == [8]
    run_register.append("checkpoint", "a", steps=3)
    assert [(line["steps"], line["noted"]) for line in run_register.runs(["key"])] == [(8, 3)]
    run_register.append("end", "a", steps=5, why="given up")
    assert [
        (line["steps"], line["is_ended"], line["why"]) for line in run_register.runs(["key"])
    ] == [(5, True, "given up")]
    # a copy of the checkpoint, after its run had ended
    run_register.append("taken up", "a", steps=3)
    assert [(line["steps"], line["noted"]) for line in run_register.runs(["key"])] == [(8, 5)]
    run_register.append("checkpoint", "a", steps=11)
    assert run_register.runs(["key"])[0]["steps"] == 11  # never fewer than are known
    assert run_register.runs(["other"]) == [] and len(run_register.runs()) == 1


def test_a_line_is_added_while_the_register_is_held(run_register, monkeypatch):
    write, was_held = os.write, []

    def looking(handle, content):
        was_held.append(locks.is_taken(run_register.folder / ".lock"))
        return write(handle, content)

    monkeypatch.setattr(os, "write", looking)
    begin(run_register, "a")
    with run_register.held():
        run_register.append("checkpoint", "a", steps=3)
        run_register.append("end", "a", steps=3)
    assert was_held == [True] * 3
    assert not locks.is_taken(run_register.folder / ".lock")


def test_an_end_never_takes_back_what_was_on_disk(run_register):
    begin(run_register, "a")
    run_register.append("checkpoint", "a", steps=6)
    run_register.append("end", "a", steps=0, why="nothing was written to disk")
    assert run_register.runs()[0]["steps"] == 6


@pytest.mark.parametrize("n_bytes", [1, 20, 60])
def test_a_torn_last_line_is_recognised_and_hides_no_other(run_register, n_bytes):
    begin(run_register, "a")
    begin(run_register, "b")
    run_register.path.write_bytes(run_register.path.read_bytes()[:-n_bytes])
    before = len(run_register.runs())
    assert before == (2 if n_bytes == 1 else 1)  # without its end of line a line is still whole
    begin(run_register, "c")
    assert [line["uuid"] for line in run_register.runs()] == (
        ["a", "b", "c"] if before == 2 else ["a", "c"]
    )


def test_a_missing_or_torn_end_counts_as_all_steps(run_register):
    begin(run_register, "a")
    run_register.append("end", "a", steps=2, why="finished")
    assert run_register.runs()[0]["steps"] == 2
    run_register.path.write_bytes(run_register.path.read_bytes()[:-9])
    assert run_register.runs()[0]["steps"] == 8


def test_a_damaged_register_is_refused(run_register):
    begin(run_register, "a")
    run_register.path.write_bytes(b"begin: a\n" + run_register.path.read_bytes())
    with pytest.raises(errors.InputError, match="lines of JSON in .*spent.jsonl; got line 1"):
        run_register.runs()


def test_a_line_is_on_disk_when_append_returns(run_register, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")) or fsync(handle),
    )
    begin(run_register, "a")
    assert synced == [str(run_register.path), str(run_register.folder)]


def test_a_register_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    blocked = register.Register(tmp_path / "file" / "register")
    for attempt in (lambda: begin(blocked, "a"), lambda: blocked.enrol(IDS, FILMS)):
        with pytest.raises(errors.InputError, match="no private step is made unregistered"):
            attempt()
    new_register = register.Register(tmp_path / "own")
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, text: write(handle, text[:10]))  # a full disk
    with pytest.raises(errors.InputError, match="no space left"):
        begin(new_register, "a")
    monkeypatch.undo()
    begin(new_register, "b")
    assert [line["uuid"] for line in new_register.runs()] == ["b"]


def append_many(folder, uuid):
    shared_register = register.Register(folder)
    for _ in range(30):
        with shared_register.held():
            begin(shared_register, f"{uuid}-{len(shared_register.runs())}")


def test_lines_of_two_processes_do_not_mix_and_held_is_exclusive(run_register):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=append_many, args=(run_register.folder, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    uuids = [line["uuid"] for line in run_register.runs()]
    assert [int(uuid[2:]) for uuid in uuids] == list(range(60))  # each saw all lines before its own


# ---- patients


def test_the_key_is_of_ids_and_films_in_no_order(run_register):
    first, again = run_register.enrol(IDS, FILMS), run_register.enrol(IDS[::-1], FILMS[::-1])
    assert first.key == again.key and len(first.ids) == 20 and len(first.films) == 40
    for changed in ((["x", *IDS[1:]], FILMS), (IDS, ["x", *FILMS[1:]]), (IDS[1:], FILMS[1:])):
        assert run_register.enrol(*changed).key != first.key


@pytest.mark.parametrize(
    "ids, films, shared",
    [
        (["p0", "q1"], ["a", "b"], "1 patient ids"),
        (["q0", "q1"], ["film7", "b"], "1 films"),
        ([*IDS, "new"], [*FILMS, "new"], "20 patient ids and 40 films"),
        (["q0"], ["a"], None),
        (["film7"], ["p0"], None),
    ],
)
def test_cohorts_that_share_a_patient_or_a_film_count_as_one(run_register, ids, films, shared):
    first, other = run_register.enrol(IDS, FILMS), run_register.enrol(ids, films)
    begin(run_register, "a", patients=first.key)
    begin(run_register, "b", patients=other.key)
    assert run_register.sharing(first.key) == {first.key: "all"} | (
        {other.key: shared} if shared else {}
    )
    assert (
        len(run_register.runs(run_register.sharing(first.key)))
        == len(run_register.runs(run_register.sharing(other.key)))
        == (2 if shared else 1)
    )


def test_cohorts_share_a_film_by_its_pixels_also_where_an_earlier_version_enrolled_them(
    run_register,
):
    """The second cohort has other files of ten of the first one's pictures."""
    pictures = [f"picture{k}" for k in range(40)]
    others = [f"q{k}" for k in range(40)], [f"other{k}" for k in range(40)]
    theirs = [*pictures[:10], *(f"unknown{k}" for k in range(30))]
    first = run_register.enrol(IDS, FILMS)
    begin(run_register, "a", patients=first.key)
    assert len(first.pixels) == 0
    second = run_register.enrol(*others, theirs)
    assert run_register.sharing(second.key) == {second.key: "all"}  # the first has no pixels yet
    again = run_register.enrol(IDS, FILMS, pictures)
    assert again.key == first.key and len(run_register.patients(first.key).pixels) == 40
    assert again.shared_with(second) == second.shared_with(again) == {"films": 10}
    assert run_register.sharing(second.key)[first.key] == "10 films"
    # one that does not know them takes nothing away, nor does one that knows the files alone
    assert len(run_register.enrol(IDS, FILMS).pixels) == 40
    assert run_register.enrol(IDS, FILMS, FILMS).shared_with(second) == {"films": 10}
    others = [f"r{k}" for k in range(5)]
    old = run_register.enrol(others, others, others)
    assert run_register.enrol(others, others, pictures[:5]).shared_with(again) == {"films": 5}
    assert len(old.pixels) == 5


def test_cohorts_that_can_no_longer_be_compared_count_as_one(run_register, tmp_path):
    first, other, third = (
        run_register.enrol(IDS, FILMS),
        run_register.enrol(["q0"], ["a"]),
        run_register.enrol(["q1"], ["b"]),
    )
    begin(run_register, "a", patients=first.key)
    begin(run_register, "b", patients=other.key)
    assert list(run_register.sharing(first.key)) == [first.key]
    run_register._members_path(other.key).unlink()
    assert "nobody knows" in run_register.sharing(first.key)[
        other.key
    ] and third.key not in run_register.sharing(first.key)
    moved = register.Register(tmp_path / "moved")  # the lines alone, copied to another place
    moved.folder.mkdir()
    (moved.folder / "spent.jsonl").write_bytes(run_register.path.read_bytes())
    assert set(moved.sharing(moved.enrol(IDS, FILMS).key)) == {first.key, other.key}


def test_hashes_of_another_salt_are_no_evidence(run_register, tmp_path):
    elsewhere = register.Register(tmp_path / "elsewhere")
    theirs = elsewhere.enrol(["q0"], ["a"])
    first = run_register.enrol(IDS, FILMS)
    begin(run_register, "b", patients=theirs.key)
    (run_register.folder / f"patients-{theirs.key}.npz").write_bytes(
        (elsewhere.folder / f"patients-{theirs.key}.npz").read_bytes()
    )
    assert (
        run_register.patients(theirs.key) is None
        and "nobody knows" in run_register.sharing(first.key)[theirs.key]
    )
    # known again once it is enrolled here
    assert (
        run_register.enrol(["q0"], ["a"]).key == theirs.key
        and run_register.patients(theirs.key) is not None
    )


def make_salt(folder, queue):
    queue.put(register.Register(folder)._salt())


def test_two_processes_that_begin_a_register_have_one_salt(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    for attempt in range(10):
        both = [
            context.Process(target=make_salt, args=(tmp_path / str(attempt), queue))
            for _ in range(2)
        ]
        for process in both:
            process.start()
        assert queue.get(timeout=60) == queue.get(timeout=60)
        for process in both:
            process.join()


def test_a_run_whose_beginning_is_missing_is_refused(run_register):
    begin(run_register, "a")
    run_register.append("checkpoint", "a", steps=3)
    text = run_register.path.read_bytes()
    run_register.path.write_bytes(text[:30] + b"\n" + text[text.index(b"\n") + 1 :])
    with pytest.raises(errors.InputError, match="a beginning of each run"):
        run_register.runs()


def test_what_a_power_cut_leaves_is_recognised(run_register):
    begin(run_register, "a")
    run_register.path.write_bytes(run_register.path.read_bytes() + b"\0" * 40)
    assert len(run_register.runs()) == 1
    begin(run_register, "b")
    assert [line["uuid"] for line in run_register.runs()] == ["a", "b"]


def test_the_last_session_of_a_run_is_known(run_register):
    begin(run_register, "a", session="first")
    run_register.append("checkpoint", "a", steps=3)
    assert run_register.runs()[0]["session"] == "first"
    run_register.append("taken up", "a", steps=3, session="second")
    assert run_register.runs()[0]["session"] == "second"


def test_patients_hashes_are_salted_and_the_salt_is_missed(run_register, tmp_path):
    first = run_register.enrol(IDS, FILMS)
    elsewhere = register.Register(tmp_path / "elsewhere").enrol(IDS, FILMS)
    assert first.key == elsewhere.key and first.mark != elsewhere.mark
    assert (
        not np.intersect1d(first.ids, elsewhere.ids).size
        and not np.intersect1d(first.films, elsewhere.films).size
    )
    (run_register.folder / "salt").unlink()
    with pytest.raises(errors.InputError, match="the salt of the patients' hashes"):
        run_register.enrol(IDS[2:], FILMS[2:])


def test_damaged_hashes_are_refused(run_register):
    first = run_register.enrol(IDS, FILMS)
    next(run_register.folder.glob("patients-*")).write_bytes(b"")
    with pytest.raises(errors.InputError, match="salted hashes in .*; got a damaged file"):
        run_register.patients(first.key)


def test_without_locks_the_reader_is_told_once_and_the_register_goes_on(
    run_register, monkeypatch, capsys
):
    no_locks = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(locks.fcntl, "flock", lambda *arguments: (_ for _ in ()).throw(no_locks))
    for name in ("a", "b"):
        with run_register.held():
            begin(run_register, name)
    assert capsys.readouterr().out.count("The disk of the privacy register has no locks") == 1
    assert [run["uuid"] for run in run_register.runs()] == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 100])
def test_an_emptied_register_is_not_one_in_which_nothing_was_spent(content, run_register):
    assert run_register.runs() == []  # not begun yet
    begin(run_register, "a")
    run_register.path.write_bytes(content)
    with pytest.raises(errors.InputError, match="lines of JSON in .*spent.jsonl; got none"):
        run_register.runs()


@pytest.mark.parametrize("n_bytes", [0, 31])
def test_a_cut_salt_is_refused(n_bytes, run_register):
    run_register.enrol(IDS, FILMS)
    salt = run_register.folder / "salt"
    salt.write_bytes(salt.read_bytes()[:n_bytes])
    with pytest.raises(errors.InputError, match=f"the salt .*; got {n_bytes} bytes"):
        run_register.enrol(IDS, FILMS)


def test_salt_and_hashes_are_not_for_others_to_read(run_register):
    before = os.umask(0)
    try:
        run_register.enrol(IDS, FILMS)
    finally:
        os.umask(before)
    modes = {path.name[:8]: path.stat().st_mode & 0o777 for path in run_register.folder.iterdir()}
    assert modes == {"salt": 0o660, "patients": 0o660}


def test_a_disk_without_hard_links_has_a_salt_all_the_same(run_register, monkeypatch):
    no_links = OSError(errno.EPERM, "Operation not permitted")
    monkeypatch.setattr(os, "link", lambda *arguments: (_ for _ in ()).throw(no_links))
    first = run_register.enrol(IDS, FILMS)
    assert run_register.enrol(IDS, FILMS).mark == first.mark
    assert len((run_register.folder / "salt").read_bytes()) == 32


def test_a_register_that_moves_with_the_working_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_REGISTER", "register")
    with pytest.raises(errors.InputError, match="a whole path in PRIVACY_REGISTER; got 'register'"):
        register.folder_of(tmp_path)
    monkeypatch.setenv("PRIVACY_REGISTER", " ")
    assert register.folder_of(tmp_path) == tmp_path / "register"
