"""A program on a terminal of its own, and what a person would see there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS, COLUMNS = 50, 120
_TOKEN = re.compile(r"\x1b\[(\d*)([A-Z])|[\r\n]|[^\x1b\r\n]+|\x1b")


class Terminal:
    """The rows of a terminal that is high enough for everything."""

    def __init__(self) -> None:
        self.rows: list[str] = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Do what a terminal does, as far as it is used here; anything else is an error."""
        for token in _TOKEN.finditer(text):
            number, order = token[1], token[2]
            if token[0] == "\r":
                self._column = 0
            elif token[0] == "\n":
                self._row += 1
                if self._row == len(self.rows):
                    self.rows.append("")
            elif order == "A":
                self._row -= int(number or 1)
                assert self._row >= 0, "above the top"
            elif order == "J":
                self.rows[self._row] = self.rows[self._row][: self._column]
                del self.rows[self._row + 1 :]
            else:
                assert order is None, token[0]
                assert "\x1b" not in token[0], "an order that is not known"
                row, end = self.rows[self._row], self._column + len(token[0])
                assert end < COLUMNS, "the line is broken in two"
                self.rows[self._row] = row[: self._column].ljust(self._column) + token[0] + row[end:]
                self._column = end


class OnTerminal:
    """A program whose stdout and stderr are a terminal."""

    def __init__(self, code: str, arguments: Sequence[str], term: str, redirect: str = "") -> None:
        self._end, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        streams = {"stdout": theirs, "stderr": theirs}
        if redirect:
            streams[redirect] = subprocess.DEVNULL
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "TERM": term},
            **streams,  # type: ignore[call-overload]
        )
        os.close(theirs)
        self.terminal = Terminal()
        #: All that was ever written.
        self.raw = ""
        self._bytes = b""

    def read(self, timeout_s: float) -> bool:
        """Take what comes; False once everything is closed."""
        if not select.select([self._end], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self._end, 65536)
        except OSError:  # Linux: nobody has the other end any more
            return False
        self._bytes += data
        text = self._bytes.decode("utf-8", "ignore")
        self._bytes = self._bytes[len(text.encode()) :]
        self.raw += text
        self.terminal.feed(text)
        return bool(data)

    def until(self, condition: Callable[[list[str]], object], what: str, timeout_s: float = 40.0) -> None:
        """Read until ``condition`` holds of the rows."""
        end = time.monotonic() + timeout_s
        while not condition(self.terminal.rows):
            assert time.monotonic() < end, f"{what}:\n" + "\n".join(self.terminal.rows)
            assert self.read(0.1) or condition(self.terminal.rows), f"it has ended before: {what}:\n{self.raw}"

    def finish(self, timeout_s: float = 40.0) -> list[str]:
        """The rows at the end."""
        end = time.monotonic() + timeout_s
        while self.read(0.1) and not (self.process.poll() is not None and not select.select([self._end], [], [], 0)[0]):
            assert time.monotonic() < end, "it does not end"
        assert self.process.wait(timeout_s) == 0, self.raw
        return self.terminal.rows

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)


@contextlib.contextmanager
def on_terminal(code: str, *arguments: object, term: str = "xterm", redirect: str = "") -> Iterator[OnTerminal]:
    """Run a program for as long as the block lasts."""
    program = OnTerminal(code, [str(argument) for argument in arguments], term, redirect)
    try:
        yield program
    finally:
        program.close()
