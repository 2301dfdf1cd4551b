"""Lines at the bottom of a terminal that are replaced in place; above them, lines that stay.

In: lines of text. Out: the same on standard output. Where that is no terminal (a pipe, a file, a
continuous integration), only lines that stay are printed, without control sequences.
"""

import os
import sys

UP, ERASE_BELOW, ERASE_LINE = "\x1b[{}F", "\x1b[J", "\x1b[K"


class Terminal:
    """Standard output, with lines that are replaced where it is a terminal."""

    def __init__(self) -> None:
        self.is_live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.n_shown = 0

    def print(self, text: str) -> None:
        """Print a line that stays; the replaced ones come back with the next `show`."""
        self.clear()
        print(text, flush=True)

    def show(self, lines: list[str]) -> None:
        """Show these lines in place of those shown before; each is cut to the terminal's width."""
        if not self.is_live:
            return
        size = os.get_terminal_size(sys.stdout.fileno())
        columns, rows = size.columns or 80, size.lines or 24  # some say 0
        lines = [line[: columns - 1] for line in lines[-(rows - 1) :]]
        shown = "".join(f"{line}{ERASE_LINE}\n" for line in lines)
        sys.stdout.write(f"{self._up()}{shown}{ERASE_BELOW}")
        sys.stdout.flush()
        self.n_shown = len(lines)

    def clear(self) -> None:
        """Take the replaced lines away."""
        if self.n_shown:
            self.show([])

    def _up(self) -> str:
        """Return what brings the cursor to the first of the lines shown."""
        return UP.format(self.n_shown) if self.n_shown else ""
