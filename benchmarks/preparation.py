"""Speed and memory while a cohort is built from image files, beside bare loops over the same files:
what do hashes, checks, tables and a build that can be killed cost?

In: numbers of files. Out: `results/preparation.json`: for each number, images per second of three
ways, each in its turn with as many processes, the best of several turns; the build's speed over
that of either loop; the highest memory of all its processes together. The ways:

- bare: Pillow opens, makes grey in 8 bits and resizes; nothing else.
- decoder: the same loop over the package's decoder, which resizes in floating point, spreads the
  contrast and equalises the histogram, as the paper does.
- build: `build_cohort.build`.

The files are phantoms of 256 px, each different, resized to 64 px.
"""

import argparse
import datetime
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import psutil
from PIL import Image

from helpers.core import files, machine, run_records
from helpers.data import build_cohort, manifest_schema
from helpers.data.images import decode_film
from helpers.data.synthetic import chest_cohort, chest_shapes

RESULTS = Path(__file__).resolve().parent / "results"
SITE, FILE_PX, COHORT_PX = "public", 256, 64
MANIFEST = {
    "name": "phantom_files",
    "title": "Phantoms as files",
    "modality": "chest radiograph",
    "access": "private",
    "licence": "none",
    "citation": "none",
    "how_to_get": "benchmarks/preparation.py writes it.",
    "image_id": "{image}",
    "patient_id": "patient",
    "layout": {
        "kind": "table_and_images",
        "table": "images.csv",
        "image_path": "images/{image}.png",
    },
    "sex": {"column": "sex", "values": {"F": "female", "M": "male"}},
    "findings": {
        "effusion": {
            "canonical": "pleural_effusion",
            "column": "effusion",
            "grades": [0, 1],
            "positive_grades": [1],
        }
    },
    "split": {"valid_share": 0.1, "test_share": 0.2},
    "image": {"px": COHORT_PX},
}


def write_files(root: Path, n: int, n_phantoms: int = 200) -> None:
    """Write n PNG files of 256 px, and their table, two images a patient.

    Phantoms are drawn once and used again with other pixels: no two files hold the same picture.
    """
    n_phantoms = min(n, n_phantoms)
    n_drawn = min(n_phantoms, chest_shapes.BLOCK_PATIENTS)
    blocks = [
        chest_cohort.draw_block(SITE, "train", index, 0, FILE_PX, n_drawn)[0]
        for index in range(-(-n_phantoms // n_drawn))
    ]
    phantoms = np.concatenate(blocks)[:n_phantoms]
    (root / "images").mkdir(parents=True)
    lines = ["image,patient,sex,effusion"]
    for number in range(n):
        film = phantoms[number % len(phantoms)].copy()
        film[:, 0] = np.frombuffer(f"{number:>{FILE_PX}}".encode(), np.uint8)
        Image.fromarray(film).save(root / "images" / f"i{number:06d}.png")
        lines.append(f"i{number:06d},p{number // 2},{'MF'[number // 2 % 2]},{number % 2}")
    (root / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def decode_and_resize(path: str) -> np.ndarray:
    """Return one file as a small grey image: the least that a build must do."""
    with Image.open(path) as image:
        grey = image.convert("L").resize((COHORT_PX, COHORT_PX), Image.Resampling.BILINEAR)
    return np.asarray(grey)


def decode_as_the_package(path: str) -> np.ndarray:
    """Return one file as an image of a cohort."""
    return decode_film.decode(Path(path).read_bytes(), COHORT_PX, equalise=True)


def loop(decoder: Callable[[str], np.ndarray], root: Path, processes: int) -> None:
    """Decode and resize all files in a pool, in their order, into one file."""
    names = sorted(str(path) for path in (root / "images").iterdir())
    with Pool(processes) as pool:
        np.save(root.parent / "loop.npy", np.stack(pool.map(decoder, names)))


def build(root: Path, processes: int) -> None:
    """Build the cohort of the files."""
    build_cohort.build(manifest_schema.Manifest(**MANIFEST), root, processes=processes)


WAYS = {
    "bare": functools.partial(loop, decode_and_resize),
    "decoder": functools.partial(loop, decode_as_the_package),
    "build": build,
}


def measure(way: str, root: Path, processes: int) -> dict:
    """Return the seconds, by the clock and of all processors together, and the highest memory of
    one way through all files, in a new process.
    """
    # not as a script: spawned workers would import that, which those of a notebook do not
    code = f"import sys; sys.path[:0] = {sys.path!r}; import preparation; preparation.main()"
    command = [sys.executable, "-c", code, "--way", way, str(root), "--processes", str(processes)]
    results = root.parent / "results"
    shutil.rmtree(results, ignore_errors=True)
    # as `run_notebook.py` sets it for kernels, whose workers have it, too; the same for all ways
    environment = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}
    process = subprocess.Popen(
        command,
        env=os.environ | environment | {"RESULTS_DIR": str(results), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    most_bytes = 0
    while process.poll() is None:
        most_bytes = max(most_bytes, _memory(psutil.Process(process.pid)))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{way} ended with {process.returncode}")
    seconds, cpu_seconds = map(float, process.stdout.read().split()[-2:])
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "bytes": most_bytes}


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory(parent: psutil.Process) -> int:
    """Return the resident bytes of a process and all below it; shared ones count for each."""
    most_bytes = 0
    try:
        for process in (parent, *parent.children(recursive=True)):
            most_bytes += process.memory_info().rss
    except psutil.Error:
        pass
    return most_bytes


def compare(n: int, repeats: int, processes: int, scratch: Path) -> dict:
    """Return what n files take both ways, in turns, each time the best."""
    root = scratch / "data"
    write_files(root, n)
    turns = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, measured in turns.items():
            measured.append(measure(way, root, processes))
    record = files.read_json(scratch / "results/cohort/phantom_files/record.json", "")
    seconds = {way: [turn["seconds"] for turn in turns[way]] for way in WAYS}
    best = {way: min(values) for way, values in seconds.items()}
    return {
        "files": n,
        "images": record["n_images"],
        "images_per_second": {way: n / value for way, value in best.items()},
        "build_over_bare": best["bare"] / best["build"],
        "build_over_decoder": best["decoder"] / best["build"],
        "build_milliseconds_per_image": 1000 * best["build"] / n,
        "cpu_milliseconds_per_image": {
            way: 1000 * min(turn["cpu_seconds"] for turn in turns[way]) / n for way in WAYS
        },
        "build_gigabytes": max(turn["bytes"] for turn in turns["build"]) / 1e9,
        "seconds": seconds,
    }


def main() -> None:
    """Measure and write; or go one way through the files of a folder, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=machine.cores())
    parser.add_argument("--scratch", type=Path, help="folder for files (default: temporary)")
    parser.add_argument("--out", type=Path, default=RESULTS / "preparation.json")
    parser.add_argument("--way", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        way, root = WAYS[options.way[0]], Path(options.way[1])
        started, cpu_started = time.perf_counter(), _cpu_seconds()
        way(root, options.processes)
        print(time.perf_counter() - started, _cpu_seconds() - cpu_started)
        return
    rows = []
    for n in options.files:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            rows.append(compare(n, options.repeats, options.processes, Path(scratch)))
        print(json.dumps(rows[-1]), flush=True)
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": run_records.commit(),
        "hardware": run_records.hardware() | {"processes": options.processes},
        "versions": run_records.versions(),
        "file_px": FILE_PX,
        "cohort_px": COHORT_PX,
    }
    files.write_json(options.out, about | {"rows": rows})


if __name__ == "__main__":
    main()
