"""What the parts of an owner share: its state, its session, and the refs that pass through it.

State is guarded by one re-entrant lock, held only for short, non-blocking stretches: by the calling thread while it
submits, and by the thread that polls while it takes a batch of messages.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.abc.store import Store
from ray.abc.transport import Transport
from ray.exceptions import BlockingCallError, NodeDiedError, RayConnectionError, RayError
from ray.headroom import SENDING, lacks
from ray.ids import make_task_ids
from ray.messages import wire
from ray.plugins.compose import Composition
from ray.protocol.references import FAILED, PENDING, ObjectEntry, ReferenceTable
from ray.runtime import interface
from ray.runtime.interface import ActorCore, MethodOptions
from ray.runtime.owner.ref_pickling import rebuild_ref, reduce_ref
from ray.runtime.owner.stored_views import TRIM_S
from ray.runtime.process import forked
from ray.runtime.process.node_link import IDLE_BEAT_S, NodeLink
from ray.runtime.process.peers import Peer, PeerTable
from ray.runtime.process.timers import Timers
from ray.runtime.process.waiting import Waiter
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import register_reducer

if TYPE_CHECKING:
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.borrowing import ObjectExchange
    from ray.runtime.owner.events import TaskEventLog
    from ray.runtime.owner.failed_chains import FailedChains
    from ray.runtime.owner.leasing import TaskSubmitter
    from ray.runtime.owner.records import TaskRecord
    from ray.runtime.owner.reports import Failures
    from ray.runtime.owner.shortage import Shortage
    from ray.runtime.owner.unreached import Unreached
    from ray.runtime.process.polling import Polling

#: How long a dropped ref may wait for the next event; frees are promised within 100 ms.
COLLECT_S = 0.05


class OwnerBase(ABC):
    """State and session of one process."""

    is_worker = False
    is_local_mode = False
    #: True in a child that the user's code has forked.
    is_forked = False
    #: There are threads that must not wait: ask ``check_blocking`` first.
    guarded = False

    #: Parts, made by ``OwnerRuntime``.
    tasks: TaskSubmitter
    calls: ActorCalls
    objects: ObjectExchange
    failures: Failures
    events: TaskEventLog
    polling: Polling
    shortage: Shortage
    chains: FailedChains
    unreached: Unreached
    #: Set by ``attach``, before anything else runs.
    node: NodeLink
    #: How long the end of the store may precede the report of the end of the node.
    store_death_s = 4.0
    _next_id: Callable[[], bytes]

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
        #: The thread that polls may sleep for long: one that adds an object without sending a message must wake it.
        self.rests = False
        self.lock = threading.RLock()
        #: A thread that had no room for it has left something to the one that polls.
        self.behind = False
        #: The tasks whose submission was cut short: (the last one, (the one before, …)), or None.
        self.torn: Any = None
        self.timers = Timers()
        self.table = ReferenceTable()
        self.peers = PeerTable(transport, session_id, kind, process_id)
        self._next_id = make_task_ids(process_id)

    def _own_entry(self, ref: CountedRef[Any]) -> ObjectEntry:
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

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Wait without the lock; workers say meanwhile that their CPU is free."""
        return self.polling.wait(waiter, timeout_s)

    def is_closed(self) -> bool:
        """Whether the session has ended."""
        return self.closed

    def tell_node(self, message: wire.Struct) -> None:
        """Send to the node manager."""
        self.node.send(message)

    def wake_resting(self) -> None:
        """Have the thread that polls look at once, if it may sleep for long."""
        if self.rests:
            self.transport.wake()

    def collect(self) -> None:
        """Free what nobody holds; called under the lock. Where there is no room for it, that is done later."""
        if not lacks(SENDING):
            self.objects.free(self.table.collect())

    def cut_off(self, error: RayConnectionError) -> None:  # noqa: B027 - a driver has nobody to take its place
        """The store does not answer this process, though the node lives."""

    def may_wait(self) -> bool:
        """Whether this thread may wait; if not, it runs the event loop of an async actor."""
        return True

    def check_blocking(self, call: str) -> None:
        """Raise BlockingCallError if a wait in ``call`` on this thread would stop the event loop of an async actor."""
        if not self.may_wait():
            raise BlockingCallError(call)

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        """Have ``wait`` wait; an actor looks meanwhile whether that can end."""
        wait(None)

    def abandon_all(self, error: RayError | None) -> None:
        """The session is over: whatever is pending fails with ``error``, or with a connection error."""
        error = error or RayConnectionError("The session ended before this object was made.")
        envelope = self.failures.envelope(error, "", b"", 0)
        for entry in list(self.table.entries.values()):
            if entry.status == PENDING:
                self.table.complete(entry, FAILED, envelope)

    def reduce_ref(self, ref: CountedRef[Any], refs: list[Any] | None) -> tuple[Any, ...]:
        entry = self._own_entry(ref)
        if refs is None:
            self.table.pin((entry,))  # nobody can know when the last copy of that pickle is gone
        else:
            refs.append(ref)
        return rebuild_ref, (entry.id, entry.owner or self.address)

    def rebuild_ref(self, id: bytes, owner: str) -> ObjectRef[Any]:
        """What a pickled ref becomes in this process."""
        with self.lock:
            entry = self.objects.borrow(id, owner)
            ref: ObjectRef[Any] = ObjectRef(entry)
            self.table.unpin((entry,))
            return ref

    def trouble(self) -> str:
        """Why tasks may have to wait at the moment, a sentence; empty if nothing is known."""
        return self.shortage.sentence()

    def find_entry(self, id: bytes) -> ObjectEntry:
        with self.lock:
            entry = self.table.entries.get(id)
            if entry is None:
                entry = self.table.own(id)
                self.objects.lost(entry, "this process has never seen its id")
            return entry

    def after_events(self) -> None:  # noqa: B027 - nothing to do in a driver
        """The reader has taken a batch of messages; called under the lock."""

    def peer_lost(self, peer: Peer) -> None:
        """A connection is gone; called under the lock."""
        self.objects.peer_lost(peer.address)

    def expects(self) -> bool:
        """Whether messages are to be taken though nobody waits for them: some work is unfinished."""
        for link in list(self.tasks.links.values()):
            if link.inflight or link.cls.queue:
                return True
        for client in list(self.calls.clients.values()):  # noqa: SIM110 - a generator costs more than this
            if client.inflight:
                return True
        return False

    def may_send(self) -> bool:
        """Whether this thread has the room for it; if not, the one that polls is to do what this one has begun."""
        if lacks(SENDING):
            self.leave_to_poller()
            return False
        if self.table.dropped:  # as good a moment as any: there is room
            self.objects.free(self.table.collect())
        return True

    def leave_to_poller(self) -> None:
        """Have the thread that polls go on with what this one has begun, since it has no room for that."""
        self.behind = True
        self.transport.wake()

    def recover(self) -> None:
        """Go on with what was left to this thread, and take back what was cut short; called under the lock."""
        self.behind = False
        torn, self.torn = self.torn, None
        while torn is not None:
            record, torn = torn
            self.take_back(record)
        self.catch_up()

    def catch_up(self) -> None:
        """Do what code that was interrupted by a call that waits may have left undone; called under the lock."""
        self.tasks.catch_up()
        self.calls.catch_up()

    def patience_s(self) -> float:
        """How long the reader may sleep: not at all long while refs may be dropped unnoticed."""
        self.rests = True  # before the look at the table, so that no ``put`` between the two goes unnoticed
        if self.objects.views.held:
            return TRIM_S
        if not self.table.entries:
            return IDLE_BEAT_S
        self.rests = False
        return COLLECT_S

    @abstractmethod
    def take_back(self, record: TaskRecord) -> None:
        """The submission of a task was cut short, and so failed; called under the lock."""

    @abstractmethod
    def register_stream(self, record: TaskRecord) -> Any:
        """A generator for the results of a new task; called under the lock."""

    @abstractmethod
    def cancel_entry(self, entry: ObjectEntry, force: bool, recursive: bool, again: bool = False) -> None:
        """``cancel`` under the lock."""

    @abstractmethod
    def submit_call(
        self, actor: ActorCore, method: str, options: MethodOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Submit an actor call."""

    @abstractmethod
    def node_lost(self, reason: str) -> None:
        """There is no node manager any more."""

    @abstractmethod
    def show_failure(self, text: str) -> None:
        """Bring a failure that nobody has asked for before the user's eyes."""

    def after_fork_in_child(self) -> None:
        """This is a copy of the process, made by the user's code: let go of everything without touching it."""
        forked.let_go(self)
        current: object = interface.current()
        if current is self:
            interface.set_current(None)
            RayConnectionError.absence = forked.NOT_ACROSS

    def flush(self, peer: Peer) -> None:  # noqa: B027 - nothing to do in a driver
        """Send what is queued for ``peer``; called under the lock."""

    def known_code(self, target: Any) -> tuple[bytes, bytes] | None:
        """Hash and pickle of a function that this process was sent."""
        return None

    def parent_task_id(self) -> bytes | None:
        """Id of the task whose cancellation cancels what this thread submits, in a worker.

        Raises:
            BaseException: the interrupt of that task, where it has been cancelled already.
        """
        return None


register_reducer(ObjectRef, reduce_ref)
