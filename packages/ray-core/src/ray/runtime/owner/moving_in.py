"""Large results that have come from another node, on their way into the store of this one.

Most stay in the store of that node, see ``away``. These had no room there, or nobody may read that store: they come in
the memory of a message. Left there, each would be sent to every worker of this node that takes it as an
argument, and nothing would ever go to the disk. Measured with 256 MiB, on two cores that others used as well: one
more copy takes 5 to 15 % of the time that the value took to get here (0.1 of 2.4 s), and a worker of this node then
maps the memory (2 ms), which otherwise each is sent (1.0 s for the first, 2.1 s for two). With 1 MiB there is nothing
between the two, so what is smaller stays where it is.

Only what this process owns is moved. A borrowed value stays in the message's memory: its id begins with that of a
process of another node, of whose death the store here does not hear, and several processes of this node may have got
the same one, of which none could say when the others need it no more.

The object is complete when it is stored: its state changes once. Where there is no room for it, it stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.protocol.references import PENDING, READY, ObjectEntry
from ray.runtime.owner.arriving import Restoring
from ray.serialization import Serialized

if TYPE_CHECKING:
    from ray.runtime.owner.values import Values

#: From this size on they are moved.
MOVED_BYTES = 1 << 20


class MovingIn:
    """Moves them, on threads: the copy takes a while, and may have to wait for room."""

    def __init__(self, values: Values, lock: Any) -> None:
        """Make it.

        Args:
            values: in stores.
            lock: the runtime's.
        """
        self._values = values
        self._lock = lock
        # Not the threads that read: these may wait for room that readers make.
        self._threads = Restoring(values.stored_blob)

    def takes(self, data: Any) -> bool:
        """Whether this is worth it."""
        return len(data) >= MOVED_BYTES and self._values.shared

    def begin(self, entry: ObjectEntry, data: Any, task: str) -> None:
        """Have an object of this process completed with a value that the task has made; called under the lock."""
        entry.task = task
        self._threads.put(_Moved(lambda: self._move(entry, data, task)))

    def _move(self, entry: ObjectEntry, data: Any, task: str) -> None:
        """On a thread, without the lock."""
        values, stored = self._values, False
        try:
            if not entry.freed:
                values.store_result(entry.id, Serialized(data, []))
                stored = True
        except Exception:  # it is full, or lost: the next one who asks it is told why
            pass
        with self._lock:
            if entry.status == PENDING and not entry.freed:
                if stored:
                    entry.table.complete_stored(entry, len(data))
                else:
                    entry.table.complete(entry, READY, data)
                entry.task = task
            elif stored:
                values.discard([entry.id])


class _Moved:
    """One of them, as ``Wanted``: it is in memory already."""

    __slots__ = ("_move",)

    def __init__(self, move: Callable[[], None]) -> None:
        self._move = move

    def read(self, read: object) -> None:
        """See ``Wanted``."""
        self._move()
