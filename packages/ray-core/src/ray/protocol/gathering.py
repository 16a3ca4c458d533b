"""Calls that follow one another closely, while many are under way, go together: a message for each costs much more.

Those that are under way may wait for these, so nothing but time may hold them up: the thread that polls sends them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic

from ray.protocol.call_effects import Effect, Soon
from ray.protocol.call_records import Callee, T

#: How long a call waits for those that follow.
GATHER_S = 0.001


class Gathering(Generic[T]):
    """The actors of one caller with calls that wait so."""

    def __init__(self, out: deque[Effect[T]], pump: Callable[[Callee[T]], None]) -> None:
        """Make one.

        Args:
            out: what is to be done.
            pump: sends what can go to an actor.
        """
        self._out = out
        self._pump = pump
        #: {actor id: actor with calls that wait for others to come}
        self._callees: dict[bytes, Callee[T]] = {}
        #: A timer is set, or about to be.
        self._armed = False

    def add(self, callee: Callee[T]) -> None:
        """A call was queued there, which goes with those that follow soon."""
        self._callees[callee.actor_id] = callee  # first: the timer may run before this ends
        if not self._armed:
            self._armed = True
            self._out.append(Soon(GATHER_S, self._send))

    def _send(self, now: float) -> None:
        self._armed = False
        while True:
            if not self._callees:  # not in the loop's head: a finaliser may come behind that
                return
            self._pump(self._callees.popitem()[1])
