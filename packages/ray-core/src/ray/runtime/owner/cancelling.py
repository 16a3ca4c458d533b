"""What ``ray.cancel`` asks for: of a task or call wherever it is, and of what it has submitted.

Methods are called under the runtime's lock, but for those of ``Runtime``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.headroom import SENDING, check
from ray.messages import wire
from ray.protocol.call_records import Callee
from ray.protocol.references import PENDING, ObjectEntry
from ray.protocol.task_records import Lease, SchedulingClass
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.entries import entry_in
from ray.runtime.owner.records import Link, TaskRecord

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.cancels import Cancels
    from ray.runtime.owner.leasing import Leasing
    from ray.runtime.refs.counted import CountedRef


class Cancelling:
    """Finds what is to be cancelled."""

    def __init__(
        self,
        lock: Any,
        table: ReferenceTable,
        borrowing: Borrowing,
        leasing: Leasing,
        calls: ActorCalls,
        cancels: Cancels,
    ) -> None:
        self._lock = lock
        self._table = table
        self._borrowing = borrowing
        self._leasing = leasing
        self._calls = calls
        self._cancels = cancels

    def check_force(self, ref: CountedRef[Any]) -> None:
        """See ``Runtime``."""
        entry = entry_in(self._table, ref)
        record = entry.task
        if entry.status == PENDING and isinstance(record, TaskRecord) and record.actor:
            raise ValueError(
                f"force=True is not supported for calls of actors, such as {record.name}: it would end all calls of "
                "the actor with its process. ray.kill(actor) does that; ray.cancel(ref) interrupts the call alone."
            )

    def cancel(self, ref: CountedRef[Any], force: bool, recursive: bool, *, again: bool = False) -> None:
        """See ``Runtime``."""
        entry = entry_in(self._table, ref)
        check(SENDING)
        with self._lock:
            self.cancel_entry(entry, force, recursive, again)

    def cancel_entry(self, entry: ObjectEntry, force: bool, recursive: bool, again: bool = False) -> None:
        """Cancel what makes the object, here or by its owner."""
        if entry.status != PENDING:
            return
        record = entry.task
        if entry.owner is not None:
            self._borrowing.send_to_owner(entry, wire.CancelMade(entry.id, force, recursive, again))
        elif isinstance(record, TaskRecord):
            self._cancel(record, force, recursive, again)

    def unwanted(self, entry: ObjectEntry) -> None:
        """Nobody holds the object that comes next in a stream: nobody wants it."""
        self.cancel_entry(entry, False, True)

    def cancel_children(self, parent: bytes) -> None:
        """Cancel what the task ``parent`` has submitted, also where it has dropped the refs."""
        leasing = self._leasing
        known = [entry.task for entry in self._table.entries.values() if isinstance(entry.task, TaskRecord)]
        for record in dict.fromkeys([*known, *leasing.tasks.tasks(), *self._calls.table.calls()]):
            if record.parent == parent and not record.done:
                self._cancel(record, force=False, recursive=True, again=False)

    def _cancel(self, record: TaskRecord, force: bool, recursive: bool, again: bool) -> None:
        place = record.place
        way: Link | ActorClient | None = None
        if isinstance(place, Lease):
            way = self._leasing.links.get(place.id)
        elif isinstance(place, Callee):
            way = self._calls.clients.get(place.actor_id)
        if way is None:
            self._leasing.cancel_unsent(record, place if isinstance(place, SchedulingClass) else None)
            return
        if force and isinstance(way, ActorClient):  # a borrower has asked for it, which could not know
            self._cancels.not_forced(record)
        record.retries = 0
        record.cancelled = True
        if isinstance(way, Link):
            self._cancels.cancel_task(record, way, force=force, recursive=recursive, again=again)
        elif record.id in way.inflight:
            self._cancels.cancel_call(record, way, recursive=recursive, again=again)
        else:
            self._calls.cancel_unsent(record, way.callee)
