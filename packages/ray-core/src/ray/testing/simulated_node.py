"""One simulated node: a real lease table, workers that start after a while and may die, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.abc.scheduler import NodeView, ResourceRequest
from ray.messages import node, wire
from ray.protocol.leases import Effect, Grant, Infeasible, Lease, LeaseTable, RevokeLease, StartWorkers
from ray.protocol.resources import NodeResources
from ray.testing.simulated_actor import SimulatedActor
from ray.testing.simulated_actors import SimulatedActors
from ray.testing.simulated_worker import SimulatedWorker
from ray.testing.simulated_world import ConnectionEnd, Load, World

#: How long the node manager takes to see that a worker has died.
_SEEN_S = (0.0, 0.01)


class SimulatedNode:
    """Answers owners as a node manager does."""

    def __init__(self, world: World, number: int, resources: Mapping[str, int]) -> None:
        self._world = world
        self.id = number.to_bytes(8, "big")
        self.address = f"node{number}"
        self.table = LeaseTable(self.id, NodeResources(resources), world.policy, world.new_id)
        self.total = dict(resources)
        #: {worker id: worker}
        self.workers: dict[bytes, SimulatedWorker | SimulatedActor] = {}
        self.actors = SimulatedActors(world, self)
        self._handlers: dict[type, Callable[[str, Any], None]] = {
            node.Demand: self._demand,
            node.Release: self._release,
            node.Suspect: self._suspect,
            node.RecallLease: self._recall,
            ConnectionEnd: self._ended,
            **self.actors.handlers,
        }

    def view(self, *, is_home: bool) -> NodeView:
        """What an owner believes of it before it has heard anything."""
        return NodeView(self.id, self.total, dict(self.total), is_home)

    def receive(self, sender: str, message: Any) -> None:
        """A message of an owner."""
        self._handlers[type(message)](sender, message)

    def add_worker(self) -> None:
        """One more is ready."""
        world = self._world
        if world.lives(self.address):
            id = world.new_process_id()
            address = f"{self.address}/{id[1:].hex().lstrip('0')}"
            self.workers[id] = SimulatedWorker(world, id, address, self._blocked, self._died)
            self.apply(self.table.worker_ready(id))

    def kill_worker(self, id: bytes) -> None:
        """One dies by no fault of its own."""
        worker = self.workers.get(id)
        if worker is not None and not worker.dead:
            worker.kill()
            self._died(id)

    def end(self) -> None:
        """The node is gone, with everything on it."""
        for worker in self.workers.values():
            if not worker.dead:
                worker.kill()

    def end_actors(self) -> None:
        """Kill them all."""
        for id in [id for id, worker in self.workers.items() if isinstance(worker, SimulatedActor)]:
            self.kill_worker(id)

    def apply(self, effects: list[Effect]) -> None:
        """Carry out what the table has decided."""
        world = self._world
        for effect in effects:
            match effect:
                case Grant():
                    self._granted(effect.lease)
                case StartWorkers():
                    for _ in range(effect.count):
                        world.clock.after(world.worker_start_s, self.add_worker)
                case RevokeLease():
                    owner = effect.lease.key[0].decode()
                    world.network.send(self.address, owner, node.Revoke(effect.lease.id, effect.soft))
                case Infeasible():
                    owner, number = effect.entry.key[0].decode(), effect.entry.key[1]
                    world.network.send(self.address, owner, node.Infeasible(number, "needs what no node has"))

    def _granted(self, lease: Lease) -> None:
        world = self._world
        free = self.table.resources.available()
        within = all(amount >= 0 for amount in free.values())
        # Tasks that have waited go on while others have their processors.
        world.check(within or world.behaviour.blocks > 0, f"{self.address} gave more than it has")
        world.record(self.id, lease.id)
        if lease.key[0] == self.id:
            self.actors.granted(lease)
            return
        owner, number = lease.key[0].decode(), lease.key[1]
        world.network.send(self.address, owner, Load(free))
        address = self.workers[lease.worker].address
        world.network.send(self.address, owner, node.Granted(number, lease.id, address, 0))

    def _demand(self, sender: str, message: node.Demand) -> None:
        request = ResourceRequest(message.resources, message.depth, message.priority)
        self.apply(self.table.demand((sender.encode(), message.key), request, message.count))

    def _release(self, sender: str, message: node.Release) -> None:
        self.apply(self.table.release(message.lease, retired=message.retired))

    def _suspect(self, sender: str, message: node.Suspect) -> None:
        lease = self.table.leases.get(message.lease)
        if lease is not None:
            self.kill_worker(lease.worker)

    def _recall(self, sender: str, message: node.RecallLease) -> None:
        lease = self.table.leases.get(message.lease)
        worker = self.workers.get(lease.worker) if lease is not None else None
        exempt = worker.slot.revoke(message.recall) if worker is not None and not worker.dead else None
        answer = node.LeaseRecalled(message.lease, message.recall, exempt is not None, exempt or b"")
        self._world.network.send(self.address, sender, answer)

    def _blocked(self, worker: bytes, waits: bool) -> None:
        if waits:
            self.apply(self.table.blocked(worker))
        else:
            self.table.resumed(worker)

    # --- for the actors -----------------------------------------------------------------------------------------------

    def become(self, worker: bytes, spec: node.ActorSpec) -> str:
        """A worker becomes an actor, unless it has just died or is about to; returns its address."""
        found = self.workers[worker]
        assert isinstance(found, SimulatedWorker)
        if not (found.dead or found.retires):
            self.workers[worker] = SimulatedActor(self._world, worker, found.address, self.address, spec, self._died)
        return found.address

    def tell_worker(self, worker: bytes, message: wire.Struct) -> None:
        """Send to one."""
        self._world.network.send(self.address, self.workers[worker].address, message)

    def running(self, worker: bytes) -> bytes:
        """The id of what it has begun last; empty if that is not known."""
        return self.workers[worker].slot.running if worker in self.workers else b""

    # --- deaths -------------------------------------------------------------------------------------------------------

    def _died(self, worker: bytes) -> None:
        world = self._world
        address = self.workers[worker].address  # what it has said comes first
        world.clock.after(world.rng.uniform(*_SEEN_S), world.network.send, address, self.address, ConnectionEnd(worker))

    def _ended(self, sender: str, message: ConnectionEnd) -> None:
        """A process is gone, one of the workers or a program."""
        lost = self.workers.pop(message.process, None)
        if lost is not None:
            lease, effects = self.table.worker_lost(message.process)
            cause = node.ExitCause(signal=9, running=lost.slot.running)
            if lease is not None and lease.key[0] == self.id:
                self.actors.worker_lost(message.process, cause, begun=lost.slot.has_begun_actor)
            elif lease is not None:
                self._world.network.send(self.address, lease.key[0].decode(), node.LeaseEnded(lease.id, cause))
            self.apply(effects)
        self.actors.process_lost(message.process, sender)
