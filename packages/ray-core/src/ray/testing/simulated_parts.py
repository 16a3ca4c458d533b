"""The parts of a simulated cluster: nodes with real lease tables, owners with real reference tables, their messages."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.protocol.leases import Effect, Grant, LeaseTable, RevokeLease, StartWorkers
from ray.protocol.references import ObjectEntry, ReferenceTable
from ray.protocol.resources import UNIT, NodeResources
from ray.testing.virtual_time import Network, VirtualClock

ONE_CPU = ResourceRequest({"CPU": UNIT})


@dataclass(frozen=True, slots=True)
class Wish:
    """Owner to node: ``count`` more leases of one CPU class."""

    count: int


@dataclass(frozen=True, slots=True)
class Granted:
    """Node to owner, with what is free there now."""

    lease: bytes
    worker: bytes
    available: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Released:
    """Owner to node."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Revoked:
    """Node to owner: others wait."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Returned:
    """Worker to owner: it no longer keeps the argument that it had kept."""

    object_id: bytes
    borrower: str
    node: str


@dataclass(slots=True)
class HeldLease:
    """What an owner knows of a lease that it holds."""

    node: str
    worker: bytes
    tasks_left: int
    #: The object that the running task makes.
    result: ObjectEntry | None = None


class World(Protocol):
    """What nodes and owners have around them, and in common. ``simulation.Cluster`` says what each attribute means."""

    clock: VirtualClock
    rng: random.Random
    network: Network
    policy: SchedulerPolicy
    candidates: int
    tasks_per_lease: int
    task_s: tuple[float, float]
    worker_start_s: float
    keep: float
    decisions: int
    #: By address.
    nodes: dict[str, SimulatedNode]
    owners: dict[str, SimulatedOwner]

    def new_id(self) -> bytes:
        """Twenty bytes that nothing else has."""

    def record(self, *facts: bytes) -> None:
        """Make ``facts`` and the time part of the digest of the run."""

    def check(self, holds: bool, what: str) -> None:
        """Raise AssertionError with the time if something does not hold."""


class SimulatedNode:
    """One node: a real lease table, workers that start after a while, and nothing else."""

    def __init__(self, cluster: World, number: int, resources: Mapping[str, int]) -> None:
        self.cluster = cluster
        self.id = number.to_bytes(8, "big")
        self.address = f"node{number}"
        new_id = cluster.new_id
        self.table = LeaseTable(self.id, NodeResources(resources), cluster.policy, new_id)
        self.total = dict(resources)

    def receive(self, sender: str, message: Any) -> None:
        """A message of an owner."""
        if type(message) is Wish:
            request = self.cluster.owners[sender].request
            self.apply(self.table.demand((sender.encode(), 0), request, message.count))
        else:
            self.apply(self.table.release(message.lease))

    def apply(self, effects: list[Effect]) -> None:
        """Carry out what the table has decided."""
        cluster = self.cluster
        for effect in effects:
            kind = type(effect)
            if kind is Grant:
                lease = effect.lease  # type: ignore[union-attr]
                free = self.table.resources.available()
                cluster.check(all(amount >= 0 for amount in free.values()), f"{self.address} gave more than it has")
                cluster.record(self.id, lease.id)
                message = Granted(lease.id, lease.worker, free)
                cluster.network.send(self.address, lease.key[0].decode(), message)
            elif kind is StartWorkers:
                for _ in range(effect.count):  # type: ignore[union-attr]
                    cluster.clock.after(cluster.worker_start_s, self._started)
            elif kind is RevokeLease:
                lease = effect.lease  # type: ignore[union-attr]
                cluster.network.send(self.address, lease.key[0].decode(), Revoked(lease.id))

    def _started(self) -> None:
        if self.address in self.cluster.nodes:
            self.apply(self.table.worker_ready(self.cluster.new_id()))


class SimulatedOwner:
    """A driver: has tasks, chooses nodes for them, runs them on what it is granted, counts its references.

    Every task has the same object of the owner as its argument; some keep it for a while (``Cluster.keep``).
    """

    def __init__(self, cluster: World, number: int, home: SimulatedNode) -> None:
        self.cluster = cluster
        self.address = f"owner{number}"
        self.request = ONE_CPU
        self.table = ReferenceTable()
        self.pending = self.done = self.refused = 0
        self._home = home.address
        #: {node: leases asked for there and not granted yet}
        self._wished: dict[str, int] = {}
        self._wished_total = 0
        self._leases: dict[bytes, HeldLease] = {}
        #: {node: workers there that keep the argument}
        self._keepers: dict[str, set[str]] = {}
        #: What this owner believes to be free; corrected by every grant.
        self._views = {
            node.address: NodeView(node.id, node.total, dict(node.total), node is home)
            for node in cluster.nodes.values()
        }
        self._names = list(self._views)
        #: Nodes where something became free lately: worth a look.
        self._freed: deque[str] = deque(maxlen=4)
        self._argument: ObjectEntry | None = None

    def submit(self, count: int, request: ResourceRequest = ONE_CPU) -> None:
        """So many more tasks; one class an owner."""
        self.request = request
        if self._argument is None:
            self._argument = self.table.own(self.cluster.new_id())
            self._argument.local = 1
        self.pending += count
        self.table.pin([self._argument] * count)
        self.place()

    def finish(self) -> None:
        """Let go of the argument; after the last task nothing may be left in the reference table."""
        entry, self._argument = self._argument, None
        if entry is not None:
            entry.local = 0
            self.table.dropped.append(entry)
        self._collect()

    def place(self) -> None:
        """Ask for leases for what has none, where the policy says, as far as anything seems to be free."""
        changed = set()
        while self._wished_total < self.pending:
            node = self._choose()
            if node is None:
                break
            available: Any = self._views[node].available
            for name, amount in self.request.resources.items():
                available[name] -= amount
            self._wished[node] = self._wished.get(node, 0) + 1
            self._wished_total += 1
            changed.add(node)
        for node in sorted(changed):
            self.cluster.network.send(self.address, node, Wish(self._wished[node]))

    def _choose(self) -> str | None:
        cluster = self.cluster
        names = self._names
        if cluster.candidates and cluster.candidates < len(names):
            sample = dict.fromkeys([self._home, *self._freed, *cluster.rng.choices(names, k=cluster.candidates)])
            views = [self._views[name] for name in sample if name in self._views]
        else:
            views = list(self._views.values())
        cluster.decisions += 1
        chosen = cluster.policy.choose(self.request, views)
        if chosen is None:
            self.refused += 1
            return None
        return f"node{int.from_bytes(chosen, 'big')}"

    def receive(self, sender: str, message: Any) -> None:
        """A message of a node, or of a worker that kept an argument."""
        if type(message) is Granted:
            self._granted(sender, message)
        elif type(message) is Revoked:
            lease = self._leases.get(message.lease)
            if lease is not None:
                lease.tasks_left = 0
        elif message.node in self._views:  # else its connection is gone already, and its credits are void
            self.table.take_back(message.object_id, message.borrower, 1)
            self._collect()

    def _granted(self, node: str, message: Granted) -> None:
        view = self._views.get(node)
        if view is None:
            return  # sent before the node died
        if self._wished.get(node):
            self._wished[node] -= 1
            self._wished_total -= 1
        available: Any = view.available
        available.update(message.available)
        for name, amount in self.request.resources.items():
            available[name] -= amount * self._wished.get(node, 0)
        self._leases[message.lease] = HeldLease(node, message.worker, self.cluster.tasks_per_lease)
        self._next_task(message.lease)

    def _next_task(self, lease_id: bytes) -> None:
        lease = self._leases[lease_id]
        if not self.pending or not lease.tasks_left:
            self._release(lease_id)
            return
        lease.tasks_left -= 1
        self.pending -= 1
        lease.result = self.table.own(self.cluster.new_id())
        lease.result.local = 1
        self.cluster.clock.after(self.cluster.rng.uniform(*self.cluster.task_s), self._ended, lease_id)

    def _release(self, lease_id: bytes) -> None:
        node = self._leases.pop(lease_id).node
        available: Any = self._views[node].available
        for name, amount in self.request.resources.items():
            available[name] += amount
        self._freed.append(node)
        self.cluster.network.send(self.address, node, Released(lease_id))
        if self.pending > self._wished_total:
            self.place()

    def _ended(self, lease_id: bytes) -> None:
        lease, cluster = self._leases.get(lease_id), self.cluster
        if lease is None or lease.node not in cluster.nodes:
            return  # the node has died under the task; this owner knows, or will
        self._drop_result(lease)
        argument = self._argument
        assert argument is not None
        if cluster.keep and cluster.rng.random() < cluster.keep:
            borrower = lease.worker.hex()
            self.table.grant(argument, borrower)
            self._keepers.setdefault(lease.node, set()).add(borrower)
            cluster.clock.after(cluster.task_s[1], self._give_back, lease.node, borrower, argument.id)
        self.table.unpin([argument])
        self.done += 1
        self._collect()
        self._next_task(lease_id)

    def _give_back(self, node: str, borrower: str, object_id: bytes) -> None:
        """What the worker does that has kept the argument."""
        if node in self.cluster.nodes:
            self.cluster.network.send(borrower, self.address, Returned(object_id, borrower, node))

    def _drop_result(self, lease: HeldLease) -> None:
        entry, lease.result = lease.result, None
        if entry is not None:
            entry.local = 0
            self.table.dropped.append(entry)

    def _collect(self) -> None:
        for entry in self.table.collect():
            self.cluster.check(entry.local == 0 and entry.pins == 0, "an object was freed that is in use")

    def node_lost(self, node: str) -> None:
        """A node is gone, with its leases and workers and what was asked for there. Its tasks run once more."""
        self._views.pop(node, None)
        self._names.remove(node)
        self._wished_total -= self._wished.pop(node, 0)
        for lease_id, lease in list(self._leases.items()):
            if lease.node == node:
                del self._leases[lease_id]
                self.pending += lease.result is not None
                self._drop_result(lease)
        for borrower in sorted(self._keepers.pop(node, ())):
            self.table.borrower_lost(borrower)
        self._collect()
        self.place()

    def idle(self) -> bool:
        """Whether nothing is left to do, asked for or held."""
        return not (self.pending or self._leases or self.table.entries)
