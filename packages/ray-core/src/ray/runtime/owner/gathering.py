"""Calls that follow one another closely, while many are under way, go together: a message for each costs much more.

Those that are under way may wait for these, so nothing but time may hold them up: the thread that polls sends them.
"""

from __future__ import annotations

from collections.abc import Callable

from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.process.timers import Timers

#: How long a call waits for those that follow.
GATHER_S = 0.001


class Gathering:
    """Methods are called under the runtime's lock."""

    def __init__(self, timers: Timers, pump: Callable[[ActorClient], None]) -> None:
        """Make one.

        Args:
            timers: the runtime's.
            pump: sends what can go to an actor.
        """
        self._timers = timers
        self._pump = pump
        #: {actor id: client with calls that wait for others to come}
        self._clients: dict[bytes, ActorClient] = {}
        #: A timer is set, or about to be by a call that this one has interrupted.
        self._armed = False

    def add(self, client: ActorClient) -> None:
        """A call was queued there, which goes with those that follow soon."""
        self._clients[client.actor_id] = client  # first: the timer may run before this ends
        if not self._armed:
            self._armed = True
            try:
                self._timers.soon(GATHER_S, self._send)
            except BaseException:
                self._armed = False
                raise

    def _send(self) -> None:
        self._armed = False
        while True:
            if not self._clients:  # not in the loop's head: a finaliser may come behind that
                return
            self._pump(self._clients.popitem()[1])
