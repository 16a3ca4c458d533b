"""Objects of local mode: values as copies in the serializer's form, freed when their last reference goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.exceptions import ObjectLostError, RayConnectionError, RayError
from ray.ids import make_task_ids, object_id
from ray.protocol.references import FAILED, PENDING, READY, ObjectEntry, ReferenceTable
from ray.runtime import interface
from ray.runtime.local.streams import LocalStream
from ray.runtime.owner.reports import print_failure
from ray.runtime.owner.unreadable import raise_unreadable, raise_unreadable_value
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import Listener, Ref
from ray.serialization import (
    Serialized,
    deserialize_aligned,
    deserialize_copy,
    open_envelope,
    register_reducer,
    serialize,
    serialize_args,
)

if TYPE_CHECKING:
    pass

Packed = tuple[bytes, list[ObjectRef[Any]]]
"""Arguments as a copy, and the refs inside, kept as long as the copy."""


@dataclass(slots=True)
class Unread:
    """A failure that is printed when all objects that have it are gone, unless it was asked for."""

    text: str
    objects: int


class LocalObjects:
    """The part of the local runtime that holds objects. Safe from several threads.

    Values are freed at the next call after their last reference has gone: there is no thread that could do it sooner.
    """

    def __init__(self) -> None:
        self._table = ReferenceTable()
        self._lock = threading.RLock()
        self._next_task_id = make_task_ids()
        #: Refs that left through a pickle of the user's own, and detached actors: kept to the end.
        self._kept: list[Any] = []
        #: {id of an object that has failed: what to print of it}
        self._unread: dict[bytes, Unread] = {}
        register_reducer(ObjectRef, _reduce_ref)

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a copy."""
        packed = serialize(value)
        with self._lock:
            entry = self._table.own(object_id(self._next_task_id()))
            self._set(entry, packed)
            ref: ObjectRef[Any] = ObjectRef(entry)
        self._collect()
        return ref

    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None, copy: bool = False) -> list[Any]:
        """The values; nothing is ever pending, so ``timeout_s`` has no effect."""
        try:
            return [self._value(ref, copy) for ref in refs]
        except RayError:
            self.asked_for(refs)
            raise

    def asked_for(self, refs: Sequence[CountedRef[Any]]) -> None:
        """See ``Runtime``."""
        for ref in refs:
            self._retrieved(ref._entry.id)

    def get_one(self, ref: CountedRef[Any], timeout_s: float | None, copy: bool = False) -> Any:
        """``get`` of one."""
        return self._value(ref, copy)

    def _value(self, ref: CountedRef[Any], copy: bool = False) -> Any:
        entry = self._own(ref)
        if entry.status == READY:
            try:
                return (deserialize_copy if copy else deserialize_aligned)(entry.value)
            except BaseException as error:
                raise_unreadable_value(error, entry)
        if entry.status == FAILED:
            self._retrieved(entry.id)
            raise open_envelope(entry.value)
        raise ObjectLostError(entry.id, "no task or put of this session has made it")

    def _own(self, ref: CountedRef[Any]) -> ObjectEntry:
        if ref._entry.table is not self._table:
            raise RayConnectionError(f"{ref!r} belongs to a session that has ended; make it again in this one.")
        return ref._entry

    def wait(self, refs: list[Ref], num_returns: int, timeout_s: float | None) -> tuple[list[Ref], list[Ref]]:
        """The first ready ones; at once, because nothing is ever pending."""
        ready = [ref for ref in refs if self._own(ref).status != PENDING][:num_returns]
        chosen = set(ready)
        return ready, [ref for ref in refs if ref not in chosen]

    def remembers(self, refs: list[ObjectRef[Any]]) -> bool:
        """Nothing is remembered here."""
        return False

    def knows(self, ref: CountedRef[Any]) -> bool:
        """See ``Runtime``."""
        return ref._entry.table is self._table

    def is_done(self, ref: CountedRef[Any]) -> bool:
        """See ``Runtime``: what comes next in a stream is made now; what else nobody has made will never be made."""
        stream = ref._entry.task
        if type(stream) is LocalStream:
            stream.go_on()
        return True

    def done_of(self, refs: Sequence[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        """See ``Runtime``."""
        return list(refs)

    def subscribe(self, listener: Listener) -> bool:
        """See ``Runtime``: nothing is ever pending."""
        return False

    def unsubscribe(self, listener: Listener) -> bool:
        """See ``Runtime``."""
        return False

    def on_disk(self, ref: CountedRef[Any]) -> None:
        """See ``Runtime``: there is no disk."""

    def check_blocking(self, call: str) -> None:
        """See ``Runtime``: nothing ever waits."""

    def wait_for_next(self, ref: CountedRef[Any]) -> None:
        """See ``Runtime``: nothing is ever pending."""

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        """See ``Runtime``."""
        wait(None)

    def check_force(self, ref: CountedRef[Any]) -> None:
        """See ``Runtime``: everything has ended."""

    def cancel(self, ref: CountedRef[Any], force: bool, recursive: bool, *, again: bool = False) -> None:
        """End the stream that the ref is to come from; any other task has ended."""
        stream = self._own(ref).task
        if type(stream) is LocalStream:
            stream.close()

    def reduce_ref(self, ref: CountedRef[Any], refs: list[Any] | None) -> tuple[Any, ...]:
        """See ``Runtime``."""
        self._own(ref)
        (self._kept if refs is None else refs).append(ref)
        return _find_ref, (ref._entry.id,)

    def find_entry(self, id: bytes) -> ObjectEntry:
        """See ``Runtime``."""
        with self._lock:
            return self._table.entries.get(id) or self._table.own(id)

    def _collect(self) -> None:
        """Free what nobody refers to any more."""
        streams = []
        while self._table.dropped:
            with self._lock:
                freed = list(self._table.collect())
            for entry in freed:
                self._table.drop_value(entry)
                if type(entry.task) is LocalStream:
                    streams.append(entry.task)
                self._freed(entry.id)
        for stream in streams:
            stream.close()

    def _close_streams(self) -> None:
        """The session ends."""
        for entry in list(self._table.entries.values()):
            if type(entry.task) is LocalStream:
                entry.task.close()

    def _freed(self, id: bytes) -> None:
        """An object has gone: a failure that nobody has asked for is printed."""
        self._tell(id)

    def _tell(self, id: bytes) -> None:
        unread = self._unread.pop(id, None)
        if unread is not None:
            unread.objects -= 1
            if unread.text and not unread.objects:
                print_failure(unread.text)

    def _retrieved(self, id: bytes) -> None:
        """A failure is raised to the user, or asked for."""
        unread = self._unread.pop(id, None)
        if unread is not None:
            unread.text = ""

    def _pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        """Copy arguments."""
        packed = serialize_args(args, kwargs)
        return packed.to_bytes(), packed.refs

    def _unpack(self, packed: Packed, call: str) -> tuple[list[Any], dict[str, Any]]:
        """The copy, with the values of top-level refs in their place; raises what made one of them fail."""
        try:
            args, kwargs = deserialize_aligned(packed[0])
        except BaseException as error:
            raise_unreadable(error, f"an argument of {call}")
        return (
            [self._value(value) if type(value) is ObjectRef else value for value in args],
            {name: self._value(value) if type(value) is ObjectRef else value for name, value in kwargs.items()},
        )

    def own_entry(self, id: bytes) -> ObjectEntry:
        """The entry of an object that is to be made."""
        with self._lock:
            return self._table.own(id)

    def fill(self, entries: list[ObjectEntry], packed: list[Serialized], name: str) -> None:
        """Objects are made, by the task of this name."""
        with self._lock:
            for entry, value in zip(entries, packed, strict=True):
                self._set(entry, value)
                entry.task = name

    def _set(self, entry: ObjectEntry, packed: Serialized) -> None:
        self._table.fill(entry, READY, packed.to_bytes())
        if packed.refs:
            self._table.set_contained(entry, [ref._entry for ref in packed.refs])


def _find_ref(id: bytes) -> ObjectRef[Any]:
    return ObjectRef(id)


def _reduce_ref(ref: ObjectRef[Any], refs: list[Any]) -> tuple[Any, ...]:
    runtime = interface.current()
    if runtime is None:
        raise RayConnectionError
    return runtime.reduce_ref(ref, refs)
