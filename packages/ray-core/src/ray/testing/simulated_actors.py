"""The actors of one simulated node: a real table of actors, and workers for them by the table of leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Protocol

from ray.abc.scheduler import ResourceRequest
from ray.messages import node, wire
from ray.protocol import actor_entries as entries
from ray.protocol import actors
from ray.protocol.leases import Effect, Lease, LeaseTable
from ray.testing.simulated_world import World

#: A message about an actor that is not known waits for so long.
_EARLY_S = 2.0


class Host(Protocol):
    """The node."""

    id: bytes
    address: str
    table: LeaseTable

    def apply(self, effects: list[Effect]) -> None:
        """Carry out what the table of leases has decided."""

    def become(self, worker: bytes, spec: node.ActorSpec) -> str:
        """A worker becomes an actor; returns its address."""

    def kill_worker(self, worker: bytes) -> None:
        """End one."""

    def tell_worker(self, worker: bytes, message: wire.Struct) -> None:
        """Send to one."""

    def running(self, worker: bytes) -> bytes:
        """The id of what it has begun last; empty if that is not known."""


class SimulatedActors:
    """Turns messages into events of the ``ActorTable`` and carries out its effects, as the node manager does."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host
        self.table = actors.ActorTable()
        self._numbers = count(1)
        #: {number of the demand: actor that waits for a worker}
        self._waiting: dict[int, bytes] = {}
        #: {actor id that is not known yet: what to do when it is, or will not be}
        self._early: dict[bytes, list[Callable[[], None]]] = {}
        self.handlers: dict[type, Callable[[str, Any], None]] = {
            node.CreateActor: self._create,
            node.WatchActor: self._watch,
            node.KillActor: self._kill,
            node.ActorUnheld: lambda sender, message: self.apply(self.table.unheld(message.id)),
            node.ActorStarted: lambda sender, message: self.apply(self.table.started(self._id(sender), message.error)),
            node.ActorExiting: self._exiting,
            node.Lingering: self._lingers,
        }

    def _id(self, sender: str) -> bytes:
        return self._world.connections.ids[sender]

    # --- events -------------------------------------------------------------------------------------------------------

    def _create(self, sender: str, message: node.CreateActor) -> None:
        actor = message.spec.id
        effects = self.table.create(message.spec)
        self.table.actors[actor].watchers.add(sender.encode())
        self.apply(effects)
        for act in self._early.pop(actor, ()):
            act()

    def _watch(self, sender: str, message: node.WatchActor) -> None:
        self._when_known(message.id, lambda: self._show(sender, message.id))

    def _show(self, sender: str, actor: bytes) -> None:
        entry = self.table.actors.get(actor)
        if entry is None:
            cause = node.ExitCause(reason="no such actor")
            self._tell(sender, node.ActorUpdate(actor, entries.DEAD, 0, cause=cause))
            return
        entry.watchers.add(sender.encode())
        self._tell(sender, entry.update())

    def _kill(self, sender: str, message: node.KillActor) -> None:
        def kill() -> None:
            entry = self.table.actors.get(message.id)
            began = self._host.running(entry.worker) if entry is not None and entry.worker else b""
            self.apply(self.table.kill(message.id, message.no_restart, message.reason, b"", began))
            self._tell(sender, node.Answer(message.request, entry is not None))

        self._when_known(message.id, kill)

    def _when_known(self, actor: bytes, act: Callable[[], None]) -> None:
        if actor in self.table.actors:
            act()
        elif actor in self._early:
            self._early[actor].append(act)
        else:
            self._early[actor] = [act]
            self._world.clock.after(_EARLY_S, self._give_up, actor)

    def _give_up(self, actor: bytes) -> None:
        for act in self._early.pop(actor, ()):
            act()

    def granted(self, lease: Lease) -> None:
        """There is a worker for an actor that was to be placed."""
        actor = self._waiting.pop(lease.key[1], b"")
        entry = self.table.actors.get(actor)
        if entry is None or entry.state == entries.DEAD:
            self._host.apply(self._host.table.release(lease.id))
            return
        address = self._host.become(lease.worker, entry.spec)
        self.apply(self.table.granted(actor, lease.worker, 0, address))

    def worker_lost(self, worker: bytes, cause: node.ExitCause, *, begun: bool) -> None:
        """The process of an actor has died."""
        self.apply(self.table.worker_lost(worker, cause, begun=begun))

    def _exiting(self, sender: str, message: node.ActorExiting) -> None:
        worker = self._id(sender)
        if worker in self.table.by_worker:  # else it was killed before, and may be started anew
            self._world.ends(message.id)
        self.table.exiting(worker, message.reason)

    def _lingers(self, sender: str, message: node.Lingering) -> None:
        """Its work is over; only its objects are still needed."""
        worker = self._id(sender)
        _, effects = self._host.table.worker_retired(worker)
        self.worker_lost(worker, node.ExitCause(exit_code=0, running=self._host.running(worker)), begun=True)
        self._host.apply(effects)

    def process_lost(self, process: bytes, address: str) -> None:
        """A process has died: its actors die with it."""
        self.table.watcher_lost(address.encode())
        self.apply(self.table.owner_lost(process))

    # --- effects ------------------------------------------------------------------------------------------------------

    def apply(self, effects: Sequence[entries.Effect]) -> None:
        """Carry out what the table has decided."""
        for effect in effects:
            match effect:
                case entries.Publish():
                    update = effect.actor.update()
                    for watcher in sorted(effect.actor.watchers):
                        self._tell(watcher.decode(), update)
                case entries.Place():
                    self._world.clock.after(effect.delay_s, self._place, effect.actor)
                case entries.Unplace():
                    self._unplace(effect.actor)
                case entries.Settle():
                    lease = self._host.table.by_worker.get(effect.actor.worker or b"")
                    if lease is not None:
                        self._host.apply(self._host.table.shrink(lease, dict(effect.actor.spec.resources)))
                case entries.KillWorker():
                    self._host.kill_worker(effect.worker)
                case entries.EndOrderly():
                    self._host.tell_worker(effect.worker, wire.Terminate())
                case entries.ExpectEnd():
                    pass  # they end by themselves

    def _tell(self, watcher: str, message: wire.Struct) -> None:
        self._world.network.send(self._host.address, watcher, message)

    def _place(self, entry: entries.ActorEntry) -> None:
        if entry.state == entries.DEAD:
            return
        number = next(self._numbers)
        self._waiting[number] = entry.spec.id
        self._demand(number, entry.spec, 1)

    def _unplace(self, entry: entries.ActorEntry) -> None:
        for number in [number for number, actor in self._waiting.items() if actor == entry.spec.id]:
            del self._waiting[number]
            self._demand(number, entry.spec, 0)

    def _demand(self, number: int, spec: node.ActorSpec, wanted: int) -> None:
        request = ResourceRequest(spec.placement, spec.depth)
        self._host.apply(self._host.table.demand((self._host.id, number), request, wanted, "Actor", for_life=True))

    # --- what must hold -----------------------------------------------------------------------------------------------

    def is_settled(self) -> bool:
        """Whether no actor lives."""
        return not self._waiting and all(entry.state == entries.DEAD for entry in self.table.actors.values())
