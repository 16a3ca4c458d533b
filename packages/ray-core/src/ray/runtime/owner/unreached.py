"""What a process does about others that it cannot reach. It knows whose fault that is, and harms nobody for its own.

A process whose user, root directory or mounts have changed, or whose session has lost its directory, reaches nobody
any more: what needs that fails, after a while in which the cause may pass.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.exceptions import RayConnectionError
from ray.messages import node
from ray.protocol.references import PENDING, ObjectEntry
from ray.runtime.owner.away import Away
from ray.runtime.owner.shortage import AGAIN_S
from ray.runtime.process.peers import CutOffError, OutOfDescriptorsError, OwnFaultError

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.owner import OwnerRuntime
    from ray.runtime.owner.records import SchedulingClass, TaskRecord

#: How long a process that reaches nobody tries again; longer than the node manager needs to find that its directory is
#: gone, as everybody is told of that.
CUT_OFF_S = 2.0
#: So many workers, one after the other, are given up for one that does not reach them. More are not to blame.
MAX_WORKERS = 20
#: How long an actor that is not reached, and not reported dead, is tried again. The node manager does not know of it
#: that it has died for less than this, or is taken for dead itself.
ACTOR_S = 5.0


class Unreached:
    """Methods are called under the runtime's lock."""

    def __init__(self, runtime: OwnerRuntime) -> None:
        self._runtime = runtime
        #: Workers, one after the other, that were not reached though the node manager was, since this process has made
        #: so many connections.
        self._in_a_row, self._made = 0, 0

    # --- leased workers ---------------------------------------------------------------------------------------------

    def worker(self, cls: SchedulingClass, lease: bytes, error: ConnectionError) -> None:
        """A leased worker was not reached: ask for another one, at once if it is to blame and otherwise later."""
        runtime = self._runtime
        if isinstance(error, OutOfDescriptorsError):
            runtime.node.send(node.Release(lease))
            self._pause(cls)
            runtime.shortage.try_again(error, lambda: self._go_on(cls))
            return
        if isinstance(error, CutOffError):
            lasts, text = _has_lasted(error), str(error)
        else:
            if self._made != runtime.peers.made:
                self._in_a_row, self._made = 0, runtime.peers.made
            self._in_a_row += 1
            if self._in_a_row <= MAX_WORKERS:
                runtime.node.send(node.Suspect(lease))
                runtime.tasks.pump(cls)
                return
            lasts, text = True, f"{MAX_WORKERS} workers in a row could not be reached. The last one: {error}"
        runtime.node.send(node.Release(lease))
        if lasts and not cls.links:
            self._fail(cls.queue, text)
        self._pause(cls)
        runtime.timers.after(AGAIN_S, lambda: self._go_on(cls))

    def _pause(self, cls: SchedulingClass) -> None:
        """Ask for no more workers for a while."""
        cls.demanded = 0
        self._runtime.tasks.unsent.demand(cls)
        cls.demanded = 1  # so that nobody asks before then

    def _go_on(self, cls: SchedulingClass) -> None:
        cls.demanded = 0
        self._runtime.tasks.pump(cls)

    # --- actors -----------------------------------------------------------------------------------------------------

    def actor(self, client: ActorClient, update: node.ActorUpdate, error: ConnectionError) -> None:
        """An actor was not reached: mostly it has died again, and the node manager is about to say so."""
        away = client.away
        if away is None or away.update.incarnation != update.incarnation:
            away = client.away = Away(update)
        if isinstance(error, OutOfDescriptorsError):
            away.is_due = True
            self._runtime.shortage.try_again(error, lambda: self._try_actor(client, away))
        elif isinstance(error, CutOffError):
            self._wait(client, away, str(error), lasts=_has_lasted(error))
        else:
            text = f"The actor {client.class_name} has not died, as far as is known, and cannot be reached: {error}"
            self._wait(client, away, text, lasts=monotonic() - away.since >= ACTOR_S)

    def _wait(self, client: ActorClient, away: Away, text: str, *, lasts: bool) -> None:
        if lasts:
            self._runtime.calls.lost.settle(client)
            self._fail(client.queue, text)
        elif not away.is_due:
            away.is_due = True
            self._runtime.timers.after(AGAIN_S, lambda: self._try_actor(client, away))

    def _try_actor(self, client: ActorClient, away: Away) -> None:
        away.is_due = False
        if client.away is away and not client.dead:
            self._runtime.calls.connect(client, away.update)

    def called(self, client: ActorClient) -> None:
        """A call was submitted to an actor that was not reached."""
        away = client.away
        if away is not None and not away.is_due:
            self._try_actor(client, away)

    # --- owners -----------------------------------------------------------------------------------------------------

    def owner(self, entry: ObjectEntry, message: Any, error: OwnFaultError) -> None:
        """The owner of a borrowed object was not reached."""
        objects = self._runtime.objects

        def send() -> None:
            if entry.status == PENDING:
                objects.send_to_owner(entry, message)

        if isinstance(error, CutOffError) and entry.status == PENDING and not _has_lasted(error):
            self._runtime.timers.after(AGAIN_S, send)
        else:
            objects.fail(entry, error.kind(str(error)))

    def _fail(self, queue: deque[TaskRecord], text: str) -> None:
        records = list(queue)
        queue.clear()
        for record in records:
            if not record.done:
                self._runtime.fail_unreached(record, RayConnectionError(text))


def _has_lasted(error: CutOffError) -> bool:
    """Whether it is known for so long that it is not expected to pass."""
    return monotonic() - error.since >= CUT_OFF_S
