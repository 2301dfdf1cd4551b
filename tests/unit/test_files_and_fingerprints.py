"""Files are whole or absent; fingerprints follow contents and nothing else."""

import errno
import hashlib
import json
import math
import os

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from helpers.core import errors, files, fingerprints


def test_atomic_path_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_write_json_turns_numpy_and_nan_into_plain_json(tmp_path):
    files.write_json(
        tmp_path / "a.json",
        {"n": np.int64(3), "x": math.nan, "t": (1, np.float32(0.5)), 4: tmp_path},
    )
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "n": 3,
        "x": None,
        "t": [1, 0.5],
        "4": str(tmp_path),
    }


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_write_table_can_be_read_again(tmp_path, name):
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    files.write_table(tmp_path / "new" / name, table)
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    pd.testing.assert_frame_equal(read(tmp_path / "new" / name), table, check_dtype=False)


def test_read_json_refuses_what_is_no_json(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(errors.InputError, match="Expected JSON .* Delete the file. Run 01."):
        files.read_json(tmp_path / "a.json", "Run 01.")


def test_file_hash_is_sha256_of_the_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprints.file_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_table_hash_does_not_depend_on_file_format_types_or_kind_of_missing_value(tmp_path):
    table = pd.DataFrame(
        {
            "n": [1, 2, 3],
            "x": [0.1, 2.0, np.nan],
            "name": ["a", "é", None],
            "yes": [True, False, True],
        }
    )
    table.to_parquet(tmp_path / "plain.parquet", compression=None)
    table.to_parquet(tmp_path / "packed.parquet", compression="gzip")
    assert (tmp_path / "plain.parquet").read_bytes() != (tmp_path / "packed.parquet").read_bytes()
    same = [
        table,
        *map(pd.read_parquet, tmp_path.iterdir()),
        table.astype({"n": "Int64"}),
        table.astype({"n": float}),
        table.astype(object),
        table.convert_dtypes(),
        table.astype({"x": "Float64"}),
        table.astype({"name": "category"}),
        table.astype({"n": "int8"}),
        table.assign(name=["a", "é", np.nan]).astype({"name": object}),
        table.set_index(pd.Index([5, 6, 7])),
        table.assign(x=pd.Series([0.1, 2, pd.NA], dtype=object)),
    ]
    assert len(same) == 13 and {fingerprints.table_hash(variant) for variant in same} == {
        fingerprints.table_hash(table)
    }
    by_hand = (
        '["n", [1, 2, 3]]["x", [0.1, 2, null]]["name", ["a", "\\u00e9", null]]["yes", [true, false,'
        " true]]"
    )
    assert fingerprints.table_hash(table) == hashlib.sha256(by_hand.encode()).hexdigest()


def test_table_hash_sees_every_value_order_and_name():
    table = pd.DataFrame({"n": [1, 2, 3], "x": [0.1, 2.0, np.nan], "name": ["a", "b", None]})
    other = [
        table,
        table.assign(n=[1, 2, 4]),
        table.assign(x=[np.nextafter(0.1, 1), 2, np.nan]),
        table.assign(x=[0.1, 2, 0]),
        table.iloc[::-1],
        table.assign(x=[0.1, 2, np.inf]),
        table.rename(columns={"n": "m"}),
        table[["x", "n", "name"]],
        table.assign(n=["1", "2", "3"]),
        table.head(2),
        table.assign(name=["a", "b", ""]),
        table.assign(name=["a", "b", "None"]),
        table.assign(name=["ab", "", None]),
        table.drop(columns="name"),
    ]
    assert len({fingerprints.table_hash(variant) for variant in other}) == len(other)


def test_helpers_imported_knows_every_way_to_import():
    source = (
        "from helpers.core import errors, files as whole_files\n"
        "from helpers.data.groups import sort_key\n"
        "from helpers.data.synthetic import chest_cohort\n"
        "import helpers.privacy.accounting, os\nimport numpy as np"
    )
    assert fingerprints.helpers_imported(source) == {
        "core.errors",
        "core.files",
        "data.groups",
        "data.synthetic.chest_cohort",
        "privacy.accounting",
    }


def test_helper_sources_follow_imports():
    names = {path.stem for path in fingerprints.helper_sources({"core.fingerprints"})}
    assert names == {"fingerprints", "files", "errors"}


def test_fingerprint_follows_contents_not_order_or_time():
    first = fingerprints.fingerprint({"a": 1, "b": [2.5]}, {"core.errors"})
    assert fingerprints.fingerprint({"b": [2.5], "a": 1}, {"core.errors"}) == first
    os.utime(errors.__file__)
    assert fingerprints.fingerprint({"a": 1, "b": [2.5]}, {"core.errors"}) == first
    assert fingerprints.fingerprint({"a": 2, "b": [2.5]}, {"core.errors"}) != first
    assert fingerprints.fingerprint({"a": 1, "b": [2.5]}, {"core.files"}) != first


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_and_folders_have_the_rights_that_the_umask_leaves(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        (tmp_path / "t.csv").write_text("older")
        (tmp_path / "t.csv").chmod(0o666)
        files.write_json(tmp_path / "folder" / "a.json", {})
        for name in ("t.csv", "t.parquet"):
            files.write_table(tmp_path / name, pd.DataFrame({"a": [1]}))
        with files.atomic_path(tmp_path / "a.safetensors") as part:
            save_file({"a": np.zeros(1)}, part)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes.pop(tmp_path / "folder") == 0o777 & ~umask
    assert len(modes) == 4 and set(modes.values()) == {mode}


def test_a_file_and_its_name_are_on_disk_before_it_is_there(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), fsync(handle))
    )
    files.write_text(tmp_path / "a", "x")
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]


def test_a_full_disk_names_the_file_and_keeps_the_earlier_one(tmp_path):
    files.write_text(tmp_path / "a", "old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(OSError, match="No space left on device: .*a'"),
        files.atomic_path(tmp_path / "a"),
    ):
        raise full
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("n_bytes", [0, 10, 400])
def test_a_cut_table_is_refused_by_name(n_bytes, tmp_path):
    files.write_table(tmp_path / "t.parquet", pd.DataFrame({"a": range(100)}))
    assert len(files.read_parquet(tmp_path / "t.parquet", "Run 01.")) == 100
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:n_bytes])
    with pytest.raises(errors.InputError, match="whole Parquet file at .*t.parquet.*Run 01."):
        files.read_parquet(tmp_path / "t.parquet", "Run 01.")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe\0", b"\0" * 30])
def test_damaged_json_is_refused_or_counts_as_absent(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    assert files.readable_json(tmp_path / "a.json") == {}
    with pytest.raises(errors.InputError, match="JSON .*a.json"):
        files.read_json(tmp_path / "a.json", "Run 01.")
    assert files.readable_json(tmp_path / "absent.json") == {}
