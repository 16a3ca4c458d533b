"""A worker, as its node manager sees the process."""

from __future__ import annotations

from ray.abc.transport import Connection
from ray.protocol.run_slot import RunSlot
from ray.runtime.node.line_reader import LineReader
from ray.runtime.process.timers import Timer


class WorkerProcess:
    """One worker, from the request to fork it to its reaping."""

    __slots__ = (
        "address", "connection", "id", "job", "kill_reason", "lingers", "note", "pid", "readers", "ready", "slot",
        "stopped", "timer",
    )  # fmt: skip

    def __init__(self, id: bytes, readers: list[LineReader], slot: int, note: RunSlot, job: str = "") -> None:
        self.id = id
        #: Name of the job whose tasks and actors alone it serves.
        self.job = job
        #: The number of its place in the shared memory where workers note what they run, and that place.
        self.slot = slot
        self.note = note
        self.pid = 0
        self.ready = False
        #: It works no more, and ends when nobody needs its objects.
        self.lingers = False
        self.address = ""
        self.connection: Connection | None = None
        #: stdout and stderr
        self.readers = readers
        self.kill_reason = ""
        #: Ends it unless it starts, or ends when asked to, in time.
        self.timer: Timer | None = None
        #: Ends it unless it continues in time.
        self.stopped: Timer | None = None
