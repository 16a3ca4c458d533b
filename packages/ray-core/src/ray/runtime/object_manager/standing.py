"""Threads that stay for the next piece of work: what starts one costs a tenth of the CPU time that moves 1 MiB."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from ray.threads import UnawaitedThread


class StandingThreads:
    """As many as there ever were pieces of work at a time. One thread calls ``begin`` and ``close``."""

    def __init__(self) -> None:
        """None yet."""
        #: None: a thread that reads it ends.
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        #: Counts the threads that have nothing to do and that no piece of work was put in the queue for.
        self._idle = threading.Semaphore(0)

    def begin(self, work: Callable[[], None]) -> None:
        """Have a thread do this at once, whatever the others are at.

        Raises:
            RuntimeError: none is idle, and the system gives no other one.
        """
        if not self._idle.acquire(blocking=False):
            UnawaitedThread(target=self._run, name="ray-bring", daemon=True).start()
        self._work.put(work)

    def close(self) -> None:
        """End those that are idle."""
        while self._idle.acquire(blocking=False):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._idle.release()
