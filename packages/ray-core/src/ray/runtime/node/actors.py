"""The node manager's actor half: places actors, starts them, and tells the processes that ask where they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from ray.abc.scheduler import ResourceRequest
from ray.abc.transport import Frame
from ray.exceptions import RemoteProtocolError
from ray.ids import node_of
from ray.messages import codec, node, wire
from ray.messages.placement import Placement
from ray.protocol import actor_entries as entries
from ray.protocol import actors, leases
from ray.runtime.cluster.peering import Sender
from ray.runtime.node.actor_records import ActorRecords, AtOnce
from ray.runtime.node.client import Client, Handler
from ray.runtime.node.desk import NodeDesk
from ray.runtime.node.ends import expect_end
from ray.runtime.node.failures import NodeFailures
from ray.runtime.node.kept_actors import is_new_kill
from ray.runtime.node.others import ActorsElsewhere, Alone
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.timers import Timers

#: A message about an actor that is not known waits for so long: its creation, which another process has sent before,
#: may come behind it.
EARLY_S = 2.0

#: What tells one class of actors from another: job, name, depth, what they need to be placed, and where.
Shape: TypeAlias = tuple[str, str, int, frozenset[tuple[str, int]], Placement | None]


class Placing:
    """Actors of one class that wait for a worker, first come first served: one demand, however many they are."""

    __slots__ = ("lack", "name", "number", "request", "shape", "waiting")

    def __init__(self, number: int, shape: Shape, request: ResourceRequest, name: str) -> None:
        self.number = number
        self.shape = shape
        self.request = request
        self.name = name
        #: What no node has that they need: a predicate, or empty.
        self.lack = ""
        #: Actor ids: a dict as an ordered set.
        self.waiting: dict[bytes, None] = {}


class NodeActors:
    """Turns messages about actors into events of the ``ActorTable`` and carries out its effects."""

    def __init__(
        self,
        desk: NodeDesk,
        leases: leases.LeaseTable,
        clients: Mapping[bytes, Client],
        pool: WorkerPool,
        timers: Timers,
        node_id: bytes,
        failures: NodeFailures,
    ) -> None:
        self.desk = desk
        self._failures = failures
        self._leases = leases
        self._clients = clients
        self._pool = pool
        self.timers = timers
        self._node_id = node_id
        self.table = actors.ActorTable()
        #: Workers of other nodes; set before anything is served.
        self.elsewhere: ActorsElsewhere = Alone()
        #: Likewise.
        self.records: ActorRecords = AtOnce()
        self._numbers = itertools.count(1).__next__
        #: {number of the demand: actors that wait for a worker}
        self._placing: dict[int, Placing] = {}
        self._by_shape: dict[Shape, Placing] = {}
        #: {actor id: where it waits}
        self._waiting: dict[bytes, Placing] = {}
        #: {actor id that is not known yet: what to do when it is, or will not be}
        self._early: dict[bytes, list[Callable[[], None]]] = {}

    def handlers(self) -> dict[type, Handler]:
        """What the node manager passes on."""
        return {
            node.CreateActor: self.create,
            node.WatchActor: lambda client, message, frames: self.watch(client, message.id),
            node.KillActor: lambda client, message, frames: self._kill(client, message),
            node.ActorStarted: lambda client, message, frames: self.apply(self.table.started(client.id, message.error)),
            node.ActorExiting: lambda client, message, frames: self.exiting(client.id, message.reason),
            node.ActorUnheld: lambda client, message, frames: self.apply(self.table.unheld(message.id)),
        }

    def class_of(self, worker: bytes) -> str:
        """The class of the actor that a worker is, or is to become."""
        actor = self.table.by_worker.get(worker)
        return self.table.actors[actor].spec.class_name if actor is not None else "an actor"

    # --- events -----------------------------------------------------------------------------------------------------

    def exiting(self, worker: bytes, reason: str) -> None:
        """The process of an actor says that it ends by its own will."""
        self.table.exiting(worker, reason)
        entry = self.table.actors.get(self.table.by_worker.get(worker, b""))
        if entry is not None and entry.hosted:
            self.records.hosted(entry)
        self.apply(())

    def create(self, client: Client, message: node.CreateActor, frames: Sequence[Frame] = ()) -> None:
        """A process wants an actor; a name that it has is its own."""
        check_needs(message.spec)
        try:
            effects = self.add(message.spec, client.job, client.id, ready=message.ready)
        except ValueError as error:
            client.send(node.Answer(message.request, False, error=str(error)))
            return
        if message.request:
            client.send(node.Answer(message.request, True))
        self.added(message.spec.id, effects)

    def add(self, spec: node.ActorSpec, job: str, watcher: bytes, *, ready: bool) -> Sequence[entries.Effect]:
        """An actor of a job is there, which ``watcher`` wants to know of; returns what is to be applied.

        Raises:
            ValueError: its name is taken, or its id.
        """
        effects = self.table.create(spec, job, ready=ready)
        self.table.actors[spec.id].watchers.add(watcher)
        return effects

    def added(self, actor: bytes, effects: Sequence[entries.Effect]) -> None:
        """Go on with an actor that was added."""
        self.apply(effects)
        self._take_early(actor)

    def host(self, worker: WorkerProcess, job: str, start: node.StartActor) -> None:
        """A worker of this node is to be an actor that another node manager keeps.

        Raises:
            ValueError: it cannot be.
        """
        if worker.connection is None:
            raise ValueError("the worker has died")
        self.table.host(start.spec, job, start.incarnation, worker.id, worker.pid, worker.address)
        worker.connection.send([codec.encode(start)])

    def kill(self, message: node.KillActor) -> bool:
        """End the process of an actor; False if it is not known."""
        entry = self.table.actors.get(message.id)
        worker = None if entry is None or entry.worker is None else self._pool.workers.get(entry.worker)
        began = b"" if worker is None else worker.note.running
        self.apply(self.table.kill(message.id, message.no_restart, message.reason, message.error, began))
        return entry is not None

    def _kill(self, client: Client, message: node.KillActor) -> None:
        self.when_known(message.id, lambda: client.send(node.Answer(message.request, self._kill_once(client, message))))

    def _kill_once(self, client: Client, message: node.KillActor) -> bool:
        """A home asks once more where what was said is lost."""
        entry = self.table.actors.get(message.id)
        if entry is None or client.kind != "node" or message.no_restart:
            return self.kill(message)
        alive = {node_of(id) for id in self._clients}
        return not is_new_kill(entry, client.id, message.request, alive) or self.kill(message)

    def watch(self, client: Sender, actor: bytes) -> None:
        """A process, or another node manager, wants to be told where an actor is."""
        self.when_known(actor, lambda: self._show(client, actor))

    def when_known(self, actor: bytes, act: Callable[[], None]) -> None:
        """Act at once on an actor that is known, or once its creation has come, or when it should have."""
        if actor in self.table.actors:
            act()
            return
        early = self._early.get(actor)
        if early is None:
            early = self._early[actor] = []
            self.timers.after(EARLY_S, lambda: self._take_early(actor))
        early.append(act)

    def _take_early(self, actor: bytes) -> None:
        for act in self._early.pop(actor, ()):
            act()

    def _show(self, client: Sender, actor: bytes) -> None:
        if self._clients.get(client.id) is not client:  # it has died meanwhile
            return
        entry = self.table.actors.get(actor)
        if entry is None:
            cause = node.ExitCause(reason="no such actor, or it died long ago")
            client.send(node.ActorUpdate(actor, entries.DEAD, 0, cause=cause))
            return
        entry.watchers.add(client.id)
        client.send(entry.update())

    def granted(self, number: int, lease: leases.Lease, worker: WorkerProcess) -> None:
        """A worker for an actor that was to be placed."""
        entry = self._next_of(number)
        if entry is None or worker.connection is None:
            self.desk.apply(self._leases.release(lease.id))
            return
        self.apply(self.table.granted(entry.spec.id, worker.id, worker.pid, worker.address))
        order = node.StartActor(entry.spec, entry.incarnation, list(lease.allocation.gpu_ids))

        def start() -> None:
            if entry.worker == worker.id and worker.connection is not None:
                worker.connection.send([codec.encode(order)])

        self.records.placed(entry, start)

    def granted_elsewhere(self, number: int, granted: node.Granted) -> node.StartActor | None:
        """The same, of another node; returns what the worker is to be told, or None: the worker is not needed."""
        entry = self._next_of(number)
        if entry is None:
            return None
        self.apply(self.table.granted(entry.spec.id, granted.process, granted.pid, granted.address))
        return node.StartActor(entry.spec, entry.incarnation, granted.gpu_ids)

    def _next_of(self, number: int) -> entries.ActorEntry | None:
        """The actor that has waited for longest of those that a demand is for; it waits no more."""
        placing = self._placing.get(number)
        actor = next(iter(placing.waiting)) if placing is not None else None
        if actor is None:
            return None
        self._leave(actor)
        entry = self.table.actors.get(actor)
        return None if entry is None or entry.state == entries.DEAD else entry

    def worker_lost_elsewhere(self, worker: bytes, cause: node.ExitCause) -> None:
        """The process of an actor on another node has ended."""
        self.apply(self.table.worker_lost(worker, cause))

    def infeasible(self, number: int, lack: str, fails: bool) -> None:
        """No node has what the actors of a demand need, or will ever have it: then they are dead."""
        placing = self._placing.get(number)
        if placing is None:
            return
        placing.lack = lack
        for actor in list(placing.waiting):
            self.apply(self.table.unplaceable(actor, lack) if fails else self.table.infeasible(actor, lack))

    def worker_lost(self, worker: WorkerProcess, cause: node.ExitCause) -> None:
        """The process of an actor has died and been reaped."""
        begun = worker.note.has_begun_actor
        effects = self.table.worker_lost(worker.id, cause, begun=begun)
        if effects and not begun:
            self._failures.record_failed_start(worker.job, cause)
        self.apply(effects)

    def owner_lost(self, process: bytes) -> None:
        """A process has died."""
        self.table.watcher_lost(process)
        self.apply(self.table.owner_lost(process))

    # --- effects ----------------------------------------------------------------------------------------------------

    def apply(self, effects: Sequence[entries.Effect]) -> None:
        """Carry out what the actor table decided."""
        for actor in self.table.take_freed():
            self.records.changed(self.table.actors[actor])  # of the dead the newest are known
        for effect in effects:
            if type(effect) is entries.Publish:
                self._publish(effect.actor)
                if effect.actor.state == entries.DEAD:
                    self.records.changed(effect.actor)
                    self.desk.actor_died(effect.actor.job)
            elif type(effect) is entries.Place:
                self._place_after(effect.actor, effect.delay_s)
            elif type(effect) is entries.Unplace:
                self._unplace(effect.actor)
            elif type(effect) is entries.Settle:
                self._settle(effect.actor)
            elif type(effect) is entries.KillWorker:
                worker = self._pool.workers.get(effect.worker)
                if worker is not None:
                    self._pool.kill(worker, effect.reason)
                else:
                    self.elsewhere.kill(effect.worker, effect.reason)
            elif type(effect) is entries.ExpectEnd:
                worker = self._pool.workers.get(effect.worker)
                if worker is not None:
                    expect_end(self._pool, worker)
                else:
                    self.elsewhere.expect_end(effect.worker)
            elif type(effect) is entries.EndOrderly:
                worker = self._pool.workers.get(effect.worker)
                if worker is None:
                    self.elsewhere.end_orderly(effect.worker)
                elif worker.connection is not None:
                    worker.connection.send([codec.encode(wire.Terminate())])

    def _publish(self, entry: entries.ActorEntry) -> None:
        if entry.hosted:
            self.records.hosted(entry)
            return
        update = entry.update()
        for process in list(entry.watchers):
            client = self._clients.get(process)
            if client is not None:
                client.send(update)

    def _place_after(self, entry: entries.ActorEntry, delay_s: float) -> None:
        def place() -> None:
            if delay_s:
                self.timers.after(delay_s, lambda: self._place(entry))
            else:
                self._place(entry)

        self.records.may_place(entry, place)

    def _place(self, entry: entries.ActorEntry) -> None:
        if entry.state == entries.DEAD:
            return
        spec = entry.spec
        where = spec.where
        shape = (entry.job, spec.class_name, spec.depth, frozenset(spec.placement.items()), where)
        placing = self._by_shape.get(shape)
        if placing is None:
            request = ResourceRequest(spec.placement, spec.depth, spread=where is not None and where.spread)
            placing = Placing(self._numbers(), shape, request, f"Actor {spec.class_name}")
            self._placing[placing.number] = self._by_shape[shape] = placing
        placing.waiting[spec.id] = None
        self._waiting[spec.id] = placing
        self._demand(placing)
        if placing.lack and not entry.lack and entry.state != entries.DEAD:
            self.apply(self.table.infeasible(spec.id, placing.lack))

    def _demand(self, placing: Placing) -> None:
        key = (self._node_id, placing.number)
        count, job, where = len(placing.waiting), placing.shape[0], placing.shape[-1]
        self.desk.apply(
            self._leases.demand(key, placing.request, count, placing.name, job, for_life=True, placement=where)
        )
        self.desk.attend()

    def _leave(self, actor: bytes) -> Placing | None:
        """The actor waits no more."""
        placing = self._waiting.pop(actor, None)
        if placing is not None:
            del placing.waiting[actor]
            if not placing.waiting:
                del self._placing[placing.number]
                del self._by_shape[placing.shape]
        return placing

    def _unplace(self, entry: entries.ActorEntry) -> None:
        placing = self._leave(entry.spec.id)
        if placing is not None:
            self._demand(placing)

    def _settle(self, entry: entries.ActorEntry) -> None:
        lease = entry.worker and self._leases.by_worker.get(entry.worker)
        if lease:
            self.desk.apply(self._leases.shrink(lease, dict(entry.spec.resources)))
        elif entry.worker:
            self.elsewhere.settle(entry.worker, dict(entry.spec.resources))

    # --- questions --------------------------------------------------------------------------------------------------

    def find_named(self, data: bytes) -> list[Any] | None:
        """Answer to ``actor``: [id, opaque handle] of a live named actor, or None."""
        namespace, name = msgspec.msgpack.decode(data, type=tuple[str, str])
        entry = self.table.named(namespace, name)
        return None if entry is None else [entry.spec.id, entry.spec.handle]

    def describe(self) -> list[dict[str, Any]]:
        """Answer to ``actors``."""
        return [
            {
                "actor_id": entry.spec.id.hex(),
                "class_name": entry.spec.class_name,
                "state": entry.state,
                "name": entry.spec.name,
                "namespace": entry.spec.namespace,
                "pid": entry.pid,
                "job_id": entry.job,
                "incarnation": entry.incarnation,
            }
            for entry in self.table.actors.values()
        ]


def check_needs(spec: node.ActorSpec) -> None:
    """See that an actor needs no more to live than to be placed.

    Raises:
        RemoteProtocolError: it does.
    """
    if any(amount > spec.placement.get(name, 0) for name, amount in spec.resources.items()):
        raise RemoteProtocolError(f"an actor that needs {spec.resources} to live, and {spec.placement} to be placed")
    if spec.resources.get("GPU", 0) != spec.placement.get("GPU", 0):
        raise RemoteProtocolError("an actor that needs other GPUs to live than to be placed")
