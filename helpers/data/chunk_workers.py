"""The chunks of a cohort that are not on disk yet, made by several processes.

In: tasks, a folder. Out: the facts of all their images; the chunks lie in the folder. Raises
`InputError` for a disk without room, before an image is decoded, and for a worker that was killed.
"""

import collections
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from helpers.core import errors, machine, progress
from helpers.data import chunks, make_chunk

TABLE_BYTES_PER_IMAGE = 1000  # facts, table and exclusions, rather more than measured


def make(
    tasks: list[make_chunk.Task], folder: Path, name: str, options: dict, processes: int | None
) -> pd.DataFrame:
    """Make the chunks that are not on disk, and return the facts of all, see `chunks.facts`.

    Args:
        tasks: of all chunks of a cohort.
        folder: of the chunks, within that of the cohort.
        name: of the cohort.
        options: of the build.
        processes: this one and workers; None = OMP_NUM_THREADS, or the cores this process may use.

    Raises:
        InputError: see the module.
    """
    missing = [task for task in tasks if not chunks.is_made(folder, task)]
    _refuse_full_disk(folder, options, tasks, missing)
    _make_missing(missing, folder, name, processes)
    return chunks.facts(folder, tasks)


def _refuse_full_disk(
    folder: Path, options: dict, tasks: list[make_chunk.Task], missing: list[make_chunk.Task]
) -> None:
    """Accept a disk with room for `images.npy`, for the chunks to come and for the table.

    Raises:
        InputError: too little is free; names the folder and the bytes.
    """
    size = options["volume"]["shape"] if "volume" in options else [options["image_px"]] * 2
    n_images, n_in_chunks = (sum(len(task.rows) for task in some) for some in (tasks, missing))
    needed_bytes = (n_images + n_in_chunks) * math.prod(size) + n_images * TABLE_BYTES_PER_IMAGE
    machine.refuse_full_disk(folder.parent, needed_bytes, f"{n_images:,} images, once in chunks")


def _make_missing(
    missing: list[make_chunk.Task], folder: Path, name: str, processes: int | None
) -> None:
    """Make chunks here, or in workers."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = min(processes or machine.threads(), len(missing))
    if missing:
        with progress.progress(len(missing), f"{name}, chunks") as bar:
            if processes <= 1:
                for task in missing:
                    make_chunk.make(folder, task)
                    bar.update()
            else:
                _make_in_pool(missing, folder, processes, bar)


def _make_in_pool(tasks: list[make_chunk.Task], folder: Path, processes: int, bar) -> None:
    """Make chunks here and in spawned processes: a fork could copy locks of a kernel's threads.

    Each takes the next chunk when it is done with one. This process begins at once, while the
    others still start; a thread of it hands chunks to each of them.
    """
    waiting, n_workers = iter(tasks), processes - 1
    with (
        ProcessPoolExecutor(
            n_workers, mp_context=get_context("spawn"), initializer=make_chunk.end_with_parent
        ) as pool,
        ThreadPoolExecutor(n_workers) as threads,
    ):

        def make_there(task: make_chunk.Task) -> None:
            pool.submit(make_chunk.make, folder, task).result()

        handed_out = [threads.submit(_make_all, waiting, make_there, bar) for _ in range(n_workers)]
        _make_all(waiting, functools.partial(make_chunk.make, folder), bar)
        try:
            for of_a_worker in handed_out:
                of_a_worker.result()
        except BrokenProcessPool:
            errors.refuse(
                "all workers to finish",
                "one that was killed (out of memory?)",
                "Run again: finished chunks are kept. OMP_NUM_THREADS sets the number of workers.",
            )


def _make_all(
    waiting: Iterator[make_chunk.Task], make_one: Callable[[make_chunk.Task], None], bar
) -> None:
    """Make the chunks that wait, one after the other; after an error nobody begins another."""
    try:
        for task in waiting:
            make_one(task)
            bar.update()
    except BaseException:
        collections.deque(waiting, maxlen=0)
        raise
