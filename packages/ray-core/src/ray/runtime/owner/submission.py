"""Tasks and calls from submission to completion."""

from __future__ import annotations

import functools
from typing import Any

from ray.exceptions import ObjectLostError, RayError
from ray.headroom import SENDING, check
from ray.ids import FIRST_RETURN
from ray.messages import codec, node, wire
from ray.protocol.references import FAILED, PENDING, READY, ObjectEntry
from ray.runtime.interface import STREAMING, FunctionDescriptor, TaskOptions
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.exports import export_of
from ray.runtime.owner.here import OwnerBase
from ray.runtime.owner.records import TaskRecord, return_ids
from ray.runtime.owner.unreadable import FINALISED
from ray.runtime.process.peers import Peer
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import EMPTY_ARGS, Serialized, args_blob, serialize_args

#: Values from this size on live in the store rather than beside their entry.
LARGE_BYTES = 100 * 1024


def _ids(record: TaskRecord) -> list[bytes]:
    return [entry.id for entry in record.entries]


class Submission(OwnerBase):
    """The submitting half of an owner."""

    def submit_task(
        self, function: FunctionDescriptor, options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        export = function.export
        if export is None or export.runtime is not self:
            self._check_open()
            export = export_of(function, self)
        elif export.captured is not None:
            export.captured.look()
        record = self._record(export.name, options.num_returns, options.max_retries, options.timeout_s, args, kwargs)
        record.export = export
        with self.lock:
            place = export.place
            if place is None or place[0] is not options:
                place = export.place = self.tasks.classes.find(options, self.depth)
            record.link = place[1]
            if not place[2]:
                record.options = options
                if options.name:
                    record.name = record.label = options.name
            try:
                refs = self._register(record)
                if not record.deps or self._dependencies_ready(record):
                    self.tasks.enqueue(record)
            except BaseException:  # hardly any call would succeed here: there is no room left for calls, or no memory
                self.torn = (record, self.torn)
                self.behind = True
                raise
        return refs

    def take_back(self, record: TaskRecord) -> None:
        link = record.link
        if getattr(link, "inflight", None) and record.id in link.inflight:
            return  # it was sent, and ends as others do
        record.done = True
        if record.entries:
            self.let_arguments_go(record)
            self.table.dropped.extend(record.entries)  # nobody may ever have held them

    def _record(
        self, name: str, num_returns: int, retries: int, timeout_s: float | None, args: Any, kwargs: Any
    ) -> TaskRecord:
        """A new record with its arguments encoded; nothing is registered yet."""
        if not args and not kwargs:
            return TaskRecord(self._next_id(), name, EMPTY_ARGS, num_returns, retries, timeout_s)
        blob = args_blob(args, kwargs)
        if blob is not None and len(blob) < LARGE_BYTES:
            return TaskRecord(self._next_id(), name, blob, num_returns, retries, timeout_s)
        deps: list[tuple[int | str, ObjectEntry]] = []
        if ObjectRef in map(type, args):
            args = list(args)
            for index, value in enumerate(args):
                if type(value) is ObjectRef:
                    deps.append((index, self._own_entry(value)))
                    args[index] = None
            args = tuple(args)
        if kwargs and ObjectRef in map(type, kwargs.values()):
            kwargs = dict(kwargs)
            for key, value in kwargs.items():
                if type(value) is ObjectRef:
                    deps.append((str.__str__(key), self._own_entry(value)))
                    kwargs[key] = None
        blob = args_blob(args, kwargs)
        inner: tuple[ObjectEntry, ...] = ()
        stored: ObjectEntry | None = None
        if blob is None or len(blob) >= LARGE_BYTES:
            serialized = serialize_args(args, kwargs) if blob is None else Serialized(blob, [])
            blob = None
            inner = tuple(self._own_entry(ref) for ref in serialized.refs)
            if self.objects.shared and serialized.nbytes >= LARGE_BYTES:
                check(SENDING)
                stored = self.table.own(self._next_id() + FIRST_RETURN)
                self.objects.store_value(stored, serialized)
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

    def _register(self, record: TaskRecord) -> Any:
        """Make the returns' entries and refs; called under the lock."""
        table = self.table
        if self.closed:
            self._check_open()
        if self.is_worker:
            record.parent = self.parent_task_id()
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
            return self.register_stream(record)
        entries = []
        for id in return_ids(record.id, record.num_returns):
            entry = table.own(id)
            entry.task = record
            entries.append(entry)
        if record.pins:
            table.pin(record.pins)
        record.entries = tuple(entries)
        return [ObjectRef(entry) for entry in entries] or None

    def _dependencies_ready(self, record: TaskRecord) -> bool:
        """Whether all arguments are there; if not, the record goes on when they are, or fails with the first."""
        pending = []
        for _, entry in record.deps:
            if entry.freed:
                error = ObjectLostError(entry.id, FINALISED)
                self.fail(record, self.failures.envelope(error, record.name, record.id, 0))
                return False
            if entry.status == FAILED:
                check(SENDING)
                self.fail(record, entry.value, cause=entry)
                return False
            if entry.status == PENDING:
                pending.append(entry)
        if not pending:
            return True
        record.waiting = len(pending)
        on_ready = functools.partial(self._dependency_ready, record)
        for entry in pending:
            if entry.call_when_done(on_ready):
                self.objects.want(entry)  # may fail it at once
            else:
                on_ready(entry)
        return False

    def _dependency_ready(self, record: TaskRecord, entry: ObjectEntry) -> None:
        record.waiting -= 1
        if record.done:
            return
        if entry.status == FAILED:
            self.chains.fails(record, entry)
        elif record.waiting:
            return
        elif not record.actor:
            self.tasks.enqueue(record, has_room=True)  # whoever takes messages has
        elif isinstance(record.link, ActorClient):
            self.calls.pump(record.link)

    def finish(self, record: TaskRecord, done: wire.Done, frames: Any, peer: Peer | None) -> bool:
        """A worker reports the end of a task. Returns True if it is to be retried."""
        if done.kept and peer is not None:
            self.objects.grant_kept(record, done.kept, peer.address)
        if record.export is not None:
            record.export.observe(done.duration_us)
        if record.done:
            self.let_arguments_go(record)
            self.objects.drop_refs(ref for refs in done.refs for ref in refs)
            self.objects.discard(id for id, data in zip(_ids(record), done.values, strict=False) if data is None)
            return False
        values = done.values
        if not done.ok:
            if done.retry and record.retries and not record.cancelled:
                return True
            data = values[0]
            if record.attempt:
                self.objects.discard(_ids(record))
            self.fail(record, codec.detach(data or b"", frames))
            return False
        record.done = True
        for index, entry in enumerate(record.entries):
            data = values[index]
            if type(data) is int:
                data = frames[data]
            if done.refs:
                self.objects.receive_refs(entry, done.refs[index], credits=1)
            if data is None:
                self.objects.stored(entry, done.sizes[index])
            else:
                self.table.complete(entry, READY, data)
            entry.task = record.name  # for the error of a value that cannot be unpickled
        if record.attempt:  # an earlier one may have stored results, and died before it could say so
            self.objects.discard(id for id, data in zip(_ids(record), values, strict=False) if data is not None)
        if record.pins:
            self.let_arguments_go(record)
        if self.events.wanted:
            self.events.note(record, "finished", done.duration_us)
        return False

    def fail(
        self, record: TaskRecord, envelope: bytes, *, goes_on: bool = False, cause: ObjectEntry | None = None
    ) -> None:
        """End a task with an error.

        Args:
            record: of the task.
            envelope: the error.
            goes_on: it may run, and use its arguments, until its process says it ended.
            cause: the argument whose failure it is.
        """
        record.done = True
        # Before anybody is woken who may get it, and so make printing needless.
        self.failures.note(record, envelope, cause)
        for entry in record.entries:
            self.table.complete(entry, FAILED, envelope)
        if not goes_on:
            self.let_arguments_go(record)
        if self.events.wanted:
            self.events.note(record, "failed", 0)

    def let_arguments_go(self, record: TaskRecord) -> None:
        """Nobody needs them any more for this task."""
        if record.pins:
            self.table.unpin(record.pins)
            record.pins = ()

    def fail_crashed(self, record: TaskRecord, cause: node.ExitCause) -> None:
        """Its worker died and there is no retry left."""
        self.objects.discard(_ids(record))
        self.fail(record, self.failures.crashed(record, cause))

    def fail_cancelled(self, record: TaskRecord, doubt: str = "") -> None:
        """It was cancelled before it started, or by force; ``doubt``: what is not known about that."""
        self.objects.discard(_ids(record))
        self.fail(record, self.failures.cancelled(record, doubt))

    def fail_overdue(self, record: TaskRecord, error: RayError, *, goes_on: bool) -> None:
        """Its time is over; it may run still."""
        self.fail(record, self.failures.envelope(error, record.name, record.id, record.attempt), goes_on=goes_on)

    def fail_unreached(self, record: TaskRecord, error: RayError) -> None:
        """This process cannot reach anybody who would run it."""
        self.objects.discard(_ids(record))
        self.fail(record, self.failures.envelope(error, record.name, record.id, record.attempt))

    def fail_actor(
        self,
        record: TaskRecord,
        client: ActorClient,
        fate: str,
        cause: node.ExitCause | None = None,
        error: bytes = b"",
        *,
        restarts: bool = False,
        lives: bool = False,
    ) -> None:
        """Its actor is dead, or was at the time, or only the connection is lost; ``fate``: what became of the call."""
        self.objects.discard(_ids(record))
        cause, error = cause or client.cause, error or client.error
        self.fail(record, self.failures.actor_dead(record, client, fate, cause, error, restarts=restarts, lives=lives))
