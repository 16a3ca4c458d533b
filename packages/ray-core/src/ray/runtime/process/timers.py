"""Timers of a loop: a heap of deadlines, run by the thread that polls."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from ray.clock import monotonic

#: How far apart those moments are at which a loop that rests wakes.
SLOT_S = 0.5


class Timer:
    """A pending call; ``cancel`` makes it a no-op."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """Monotonic deadlines. Not thread-safe: one loop owns it."""

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        """Make it.

        Args:
            wake: ends the sleep of the loop, where other threads than its own use ``soon``.
        """
        self._wake = wake
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count().__next__
        #: A moment at which the loop wakes; that of another process is another one.
        self._slots_from = monotonic()

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` once, ``delay_s`` from now."""
        timer = Timer(callback)
        heapq.heappush(self._heap, (monotonic() + delay_s, self._order(), timer))
        return timer

    def about(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` once, in about ``delay_s``: together with others, so that a loop that rests wakes seldom.

        That is up to half of ``SLOT_S`` earlier or later; ``delay_s`` is not less than ``SLOT_S``.
        """
        now = monotonic()
        slots = round((now + delay_s - self._slots_from) / SLOT_S)
        return self.after(self._slots_from + slots * SLOT_S - now, callback)

    def soon(self, delay_s: float, callback: Callable[[], None]) -> None:
        """``after`` for a loop that may be asleep for longer than that."""
        self.after(delay_s, callback)
        if self._wake is not None:
            self._wake()

    def timeout_s(self, ceiling_s: float | None) -> float | None:
        """How long the loop may sleep."""
        if not self._heap:
            return ceiling_s
        left = self._heap[0][0] - monotonic()
        if ceiling_s is not None and ceiling_s <= left:
            return ceiling_s
        return max(0.0, left)

    def run_due(self) -> None:
        """Run what is due."""
        if not self._heap:
            return
        now = monotonic()
        while True:
            if not self._heap or self._heap[0][0] > now:  # not in the loop's head: a finaliser may come behind that
                return
            callback = heapq.heappop(self._heap)[2].callback
            if callback is not None:
                callback()
