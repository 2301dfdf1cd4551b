"""The register keeps every line, recognises a torn one, and composes the runs of patients who are
the same.
"""

import multiprocessing
import os

import numpy as np
import pytest

from helpers.core import errors
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
def own(tmp_path):
    """A register of its own."""
    return register.Register(tmp_path / "register")


def begin(own, uuid, **changes):
    own.append("begin", uuid, **LINE | {"patients": "key"} | changes)


def test_its_place_is_beside_the_results_or_where_the_variable_points(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.delenv("PRIVACY_REGISTER", raising=False)
    assert register.Register().path == tmp_path / "results" / "register" / "spent.jsonl"
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "hospital"))
    assert register.Register().path == tmp_path / "hospital" / "spent.jsonl"


def test_a_run_counts_as_planned_until_it_has_ended(own):
    begin(own, "a")
    assert [line["steps"] for line in own.runs(["key"])] == [8]
    own.append("checkpoint", "a", steps=3)
    assert [(line["steps"], line["noted"]) for line in own.runs(["key"])] == [(8, 3)]
    own.append("end", "a", steps=5, why="given up")
    assert [(line["steps"], line["is_ended"], line["why"]) for line in own.runs(["key"])] == [
        (5, True, "given up")
    ]
    own.append("taken up", "a", steps=3)  # a copy of the checkpoint, after its run had ended
    assert [(line["steps"], line["noted"]) for line in own.runs(["key"])] == [(8, 5)]
    own.append("checkpoint", "a", steps=11)
    assert own.runs(["key"])[0]["steps"] == 11  # never fewer than are known
    assert own.runs(["other"]) == [] and len(own.runs()) == 1


def test_an_end_never_takes_back_what_was_on_disk(own):
    begin(own, "a")
    own.append("checkpoint", "a", steps=6)
    own.append("end", "a", steps=0, why="nothing was written to disk")
    assert own.runs()[0]["steps"] == 6


@pytest.mark.parametrize("n_bytes", [1, 20, 60])
def test_a_torn_last_line_is_recognised_and_hides_no_other(own, n_bytes):
    begin(own, "a")
    begin(own, "b")
    own.path.write_bytes(own.path.read_bytes()[:-n_bytes])
    before = len(own.runs())
    assert before == (2 if n_bytes == 1 else 1)  # without its end of line a line is still whole
    begin(own, "c")
    assert [line["uuid"] for line in own.runs()] == (["a", "b", "c"] if before == 2 else ["a", "c"])


def test_a_missing_or_torn_end_counts_as_all_steps(own):
    begin(own, "a")
    own.append("end", "a", steps=2, why="finished")
    assert own.runs()[0]["steps"] == 2
    own.path.write_bytes(own.path.read_bytes()[:-9])
    assert own.runs()[0]["steps"] == 8


def test_a_damaged_register_is_refused(own):
    begin(own, "a")
    own.path.write_bytes(b"begin: a\n" + own.path.read_bytes())
    with pytest.raises(errors.InputError, match="lines of JSON in .*spent.jsonl; got line 1"):
        own.runs()


def test_a_line_is_on_disk_when_append_returns(own, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")) or fsync(handle),
    )
    begin(own, "a")
    assert synced == [str(own.path), str(own.folder)]


def test_a_register_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    blocked = register.Register(tmp_path / "file" / "register")
    for attempt in (lambda: begin(blocked, "a"), lambda: blocked.enrol(IDS, FILMS)):
        with pytest.raises(errors.InputError, match="no private step is made unregistered"):
            attempt()
    own = register.Register(tmp_path / "own")
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, text: write(handle, text[:10]))  # a full disk
    with pytest.raises(errors.InputError, match="no space left"):
        begin(own, "a")
    monkeypatch.undo()
    begin(own, "b")
    assert [line["uuid"] for line in own.runs()] == ["b"]


def append_many(folder, uuid):
    own = register.Register(folder)
    for _ in range(30):
        with own.held():
            begin(own, f"{uuid}-{len(own.runs())}")


def test_lines_of_two_processes_do_not_mix_and_held_is_exclusive(own):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=append_many, args=(own.folder, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join()
    uuids = [line["uuid"] for line in own.runs()]
    assert [int(uuid[2:]) for uuid in uuids] == list(range(60))  # each saw all lines before its own


# ---- patients


def test_the_key_is_of_ids_and_films_in_no_order(own):
    first, again = own.enrol(IDS, FILMS), own.enrol(IDS[::-1], FILMS[::-1])
    assert first.key == again.key and len(first.ids) == 20 and len(first.films) == 40
    for changed in ((["x", *IDS[1:]], FILMS), (IDS, ["x", *FILMS[1:]]), (IDS[1:], FILMS[1:])):
        assert own.enrol(*changed).key != first.key


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
def test_cohorts_that_share_a_patient_or_a_film_count_as_one(own, ids, films, shared):
    first, other = own.enrol(IDS, FILMS), own.enrol(ids, films)
    begin(own, "a", patients=first.key)
    begin(own, "b", patients=other.key)
    assert own.sharing(first.key) == {first.key: "all"} | ({other.key: shared} if shared else {})
    assert (
        len(own.runs(own.sharing(first.key)))
        == len(own.runs(own.sharing(other.key)))
        == (2 if shared else 1)
    )


def test_cohorts_that_can_no_longer_be_compared_count_as_one(own, tmp_path):
    first, other, third = own.enrol(IDS, FILMS), own.enrol(["q0"], ["a"]), own.enrol(["q1"], ["b"])
    begin(own, "a", patients=first.key)
    begin(own, "b", patients=other.key)
    assert list(own.sharing(first.key)) == [first.key]
    own._members_path(other.key).unlink()
    assert "nobody knows" in own.sharing(first.key)[other.key] and third.key not in own.sharing(
        first.key
    )
    moved = register.Register(tmp_path / "moved")  # the lines alone, copied to another place
    moved.folder.mkdir()
    (moved.folder / "spent.jsonl").write_bytes(own.path.read_bytes())
    assert set(moved.sharing(moved.enrol(IDS, FILMS).key)) == {first.key, other.key}


def test_hashes_of_another_salt_are_no_evidence(own, tmp_path):
    elsewhere = register.Register(tmp_path / "elsewhere")
    theirs = elsewhere.enrol(["q0"], ["a"])
    first = own.enrol(IDS, FILMS)
    begin(own, "b", patients=theirs.key)
    (own.folder / f"patients-{theirs.key}.npz").write_bytes(
        (elsewhere.folder / f"patients-{theirs.key}.npz").read_bytes()
    )
    assert own.patients(theirs.key) is None and "nobody knows" in own.sharing(first.key)[theirs.key]
    # known again once it is enrolled here
    assert own.enrol(["q0"], ["a"]).key == theirs.key and own.patients(theirs.key) is not None


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


def test_a_run_whose_beginning_is_missing_is_refused(own):
    begin(own, "a")
    own.append("checkpoint", "a", steps=3)
    text = own.path.read_bytes()
    own.path.write_bytes(text[:30] + b"\n" + text[text.index(b"\n") + 1 :])
    with pytest.raises(errors.InputError, match="a beginning of each run"):
        own.runs()


def test_what_a_power_cut_leaves_is_recognised(own):
    begin(own, "a")
    own.path.write_bytes(own.path.read_bytes() + b"\0" * 40)
    assert len(own.runs()) == 1
    begin(own, "b")
    assert [line["uuid"] for line in own.runs()] == ["a", "b"]


def test_the_last_session_of_a_run_is_known(own):
    begin(own, "a", session="first")
    own.append("checkpoint", "a", steps=3)
    assert own.runs()[0]["session"] == "first"
    own.append("taken up", "a", steps=3, session="second")
    assert own.runs()[0]["session"] == "second"


def test_patients_hashes_are_salted_and_the_salt_is_missed(own, tmp_path):
    first = own.enrol(IDS, FILMS)
    elsewhere = register.Register(tmp_path / "elsewhere").enrol(IDS, FILMS)
    assert first.key == elsewhere.key and first.mark != elsewhere.mark
    assert (
        not np.intersect1d(first.ids, elsewhere.ids).size
        and not np.intersect1d(first.films, elsewhere.films).size
    )
    (own.folder / "salt").unlink()
    with pytest.raises(errors.InputError, match="the salt of the patients' hashes"):
        own.enrol(IDS[2:], FILMS[2:])


def test_damaged_hashes_are_refused(own):
    first = own.enrol(IDS, FILMS)
    next(own.folder.glob("patients-*")).write_bytes(b"")
    with pytest.raises(errors.InputError, match="salted hashes in .*; got a damaged file"):
        own.patients(first.key)
