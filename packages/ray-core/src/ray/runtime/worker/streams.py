"""A worker's stdout and stderr. What it prints is cut into lines at the node manager, and printed at the driver.

A worker's stdout and stderr are pipes to its node manager, so that last words survive any death. Before output of
another task the worker writes a mark with the task's name into the stream. What has no end of line yet is written soon
after it was printed.
"""

from __future__ import annotations

import _thread
import io
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.clock import sleep
from ray.runtime.process.interrupts import may_interrupt
from ray.threads import Flag

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: With its mark, what a pipe takes at once that has room at all.
_ROOM_BYTES = min(select.PIPE_BUF, 2048)
#: What one write takes at most; it is kept until the next one.
_MOST_BYTES = 1 << 20
#: What was printed without an end of line is written so much later.
FLUSH_S = 0.3


class TaggedStream(io.RawIOBase):
    """The raw end of a worker's ``sys.stdout`` or ``sys.stderr``.

    Where there is no room the caller is held up, and may be interrupted. What was written then counts all the same: the
    caller comes with it again if it has it still, and is told. Since Python 3.13 it has not where it was much.
    """

    def __init__(self, fd: int, current_name: Callable[[], str]) -> None:
        self._fd = fd
        self._name = ""
        self._current_name = current_name
        #: What is to be written first.
        self._mark = b""
        #: How much was written that nobody was told of yet.
        self._written: list[int] = []
        #: What the last write was given.
        self._last = b""
        #: Threads that do not wait for room.
        self.impatient: set[int] = set()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def has_room(self) -> bool:
        """Whether it takes something at once."""
        return bool(select.select((), (self._fd,), (), 0)[1])

    def write(self, data: Any, /) -> int | None:
        """Write at least a part; None if there is no room, and this thread does not wait for it."""
        name, written = self._current_name(), self._written
        if written and memoryview(data)[: len(self._last)] != self._last:
            written.clear()
        if name != self._name and not written:
            self._name = name
            self._mark += b"\x1e\x1eray " + name.encode(errors="replace")[:200] + b"\x1f"
        while True:
            if not written:
                if self.impatient and threading.get_ident() in self.impatient:
                    if not self.has_room():
                        return None
                    data = memoryview(data)[:_ROOM_BYTES]
                self._put(data)
            count, mark = written.pop(), self._mark
            if not mark:
                return count
            self._mark = mark[count:]
            if count > len(mark):
                return count - len(mark)

    def _put(self, data: Any) -> None:
        """In one step with taking note of it."""
        if len(data) > _MOST_BYTES:
            data = memoryview(data)[:_MOST_BYTES]
        self._last = bytes(data)
        if self._mark:
            self._written.extend(map(os.writev, (self._fd,), ((self._mark, data),)))
        else:
            self._written.extend(map(os.write, (self._fd,), (data,)))


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
        self.tagged = stream
        self._flusher = flusher

    def write(self, text: str, /) -> int:
        count = super().write(text)
        flusher = self._flusher
        flusher.written += 1  # behind the text: a flush that has seen the count has the text as well
        if not flusher.is_armed:
            flusher.arm()
        return count


for _method in (TaggedStream._put, LineStream.write):  # which leave nothing half done
    may_interrupt(_method.__code__)


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
        self._wake = Flag()
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

    def _run(self, wake: Flag) -> None:
        while wake.wait():
            wake.clear()
            sleep(FLUSH_S)
            self.is_armed = False
            self.try_flush()

    @property
    def is_due(self) -> bool:
        """Whether something may have to be written."""
        return self.written != self._flushed

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

    def try_flush(self) -> None:
        """The same without waiting for room: where there is none, it is done later."""
        me = threading.get_ident()
        for stream in self.streams:
            tagged = stream.tagged
            try:
                if tagged.has_room():
                    tagged.impatient.add(me)
                    stream.flush()
                else:
                    self.arm()
            except BlockingIOError:  # others have taken the room
                self.arm()
            except (OSError, ValueError):
                pass  # the user has closed it
            finally:
                tagged.impatient.discard(me)


def install_streams(current_name: Callable[[], str], flusher: Flusher) -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` of a worker by tagged ones."""
    for fd, attribute in ((1, "stdout"), (2, "stderr")):
        stream = LineStream(TaggedStream(fd, current_name), flusher)
        flusher.streams.append(stream)
        setattr(sys, attribute, stream)
        setattr(sys, f"__{attribute}__", stream)
