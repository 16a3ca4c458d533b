"""Tasks that fail with an argument of theirs, and those that wait for them in turn.

A chain of such tasks may be longer than the stack is deep: they fail one after the other, not one inside the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ray.protocol.call_records import Callee
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.serialization.blob import Blob


class FailTask(Protocol):
    """Ends a task with the failure of its argument."""

    def __call__(self, record: TaskRecord, envelope: Blob, *, cause: ObjectEntry) -> None: ...


class FailedChains:
    """Called under the runtime's lock."""

    def __init__(
        self, rests: list[Callable[[], None]], fail: FailTask, pump: Callable[[Callee[TaskRecord]], None]
    ) -> None:
        """Make one.

        Args:
            rests: what goes on with what was interrupted; see ``Reader``.
            fail: as it says.
            pump: sends what can go to an actor.
        """
        self._rests = rests
        self._fail = fail
        self._pump = pump
        #: What is to fail next, and with which argument.
        self._next: deque[tuple[TaskRecord, ObjectEntry]] = deque()

    def fails(self, record: TaskRecord, argument: ObjectEntry) -> None:
        """``argument`` of the task has failed: so does the task, now or as soon as those before it have."""
        self._next.append((record, argument))
        rests = self._rests
        if self._go_on in rests:
            return
        rests.append(self._go_on)  # a call that interrupts this goes on with the rest of them
        try:
            self._go_on()
        finally:
            rests.remove(self._go_on)

    def _go_on(self) -> None:
        while True:
            if not self._next:  # not in the loop's head: a call that interrupts this may come behind that
                break
            record, argument = self._next.popleft()
            if not record.done:
                self._fail(record, argument.failure(), cause=argument)
            if record.actor and isinstance(record.place, Callee):
                self._pump(record.place)
