"""What a thread had no room for on its stack, or no memory: the thread that polls goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.protocol.call_records import Callee
from ray.protocol.task_records import Lease
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.outcomes import Outcomes


class Recovery:
    """What is left to the thread that polls."""

    def __init__(
        self, table: ReferenceTable, outcomes: Outcomes, wake: Callable[[], None], catch_up: Callable[[], None]
    ) -> None:
        """Make it.

        Args:
            table: of the process.
            outcomes: lets arguments go.
            wake: ends the sleep of the thread that polls.
            catch_up: does what interrupted code has begun, under the lock.
        """
        self._table = table
        self._outcomes = outcomes
        self._wake = wake
        self._catch_up = catch_up
        #: Something was left.
        self.due = False
        #: The tasks whose submission was cut short: (the last one, (the one before, …)), or None.
        self._torn: Any = None

    def leave(self) -> None:
        """This thread has begun something that it has no room for."""
        self.due = True
        self._wake()

    def cut_short(self, record: TaskRecord) -> None:
        """The submission of this one has failed in the middle."""
        self._torn = (record, self._torn)
        self.due = True

    def run(self) -> None:
        """Go on with what was left, and take back what was cut short; called under the lock."""
        self.due = False
        torn, self._torn = self._torn, None
        while torn is not None:
            record, torn = torn
            self._take_back(record)
        self._catch_up()

    def _take_back(self, record: TaskRecord) -> None:
        place = record.place
        if isinstance(place, (Lease, Callee)) and record.id in place.inflight:
            return  # it was sent, and ends as others do
        record.done = True
        if record.entries:
            self._outcomes.let_arguments_go(record)
            self._table.dropped.extend(record.entries)  # nobody may ever have held them
