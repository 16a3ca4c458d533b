"""Ends of tasks on their way to the event sinks: batched, bounded, and nothing at all where the plan has no sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.messages import node
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.owner import OwnerRuntime

FLUSH_S = 0.5
MAX_ROWS = 10_000


class TaskEventLog:
    """Called under the runtime's lock."""

    def __init__(self, runtime: OwnerRuntime) -> None:
        self._runtime = runtime
        self.wanted = False
        self._rows: list[tuple[str, str, str, int, int]] = []
        self._dropped = 0
        self._armed = False

    def note(self, record: TaskRecord, state: str, duration_us: int) -> None:
        """A task has ended."""
        if len(self._rows) >= MAX_ROWS:
            self._dropped += 1
            return
        self._rows.append((record.id.hex(), record.name, state, duration_us, record.attempt))
        if not self._armed:
            self._armed = True
            self._runtime.timers.after(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Send what is there."""
        self._armed = False
        if self._rows:
            rows, self._rows = self._rows, []
            dropped, self._dropped = self._dropped, 0
            self._runtime.node.send(node.TaskEvents(rows, dropped))
