"""What a step of a study costs beyond its own process, on Dask workers and without.

In: a sweep of short steps: each executes a notebook of one cell, reads a file of 50 MB and writes
one, and imports, by name, what notebook 03 imports. Out: `results/cluster_overhead.json`, seconds a
step: of its process, and beyond it. Exit code 1 where the latter is 3 s or more.

    python benchmarks/cluster_overhead.py
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from distributed import LocalCluster

from helpers.core import files, locks, run_records
from helpers.study import batches, cluster, plan, step_cache

STEPS, LOCAL_STEPS, WORKERS, MOST_SECONDS, INPUT_MB = 200, 20, 2, 3.0, 50
CELLS = (
    ("parameters", "N = 0"),
    ("", "import os, pathlib\nif N < 0:\n    from helpers.training import pretraining\n"),
    ("", "pathlib.Path(os.environ['RESULTS_DIR'], 'tables', f'09_{N}.csv').write_text(str(N))"),
)


def sweep(folder: Path, n: int) -> list[plan.Step]:
    """Return n steps without an order, of one notebook, and make what they read."""
    cells = [
        {
            "cell_type": "code",
            "id": f"c{k}",
            "metadata": {"tags": [tag] if tag else []},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for k, (tag, source) in enumerate(CELLS)
    ]
    notebook, data = folder / "09_short.ipynb", folder / "data.bin"
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}}
    content |= {"nbformat": 4, "nbformat_minor": 5}
    notebook.write_text(json.dumps(content))
    data.write_bytes(bytes(INPUT_MB * 2**20))
    return [
        plan.Step(
            f"09_short-{k}",
            notebook,
            {"N": k},
            inputs=[data],
            outputs=[Path(f"tables/09_{k}.csv")],
            marks=[f"09_{k}."],
        )
        for k in range(n)
    ]


def measure(steps: list[plan.Step], out: Path, place: str | None, n_workers: int) -> dict:
    """Run steps, and find them unchanged; return seconds a step.

    Args:
        place: where the workers' scheduler is; None: on this machine, without Dask.
        n_workers: steps side by side.
    """
    for folder in ("tables", ".state"):
        (out / folder).mkdir(parents=True)
    locks.hold(out / ".lock", str(out), "")
    folder, seconds = step_cache.Results(out), []
    for _ in range(2):
        batch = batches.Batch(folder, steps, steps, n_workers)
        with (
            cluster.workers(place, n_workers, out) as batch.workers,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            began = time.perf_counter()
            if not batch.run():
                raise SystemExit("\n".join(batch.complaints))
            seconds.append(time.perf_counter() - began)
    locks.release(out / ".lock")
    of_process = sum(folder.state(step)["seconds"] for step in steps) / len(steps)
    return {
        "steps": len(steps),
        "seconds": seconds[0],
        "seconds_a_step": seconds[0] / len(steps),
        "process_seconds_a_step": of_process,
        "overhead_seconds_a_step": n_workers * seconds[0] / len(steps) - of_process,
        "seconds_a_step_unchanged": seconds[1] / len(steps),
    }


@contextlib.contextmanager
def dask_workers(n: int) -> Iterator[str]:
    """Yield what --cluster says to reach n worker processes of this machine."""
    with LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0") as made:
        yield made.scheduler_address.replace("tcp://", "dask://")


def main() -> int:
    """Measure, write, and say whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/cluster_overhead.json"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        steps = sweep(Path(name), chosen.steps)
        with dask_workers(chosen.workers) as place:
            of = {"dask": measure(steps, Path(name, "dask"), place, chosen.workers)}
        print(json.dumps(of), flush=True)
        few = steps[:LOCAL_STEPS]
        of["local"] = measure(few, Path(name, "local"), None, chosen.workers)
    about = {"hardware": run_records.hardware(), "versions": run_records.versions()}
    files.write_json(chosen.out, {"workers": chosen.workers, "of": of} | about)
    print(json.dumps(of, indent=1))
    return int(of["dask"]["overhead_seconds_a_step"] >= MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
