"""Random lives of node managers that lend each other workers, over connections that are slow and break: real tables,
shells and conversations, on a virtual clock.

Each message takes up to half a second, more where a part of it is lost and sent again; some come twice, the second time
behind later ones. At any time a connection is lost, with all that is under way on it; its ends hear of that sooner or
later, and one of them dials anew. At times an end does not know any more what was said. Workers and nodes die. No
worker ever has two owners; in the end nothing is lent, and nobody knows of a lease that there is not.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from ray.abc.scheduler import ResourceRequest
from ray.abc.transport import Connection, Frame
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.ids import make_lease_ids, node_bytes, node_manager_of, node_number, node_of
from ray.messages import cluster, codec, node, wire
from ray.messages.cluster import NodeRecord
from ray.protocol import handshake
from ray.protocol.leases import Grant, LeaseTable, StartWorkers
from ray.protocol.lending import LendingTable
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.cluster import borrowing, lending
from ray.runtime.cluster.borrowing import LeaseBorrowing
from ray.runtime.cluster.lending import LeaseLending
from ray.runtime.cluster.members import Member, Members
from ray.runtime.node.client import Client
from ray.runtime.node.homes import Homes
from ray.runtime.node.reception import Reception
from ray.runtime.process.refusals import Refusals
from ray.testing.breaking_wires import Wire
from ray.testing.virtual_time import VirtualClock

_JOB = "1"
_START_S = 0.05
_MOST_EVENTS = 200_000
_ONE = ResourceRequest({"CPU": UNIT})


class SimulatedManager:
    """The lease tables of a node manager with the shells around them, its workers and one owner."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.lives = world, number, True
        self.node = node_bytes(number)
        self.id = node_manager_of(self.node)
        self.cpus = world.rng.randint(1, 4)
        self.record = NodeRecord(number, str(number), total={"CPU": self.cpus * UNIT})
        resources = NodeResources({"CPU": self.cpus * UNIT})
        self.leases = LeaseTable(self.id, resources, world.policy, make_lease_ids(self.node))
        self.lent = self.leases.others = LendingTable(world.policy)
        here: Any = self
        membership = handshake.Membership("session", number)
        self.members = Members(
            here,
            lambda talk, again: wire.Hello(
                codec.PROTOCOL_VERSION, "session", "node", self.id, "", 0, number, talk=talk, again=again
            ),
            here,
        )
        self.clients: dict[bytes, Client] = {}
        self.homes = Homes(here)
        refusals = Refusals(world.refused.append)
        self.reception = Reception(membership, here, self.clients, here, here, bytes, refusals, self.homes)
        self.borrowing = LeaseBorrowing(self.lent, self.leases, self.members, here, here, self.apply, here, here)
        self.lending = LeaseLending(self.leases, here, here, self.clients.values, self.apply)
        self.reception.join(lambda client: None, self.lending.meet)
        self.workers = count(1)
        self.owner = self.node + b"ownr"
        self.wants: Counter[int] = Counter()
        #: {lease that the owner has: what for}
        self.held: dict[bytes, int] = {}
        self._heard = self.members.handlers(self._begins_anew) | {
            cluster.LeasesLent: self.borrowing.compare,
            cluster.Load: self.borrowing.load,
            cluster.Refuse: self.borrowing.refused,
            node.Granted: self.borrowing.granted,
            node.LeaseEnded: self.borrowing.lease_ended,
        }
        self._looks = False

    # --- as its parts see it: transport, timers, processes, jobs ------------------------------------------------------

    def dial(self, address: str) -> Connection:
        return self.world.connect(self, int(address))

    def after(self, delay_s: float, callback: Any) -> None:
        self.world.clock.after(delay_s, lambda: self.lives and callback())

    def serves(self, job: str) -> bool:
        return True

    def config_of(self, job: str) -> bytes:
        return b""

    def get(self, job: str) -> None:
        return None

    def send_to(self, process: bytes, message: Any) -> bool:
        if isinstance(message, node.Granted):
            self._granted(message.key, message.lease, message.process)
        else:
            assert isinstance(message, node.LeaseEnded)
            self._over(message.lease)
        return True

    def kill(self, worker: bytes, reason: str) -> None:
        """A worker dies, and what it served with it."""
        lease, effects = self.leases.worker_lost(worker)
        self.world.dead.add(worker)
        if lease is not None:
            if lease.key[0] == self.owner:
                self._over(lease.id)
            elif lease.key[0] in self.clients:
                self.clients[lease.key[0]].send(node.LeaseEnded(lease.id, node.ExitCause(reason=reason)))
        self.apply(effects)

    # --- connections --------------------------------------------------------------------------------------------------

    def hears(self, connection: Wire, frames: Sequence[Frame]) -> None:
        """A message has come."""
        context = connection.context
        if context is None:
            self.reception.receive(connection, codec.decode(frames))
        elif type(context) is Member:
            self._hears_lender(context, frames)
        elif type(context) is Client and self.clients.get(context.id) is context:
            said = self.homes.opened(context, frames)
            if said:
                self._hears_home(context, codec.decode(said))
        self.lent.validate()

    def _hears_lender(self, member: Member, frames: Sequence[Frame]) -> None:
        if self.members.members.get(member.node) is not member:
            return
        said = self.members.opened(member, frames)
        message = codec.decode(said) if said else None
        if isinstance(message, wire.Welcome):
            member.stands = True
            self.borrowing.node_up(member)
        elif message is not None:
            self._heard[type(message)](member, message)

    def _hears_home(self, home: Client, message: Any) -> None:
        if isinstance(message, cluster.Borrow):
            self.lending.borrow(home, message)
        elif isinstance(message, cluster.LeasesHeld):
            self.lending.compare(home, message)
        elif isinstance(message, node.Release):
            self.apply(self.leases.release(message.lease))
        elif isinstance(message, wire.Got):
            self.homes.confirmed(home, message, ())
        elif isinstance(message, wire.Forgotten):
            self.homes.forgotten(home, message, ())
        else:
            assert isinstance(message, cluster.AdoptJob)

    def loses(self, connection: Wire) -> None:
        """A connection is lost."""
        context = connection.context
        if type(context) is Member:
            if self.members.lost(context):
                self.borrowing.node_lost(context)
        elif type(context) is Client:
            self.homes.broken(context, connection)

    def _begins_anew(self, member: Member) -> None:
        if self.members.lost(member):
            self.borrowing.node_lost(member)

    def learns(self, records: Sequence[NodeRecord]) -> None:
        """The director says which nodes there are."""
        if not self.lives:
            return
        for member in self.members.want([record for record in records if record is not self.record]):
            self.borrowing.node_down(member, "it died")
        living = {record.number for record in records}
        for home in [home for home in self.clients.values() if node_number(home.id) not in living]:
            self.homes.end(home)
            del self.clients[home.id]
            for lease in self.leases.owner_lost(home.id):
                self.kill(lease.worker, "its owner has died")
        self.apply(self.leases.schedule())

    # --- leases -------------------------------------------------------------------------------------------------------

    def apply(self, effects: Sequence[Any]) -> None:
        """Carry out what the lease table decides."""
        for effect in effects:
            if type(effect) is StartWorkers:
                for _ in range(effect.count):
                    self.after(_START_S, self._ready)
            elif type(effect) is Grant:
                lease = effect.lease
                if lease.key[0] == self.owner:
                    self._granted(lease.key[1], lease.id, lease.worker)
                elif lease.key[0] in self.clients:
                    granted = node.Granted(lease.key[1], lease.id, "", 0, [], lease.worker)
                    self.clients[lease.key[0]].send(granted)
        if not self._looks:
            self._looks = True
            self.after(0.0, self._look)

    def _ready(self) -> None:
        self.apply(self.leases.worker_ready(self.node + b"%04d" % next(self.workers), _JOB))

    def _look(self) -> None:
        self._looks = False
        self.borrowing.look()
        self.lending.changed()

    # --- the owner ----------------------------------------------------------------------------------------------------

    def want(self, key: int, amount: int) -> None:
        """It wants so many workers."""
        self.wants[key] = amount
        self.apply(self.leases.demand((self.owner, key), _ONE, amount, job=_JOB))

    def _granted(self, key: int, lease: bytes, worker: bytes) -> None:
        self.wants[key] -= 1
        self.held[lease] = key
        self.world.hold(lease, worker)

    def _over(self, lease: bytes) -> None:
        if self.held.pop(lease, None) is not None:
            self.world.let_go(lease)

    def give_back(self, lease: bytes) -> None:
        """It has nothing more for a worker."""
        self._over(lease)
        if node_of(lease) == self.node:
            self.apply(self.leases.release(lease))
        else:
            self.borrowing.release(node.Release(lease))


class World:
    """Some nodes, and what lies between them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.policy = self.rng.choice([HybridPolicy(), SpreadPolicy(), HybridPolicy(1.0)])
        self.most_delay_s = self.rng.choice([0.001, 0.05, 0.5])
        self.loss = self.rng.choice([0.0, 0.25])
        self.doubled = self.rng.choice([0.0, 0.25])
        self.refused: list[str] = []
        self.nodes: dict[int, SimulatedManager] = {}
        self.wires: list[Wire] = []
        #: {lease that an owner has: its worker}, and the workers that have died
        self._worker_of: dict[bytes, bytes] = {}
        self.dead: set[bytes] = set()
        for number in range(1, self.rng.randint(3, 5)):
            self.nodes[number] = SimulatedManager(self, number)
        self._tell()

    def _tell(self) -> None:
        records = [each.record for each in self.nodes.values()]
        for each in list(self.nodes.values()):
            self.clock.after(self.delay_s(), each.learns, records)

    def delay_s(self) -> float:
        """How long a message takes."""
        delay_s = self.rng.uniform(0.0, self.most_delay_s)
        while self.rng.random() < self.loss:
            delay_s += 0.2
        return delay_s

    def doubles(self) -> bool:
        """Whether a message comes twice."""
        return self.rng.random() < self.doubled

    def connect(self, here: SimulatedManager, number: int) -> Wire:
        """A connection to a node, which is lost at once if that is dead."""
        there = self.nodes.get(number)
        one = Wire(self, here)
        one.other = other = Wire(self, there or here)
        other.other = one
        self.wires.append(one)
        if there is None:
            other.closed = True
            one.breaks()
        return one

    def cut(self) -> None:
        """One of the connections is lost."""
        self.wires = [each for each in self.wires if not each.closed]
        if self.wires:
            chosen = self.rng.choice(self.wires)
            chosen.breaks()
            chosen.other.breaks()

    def kill(self, gone: SimulatedManager) -> None:
        """A node dies."""
        del self.nodes[gone.number]
        gone.lives = False
        self.dead |= {lease.worker for lease in gone.leases.leases.values()}
        for lease in gone.held:
            self.let_go(lease)
        for each in self.wires:
            if gone in (each.here, each.other.here):
                each.breaks()
                each.other.breaks()
        self._tell()

    def hold(self, lease: bytes, worker: bytes) -> None:
        """An owner has a worker."""
        same = [other for other, its in self._worker_of.items() if its == worker and worker not in self.dead]
        assert not same, f"{worker.hex()} has two owners: {lease.hex()} and {same[0].hex()}"
        assert lease not in self._worker_of, f"{lease.hex()} was granted twice"
        self._worker_of[lease] = worker

    def let_go(self, lease: bytes) -> None:
        """An owner has a worker no more."""
        del self._worker_of[lease]

    def passes(self, seconds: float) -> None:
        """Time passes."""
        self.clock.run(self.clock.now + seconds, most=_MOST_EVENTS)


@contextlib.contextmanager
def _time_of(clock: VirtualClock) -> Iterator[None]:
    """The shells go by that clock."""
    shells: tuple[Any, ...] = (borrowing, lending)
    before = [shell.monotonic for shell in shells]
    for shell in shells:
        shell.monotonic = lambda: clock.now
    try:
        yield
    finally:
        for shell, monotonic in zip(shells, before, strict=True):
            shell.monotonic = monotonic


def live(seed: int) -> World:
    """One life.

    Raises:
        AssertionError: something does not hold.
    """
    world = World(seed)
    with _time_of(world.clock):
        _live(world)
    return world


def _live(world: World) -> None:
    rng = world.rng
    for _ in range(rng.randint(10, 60)):
        world.passes(rng.choice([0.0, 0.001, 0.1, 1.0]))
        here = rng.choice(list(world.nodes.values()))
        match rng.choices(range(6), [6, 6, 4, 2, 0.3, 1])[0]:
            case 0:
                key = rng.randint(1, 3)
                here.want(key, max(here.wants[key], rng.randint(0, 6)))
            case 1 if here.held:
                here.give_back(rng.choice(list(here.held)))
            case 2:
                world.cut()
            case 3 if here.leases.by_worker:
                here.kill(rng.choice(list(here.leases.by_worker)), "it was killed")
            case 4 if len(world.nodes) > 2:
                world.kill(here)
            case 5 if here.clients:  # more was lost than is kept, or it was a message that could not be handled
                home = rng.choice(list(here.clients.values()))
                here.homes.end(home)
    world.passes(30.0)
    for here in world.nodes.values():
        for lease in here.held:
            there = world.nodes.get(node_number(lease))
            assert there is not None, f"{lease.hex()} is of a dead node, and its owner does not know"
            assert lease in there.leases.leases, f"{lease.hex()} has ended, and its owner does not know"
    for _ in range(40):
        world.passes(5.0)
        for here in world.nodes.values():
            for key in list(here.wants):
                here.want(key, 0)
            for lease in list(here.held):
                here.give_back(lease)
        if not any(here.held for here in world.nodes.values()):
            break
    world.passes(30.0)
    for here in world.nodes.values():
        assert not here.held
        assert not here.lent.lent, f"node {here.number} knows of leases that there are not"
        assert not here.leases.leases, (
            f"node {here.number} has lent {len(here.leases.leases)} workers, and nobody knows"
        )
        here.lent.tick(world.clock.now)
        assert not here.lent.loans
        assert here.leases.resources.available() == here.leases.resources.total()
    assert not world.refused, world.refused
