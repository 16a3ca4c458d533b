"""What workers print: tagged at the worker, cut into lines at the node manager, printed at the driver.

A worker's stdout and stderr are pipes to its node manager, so that last words survive any death. Before output of
another task the worker writes a mark with the task's name into the stream. What has no end of line yet is written soon
after it was printed.
"""

from __future__ import annotations

import _thread
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray.messages.node import Logs
from ray.runtime.screen import Screen

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Batches that a driver with a stuck terminal keeps before it drops the oldest.
_MAX_WAITING_BATCHES = 10_000
#: What was printed without an end of line is written so much later.
FLUSH_S = 0.3


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


class CountingWriter(io.BufferedWriter):
    """The buffer of a worker's ``sys.stdout`` or ``sys.stderr``, which programs may write to as well."""

    def __init__(self, stream: TaggedStream, flusher: Flusher) -> None:
        super().__init__(stream)
        self._flusher = flusher

    def write(self, data: ReadableBuffer, /) -> int:
        count = super().write(data)
        self._flusher.written += 1
        return count


class LineStream(io.TextIOWrapper):
    """A worker's ``sys.stdout`` or ``sys.stderr``: written at the end of each line, and soon after anything else."""

    def __init__(self, stream: TaggedStream, flusher: Flusher) -> None:
        writer = CountingWriter(stream, flusher)
        super().__init__(writer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._flusher = flusher

    def write(self, text: str, /) -> int:
        count = super().write(text)
        flusher = self._flusher
        flusher.written += 1  # behind the text: a flush that has seen the count has the text as well
        if not flusher.is_armed:
            flusher.arm()
        return count


class Flusher:
    """Flushes streams from a thread of its own, which begins with the first output and may block where that does."""

    def __init__(self) -> None:
        self.streams: list[LineStream] = []
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """No thread runs, here or in this copy of the process."""
        #: A flush is due.
        self.is_armed = False
        #: Counts what is written, and as far as it was flushed; a copy may have taken over what was not.
        self.written, self._flushed = 0, -1
        self._wake = threading.Event()
        self._runs = False

    def arm(self) -> None:
        """Flush soon."""
        self.is_armed = True
        if not self._runs:
            try:
                _thread.start_new_thread(self._run, (self._wake,))
            except RuntimeError:  # there are no more threads: the next end of line flushes, or the end of the call
                return
            self._runs = True
        self._wake.set()

    def _run(self, wake: threading.Event) -> None:
        while wake.wait():
            wake.clear()
            time.sleep(FLUSH_S)
            self.is_armed = False
            self.flush()

    def flush(self) -> None:
        """Write what has no end of line yet; never raises. Costs next to nothing where there is nothing."""
        written = self.written
        if written == self._flushed:
            return
        for stream in self.streams:
            try:
                stream.flush()
            except (OSError, ValueError):
                pass  # the user has closed it
        self._flushed = written


def install_streams(current_name: Callable[[], str]) -> Callable[[], None]:
    """Replace ``sys.stdout`` and ``sys.stderr`` of a worker by tagged ones.

    Returns:
        A function that writes what has no end of line yet; it never raises.
    """
    flusher = Flusher()
    for fd, attribute in ((1, "stdout"), (2, "stderr")):
        stream = LineStream(TaggedStream(fd, current_name), flusher)
        flusher.streams.append(stream)
        setattr(sys, attribute, stream)
        setattr(sys, f"__{attribute}__", stream)
    return flusher.flush


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
            try:
                oldest = self._batches.popleft()
                self._dropped += 1 if isinstance(oldest, str) else len(oldest.lines)
            except IndexError:  # the thread has just emptied it
                pass
        self._batches.append(batch)
        self._wake.set()
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="ray-printer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the program ends: what has come is printed here
                self._print_all(Screen())
            else:
                self._thread = thread

    def _run(self) -> None:
        screen, due_s = Screen(), None
        while not self._closed or self._batches:
            self._wake.wait(due_s)
            self._wake.clear()
            self._print_all(screen)
            due_s = screen.catch_up()
        screen.close()

    def _print_all(self, screen: Screen) -> None:
        while self._batches:
            self._print(screen, self._batches.popleft())
            self._printed += 1

    def _print(self, screen: Screen, batch: Logs | str) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            screen.message(f"[ray] {dropped:,} lines of workers' output are missing here: they waited for too long.\n")
        if isinstance(batch, str):
            screen.message(batch)
            return
        name = batch.name or "worker"
        prefix = f"({name} pid={batch.pid}) " if batch.pid else f"({name}) "
        key = (batch.pid, batch.stream)
        if batch.lines:
            screen.finish(key, prefix, [line.decode(errors="backslashreplace") for line in batch.lines])
        if batch.rest:
            screen.update(key, prefix, batch.rest.strip(b"\r").decode(errors="ignore"))

    def close(self, timeout_s: float = 0.5) -> None:
        """Print what is queued, for as long as something is printed in every ``timeout_s``."""
        self._closed = True
        self._wake.set()
        while self._thread is not None and self._thread.is_alive():
            printed = self._printed
            self._thread.join(timeout_s)
            if self._printed == printed:
                return
