"""The driver's side of what workers print."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from ray.clock import monotonic
from ray.messages.node import Logs
from ray.runtime.driver.screen import Screen
from ray.runtime.process.output_window import WINDOW, weight
from ray.threads import Flag, UnawaitedThread

#: A reader that takes no output for so long is not waited for any more: tasks that print go on; the oldest lines are
#: dropped where more than this waits. (The node manager holds tasks back when the rest of its window waits, too.)
STUCK_S, _ROOM = 5.0, WINDOW // 4
_LOOK_S = 0.5
#: The end of the session waits for so long for a reader that takes nothing.
_END_S = 1.0
#: What is printed in one go: a reader that takes this much within ``STUCK_S`` is slow, but not stuck.
_PART_BYTES, _PREFIX_BYTES = 8192, 32
#: The node manager is told in steps of this much.
_STEP = WINDOW // 8
#: Messages of the program itself that wait, beside what the node manager keeps to.
_MAX_WAITING = 50_000


class Missing:
    """Stands for lines that had to make room."""

    __slots__ = ("lines",)

    def __init__(self, lines: int) -> None:
        self.lines = lines


class Printer:
    """Prints batches from a thread of its own, so that a slow terminal slows down nothing but printing."""

    def __init__(
        self, tell: Callable[[int], None], later: Callable[[float, Callable[[], None]], object], node: str = ""
    ) -> None:
        """Nothing is printed yet.

        Args:
            tell: tells the node manager how much more is dealt with; never blocks.
            later: calls a function after so many seconds, on the thread that calls ``show`` with what workers print.
            node: what the node manager's own node is called; empty: it is on this machine, which needs no name.
        """
        self._tell = tell
        self._node = node
        self._later = later
        #: What workers print, and what is to appear on stderr as it is.
        self._batches: deque[Logs | str | Missing] = deque()
        #: Since when the thread has been printing the same part; 0 while it prints nothing.
        self._since = 0.0
        self._is_looking = False
        #: Printed so far.
        self._parts = 0
        #: The thread has dealt with this much since it told the node manager.
        self._untold = 0
        self._wake = Flag()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._screen = Screen()
        self._screen.attend()

    def show(self, batch: Logs | str) -> None:
        """Queue a batch; never blocks."""
        if len(self._batches) > _MAX_WAITING:
            self._make_room()
        self._batches.append(batch)
        self._wake.set()
        if not isinstance(batch, str) and not self._is_looking:
            self._is_looking = True
            self._later(_LOOK_S, self._look)
        if self._thread is None:
            thread = UnawaitedThread(target=self._run, name="ray-printer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the program ends: what has come is printed here
                self._print_all(Screen(wait_s=0.0))
            else:
                self._thread = thread

    # --- readers that take nothing ------------------------------------------------------------------------------------

    def _look(self) -> None:
        """See whether printing is held up by a reader that takes nothing."""
        self._is_looking = False
        if not self._batches:
            return
        since = self._since
        if since and monotonic() - since > STUCK_S:
            waiting = sum(weight(batch) for batch in self._batches.copy() if isinstance(batch, Logs))
            if waiting > _ROOM:
                self._make_room()
        self._is_looking = True
        self._later(_LOOK_S, self._look)

    def _make_room(self) -> None:
        """Drop the older half of what waits."""
        dropped = lines = 0
        for _ in range((len(self._batches) + 1) // 2):
            try:
                batch = self._batches.popleft()
            except IndexError:  # the thread goes on
                break
            dropped += weight(batch) if isinstance(batch, Logs) else 0
            lines += _lines(batch)
        self._batches.appendleft(Missing(lines))
        self._tell(dropped)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        screen, due_s = self._screen, None
        while not self._closed or self._batches:
            self._wake.wait(due_s)
            self._wake.clear()
            self._print_all(screen)
            self._since = monotonic()
            due_s = screen.catch_up()
            self._since = 0.0
        screen.close()

    def _print_all(self, screen: Screen) -> None:
        while True:
            try:
                batch = self._batches.popleft()
            except IndexError:  # also where others have taken them
                break
            for part in _parts_of(batch):
                self._since = monotonic()
                self._print(screen, part)
                self._parts += 1
            self._since = 0.0
            if isinstance(batch, Logs):
                self._untold += weight(batch)
                if self._untold >= _STEP:
                    untold, self._untold = self._untold, 0
                    self._tell(untold)

    def _print(self, screen: Screen, batch: Logs | str | Missing) -> None:
        dropped = batch.lines if isinstance(batch, Missing) else batch.dropped if isinstance(batch, Logs) else 0
        if dropped:
            screen.message(f"[ray] {dropped:,} lines of workers' output are missing here: they waited for too long.\n")
        if isinstance(batch, str):
            screen.message(batch)
        if not isinstance(batch, Logs):
            return
        name, node = batch.name or "worker", batch.node or self._node
        where = f", node={node}" if node else ""
        prefix = f"({name} pid={batch.pid}{where}) " if batch.pid else f"({name}) "
        key = (node, batch.pid, batch.stream)
        if batch.lines:
            screen.finish(key, prefix, [line.decode(errors="backslashreplace") for line in batch.lines])
        if batch.rest:
            screen.update(key, prefix, batch.rest.strip(b"\r").decode(errors="ignore"))

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Print what is queued, for as long as the reader takes something now and then."""
        self._closed = True
        self._tell = lambda amount: None
        self._wake.set()
        while self._thread is not None and self._thread.is_alive():
            parts = self._parts
            self._thread.join(_END_S)
            if self._parts == parts:
                break
        if self._thread is None:
            self._screen.close()
        lines = sum(map(_lines, self._batches.copy()))
        if lines:
            _say(f"[ray] The last {lines:,} lines of workers' output were not printed: nobody took them.\n")


def _lines(batch: Logs | str | Missing) -> int:
    """How many lines somebody may miss."""
    return 1 if isinstance(batch, str) else batch.lines if isinstance(batch, Missing) else len(batch.lines)


def _parts_of(batch: Logs | str | Missing) -> Iterator[Logs | str | Missing]:
    """A batch in parts of not many bytes."""
    if not isinstance(batch, Logs) or len(batch.lines) < 2:
        yield batch
        return
    lines, dropped, begin, size = batch.lines, batch.dropped, 0, 0
    for place, line in enumerate(lines):
        size += len(line) + _PREFIX_BYTES
        if size > _PART_BYTES or place == len(lines) - 1:
            yield msgspec.structs.replace(batch, lines=lines[begin : place + 1], dropped=dropped)
            begin, size, dropped = place + 1, 0, 0


def _say(text: str) -> None:
    """Print it on stderr if somebody takes it there at once, past what may be stuck in ``write``."""
    for stream in (sys.stderr, sys.__stderr__):
        with contextlib.suppress(Exception):  # it stands for no descriptor, or is closed
            fd = stream.fileno()  # type: ignore[union-attr]
            if select.select([], [fd], [], 0)[1]:
                os.write(fd, text.encode())
            return
