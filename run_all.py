"""Run a study: which notebook runs when, with what parameters; what is done already is not done
again.

    python run_all.py --profile demo --out results

A step is one notebook in a process of its own (`run_notebook.py`). It is skipped when its code, its
parameters, its helper modules and the contents of its inputs are what they were, and its outputs
are what it wrote.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil

from helpers.core import errors, files, locks, paths
from helpers.study import (
    checklist,
    plan,
    planned_spending,
    profiles,
    report,
    step_cache,
    study_data,
)

BYTES_PER_JOB = 2 * 1024**3
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def main(words: list[str] | None = None) -> int:
    """Run the command line.

    Return 0 when all is there, 1 after a failed step, 2 for a wrong use, 130 when stopped.
    """
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
        batch = Batch(step_cache.Results(arguments.out.expanduser().resolve()), steps, arguments)
        if arguments.dry_run:
            return show_plan(batch)
        with lock(batch.results.out):
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
        default=paths.repository_root() / "results",
        help="folder of the results",
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
        help="a parameter; also 03.NAME=VALUE",
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
        "--jobs", type=int, help="steps side by side (default: by cores and free memory)"
    )
    parser.add_argument("--list", action="store_true", help="show the profiles")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and show what would run"
    )
    return parser.parse_args(words)


def read_study(arguments: argparse.Namespace) -> tuple[str, list[plan.Step]]:
    """Return the title and all steps of the study.

    Raises:
        InputError: anything wrong that can be known before a kernel starts.
    """
    if arguments.jobs is not None:
        errors.number("--jobs", arguments.jobs, 1, 1024, integer=True)
    profile = profiles.read_profile(arguments.profile)
    chosen, lists = profiles.collect(
        profile, [profiles.read_setting(text) for text in arguments.set]
    )
    # later notebooks read no files of data sets
    if (arguments.only or arguments.start or "01").startswith("01"):
        chosen["01"]["DATA_ROOTS"] = study_data.read_data_roots(
            arguments.data_root, study_data.data_sets(chosen)
        )
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


def select(
    steps: list[plan.Step], only: str | None, start: str | None, out: Path
) -> list[plan.Step]:
    """Return the steps to run: those that begin with `only`, or all from the first that begins with
    `start`.

    Raises:
        InputError: no step is called so, or a file it needs comes from a step that is left out and
            is not there.
    """
    named = [i for i, step in enumerate(steps) if step.id.startswith(only or start or "")]
    if not named:
        errors.refuse(
            f"a step that begins with {only or start}",
            "none",
            f"Steps: {', '.join(s.id for s in steps)}.",
        )
    chosen = [steps[i] for i in named] if only else steps[named[0] :]
    made_here = {path for step in chosen for path in step.outputs}
    for path in [path for step in chosen for path in step.inputs if path not in made_here]:
        errors.file_exists(
            out / path, "Run the steps before it first: leave out --only and --from."
        )
    return chosen


@dataclasses.dataclass
class Execution:
    """A step under way."""

    step: plan.Step
    key: str
    process: subprocess.Popen
    threads: int
    log: Path
    started: float = dataclasses.field(default_factory=time.monotonic)


class Batch:
    """The steps of a study: which wait, run and are done."""

    def __init__(
        self, folder: step_cache.Results, steps: list[plan.Step], arguments: argparse.Namespace
    ) -> None:
        self.results, self.steps, self.force = folder, steps, arguments.force
        self.selected = select(steps, arguments.only, arguments.start, folder.out)
        self.waiting, self.running = list(self.selected), []
        self.done = {step.id for step in steps if step not in self.selected}
        self.complaints, self.seconds, self.n_ended, self.is_announced = [], {}, 0, False
        self.cores = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
        by_memory = max(1, psutil.virtual_memory().available // BYTES_PER_JOB)
        self.jobs = arguments.jobs or (1 if has_gpu() else min(self.cores, by_memory))

    def run(self) -> bool:
        """Run what can be run, after a failure too; return whether all is done."""
        try:
            while self.advance() or self.running:
                time.sleep(0.1)
                self.gather()
        finally:
            for execution in self.running:
                stop(execution.process)
        return not self.waiting and not self.complaints

    def advance(self) -> bool:
        """Skip what is done, start what can start; return whether that was anything."""
        ready = [step for step in self.waiting if self.done.issuperset(step.needs)]
        unchanged = [] if self.force else [step for step in ready if self.results.is_done(step)]
        for step in unchanged:
            self.waiting.remove(step)
            self.end(step, "unchanged", 0)
        free = max(self.cores, self.jobs) - sum(execution.threads for execution in self.running)
        starting = [step for step in ready if step not in unchanged][
            : max(0, min(self.jobs - len(self.running), free))
        ]
        if (
            any(step.notebook.name[:2] in ("02", "03") for step in starting)
            and not self.is_announced
        ):
            self.is_announced = True
            said = planned_spending.planned(self.steps, self.results.out)
            print(said, end="\n" if said else "", flush=True)
        for step in starting:
            self.start(step, max(1, min(self.cores, free) // len(starting)))
        return bool(unchanged or starting)

    def start(self, step: plan.Step, threads: int) -> None:
        """Start a step in a process of its own; it ends when this one does."""
        self.waiting.remove(step)
        if self.force and (private := self.results.private_runs(step)):
            print(
                f"--force leaves {', '.join(name for _, name in sorted(private))} as it is: a"
                " private run and its start are read, not made again. Another RECIPE, or"
                ' "spend again" in CONFIRM, trains anew, and spends again.',
                flush=True,
            )
        self.results.clear(step, everything=self.force)
        key, log = self.results.key(step), self.results.out / ".state" / f"{step.id}.log"
        environment = os.environ | {name: str(threads) for name in THREAD_VARIABLES}
        environment["RESULTS_DIR"] = str(self.results.out)
        command = [
            sys.executable,
            "run_notebook.py",
            str(step.notebook),
            "--parameters",
            json.dumps(step.parameters),
            "--to",
            str(self.results.out / "notebooks" / step.id),
            "--end-with-parent",
        ]
        with open(log, "w") as stream:
            process = subprocess.Popen(
                command,
                cwd=paths.repository_root(),
                env=environment,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stream,
            )
        self.running.append(Execution(step, key, process, threads, log))

    def gather(self) -> None:
        """Take note of the steps that have ended."""
        for execution in [
            execution for execution in self.running if execution.process.poll() is not None
        ]:
            self.running.remove(execution)
            step, code = execution.step, execution.process.returncode
            seconds, missing = time.monotonic() - execution.started, self.results.missing(step)
            if not code and not missing:
                self.results.store(step, execution.key, seconds)
                self.seconds.setdefault(step.notebook, []).append(seconds)
                self.end(step, "done", seconds)
                continue
            said = execution.log.read_text(encoding="utf-8").strip().splitlines()
            reason = (
                f"its process was killed by signal {-code}"
                if code < 0
                else said[-1]
                if code and said
                else f"it did not write {errors.examples(missing)}"
            )
            self.complaints.append(f"{step.notebook.name} (step {step.id}) failed: {reason}.")
            self.end(step, "FAILED", seconds)

    def end(self, step: plan.Step, state: str, seconds: float) -> None:
        """Print the line of a step that has ended."""
        self.done |= {step.id} if state != "FAILED" else set()
        self.n_ended += 1
        print(
            f"[{self.n_ended}/{len(self.selected)}] {step.id:42} {state:9} {seconds:5.0f}"
            f" s{self.remaining()}",
            flush=True,
        )

    def remaining(self) -> str:
        """Return in words how long the coming steps will take, as far as earlier ones tell."""

        def expected(step: plan.Step) -> float | None:
            alike = self.seconds.get(step.notebook)
            return sum(alike) / len(alike) if alike else self.results.state(step).get("seconds")

        known = [expected(execution.step) for execution in self.running] + [
            expected(step) for step in self.waiting
        ]
        total = sum(filter(None, known)) - sum(
            time.monotonic() - execution.started for execution in self.running
        )
        if not known:
            return ""
        if all(seconds is None for seconds in known):
            return f"   {len(known)} to go, not timed before"
        return f"   {len(known)} to go, about {max(0, total) / max(1, len(self.running)):.0f} s" + (
            " for those timed before" if None in known else ""
        )


def has_gpu() -> bool:
    """Return whether there is a GPU, found without waiting for torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/dxg"))


def stop(process: subprocess.Popen) -> None:
    """Kill a step with its kernel, which is in a process group of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.kill()
    process.wait()


def show_plan(batch: Batch) -> int:
    """Print what would be done; what a changed step writes decides about those after it."""
    changed = set()
    for step in batch.selected:
        before = sorted(changed.intersection(step.needs))
        state = f"decided after {before[0]}" if before else "to run"
        if not before and not batch.force and batch.results.is_done(step):
            state = "unchanged"
        else:
            changed.add(step.id)
        print(f"{step.id:42} {state}\n    {json.dumps(step.parameters)}")
    return 0


def run_study(batch: Batch, title: str) -> int:
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
    if any(batch.results.missing(step) for step in batch.steps):
        return 0  # with --only or --from: the study is not whole yet
    table = report.summary(pd.read_csv(out / "tables/04_summary.csv"))
    together = out / "tables/04_spent_together.csv"
    said = pd.read_csv(together)["what was spent"].iloc[0] if together.is_file() else ""
    links = {step.id: f"notebooks/{step.id}.html" for step in batch.steps}
    links |= {f"{folder}/": f"{folder}/" for folder in ("tables", "figures", "runs", "cohort")}
    tables = {
        artefact
        for *_, artefact in checklist.CHECKLIST
        if artefact.startswith("tables/") and (out / artefact).is_file()
    }
    files.write_text(
        out / "index.html",
        report.page(title, table, out / "figures/04_privacy_utility.png", links, tables, said),
    )
    print(f"\n{table.to_string(index=False)}\n\n{said}\n\nReport: {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
