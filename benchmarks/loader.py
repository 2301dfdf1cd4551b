"""Speed and memory of the loader at real size: films from a memory map to a network's input.

In: a sparse file of 215,381 films of 512 px, as many as TAIX-Ray has, some of them drawn, in a
temporary folder. Out: `results/loader.json`:

- speeds: films per second, in turns, of drawn films that the system has in its cache, best and
  median; of the loader (`TrainingSet.batch` on the CPU: read, move, standardise) and of the same in
  plain numpy and torch.
- epochs: for each tenth of the Poisson batches of 4,096 patients of an epoch (or of its first
  `--steps`) the milliseconds of a film, and this process's memory, with and without pages of
  mapped files; its peak.

In an epoch films are read that are nowhere on disk: the system makes them as it reads, so that a
disk's own speed is not in it.
"""

import argparse
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from helpers.core import files, run_records
from helpers.privacy import units
from helpers.training import training_set

RESULTS = Path(__file__).resolve().parent / "results"
N_FILMS, N_PATIENTS, PX = 215_381, 47_724, 512  # of TAIX-Ray
PATIENTS_A_STEP, FILMS_AT_A_TIME = 4096, 256
FILMS_A_TURN = 64  # short enough for a quiet moment
CPU = torch.device("cpu")
# as `run_notebook.py` sets it for kernels
ENVIRONMENT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}


def write_films(path: Path, n: int, px: int, n_drawn: int) -> np.ndarray:
    """Write a sparse .npy file of n films, `n_drawn` of them noise; return the rows of those."""
    films = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, px, px))
    stream = np.random.default_rng(0)
    rows = np.sort(stream.choice(n, n_drawn, replace=False))
    for row in rows:
        films[row] = stream.integers(0, 256, (px, px), dtype=np.uint8)
    films.flush()
    return rows


def peak_bytes() -> int:
    """Return the most memory that this process has had, pages of mapped files included (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def training_films(images: np.ndarray, n_patients: int) -> training_set.TrainingSet:
    """Return images as those of patients, each of whom has one or more, one after the other."""
    n = len(images)
    ends = np.sort(np.random.default_rng(1).choice(n - 1, n_patients - 1, replace=False)) + 1
    of_patients = np.split(np.arange(n), ends)
    names, most = np.arange(n_patients), max(map(len, of_patients))
    labels = torch.zeros(n, 8)
    return training_set.TrainingSet(
        images, np.arange(n), labels, of_patients, names, "patient", most
    )


def plainly(images: np.ndarray, rows: np.ndarray, moves: np.ndarray, channels: int) -> torch.Tensor:
    """Return what the loader does, by numpy's indices and torch's standard deviation."""
    places = [np.arange(len(rows)).reshape(-1, *[1] * (images.ndim - 1))]
    for axis, length in enumerate(images.shape[1:]):
        moved = np.clip(np.arange(length) - moves[:, axis, None], 0, length - 1)
        shape = [-1 if other == axis else 1 for other in range(images.ndim - 1)]
        places.append(moved.reshape(len(rows), *shape))
    pixels = torch.from_numpy(images[rows][tuple(places)]).to(torch.float32)
    every = tuple(range(1, pixels.ndim))
    spread = pixels.std(every, keepdim=True).clamp(min=1.0)
    pixels = (pixels - pixels.mean(every, keepdim=True)) / spread
    return pixels[:, None].expand(-1, channels, *pixels.shape[1:]).contiguous()


def speed(
    data: training_set.TrainingSet, rows: np.ndarray, channels: int, repeats: int, n: int
) -> dict:
    """Return films per second of both ways, in turns of n films, all turns and the best."""
    stream = np.random.default_rng(2)
    turns: dict[str, list[float]] = {"loader": [], "plain": []}
    cpu_seconds = []
    for _ in range(repeats):
        positions = stream.choice(rows, n, replace=False)
        moves = data.moves(n, stream)
        started, cpu_started = time.perf_counter(), time.process_time()
        ours, _ = data.batch(positions, moves, channels, CPU)
        turns["loader"].append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        started = time.perf_counter()
        plain = plainly(data.images, positions, moves, channels)
        turns["plain"].append(time.perf_counter() - started)
        if not torch.equal(ours, plain):
            raise SystemExit("Expected the same values both ways; got others.")
    return {
        "channels": channels,
        "films_at_a_time": n,
        "films_per_second": {way: n / min(seconds) for way, seconds in turns.items()},
        "films_per_second_median": {
            way: n / statistics.median(seconds) for way, seconds in turns.items()
        },
        "cpu_milliseconds_per_film": 1000 * statistics.median(cpu_seconds) / n,
        "seconds": turns,
    }


def epoch(data: training_set.TrainingSet, channels: int, n_steps: int | None = None) -> dict:
    """Return what loading the batches of an epoch took, for each tenth of its pieces, and the
    memory of this process.
    """
    stream, pieces = np.random.default_rng(3), []
    n_patients = len(data.units)
    an_epoch = math.ceil(n_patients / PATIENTS_A_STEP)
    n_steps = n_steps or an_epoch
    for _ in range(n_steps):
        drawn = np.flatnonzero(stream.random(n_patients) < PATIENTS_A_STEP / n_patients)
        positions = [data.units[unit] for unit in drawn]
        for piece in units.pieces([len(films) for films in positions], FILMS_AT_A_TIME):
            films = np.concatenate(positions[piece])
            moves = data.moves(len(films), stream)
            started = time.perf_counter()
            batch = data.batch(films, moves, channels, CPU)
            seconds = time.perf_counter() - started
            memory = psutil.Process().memory_info()
            pieces.append((1000 * seconds / len(films), memory.rss, memory.shared, len(films)))
            del batch
    tenths = [
        {
            "milliseconds_per_film": float(np.median(tenth[:, 0])),
            "least_milliseconds_per_film": float(tenth[:, 0].min()),
            "resident_gb": float(tenth[:, 1].max() / 1e9),
            "mapped_gb": float(tenth[:, 2].max() / 1e9),
        }
        for tenth in np.array_split(np.array(pieces), 10)
    ]
    return {
        "channels": channels,
        "steps": n_steps,
        "steps_an_epoch": an_epoch,
        "films": int(sum(piece[3] for piece in pieces)),
        "films_at_a_time": FILMS_AT_A_TIME,
        "peak_gb": peak_bytes() / 1e9,
        "tenths": tenths,
    }


def child(task: str, path: Path, channels: int, n: int) -> dict:
    """Return one measurement, in a fresh process."""
    data = training_films(np.load(path, mmap_mode="r"), N_PATIENTS)
    if task == "epoch":
        return epoch(data, channels, n)
    rows = np.load(path.with_name("rows.npy"))
    np.asarray(data.images)[rows].sum()  # into the system's cache
    return speed(data, rows, channels, n, FILMS_A_TURN)


def in_child(*task: str) -> dict:
    """Run `child` in a fresh process, with the memory settings of notebooks."""
    command = [sys.executable, __file__, "--child", *task]
    done = subprocess.run(
        command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure and write; or one measurement in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, help="folder for the file (default: temporary)")
    parser.add_argument("--repeats", type=int, default=30, help="turns")
    parser.add_argument("--steps", type=int, default=0, help="of an epoch (default: all)")
    parser.add_argument("--remark", default="", help="of the machine's quiet, kept in the results")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, path, channels, n = options.child
        print(json.dumps(child(task, Path(path), int(channels), int(n))))
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        path = Path(scratch) / "images.npy"
        np.save(path.with_name("rows.npy"), write_films(path, N_FILMS, PX, 4 * FILMS_A_TURN))
        rows = {
            f"{task}s": [in_child(task, str(path), channels, str(n)) for channels in "13"]
            for task, n in (("speed", options.repeats), ("epoch", options.steps))
        }
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": run_records.commit(),
        "hardware": run_records.hardware(),
        "versions": run_records.versions(),
        "remark": options.remark,
        "films": N_FILMS,
        "patients": N_PATIENTS,
        "px": PX,
        "patients_a_step": PATIENTS_A_STEP,
    }
    files.write_json(RESULTS / "loader.json", about | rows)


if __name__ == "__main__":
    main()
