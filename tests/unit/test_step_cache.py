"""What a step's results depend on: contents, not times."""

import os
from pathlib import Path

from helpers.study import step_cache


def test_content_hash_of_a_file_follows_its_contents_not_its_time(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    found = step_cache.Results(tmp_path)
    before = found.content_hash(Path("a"))
    os.utime(tmp_path / "a", (1, 1))
    assert found.content_hash(Path("a")) == before
    (tmp_path / "a").write_bytes(b"two")
    assert found.content_hash(Path("a")) != before and found.content_hash(Path("absent")) is None


def test_content_hash_of_a_folder_sees_files_come_go_and_grow(tmp_path):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    found, seen = step_cache.Results(tmp_path), []
    for content in (b"", b"1", b"22"):
        seen.append(found.content_hash(data))
        (data / "images" / "a.png").write_bytes(content)
    os.utime(data / "images" / "a.png", (1, 1))
    assert len(set(seen)) == 3 and found.content_hash(data) == found.content_hash(data)
