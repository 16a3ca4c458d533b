"""What workers print, at the node manager: bytes of a pipe are cut into lines, and a line's newest state is told."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Callable

from ray.messages.node import Logs

_MARK = re.compile(rb"\x1e\x1eray ([^\x1f]{0,200})\x1f")
#: The beginning of a mark, whose rest is not read yet.
_PART_OF_MARK = re.compile(rb"\x1e(?:\x1e(?:r(?:a(?:y(?: [^\x1f]{0,200})?)?)?)?)?\Z")
_MARK_BYTES = 207
_CONTROLS = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")
_MAX_LINE_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
#: A line that has no end yet is told of so much later, and its states are told no more often.
UNFINISHED_S = 0.2
#: Of the last lines, what the report of a death shows, and what is kept to choose from.
TAIL_LINES = 20
_KEPT_LINES = 128
#: How the interpreter begins what it says of a crash. What has led to it is said before, in a few lines.
_CRASH = "Fatal Python error: "
_LINES_BEFORE = 4


def newest(line: bytes) -> bytes:
    """The state of a line that is written again and again, each time from its beginning, after a carriage return."""
    if b"\r" not in line:
        return line
    return next((state for state in reversed(line.split(b"\r")) if state), b"")


def split_mark(data: bytes) -> tuple[bytes, bytes]:
    """What belongs to a line for certain, and what may be the beginning of a mark; users may print its bytes, too."""
    found = _PART_OF_MARK.search(data, max(0, len(data) - _MARK_BYTES))
    end = len(data) if found is None else found.start()
    return data[:end], data[end:]


def is_blank(state: bytes) -> bool:
    """Whether there is nothing to see, as where a bar has been wiped out."""
    return not _CONTROLS.sub(b"", state).strip()


class LineReader:
    """One worker stream at the node manager: bytes in, ``Logs`` out."""

    def __init__(
        self,
        fd: int,
        stream: int,
        emit: Callable[[Logs], None],
        later: Callable[[float, Callable[[], None]], object],
        job: str = "",
    ) -> None:
        """Nothing is read yet.

        Args:
            fd: of the pipe; does not block.
            stream: 1 is stdout, 2 is stderr.
            emit: takes what was read.
            later: calls a function after so many seconds.
            job: of the worker.
        """
        self.fd = fd
        self.job = job
        self.pid = 0
        #: The worker is about to end.
        self.is_last = False
        self._stream = stream
        self._emit = emit
        self._later = later
        self._name = ""
        #: What came after the last end of a line, without the states that later ones have replaced.
        self._rest = b""
        self._told = b""
        self._is_due = False
        #: The last lines, for the report of a death.
        self.tail: deque[str] = deque(maxlen=_KEPT_LINES)

    def read(self) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        pieces = _MARK.split(self._rest + data)
        for index, piece in enumerate(pieces):
            if index % 2:
                self._name = piece.decode(errors="replace")
            else:
                self._take(piece, last=index == len(pieces) - 1)
        if (self._rest or self._told) and not self._is_due:
            self._is_due = True
            self._later(UNFINISHED_S, self._tell)
        return True

    def _take(self, data: bytes, last: bool) -> None:
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if not last and self._rest:
            lines.append(self._rest)
            self._rest = b""
        while len(self._rest) > _MAX_LINE_BYTES and b"\r" not in self._rest:
            lines.append(self._rest[:_MAX_LINE_BYTES])
            self._rest = self._rest[_MAX_LINE_BYTES:]
        if b"\r" in self._rest:
            state, mark = split_mark(self._rest)
            end = b"\r" if state.endswith(b"\r") else b""
            self._rest = newest(state)[-_MAX_LINE_BYTES:] + end + mark
        if lines:
            self._send(lines)

    def _send(self, lines: list[bytes]) -> None:
        """Lines that are finished."""
        if any(b"\r" in line for line in lines):
            lines = [newest(line) for line in lines if b"\r" not in line or not is_blank(newest(line))]
            if not lines and self._told:
                self._told = b""
                self._emit(Logs(self.pid, self._name, self._stream, [], rest=b"\r"))
        if lines:
            self._told = b""
            self.tail.extend(line.decode(errors="replace") for line in lines[-_KEPT_LINES:])
            self._emit(Logs(self.pid, self._name, self._stream, lines))

    def _tell(self) -> None:
        """Send the newest state of the line that is not finished, if it is another one."""
        self._is_due = False
        if self.fd >= 0 and self._waiting():  # how it goes on is not read yet
            return
        state = newest(split_mark(self._rest)[0])
        if is_blank(state):
            state = b""
        if state != self._told:
            self._told = state
            self._emit(Logs(self.pid, self._name, self._stream, [], rest=state or b"\r"))

    def drain(self) -> None:
        """The worker is dead: take everything that it still wrote; processes that it left may go on writing."""
        waiting = self._waiting()
        while waiting > 0 and self.read():
            waiting -= _READ_BYTES
        if self._rest:
            rest, self._rest = self._rest, b""
            self._send([rest])

    def last_words(self) -> list[str]:
        """The last lines; where they are a crash's with a deep stack, those of its beginning."""
        lines = list(self.tail)
        for at in range(len(lines) - 1, -1, -1):
            if lines[at].startswith(_CRASH):
                first = max(0, at - _LINES_BEFORE)
                return lines[first : first + TAIL_LINES] if len(lines) - first > TAIL_LINES else lines[-TAIL_LINES:]
        return lines[-TAIL_LINES:]

    def _waiting(self) -> int:
        """Bytes waiting in the pipe."""
        import fcntl
        import termios

        try:
            return int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
        except OSError:
            return 0
