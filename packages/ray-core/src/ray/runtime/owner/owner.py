"""The owner: what every process that submits work is. Drivers and workers build on it.

State is guarded by one re-entrant lock, held only for short, non-blocking stretches: by the calling thread while it
submits, and by the thread that polls while it takes a batch of messages.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ray.abc.store import SHARED, Store
from ray.abc.transport import Connection, Frame, Transport
from ray.exceptions import BlockingCallError, NodeDiedError, RayConnectionError, RayError, RaySystemError
from ray.headroom import SENDING, lacks
from ray.ids import make_task_ids, node_number
from ray.messages import node
from ray.plugins.compose import Composition
from ray.protocol.handshake import Membership
from ray.protocol.last_calls import TERMINATE
from ray.protocol.references import FAILED, PENDING, ReferenceTable
from ray.runtime import interface
from ray.runtime.interface import ActorCore, MethodOptions
from ray.runtime.owner.access import Access
from ray.runtime.owner.actor_calls import ActorCalls
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.actors import Actors
from ray.runtime.owner.away import Away
from ray.runtime.owner.borrowing import Borrowing
from ray.runtime.owner.cancelling import Cancelling
from ray.runtime.owner.cancels import Cancels
from ray.runtime.owner.collecting import Collecting
from ray.runtime.owner.creating import Creating
from ray.runtime.owner.dependencies import Dependencies
from ray.runtime.owner.dispatch import node_handlers, peer_handlers
from ray.runtime.owner.events import TaskEventLog
from ray.runtime.owner.exports import Exports
from ray.runtime.owner.failed_chains import FailedChains
from ray.runtime.owner.handing_over import HandingOver
from ray.runtime.owner.handles import Handles
from ray.runtime.owner.here import Here
from ray.runtime.owner.inbox import Inbox
from ray.runtime.owner.inspection import NodeQuestions, serves_others
from ray.runtime.owner.joining import PluginLife
from ray.runtime.owner.leasing import Leasing
from ray.runtime.owner.lending import Lending
from ray.runtime.owner.letting_go import LettingGo
from ray.runtime.owner.locality import Locality
from ray.runtime.owner.losses import Losses
from ray.runtime.owner.moving_in import MovingIn
from ray.runtime.owner.outcomes import Outcomes
from ray.runtime.owner.overdue import Overdue
from ray.runtime.owner.promises import Promises
from ray.runtime.owner.putting import Putting
from ray.runtime.owner.reachable import Reachable
from ray.runtime.owner.reconnecting import Reconnecting
from ray.runtime.owner.recording import Recording
from ray.runtime.owner.records import Link
from ray.runtime.owner.recovery import Recovery
from ray.runtime.owner.ref_pickling import reduce_ref
from ray.runtime.owner.reports import Reports
from ray.runtime.owner.shortage import Shortage
from ray.runtime.owner.starting import Starting
from ray.runtime.owner.store_looks import StoreLooks
from ray.runtime.owner.stored_views import TRIM_S, StoredViews
from ray.runtime.owner.streams import Streams
from ray.runtime.owner.submission import Submission
from ray.runtime.owner.subscription import Subscription
from ray.runtime.owner.unreached_actors import UnreachedActors
from ray.runtime.owner.unreached_workers import UnreachedWorkers
from ray.runtime.owner.values import Values
from ray.runtime.process import forked
from ray.runtime.process.admission import guard_parts
from ray.runtime.process.node_link import IDLE_BEAT_S, NodeLink
from ray.runtime.process.peers import Peer, PeerTable
from ray.runtime.process.polling import Polling
from ray.runtime.process.timers import Timers
from ray.runtime.process.waiting import Waiter
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import Listener
from ray.serialization import register_reducer

#: How long a dropped ref may wait for the next event; frees are promised within 100 ms.
COLLECT_S = 0.05
#: When a connection is lost, what has become of the other process, and of what it was sent, is known after this time.
LEFT_S = 5.0


class OwnerRuntime(ABC):
    """One process's part of a session: its parts, and what they need of each other.

    Public methods are those of ``ray.runtime.interface.Runtime``.
    """

    is_worker = False
    is_local_mode = False
    #: True in a child that the user's code has forked.
    is_forked = False
    #: See ``Host``.
    guarded = False
    #: How long the end of the store may precede the report of the end of the node.
    store_death_s = 4.0

    def __init__(
        self,
        here: Here,
        kind: str,
        transport: Transport,
        store: Store,
        composition: Composition,
    ) -> None:
        self.here = here
        self.transport = transport
        self.store = store
        self.composition = composition
        self.address_info: dict[str, Any] = {}
        #: See ``Host``.
        self.rests = False
        self.lock = threading.RLock()
        self.timers = Timers(transport.wake)
        self.table = ReferenceTable()
        membership = Membership(here.session_id, node_number(here.process_id), here.job, composition.plan.digest)
        self.peers = PeerTable(transport, membership, kind, here.process_id)
        self.next_id = make_task_ids(here.process_id)
        self.node = NodeLink(self._wait_for_news)
        rests: list[Callable[[], None]] = []
        self._make_objects(rests)
        self._make_work(rests)
        self._make_calls_of_the_program()
        self._make_messages(rests)
        self.plugins = PluginLife(composition, self._plugin_facts)
        self._offer()
        guard_parts(composition, transport)

    def _make_objects(self, rests: list[Callable[[], None]]) -> None:
        """Values, refs across processes, and what becomes of the tasks that make them."""
        here, lock, table, timers, peers = self.here, self.lock, self.table, self.timers, self.peers
        tell_node = self.node.send
        self.reports = Reports(here, timers, tell_node, self.show_failure)
        self.events = TaskEventLog(timers, tell_node)
        self.shortage = Shortage(timers, tell_node)
        views = StoredViews(self.store)
        expect = None
        if SHARED in self.store.capabilities:
            expect = StoreLooks(views, lock, timers, self.wake_resting, here).expect
        self.losses = Losses(
            here, lock, peers, self._wait_for_news, lambda: self.node.dead, self.cut_off, self.store_death_s
        )
        self.borrowing = Borrowing(here, table, peers, self.reports, timers, expect, self.flush, lock)
        self.values = Values(
            self.store,
            views,
            table,
            self.borrowing.retrieved,
            self.losses.of_entry,
            self.losses.of_store,
            lambda: not self.guarded or self.may_wait(),
            Away(here, table, views, timers, self.node.request, self.node.request_later, tell_node, lock),
        )
        self.moving = MovingIn(self.values, lock)
        self.outcomes = Outcomes(table, self.values, self.borrowing, self.reports, self.events, self.moving, rests)

    def _make_work(self, rests: list[Callable[[], None]]) -> None:
        """Tasks and calls on their way, and back."""
        here, peers, timers, tell_node, outcomes = self.here, self.peers, self.timers, self.node.send, self.outcomes
        handing = HandingOver(self.borrowing, outcomes, self.values.at_once, self.values.at)
        self.recovery = Recovery(self.table, outcomes, self.transport.wake, self.catch_up)
        self.leasing = Leasing(
            here,
            peers,
            timers,
            tell_node,
            outcomes,
            handing,
            UnreachedWorkers(here, peers, timers, tell_node, self.shortage, outcomes),
            self.may_send,
        )
        self.calls = ActorCalls(
            here,
            peers,
            timers,
            tell_node,
            outcomes,
            handing,
            UnreachedActors(self.shortage),
            self.may_send,
        )
        links, clients, pump = self.leasing.links, self.calls.clients, self.calls.pump
        self.cancels = Cancels(clients, timers, tell_node, outcomes.cancelled, here.process_id)
        self.cancelling = Cancelling(self.lock, self.table, self.borrowing, self.leasing, self.calls, self.cancels)
        self.clock = Overdue(links, clients, timers, pump, outcomes.overdue)
        self.streams = Streams(self.table, self.lock, self.values, self.borrowing, self.moving, links, clients)
        self._chains = FailedChains(rests, outcomes.fail, pump)
        self.letting_go = LettingGo(
            here,
            self.table,
            self.values,
            self.borrowing,
            peers,
            self.calls,
            lambda actor_id: self.node.send(node.ActorUnheld(actor_id)),
            self.cancelling.unwanted,
        )

    def _make_calls_of_the_program(self) -> None:
        """What the API calls."""
        here, lock, table, calls = self.here, self.lock, self.table, self.calls
        exports = Exports(here, self.known_code, self.check_open, watch=not self.is_worker)
        recording = Recording(here, self, table, self.values, self.streams, self.next_id, nested=self.is_worker)
        locality = Locality(here, table, self.values, self.leasing.near)
        dependencies = Dependencies(self.borrowing, self.outcomes, self._chains, self.leasing, calls, locality)
        self.handles = Handles(here, lock, table, self.borrowing, calls, self.check_open)
        adopt = self.handles.adopt_for_call
        self.submission = Submission(
            lock, exports, recording, dependencies, self.leasing, calls, adopt, self.recovery.cut_short
        )
        self.putting = Putting(here, self, lock, table, self.values, self.next_id)
        self.promise = Promises(self, lock, table, self.next_id).promise
        self.access = Access(here, self, lock, table, self.values, self.borrowing)
        starting = Starting(self, lock, self.node, self.borrowing, self.reports)
        self.creating = Creating(here, lock, table, exports, recording, calls, starting, self.composition.executor_part)
        self.actors = Actors(here, self, lock, self.node, calls, self.handles, self.access.wait_entry)

    def _make_messages(self, rests: list[Callable[[], None]]) -> None:
        """What arrives, and the parts that take it."""
        self.collecting = Collecting(self.calls.holds_handles, self.transport.wake)
        reachable = Reachable(self.transport, self.here, self.peers, self.node)
        reconnecting = Reconnecting(self.here, self.peers, self.timers, self.node, self.peer_lost)
        self.inbox = Inbox(
            self.table,
            self.peers,
            self,
            reconnecting,
            peer_handlers(
                self.table,
                self.leasing,
                self.calls,
                self.borrowing,
                Lending(self.table, self.values, self.borrowing, self.reports, self.lock),
                self.streams,
                self.cancelling,
                self.clock,
                self._claim,
                self.outcomes.take_late,
                reconnecting,
            ),
            node_handlers(
                self.leasing,
                self.calls,
                self.cancels,
                self.clock,
                self.collecting,
                reachable,
                self.node,
                self.values,
            ),
            rests,
            self._after_batch,
        )
        self.polling = Polling(self, self.inbox)
        self.listening = Subscription(
            self.table, self.lock, self.values, self.borrowing, self.check_open, self.polling.attend
        )

    def _claim(self, frames: Sequence[Frame]) -> bool:
        return self.inbox.claim(frames)

    def _offer(self) -> None:
        """The API calls the parts directly."""
        self.submit_task, self.submit_call = self.submission.submit_task, self.submission.submit_call
        self.put = self.putting.put
        access = self.access
        self.get, self.get_one, self.wait, self.asked_for = access.get, access.get_one, access.wait, access.asked_for
        self.remembers, self.wait_for_next, self.get_done = access.remembers, access.wait_for_next, access.get_done
        self.create_actor, self.adopt_actor = self.creating.create_actor, self.handles.adopt
        self.kill_actor, self.get_named_actor = self.actors.kill_actor, self.actors.get_named_actor
        listening = self.listening
        self.knows, self.is_done, self.done_of = listening.knows, listening.is_done, listening.done_of
        self.unsubscribe, self.on_disk = listening.unsubscribe, listening.on_disk
        self.check_force, self.cancel = self.cancelling.check_force, self.cancelling.cancel
        self.reduce_ref, self.rebuild_ref = self.borrowing.reduce, self.borrowing.rebuild
        self.find_entry = self.borrowing.find
        questions = NodeQuestions(self._ask_node)
        self.errors, self.nodes = questions.errors, questions.nodes
        self.cluster_resources = questions.cluster_resources
        self.available_resources = questions.available_resources

    def attach(self, address: str, connection: Connection, node_address: str) -> None:
        """This process listens and has said hello to the node manager; called once, before the reader starts."""
        self.here.address = self.peers.address = address
        self.peers.node_address = node_address
        self.node.connect(connection, node_address)
        self.transport.find_with(self.node.find)

    # --- what others know of this process -----------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        return self.here.session_id

    @property
    def namespace(self) -> str:
        return self.here.namespace

    @property
    def node_id(self) -> str:
        return self.here.node_id

    @property
    def address(self) -> str:
        """Where others reach it."""
        return self.here.address

    @property
    def closed(self) -> bool:
        """Whether the session has ended, for this process."""
        return self.here.closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.here.closed = closed

    def _ask_node(self, question: str, meant: str | None) -> Any:
        self.check_open()
        return self.node.ask(question, meant)

    def _plugin_facts(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "node_id": self.node_id,
            "kind": "worker" if self.is_worker else "driver",
            "address": self.address,
        }

    def context(self) -> dict[str, Any]:
        return {
            "job_id": self.here.job,
            "node_id": self.node_id,
            "worker_id": self.here.process_id.hex(),
            "task_id": None,
            "actor_id": None,
            "attempt": 0,
            "namespace": self.namespace,
            "gpu_ids": [],
            "resources": {},
        }

    def is_needed(self) -> bool:
        """Whether the end of this process would be a loss to others: of objects they hold, or of unfinished tasks."""
        with self.lock:
            self.collect()
            entries = list(self.table.entries.values())  # other threads may put, which takes no lock
            return any(map(serves_others, entries)) or self.leasing.tasks.is_busy() or bool(self.calls.table.calls())

    def trouble(self) -> str:
        """See ``Host``."""
        return self.shortage.sentence()

    # --- the session as the API sees it -------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise if the session has ended."""
        if self.here.closed:
            reason = self.node.dead
            if reason is not None:
                raise NodeDiedError(self.node_id, reason)
            raise RayConnectionError("This session has ended. You can start another one with 'ray.init()'.")

    def subscribe(self, listener: Listener) -> bool:
        return self.listening.subscribe(listener)

    def terminate_actor(self, actor: ActorCore) -> ObjectRef[Any]:
        ref: ObjectRef[Any] = self.submit_call(actor, TERMINATE, MethodOptions(max_task_retries=0), (), {})
        return ref

    def exit_actor(self) -> None:
        raise RaySystemError("ray.exit_actor() works only inside an actor.")

    def own_actor(self) -> ActorCore:
        raise RaySystemError("There is no actor in this process.")

    # --- waiting ------------------------------------------------------------------------------------------------------

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Wait without the lock; workers say meanwhile that their CPU is free."""
        return self.polling.wait(waiter, timeout_s)

    def _wait_for_news(self, waiter: Waiter, timeout_s: float | None) -> bool:
        return self.polling.wait(waiter, timeout_s)

    def wake_resting(self) -> None:
        """See ``Host``."""
        if self.rests:
            self.transport.wake()

    def may_wait(self) -> bool:
        """Whether this thread may wait; if not, it runs the event loop of an async actor."""
        return True

    def check_blocking(self, call: str) -> None:
        """See ``Host``."""
        if not self.may_wait():
            raise BlockingCallError(call)

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        """Have ``wait`` wait; an actor looks meanwhile whether that can end."""
        wait(None)

    # --- what the thread that polls does ------------------------------------------------------------------------------

    def _after_batch(self) -> None:
        if self.recovery.due:
            self.recovery.run()
        if self.peers.dialling:
            self._look_at_dials()
        self.timers.run_due()
        self.access.forget_rest()
        views = self.values.views
        if views.held:
            views.trim()
        if self.table.dropped:
            self.letting_go.collect()
        self.after_events()

    def after_events(self) -> None:  # noqa: B027 - nothing to do in a driver
        """A batch of messages has been taken; called under the lock."""

    def expects(self) -> bool:
        """Whether messages are to be taken though nobody waits for them: some work is unfinished."""
        try:
            for lease in self.leasing.tasks.leases.values():
                if lease.inflight or lease.cls.queue:
                    return True
            for callee in self.calls.table.callees.values():
                if callee.inflight:
                    return True
        except RuntimeError:  # some come or go meanwhile
            return True
        return bool(self.peers.dialling)

    def patience_s(self) -> float:
        """How long the reader may sleep: not at all long while refs may be dropped unnoticed."""
        self.rests = True  # before the look at the table, so that no ``put`` between the two goes unnoticed
        if self.values.views.held:
            return TRIM_S
        if not self.table.entries:
            return IDLE_BEAT_S
        self.rests = False
        return COLLECT_S

    # --- what is interrupted, or left by a thread without room --------------------------------------------------------

    def collect(self) -> None:
        """Free what nobody holds; called under the lock. Where there is no room for it, that is done later."""
        if not lacks(SENDING):
            self.letting_go.collect()

    def may_send(self) -> bool:
        """Whether this thread has the room for it; if not, the one that polls is to do what this one has begun."""
        if lacks(SENDING):
            self.recovery.leave()
            return False
        if self.table.dropped:  # as good a moment as any: there is room
            self.letting_go.collect()
        return True

    def leave_to_poller(self) -> None:
        """Have the thread that polls go on with what this one has begun, since it has no room for that."""
        self.recovery.leave()

    def catch_up(self) -> None:
        """Do what code that was interrupted by a call that waits may have left undone; called under the lock."""
        self.leasing.catch_up()
        self.calls.catch_up()

    # --- ends ---------------------------------------------------------------------------------------------------------

    def abandon_all(self, error: RayError | None) -> None:
        """The session is over: whatever is pending fails with ``error``, or with a connection error."""
        error = error or RayConnectionError("The session ended before this object was made.")
        envelope = self.reports.envelope(error, "", b"", 0)
        for entry in list(self.table.entries.values()):
            if entry.status == PENDING:
                self.table.complete(entry, FAILED, envelope)

    def peer_lost(self, peer: Peer) -> None:
        """A connection is gone; called under the lock."""
        if self.peers.dialling:  # it may have come to stand, and been lost, since the last look
            self._look_at_dials()
        if not peer.stands:
            return  # which follows from the look, and may not be decided yet
        self.peers.forget(peer)
        sink = peer.sink
        if self.values.serves and not peer.near and (type(sink) is Link or type(sink) is ActorClient):
            self.timers.after(LEFT_S, self.outcomes.left_behind(sink.inflight.values(), peer))
        if type(sink) is Link:
            self.leasing.peer_lost(sink)
        elif type(sink) is ActorClient:
            self.calls.peer_lost(sink, peer)
        self.borrowing.peer_lost(peer.process)

    def _look_at_dials(self) -> None:
        for peer in self.peers.look():
            self.borrowing.peer_lost(peer.process)

    def after_fork_in_child(self) -> None:
        """This is a copy of the process, made by the user's code: let go of everything without touching it."""
        forked.let_go(self)
        current: object = interface.current()
        if current is self:
            interface.set_current(None)
            RayConnectionError.absence = forked.NOT_ACROSS

    def cut_off(self, error: RayConnectionError) -> None:  # noqa: B027 - a driver has nobody to take its place
        """The store does not answer this process, though the node lives."""

    @abstractmethod
    def node_lost(self, reason: str) -> None:
        """There is no node manager any more."""

    @abstractmethod
    def show_failure(self, text: str) -> None:
        """Bring a failure that nobody has asked for before the user's eyes."""

    # --- what workers do otherwise ------------------------------------------------------------------------------------

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
