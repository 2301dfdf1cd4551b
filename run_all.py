"""Run a study: its notebooks in order, with a profile's parameters; finished steps are skipped.

    python run_all.py                                   # what the demo would do, and how long
    python run_all.py --profile demo --out results

A step is one notebook in a process of its own (`run_notebook.py`). It is skipped when its code, its
parameters, its helper modules and the contents of its inputs are what they were, and its outputs
are what it wrote.
"""

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from helpers.core import errors, files, locks, paths
from helpers.study import (
    batches,
    cluster,
    crate,
    disclosure,
    dry_run,
    model_card,
    plan,
    profiles,
    report,
    step_cache,
    study_data,
    summary_table,
)


def main(words: list[str] | None = None) -> int:
    """Run the command line; without arguments, say what the demo would do and do nothing.

    Return 0 when all is there, 1 after a failed step, 2 for a wrong use, 130 when stopped.
    """
    words = sys.argv[1:] if words is None else words
    arguments = read_arguments(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.list:
            print(
                "\n".join(
                    f"{name:20} {profiles.read_profile(name).title}" for name in profiles.names()
                )
            )
            return 0
        title, steps = read_study(arguments)
        results = step_cache.Results(arguments.out.expanduser().resolve())
        selected = batches.select(steps, arguments.only, arguments.start, results.out)
        batch = batches.Batch(
            results, steps, selected, arguments.jobs, arguments.force, arguments.profile
        )
        if arguments.dry_run:
            known = dry_run.checks(batch, arguments.cluster)
            print(*known, *dry_run.plan_lines(batch, with_parameters=True), sep="\n")
            return 0
        if not words:
            print(invitation(batch, title))
            return 0
        with (
            cluster.workers(arguments.cluster, arguments.jobs, results.out) as batch.workers,
            lock(results.out),
            cluster.at_work(batch.workers, results.out),
        ):
            return run_study(batch, title)
    except errors.InputError as error:
        print(f"run_all.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"run_all.py: {error}. Check the place, the space left there and your rights to it.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            "run_all.py: stopped. The same command goes on from here; finished steps are kept.",
            file=sys.stderr,
        )
        return 130


def read_arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description="Run a study: prepare data, train without and with privacy, analyse."
    )
    parser.add_argument("--profile", default="demo", help="a study in profiles/ (default: demo)")
    parser.add_argument(
        "--out",
        type=Path,
        default=paths.results_dir(),
        help="folder of the results (default: $RESULTS_DIR, or results/ beside this file)",
    )
    parser.add_argument(
        "--data-root",
        action="append",
        default=[],
        metavar="PATH",
        help="folder with the cohort's files, or name=folder, repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, e.g. PHYSICAL_BATCH_SIZE=16 for less memory; also 03.NAME=VALUE",
    )
    parser.add_argument(
        "--only", metavar="STEP", help="run the steps whose names begin like this, e.g. 04"
    )
    parser.add_argument(
        "--from", dest="start", metavar="STEP", help="run the first such step and all after it"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="remove what the steps wrote and run them again; private runs stay",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        help="steps side by side (default: by cores and free memory); most jobs of slurm",
    )
    parser.add_argument(
        "--cluster",
        metavar="PLACE",
        help="run the steps on a Dask scheduler's workers (dask://HOST:PORT), or on slurm",
    )
    parser.add_argument("--list", action="store_true", help="show the profiles")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything but the images, and show what would run",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch the files of open data sets into --data-root first",
    )
    return parser.parse_args(words)


def read_study(arguments: argparse.Namespace) -> tuple[str, list[plan.Step]]:
    """Return the title and all steps of the study.

    Raises:
        InputError: anything wrong that can be known before a kernel starts.
    """
    if arguments.jobs is not None:
        errors.number("--jobs", arguments.jobs, 1, 1024, integer=True)
    cluster.check(arguments.cluster, arguments.jobs)
    profile = profiles.read_profile(arguments.profile)
    chosen, lists = profiles.collect(
        profile, [profiles.read_setting(text) for text in arguments.set]
    )
    # later notebooks read no files of data sets
    if (arguments.only or arguments.start or "01").startswith("01"):
        names = study_data.data_sets(chosen)
        if arguments.download and not arguments.dry_run:
            print("\n".join(study_data.fetch(arguments.data_root, names)), flush=True)
        chosen["01"]["DATA_ROOTS"] = study_data.read_data_roots(arguments.data_root, names)
    return profile.title, plan.plan(chosen, lists)


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold the results folder for this process alone.

    Raises:
        InputError: another process holds it.
    """
    if not locks.hold(out / ".lock", str(out), "Wait for it, or set --out."):
        print(
            f"The disk of {out} has no locks: see to it that no other run_all.py works in it.",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        locks.release(out / ".lock")


def invitation(batch: batches.Batch, title: str) -> str:
    """Return what is said where nothing is asked for."""
    here, python = Path.cwd(), Path(sys.executable)
    shown = [
        shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
        for path in (python, Path(__file__).resolve(), batch.results.out)
    ]
    lines = dry_run.plan_lines(batch, with_parameters=False)
    return dry_run.invitation(title, Path(shown[2]), f"{shown[0]} {shown[1]}", lines)


def run_study(batch: batches.Batch, title: str) -> int:
    """Run the steps, write the report, print where it is and what it says."""
    out = batch.results.out
    print(f"{title}: {len(batch.selected)} steps into {out}", flush=True)
    if not batch.run():
        print(
            f"run_all.py: {' '.join(batch.complaints)} Correct the cause and give the same command"
            " again: it goes on from here, finished steps are kept.",
            file=sys.stderr,
        )
        return 1
    is_whole = not any(batch.results.missing(step) for step in batch.steps)
    if is_whole:
        model_card.write(out)
        page = report.of_folder(out, title, [step.id for step in batch.steps])
        files.write_text(out / "index.html", page)
        crate.write(out, title)
    folders = batch.steps[0].parameters.get("DATA_ROOTS", {}).values()
    if found := disclosure.findings(out, folders):
        (out / crate.NAME).unlink(missing_ok=True)
        listed = "\n".join(f"  {line}" for line in found)
        print(
            f"run_all.py: expected files that may be passed on; got\n{listed}\n"
            "All results are kept, but for the crate. Pass nothing on: change the notebook or the"
            " parameter that shows it, and run its step again (--only STEP --force; private runs"
            " stay).",
            file=sys.stderr,
        )
        return 1
    if not is_whole:  # with --only or --from
        return 0
    table = summary_table.summary(pd.read_csv(out / "tables/04_summary.csv"))
    print(f"\n{table.to_string(index=False)}\n\n{summary_table.spent_in(out)}\n")
    print(f"Report: {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
