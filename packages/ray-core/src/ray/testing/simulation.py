"""A cluster in one process and in no time: the pure machines on a virtual clock, every choice from one seed.

``Cluster`` runs a real ``LeaseTable`` and ``ActorTable`` for each node, real scheduling policies over the nodes, a real
``RunSlot`` for each worker, a real ``TaskTable`` and ``ReferenceTable`` for each owner, and for each program and actor
what an owner has of calls and refs: ``CallTable``, ``ReferenceTable``, and the shells around them. Simulated are only
time, messages, connections, the choice among nodes, and what tasks and calls would do. The same arguments give the same
run, event by event (``Cluster.digest``), so a failure can be run again with its seed.
"""

from __future__ import annotations

import itertools
import random
import zlib

from ray.abc.scheduler import SchedulerPolicy
from ray.builtin.schedulers import HybridPolicy
from ray.ids import PROCESS_ID_BYTES, process_of
from ray.protocol.resources import UNIT
from ray.testing.delivering_network import DeliveringNetwork
from ray.testing.simulated_connections import Connections
from ray.testing.simulated_node import SimulatedNode
from ray.testing.simulated_owner import SimulatedOwner
from ray.testing.simulated_program import SimulatedProgram
from ray.testing.simulated_world import ONE_CPU, Behaviour, ConnectionEnd, Links
from ray.testing.virtual_time import LinkQuality, Network, VirtualClock

__all__ = [
    "ONE_CPU",
    "Behaviour",
    "Cluster",
    "LinkQuality",
    "Network",
    "SimulatedNode",
    "SimulatedOwner",
    "VirtualClock",
]


#: In a strict world the invariants of processes and actors are checked after each of so many events.
_CHECKED = 8


class Cluster:
    """Nodes and owners on one clock. After ``submit`` and ``run``, ``check_settled`` says whether all has ended."""

    def __init__(
        self,
        nodes: int,
        *,
        owners: int = 1,
        programs: int = 0,
        cpus: int = 8,
        policy: SchedulerPolicy | None = None,
        candidates: int = 0,
        behaviour: Behaviour | None = None,
        worker_start_s: float = 0.02,
        warm: int = 0,
        quality: LinkQuality | None = None,
        delivering: bool = False,
        strict: bool = False,
        seed: int = 0,
    ) -> None:
        """Make a cluster in which nothing happens yet.

        Args:
            nodes: how many.
            owners: how many; each is at home on a node of its own, as far as there are enough.
            programs: how many have actors; likewise.
            cpus: of each node.
            policy: chooses among nodes, and on each node; hybrid by default.
            candidates: how many nodes, drawn at random, the policy is shown for a choice; 0 shows it all of them.
            behaviour: of tasks and workers.
            worker_start_s: from the fork of a worker to its readiness.
            warm: workers of each node that are ready from the start.
            quality: of all links.
            delivering: messages arrive once and in order by real ``Delivery`` machines over links that do worse.
            strict: check the invariants of the tables of tasks after every few events.
            seed: of every choice.
        """
        self.clock = VirtualClock()
        self.rng = random.Random(seed)
        kind = DeliveringNetwork if delivering else Network
        self.network: Links = kind(self.clock, random.Random(seed + 1), quality or LinkQuality())
        self.connections = Connections(self.network, self.clock, self.rng)
        self.policy: SchedulerPolicy = policy or HybridPolicy()
        self.candidates = candidates
        self.behaviour = behaviour or Behaviour()
        self.worker_start_s = worker_start_s
        self.strict = strict
        #: More of them at a time have no end.
        self.most_events = float("inf")
        #: How often the policy was asked for a node.
        self.decisions = 0
        #: Depends on every grant and its time: equal for equal runs.
        self.digest = 0
        self._ids = itertools.count(1)
        made = [SimulatedNode(self, number, {"CPU": cpus * UNIT}) for number in range(nodes)]
        self.nodes = {node.address: node for node in made}
        #: {task id: attempts that have begun}
        self._begun: dict[bytes, int] = {}
        #: {(actor, caller): the call that has begun last, of those that have not been tried before}
        self._last: dict[tuple[bytes, bytes], bytes] = {}
        #: Actors that have said that they end.
        self._ended: set[bytes] = set()
        for node in made:
            for _ in range(warm):
                node.add_worker()
        placed = (SimulatedOwner(self, i, made[i % nodes], self.nodes) for i in range(owners))
        self.owners = {owner.address: owner for owner in placed}
        writers = (SimulatedProgram(self, i, made[-1 - i % nodes]) for i in range(programs))
        self.programs = {program.address: program for program in writers}
        for node in made:
            self.network.join(node.address, node.receive)
        for owner in self.owners.values():
            self.network.join(owner.address, owner.receive)

    def new_id(self) -> bytes:
        """Sixteen bytes that nothing else has."""
        return next(self._ids).to_bytes(16, "big")

    def new_process_id(self) -> bytes:
        """One that no other process has, nor a node."""
        return b"\xff" + next(self._ids).to_bytes(PROCESS_ID_BYTES - 1, "big")

    def lives(self, address: str) -> bool:
        """Whether a node is there still."""
        return address in self.nodes

    def ran(self, task: bytes, attempt: int) -> None:
        """A worker begins with a task: with each attempt at most once, and in order."""
        last = self._begun.get(task, -1)
        self.check(attempt > last, f"attempt {attempt} of a task begins after attempt {last}")
        self._begun[task] = attempt

    def called(self, actor: bytes, call: bytes, attempt: int) -> None:
        """An actor begins with a call: the same, and the calls of one caller in the order of their submission."""
        self.ran(call, attempt)
        self.check(actor not in self._ended, "an actor goes on that has ended")
        if not attempt:
            pair = actor, process_of(call)
            self.check(self._last.get(pair, b"") < call, "a call has overtaken an earlier one")
            self._last[pair] = call

    def ends(self, actor: bytes) -> None:
        """An actor begins with no more calls, in any process."""
        self._ended.add(actor)

    def did_not_start(self, call: bytes, attempt: int) -> None:
        """A caller is told so, and may rely on it."""
        self.check(self._begun.get(call, -1) < attempt, "a call has begun, and is said not to have")

    def submit(self, tasks: int) -> None:
        """So many tasks of one CPU, in equal parts by all owners."""
        share, rest = divmod(tasks, len(self.owners))
        for index, owner in enumerate(self.owners.values()):
            owner.submit(share + (index < rest))

    def run(self, until_s: float = float("inf")) -> int:
        """Let time pass until ``until_s``, or until nothing is under way; returns the number of events."""
        look = self.validate if self.strict and self.programs else None
        return self.clock.run(until_s, self.most_events, look, _CHECKED)

    def fail_node(self, address: str, detect_s: float = 1.0) -> None:
        """A node dies now; the owners learn of it after ``detect_s``, and run its tasks again elsewhere."""
        self.nodes.pop(address).end()
        self.network.leave(address)
        for owner in self.owners.values():
            self.clock.after(detect_s, owner.node_lost, address)

    def fail_program(self, address: str) -> None:
        """A program dies now."""
        program = self.programs.pop(address)
        self.connections.leave(address)
        self.network.send(address, program.home, ConnectionEnd(program.id))

    def cut(self, one: str, other: str, seconds: float) -> None:
        """Two addresses do not hear each other for so long."""
        self.network.cut(one, other, self.clock.now + seconds)

    def validate(self) -> None:
        """Raise AssertionError unless the invariants of all tables hold, and what is held is with its owner."""
        ends = self.connections.ends
        for end in ends.values():
            end.validate()
            if not self.connections.broken:  # else the owner does not count what the other one holds
                gone = [id for owner, id in end.holds() if owner in ends and not ends[owner].owns(id)]
                self.check(not gone, "an object was freed that another process holds")
        for node in self.nodes.values():
            node.actors.table.validate()

    def check_settled(self) -> None:
        """Raise AssertionError unless everything has run, and nothing is held, asked for or under way."""
        for owner in self.owners.values():
            owner.finish()
        for program in self.programs.values():
            program.finish()
        self.run()
        if self.connections.broken:  # a credit and its hold may be of different sides of a break: both last no longer
            for node in self.nodes.values():  # than the processes do
                node.end_actors()
            self.run()
        self.check(not len(self.clock), "events are left")
        for owner in self.owners.values():
            left = f"{owner.pending} tasks, {len(owner.tasks.leases)} leases, {len(owner.table.entries)} objects left"
            self.check(owner.idle(), f"{owner.address}: {left}")
        for program in self.programs.values():
            entries, clients = program.process.table.entries, program.process.calls.clients
            left = f"{program.pending} calls, {len(entries)} objects, {len(clients)} actors left"
            self.check(program.process.is_settled(), f"{program.address}: {left}")
        self.check(len(self.connections.ends) == len(self.programs), "actors live that nobody holds")
        for node in self.nodes.values():
            self.check(node.actors.is_settled(), f"{node.address} has actors left")
            table = node.table
            self.check(not table.leases and not table.demands, f"{node.address} has leases or demands left")
            self.check(table.resources.available() == node.total, f"{node.address} has not got everything back")

    def record(self, *facts: bytes) -> None:
        """Make ``facts`` and the time part of the digest."""
        self.digest = zlib.crc32(b"".join((*facts, f"{self.clock.now:.9f}".encode())), self.digest)

    def check(self, holds: bool, what: str) -> None:
        """Raise AssertionError with the time if something does not hold; also under ``python -O``."""
        if not holds:
            raise AssertionError(f"at {self.clock.now:.6f} s: {what}")
