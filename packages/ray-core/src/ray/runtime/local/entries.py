"""The objects of local mode by their ids: made, failed, found, and kept for as long as the session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayConnectionError
from ray.ids import make_task_ids, object_id
from ray.protocol.references import FAILED, READY, ObjectEntry, ReferenceTable
from ray.runtime.owner.promises import Promise
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import Serialized


class Entries:
    """Of one session. Safe from several threads."""

    def __init__(self) -> None:
        self.table = ReferenceTable()
        self.lock = threading.RLock()
        self.next_task_id = make_task_ids()
        #: Refs that left through a pickle of the user's own, and detached actors: kept to the end.
        self.kept: list[Any] = []

    def own(self, id: bytes) -> ObjectEntry:
        """The entry of an object that is to be made."""
        with self.lock:
            return self.table.own(id)

    def find(self, id: bytes) -> ObjectEntry:
        """The entry of an id, known or not."""
        with self.lock:
            return self.table.entries.get(id) or self.table.own(id)

    def of(self, ref: CountedRef[Any]) -> ObjectEntry:
        """The entry of a ref.

        Raises:
            RayConnectionError: it belongs to another session.
        """
        if ref._entry.table is not self.table:
            raise RayConnectionError(f"{ref!r} belongs to a session that has ended; make it again in this one.")
        return ref._entry

    def make(self, packed: Serialized) -> ObjectRef[Any]:
        """A new object, of no task."""
        with self.lock:
            entry = self.table.own(object_id(self.next_task_id()))
            self._set(entry, packed)
            return ObjectRef(entry)

    def promise(self, unheld: Callable[[], None]) -> tuple[ObjectRef[None], Callable[[], None]]:
        """See ``Runtime``: nobody can wait for it."""
        with self.lock:
            entry = self.table.own(object_id(self.next_task_id()))
            promise = entry.task = Promise(entry, self.lock, unheld)
            return ObjectRef(entry), promise.keep

    def fill(self, entries: list[ObjectEntry], packed: list[Serialized], name: str) -> None:
        """Objects are made, by the task of this name."""
        with self.lock:
            for entry, value in zip(entries, packed, strict=True):
                self._set(entry, value)
                entry.task = name

    def fail(self, entries: list[ObjectEntry], blob: bytes) -> None:
        """Objects have failed."""
        with self.lock:
            for entry in entries:
                entry.table.fill(entry, FAILED, blob)

    def _set(self, entry: ObjectEntry, packed: Serialized) -> None:
        self.table.fill(entry, READY, packed.to_bytes())
        if packed.refs:
            self.table.set_contained(entry, [ref._entry for ref in packed.refs])
