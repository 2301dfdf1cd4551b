"""Several processes (ranks) for one run: what the first one says, and what all of them add up.

In: a step's work and the weights on the first rank; tensors on each. Out: that work and those
weights on every rank; sums on the first. With one process nothing is sent and nothing changes.
Raises `InputError` where another rank has ended, and for more ranks than this machine has GPUs.

The first rank draws, adds noise, makes the optimizer's steps and writes all files. The others keep
nothing from one step to the next: they get weights and work, and return a share of the sums.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator

import torch
from torch import distributed

from helpers.core import errors

TIMEOUT = datetime.timedelta(hours=6)  # the others wait while the first one predicts `valid`


def begin() -> None:
    """Join the other ranks that torchrun started, if any: nccl between GPUs, gloo between CPUs.

    Raises:
        InputError: more ranks on this machine than it has GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        own_gpu, n_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own_gpu >= n_gpus:
            errors.refuse(
                f"at most {n_gpus} processes on this machine, one a GPU",
                f"number {own_gpu + 1}",
                "Set DEVICES, or --nproc-per-node, to the number of GPUs.",
            )
        torch.cuda.set_device(own_gpu)
    with _all_at_work():
        distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=TIMEOUT)


def end() -> None:
    """Leave the other ranks; nothing where there are none."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def number() -> int:
    """Return how many ranks there are, 1 where this process is alone."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def own() -> int:
    """Return the number of this rank, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Return whether this is the rank that draws, adds noise and writes."""
    return own() == 0


def check_same(value: str) -> None:
    """Accept ranks that all begin with the same, told by a fingerprint.

    Raises:
        InputError: on a rank whose value is not that of the first one.
    """
    if number() == 1:
        return
    said = [value]
    with _all_at_work():
        distributed.broadcast_object_list(said, src=0)
    if said[0] != value:
        errors.refuse(
            "plan, weights and package of the first process in all of them",
            f"others in process {own()}",
            "Start all from the same folder and the same copy of the package.",
        )


def share() -> slice:
    """Return which of a list's entries are this rank's.

    Guarantees: each entry is exactly one rank's; with one process all are its own.
    """
    return slice(own(), None, number())


def told(work: object, weights: list[torch.Tensor]) -> object:
    """Return the first rank's work on every rank, and give every rank its weights, in place.

    Guarantees: a step's sums are all of the same weights.

    Args:
        work: on the first rank; without effect on the others.
        weights: those that are trained, in the same order on every rank.

    Raises:
        InputError: another rank has ended.
    """
    if number() == 1:
        return work
    said, flat = [work], _flat(weights)
    with _all_at_work():
        distributed.broadcast_object_list(said, src=0)
        distributed.broadcast(flat, src=0)
    if not is_first():
        _fill(weights, flat)
    return said[0]


def add_up(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the parts, which on the first rank are then the sums over all ranks, in place.

    Args:
        parts: of one type, of the same shapes on every rank.

    Raises:
        InputError: another rank has ended.
    """
    if number() == 1:
        return parts
    flat = _flat(parts)
    with _all_at_work():
        distributed.reduce(flat, dst=0)
    if is_first():
        _fill(parts, flat)
    return parts


def _flat(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return tensors as one vector, where the ranks exchange it."""
    flat = torch.cat([part.detach().flatten() for part in parts])
    return flat.cuda() if distributed.get_backend() == "nccl" else flat


@torch.no_grad()
def _fill(parts: list[torch.Tensor], flat: torch.Tensor) -> None:
    """Give tensors the values of one vector."""
    for part, values in zip(parts, flat.split([part.numel() for part in parts])):
        part.copy_(values.view(part.shape))


@contextlib.contextmanager
def _all_at_work() -> Iterator[None]:
    """Say in one line that another rank has ended."""
    try:
        yield
    except RuntimeError:  # whatever gloo and nccl make of a closed connection
        errors.refuse(
            "all processes of the run at work",
            "one that has ended",
            "Give the same command again: the run goes on from its checkpoint, with any number of"
            " processes.",
        )
