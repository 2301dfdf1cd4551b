"""Time and memory of one private training step beside ordinary training and opacus, in one run.

In: settings (network, image size, batch). Out: a table, and `results/<name>.json` for `draw.py`.
Refuses to time a variant whose gradient differs from autograd on one unit at a time.

A step is the forward pass, the backward pass, clipping, noise and NAdam, as in
`training_session.Session`. Variants take turns within each repetition, in a random order. All run
in one process with the same threads and the same short spinning of OpenMP threads (GOMP_SPINCOUNT,
set here and inherited by every subprocess), and each in the faster of two memory formats. The ratio
is the median over repetitions of a step's time divided by the fastest non-private step's time in
the same repetition, so that a machine that slows down for a while slows both.
"""

import argparse
import dataclasses
import datetime
import functools
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # before torch loads OpenMP

import pandas as pd
import psutil
import torch
import variants
from variants import DEVICE, VARIANTS, Setting

from helpers.core import errors, files, run_records

RESULTS = Path(__file__).resolve().parent / "results"
TURN_SECONDS = 0.5  # a variant's turn lasts at least so long; short steps are averaged over it
MOST_SECONDS = 4.0  # of a step, in --growth
# longest over shortest turn of one variant; beyond it ratios are not to be quoted
LEAST_QUIET = 1.25
# TF32 errs by about as much as:
EXACT = functools.partial(torch.backends.cudnn.flags, enabled=True, allow_tf32=False)
LARGEST_ERROR = 1e-3  # of the gradient, relative to the L2 norm of the right one
SHOWN = [
    "setting",
    "variant",
    "milliseconds",
    "ratio",
    "ratio_low",
    "ratio_high",
    "ratio_of_least",
    "peak_ratio",
    "memory_format",
    "remark",
]
GROWTH = {
    "batch": (16, 32, 64, 128, 256, 512),
    "image_px": (32, 64, 128, 256),
    "width": (16, 32, 64),
}
GROWTH_FROM = Setting("growth", 3, 64, 32)  # what is not varied


# ---- timing


def turn(step: Callable[[], object]) -> float:
    """Return the milliseconds of a step, averaged over a turn."""
    n_steps, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < TURN_SECONDS:
        step()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        n_steps += 1
    return 1000 * seconds / n_steps


def take_turns(steps: dict[str, Callable[[], object]], repeats: int) -> pd.DataFrame:
    """Return milliseconds, a row a repetition, a column a variant.

    The order of turns is new in each.
    """
    rows = [
        {
            name: turn(steps[name])
            for name in random.Random(repetition).sample(sorted(steps), len(steps))
        }
        for repetition in range(repeats)
    ]
    return pd.DataFrame(rows, columns=list(steps))


def candidates(
    name: str, setting: Setting, rights: dict, foreachs: tuple[bool, ...]
) -> dict[str, variants.NonPrivate]:
    """Return a variant in each memory format, checked (and so warmed up); a wrong one is named and
    left out.

    None is left where memory is too small.

    Raises:
        SystemExit: wrong in every memory format.
    """
    kind, right_variants = VARIANTS[name], {}
    right, clip_norm = rights[kind.images_per_unit]
    try:
        for memory_format, foreach in itertools.product(kind.formats, foreachs):
            variant = kind(setting, memory_format, foreach, clip_norm)
            with EXACT():
                variant.error = variants.relative_error(variant, right)
            label = f"{name}, {memory_format}, {'foreach' if foreach else 'loop'}"
            if variant.error < LARGEST_ERROR:
                variant.step()
                right_variants[label] = variant
            else:  # also NaN
                print(
                    f"{setting.name}: {label} is not timed: its gradient is wrong by"
                    f" {variant.error:.2g}",
                    flush=True,
                )
    except torch.OutOfMemoryError:
        return {}
    return right_variants or sys.exit(
        f"Expected a right gradient from {name} in some memory format; got none."
    )


def fastest(right_variants: dict[str, variants.NonPrivate]) -> variants.NonPrivate | None:
    """Return the one with the shortest of two turns."""
    if len(right_variants) < 2:
        return next(iter(right_variants.values()), None)
    return right_variants[
        take_turns({label: variant.step for label, variant in right_variants.items()}, 2)
        .min()
        .idxmin()
    ]


def measure(setting: Setting, private: list[str], repeats: int, with_memory: bool) -> list[dict]:
    """Return a row a variant: milliseconds, ratio to the fastest non-private step, peak memory."""
    with EXACT():
        rights = {
            size: variants.right_gradient(setting, size)
            for size in (0, 1, variants.IMAGES_PER_PATIENT)
        }
    ordinary = candidates("non-private", setting, rights, (False, True))
    if not (first_choice := fastest(ordinary)):
        return [{"setting": setting.name, "variant": "non-private", "remark": "out of memory"}]
    chosen = {
        name: fastest(candidates(name, setting, rights, (first_choice.foreach,)))
        for name in private
    }
    bare = {
        name: variants.bare_loop(setting, name, first_choice.foreach) for name in variants.FORMATS
    }
    for loop in bare.values():
        next(loop)  # warms up; all others have been by their check
    steps = {label: variant.step for label, variant in ordinary.items()}
    steps |= {name: variant.step for name, variant in chosen.items() if variant}
    steps |= {name: functools.partial(next, loop) for name, loop in bare.items()}
    times = take_turns(steps, repeats)
    medians = times[list(ordinary)].median()
    best = ordinary[medians.idxmin()]
    times["non-private"], times["bare loop"] = times[medians.idxmin()], times[best.memory_format]
    chosen = {"non-private": best, "bare loop": best} | chosen
    rows = [
        {"setting": setting.name, "variant": name} | row_of(times, name, variant)
        for name, variant in chosen.items()
    ]
    rows[0]["tried"] = medians.round(2).to_dict()
    if (worst := times["non-private"].max() / times["non-private"].min()) > LEAST_QUIET:
        print(
            f"{setting.name}: the machine was not quiet: one non-private step took up to"
            f" {worst:.2f} times its least time"
        )
    if with_memory:
        add_memory(rows, setting)
    return rows


def row_of(times: pd.DataFrame, name: str, variant: variants.NonPrivate | None) -> dict:
    """Return what the table says of a variant."""
    if variant is None:
        return {"remark": "out of memory"}
    ratios = times[name] / times["non-private"]
    return {
        "milliseconds": times[name].median(),
        "ratio": ratios.median(),
        "ratio_low": ratios.quantile(0.25),
        "ratio_high": ratios.quantile(0.75),
        "ratio_of_least": times[name].min() / times["non-private"].min(),
        "memory_format": variant.memory_format,
        "foreach": variant.foreach,
        "relative_error": None if name == "bare loop" else variant.error,
        "all_milliseconds": times[name].tolist(),
    }


# ---- memory and growth: each variant in a process of its own


def peak_bytes() -> int:
    """Return the most memory this process has held.

    On Linux `ru_maxrss` also counts what its parent held.
    """
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


def child(task: dict) -> dict:
    """Return seconds of a step and its peak memory beyond imports, data and model.

    Called in a fresh process.
    """
    kind, setting = VARIANTS[task["variant"]], Setting(**task["setting"])
    variant = kind(setting, task["memory_format"], task["foreach"], clip_norm=1.0)
    held = (
        torch.cuda.memory_allocated()
        if DEVICE.type == "cuda"
        else psutil.Process().memory_info().rss
    )
    try:
        variant.step()
        milliseconds = min(turn(variant.step) for _ in range(task["repeats"]))
    except (torch.OutOfMemoryError, MemoryError):
        return {"remark": "out of memory"}
    return {"milliseconds": milliseconds, "peak_bytes": peak_bytes() - held}


def in_child(
    variant: str, setting: Setting, memory_format: str, foreach: bool, repeats: int = 1
) -> dict:
    """Run `child` in a fresh process; one that the system ends is out of memory."""
    task = dict(
        variant=variant,
        setting=dataclasses.asdict(setting),
        memory_format=memory_format,
        foreach=foreach,
        repeats=repeats,
    )
    words = [
        sys.executable,
        __file__,
        "--threads",
        str(torch.get_num_threads()),
        "--child",
        json.dumps(task),
    ]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode in (-9, 137):
        return {"remark": "out of memory"}
    done.check_returncode()
    return json.loads(done.stdout)


def add_memory(rows: list[dict], setting: Setting) -> None:
    """Add peak memory, and its ratio to the non-private step's, to the rows of a setting."""
    for row in rows:
        if row["variant"] in VARIANTS and "remark" not in row:
            child_report = in_child(row["variant"], setting, row["memory_format"], row["foreach"])
            if "peak_bytes" in child_report:
                row["peak_bytes"] = child_report["peak_bytes"]
                row["peak_ratio"] = row["peak_bytes"] / rows[0]["peak_bytes"]


def extrapolated(points: list[tuple[float, float]], work: float) -> float:
    """Return the value at `work` on the line through the last two points (work, value).

    One alone is proportional.
    """
    (work_0, value_0), (work_1, value_1) = ([(0.0, 0.0)] + points)[-2:]
    return value_1 + max(0.0, value_1 - value_0) / (work_1 - work_0) * (work - work_1)


def grow(axis: str, name: str) -> list[dict]:
    """Return a row a value of an axis of `GROWTH`, up to where a step takes too long or too much
    memory.
    """
    rows, seconds, peaks = [], [], []
    for value in GROWTH[axis]:
        setting, work = (
            dataclasses.replace(GROWTH_FROM, **{axis: value}),
            float(value if axis == "batch" else value**2),
        )
        row = {"axis": axis, "value": value, "variant": name}
        free = (
            torch.cuda.mem_get_info()[0]
            if DEVICE.type == "cuda"
            else psutil.virtual_memory().available
        )
        if peaks and (needed := extrapolated(peaks, work)) > free:
            row |= {"remark": "skipped: memory", "estimated_bytes": needed, "free_bytes": free}
        elif seconds and (estimate := extrapolated(seconds, work)) > MOST_SECONDS:
            row |= {"remark": "skipped: time", "estimated_seconds": estimate}
        else:
            tried = [
                in_child(name, setting, memory_format, foreach=False, repeats=2)
                | {"memory_format": memory_format}
                for memory_format in VARIANTS[name].formats
            ]
            row |= min(tried, key=lambda result: result.get("milliseconds", float("inf")))
        rows.append(row)
        print(
            {
                key: round(shown, 1) if isinstance(shown, float) else shown
                for key, shown in row.items()
            },
            flush=True,
        )
        if "remark" in row:
            break
        seconds.append((work, row["milliseconds"] / 1000))
        peaks.append((work, float(row["peak_bytes"])))
    return rows


# ---- results


def about() -> dict:
    """Return what the numbers depend on: machine, versions, commit, date."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            line.split(":")[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        processor = platform.processor()
    hardware = run_records.hardware() | {
        "processor": processor,
        "threads": torch.get_num_threads(),
        "memory_gigabytes": round(psutil.virtual_memory().total / 1e9, 1),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
    }
    return {
        "date": datetime.date.today().isoformat(),
        "commit": run_records.commit(),
        "hardware": hardware,
        "versions": run_records.versions(),
        "GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"],
    }


def kept(out: Path, chosen: list[str]) -> list[dict]:
    """Return the rows of settings not chosen now that `out` holds from the same machine and
    versions.
    """
    before, now = (json.loads(out.read_text()) if out.exists() else {}), about()
    is_same = all(before.get(key) == now[key] for key in ("hardware", "versions"))
    return [
        {"date": before["date"], "commit": before["commit"]} | row
        for row in before.get("rows", [])
        if is_same and row["setting"] not in chosen
    ]


def too_slow(rows: list[dict], most: float) -> list[str]:
    """Return the 64 px and 224 px settings in which the image-level step exceeds `most` non-private
    ones, or is missing.
    """
    looked_at = {
        row["setting"]: row.get("ratio", float("inf"))
        for row in rows
        if row["variant"] == "ours, image" and row["setting"].startswith(("64px", "224px"))
    }
    return [
        f"{name}: {ratio:.2f}"
        for name, ratio in (looked_at or {"no 64 or 224 px setting": float("inf")}).items()
        if not ratio <= most
    ]


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--settings",
        nargs="+",
        metavar="TEXT",
        help=(
            "only settings whose name holds a TEXT; there are"
            f" {', '.join(setting.name for setting in variants.SETTINGS)} (512px: only if named, or"
            " on a GPU)"
        ),
    )
    parser.add_argument("--repeats", type=int, default=7, help="repetitions (default 7)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of every variant (default: all cores)"
    )
    parser.add_argument("--fast", action="store_true", help="only non-private and ours")
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
    parser.add_argument(
        "--check",
        type=float,
        metavar="RATIO",
        help="exit 1 if ours, image, is above it at 64 or 224 px",
    )
    parser.add_argument(
        "--growth",
        action="store_true",
        help="steps/s as batch, image and width grow, instead of the table",
    )
    parser.add_argument(
        "--figure", action="store_true", help="draw what is in the results, and measure nothing"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="JSON file (default here: results/private_step.json, growth.json or fast.json)",
    )
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure what the command line asks for."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    # the image itself needs no gradient
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    if options.child:
        print(json.dumps(child(options.child)))
        return
    if options.figure:
        import draw

        draw.main(options.out.parent if options.out else RESULTS)
        return
    out = (
        options.out
        or RESULTS
        / f"{'growth' if options.growth else 'fast' if options.fast else 'private_step'}.json"
    )
    private = [
        name
        for name in VARIANTS
        if name.startswith("ours") or name.startswith("opacus") and not options.fast
    ]
    rows: list[dict] = []
    if options.growth:
        tasks = [
            functools.partial(grow, *task)
            for task in itertools.product(GROWTH, ["non-private", *private])
        ]
    else:
        settings = variants.chosen_settings(options.settings)
        rows = kept(out, [setting.name for setting in settings])
        tasks = [
            functools.partial(measure, setting, private, options.repeats, not options.no_memory)
            for setting in settings
        ]
    order = [setting.name for setting in variants.SETTINGS]
    for task in tasks:
        rows += task()
        rows.sort(key=lambda row: order.index(row["setting"]) if "setting" in row else 0)
        # after each, so that a long run can be stopped
        files.write_json(out, about() | {"rows": rows})
    if not options.growth:
        print(pd.DataFrame(rows).reindex(columns=SHOWN).round(2).to_string(index=False, na_rep=""))
    if options.check and (slow := too_slow(rows, options.check)):
        raise SystemExit(
            f"Expected ours at image level at most {options.check:g} times the non-private step;"
            f" got {slow}."
        )


if __name__ == "__main__":
    try:
        main()
    except errors.InputError as error:
        sys.exit(str(error))
