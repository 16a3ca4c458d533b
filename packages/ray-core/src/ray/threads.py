"""Threads that may be started where a lock is held."""

from __future__ import annotations

import threading


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
