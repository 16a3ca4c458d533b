"""Threads and flags that finalisers and handlers of signals may meet half way."""

from __future__ import annotations

import threading
from _thread import allocate_lock


class UnawaitedThread(threading.Thread):
    """A thread whose ``start`` does not wait until it runs.

    That of Python does. A new thread may run the collector before it says that it runs, and so a finaliser that needs
    the lock which the one that starts it holds.
    """

    _begun: threading.Event | None = None

    def start(self) -> None:
        """Have it run soon.

        Raises:
            RuntimeError: the system gives no thread.
        """
        begun: threading.Event = self._started  # type: ignore[attr-defined]
        begun.wait = _at_once  # type: ignore[method-assign]
        super().start()
        self._begun = begun

    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        return super().is_alive() or (self._begun is not None and not self._begun.is_set())

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        if self._begun is not None and not self._begun.is_set():
            threading.Event.wait(self._begun, timeout)
            if not self._begun.is_set():
                return
        super().join(timeout)


def _at_once(timeout: float | None = None) -> bool:
    return True


class Flag:
    """An event that may be set in the middle of being set, where that of Python hangs. One thread waits at a time."""

    __slots__ = ("_gate",)

    def __init__(self) -> None:
        self._gate = allocate_lock()
        self._gate.acquire()

    def set(self) -> None:
        """Have ``wait`` return, now or when it is called. Idempotent."""
        try:
            self._gate.release()
        except RuntimeError:
            pass  # it does already

    def clear(self) -> None:
        """Have ``wait`` wait again."""
        self._gate.acquire(False)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set; False when the time is over."""
        is_set = self._gate.acquire(timeout=-1 if timeout_s is None else min(timeout_s, 1e6))
        if is_set:
            self.set()
        return is_set
