"""The benchmark of clusters executes each step once on each way, and counts right."""

import json

import cluster_overhead


def test_each_step_is_executed_and_its_seconds_are_parts_of_the_whole(tmp_path, monkeypatch):
    out = tmp_path / "overhead.json"
    monkeypatch.setattr("sys.argv", ["x", "--steps", "2", "--workers", "1", "--out", str(out)])
    monkeypatch.setattr(cluster_overhead, "MOST_SECONDS", 60)
    assert cluster_overhead.main() == 0
    for of in json.loads(out.read_text())["of"].values():
        whole = of["process_seconds_a_step"] + of["overhead_seconds_a_step"]
        assert of["steps"] == 2 and abs(whole - of["seconds_a_step"]) < 1e-9
        assert 0 < of["overhead_seconds_a_step"] < of["seconds_a_step"]
        assert of["seconds_a_step_unchanged"] < of["seconds_a_step"]
