"""Work that is to end before its time, where the worker may be too busy to hear of it.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ray.ids import PROCESS_ID_BYTES
from ray.messages import node, wire
from ray.runtime.process.telling import tell

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.records import Link, TaskRecord
    from ray.runtime.process.timers import Timers

#: A task cancelled by force has this long until its worker is killed, which first sends what others wait for.
FORCE_AFTER_S = 0.01
#: It may not have begun by then: the node manager is asked again, less and less often, until the task has ended.
FORCE_EVERY_S = 1.0
#: A worker that has not ended a cancelled task after this time may be too busy to hear of it: the node manager signals.
BUSY_S = 0.05
#: What runs on after this time is worth a word; one word where as much else runs on within the second time.
WARN_S = 1.0
GATHER_S = 0.1
_log = logging.getLogger("ray")
_TASK_RUNS_ON = (
    "{name} was cancelled and still runs after {seconds:g} s. It cleans up, or is in a call that cannot be interrupted "
    "(of code in C, say): ray.cancel(ref, force=True) ends its process."
)
_CALL_RUNS_ON = (
    "{name} was cancelled and has not ended after {seconds:g} s. It cleans up, runs on a thread, or is in, or behind, "
    "a call that cannot be interrupted (of code in C, say): ray.kill(actor) ends its actor, with all calls."
)
_NOT_FORCED = (
    "%s is a call of an actor, and was cancelled without force=True, which would have ended the process of all its "
    "calls: ray.kill(actor) does that."
)
_MAY_HAVE_RUN = "whether it had run by then is not known, as its actor is too busy to say so"


class FailCancelled(Protocol):
    """Ends a task or call as cancelled; ``doubt`` says what is not known of it."""

    def __call__(self, record: TaskRecord, doubt: str = "") -> None: ...


class Cancels:
    """Of an owner's tasks and calls that have been sent."""

    def __init__(
        self,
        clients: dict[bytes, ActorClient],
        timers: Timers,
        tell_node: Callable[[wire.Struct], None],
        fail_cancelled: FailCancelled,
        process_id: bytes,
    ) -> None:
        """Make one.

        Args:
            clients: {actor id: the way to it}.
            timers: the runtime's.
            tell_node: sends a message to the node manager.
            fail_cancelled: as it says.
            process_id: of this process.
        """
        self._clients = clients
        self._timers = timers
        self._tell_node = tell_node
        self._fail_cancelled = fail_cancelled
        self._process_id = process_id
        #: {warning: the tasks or calls it is for}, those about to be told.
        self._warnings: dict[str, list[bytes]] = {}

    def cancel_task(self, record: TaskRecord, link: Link, *, force: bool, recursive: bool, again: bool) -> None:
        """Cancel a task that was pushed to a worker."""
        link.peer.send(wire.Cancel(record.id, recursive, again))
        if force:
            self._kill_later(FORCE_AFTER_S, record, link)
        else:
            self._later(BUSY_S, record, link, lambda: node.Interrupt(record.id, lease=link.lease.id))
            self._warn_later(record, link, _TASK_RUNS_ON)

    def cancel_call(self, record: TaskRecord, client: ActorClient, *, recursive: bool, again: bool) -> None:
        """Cancel a call that was sent to an actor."""
        if client.peer is None:
            return
        client.peer.send(wire.Cancel(record.id, recursive, again))
        if not client.callee.concurrent:
            self._later(BUSY_S, record, client, lambda: node.Interrupt(record.id, actor=client.callee.actor_id))
        self._warn_later(record, client, _CALL_RUNS_ON)

    def not_forced(self, record: TaskRecord) -> None:
        """A call was to be cancelled by force, by a borrower of its ref that could not know that it is one."""
        if not record.done:
            tell(_log.warning, _NOT_FORCED, record.name)

    def revoked(self, message: node.CallRevoked) -> None:
        """A cancelled call does not start any more in its actor, which is too busy to say so."""
        client = self._clients.get(message.actor)
        record = client.inflight.get(message.task) if client is not None else None
        if client is None or record is None:
            return
        if client.peer is not None:  # after the actor has heard of this for certain, it need not be kept in mind
            client.peer.send(wire.Cancel(record.id, recursive=False))
        if record.done:
            return
        running = message.running
        ours = not any(running) or running[:PROCESS_ID_BYTES] == self._process_id
        order = list(client.inflight)
        if not ours:
            self._fail_cancelled(record, _MAY_HAVE_RUN)
        elif running not in client.inflight or order.index(running) < order.index(record.id):  # calls begin in order
            self._fail_cancelled(record)

    def _kill_later(self, delay_s: float, record: TaskRecord, link: Link) -> None:
        """Have the worker killed if it runs the task by then; it may begin later, and ignore that it was cancelled."""

        def kill() -> None:
            if link.inflight.get(record.id) is record:
                self._tell_node(node.KillLease(link.lease.id, record.id, "its task was cancelled by force"))
                self._kill_later(min(2 * delay_s, FORCE_EVERY_S), record, link)

        self._timers.soon(delay_s, kill)

    def _later(
        self, delay_s: float, record: TaskRecord, place: Link | ActorClient, message: Callable[[], wire.Struct]
    ) -> None:
        def send() -> None:
            if place.inflight.get(record.id) is record:
                self._tell_node(message())

        self._timers.soon(delay_s, send)

    def _warn_later(self, record: TaskRecord, place: Link | ActorClient, text: str) -> None:
        def warn() -> None:
            if place.inflight.get(record.id) is record and not (record.done or record.warned):
                record.warned = True
                self._warn(text.format(name=record.name, seconds=WARN_S), record.id)

        if not record.warned:
            self._timers.after(WARN_S, warn)

    def _warn(self, text: str, task_id: bytes) -> None:
        alike = self._warnings.get(text)
        if alike is None:
            alike = self._warnings[text] = []
            self._timers.after(GATHER_S, lambda: self._tell(text))
        alike.append(task_id)

    def _tell(self, text: str) -> None:
        more = len(self._warnings.pop(text)) - 1
        tell(_log.warning, f"{text} The same goes for {more} more." if more else text)
