"""Objects that this process completes itself, when it likes: others wait for them, or show by them that they live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.headroom import SENDING, check
from ray.ids import FIRST_RETURN
from ray.protocol.references import PENDING, READY, Maker, ObjectEntry
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import serialize_small

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.host import Host

#: What a promise is worth when it is kept.
_NONE = serialize_small(None)


class Promise(Maker):
    """An object that is pending until ``keep``; its value is None. Holds no reference to it: those who wait do."""

    __slots__ = ("_entry", "_lock", "unheld")

    def __init__(self, entry: ObjectEntry, lock: Any, unheld: Callable[[], None]) -> None:
        self._entry = entry
        self._lock = lock
        #: Called once, under the runtime's lock, when no process holds the object any more, kept or not.
        self.unheld = unheld

    def keep(self) -> None:
        """Complete the object; no effect if that was done, or if nobody holds it any more."""
        check(SENDING)
        entry = self._entry
        with self._lock:
            if entry.status == PENDING and not entry.freed:
                entry.table.complete(entry, READY, _NONE)
                entry.task = self  # it is still to be told when nobody holds it


class Promises:
    """Makes them."""

    def __init__(self, host: Host, lock: Any, table: ReferenceTable, next_id: Callable[[], bytes]) -> None:
        self._host = host
        self._lock = lock
        self._table = table
        self._next_id = next_id

    def promise(self, unheld: Callable[[], None]) -> tuple[ObjectRef[None], Callable[[], None]]:
        """See ``Runtime``."""
        self._host.check_open()
        check(SENDING)
        with self._lock:
            entry = self._table.own(self._next_id() + FIRST_RETURN)
            promise = entry.task = Promise(entry, self._lock, unheld)
            ref: ObjectRef[None] = ObjectRef(entry)
        return ref, promise.keep
