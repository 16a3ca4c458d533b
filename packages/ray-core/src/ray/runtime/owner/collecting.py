"""The search for cycles of references that keep handles of actors."""

from __future__ import annotations

import gc
from collections.abc import Callable

from ray.clock import monotonic, thread_time
from ray.threads import UnawaitedThread

#: Searches take at most this share of a processor's time.
_SHARE = 0.05


class Collecting:
    """Searches on a thread of its own: it may run any destructor, so it holds no lock and nobody waits for it."""

    def __init__(self, holds_handles: Callable[[], bool], wake: Callable[[], None]) -> None:
        """Make one.

        Args:
            holds_handles: whether this process has handles of actors.
            wake: has the thread that polls look at what was dropped.
        """
        self._holds_handles = holds_handles
        self._wake = wake
        self._busy = False
        self._next = 0.0

    def begin(self) -> None:
        """Others wait for what unused actors may hold. Called under the lock."""
        if self._busy or not self._holds_handles() or monotonic() < self._next:
            return
        self._busy = True
        try:
            UnawaitedThread(target=self._collect, name="ray-collect", daemon=True).start()
        except RuntimeError:  # no more threads: perhaps next time
            self._busy = False

    def _collect(self) -> None:
        try:
            gc.collect()
        finally:
            self._next = monotonic() + thread_time() / _SHARE
            self._busy = False
        self._wake()  # the thread that polls frees what was dropped
