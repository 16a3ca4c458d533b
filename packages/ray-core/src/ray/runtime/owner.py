"""The owner: what every process that submits work is. Drivers and workers build on it.

State is guarded by one re-entrant lock, held only for short, non-blocking stretches: by the calling thread while it
submits, and by the reader thread while it takes a batch of messages.
"""

from __future__ import annotations

import functools
import threading
from abc import abstractmethod
from typing import Any

from ray.abc.store import Store
from ray.abc.transport import Transport
from ray.exceptions import NodeDiedError, RayConnectionError, RayError
from ray.ids import FIRST_RETURN, make_task_ids
from ray.messages import node, wire
from ray.plugins.compose import Composition
from ray.protocol.references import FAILED, PENDING, READY, ObjectEntry, ReferenceTable
from ray.runtime.access import ObjectAccess
from ray.runtime.actor_life import ActorOwner
from ray.runtime.calls import ActorCalls, ActorClient
from ray.runtime.completion import Waiter, complete
from ray.runtime.events import TaskEventLog
from ray.runtime.exports import export_of
from ray.runtime.failures import Failures
from ray.runtime.inspection import Inspection
from ray.runtime.interface import ActorCore, FunctionDescriptor, MethodOptions, TaskOptions
from ray.runtime.interrupts import may_interrupt
from ray.runtime.joining import PluginLife
from ray.runtime.node_link import BEAT_S, NodeLink
from ray.runtime.objects import ObjectExchange, rebuild_ref, reduce_ref
from ray.runtime.peers import Peer, PeerTable
from ray.runtime.polling import Polling
from ray.runtime.reader import Reader
from ray.runtime.records import TaskRecord, return_ids
from ray.runtime.ref import ObjectRef
from ray.runtime.tasks import TaskSubmitter
from ray.runtime.timers import Timers
from ray.serialization import EMPTY_ARGS, args_blob, register_reducer, serialize_args


#: How long a dropped ref may wait for the next event; frees are promised within 100 ms.
COLLECT_S = 0.05


class OwnerRuntime(ObjectAccess, ActorOwner, Inspection, PluginLife):
    """One process's part of a session. Public methods are those of ``ray.runtime.interface.Runtime``."""

    is_worker = False
    is_local_mode = False

    def __init__(
        self,
        session_id: str,
        kind: str,
        process_id: bytes,
        namespace: str,
        transport: Transport,
        store: Store,
        composition: Composition,
    ) -> None:
        self.session_id = session_id
        self.process_id = process_id
        self.namespace = namespace
        self.transport = transport
        self.store = store
        self.composition = composition
        self.address = ""
        self.address_info: dict[str, Any] = {}
        self.node_id = ""
        #: How many tasks deep this process runs: 0 in the driver.
        self.depth = 0
        self.closed = False
        self.lock = threading.RLock()
        self.timers = Timers()
        self.table = ReferenceTable()
        self.peers = PeerTable(transport, session_id, kind, process_id)
        self.tasks = TaskSubmitter(self)
        self.calls = ActorCalls(self)
        self.objects = ObjectExchange(self)
        self.failures = Failures(self)
        self.events = TaskEventLog(self)
        self.reader = Reader(self)
        self.polling = Polling(self, self.reader)
        may_interrupt(transport.wait_code)
        self.node: NodeLink = None  # type: ignore[assignment]  # set by ``attach`` before anything else runs
        self._next_id = make_task_ids(process_id)

    def attach(self, hint: str, node_address: str) -> None:
        """Listen and connect to the node manager; called once, before the reader starts."""
        self.address = self.peers.address = self.transport.listen(hint)
        connection = self.transport.connect(node_address)
        connection.send((self.peers.hello(),))
        self.node = connection.context = NodeLink(connection, node_address, self.polling.nudge)

    # --- submitting -------------------------------------------------------------------------------------------------

    def submit_task(
        self, function: FunctionDescriptor, options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        export = function.export
        if export is None or export.runtime is not self:
            self._check_open()
            export = export_of(function, self)
        record = self._record(export.name, options.num_returns, options.max_retries, options.timeout_s, args, kwargs)
        record.export = export
        with self.lock:
            _, record.link, plain = self.tasks.classify(options)
            if not plain:
                record.options = options
            refs = self._register(record)
            if not record.deps or self._dependencies_ready(record):
                self.tasks.enqueue(record)
        return refs

    def submit_call(
        self, actor: ActorCore, method: str, options: MethodOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        client: ActorClient = actor.client
        if client is None or client.calls is not self.calls:
            self._check_open()
            client = self.adopt_actor(actor).client
        retries = options.max_task_retries
        if retries is None:
            retries = actor.max_task_retries
        name = f"{actor.class_name}.{method}"
        record = self._record(name, options.num_returns, retries, options.timeout_s, args, kwargs)
        record.actor = actor.actor_id
        record.method = method.encode()
        if options.concurrency_group is not None:
            record.group = options.concurrency_group
        with self.lock:
            if client.life is not None:  # pending calls keep the actor alive
                record.pins += (client.life,)
            refs = self._register(record)
            if record.deps:
                self._dependencies_ready(record)
            if not record.done:
                self.calls.submit(client, record)
        return refs

    def _record(
        self, name: str, num_returns: int, retries: int, timeout_s: float | None, args: Any, kwargs: Any
    ) -> TaskRecord:
        """A new record with its arguments encoded; nothing is registered yet."""
        if not args and not kwargs:
            return TaskRecord(self._next_id(), name, EMPTY_ARGS, num_returns, retries, timeout_s)
        blob = args_blob(args, kwargs)
        if blob is not None:
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
                    deps.append((key, self._own_entry(value)))
                    kwargs[key] = None
        blob = args_blob(args, kwargs)
        inner: tuple[ObjectEntry, ...] = ()
        if blob is None:
            serialized = serialize_args(args, kwargs)
            blob = serialized.to_bytes()
            inner = tuple(self._own_entry(ref) for ref in serialized.refs)
        record = TaskRecord(self._next_id(), name, blob, num_returns, retries, timeout_s)
        record.deps = deps
        record.refs = inner
        record.pins = (*(entry for _, entry in deps), *inner)
        return record

    def _register(self, record: TaskRecord) -> Any:
        """Make the returns' entries and refs; called under the lock."""
        table = self.table
        if self.closed:
            self._check_open()
        if table.dropped:
            self.collect()
        if record.pins:
            table.pin(record.pins)
        record.parent = self.current_task_id()
        if record.num_returns == 1:
            entry = table.own(record.id + FIRST_RETURN)
            entry.task = record
            record.entries = (entry,)
            return ObjectRef(entry)
        entries = []
        for id in return_ids(record.id, record.num_returns):
            entry = table.own(id)
            entry.task = record
            entries.append(entry)
        record.entries = tuple(entries)
        return [ObjectRef(entry) for entry in entries] or None

    def _dependencies_ready(self, record: TaskRecord) -> bool:
        """Whether all arguments are there; otherwise the record goes on when they are, or fails with the first failure."""
        pending = []
        for _, entry in record.deps:
            if entry.status == FAILED:
                self.fail(record, entry.value)
                return False
            if entry.status == PENDING:
                pending.append(entry)
        if not pending:
            return True
        record.waiting = len(pending)
        on_ready = functools.partial(self._dependency_ready, record)
        for entry in pending:
            self.objects.want(entry)
            if entry.waiters is None:
                entry.waiters = [on_ready]
            else:
                entry.waiters.append(on_ready)
        return False

    def _dependency_ready(self, record: TaskRecord, entry: ObjectEntry) -> None:
        record.waiting -= 1
        if record.done:
            return
        if entry.status == FAILED:
            self.fail(record, entry.value)
        elif record.waiting:
            return
        elif not record.actor:
            self.tasks.enqueue(record)
        if record.actor and isinstance(record.link, ActorClient):
            self.calls.pump(record.link)

    def _own_entry(self, ref: ObjectRef[Any]) -> ObjectEntry:
        entry = ref._entry
        if entry.table is not self.table:
            raise RayConnectionError(f"{ref!r} belongs to a session that has ended.")
        return entry

    def _check_open(self) -> None:
        if self.closed:
            reason = self.node.dead
            if reason is not None:
                raise NodeDiedError(self.node_id, reason)
            raise RayConnectionError("This session has ended. You can start another one with 'ray.init()'.")

    # --- completing -------------------------------------------------------------------------------------------------

    def finish(self, record: TaskRecord, done: wire.Done, frames: Any, peer: Peer | None) -> bool:
        """A worker reports the end of a task. Returns True if it is to be retried."""
        if done.kept and peer is not None:
            self.objects.grant_kept(record, done.kept, peer.address)
        if record.export is not None:
            record.export.observe(done.duration_us)
        if record.done:
            return False
        values = done.values
        if not done.ok:
            if done.retry and record.retries and not record.cancelled:
                return True
            data = values[0]
            self.fail(record, frames[data] if type(data) is int else data)
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
                complete(entry, READY, data)
        self._ended(record)
        if self.events.wanted:
            self.events.note(record, "finished", done.duration_us)
        return False

    def fail(self, record: TaskRecord, envelope: bytes) -> None:
        """End a task with an error."""
        record.done = True
        self.failures.note(record, envelope)  # before anybody is woken who may get it and so make printing needless
        for entry in record.entries:
            complete(entry, FAILED, envelope)
        self._ended(record)
        if self.events.wanted:
            self.events.note(record, "failed", 0)

    def _ended(self, record: TaskRecord) -> None:
        if record.pins:
            self.table.unpin(record.pins)
            record.pins = ()

    def fail_crashed(self, record: TaskRecord, cause: node.ExitCause) -> None:
        """Its worker died and there is no retry left."""
        self.fail(record, self.failures.crashed(record, cause))

    def fail_cancelled(self, record: TaskRecord) -> None:
        """It was cancelled before it started, or by force."""
        self.fail(record, self.failures.cancelled(record))

    def fail_actor(
        self, record: TaskRecord, client: ActorClient, cause: node.ExitCause | None = None, error: bytes = b""
    ) -> None:
        """Its actor is dead."""
        self.fail(record, self.failures.actor_dead(record, client, cause or client.cause, error or client.error))

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Wait without the lock; workers say meanwhile that their CPU is free."""
        return self.polling.wait(waiter, timeout_s)

    def collect(self) -> None:
        """Free what nobody holds; called under the lock."""
        self.objects.free(self.table.collect())

    def abandon_all(self, error: RayError | None) -> None:
        """The session is over: whatever is pending fails with ``error``, or with a connection error."""
        error = error or RayConnectionError("The session ended before this object was made.")
        envelope = self.failures.envelope(error, "", b"", 0)
        for entry in list(self.table.entries.values()):
            if entry.status == PENDING:
                complete(entry, FAILED, envelope)

    # --- pickled refs -------------------------------------------------------------------------------------------------

    def reduce_ref(self, ref: ObjectRef[Any], refs: list[Any] | None) -> tuple[Any, ...]:
        entry = self._own_entry(ref)
        if refs is None:
            entry.pins += 1  # nobody can know when the last copy of that pickle is gone
        else:
            refs.append(ref)
        return rebuild_ref, (entry.id, entry.owner or self.address)

    def rebuild_ref(self, id: bytes, owner: str) -> ObjectRef[Any]:
        """What a pickled ref becomes in this process."""
        with self.lock:
            return ObjectRef(self.objects.borrow(id, owner))

    def find_entry(self, id: bytes) -> ObjectEntry:
        with self.lock:
            entry = self.table.entries.get(id)
            if entry is None:
                entry = self.table.own(id)
                self.objects.lost(entry, "this process has never seen its id")
            return entry

    # --- events -------------------------------------------------------------------------------------------------------

    def after_events(self) -> None:
        """The reader has taken a batch of messages; called under the lock."""

    def peer_lost(self, peer: Peer) -> None:
        """A connection is gone; called under the lock."""
        self.objects.peer_lost(peer.address)

    def expects(self) -> bool:
        """Whether messages are to be taken though nobody waits for them: some work is unfinished."""
        return any(link.inflight or link.cls.queue for link in list(self.tasks.links.values())) or any(
            client.inflight for client in list(self.calls.clients.values())
        )

    def patience_s(self) -> float:
        """How long the reader may sleep: not at all long while refs may be dropped unnoticed."""
        return COLLECT_S if self.table.entries else BEAT_S

    @abstractmethod
    def node_lost(self, reason: str) -> None:
        """There is no node manager any more."""

    @abstractmethod
    def show_failure(self, text: str) -> None:
        """Bring a failure that nobody has asked for before the user's eyes."""

    # --- hooks for workers ------------------------------------------------------------------------------------------

    def current_task_id(self) -> bytes | None:
        """Id of the task that this thread runs, in a worker."""
        return None

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        entry = self._own_entry(ref)
        with self.lock:
            self.cancel_entry(entry, force, recursive)

    def cancel_entry(self, entry: ObjectEntry, force: bool, recursive: bool) -> None:
        """``cancel`` under the lock."""
        if entry.status != PENDING:
            return
        record = entry.task
        if entry.owner is not None:
            self.objects.send_to_owner(entry, wire.CancelMade(entry.id, force, recursive))
        elif isinstance(record, TaskRecord):
            if isinstance(record.link, ActorClient):
                self.calls.cancel(record, record.link, recursive)
            else:
                self.tasks.cancel(record, force, recursive)

    def cancel_children(self, parent: bytes) -> None:
        """Cancel what the task ``parent`` has submitted; called under the lock."""
        for entry in list(self.table.entries.values()):
            record = entry.task
            if isinstance(record, TaskRecord) and record.parent == parent:
                self.cancel_entry(entry, False, True)


register_reducer(ObjectRef, reduce_ref)
