"""Random lives of a few nodes whose owners want workers at some of them: real tables and shells, messages that take
their time, nodes that come and go.
"""

from __future__ import annotations

import random
from collections import Counter
from itertools import count
from typing import Any

import pytest

import ray.runtime.cluster.borrowing
from ray.abc.scheduler import NodeView, ResourceRequest
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.ids import make_lease_ids, node_bytes, node_manager_of, node_of
from ray.messages import cluster, node
from ray.messages.cluster import NodeRecord
from ray.messages.placement import LabelRule, Placement
from ray.protocol.leases import Grant, LeaseTable, RevokeLease, StartWorkers
from ray.protocol.lending import LendingTable
from ray.protocol.placement import allows, candidates
from ray.protocol.resources import UNIT, NodeResources
from ray.protocol.waiting import DemandKey
from ray.runtime.cluster.borrowing import LeaseBorrowing
from ray.runtime.cluster.lending import LeaseLending
from ray.testing.virtual_time import LinkQuality, Network, VirtualClock

JOB = "1"
START_S = 0.05


class Link:
    """Another node, as one knows it: a ``Member`` for the home, a ``Client`` for the lender."""

    def __init__(self, world: World, here: Node, there: Node) -> None:
        self.record = NodeRecord(there.number, "", there.name, total=there.view.total, labels=there.view.labels)
        self.id, self.node, self.job, self.title = there.id, there.node, "", there.name
        self._world, self._here, self._there = world, here, there

    def send(self, message: Any) -> None:
        self._world.network.send(self._here.name, self._there.name, message)


class Node:
    """The lease tables of a node manager with the shells around them, its workers and one owner."""

    def __init__(self, world: World, number: int, cpus: int, labels: dict[str, str]) -> None:
        self.world, self.number, self.name = world, number, f"node-{number}"
        self.node = node_bytes(number)
        self.id = node_manager_of(self.node)
        resources = NodeResources({"CPU": cpus * UNIT})
        self.leases = LeaseTable(self.id, resources, world.policy, make_lease_ids(self.node), self.name, labels)
        self.view: NodeView = self.leases.view()
        self.lent = self.leases.others = LendingTable(world.policy)
        self.links: dict[bytes, Link] = {}
        self.workers = count(1)
        self.owner = self.node + b"ownr"
        #: What the owner waits for, with what it is, and what it has.
        self.wants: dict[int, int] = {}
        self.kinds: dict[int, tuple[ResourceRequest, Placement | None]] = {}
        self.held: dict[bytes, int] = {}
        self.borrowing = LeaseBorrowing(
            self.lent, self.leases, self, self, self, self.apply, None, None  # type: ignore[arg-type]
        )  # fmt: skip
        self.lending = LeaseLending(self.leases, self, self, self.links.values, self.apply)  # type: ignore[arg-type]
        self._looks = False

    # --- what the shells ask for ---

    def after(self, delay_s: float, callback: Any) -> None:
        self.world.clock.after(delay_s, lambda: self.world.nodes.get(self.name) is self and callback())

    def send(self, to: bytes, message: Any) -> bool:
        link = self.links.get(to)
        if link is not None:
            link.send(message)
        return link is not None

    def serves(self, job: str) -> bool:
        return True

    def config_of(self, job: str) -> bytes:
        return b""

    def send_to(self, process: bytes, message: Any) -> bool:
        assert process == self.owner
        if isinstance(message, node.Granted):
            self.granted(message.key, message.lease)
        else:
            assert isinstance(message, node.LeaseEnded)
            self.held.pop(message.lease, None)
        return True

    def apply(self, effects: list[Any]) -> None:
        for effect in effects:
            if type(effect) is StartWorkers:
                for _ in range(effect.count):
                    self.after(START_S, self._ready)
            elif type(effect) is Grant:
                lease = effect.lease
                self.world.placed(lease.request, lease.key, self)
                if lease.key[0] == self.owner:
                    self.granted(lease.key[1], lease.id)
                else:
                    self.send(node_of(lease.key[0]), node.Granted(lease.key[1], lease.id, "", 0))
            else:
                assert type(effect) is RevokeLease or effect.entry.infeasible
        if not self._looks:
            self._looks = True
            self.after(0.0, self._look)

    def _ready(self) -> None:
        self.apply(self.leases.worker_ready(self.node + b"%04d" % next(self.workers), JOB))

    def _look(self) -> None:
        self._looks = False
        self.borrowing.look()
        self.lending.changed()

    # --- messages ---

    def receive(self, sender: str, message: Any) -> None:
        other = self.world.nodes.get(sender)
        link = None if other is None else self.links.get(other.node)
        if link is None:
            return
        member: Any = link
        if isinstance(message, cluster.Load):
            self.borrowing.load(member, message)
        elif isinstance(message, cluster.Borrow):
            self.lending.borrow(member, message)
        elif isinstance(message, cluster.Refuse):
            self.borrowing.refused(member, message)
        elif isinstance(message, node.Granted):
            self.borrowing.granted(member, message)
        elif isinstance(message, node.Release):
            self.apply(self.leases.release(message.lease))
        else:
            assert isinstance(message, cluster.AdoptJob)
        self.lent.validate()

    def meet(self, other: Node) -> None:
        link = self.links[other.node] = Link(self.world, self, other)
        self.borrowing.node_up(link)  # type: ignore[arg-type]
        self.lending.greet()

    def lose(self, other: Node) -> None:
        link: Any = self.links.pop(other.node)
        self.apply([])
        for lease in self.leases.owner_lost(other.id):
            self.apply(self.leases.worker_lost(lease.worker)[1])
        self.apply(self.leases.schedule())
        self.borrowing.node_down(link, "it died")

    # --- the owner ---

    def want(self, key: int, amount: int) -> None:
        self.wants[key] = amount
        request, placement = self.kinds[key]
        self.apply(self.leases.demand((self.owner, key), request, amount, job=JOB, placement=placement))

    def granted(self, key: int, lease: bytes) -> None:
        _, placement = self.kinds[key]
        if placement is not None:
            there = next(other for other in self.world.all if other.node == node_of(lease))
            assert allows(placement, there.view), (placement, there.name)
        self.wants[key] -= 1
        self.held[lease] = key
        self.world.served[node_of(lease)] += 1

    def give_back(self, lease: bytes) -> None:
        del self.held[lease]
        if node_of(lease) == self.node:
            self.apply(self.leases.release(lease))
        else:
            self.borrowing.release(node.Release(lease))


class World:
    def __init__(self, seed: int, policy: Any = None, most_delay_s: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.network = Network(self.clock, self.rng, LinkQuality(0.0005, most_delay_s or self.rng.choice([0.002, 0.3])))
        self.policy = policy or self.rng.choice([HybridPolicy(), SpreadPolicy(), HybridPolicy(1.0)])
        self.numbers = count(1)
        self.all: list[Node] = []
        self.nodes: dict[str, Node] = {}
        self.served: Counter[bytes] = Counter()

    def add(self, cpus: int = 0, **labels: str) -> Node:
        rng = self.rng
        made = Node(self, next(self.numbers), cpus or rng.randint(1, 4), labels or {"zone": rng.choice("ab")})
        for other in self.nodes.values():
            made.meet(other)
            other.meet(made)
        self.all.append(made)
        self.nodes[made.name] = made
        self.network.join(made.name, made.receive)
        return made

    def kill(self, gone: Node) -> None:
        del self.nodes[gone.name]
        self.network.leave(gone.name)
        for other in self.nodes.values():
            other.lose(gone)

    def placed(self, request: ResourceRequest, key: DemandKey, there: Node) -> None:
        """No node gives more than it has."""
        assert all(amount >= 0 for amount in there.leases.resources.available().values())

    def a_placement(self) -> Placement | None:
        rng = self.rng
        name = f"node-{rng.randint(1, 6)}"
        label = (LabelRule("zone", (rng.choice("abc"),), rng.random() < 0.2),)
        return rng.choice([
            None, None, Placement(spread=True), Placement(name), Placement(name, soft=True),
            Placement(labels=label), Placement(preferred=label), Placement(labels=label, spread=True),
        ])  # fmt: skip

    def settle(self, seconds: float = 15.0) -> None:
        self.clock.run(self.clock.now + seconds, most=100_000)


@pytest.fixture(autouse=True)
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> list[World]:
    worlds: list[World] = []
    monkeypatch.setattr(ray.runtime.cluster.borrowing, "monotonic", lambda: worlds[-1].clock.now)
    return worlds


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 60))])
def test_who_can_be_served_is(seed: int, virtual_time: list[World]) -> None:
    """Nobody gets a worker of a node that it does not want; at rest nobody waits where there is room for it."""
    world = World(seed)
    virtual_time.append(world)
    rng = world.rng
    for _ in range(rng.randint(2, 4)):
        world.add()
    for step in range(60):
        world.clock.run(world.clock.now + rng.choice([0.0, 0.001, 0.1, 1.0]), most=100_000)
        here = rng.choice(list(world.nodes.values()))
        match rng.choices(range(4), [6, 6, 0.5, 0.5])[0]:
            case 0:
                key = rng.randint(1, 5)
                if key not in here.kinds:
                    request = ResourceRequest({"CPU": rng.choice([1, 1, 2]) * UNIT})
                    placement = world.a_placement()
                    spread = placement is not None and placement.spread
                    here.kinds[key] = ResourceRequest(request.resources, spread=spread), placement
                if not here.wants.get(key):
                    here.want(key, rng.randint(0, 6))
            case 1 if here.held:
                here.give_back(rng.choice(list(here.held)))
            case 2 if len(world.nodes) > 2 and step < 50:
                world.kill(here)
            case 3 if len(world.nodes) < 5:
                world.add()
    world.settle()
    rooms = [room_at(there) for there in world.nodes.values()]
    for here in world.nodes.values():
        for key, amount in here.wants.items():
            if amount:
                request, placement = here.kinds[key]
                able = candidates(placement, request.resources, [view for view, _ in rooms])
                left = [free for view, free in rooms if view in able]
                assert max(left, default=0) < request.resources["CPU"], (here.name, key, placement)
    for _ in range(60):  # what is held is given back, and all that can be served has been served then
        for here in world.nodes.values():
            for lease in list(here.held):
                here.give_back(lease)
        world.settle(2.0)
        if not any(here.held for here in world.nodes.values()):
            break
    for here in world.nodes.values():
        for key, amount in here.wants.items():
            request, placement = here.kinds[key]
            assert not amount or not candidates(placement, request.resources, [view for view, _ in rooms])
            here.want(key, 0)
    world.settle()
    for here in world.nodes.values():
        assert (here.lent.lent, here.leases.leases, here.lent.loans) == ({}, {}, {})
        assert here.leases.resources.available() == here.leases.resources.total()


def room_at(there: Node) -> tuple[NodeView, int]:
    """What it would give to others: nothing while an owner of its own waits there."""
    waits = any(not entry.infeasible for entry, _ in there.leases.unmet())
    return there.view, 0 if waits else there.leases.resources.available()["CPU"]


@pytest.mark.parametrize(
    ("policy", "placement"), [(SpreadPolicy(), None), (HybridPolicy(), Placement(spread=True))], ids=["session", "task"]
)
@pytest.mark.parametrize("nodes", [2, 3, 8])
def test_work_is_spread_evenly(nodes: int, policy: Any, placement: Placement | None, virtual_time: list[World]) -> None:
    world = World(1, policy)
    virtual_time.append(world)
    for _ in range(nodes):
        world.add(4)
    world.settle(3.0)
    here = world.all[0]
    here.kinds[1] = ResourceRequest({"CPU": UNIT}, spread=True), placement
    began = world.clock.now
    here.want(1, 2 * nodes)
    while here.wants[1]:
        world.settle(0.01)
    assert world.served == dict.fromkeys([node.node for node in world.all], 2)
    assert world.clock.now - began < 1.0


def test_half_of_the_home_comes_first(virtual_time: list[World]) -> None:
    world = World(1, HybridPolicy(), 0.002)
    virtual_time.append(world)
    for _ in range(3):
        world.add(4)
    world.settle(3.0)
    here = world.all[0]
    here.kinds[1] = ResourceRequest({"CPU": UNIT}), None
    for wanted, places in ((2, [2]), (2, [2, 2]), (2, [2, 2, 2]), (6, [4, 4, 4]), (3, [4, 4, 4])):
        here.want(1, wanted)
        world.settle(0.01)
        assert here.leases.starting == places[0] - world.served[here.node], "at once"
        world.settle(0.2)
        assert sorted(world.served.values()) == places
    assert here.wants[1] == 3


def test_a_node_that_says_nothing_holds_nobody_up_for_long(virtual_time: list[World]) -> None:
    world = World(1, SpreadPolicy())
    virtual_time.append(world)
    here, there = world.add(2), world.add(4)
    world.settle(3.0)
    world.network.leave(there.name)
    here.kinds[1] = ResourceRequest({"CPU": UNIT}), None
    here.want(1, 2)
    world.settle(1.5)
    assert world.served == {here.node: 2}


def test_a_wish_is_for_a_node_that_comes_until_that_goes(virtual_time: list[World]) -> None:
    world = World(1, HybridPolicy(), 0.002)
    virtual_time.append(world)
    here = world.add(1)
    for key, placement in ((1, None), (2, Placement("node-2", soft=True)), (3, Placement("node-2"))):
        here.kinds[key] = ResourceRequest({"CPU": UNIT}), placement
    here.want(1, 1)
    here.want(2, 2)
    there = world.add(1)
    world.settle(0.2)
    assert (here.wants[2], world.served) == (1, {here.node: 1, there.node: 1}), "the home was full"
    here.give_back(next(lease for lease in here.held if node_of(lease) == here.node))
    here.want(3, 1)
    world.settle(3.0)
    assert (here.wants[2], here.wants[3]) == (1, 1), "there is room at home, and that is not what it wants"
    world.kill(there)
    world.settle(0.2)
    assert (here.wants[2], here.wants[3], world.served[here.node]) == (0, 1, 2)
