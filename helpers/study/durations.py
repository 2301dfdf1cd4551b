"""How long steps take, from how long they took: in this command, in the results folder, or where
the numbers in `expected/` were made.

In: steps, a results folder, the name of a profile. Out: seconds; the same in words. A step that
was never timed has None.
"""

from collections.abc import Iterable

from helpers.core import files, fingerprints
from helpers.study import plan, step_cache, summary_table

NEVER = "never"


class Durations:
    """What is known of how long a study's steps take."""

    def __init__(self, results: step_cache.Results, profile: str = "") -> None:
        """Read what is kept of a profile.

        Args:
            results: the results folder.
            profile: its name; "" for none.
        """
        self.results, self.of_notebooks = results, {}
        self.kept = files.readable_json(summary_table.seconds_path(profile)) if profile else {}

    def note(self, step: plan.Step, seconds: float) -> None:
        """Note how long a step took in this command."""
        self.of_notebooks.setdefault(step.notebook, []).append(seconds)

    def seconds(self, step: plan.Step) -> float | None:
        """Return the expected seconds of a step."""
        if timed := self.of_notebooks.get(step.notebook):
            return sum(timed) / len(timed)
        return self._seconds_here(step) or self._kept_seconds(step)

    def source(self, step: plan.Step) -> str:
        """Return in words where a step was timed, before any of this command has ended."""
        if self._seconds_here(step):
            return "in this folder"
        if self._kept_seconds(step):
            machine = self.kept["hardware"]
            return f"where expected/ was made ({machine['cores']} cores, {machine['machine']})"
        return NEVER

    def _seconds_here(self, step: plan.Step) -> float | None:
        """Return the seconds that a step took in the results folder."""
        return _of_same(step, self.results.state(step))

    def _kept_seconds(self, step: plan.Step) -> float | None:
        """Return the seconds of a step in `expected/`."""
        return _of_same(step, self.kept.get("steps", {}).get(step.id, {}))


def _of_same(step: plan.Step, kept: dict) -> float | None:
    """Return kept seconds where they are of a step with these very parameters."""
    same = kept.get("parameters") == fingerprints.fingerprint(step.parameters)
    return kept["seconds"] if same else None


def until_all_end(
    running: dict[str, float], waiting: Iterable[tuple[plan.Step, float]], jobs: int
) -> float:
    """Return the seconds until all steps have ended, `jobs` of them side by side.

    Args:
        running: {id of a step: seconds that it still takes}.
        waiting: steps in their order, and the seconds of each.
        jobs: at least 1.
    """
    ends, waiting, now = dict(running), list(waiting), 0.0
    while ends or waiting:
        unfinished = {*ends, *(step.id for step, _ in waiting)}
        ready = [(step, s) for step, s in waiting if unfinished.isdisjoint(step.needs)]
        for step, seconds in ready[: max(0, jobs - len(ends))]:
            ends[step.id] = now + seconds
            waiting.remove((step, seconds))
        now = ends.pop(min(ends, key=ends.get))
    return now


def in_words(seconds: float) -> str:
    """Return seconds as people say them: "40 s", "4 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
