"""``ObjectRef``: a handle on an object that may not exist yet."""

from __future__ import annotations

import os
from typing import Any, Generic, TypeVar

from ray.exceptions import RayConnectionError
from ray.ids import NIL_OBJECT_ID, OBJECT_ID_BYTES, task_of
from ray.protocol.references import ObjectEntry
from ray.runtime import interface

T_co = TypeVar("T_co", covariant=True)


class ObjectRef(Generic[T_co]):
    """A reference to an object: pass it to tasks, ``ray.get`` it, keep it to keep the object.

    Equality and hash are by id. Refs may be pickled inside arguments, results and ``ray.put`` values; the object then
    lives as long as any process holds it. Made by the runtime; the public constructor takes a 20-byte id.
    """

    __slots__ = ("__weakref__", "_entry")

    def __init__(self, entry: ObjectEntry | bytes) -> None:
        if type(entry) is not ObjectEntry:
            entry = _entry_of(entry)
        entry.local += 1
        self._entry = entry

    def __del__(self) -> None:
        try:
            entry = self._entry
        except AttributeError:  # the constructor refused its argument
            return
        entry.local -= 1
        if not entry.local:
            entry.table.dropped.append(entry)

    def binary(self) -> bytes:
        """The id: 20 bytes."""
        return self._entry.id

    def hex(self) -> str:
        """The id as 40 hexadecimal digits."""
        return self._entry.id.hex()

    def is_nil(self) -> bool:
        """Whether this is the id that stands for no object."""
        return self._entry.id == NIL_OBJECT_ID

    def task_id(self) -> bytes:
        """Id of the task that makes the object: 16 bytes."""
        return task_of(self._entry.id)

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """The id that stands for no object."""
        return ObjectRef(NIL_OBJECT_ID)

    @classmethod
    def from_random(cls) -> ObjectRef[Any]:
        """An id that no object has."""
        return ObjectRef(os.urandom(OBJECT_ID_BYTES))

    @staticmethod
    def size() -> int:
        """Length of an id in bytes."""
        return OBJECT_ID_BYTES

    def __hash__(self) -> int:
        return hash(self._entry.id)

    def __eq__(self, other: object) -> bool:
        if type(other) is not ObjectRef:
            return NotImplemented
        return self._entry is other._entry or self._entry.id == other._entry.id

    def __repr__(self) -> str:
        return f"ObjectRef({self._entry.id.hex()})"

    def __reduce__(self) -> Any:
        """Pickling outside arguments, results and ``put``: the object then lives until the session ends."""
        runtime = interface.current()
        if runtime is None or self._entry.table.closed:
            raise RayConnectionError("An ObjectRef can only be pickled while the session that made it is open.")
        return runtime.reduce_ref(self, None)


def _entry_of(id: object) -> ObjectEntry:
    if not isinstance(id, bytes):
        raise TypeError(f"ObjectRef takes the {OBJECT_ID_BYTES} bytes of an id, not {id!r}")
    if len(id) != OBJECT_ID_BYTES:
        raise ValueError(f"ID string needs to have length {OBJECT_ID_BYTES}, got {len(id)}")
    runtime = interface.current()
    if runtime is None:
        from ray.protocol.references import ReferenceTable

        return ObjectEntry(id, ReferenceTable())
    return runtime.find_entry(id)
