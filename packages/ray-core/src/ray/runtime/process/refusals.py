"""Telling of peers whose messages could not be handled, without letting them fill a log."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from ray.clock import monotonic
from ray.exceptions import RemoteProtocolError

_BETWEEN_S = 1.0


class Refusals:
    """Of one process: told once a second at most, with the number of those that were not.

    A peer that breaks the protocol is one line. Anything else is most likely a mistake of this process's own, so it is
    told with its traceback.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = monotonic) -> None:
        self._say = say
        self._clock = clock
        self._untold = 0
        self._next = float("-inf")

    def note(self, error: Exception) -> None:
        """A message raised this, so its connection is dropped."""
        self._untold += 1
        now = self._clock()
        if now < self._next:
            return
        before = f" ({self._untold - 1} more since this was last told)" if self._untold > 1 else ""
        self._untold, self._next = 0, now + _BETWEEN_S
        if isinstance(error, RemoteProtocolError):
            self._say(f"dropping a connection: {error}{before}")
        else:
            trace = "".join(traceback.format_exception(error)).rstrip()
            self._say(f"dropping a connection, as its message could not be handled{before}:\n{trace}")
