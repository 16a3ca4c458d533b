"""Calls as records: arguments encoded, refs among them found, and returns registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.headroom import SENDING, check
from ray.ids import FIRST_RETURN
from ray.protocol.references import LARGE_BYTES, ObjectEntry, ReferenceTable
from ray.runtime.interface import STREAMING
from ray.runtime.owner.entries import entry_in
from ray.runtime.owner.records import TaskRecord, return_ids
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import EMPTY_ARGS, Serialized, args_blob, serialize_args

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.host import Host
    from ray.runtime.owner.streams import Streams
    from ray.runtime.owner.values import Values


class Recording:
    """Makes the records of an owner's tasks and calls."""

    def __init__(
        self,
        here: Here,
        host: Host,
        table: ReferenceTable,
        values: Values,
        streams: Streams,
        next_id: Callable[[], bytes],
        *,
        nested: bool,
    ) -> None:
        """Make it.

        Args:
            here: this process.
            host: as it says.
            table: of the process.
            values: in stores.
            streams: of results that come one by one.
            next_id: makes task ids.
            nested: whether the calls are made by tasks.
        """
        self._here = here
        self._host = host
        self._table = table
        self._values = values
        self._streams = streams
        self._next_id = next_id
        self._nested = nested

    def record(
        self, name: str, num_returns: int, retries: int, timeout_s: float | None, args: Any, kwargs: Any
    ) -> TaskRecord:
        """A new record with its arguments encoded; nothing is registered yet."""
        if not args and not kwargs:
            return TaskRecord(self._next_id(), name, EMPTY_ARGS, num_returns, retries, timeout_s)
        blob = args_blob(args, kwargs)
        if blob is not None and len(blob) < LARGE_BYTES:
            return TaskRecord(self._next_id(), name, blob, num_returns, retries, timeout_s)
        table = self._table
        deps: list[tuple[int | str, ObjectEntry]] = []
        if ObjectRef in map(type, args):
            args = list(args)
            for index, value in enumerate(args):
                if type(value) is ObjectRef:
                    deps.append((index, entry_in(table, value)))
                    args[index] = None
            args = tuple(args)
        if kwargs and ObjectRef in map(type, kwargs.values()):
            kwargs = dict(kwargs)
            for key, value in kwargs.items():
                if type(value) is ObjectRef:
                    deps.append((str.__str__(key), entry_in(table, value)))
                    kwargs[key] = None
        blob = args_blob(args, kwargs)
        inner: tuple[ObjectEntry, ...] = ()
        stored: ObjectEntry | None = None
        if blob is None or len(blob) >= LARGE_BYTES:
            serialized = serialize_args(args, kwargs) if blob is None else Serialized(blob, [])
            blob = None
            inner = tuple(entry_in(table, ref) for ref in serialized.refs)
            if self._values.shared and serialized.nbytes >= LARGE_BYTES:
                check(SENDING)
                stored = table.own(self._next_id() + FIRST_RETURN)
                self._values.store_value(stored, serialized)
            else:
                blob = serialized.to_bytes()
        record = TaskRecord(self._next_id(), name, blob or b"", num_returns, retries, timeout_s)
        record.deps = deps
        record.refs = inner
        record.pins = (*(entry for _, entry in deps), *inner)
        if stored is not None:
            record.stored = stored.id
            record.pins += (stored,)
        return record

    def new_object_id(self) -> bytes:
        """For an object that no task makes."""
        return self._next_id() + FIRST_RETURN

    def keep_arguments(self, record: TaskRecord) -> None:
        """Large arguments are fetched by an actor: the node manager, which passes on the rest, must not be held up."""
        entry = self._table.put(self._next_id() + FIRST_RETURN, record.args)
        record.args, record.stored = b"", entry.id
        record.pins += (entry,)

    def register(self, record: TaskRecord) -> Any:
        """Make the returns' entries and refs; called under the lock."""
        table = self._table
        if self._here.closed:
            self._host.check_open()
        if self._nested:
            record.parent = self._host.parent_task_id()
        # Where there is no room left for calls, the first one fails: the entry is made before anything is held for it.
        if record.num_returns == 1:
            entry = table.own(record.id + FIRST_RETURN)
            entry.task = record
            if record.pins:
                table.pin(record.pins)
            record.entries = (entry,)
            return ObjectRef(entry)
        if record.num_returns == STREAMING:
            check(SENDING)
            table.pin(record.pins)
            return self._streams.register(record)
        entries = []
        for id in return_ids(record.id, record.num_returns):
            entry = table.own(id)
            entry.task = record
            entries.append(entry)
        if record.pins:
            table.pin(record.pins)
        record.entries = tuple(entries)
        return [ObjectRef(entry) for entry in entries] or None
