"""Lines at the bottom of a terminal that are replaced in place; above them, lines that stay.

In: lines of text. Out: the same on standard output. Where that is no terminal (a pipe, a file, a
continuous integration), only lines that stay are printed, without control sequences.
"""

import os
import sys

from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.text import Text


class Terminal:
    """Standard output, with lines that are replaced where it is a terminal."""

    def __init__(self) -> None:
        self.is_live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._live: Live | None = None

    def print(self, text: str) -> None:
        """Print a line that stays; the replaced ones come back with the next `show`."""
        self.clear()
        print(text, flush=True)

    def show(self, lines: list[str]) -> None:
        """Show these lines in place of those shown before; each is cut to the terminal's width."""
        if not self.is_live:
            return
        if not self._live:
            self._live = Live(
                console=Console(file=sys.stdout, force_terminal=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        size = os.get_terminal_size(sys.stdout.fileno())  # may change; some say 0
        self._live.console.size = ConsoleDimensions(size.columns or 80, size.lines or 24)
        text = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
        self._live.update(text, refresh=True)

    def clear(self) -> None:
        """Take the replaced lines away."""
        if self._live:
            self._live.stop()
            self._live = None
