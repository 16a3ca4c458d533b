"""``put`` of an owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.headroom import SENDING, check
from ray.ids import FIRST_RETURN
from ray.protocol.references import LARGE_BYTES, READY, ReferenceTable
from ray.runtime.owner.entries import entry_in
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import Serialized, serialize, serialize_small

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.host import Host
    from ray.runtime.owner.values import Values

#: More small objects than these do not wait for the thread that polls to be freed, where others are put.
MOST_DROPPED = 16


class Putting:
    """Makes objects of values."""

    def __init__(
        self, here: Here, host: Host, lock: Any, table: ReferenceTable, values: Values, next_id: Callable[[], bytes]
    ) -> None:
        self._here = here
        self._host = host
        self._lock = lock
        self._table = table
        self._values = values
        self._next_id = next_id

    def put(self, value: object) -> ObjectRef[Any]:
        """See ``Runtime``."""
        blob = serialize_small(value)
        if self._here.closed:
            self._host.check_open()
        if blob is None or len(blob) >= LARGE_BYTES:
            return self._put_large(serialize(value) if blob is None else Serialized(blob, []))
        if len(self._table.dropped) > MOST_DROPPED:  # else the thread that polls frees them
            with self._lock:
                self._host.collect()
        entry = self._table.put(self._next_id() + FIRST_RETURN, blob)
        ref: ObjectRef[Any] = ObjectRef(entry)
        if self._host.rests:
            self._host.wake_resting()
        return ref

    def _put_large(self, serialized: Serialized) -> ObjectRef[Any]:
        inner = [entry_in(self._table, ref) for ref in serialized.refs]
        check(SENDING)
        with self._lock:
            self._host.collect()
            entry = self._table.own(self._next_id() + FIRST_RETURN)
            if inner:
                self._table.set_contained(entry, inner)
        ref: ObjectRef[Any] = ObjectRef(entry)
        if self._host.rests:
            self._host.wake_resting()
        if serialized.nbytes < LARGE_BYTES:
            self._table.fill(entry, READY, serialized.to_bytes())
        else:
            self._values.store_value(entry, serialized)
        return ref
