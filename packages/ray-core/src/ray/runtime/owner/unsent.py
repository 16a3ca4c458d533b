"""Messages that cannot be encoded: what was to go with them fails, alone, and nothing is left of the attempt.

Options are checked at the call, so this is the last resort. Without it one such call would hold up all that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.exceptions import UnpicklableError
from ray.messages import codec, node, wire
from ray.runtime.owner.handed_refs import handed_over
from ray.runtime.owner.records import Link, SchedulingClass, TaskRecord
from ray.runtime.process.encoding import ADVICE

if TYPE_CHECKING:
    from ray.protocol.references import ObjectEntry
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.leasing import TaskSubmitter
    from ray.runtime.owner.owner import OwnerRuntime
    from ray.runtime.process.peers import Peer


class UnsentTasks:
    """Methods are called under the runtime's lock."""

    def __init__(self, runtime: OwnerRuntime, tasks: TaskSubmitter) -> None:
        self._runtime = runtime
        self._tasks = tasks

    def demand(self, cls: SchedulingClass) -> None:
        """Ask for workers. Where the question cannot be put, nobody can be asked for any of the tasks."""
        name = cls.queue[0].name if cls.queue else ""
        depth = self._runtime.depth
        try:
            self._runtime.node.send(node.Demand(cls.number, cls.resources, cls.demanded, depth, cls.priority, name))
        except UnpicklableError as error:
            cls.demanded = 0
            records = list(cls.queue)
            cls.queue.clear()
            for record in records:
                self._fail(record, error)
            self._tasks.pump(cls)

    def push(self, link: Link, tasks: Sequence[wire.Task], error: UnpicklableError) -> None:
        """A push to a worker was not sent: those at fault fail, and the others go first next time."""
        cls = link.cls
        self._tasks.requeue(self._sort_out(link.inflight, tasks, link.peer, error))
        self._runtime.timers.after(0.0, lambda: self._tasks.pump(cls))  # not from within the loop of a pump

    def calls(self, client: ActorClient, tasks: Sequence[wire.Task], peer: Peer, error: UnpicklableError) -> None:
        """The same for a push to an actor."""
        client.queue.extendleft(reversed(self._sort_out(client.inflight, tasks, peer, error)))
        self._runtime.timers.after(0.0, lambda: self._runtime.calls.pump(client))

    def withdraw(
        self, link: Link, record: TaskRecord, error: UnpicklableError, pushed: dict[bytes, ObjectEntry]
    ) -> None:
        """One that was about to be pushed fails, and nobody relies on its values; it is with the worker no more."""
        link.inflight.pop(record.id, None)
        link.batch.pop(record.id, None)
        for _, entry in record.deps:
            pushed.pop(entry.id, None)
        self._undo(record, link.peer)
        self._fail(record, error)

    def _sort_out(
        self, inflight: dict[bytes, TaskRecord], tasks: Sequence[wire.Task], peer: Peer, error: UnpicklableError
    ) -> list[TaskRecord]:
        """Take all back, fail those that cannot be encoded, or all if each can; returns the others."""
        bad = {task.id for task in tasks if not _can_be_sent(task)} or {task.id for task in tasks}
        records = [record for task in tasks if (record := inflight.pop(task.id, None)) is not None]
        for record in records:
            self._undo(record, peer)
        for record in records:
            if record.id in bad:
                self._fail(record, error)
        return [record for record in records if not record.done]

    def _undo(self, record: TaskRecord, peer: Peer) -> None:
        """The receiver has got neither the refs in the arguments nor the values that it would have kept."""
        objects = self._runtime.objects
        if objects.borrows:
            for entry in handed_over(record, peer.address):
                objects.send_to_owner(entry, wire.Credit(entry.id, peer.address, -1))
        for _, entry in record.deps:
            if entry.id in peer.kept:
                peer.drop_kept(entry.id)

    def _fail(self, record: TaskRecord, error: UnpicklableError) -> None:
        if record.done:
            self._runtime.let_arguments_go(record)
            return
        told: Any = UnpicklableError(f"the call of {record.name}", error.reason, ADVICE)
        told.__cause__ = error.__cause__
        envelope = self._runtime.failures.envelope(told, record.name, record.id, record.attempt)
        self._runtime.fail(record, envelope)


def _can_be_sent(task: wire.Task) -> bool:
    try:
        codec.encode(task)
    except codec.UNENCODABLE:
        return False
    return True
