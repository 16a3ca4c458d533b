"""Connections to actors that are lost while the actor lives: the program, or code of the actor, may have closed them.

Of calls that were sent by such a connection nobody knows whether they have come to the actor, or their results back. So
they fail, or are repeated where that is asked for; those that follow go by a new connection, behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ray.messages import node
from ray.runtime.owner.fates import UNKNOWN

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.records import TaskRecord
    from ray.runtime.process.timers import Timers

#: Where a process has ended, the node manager says so in this time.
ENDED_S = 0.5
_REASON = "one of the two processes has closed it, or dropped it for a message that could not be handled"


class Calling(Protocol):
    """The calls of this process, as far as a lost connection concerns them."""

    def connect(self, client: ActorClient, update: node.ActorUpdate) -> None: ...
    def again(self, client: ActorClient, record: TaskRecord) -> None: ...


class FailCall(Protocol):
    """Ends a call whose actor is out of reach; ``fate`` says what became of it, ``lives`` whether the actor does."""

    def __call__(
        self, record: TaskRecord, client: ActorClient, fate: str, cause: node.ExitCause, *, lives: bool
    ) -> None: ...


class LostConnections:
    """Methods are called under the runtime's lock."""

    def __init__(
        self, calls: Calling, timers: Timers, let_arguments_go: Callable[[TaskRecord], None], fail: FailCall
    ) -> None:
        self._calls = calls
        self._timers = timers
        self._let_arguments_go = let_arguments_go
        self._fail = fail

    def lost(self, client: ActorClient) -> None:
        """A connection is gone: connect again, unless the process is said to have ended."""
        place = client.place
        if place is not None:
            self._timers.after(ENDED_S, lambda: self._look(client, place))

    def _look(self, client: ActorClient, place: node.ActorUpdate) -> None:
        if client.place is place and client.window:  # else it has ended, or is about to
            self._calls.connect(client, place)

    def settle(self, client: ActorClient) -> None:
        """Decide about the calls that were sent by a connection that is lost for good."""
        cause = node.ExitCause(reason=_REASON, pid=client.place.pid if client.place is not None else 0)
        for record in list(client.inflight.values()):
            if client.peer is not None:  # a call that has interrupted this one has connected
                return
            if client.inflight.pop(record.id, None) is not record:
                continue
            client.limits.pop(record.id, None)
            if record.done:  # it went on without a caller
                self._let_arguments_go(record)
            elif record.retries and not record.cancelled:
                self._calls.again(client, record)
            else:
                self._fail(record, client, UNKNOWN, cause, lives=True)
