"""One simulated task: what the table of tasks has to know of it, and what a run has to check."""

from __future__ import annotations

from ray.protocol.references import ObjectEntry
from ray.protocol.run_time import RunTime


class SimulatedFunction:
    """What tasks run, as far as the table of tasks is concerned."""

    def __init__(self) -> None:
        self.time = RunTime()


class SimulatedTask:
    """Satisfies ``ray.protocol.task_records.Task``."""

    __slots__ = ("alone", "attempt", "cancelled", "done", "export", "id", "outcome", "place", "result", "retries")

    def __init__(self, id: bytes, export: SimulatedFunction, result: ObjectEntry, retries: int) -> None:
        self.id = id
        self.export: SimulatedFunction | None = export
        #: The object that the task makes.
        self.result = result
        self.retries = retries
        self.attempt = 0
        self.alone = self.cancelled = self.done = False
        self.place: object = None
        #: How it has ended; empty before that.
        self.outcome = ""
