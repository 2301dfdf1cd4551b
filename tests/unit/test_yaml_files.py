"""YAML files: a key twice, and text that YAML reads as something else, are refused by line."""

import pytest

from helpers.analysis import published_results
from helpers.core import errors, yaml_files
from helpers.study import profiles


def read(folder, text):
    path = folder / "ward.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return yaml_files.read(path)


@pytest.mark.parametrize(
    "text, lines",
    [
        ("a: 1\nb: 2\na: 3\n", "'a' in line 1 and in line 3"),
        ("x:\n  a: 1\n  a: 2\n", "'a' in line 2 and in line 3"),
        ("x: {a: 1, b: {c: 1,\n c: 2}}\n", "'c' in line 1 and in line 2"),
        ("- a: 1\n- b: 1\n  b: 2\n", "'b' in line 2 and in line 3"),
        ("values: {1: positive, '1': negative}\n", "'1' in line 1"),
    ],
)
def test_a_key_twice_is_refused_with_both_lines(tmp_path, text, lines):
    with pytest.raises(errors.InputError, match=f"each key once in ward.yaml; got {lines}"):
        read(tmp_path, text)


def test_merged_keys_may_be_overridden(tmp_path):
    text = "a: &x {b: 1, c: 2}\nd: &y {<<: *x, b: 3}\ne: {<<: *y, b: 4}\nf: *x\n"
    assert read(tmp_path, text) == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 3, "c": 2},
        "e": {"b": 4, "c": 2},
        "f": {"b": 1, "c": 2},
    }


@pytest.mark.parametrize(
    "text, word",
    [
        ("a: 1\nv: {yes: positive}\n", "yes"),
        ("a: 1\nv: {NO: x}\n", "NO"),
        ("a: 1\nv:\n  - [NO, SE]\n", "NO"),
        ("a: 1\ntrue: x\n", "true"),
        ("a: 1\nv: {01: x}\n", "01"),
        ("a: 1\nv: [02]\n", "02"),
        ("a: 1\nv: 1:30\n", "1:30"),
        ("a: 1\nv: 1_000\n", "1_000"),
        ("a: 1\n2020-01-01: x\n", "2020-01-01"),
        ("a: 1\n~: x\n", "~"),
        ("a: 1\nv: {1.0: x}\n", "1.0"),
    ],
)
def test_what_yaml_reads_otherwise_is_to_be_quoted(tmp_path, text, word):
    with pytest.raises(errors.InputError, match=f'line [23] of ward.yaml.*quote it: "{word}"'):
        read(tmp_path, text)
    quoted = read(tmp_path, text.replace(word, f'"{word}"'))
    assert word in str(quoted)


def test_numbers_truth_values_and_text_stay_what_they_are(tmp_path):
    text = (
        "on: [off]\nv: {1: a, -1: b, y: c}\nf: [1.06, 7.890]\ndelta: 1.0e-6\nequalise: yes\nn: ~\n"
    )
    assert read(tmp_path, text) == {
        "on": ["off"],
        "v": {1: "a", -1: "b", "y": "c"},
        "f": [1.06, 7.89],
        "delta": 1e-6,
        "equalise": True,
        "n": None,
    }
    for encoding in ("utf-8-sig", "utf-16"):
        assert read(tmp_path, "a: Ko\u0308ln\n".encode(encoding)) == {"a": "Köln"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("a:\n\tb: 1\n", r"'\\t'.*line 2"),
        ("a: 1\nb: [1\n", "line 3"),
        ("a: 1\nb: ü\n".encode("cp1252"), "text in UTF-8.*line 2"),
        ("a: 1\n".encode("utf-16-le"), "zero bytes"),
        ("v: 2020-13-45\n", "month must be in"),
        ("? {a: b}\n: c\n", "unhashable key in line 1"),
        ("--- \na: 1\n---\nb: 1\n", "line 3"),
        ("a: !!python/object/apply:os.system ['true']", "line 1"),
    ],
)
def test_what_is_no_yaml_is_refused_with_file_and_line(tmp_path, text, words):
    with pytest.raises(errors.InputError, match=f"ward.yaml.*{words}"):
        read(tmp_path, text)


def test_profiles_and_published_results_are_read_so(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)
    blocks = 'title: t\nnotebooks:\n  "03": {DELTA: 1.0e-6}\n  "03": {EPOCHS: 1}\n'
    (tmp_path / "twice.yaml").write_text(blocks, encoding="utf-8")
    with pytest.raises(errors.InputError, match="profiles/twice.yaml; got '03' in line 3 and in"):
        profiles.read_profile("twice")
    octal = "title: t\nnotebooks:\n  03: {DELTA: 1.0e-6}\n"
    (tmp_path / "twice.yaml").write_text(octal, encoding="utf-8")
    with pytest.raises(errors.InputError, match='line 3 of profiles/twice.yaml.*quote it: "03"'):
        profiles.read_profile("twice")
    rows = "name: x\nrows:\n- {epsilon: 1, auroc: 0.7, epsilon: 2}\n"
    (tmp_path / "x.yaml").write_text(rows, encoding="utf-8")
    with pytest.raises(errors.InputError, match="each key once in x.yaml; got 'epsilon' in line 3"):
        published_results.read(tmp_path / "x.yaml")
