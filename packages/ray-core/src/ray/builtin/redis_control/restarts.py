"""When a server that has died is started again. Pure: the caller brings the time."""

from __future__ import annotations

from collections import deque

#: So many deaths in that time are borne.
LIMIT = 5
WITHIN_S = 60.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class Restarts:
    """The deaths of one server."""

    def __init__(self, limit: int = LIMIT, within_s: float = WITHIN_S) -> None:
        self._limit, self._within_s = limit, within_s
        self._deaths: deque[float] = deque()

    def died(self, now: float) -> float | None:
        """Count a death; returns the pause before it is started again, None if it is not any more."""
        while self._deaths and now - self._deaths[0] >= self._within_s:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) > self._limit:
            return None
        if len(self._deaths) == 1:
            return 0.0
        pause_s: float = _FIRST_PAUSE_S * 2 ** (len(self._deaths) - 2)
        return min(_LONGEST_PAUSE_S, pause_s)
