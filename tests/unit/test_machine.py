"""What a process may use is what the host, its affinity and its control groups leave it."""

import os
import shutil
from types import SimpleNamespace

import psutil
import pytest

from helpers.core import errors, machine


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """A host of 16 cores and 64 GB free, and a folder for control groups."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    memory = SimpleNamespace(available=64_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_CGROUPS_OF_PROCESS", tmp_path / "of_process")

    def write(of_process: str, **contents: str) -> None:
        (tmp_path / "of_process").write_text(of_process)
        for name, content in contents.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("--", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return write


@pytest.mark.parametrize(
    "text, threads",
    [("4", 4), (" 8 ", 8), ("4,2", 4), ("16,2,1", 16)]
    + [(text, 16) for text in ("", " ", "0", "-1", "abc", "2.5", ",2", "1e3", "9" * 400)],
)
def test_threads_are_the_first_number_and_nonsense_is_all_cores(
    text, threads, cgroups, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert machine.threads() == threads


def test_without_groups_there_are_the_cores_of_the_host_and_of_the_affinity(cgroups, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert machine.cores() == machine.threads() == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 4, 5}, raising=False)
    assert machine.cores() == machine.threads() == 3
    assert machine.available_memory() == 64_000


@pytest.mark.parametrize(
    "of_process, contents, cores",
    [
        ("0::/\n", {"cpu--max": "200000 100000\n"}, 2),  # version 2, in a container
        ("0::/\n", {"cpu--max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu--max": "50000 100000\n"}, 1),  # half a core
        ("0::/a/b\n", {"a__b__cpu--max": "max 100000", "a__cpu--max": "300000 100000"}, 3),
        ("0::/of/the/host\n", {"cpu--max": "400000 100000"}, 4),
        (
            "5:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n",  # version 1
            {
                "cpu,cpuacct__cpu--cfs_quota_us": "250000",
                "cpu,cpuacct__cpu--cfs_period_us": "100000",
            },
            2,
        ),
        (
            "5:cpu:/job\n",
            {"cpu__job__cpu--cfs_quota_us": "-1", "cpu__job__cpu--cfs_period_us": "100000"},
            16,
        ),
        ("0::/\n", {"cpu--max": "what\n"}, 16),
        ("", {}, 16),
    ],
)
def test_cores_are_those_of_the_control_group(of_process, contents, cores, cgroups):
    cgroups(of_process, **contents)
    assert machine.cores() == cores


@pytest.mark.parametrize(
    "of_process, contents, available",
    [
        ("0::/\n", {"memory--max": "max", "memory--current": "100"}, 64_000),
        ("0::/\n", {"memory--max": "5000", "memory--current": "4000"}, 1000),
        (
            "0::/a\n",
            {
                "a__memory--max": "5000",
                "a__memory--current": "4000",
                "a__memory--stat": "anon 1\ninactive_file 2500\n",  # file cache can be given up
            },
            3500,
        ),
        ("0::/\n", {"memory--max": "5000", "memory--current": "6000"}, 0),
        (
            "3:memory:/docker/1\n",
            {
                "memory__memory--limit_in_bytes": "7000",
                "memory__memory--usage_in_bytes": "2000",
                "memory__memory--stat": "inactive_file 9\ntotal_inactive_file 500\n",
            },
            5500,
        ),
        (
            "3:memory:/\n",
            {
                "memory__memory--limit_in_bytes": "9223372036854771712",  # version 1: no limit
                "memory__memory--usage_in_bytes": "2000",
            },
            64_000,
        ),
    ],
)
def test_memory_is_what_the_limits_leave(of_process, contents, available, cgroups):
    cgroups(of_process, **contents)
    assert machine.available_memory() == available


def test_too_little_room_is_refused_by_folder_and_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2000))
    machine.refuse_full_disk(tmp_path / "not" / "yet", 2000, "it")
    with pytest.raises(
        errors.InputError, match=rf"3,000 bytes free in {tmp_path}/not for it; got 2,000 bytes free"
    ):
        machine.refuse_full_disk(tmp_path / "not", 3000, "it")
