"""The chunks of a cohort that are not on disk yet, made by several processes.

In: tasks, a folder. Out: the facts of all their images; the chunks lie in the folder. Raises
`InputError` for a disk without room, before an image is decoded, and for a worker that was killed.
"""

import math
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from helpers.core import errors, machine, progress
from helpers.data import chunks

TABLE_BYTES_PER_IMAGE = 1000  # facts, table and exclusions, rather more than measured


def make(
    tasks: list[chunks.Task], folder: Path, name: str, options: dict, processes: int | None
) -> pd.DataFrame:
    """Make the chunks that are not on disk, and return the facts of all, see `chunks.facts`.

    Args:
        tasks: of all chunks of a cohort.
        folder: of the chunks, within that of the cohort.
        name: of the cohort.
        options: of the build.
        processes: workers; None = OMP_NUM_THREADS, or the cores this process may use; 1 = none but
            this one.

    Raises:
        InputError: see the module.
    """
    missing = [task for task in tasks if not chunks.is_made(folder, task)]
    _refuse_full_disk(folder, options, tasks, missing)
    _make_missing(missing, folder, name, processes)
    return pd.concat([chunks.facts(folder, task) for task in tasks], ignore_index=True)


def _refuse_full_disk(
    folder: Path, options: dict, tasks: list[chunks.Task], missing: list[chunks.Task]
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
    missing: list[chunks.Task], folder: Path, name: str, processes: int | None
) -> None:
    """Make chunks here, or in workers."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = min(processes or machine.threads(), len(missing))
    if missing:
        with progress.progress(len(missing), f"{name}, chunks") as bar:
            if processes <= 1:
                for task in missing:
                    chunks.make(folder, task)
                    bar.update()
            else:
                _make_in_pool(missing, folder, processes, bar)


def _make_in_pool(tasks: list[chunks.Task], folder: Path, processes: int, bar) -> None:
    """Make chunks in spawned processes: a fork could copy locks of a kernel's threads."""
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=chunks.end_with_parent
    ) as pool:
        futures = [pool.submit(chunks.make, folder, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BrokenProcessPool:
            errors.refuse(
                "all workers to finish",
                "one that was killed (out of memory?)",
                "Run again: finished chunks are kept. OMP_NUM_THREADS sets the number of workers.",
            )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
