"""Telling of strangers that were turned away, without letting them fill the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ray.clock import monotonic

_log = logging.getLogger("ray")
_BETWEEN_S = 1.0


class Refusals:
    """Of one listener: one line a second at most, which counts those that had none of their own."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._untold = 0
        self._next = float("-inf")

    def note(self, address: str, reason: str) -> None:
        """A connection to ``address`` was refused."""
        self._untold += 1
        now = self._clock()
        if now >= self._next:
            times = f" ({self._untold} since this was last told)" if self._untold > 1 else ""
            _log.warning("Refused a connection to %s: %s%s", address, reason, times)
            self._untold, self._next = 0, now + _BETWEEN_S
