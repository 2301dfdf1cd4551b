"""Many runs: those that the results lack, side by side, and what is kept of them.

In: settings, a function that runs one. Out: a JSON file of rows and of what follows from them, and
beside it the bootstrap's replicates of each run. The same command goes on where it stopped.
"""

import argparse
import dataclasses
import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import ladder_levels
import numpy as np
import torch

from helpers.core import files, fingerprints, run_records

SAME = ("generator_version", "n_patients", "delta")  # rows of other ones are run again
_NOT_PRINTED = ("by_finding", "noise_multiplier", "steps")


def in_turn(
    wanted: list, jobs: int, until: float, run: Callable, make_start: Callable
) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield what `run` returns as runs finish, a process a job; none is begun after `until`.

    A start is made when a run needs it, beside runs from other ones.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting, running, made, in_work = list(wanted), {}, {"none"}, set()
        while running or waiting and time.monotonic() < until:
            while len(running) < jobs and time.monotonic() < until:
                ready = next((s for s in waiting if s.start in made), None)
                lacking = next((s.start for s in waiting if s.start not in made | in_work), None)
                if lacking and (ready is None or waiting[0].start == lacking):
                    in_work.add(lacking)
                    running[pool.submit(make_start, lacking)] = lacking
                elif ready:
                    waiting.remove(ready)
                    running[pool.submit(run, ready)] = None
                else:
                    break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                start = running.pop(future)
                if start is None:
                    yield future.result()
                else:
                    future.result()
                    made.add(start)


def rows_of(out: Path, about: dict) -> list[dict]:
    """Return the rows that the results have already.

    None where they are of another cohort or promise.
    """
    stored = json.loads(out.read_text()) if out.exists() else {}
    same = all(stored.get(name) == about.get(name) for name in SAME)
    return stored["rows"] if stored and same else []


def levels_alone(by_arm: dict[tuple, np.ndarray], rows: list[dict]) -> dict:
    """Return what the results say of their rows: the levels, see `ladder_levels.levels`."""
    return {"levels": ladder_levels.levels(by_arm)}


@dataclasses.dataclass
class Results:
    """Rows and replicates of runs, as they lie on disk.

    Attributes:
        wanted: settings, in the order in which rows are kept.
        out: the JSON file; replicates lie beside it, but for trials.
        about: what else it says.
        is_tuning: whether they are trials, of which rows alone are kept.
        summarise: from {(arm, epsilon): (seeds, 1 + replicates)} and the rows to what follows.
    """

    wanted: list
    out: Path
    about: dict
    is_tuning: bool
    summarise: Callable[[dict, list], dict] = levels_alone

    def __post_init__(self) -> None:
        self.replicates = self.out.with_name(f"{self.out.stem}_replicates.npz")
        kind = type(self.wanted[0])
        self.rows = {settings_of(row, kind): row for row in rows_of(self.out, self.about)}
        has_values = self.replicates.exists() and not self.is_tuning
        self.values = dict(np.load(self.replicates)) if has_values else {}

    def is_there(self, settings: object) -> bool:
        """Return whether a run is finished and kept."""
        return settings in self.rows and (self.is_tuning or key_of(settings) in self.values)

    @property
    def kept(self) -> list:
        """Return the settings of the runs that are kept: those wanted, and those of an earlier
        version of the package, which are never run again.
        """
        is_earlier = [s for s in self.rows if s.arm.startswith(ladder_levels.EARLIER)]
        return list(filter(self.is_there, [*self.wanted, *is_earlier]))

    def add(self, row: dict, replicates: np.ndarray) -> None:
        """Take a run that has just finished."""
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        about = {"date": datetime.date.today().isoformat(), "commit": run_records.commit()}
        settings = settings_of(row, type(self.wanted[0]))
        self.rows[settings] = row | {"device": device} | about
        self.values[key_of(settings)] = replicates.astype("float32")

    def write(self) -> None:
        """Write what is kept, replicates first."""
        kept = self.kept
        rows, summary = [self.rows[settings] for settings in kept], {"levels": []}
        if not self.is_tuning:
            with files.atomic_path(self.replicates) as part, open(part, "wb") as stream:
                np.savez(stream, **{key: self.values[key] for key in map(key_of, kept)})
            by_arm: dict[tuple, list] = {}
            for settings in kept:
                by_arm.setdefault((settings.arm, settings.epsilon), []).append(
                    self.values[key_of(settings)].astype(float)
                )
            summary = self.summarise({key: np.array(runs) for key, runs in by_arm.items()}, rows)
        files.write_json(self.out, self.about | summary | {"rows": rows})


def collect(
    wanted: list,
    out: Path,
    options: argparse.Namespace,
    *,
    about: dict,
    run: Callable,
    make_start: Callable,
    summarise: Callable[[dict, list], dict] = levels_alone,
) -> None:
    """Run what the results lack, and write rows, replicates and levels as runs finish; the same
    command goes on.

    Args:
        wanted: settings, dataclasses with arm, epsilon and start; those that say most first.
        out: the results; replicates lie beside it, but for trials.
        options: tune, jobs, minutes.
        about: what else the results say.
        run, make_start: of one setting and of one start, see `ladder.run` and `ladder.make_start`.
        summarise: see `Results`.
    """
    until = time.monotonic() + 60 * options.minutes
    results = Results(wanted, out, about, options.tune, summarise)
    missing = [settings for settings in wanted if not results.is_there(settings)]
    for row, replicates in in_turn(missing, options.jobs, until, run, make_start):
        results.add(row, replicates)
        results.write()
        print({name: row[name] for name in row if name not in _NOT_PRINTED}, flush=True)
    results.write()


def read_options(docstring: str) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=docstring.splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="the trials, on the tuning cohort")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="runs side by side, a core each"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=90.0,
        help="no run is begun later (default 90); the same command goes on",
    )
    parser.add_argument(
        "--scratch", type=Path, required=True, help="folder for cohorts and public models"
    )
    return parser.parse_args()


def key_of(settings: object) -> str:
    """Return the name of a run's replicates."""
    return fingerprints.fingerprint(dataclasses.asdict(settings))[:12]


def settings_of(row: dict, kind: type) -> object:
    """Return the settings of a row of the results."""
    return kind(**{field.name: row[field.name] for field in dataclasses.fields(kind)})
