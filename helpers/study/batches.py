"""A study's steps, as many side by side as the machine has cores and memory for, or on a cluster.

In: steps, a results folder. Out: executed notebooks, a line for each step that has ended, and in a
terminal one for each that runs. Each step is a process of its own, here (`step_process`) or on a
worker (`cluster`). Raises `InputError` for steps that are not there, and whatever
`planned_spending` refuses before the first training step.
"""

import dataclasses
import os
import time
from pathlib import Path

from helpers.core import errors, files, machine
from helpers.study import (
    cluster,
    durations,
    notebook_files,
    plan,
    planned_spending,
    running_lines,
    step_cache,
    step_process,
)

SHARED_DISK_SECONDS = 60  # until a network disk surely shows here what a worker has written
BYTES_PER_STEP = 16 * 1024**2  # on disk: an executed notebook, its page, weights, a checkpoint


def select(
    steps: list[plan.Step], only: str | None, start: str | None, out: Path
) -> list[plan.Step]:
    """Return the steps to run: those that begin with `only`, or all from the first that begins with
    `start`.

    Raises:
        InputError: no step is called so, or a file it needs comes from a step that is left out and
            is not there.
    """
    positions = [i for i, step in enumerate(steps) if step.id.startswith(only or start or "")]
    if not positions:
        errors.refuse(
            f"a step that begins with {only or start}",
            "none",
            f"Steps: {', '.join(step.id for step in steps)}.",
        )
    selected = [steps[i] for i in positions] if only else steps[positions[0] :]
    written = {path for step in selected for path in step.outputs}
    for path in [path for step in selected for path in step.inputs if path not in written]:
        errors.file_exists(
            out / path, "Run the steps before it first: leave out --only and --from."
        )
    _check_network(steps, selected, out)
    return selected


def _check_network(steps: list[plan.Step], selected: list[plan.Step], out: Path) -> None:
    """Accept steps of notebook 03 without 02 where 02 recorded the network of this very study.

    Raises:
        InputError: another study on the same cohort recorded another one since: a private run
            would spend its budget on that.
    """
    recorded = next(path for step in steps for path in step.outputs if path.name == "network.json")
    if any(recorded in step.outputs for step in selected) or not any(
        recorded in step.inputs for step in selected
    ):
        return
    writer = next(step for step in steps if recorded in step.outputs)
    planned = notebook_files.default_parameters(writer.notebook) | writer.parameters
    content = files.read_json(out / recorded, "Run the steps of notebook 02 first.")
    for name, value in content.items():
        if planned.get(name) != value:
            errors.refuse(
                f"notebook 02 of this study, with {name} = {planned.get(name)!r}, before 03",
                f"{name} = {value!r} in {out / recorded}",
                "Another study wrote it: leave out --only and --from, or set another --out.",
            )


@dataclasses.dataclass
class Execution:
    """A step under way."""

    step: plan.Step
    key: str
    process: step_process.StepProcess | cluster.RemoteProcess
    threads: int
    log: Path
    ended: float | None = None

    def __post_init__(self) -> None:
        self.seen = running_lines.Seen(step_process.progress_path(self.log))


class Batch:
    """The steps of a study: which wait, run and are done."""

    def __init__(
        self,
        results: step_cache.Results,
        steps: list[plan.Step],
        selected: list[plan.Step],
        jobs: int | None = None,
        force: bool = False,
        profile: str = "",
    ) -> None:
        """Prepare to run steps.

        Args:
            results: the folder they write to.
            steps: of the whole study.
            selected: those to run.
            jobs: most steps side by side; None: by cores and free memory.
            force: remove what they wrote and run them again; private runs stay.
            profile: whose steps they are, for how long they take.
        """
        self.results, self.steps, self.selected, self.force = results, steps, selected, force
        self.waiting, self.running = list(self.selected), []
        self.done = {step.id for step in steps if step not in self.selected}
        self.complaints, self.is_announced = [], False
        self.durations = durations.Durations(results, profile)
        self.lines = running_lines.Lines(self.durations, len(selected))
        self.looked_at: set[str] = set()  # steps of which it is known whether they are done
        self.cores = machine.cores()
        by_memory = max(1, machine.available_memory() // step_process.BYTES_PER_JOB)
        self.jobs = jobs or (1 if has_gpu() else min(self.cores, by_memory))
        self.n_side_by_side = self.jobs
        self.workers: cluster.Workers | None = None  # those of a cluster, in place of this machine

    def run(self) -> bool:
        """Run what can be run, after a failure too; return whether all is done.

        Raises:
            InputError: the disk has no room for the results.
        """
        machine.refuse_full_disk(
            self.results.out, BYTES_PER_STEP * len(self.waiting), "the results of the study"
        )
        try:
            while self.advance() or self.running:
                self.lines.show(*self.coming())
                time.sleep(0.1)
                self.gather()
        finally:
            self.lines.clear()
            for execution in self.running:
                execution.process.stop()
                execution.seen.path.unlink(missing_ok=True)
        return not self.waiting and not self.complaints

    def advance(self) -> bool:
        """Skip what is done, start what can start; return whether that was anything."""
        ready = [step for step in self.waiting if self.done.issuperset(step.needs)]
        # once a step: what it needs is done, and nobody changes it meanwhile
        new = [step for step in ready if step.id not in self.looked_at and not self.force]
        self.looked_at.update(step.id for step in new)
        unchanged = [step for step in new if self.results.is_done(step)]
        for step in unchanged:
            self.waiting.remove(step)
            self.end(step, "unchanged", 0)
        cores, jobs = (1, self.workers.slots()) if self.workers else (self.cores, self.jobs)
        self.n_side_by_side = jobs
        free = max(cores, jobs) - sum(execution.threads for execution in self.running)
        starting = [step for step in ready if step not in unchanged][
            : max(0, min(jobs - len(self.running), free))
        ]
        if any(step.trains for step in starting) and not self.is_announced:
            self.is_announced = True
            announcement = planned_spending.planned(self.steps, self.results.out)
            if announcement:
                self.lines.print(announcement)
        for step in starting:
            self.start(step, max(1, min(cores, free) // len(starting)))
        return bool(unchanged or starting)

    def start(self, step: plan.Step, threads: int) -> None:
        """Start a step in a process of its own, here or on a worker; it ends when this one does."""
        self.waiting.remove(step)
        if self.force and (private := self.results.private_runs(step)):
            self.lines.print(
                f"--force leaves {', '.join(name for _, name in sorted(private))} as it is: a"
                " private run and its start are read, not made again. Another RECIPE, or"
                ' "spend again" in CONFIRM, trains anew, and spends again.'
            )
        self.results.clear(step, everything=self.force)
        key, log = self.results.key(step), self.results.out / ".state" / f"{step.id}.log"
        step_process.progress_path(log).unlink(missing_ok=True)  # of a command that was killed
        work = step_process.work_of(step, self.results.out, log)
        process = (
            self.workers.start(step, work)
            if self.workers
            else step_process.StepProcess(work, threads)
        )
        self.running.append(Execution(step, key, process, threads, log))

    def gather(self) -> None:
        """Take note of the steps that have ended."""
        for execution in list(self.running):
            if (code := execution.process.poll()) is None:
                continue
            step, seconds = execution.step, execution.process.seconds
            missing = self.results.missing(step)
            execution.ended = execution.ended or time.monotonic()
            waited = time.monotonic() - execution.ended
            if self.workers and not code and missing and waited < SHARED_DISK_SECONDS:
                continue
            self.running.remove(execution)
            execution.seen.path.unlink(missing_ok=True)
            if not code and not missing:
                self.results.store(step, execution.key, seconds)
                self.durations.note(step, seconds)
                self.end(step, "done", seconds)
                continue
            messages = execution.log.read_text(encoding="utf-8").strip().splitlines()
            if code < 0:
                reason = f"its process was killed by signal {-code}"
            elif code and messages:
                reason = messages[-1]
            else:
                reason = f"it did not write {errors.examples(missing)}"
            self.complaints.append(f"{step.notebook.name} (step {step.id}) failed: {reason}.")
            self.end(step, "FAILED", seconds)

    def end(self, step: plan.Step, state: str, seconds: float) -> None:
        """Print the line of a step that has ended."""
        self.done |= {step.id} if state != "FAILED" else set()
        self.lines.end(step.id, state, seconds, *self.coming())

    def coming(self) -> tuple[list[Execution], list[plan.Step], int]:
        """Return the steps that run, those that wait, and how many run side by side."""
        return self.running, self.waiting, self.n_side_by_side


def has_gpu() -> bool:
    """Return whether there is a GPU, found without waiting for torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/dxg"))
