"""Threads of one core each, that share work on arrays.

In: a function of a slice, a number of items. Out: nothing; the function keeps its results. Raises
what the function raises.
"""

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

VALUES_AT_A_TIME = 2**18  # 1 MiB of float32, which a core keeps in its own cache


def share(work: Callable[[slice], None], n_items: int, values_per_item: int) -> None:
    """Call `work` for slices that cover `n_items` once, by as many threads as torch uses.

    Guarantees: within `work` torch has one thread, so that what it computes of an item does not
    depend on the number of cores.

    Args:
        work: of slices of items; writes results of its own items only.
        n_items: >= 0.
        values_per_item: of an array; a slice has about `VALUES_AT_A_TIME` of them, or an item.
    """
    step = max(1, VALUES_AT_A_TIME // max(1, values_per_item))
    slices = [slice(start, min(start + step, n_items)) for start in range(0, n_items, step)]
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        for part in slices:
            work(part)
    else:
        list(workers(n_threads).map(work, slices))  # list() lets errors out


@functools.cache
def workers(n: int) -> ThreadPoolExecutor:
    """Return n threads of one core each, for calls too small to be shared between cores."""

    def begin() -> None:
        # a thread's first use of torch sets its number of cores; it must come before ours
        torch.get_num_threads()
        torch.set_num_threads(1)

    threads = ThreadPoolExecutor(n, initializer=begin)
    list(threads.map(lambda _: time.sleep(0.01), range(n)))  # so that all have started
    torch.set_num_threads(n)  # of this thread; the others keep one
    return threads
