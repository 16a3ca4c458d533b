"""Calls that follow one another closely, while many are under way, go together: a message for each costs much more.

Those that are under way may wait for these, so nothing but time may hold them up: the thread that polls sends them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.owner import OwnerRuntime

#: Fewer calls under way at an actor that runs them side by side: each is sent at once. What is not sent yet waits where
#: a call in C keeps the interpreter, and is lost with the process; so this is for floods only.
MANY_CALLS = 500
#: How long a call waits for those that follow.
GATHER_S = 0.001


class Gathering:
    """Methods are called under the runtime's lock."""

    def __init__(self, runtime: OwnerRuntime, calls: ActorCalls) -> None:
        self._runtime = runtime
        self._calls = calls
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
                self._runtime.timers.after(GATHER_S, self._send)
                self._runtime.transport.wake()
            except BaseException:
                self._armed = False
                raise

    def _send(self) -> None:
        self._armed = False
        while True:
            if not self._clients:  # not in the loop's head: a finaliser may come behind that
                return
            self._calls.pump(self._clients.popitem()[1])
