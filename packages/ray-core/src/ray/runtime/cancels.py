"""Work that is to end before its time, where the worker may be too busy to hear of it.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ray.exceptions import TaskTimeoutError
from ray.messages import node, wire
from ray.protocol.references import PENDING

if TYPE_CHECKING:
    from ray.runtime.calls import ActorClient
    from ray.runtime.owner import OwnerRuntime
    from ray.runtime.records import Link, TaskRecord

#: A task cancelled by force has this long until its worker is killed, which first sends what others wait for.
FORCE_AFTER_S = 0.01
#: A worker that has not ended a cancelled task after this time may be too busy to hear of it: the node manager signals.
BUSY_S = 0.05
#: What runs on after this time is worth a word.
WARN_S = 1.0
_log = logging.getLogger("ray")
_UNHEARD = (
    "It cleans up, or is in a call that cannot be interrupted (of code in C, say): "
    "ray.cancel(ref, force=True) ends its process."
)


class Cancels:
    """Of an owner's tasks and calls that have been sent."""

    def __init__(self, runtime: OwnerRuntime) -> None:
        self._runtime = runtime

    def cancel_task(self, record: TaskRecord, link: Link, *, force: bool, recursive: bool, again: bool) -> None:
        """Cancel a task that was pushed to a worker."""
        link.peer.send(wire.Cancel(record.id, recursive, again))
        if force:
            reason = "its task was cancelled by force"
            self._later(FORCE_AFTER_S, record, link, lambda: node.KillLease(link.lease, record.id, reason))
        else:
            self._later(BUSY_S, record, link, lambda: node.Interrupt(record.id, lease=link.lease))
            self._warn_later(record, link, _UNHEARD)

    def cancel_call(self, record: TaskRecord, client: ActorClient, *, recursive: bool, again: bool) -> None:
        """Cancel a call that was sent to an actor."""
        if client.peer is None:
            return
        client.peer.send(wire.Cancel(record.id, recursive, again))
        if not client.concurrent:
            self._later(BUSY_S, record, client, lambda: node.Interrupt(record.id, actor=client.actor_id))

    def _later(self, delay_s: float, record: TaskRecord, place: Link | ActorClient, message: Any) -> None:
        def send() -> None:
            if place.inflight.get(record.id) is record:
                self._runtime.node.send(message())

        self._runtime.timers.after(delay_s, send)
        self._runtime.transport.wake()

    def _warn_later(self, record: TaskRecord, link: Link, advice: str) -> None:
        def warn() -> None:
            if link.inflight.get(record.id) is record and not (record.done or record.warned):
                record.warned = True
                _log.warning("%s was cancelled and still runs after %g s. %s", record.name, WARN_S, advice)

        if not record.warned:
            self._runtime.timers.after(WARN_S, warn)

    def overdue(self, message: node.Overdue) -> None:
        """A task is over its time, and its worker too busy to say so: the node manager is about to end that."""
        record = self._find(message.task)
        if record is None or record.done or record.cancelled or all(e.status != PENDING for e in record.entries):
            return
        if record.retries and _is_retried(record):
            return  # it is, when its worker has ended
        error = TaskTimeoutError(record.name, record.timeout_s or 0.0)
        self._runtime.fail(record, self._runtime.failures.envelope(error, record.name, record.id, record.attempt))

    def _find(self, task: bytes) -> TaskRecord | None:
        links, clients = self._runtime.tasks.links.values(), self._runtime.calls.clients.values()
        inflights = (*(link.inflight for link in links), *(client.inflight for client in clients))
        return next((inflight[task] for inflight in inflights if task in inflight), None)


def _is_retried(record: TaskRecord) -> bool:
    """Whether the user wants it run again when it has taken too long."""
    wanted = record.options.retry_exceptions if record.options is not None else False
    return wanted is True or (isinstance(wanted, tuple) and issubclass(TaskTimeoutError, wanted))
