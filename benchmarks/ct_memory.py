"""Memory while a CT cohort is built from NIfTI files: does it stay the same however many there are,
and below 2 GB?

In: numbers of volumes. Out: `results/ct_memory.json`: for each the seconds and the highest memory
of all processes together, as counted (resident, without what the file system can take back) every
tenth of a second; and of one volume of a clinical size.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import nibabel
import numpy as np
import psutil

from helpers.core import files, run_records
from helpers.data import build_cohort, manifests

RESULTS = Path(__file__).resolve().parent / "results"
SHAPE = [64, 128, 128]  # of the cohort's volumes


def write_files(root: Path, n: int, shape: tuple[int, int, int]) -> None:
    """Write n volumes of noise around air in the layout of the manifest pdac_tum, and the table of
    people.

    No two are alike; but large ones are compressed, as clinical files are, and there is one, n
    times: all are read, one is kept.
    """
    noise, lines = (
        np.random.default_rng(0).normal(40, 60, shape).astype(np.int16),
        ["name,patient,sex,age"],
    )
    noise[:4] = -1000
    for number in range(n):
        folder = root / ("train", "val", "test")[number % 3] / ("PDAC", "control")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if np.prod(shape) < 1e7 or number == 0:
            voxels = np.concatenate([noise[:4], np.roll(noise[4:], number)])
            image = nibabel.Nifti1Image(
                voxels, np.diag([380 / shape[0], 380 / shape[1], 250 / shape[2], 1])
            )
        if np.prod(shape) < 1e7:
            nibabel.save(image, folder / f"v{number}.nii")
        else:
            if number == 0:
                nibabel.save(image, root / "one.nii.gz")
            os.link(root / "one.nii.gz", folder / f"v{number}.nii.gz")
        lines.append(f"v{number},p{number},{'MF'[number % 2]},60")
    (root / "people.csv").write_text("\n".join(lines), encoding="utf-8")


def measure(n: int, shape: tuple[int, int, int]) -> dict:
    """Build a cohort of n such volumes in a process of its own and return what it took."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "data", n, shape)
        started = time.monotonic()
        command = [sys.executable, __file__, "--build", str(Path(folder) / "data")]
        process = subprocess.Popen(
            command, env=os.environ | {"RESULTS_DIR": str(Path(folder) / "results")}
        )
        most, most_counted = 0, 0
        while process.poll() is None:
            used = [
                _memory(builder)
                for builder in [
                    psutil.Process(process.pid),
                    *psutil.Process(process.pid).children(recursive=True),
                ]
            ]
            most, most_counted = (
                max(most, sum(unshared_bytes for unshared_bytes, _ in used)),
                max(most_counted, sum(counted for _, counted in used)),
            )
            time.sleep(0.1)
        record = files.read_json(
            Path(folder) / "results" / "cohort" / "pdac_tum" / "record.json", ""
        )
        return {
            "volumes": n,
            "kept": record["n_images"],
            "file_shape": list(shape),
            "cohort_shape": SHAPE,
            "processes": os.cpu_count(),
            "seconds": time.monotonic() - started,
            "gigabytes": most / 1e9,
            "gigabytes_with_mapped_files": most_counted / 1e9,
            "exit_status": process.returncode,
        }


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Return a process's own resident bytes, and those with files mapped into it."""
    try:
        memory = process.memory_info()
        return memory.rss - memory.shared, memory.rss
    except psutil.Error:
        return 0, 0


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--build", type=Path, help="build the cohort of a folder (what is measured)"
    )
    options = parser.parse_args()
    if options.build:
        manifest = manifests.read("pdac_tum")
        ending = ".nii.gz" if next(options.build.rglob("v0.*")).name.endswith("gz") else ".nii"
        layout = manifest.layout.model_copy(
            update={"pattern": manifest.layout.pattern.replace(".nii", ending)}
        )
        build_cohort.build(
            manifest.model_copy(update={"layout": layout}), options.build, volume_shape=SHAPE
        )
        return
    rows = [measure(500, (96, 96, 64)), measure(2000, (96, 96, 64)), measure(16, (512, 512, 300))]
    files.write_json(
        RESULTS / "ct_memory.json",
        {"hardware": run_records.hardware(), "versions": run_records.versions(), "rows": rows},
    )
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
