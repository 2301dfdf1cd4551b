"""A plain progress bar, also for whoever started this process.

In: how many pieces there are, and a label. Out: a bar to update. Where the environment variable
`STEP_PROGRESS` names a file, it holds what the newest bar shows: `helpers.study.running_lines`
reads it and shows it in the terminal of `run_all.py`.
"""

import contextlib
import os
import sys
from pathlib import Path

from tqdm import tqdm

from helpers.core import files

VARIABLE = "STEP_PROGRESS"
SECONDS = 2  # at least, from one display to the next


class Bar(tqdm):
    """A progress bar that keeps what it shows in the file that $STEP_PROGRESS names.

    Guarantees: the file has nothing that the bar does not show, and is written when the bar is
        displayed, not oftener; without the variable nothing is written.
    """

    newest: int | None = None  # the bar of this process that the file is about
    # in private training the expected number, never a drawn one
    images_a_piece: float | None = None

    def __init__(self, *positional: object, **named: object) -> None:
        """Make the bar, which is the newest."""
        Bar.newest = id(self)
        super().__init__(*positional, **named)

    def display(self, *positional: object, **named: object) -> bool | None:
        """Show the bar, as tqdm does, and tell how far it is."""
        self._tell()
        return super().display(*positional, **named)

    def close(self) -> None:
        """Close the bar: nobody is told of it any more."""
        super().close()
        if Bar.newest != id(self):
            return
        Bar.newest = None
        if path := os.environ.get(VARIABLE):
            with contextlib.suppress(OSError):
                Path(path).unlink(missing_ok=True)

    def _tell(self) -> None:
        """Write the file, whole or not at all; a full disk ends no training."""
        path = os.environ.get(VARIABLE)
        if not path or Bar.newest not in (None, id(self)):
            return
        Bar.newest, shown = id(self), self.format_dict
        content = {
            "label": self.desc.removesuffix(": "),
            "done": self.n,
            "total": self.total,
            "rate": _rounded(shown["rate"] or _rate(self.n - self.initial, shown["elapsed"])),
            "images_a_piece": self.images_a_piece,
        }
        with contextlib.suppress(OSError):
            files.write_json(Path(path), content, is_durable=False)


def _rate(pieces: float, seconds: float) -> float | None:
    """Return pieces a second; None where there are none yet."""
    return pieces / seconds if pieces and seconds else None


def _rounded(rate: float | None) -> float | None:
    """Return a rate with no more digits than the bar shows."""
    return rate and float(f"{rate:.3g}")


def progress(total: int, label: str, begun: int = 0) -> Bar:
    """Return a plain progress bar on standard output, refreshed at most every `SECONDS`.

    Args:
        total: pieces.
        label: what they are.
        begun: pieces that were there before.
    """
    return Bar(
        total=total,
        desc=label,
        initial=begun,
        file=sys.stdout,
        mininterval=SECONDS,
        ascii=" =",
        ncols=76,
        position=0,  # also where an interrupted one was left
    )
