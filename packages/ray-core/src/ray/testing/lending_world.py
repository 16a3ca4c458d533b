"""Node managers that lend each other workers, over connections that are slow and break: real tables, shells and
conversations, on a virtual clock. Their workers and owners are played.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

from ray.abc.scheduler import ResourceRequest
from ray.abc.transport import Connection, Frame
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.ids import make_lease_ids, node_bytes, node_manager_of, node_number, node_of
from ray.messages import cluster, codec, node, wire
from ray.messages.cluster import NodeRecord
from ray.protocol import handshake
from ray.protocol.leases import Grant, LeaseTable, RevokeLease, StartWorkers
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

_JOBS = 3
_START_S = 0.05
_MOST_EVENTS, _EVERY = 200_000, 4
_ONE = ResourceRequest({"CPU": UNIT})


class SimulatedManager:
    """The lease tables of a node manager with the shells around them, its workers and one owner."""

    def __init__(self, world: World, number: int, cpus: int) -> None:
        self.world, self.number, self.lives = world, number, True
        self.node = node_bytes(number)
        self.id = node_manager_of(self.node)
        self.cpus = cpus
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
            cluster.Offer: self.borrowing.offered,
            node.Revoke: lambda member, message: self.borrowing.tell_owner(message.lease, message),
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
        elif isinstance(message, node.Revoke):
            self._revoked(message.lease, soft=message.soft)
        else:
            assert isinstance(message, node.LeaseEnded)
            self._over(message.lease)
        return True

    def kill(self, worker: bytes, reason: str) -> None:
        """A worker dies, and what it served with it."""
        lease, effects = self.leases.worker_lost(worker)
        home = None if lease is None else self.world.nodes.get(node_number(lease.key[0]))
        if home is not None and lease is not None and "knows nothing of it" in reason:
            assert lease.id not in home.lent.lent, f"{lease.id.hex()} was ended, and its home knew of it"
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
        if self.world.is_looked_at():
            self.lent.validate()
            self.lending.validate()

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
                    self.after(_START_S, partial(self._ready, effect.job))
            elif type(effect) is RevokeLease:
                lease = effect.lease
                if lease.key[0] == self.owner:
                    self._revoked(lease.id, soft=effect.soft)
                elif lease.key[0] in self.clients:
                    self.clients[lease.key[0]].send(node.Revoke(lease.id, effect.soft))
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

    def _ready(self, job: str) -> None:
        self.apply(self.leases.worker_ready(self.node + b"%04d" % next(self.workers), job))

    def _look(self) -> None:
        self._looks = False
        self.borrowing.look()
        self.lending.changed()

    # --- the owner ----------------------------------------------------------------------------------------------------

    def job_of(self, key: int) -> str:
        """What it wants under one number is of one job; other homes have wants of that job, too."""
        return str((self.number + key) % _JOBS)

    def want(self, key: int, amount: int) -> None:
        """It wants so many workers."""
        self.wants[key] = amount
        self.apply(self.leases.demand((self.owner, key), _ONE, amount, job=self.job_of(key)))

    def _revoked(self, lease: bytes, *, soft: bool) -> None:
        """Others are to have a worker as soon as its task has ended; the owner has more tasks."""
        self.world.revoked += 1
        if not soft:
            self.after(self.world.rng.uniform(0.0, 1.0), partial(self._pass_on, lease))

    def _pass_on(self, lease: bytes) -> None:
        key = self.held.get(lease)
        if key is not None:
            self.give_back(lease)
            if not self.world.ends:
                self.want(key, self.wants[key] + 1)

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

    def __init__(self, seed: int, cpus: Sequence[int] = ()) -> None:
        """Begin a life.

        Args:
            seed: of all that is left to chance.
            cpus: processors of each node; empty: by chance.
        """
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.policy = self.rng.choice([HybridPolicy(), SpreadPolicy(), HybridPolicy(1.0)])
        self.most_delay_s = self.rng.choice([0.001, 0.05, 0.5])
        self.loss = self.rng.choice([0.0, 0.25])
        self.doubled = self.rng.choice([0.0, 0.25])
        self.refused: list[str] = []
        self._heard = 0
        self.nodes: dict[int, SimulatedManager] = {}
        self.wires: list[Wire] = []
        #: {lease that an owner has: its worker}, and the workers that have died
        self._worker_of: dict[bytes, bytes] = {}
        self.dead: set[bytes] = set()
        #: How many leases were to be given back to others, and whether owners want no more.
        self.revoked, self.ends = 0, False
        cpus = cpus or [self.rng.randint(1, 4) for _ in range(self.rng.randint(2, 4))]
        for number, amount in enumerate(cpus, 1):
            self.nodes[number] = SimulatedManager(self, number, amount)
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

    def is_looked_at(self) -> bool:
        """Whether the invariants of a node are checked now: after every fourth message."""
        self._heard += 1
        return not self._heard % _EVERY

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

    def uneven(self) -> list[str]:
        """Where one job has two workers more than another one that waits, of what is lent to both."""
        found = []
        for there in self.nodes.values():
            if there.leases.own_wait(_ONE):
                continue  # which is served first
            has = Counter(lease.job for lease in there.leases.leases.values())
            lent = Counter(lease.job for lease in there.leases.leases.values() if lease.on_loan)
            for here in self.nodes.values():
                for job in {here.job_of(key) for key, amount in here.wants.items() if amount and here is not there}:
                    found += [
                        f"node {there.number}: job {other} has {amount}, job {job} {has[job]} and wants more"
                        for other, amount in lent.items()
                        if other != job and amount >= has[job] + 2
                    ]
        return found

    def passes(self, seconds: float) -> None:
        """Time passes."""
        self.clock.run(self.clock.now + seconds, most=_MOST_EVENTS)


@contextlib.contextmanager
def time_of(clock: VirtualClock) -> Iterator[None]:
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
