"""Tasks and calls that wait for their arguments. Every method is called under the runtime's lock."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ray.exceptions import ObjectLostError
from ray.headroom import SENDING, check
from ray.protocol.call_records import Callee
from ray.protocol.references import FAILED, PENDING, ObjectEntry
from ray.protocol.task_records import SchedulingClass
from ray.runtime.owner.records import TaskRecord
from ray.runtime.owner.unreadable import FINALISED

if TYPE_CHECKING:
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.failed_chains import FailedChains
    from ray.runtime.owner.leasing import Leasing
    from ray.runtime.owner.locality import Locality
    from ray.runtime.owner.outcomes import Outcomes


class Dependencies:
    """Goes on with a task when its arguments are there."""

    def __init__(
        self,
        borrowing: Borrowing,
        outcomes: Outcomes,
        chains: FailedChains,
        leasing: Leasing,
        calls: ActorCalls,
        locality: Locality,
    ) -> None:
        self._borrowing = borrowing
        self._outcomes = outcomes
        self._chains = chains
        self._leasing = leasing
        self._calls = calls
        #: The class for a task whose arguments are all there.
        self.nearest = locality.nearest

    def are_ready(self, record: TaskRecord) -> bool:
        """Whether all arguments are there; if not, the record goes on when they are, or fails with the first."""
        pending = []
        for _, entry in record.deps:
            if entry.freed:
                self._outcomes.refused(record, ObjectLostError(entry.id, FINALISED))
                return False
            if entry.status == FAILED:
                check(SENDING)
                self._outcomes.fail(record, entry.failure(), cause=entry)
                return False
            if entry.status == PENDING:
                pending.append(entry)
        if not pending:
            return True
        record.waiting = len(pending)
        on_ready = functools.partial(self._one_is_ready, record)
        for entry in pending:
            if entry.call_when_done(on_ready):
                self._borrowing.want(entry)  # may fail it at once
            else:
                on_ready(entry)
        return False

    def _one_is_ready(self, record: TaskRecord, entry: ObjectEntry) -> None:
        record.waiting -= 1
        if record.done:
            return
        if entry.status == FAILED:
            self._chains.fails(record, entry)
        elif record.waiting:
            return
        elif isinstance(place := record.place, SchedulingClass):
            place = self.nearest(place, record)
            self._leasing.enqueue(place, record, has_room=True)  # the thread that takes messages has
        elif isinstance(place, Callee):
            self._calls.pump(place)
