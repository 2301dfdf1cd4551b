"""The lines of a batch: one for each step that has ended, and in a terminal one for each that runs.

In: steps under way and to come, the files in which progress bars say how far they are
(`helpers.core.progress`), how long steps are expected to take. Out: lines on standard output.
"""

import time
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from helpers.core import files
from helpers.study import durations, plan, terminal

LOOK_SECONDS = 1  # from one look at running steps to the next
NAME_COLUMNS = 28  # of a terminal of 80; the rest says how far


class Running(Protocol):
    """A step under way, see `batches.Execution`."""

    step: plan.Step
    process: object  # with `seconds` since its start
    seen: "Seen"


class Seen:
    """What was last read of a step's progress, and since when it is so."""

    def __init__(self, path: Path) -> None:
        self.path, self.bar, self.since = path, {}, 0.0

    def look(self) -> None:
        """Read what the step's newest progress bar shows; nothing where it has none."""
        bar = files.readable_json(self.path)
        if [bar.get(name) for name in ("label", "done")] != [
            self.bar.get(name) for name in ("label", "done")
        ]:
            self.since = time.monotonic()
        self.bar = bar

    def seconds_left(self) -> float | None:
        """Return the seconds until the bar is full; None where it has no speed yet."""
        if not self.bar.get("rate") or not self.bar.get("total"):
            return None
        left = (self.bar["total"] - self.bar["done"]) / self.bar["rate"]
        return max(0.0, left - (time.monotonic() - self.since))

    def in_words(self) -> list[str]:
        """Return how far the bar is, and its speed; [] where there is none."""
        if not self.bar.get("total"):
            return []
        far = [f"{self.bar['label']} {self.bar['done']:,} of {self.bar['total']:,}"]
        if self.bar.get("rate") and self.bar.get("images_a_piece"):
            far.append(f"{self.bar['rate'] * self.bar['images_a_piece']:,.0f} images/s")
        return far


class Lines:
    """What a batch prints while its steps run."""

    def __init__(self, expected: durations.Durations, n_steps: int) -> None:
        """Begin.

        Args:
            expected: how long steps take.
            n_steps: of the batch.
        """
        self.expected, self.n_steps, self.n_ended = expected, n_steps, 0
        self.terminal, self.looked_at = terminal.Terminal(), 0.0
        self.print, self.clear = self.terminal.print, self.terminal.clear

    def end(self, step_id: str, state: str, seconds: float, *coming: Collection) -> None:
        """Print the line of a step that has ended.

        Args:
            step_id, state, seconds: its name, what became of it, how long it took.
            coming: steps that run, steps that wait, how many run side by side.
        """
        self.n_ended += 1
        line = f"[{self.n_ended}/{self.n_steps}] {step_id:42} {state:9} {seconds:5.0f} s"
        # the lowest line of a terminal says it; after an unchanged step others may be so, too
        is_known = not self.terminal.is_live and state != "unchanged"
        self.print(line + self._to_go(*coming) if is_known else line)

    def show(self, running: Collection[Running], waiting: list[plan.Step], jobs: int) -> None:
        """Show in a terminal how far the running steps and the whole are."""
        now = time.monotonic()
        if not self.terminal.is_live or now - self.looked_at < LOOK_SECONDS:
            return
        self.looked_at = now
        for execution in running:
            execution.seen.look()
        known = [*map(self._seconds_left, running), *map(self.expected.seconds, waiting)]
        left = None if None in known else self._seconds_to_go(running, waiting, jobs)
        self.terminal.show([*map(self._line, running), self._whole(left)])

    def _line(self, execution: Running) -> str:
        """Return the line of a running step."""
        left, elapsed = self._seconds_left(execution), execution.process.seconds
        words = execution.seen.in_words() or [f"for {durations.in_words(elapsed)}"]
        words += [] if left is None else [f"{durations.in_words(left)} left"]
        return f"  {fitted(execution.step.id):{NAME_COLUMNS}} {', '.join(words)}"

    def _whole(self, left: float | None) -> str:
        """Return the line of all steps; without a time where one of them was never timed."""
        line = f"  {self.n_ended} of {self.n_steps} steps have ended"
        if left is None:
            return line
        until = time.strftime("%H:%M", time.localtime(time.time() + left))
        return f"{line}, about {durations.in_words(left)} to go, until {until}"

    def _to_go(self, running: Collection[Running], waiting: list[plan.Step], jobs: int) -> str:
        """Return in words how long the coming steps will take, as far as earlier ones tell."""
        coming = [execution.step for execution in running] + waiting
        if not coming:
            return ""
        known = [self.expected.seconds(step) for step in coming]
        to_go = f"   {len(coming)} to go"
        if all(seconds is None for seconds in known):
            return f"{to_go}, not timed before"
        left = self._seconds_to_go(running, waiting, jobs)
        return f"{to_go}, about {left:.0f} s" + (" for those timed before" if None in known else "")

    def _seconds_to_go(
        self, running: Collection[Running], waiting: list[plan.Step], jobs: int
    ) -> float:
        """Return how long the coming steps will take; those never timed do not count."""
        return durations.until_all_end(
            {execution.step.id: self._seconds_left(execution) or 0 for execution in running},
            [(step, self.expected.seconds(step) or 0) for step in waiting],
            jobs,
        )

    def _seconds_left(self, execution: Running) -> float | None:
        """Return the seconds that a running step still takes: as it is expected, and at least until
        its progress bar is full; None where neither is known.
        """
        expected = self.expected.seconds(execution.step)
        by_clock = None if expected is None else max(0.0, expected - execution.process.seconds)
        known = [left for left in (execution.seen.seconds_left(), by_clock) if left is not None]
        return max(known, default=None)


def fitted(name: str) -> str:
    """Return a step's name in at most `NAME_COLUMNS`: a longer one with the number of its notebook
    in place of the name, then without its middle.
    """
    if len(name) > NAME_COLUMNS:
        name = "-".join([name[:2], *name.split("-")[1:]])
    if len(name) <= NAME_COLUMNS:
        return name
    end = NAME_COLUMNS * 2 // 3
    return f"{name[: NAME_COLUMNS - end - 2]}..{name[-end:]}"
