"""What a process does about actors that it cannot reach. It knows whose fault that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ray.clock import monotonic
from ray.exceptions import RayConnectionError
from ray.messages import node
from ray.runtime.owner.away import Away
from ray.runtime.owner.shortage import AGAIN_S
from ray.runtime.process.own_faults import CutOffError, OutOfDescriptorsError

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.outcomes import Outcomes
    from ray.runtime.owner.shortage import Shortage
    from ray.runtime.process.timers import Timers

#: How long an actor that is not reached, and not reported dead, is tried again. The node manager does not know of it
#: that it has died for less than this, or is taken for dead itself.
ACTOR_S = 5.0


class Calls(Protocol):
    """The calls of this process."""

    def settle(self, client: ActorClient) -> None: ...
    def connect(self, client: ActorClient, update: node.ActorUpdate) -> None: ...


class UnreachedActors:
    """Methods are called under the runtime's lock."""

    def __init__(self, timers: Timers, shortage: Shortage, outcomes: Outcomes) -> None:
        self._timers = timers
        self._shortage = shortage
        self._outcomes = outcomes

    def actor(self, calls: Calls, client: ActorClient, update: node.ActorUpdate, error: ConnectionError) -> None:
        """An actor was not reached: mostly it has died again, and the node manager is about to say so."""
        away = client.away
        if away is None or away.update.incarnation != update.incarnation:
            away = client.away = Away(update)
        if isinstance(error, OutOfDescriptorsError):
            away.is_due = True
            self._shortage.try_again(error, lambda: _try(calls, client, away))
        elif isinstance(error, CutOffError):
            self._wait(calls, client, away, str(error), lasts=error.lasts)
        else:
            text = f"The actor {client.class_name} has not died, as far as is known, and cannot be reached: {error}"
            self._wait(calls, client, away, text, lasts=monotonic() - away.since >= ACTOR_S)

    def _wait(self, calls: Calls, client: ActorClient, away: Away, text: str, *, lasts: bool) -> None:
        if lasts:
            calls.settle(client)
            self._outcomes.unreached(client.queue, RayConnectionError(text))
        elif not away.is_due:
            away.is_due = True
            self._timers.after(AGAIN_S, lambda: _try(calls, client, away))

    def called(self, calls: Calls, client: ActorClient) -> None:
        """A call was submitted to an actor that was not reached."""
        away = client.away
        if away is not None and not away.is_due:
            _try(calls, client, away)


def _try(calls: Calls, client: ActorClient, away: Away) -> None:
    away.is_due = False
    if client.away is away and not client.dead:
        calls.connect(client, away.update)
