"""Ends of tasks on their way to the event sinks: batched, bounded, and nothing at all where the plan has no sink."""

from __future__ import annotations

from collections.abc import Callable

from ray.messages import node
from ray.runtime.owner.records import TaskRecord
from ray.runtime.process.timers import Timers

FLUSH_S = 0.5
MAX_ROWS = 10_000


class TaskEventLog:
    """Called under the runtime's lock."""

    def __init__(self, timers: Timers, tell_node: Callable[[node.TaskEvents], None]) -> None:
        self._timers = timers
        self._tell_node = tell_node
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
            self._timers.after(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Send what is there."""
        self._armed = False
        if self._rows:
            rows, self._rows = self._rows, []
            dropped, self._dropped = self._dropped, 0
            self._tell_node(node.TaskEvents(rows, dropped))
