"""What a process does about actors that it cannot reach. It knows whose fault that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ray.clock import monotonic
from ray.exceptions import RayConnectionError
from ray.messages import node
from ray.runtime.owner.shortage import AGAIN_S
from ray.runtime.process.own_faults import CutOffError, OutOfDescriptorsError

if TYPE_CHECKING:
    from ray.protocol.call_records import Away, Callee
    from ray.protocol.calls import CallTable
    from ray.runtime.owner.records import TaskRecord
    from ray.runtime.owner.shortage import Shortage

#: How long an actor that is not reached, and not reported dead, is tried again. The node manager does not know of it
#: that it has died for less than this, or is taken for dead itself.
ACTOR_S = 5.0


class Calls(Protocol):
    """The calls of this process."""

    table: CallTable[TaskRecord]

    def try_again(self, callee: Callee[TaskRecord], away: Away) -> None: ...


class UnreachedActors:
    """Methods are called under the runtime's lock."""

    def __init__(self, shortage: Shortage) -> None:
        self._shortage = shortage

    def actor(self, calls: Calls, callee: Callee[TaskRecord], update: node.ActorUpdate, error: ConnectionError) -> None:
        """An actor was not reached: mostly it has died again, and the node manager is about to say so."""
        now, table = monotonic(), calls.table
        away = table.unreached(callee, update, now)
        if isinstance(error, OutOfDescriptorsError):
            away.is_due = True
            self._shortage.try_again(error, lambda: calls.try_again(callee, away))
            return
        if isinstance(error, CutOffError):
            text, lasts = str(error), error.lasts
        else:
            text = f"The actor {callee.class_name} has not died, as far as is known, and cannot be reached: {error}"
            lasts = now - away.since >= ACTOR_S
        if lasts:
            table.give_up(callee, RayConnectionError(text), now)
        else:
            table.try_later(callee, away, AGAIN_S)
