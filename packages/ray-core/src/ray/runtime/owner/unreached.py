"""What a process does about others that it cannot reach. It knows whose fault that is, and harms nobody for its own.

A process whose user, root directory or mounts have changed, or whose session has lost its directory, reaches nobody
any more: what needs that fails, after a while in which the cause may pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ray.clock import monotonic
from ray.exceptions import RayConnectionError, RayError
from ray.messages import node, wire
from ray.protocol.references import PENDING, ObjectEntry
from ray.runtime.owner.away import Away
from ray.runtime.owner.shortage import AGAIN_S
from ray.runtime.process.peers import CutOffError, OutOfDescriptorsError, OwnFaultError

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.records import SchedulingClass, TaskRecord
    from ray.runtime.owner.shortage import Shortage
    from ray.runtime.process.peers import PeerTable
    from ray.runtime.process.timers import Timers

#: How long a process that reaches nobody tries again; longer than the node manager needs to find that its directory is
#: gone, as everybody is told of that.
CUT_OFF_S = 2.0
#: So many workers, one after the other, are given up for one that does not reach them. More are not to blame.
MAX_WORKERS = 20
#: How long an actor that is not reached, and not reported dead, is tried again. The node manager does not know of it
#: that it has died for less than this, or is taken for dead itself.
ACTOR_S = 5.0


class Tasks(Protocol):
    """The tasks of this process."""

    def pump(self, cls: SchedulingClass) -> None: ...
    def demand(self, cls: SchedulingClass) -> None: ...


class Calls(Protocol):
    """The calls of this process."""

    def settle(self, client: ActorClient) -> None: ...
    def connect(self, client: ActorClient, update: node.ActorUpdate) -> None: ...


class Objects(Protocol):
    """What this process borrows."""

    def send_to_owner(self, entry: ObjectEntry, message: Any) -> None: ...
    def fail(self, entry: ObjectEntry, error: RayError) -> None: ...


class Unreached:
    """Methods are called under the runtime's lock."""

    def __init__(
        self,
        tasks: Tasks,
        calls: Calls,
        objects: Objects,
        peers: PeerTable,
        timers: Timers,
        tell_node: Callable[[wire.Struct], None],
        shortage: Shortage,
        fail: Callable[[TaskRecord, RayError], None],
    ) -> None:
        self._tasks = tasks
        self._calls = calls
        self._objects = objects
        self._peers = peers
        self._timers = timers
        self._tell_node = tell_node
        self._shortage = shortage
        self._fail_task = fail
        #: Workers, one after the other, that were not reached though the node manager was, since this process has made
        #: so many connections.
        self._in_a_row, self._made = 0, 0

    # --- leased workers ---------------------------------------------------------------------------------------------

    def worker(self, cls: SchedulingClass, lease: bytes, error: ConnectionError) -> None:
        """A leased worker was not reached: ask for another one, at once if it is to blame and otherwise later."""
        if isinstance(error, OutOfDescriptorsError):
            self._tell_node(node.Release(lease))
            self._pause(cls)
            self._shortage.try_again(error, lambda: self._go_on(cls))
            return
        if isinstance(error, CutOffError):
            lasts, text = _has_lasted(error), str(error)
        else:
            if self._made != self._peers.made:
                self._in_a_row, self._made = 0, self._peers.made
            self._in_a_row += 1
            if self._in_a_row <= MAX_WORKERS:
                self._tell_node(node.Suspect(lease))
                self._tasks.pump(cls)
                return
            lasts, text = True, f"{MAX_WORKERS} workers in a row could not be reached. The last one: {error}"
        self._tell_node(node.Release(lease))
        if lasts and not cls.links:
            self._fail(cls.queue, text)
        self._pause(cls)
        self._timers.after(AGAIN_S, lambda: self._go_on(cls))

    def _pause(self, cls: SchedulingClass) -> None:
        """Ask for no more workers for a while."""
        cls.demanded = 0
        self._tasks.demand(cls)
        cls.demanded = 1  # so that nobody asks before then

    def _go_on(self, cls: SchedulingClass) -> None:
        cls.demanded = 0
        self._tasks.pump(cls)

    # --- actors -----------------------------------------------------------------------------------------------------

    def actor(self, client: ActorClient, update: node.ActorUpdate, error: ConnectionError) -> None:
        """An actor was not reached: mostly it has died again, and the node manager is about to say so."""
        away = client.away
        if away is None or away.update.incarnation != update.incarnation:
            away = client.away = Away(update)
        if isinstance(error, OutOfDescriptorsError):
            away.is_due = True
            self._shortage.try_again(error, lambda: self._try_actor(client, away))
        elif isinstance(error, CutOffError):
            self._wait(client, away, str(error), lasts=_has_lasted(error))
        else:
            text = f"The actor {client.class_name} has not died, as far as is known, and cannot be reached: {error}"
            self._wait(client, away, text, lasts=monotonic() - away.since >= ACTOR_S)

    def _wait(self, client: ActorClient, away: Away, text: str, *, lasts: bool) -> None:
        if lasts:
            self._calls.settle(client)
            self._fail(client.queue, text)
        elif not away.is_due:
            away.is_due = True
            self._timers.after(AGAIN_S, lambda: self._try_actor(client, away))

    def _try_actor(self, client: ActorClient, away: Away) -> None:
        away.is_due = False
        if client.away is away and not client.dead:
            self._calls.connect(client, away.update)

    def called(self, client: ActorClient) -> None:
        """A call was submitted to an actor that was not reached."""
        away = client.away
        if away is not None and not away.is_due:
            self._try_actor(client, away)

    # --- owners -----------------------------------------------------------------------------------------------------

    def owner(self, entry: ObjectEntry, message: Any, error: OwnFaultError) -> None:
        """The owner of a borrowed object was not reached."""
        objects = self._objects

        def send() -> None:
            if entry.status == PENDING:
                objects.send_to_owner(entry, message)

        if isinstance(error, CutOffError) and entry.status == PENDING and not _has_lasted(error):
            self._timers.after(AGAIN_S, send)
        else:
            objects.fail(entry, error.kind(str(error)))

    def _fail(self, queue: deque[TaskRecord], text: str) -> None:
        records = list(queue)
        queue.clear()
        for record in records:
            if not record.done:
                self._fail_task(record, RayConnectionError(text))


def _has_lasted(error: CutOffError) -> bool:
    """Whether it is known for so long that it is not expected to pass."""
    return monotonic() - error.since >= CUT_OFF_S
