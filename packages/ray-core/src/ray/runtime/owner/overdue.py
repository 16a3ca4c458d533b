"""Tasks and calls over their time whose processes are too busy to say so.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ray.clock import monotonic
from ray.exceptions import RayError, TaskCancelledError, TaskTimeoutError
from ray.messages import node, wire
from ray.protocol.time_limits import END_S, TELL_S
from ray.runtime.owner.actor_client import ActorClient

if TYPE_CHECKING:
    from ray.protocol.call_records import Callee
    from ray.runtime.owner.records import Link, TaskRecord
    from ray.runtime.process.peers import Peer
    from ray.runtime.process.timers import Timers


class FailOverdue(Protocol):
    """Ends a task or call with an error; ``goes_on`` says whether it may run still."""

    def __call__(self, record: TaskRecord, error: RayError, *, goes_on: bool) -> None: ...


class Overdue:
    """The clock of an owner for what runs in others' processes.

    The node manager has one for what runs alone. Of processes that run several calls, it cannot see what they run: they
    say so to the owners of calls that have a limit.
    """

    def __init__(
        self,
        links: dict[bytes, Link],
        clients: dict[bytes, ActorClient],
        timers: Timers,
        pump: Callable[[Callee[TaskRecord]], None],
        fail: FailOverdue,
    ) -> None:
        """Make one.

        Args:
            links: {lease id: the leased worker}.
            clients: {actor id: the way to it}.
            timers: the runtime's.
            pump: sends what can go to an actor.
            fail: as it says.
        """
        self._links = links
        self._clients = clients
        self._timers = timers
        self._pump = pump
        self._fail = fail

    # --- calls that run beside others -------------------------------------------------------------------------------

    def began(self, peer: Peer, message: wire.Began) -> None:
        """A call with a limit has begun or ended, or is over its time in a process that is not too busy to notice."""
        client = peer.sink
        if not isinstance(client, ActorClient):
            return
        record = client.inflight.get(message.task)
        if record is None or not record.timeout_s:
            return
        callee = client.callee
        limits = callee.limits
        if message.ended:
            limits.pop(record.id, None)
            return
        if len(limits) > 2 * len(client.inflight) + 100:  # most have ended
            limits = callee.limits = {id: at for id, at in limits.items() if id in client.inflight}
        limits[record.id] = at = monotonic() + (END_S if message.over else record.timeout_s + TELL_S)
        if not callee.looks_at or at < callee.looks_at:
            self._look_at(callee, at)

    def _look_at(self, callee: Callee[TaskRecord], at: float) -> None:
        callee.looks_at = at
        self._timers.after(at - monotonic(), lambda: self._look(callee, at))

    def _look(self, callee: Callee[TaskRecord], at: float) -> None:
        if callee.looks_at != at:
            return  # it is looked at before that
        limits = callee.limits = {id: at for id, at in callee.limits.items() if id in callee.inflight}
        now = monotonic()
        for id in [id for id, at in limits.items() if at <= now]:
            del limits[id]
            self._tell(callee.inflight[id], goes_on=True)
        self._pump(callee)  # nothing waits any more for those
        callee.looks_at = 0.0
        if limits:
            self._look_at(callee, min(limits.values()))

    # --- what runs alone --------------------------------------------------------------------------------------------

    def told(self, message: node.Overdue) -> None:
        """The node manager is about to end the process of a task for that."""
        record = self._find(message.task)
        if record is not None and not (record.retries and _is_retried(record)):  # it is, when its worker has ended
            self._tell(record)

    def _tell(self, record: TaskRecord, *, goes_on: bool = False) -> None:
        if record.done or (record.cancelled and not goes_on):  # cancelled: that is what its end will be said to be
            return
        error: RayError = TaskTimeoutError(record.name, record.timeout_s or 0.0, goes_on)
        if record.cancelled:
            error = TaskCancelledError(record.name, record.id, "it goes on, as it could not be interrupted")
        self._fail(record, error, goes_on=goes_on)

    def _find(self, task: bytes) -> TaskRecord | None:
        links, clients = list(self._links.values()), list(self._clients.values())
        inflights = (*(link.inflight for link in links), *(client.inflight for client in clients))
        return next((inflight[task] for inflight in inflights if task in inflight), None)


def _is_retried(record: TaskRecord) -> bool:
    """Whether the user wants it run again when it has taken too long."""
    wanted = record.options.retry_exceptions if record.options is not None else False
    return wanted is True or (isinstance(wanted, tuple) and issubclass(TaskTimeoutError, wanted))
