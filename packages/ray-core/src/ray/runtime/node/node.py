"""The node manager: one single-threaded process per machine that leases workers, keeps actors and collects output.

It decides nothing itself: ``LeaseTable`` and ``ActorTable`` do; this shell turns messages into their events and their
effects into messages and processes. It never unpickles what users send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from ray.abc.control import ControlStore
from ray.abc.scheduler import ResourceRequest, SchedulerPolicy
from ray.abc.store import StoreServer
from ray.abc.transport import Connection, Frame, Transport
from ray.clock import monotonic, wall_time
from ray.exceptions import ControlStoreError, RemoteProtocolError
from ray.exceptions.base import exit_text
from ray.ids import ProcessIds, embedded_node, make_lease_ids, node_manager_of, node_number
from ray.messages import codec, node, wire
from ray.plugins.specs import EventSink
from ray.protocol import handshake, leases, waiting
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.node.actors import NodeActors
from ray.runtime.node.client import Client, Handler
from ray.runtime.node.ends import NodeEnds, expect_end
from ray.runtime.node.infeasible import lack_of
from ray.runtime.node.output import NodeOutput
from ray.runtime.node.patience import NodePatience
from ray.runtime.node.recorded_errors import RecordedErrors
from ray.runtime.node.running import NodeRunning
from ray.runtime.node.trouble import FAILED_START, NO_ROOM
from ray.runtime.node.worker_pool import WorkerPool, WorkerProcess
from ray.runtime.process.hardware import described
from ray.runtime.process.refusals import Refusals
from ray.runtime.process.session_dirs import NodeConfig
from ray.runtime.process.timers import Timers

#: After a worker's connection is lost its process has this long to end by itself.
LOST_GRACE_S = 0.3
#: Workers that fail to start in a row are replaced at once up to this many, then after ever longer pauses.
FREE_STARTS = 4
MAX_START_DELAY_S = 5.0
#: How long a worker that cannot be started at all is not tried again.
FULL_DELAY_S = 1.0
#: How often it is recorded that there is no room for workers that are wanted.
TELL_AGAIN_S = 30.0
_TICK_S = 5.0
#: The context of a connection that was dropped before it said who it is; more of its messages may be under way here.
_DROPPED = object()


class NodeManager:
    """The shell. ``run`` serves until ``stop``."""

    def __init__(
        self,
        config: NodeConfig,
        transport: Transport,
        control: ControlStore,
        policy: SchedulerPolicy,
        store: StoreServer,
        sinks: Sequence[EventSink] = (),
        digest: str = "",
    ) -> None:
        self.config = config
        self.node = embedded_node()
        self.process_id, self._new_id = node_manager_of(self.node), ProcessIds(self.node).give
        self._membership = handshake.Membership(config.session, node_number(self.node), config.session, digest)
        self.transport = transport
        self._store = store
        self._sinks = sinks
        self.timers = Timers()
        self.peers: dict[bytes, Client] = {}
        resources = NodeResources(config.resources, config.gpu_ids)
        self.leases = leases.LeaseTable(self.process_id, resources, policy, make_lease_ids(self.node))
        self.output = NodeOutput(transport, self.timers, self._drivers, is_shown=config.log_to_driver)
        self.pool = WorkerPool(config, transport, self.timers, self._worker_died, self.output, self.fail, self._new_id)
        if store.pid is not None:
            self.pool.vital[store.pid] = "the process of the object store"
        self.actors = NodeActors(self, self.leases, self.peers, self.pool, self.timers, self.process_id)
        self._refusals = Refusals(lambda text: print(text, flush=True))
        self._errors = RecordedErrors(control, lambda text: print(text, flush=True))
        keep_idle = max(1, min(config.resources.get("CPU", 0) // UNIT, 64))
        self.ends = NodeEnds(self, self.leases, self.pool, self.timers, self._actor_leaves, keep_idle)
        self.patience = NodePatience(self, self.leases, self.peers, self.timers, self.actors.class_of, self.process_id)
        running = NodeRunning(self.leases, self.peers, self.pool, self.timers, self.actors.table)
        self.stopping = False
        #: Before then nobody is told again that there is no room for workers, and it is not recorded again.
        self._tell_of_room = self._record_room = 0.0
        #: A child has ended, stopped or continued.
        self.reap_due = False
        #: Workers in a row that ended before they were ready.
        self._failed_starts = 0
        self._handlers: dict[type, Handler] = {
            node.Demand: self._demand,
            node.Release: self._release,
            node.Suspect: self._suspect,
            node.Blocked: lambda peer, message, frames: self.apply(self.leases.blocked(peer.id)),
            node.Resumed: lambda peer, message, frames: self.leases.resumed(peer.id),
            node.Ready: self._ready,
            node.RecordError: lambda peer, message, frames: self.record_error(message.record, print_it=False),
            node.Ping: lambda peer, message, frames: peer.send(node.Pong(message.number)),
            node.ShowFailure: lambda peer, message, frames: self.tell_drivers(message),
            node.TaskEvents: self._task_events,
            node.Stop: lambda peer, message, frames: self.stop(),
            node.Question: self._question,
            node.AskPath: lambda peer, message, frames: self.tell_drivers(node.AskPath(message.request, peer.id)),
            node.Path: self._path,
            node.Printed: self.output.printed,
            **self.actors.handlers(),
            **self.ends.handlers(),
            **running.handlers(),
        }
        self._answers: dict[str, Callable[[bytes], Any]] = {
            "resources": lambda data: self.leases.resources.total(),
            "available": lambda data: self.leases.resources.available(),
            "nodes": lambda data: [self._describe()],
            "actor": self.actors.find_named,
            "actors": lambda data: self.actors.describe(),
            "workers": lambda data: self.pool.diagnostics(),
            "processes": lambda data: [[p.id, p.kind, p.pid, p.address] for p in self.peers.values()],
        }

    # --- loop -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until ``stop``; the caller closes what it opened."""
        poll, timers = self.transport.poll, self.timers
        while not self.stopping:
            for connection, frames in poll(timers.timeout_s(_TICK_S)):
                if frames is None:
                    self._lost(connection)
                else:
                    self._receive(connection, frames)
            if self.reap_due:  # after the messages: a dead worker's last ones count
                self.reap_due = False
                self.pool.reap()
            timers.run_due()

    def stop(self) -> None:
        """Leave ``run`` after the current events."""
        self.stopping = True

    def fail(self, reason: str) -> None:
        """The node cannot go on: say so, and stop."""
        if not self.stopping:
            print(reason, flush=True)
            self.tell_drivers(node.Ending(reason))
            self.stop()

    def _receive(self, connection: Connection, frames: Sequence[Frame]) -> None:
        try:
            message = codec.decode(frames)
            peer = connection.context
            if peer is None:
                self._welcome(connection, message)
                return
            if type(peer) is not Client or self.peers.get(peer.id) is not peer:
                return  # it is dead or was dropped, and what it held was given away
            handler = self._handlers.get(type(message))
            if handler is None:
                raise RemoteProtocolError(f"{type(message).__name__} is not for a node manager")
            handler(peer, message, frames)
        except Exception as error:  # costs nobody but the peer
            self._refusals.note(error)
            connection.abort()
            if connection.context is None:
                connection.context = _DROPPED
            self._lost(connection)

    def _welcome(self, connection: Connection, message: Any) -> None:
        hello = handshake.check_at_node(message, here := self._membership)
        worker = self.pool.workers.get(hello.process) if hello.kind == "worker" else None
        if hello.kind == "worker" and (worker is None or worker.connection is not None):
            raise RemoteProtocolError("a worker that is not expected")
        peer = Client(connection, hello, hello.process or self._new_id(), worker)
        if peer.id in self.peers:
            raise RemoteProtocolError("a process that is connected already")
        if worker is not None:
            worker.connection, worker.address = connection, hello.address
        connection.context = peer
        self.peers[peer.id] = peer
        peer.send(wire.Welcome(here.node, peer.id, here.job, here.digest))

    def _lost(self, connection: Connection) -> None:
        peer = connection.context
        if not isinstance(peer, Client) or self.peers.get(peer.id) is not peer:
            return
        if peer.worker is not None:
            self.pool.expect_end(peer.worker, LOST_GRACE_S, "it closed its connections (exec, or closed descriptors)")
        else:
            self._owner_lost(peer.id)

    def _owner_lost(self, process: bytes) -> None:
        self.peers.pop(process, None)
        self.output.driver_lost(process)
        for lease in self.leases.owner_lost(process):
            worker = self.pool.workers.get(lease.worker)
            if worker is not None:
                self.pool.kill(worker, "the process that submitted its task has died")
        self.actors.owner_lost(process)
        self._store.owner_lost(process)
        self.apply(self.leases.schedule())

    # --- leases -----------------------------------------------------------------------------------------------------

    def apply(self, effects: Sequence[leases.Effect]) -> None:
        """Carry out what the lease table decided."""
        for effect in effects:
            if type(effect) is leases.Grant:
                self._granted(effect.lease)
            elif type(effect) is leases.StartWorkers:
                for _ in range(effect.count):
                    if self.pool.has_room:
                        self.pool.start_worker()
                    else:
                        self._has_no_room()
            elif type(effect) is leases.RevokeLease:
                owner = self.peers.get(effect.lease.key[0])
                if owner is not None:
                    owner.send(node.Revoke(effect.lease.id, effect.soft))
            elif type(effect) is leases.Infeasible:
                self._infeasible(effect.entry)

    def _has_no_room(self) -> None:
        """A worker is missing and cannot be started now."""
        self.timers.after(FULL_DELAY_S, lambda: self.apply(self.leases.worker_failed_to_start()))
        now = monotonic()
        if len(self.pool.workers) >= self.pool.most and now >= self._tell_of_room:
            self._tell_of_room = now + FULL_DELAY_S
            count = len(self.pool.workers)
            text = (
                f"No more workers can be started: {self.pool.most_reason}. There are {count}; tasks and actors that "
                "need another one wait until one ends."
            )
            record = node.ErrorRecord(NO_ROOM, text, wall_time())
            if now >= self._record_room:
                self._record_room = now + TELL_AGAIN_S
                self.record_error(record, print_it=False)
            self.tell_drivers(node.RecordError(record))  # which say it once, and in errors for as long as it goes on

    def _granted(self, lease: leases.Lease) -> None:
        worker = self.pool.workers[lease.worker]
        owner_id, key = lease.key
        if owner_id == self.process_id:
            self.actors.granted(key, lease, worker)
            return
        owner = self.peers.get(owner_id)
        if owner is None:
            self.apply(self.leases.release(lease.id))
            return
        gpu_ids = list(lease.allocation.gpu_ids)
        owner.send(node.Granted(key, lease.id, worker.address, worker.pid, gpu_ids, worker.id))

    def _demand(self, peer: Client, message: node.Demand, frames: Sequence[Frame]) -> None:
        request = ResourceRequest(message.resources, message.depth, message.priority)
        self.apply(self.leases.demand((peer.id, message.key), request, message.count, message.name))
        self.attend()

    def _release(self, peer: Client, message: node.Release, frames: Sequence[Frame]) -> None:
        lease = self.leases.leases.get(message.lease)
        if lease is None:
            return
        worker = self.pool.workers.get(lease.worker)
        self.apply(self.leases.release(message.lease, retired=message.retired))
        if message.retired and worker is not None:
            expect_end(self.pool, worker)
        self.ends.arm_trim()

    def _suspect(self, peer: Client, message: node.Suspect, frames: Sequence[Frame]) -> None:
        lease = self.leases.leases.get(message.lease)
        worker = lease and self.pool.workers.get(lease.worker)
        if worker:
            self.pool.expect_end(worker, LOST_GRACE_S, "it closed its connections (exec, or closed descriptors)")
        elif lease is None:
            peer.send(node.LeaseEnded(message.lease, node.ExitCause(reason="the lease had ended before")))

    def _ready(self, peer: Client, message: node.Ready, frames: Sequence[Frame]) -> None:
        worker = peer.worker
        if worker is None or worker.ready:
            raise RemoteProtocolError("Ready from a process that is not a new worker")
        worker.ready = True
        self._failed_starts = 0
        if worker.timer is not None:
            worker.timer.cancel()
        self.apply(self.leases.worker_ready(worker.id))
        self.ends.arm_trim()

    def _worker_died(self, worker: WorkerProcess, cause: node.ExitCause) -> None:
        if not worker.ready:
            self.pool.look_at_place()
            if not (self.pool.closing or self.stopping):
                self.report_failed_start(cause)
                self._failed_starts += 1
                excess = self._failed_starts - FREE_STARTS
                delay_s = min(MAX_START_DELAY_S, 0.1 * 2.0 ** min(excess, 10)) if excess > 0 else 0.0
                self.timers.after(delay_s, lambda: self.apply(self.leases.worker_failed_to_start()))
            self.peers.pop(worker.id, None)
            return
        lease, effects = self.leases.worker_lost(worker.id)
        if lease is not None and lease.key[0] == self.process_id:
            self.actors.worker_lost(worker, cause)
        elif lease is not None and lease.key[0] in self.peers:
            self.peers[lease.key[0]].send(node.LeaseEnded(lease.id, cause))
        self.apply(effects)
        self._owner_lost(worker.id)

    def attend(self) -> None:
        """Somebody may have to wait for a worker."""
        self.patience.attend()

    def _actor_leaves(self, lease: leases.Lease, worker: WorkerProcess, cause: node.ExitCause) -> None:
        """A worker that is about to go has given its lease up; if it was an actor, that has ended."""
        if lease.key[0] == self.process_id:
            self.actors.worker_lost(worker, cause)

    def report_failed_start(self, cause: node.ExitCause) -> None:
        """Record that a worker has ended before it came to what it was wanted for."""
        detail = cause.reason or exit_text(cause.exit_code, cause.signal)
        text = "\n".join([FAILED_START + detail, *cause.stderr])
        self.record_error(node.ErrorRecord("worker_died", text, wall_time(), pid=cause.pid))

    def prestart(self, count: int) -> None:
        """Have workers waiting before the first task."""
        count = min(count, self.pool.most)
        self.leases.starting += count
        for _ in range(count):
            self.pool.start_worker()

    # --- errors, logs, questions --------------------------------------------------------------------------------------

    def _infeasible(self, entry: waiting.DemandEntry) -> None:
        lack = lack_of(entry.request.resources, self.leases.resources.total())
        text = f"{entry.name or 'A task'} {lack}. As it is, it waits for ever: this release has no clusters."
        self.record_error(node.ErrorRecord("infeasible_task", text, wall_time(), function=entry.name))
        owner = self.peers.get(entry.key[0])
        if owner is not None:
            owner.send(node.Infeasible(entry.key[1], lack))
        elif entry.key[0] == self.process_id:
            self.actors.infeasible(entry.key[1], lack)

    def record_error(self, record: node.ErrorRecord, *, print_it: bool = True) -> None:
        """Keep a failure for ``ray.error_info``; the drivers print what this process found itself."""
        self._errors.add(record)
        if print_it:
            self.tell_drivers(node.RecordError(record))

    def _task_events(self, peer: Client, message: node.TaskEvents, frames: Sequence[Frame]) -> None:
        names = ("task_id", "name", "state", "duration_us", "attempt")
        events = [{**dict(zip(names, row, strict=True)), "pid": peer.pid} for row in message.rows]
        if message.dropped:
            events.append({"state": "dropped", "count": message.dropped, "pid": peer.pid})
        for sink in self._sinks:
            try:
                sink.write(events)
            except Exception as error:  # of no concern to their senders
                self._refusals.note(error)

    def _drivers(self) -> list[Client]:
        return [peer for peer in self.peers.values() if peer.kind == "driver"]

    def tell_drivers(self, message: Any) -> None:
        """Send something to every driver."""
        for peer in self._drivers():
            peer.send(message)

    def _question(self, peer: Client, message: node.Question, frames: Sequence[Frame]) -> None:
        if message.what == "errors":
            self._errors.ask(partial(self._answer_errors, peer, message.request))
            return
        answer = self._answers.get(message.what)
        if answer is None:
            peer.send(node.Answer(message.request, False, error=f"unknown question {message.what!r}"))
            return
        try:
            found = answer(message.data)
        except msgspec.MsgspecError as error:
            raise RemoteProtocolError(
                f"a question after {message.what!r} of {len(message.data)} bytes: {error}"
            ) from None
        peer.send(node.Answer(message.request, True, msgspec.msgpack.encode(found)))

    def _answer_errors(self, peer: Client, request: int, rows: list[dict[str, Any]] | ControlStoreError) -> None:
        if isinstance(rows, ControlStoreError):
            peer.send(node.Answer(request, False, error=str(rows)))
        else:
            peer.send(node.Answer(request, True, msgspec.msgpack.encode(rows)))

    def _path(self, peer: Client, message: node.Path, frames: Sequence[Frame]) -> None:
        asker = self.peers.get(message.worker)
        if asker is not None:
            asker.send(node.Answer(message.request, True, msgspec.msgpack.encode([*message.path, *message.odd])))

    def _describe(self) -> dict[str, Any]:
        return described(self.node.hex(), self.pool.node_address, self.leases.resources.total())
