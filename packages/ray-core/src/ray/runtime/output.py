"""What workers print: tagged at the worker, cut into lines at the node manager, printed at the driver.

A worker's stdout and stderr are pipes to its node manager, so that last words survive any death. Before output of
another task the worker writes a mark with the task's name into the stream.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

from ray.messages.node import Logs

_MARK = re.compile(rb"\x1e\x1eray ([^\x1f]{0,200})\x1f")
_MAX_LINE_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
#: Batches that a driver with a stuck terminal keeps before it drops the oldest.
_MAX_WAITING_BATCHES = 10_000
TAIL_LINES = 20


class TaggedStream(io.RawIOBase):
    """The raw end of a worker's ``sys.stdout`` or ``sys.stderr``."""

    def __init__(self, fd: int, current_name: Callable[[], str]) -> None:
        self._fd = fd
        self._name = ""
        self._current_name = current_name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: object) -> int:
        name = self._current_name()
        if name != self._name:
            self._name = name
            _write_all(self._fd, b"\x1e\x1eray " + name.encode(errors="replace")[:200] + b"\x1f")
        return os.write(self._fd, data)  # type: ignore[arg-type]


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def install_streams(current_name: Callable[[], str]) -> Callable[[], None]:
    """Replace ``sys.stdout`` and ``sys.stderr`` of a worker by tagged, line-buffered ones.

    Returns:
        A function that writes what has no end of line yet; it never raises.
    """
    flushes = []
    for fd, attribute in ((1, "stdout"), (2, "stderr")):
        stream = io.TextIOWrapper(
            io.BufferedWriter(TaggedStream(fd, current_name)),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        setattr(sys, attribute, stream)
        setattr(sys, f"__{attribute}__", stream)
        flushes.append(stream.flush)

    def flush() -> None:
        for flush_stream in flushes:
            try:
                flush_stream()
            except (OSError, ValueError):
                pass  # the user has closed it

    return flush


class LineReader:
    """One worker stream at the node manager: bytes in, ``Logs`` out."""

    def __init__(self, fd: int, stream: int, emit: Callable[[Logs], None]) -> None:
        self.fd = fd
        self.pid = 0
        self._stream = stream
        self._emit = emit
        self._name = ""
        self._rest = b""
        #: The last lines, for the report of a death.
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

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
        return True

    def _take(self, data: bytes, last: bool) -> None:
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if not last and self._rest:
            lines.append(self._rest)
            self._rest = b""
        while len(self._rest) > _MAX_LINE_BYTES:
            lines.append(self._rest[:_MAX_LINE_BYTES])
            self._rest = self._rest[_MAX_LINE_BYTES:]
        if lines:
            self._send(lines)

    def _send(self, lines: list[bytes]) -> None:
        self.tail.extend(line.decode(errors="replace") for line in lines[-TAIL_LINES:])
        self._emit(Logs(self.pid, self._name, self._stream, lines))

    def drain(self) -> None:
        """The worker is dead: take everything that it still wrote; processes that it left may go on writing."""
        waiting = self._waiting()
        while waiting > 0 and self.read():
            waiting -= _READ_BYTES
        if self._rest:
            rest, self._rest = self._rest, b""
            self._send([rest])

    def _waiting(self) -> int:
        """Bytes waiting in the pipe."""
        import fcntl
        import termios

        try:
            return int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
        except OSError:
            return 0


class Printer:
    """The driver's side: prints batches from a thread of its own, so that a stuck terminal stops nobody."""

    def __init__(self) -> None:
        #: What workers print, and what is to appear on stderr as it is.
        self._batches: deque[Logs | str] = deque(maxlen=_MAX_WAITING_BATCHES)
        #: Batches that had to make room.
        self._dropped = 0
        self._printed = 0
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def show(self, batch: Logs | str) -> None:
        """Queue a batch; never blocks."""
        if len(self._batches) == _MAX_WAITING_BATCHES:
            self._dropped += 1
        self._batches.append(batch)
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ray-printer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._closed or self._batches:
            self._wake.wait()
            self._wake.clear()
            while self._batches:
                self._print(self._batches.popleft())
                self._printed += 1

    def _print(self, batch: Logs | str) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _write(sys.stderr, f"[ray] Output of workers is missing here: {dropped} pieces waited for too long.\n")
        if isinstance(batch, str):
            _write(sys.stderr, batch)
            return
        name = batch.name or "worker"
        prefix = f"({name} pid={batch.pid}) " if batch.pid else f"({name}) "
        text = "".join(f"{prefix}{line.decode(errors='backslashreplace')}\n" for line in batch.lines)
        _write(sys.stderr if batch.stream == 2 else sys.stdout, text)

    def close(self, timeout_s: float = 0.5) -> None:
        """Print what is queued, for as long as something is printed in every ``timeout_s``."""
        self._closed = True
        self._wake.set()
        while self._thread is not None and self._thread.is_alive():
            printed = self._printed
            self._thread.join(timeout_s)
            if self._printed == printed:
                return


def _write(stream: TextIO, text: str) -> None:
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError as error:
            stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        stream.flush()
    except (OSError, ValueError, AttributeError):
        pass  # the driver's stream is closed; there is nobody to tell
