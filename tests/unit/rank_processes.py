"""Real processes with gloo between them, each a rank, and a small cohort on disk for them."""

import os
import socket

import numpy as np
import torch
from torch import multiprocessing

from helpers.core import files, paths
from helpers.training import ranks

HEAVY = ["torch.distributed", "torch._dynamo", "pandas", "pyarrow.parquet", "opacus", "pytest"]
HEAVY += ["dp_accounting.pld.privacy_loss_distribution", "sklearn.metrics", "safetensors.torch"]


def on_ranks(n, folder, work, *arguments):
    """What `work(*arguments)` returns on each of n ranks; `folder` passes it on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)  # imported once for all tests
    multiprocessing.start_processes(
        _rank,
        (n, port, folder, work, arguments, dict(os.environ)),
        nprocs=n,
        start_method="forkserver",
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(n)]


def _rank(rank, n, port, folder, work, arguments, environment):
    """One rank, as torchrun would have started it."""
    os.environ |= environment
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    ranks.begin()
    torch.save(work(*arguments), folder / f"{rank}.pt")
    ranks.end()


def on_disk(cohort):
    """Write a cohort where other processes read it; as float32 images need no more than uint8."""
    folder = paths.cohort_dir(cohort.name)
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", cohort.images)
    cohort.table.assign(n_comorbidities=0).to_parquet(folder / "table.parquet")
    about = {"findings": cohort.findings, "canonical": cohort.canonical, "cohort": cohort.name}
    files.write_json(folder / "record.json", cohort.record | about)
