"""A terminal of a test: what a reader sees of what was written to it."""

import fcntl
import os
import re
import struct
import termios

SEQUENCE = re.compile(r"\x1b\[(\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])")


class Screen:
    """Rows of a terminal of some width, which breaks lines that are too long."""

    def __init__(self, columns: int) -> None:
        self.columns, self.rows, self.row, self.column = columns, [""], 0, 0
        self.begun = ""  # a sequence whose end was not written yet
        self.seen: list[list[str]] = []  # the rows, whenever those below the cursor were erased

    def write(self, text: str) -> None:
        """Take what a program wrote."""
        text, self.begun = re.fullmatch(r"(.*?)(\x1b(?:\[\d*)?)?", self.begun + text, re.S).groups(
            ""
        )
        for number, command, back, new, letter in SEQUENCE.findall(text):
            if command == "F":  # up, to the first column
                self.row, self.column = self.row - int(number or 1), 0
            elif command == "K":
                self.rows[self.row] = self.rows[self.row][: self.column]
            elif command == "J":
                self.rows[self.row :] = [self.rows[self.row][: self.column]]
                self.seen.append([row.rstrip() for row in self.rows if row.strip()])
            elif command:
                raise AssertionError(f"a sequence that nobody expects: {number}{command}")
            elif back:
                self.column = 0
            elif new:
                self._to_next_row()
            else:
                self._put(letter)

    def _put(self, letter: str) -> None:
        if self.column == self.columns:
            self.column = 0
            self._to_next_row()
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = row[: self.column] + letter + row[self.column + 1 :]
        self.column += 1

    def _to_next_row(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")

    @property
    def shown(self) -> list[str]:
        """The rows that are not empty."""
        return [row.rstrip() for row in self.rows if row.strip()]


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
