"""What of this machine a process may use: cores, threads, memory, disk.

In: environment variables, the system. Out: numbers. A container or a batch system often leaves a
process less than the host has: its control group (cgroup, version 1 or 2) and its affinity count.
Raises `InputError` where a disk has no room for what is to be written.
"""

import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from helpers.core import errors

_CGROUPS = Path("/sys/fs/cgroup")
_CGROUPS_OF_PROCESS = Path("/proc/self/cgroup")


def cores() -> int:
    """Return the cores that this process may use: the least of the host's, its affinity's and its
    control groups' (a quota of 1.5 cores counts as 1), at least 1.
    """
    known = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        known.append(len(os.sched_getaffinity(0)))
    for folder in _cgroup_folders("cpu"):
        quota, period = (*_numbers(folder / "cpu.max"), math.inf, math.inf)[:2]
        if (folder / "cpu.cfs_quota_us").is_file():
            quota = (*_numbers(folder / "cpu.cfs_quota_us"), math.inf)[0]
            period = (*_numbers(folder / "cpu.cfs_period_us"), math.inf)[0]
        if 0 < quota < math.inf and 0 < period < math.inf:
            known.append(int(quota / period))
    return max(1, min(known))


def threads() -> int:
    """Return how many threads or processes to compute with: the first number of OMP_NUM_THREADS
    ("4,2": 4 threads, each with 2 of its own); `cores()` where that is no whole number from 1 on.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if re.fullmatch("[0-9]{1,6}", first) and int(first) else cores()


def available_memory() -> int:
    """Return the bytes of memory that this process can still take: of the host, or what the limits
    of its control groups leave.
    """
    available = psutil.virtual_memory().available
    for folder in _cgroup_folders("memory"):
        for limit_name, used_name, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _numbers(folder / limit_name), _numbers(folder / used_name)
            if limit and used:
                # file cache counts as used, but is given up when memory is needed
                reclaimable = re.search(rf"^{cache} (\d+)$", _text(folder / "memory.stat"), re.M)
                free = limit[0] - used[0] + (int(reclaimable[1]) if reclaimable else 0)
                available = min(available, max(0, free))
    return int(available)


def refuse_full_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """Accept a folder, there or not yet, whose disk has room for what is to be written.

    Raises:
        InputError: it has not; names the folder, the bytes needed and the bytes free.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    if free < needed_bytes:
        errors.refuse(
            f"{needed_bytes:,} bytes free in {folder} for {what}",
            f"{free:,} bytes free",
            "Make room there, or put the results on another disk: --out, or RESULTS_DIR.",
        )


def _cgroup_folders(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, and of those around them.

    Inside a container the path may be that of the host, which is not there: its mount is then the
    container's own group.
    """
    for line in _text(_CGROUPS_OF_PROCESS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            for mount in (
                {_CGROUPS / controllers, _CGROUPS / controller} if controllers else {_CGROUPS}
            ):
                folder = mount / path.strip("/")
                yield from (folder, *(p for p in folder.parents if p.is_relative_to(mount)))


def _numbers(path: Path) -> list[float]:
    """Return the numbers in a file, "max" as infinity; [] where there is none."""
    try:
        return [math.inf if word == "max" else float(word) for word in _text(path).split()]
    except ValueError:
        return []


def _text(path: Path) -> str:
    """Return a file's text; "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
