"""A terminal of a test: what a reader sees of what was written to it."""

import fcntl
import os
import struct
import termios

import pyte


class Screen:
    """Rows of a terminal of some width, which breaks lines that are too long."""

    def __init__(self, columns: int) -> None:
        self._screen = pyte.Screen(columns, 24)
        self._stream = pyte.Stream(self._screen)
        self.seen: list[list[str]] = []  # the rows, after each piece that was written

    def write(self, text: str) -> None:
        """Take what a program wrote."""
        self._stream.feed(text)
        self.seen.append(self.shown)

    @property
    def shown(self) -> list[str]:
        """The rows that are not empty."""
        return [row.rstrip() for row in self._screen.display if row.strip()]


def set_columns(handle: int, columns: int, rows: int = 24) -> None:
    """Give a pseudo-terminal a size."""
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_all(handle: int) -> str:
    """What was written to a pseudo-terminal so far."""
    os.set_blocking(handle, False)
    pieces = []
    try:
        while piece := os.read(handle, 2**16):
            pieces.append(piece)
    except OSError:  # nothing more, or nobody at the other end
        pass
    return b"".join(pieces).decode()
