"""What a simulated process says of calls and objects that fail; stands for ``ray.runtime.owner.reports.Reports``."""

from __future__ import annotations

from ray.exceptions import ObjectLostError, RayError
from ray.messages.node import ActorUpdate, ExitCause
from ray.protocol.call_records import Callee
from ray.protocol.fates import UNSTARTED
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.records import TaskRecord
from ray.testing.simulated_world import World


class SimulatedReports:
    """Envelopes of errors are words here; what they say of calls and objects is checked."""

    def __init__(self, world: World) -> None:
        self._world = world

    def envelope(self, error: RayError, name: str, task_id: bytes, attempt: int) -> bytes:
        """An error. An object is not lost while somebody holds it, whatever the holder does with it."""
        unheld = type(error) is ObjectLostError and not self._world.connections.broken
        self._world.check(not unheld, f"an object that is held is gone: {error}")
        return type(error).__name__.encode()

    def actor_dead(
        self,
        record: TaskRecord,
        callee: Callee[TaskRecord],
        fate: str,
        cause: ExitCause | None,
        error: bytes,
        *,
        restarts: bool,
        lives: bool,
    ) -> bytes:
        """A call has ended with its actor."""
        # A process that ends by plan says that it has answered all: what has become of its answers it does not know.
        answered = cause is not None and not any(cause.running) and self._world.connections.broken > 0
        if fate is UNSTARTED and not answered:
            self._world.did_not_start(record.id, record.attempt)
        return fate.encode()

    def crashed(self, record: TaskRecord, cause: ExitCause) -> bytes:
        """A worker has died."""
        return b"crashed"

    def cancelled(self, record: TaskRecord, doubt: str = "") -> bytes:
        """It was cancelled."""
        return b"cancelled"

    def note(self, record: TaskRecord, envelope: bytes, cause: ObjectEntry | None = None) -> None:
        """A call has failed."""

    def note_start(self, callee: Callee[TaskRecord], envelope: bytes, *, asked: bool) -> None:
        """The ``__init__`` of an actor has raised."""

    def retrieved(self, entry: ObjectEntry) -> None:
        """A failure is asked for."""

    def dies_again(self, record: TaskRecord, cause: ExitCause) -> None:
        """A worker has died, and the task runs once more."""

    def restarts(self, callee: Callee[TaskRecord], update: ActorUpdate) -> None:
        """An actor has died, and is started once more."""
