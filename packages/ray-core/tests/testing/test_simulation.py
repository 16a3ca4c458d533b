"""The simulated cluster: time and messages as promised, everything settles, equal seeds, equal runs, flat cost."""

from __future__ import annotations

import cProfile
import random
from collections.abc import Sequence
from typing import Any

import pytest

from ray.abc.scheduler import ResourceRequest
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.protocol.references import ReferenceTable
from ray.protocol.resources import UNIT, Allocation, NodeResources
from ray.runtime.owner.borrowing import Borrowing
from ray.testing.delivering_network import DeliveringNetwork
from ray.testing.simulated_connections import Connections
from ray.testing.simulated_program import SimulatedProgram
from ray.testing.simulation import Behaviour, Cluster, LinkQuality, Network, VirtualClock

POLICIES = [HybridPolicy, SpreadPolicy]


# --- time and messages ------------------------------------------------------------------------------------------------


def test_clock_runs_events_in_order_and_at_their_time() -> None:
    clock = VirtualClock()
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, clock.now))
        if name == "b":
            clock.after(0, note, "b again")
            clock.after(1, note, "later")

    for name, delay_s in (("c", 2.0), ("a", 0.5), ("b", 1.0), ("a2", 0.5)):
        clock.after(delay_s, note, name)
    assert clock.run(until_s=1.5) == 4
    assert seen == [("a", 0.5), ("a2", 0.5), ("b", 1.0), ("b again", 1.0)]
    assert (clock.now, len(clock)) == (1.5, 2)
    assert clock.run() == 2
    assert seen[4:] == [("c", 2.0), ("later", 2.0)]
    assert (clock.now, len(clock)) == (2.0, 0)
    with pytest.raises(ValueError, match="in the past"):
        clock.after(-1, note, "x")


def a_network(**quality: float) -> tuple[VirtualClock, Network, list[Any]]:
    clock = VirtualClock()
    network = Network(clock, random.Random(5), LinkQuality(**quality))
    got: list[Any] = []
    network.join("here", lambda sender, message: got.append((sender, message)))
    return clock, network, got


def test_reliable_messages_keep_their_order_whatever_is_lost() -> None:
    clock, network, got = a_network(loss=0.3, resend_s=0.01)
    for number in range(500):
        network.send(f"from{number % 3}", "here", number)
        clock.run(until_s=clock.now + 0.0001)
    clock.run()
    assert network.lost > 100
    assert network.delivered == network.sent == 500
    for sender in range(3):
        mine = [message for who, message in got if who == f"from{sender}"]
        assert mine == sorted(mine)
    assert [message for _, message in got] != sorted(message for _, message in got)


def test_unreliable_messages_are_lost_and_overtake() -> None:
    clock, network, got = a_network(loss=0.3)
    for number in range(500):
        network.send("there", "here", number, reliable=False)
    clock.run()
    arrived = [message for _, message in got]
    assert len(arrived) == 500 - network.lost
    assert 100 < network.lost < 200
    assert arrived != sorted(arrived)


def test_delays_are_within_their_bounds_and_the_dead_hear_nothing() -> None:
    clock, network, got = a_network(min_delay_s=0.2, max_delay_s=0.3)
    network.send("there", "here", 1)
    network.send("there", "nobody", 2)
    clock.run(until_s=0.199)
    assert got == []
    clock.run(until_s=0.301)
    assert got == [("there", 1)]
    network.send("there", "here", 3)
    network.leave("here")
    clock.run()
    assert got == [("there", 1)]
    assert (network.sent, network.delivered) == (3, 1)


def test_a_cut_loses_what_is_unreliable_and_holds_up_the_rest() -> None:
    clock, network, got = a_network(max_delay_s=0.001)
    network.send("there", "here", 1)
    network.cut("here", "there", 0.5)
    network.send("there", "here", 2)
    network.send("there", "here", 3, reliable=False)
    network.send("elsewhere", "here", 4)
    clock.run(until_s=0.499)
    assert sorted(message for _, message in got) == [1, 4]
    clock.run(until_s=0.51)
    network.send("there", "here", 5, reliable=False)
    clock.run()
    assert [message for _, message in got][2:] == [2, 5]
    assert network.lost == 1


def test_what_is_delivered_passes_when_a_cut_heals() -> None:
    clock, got = VirtualClock(), []
    network = DeliveringNetwork(clock, random.Random(1), LinkQuality(loss=0.1))
    network.join("here", lambda sender, message: got.append(message))
    network.join("there", lambda sender, message: None)
    network.cut("here", "there", 3.0)
    for number in range(20):
        network.send("there", "here", number)
    clock.run(until_s=2.999)
    assert got == []
    clock.run()
    assert got == list(range(20))
    assert clock.now < 4.0


class Process:
    """One end of connections, which keeps what it is told."""

    def __init__(self, connections: Connections, address: str) -> None:
        self.id, self.told = address.encode(), list[Any]()
        connections.join(address, self)

    def receive(self, sender: str, frames: Sequence[Any]) -> None:
        self.told.append(frames[0])

    def hear(self, message: Any) -> None:
        self.told.append(message)

    def peer_lost(self, process: bytes) -> None:
        self.told.append(f"lost {process.decode()}")

    def holds(self) -> list[tuple[str, bytes]]:
        return []

    def owns(self, object_id: bytes) -> bool:
        return False

    def validate(self) -> None: ...


def two_processes() -> tuple[VirtualClock, Connections, Process, Process]:
    clock = VirtualClock()
    connections = Connections(Network(clock, random.Random(2), LinkQuality()), clock, random.Random(3))
    one, other = Process(connections, "one"), Process(connections, "other")
    connections.connect("one", "other")
    return clock, connections, one, other


def test_what_is_on_a_connection_that_breaks_is_gone() -> None:
    clock, connections, one, other = two_processes()
    connections.send("other", "one", ["before"])
    connections.breaks("one", "other")
    connections.send("one", "other", ["after"])
    clock.run()
    assert one.told == ["lost other"]
    assert other.told == ["lost one", "after"]
    connections.send("other", "one", ["again"])
    clock.run()
    assert one.told[1:] == ["again"]


def test_the_last_words_of_a_process_come_before_its_end() -> None:
    clock, connections, one, other = two_processes()
    connections.send("other", "one", ["last words"])
    connections.leave("other")
    connections.send("one", "other", ["nobody hears that"])
    clock.run()
    assert one.told == ["last words", "lost other"]
    assert other.told == []


# --- programs and actors ----------------------------------------------------------------------------------------------


def a_program(**behaviour: float) -> tuple[Cluster, SimulatedProgram]:
    cluster = Cluster(1, owners=0, programs=1, behaviour=Behaviour(**behaviour), strict=True)  # type: ignore[arg-type]
    (program,) = cluster.programs.values()
    return cluster, program


def test_calls_run_and_all_is_let_go_of() -> None:
    cluster, program = a_program(keep=0.5, hands_on=0.5)
    for _ in range(3):
        program.create()
    for _ in range(100):
        program.put()
        program.call()
        program.read()
        program.drop()
        cluster.run(cluster.clock.now + 0.01)
    cluster.run()
    assert program.pending == 0
    cluster.check_settled()


def test_an_actor_whose_process_dies_is_started_again() -> None:
    cluster, program = a_program()
    program.create(restarts=2)
    (node,) = cluster.nodes.values()
    for _ in range(3):
        program.call(retries=-1)
        cluster.run(cluster.clock.now + 0.5)
        node.end_actors()
    cluster.run()
    (actor,) = node.actors.table.actors.values()
    assert (actor.state, actor.restarts, actor.cause is not None) == ("dead", 2, True)
    assert program.pending == 0
    cluster.check_settled()


def test_actors_die_with_their_program() -> None:
    cluster, program = a_program()
    program.create(restarts=-1)
    program.call()
    cluster.run(cluster.clock.now + 0.05)
    cluster.fail_program(program.address)
    cluster.check_settled()


def test_what_is_left_of_a_program_is_told() -> None:
    cluster, program = a_program()
    program.create()
    cluster.run()
    program.finish = lambda: None  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="program0: 0 calls, 1 objects, 1 actors left"):
        cluster.check_settled()


def test_an_object_that_is_freed_while_another_process_holds_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Borrowing, "grant_kept", lambda *facts: None)
    cluster, program = a_program(keep=1.0)
    program.create()
    program.put()

    def go_on() -> None:
        for _ in range(50):
            program.call()
            program.drop()
            cluster.run(cluster.clock.now + 0.05)

    with pytest.raises(AssertionError, match=r"an object (was freed that another process holds|that is held is gone)"):
        go_on()


# --- clusters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(8))
def test_everything_runs_and_nothing_is_left(policy: Any, seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster(
        rng.choice([1, 2, 5, 40]), owners=rng.choice([1, 3, 8]), cpus=rng.choice([1, 4, 16]), policy=policy(),
        candidates=rng.choice([0, 2, 8]),
        behaviour=Behaviour(keep=rng.choice([0.0, 0.3]), tasks_per_worker=rng.choice([0, 1, 5])),
        warm=rng.choice([0, 2]), quality=LinkQuality(loss=rng.choice([0.0, 0.05])), seed=seed,
    )  # fmt: skip
    for _ in range(3):
        cluster.submit(200)
        cluster.run(until_s=cluster.clock.now + 0.05)
    cluster.run()
    assert sum(owner.done for owner in cluster.owners.values()) == 600
    cluster.check_settled()


@pytest.mark.parametrize("seed", range(12))
def test_nodes_that_die(seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster(
        12, owners=3, cpus=2, policy=rng.choice(POLICIES)(), candidates=rng.choice([0, 4]),
        behaviour=Behaviour(keep=0.2, tasks_per_worker=3), quality=LinkQuality(loss=0.02), seed=seed,
    )  # fmt: skip
    cluster.submit(600)
    for _ in range(8):
        cluster.run(until_s=cluster.clock.now + rng.uniform(0.05, 0.6))
        cluster.fail_node(rng.choice(list(cluster.nodes)), detect_s=rng.uniform(0, 1))
    cluster.run()
    assert sum(owner.done for owner in cluster.owners.values()) == 600
    cluster.check_settled()
    assert len(cluster.nodes) == 4


def test_same_seed_same_run() -> None:
    def run(seed: int) -> tuple[int, int, float]:
        cluster = Cluster(
            30, owners=4, candidates=5, behaviour=Behaviour(keep=0.1), quality=LinkQuality(loss=0.05), seed=seed
        )
        cluster.submit(1_000)
        cluster.clock.after(0.1, cluster.fail_node, "node7")
        return cluster.run(), cluster.digest, cluster.clock.now

    assert run(1) == run(1)
    assert run(1)[1] != run(2)[1]


def busy_nodes(policy: Any, tasks: int) -> int:
    cluster = Cluster(20, cpus=4, policy=policy, behaviour=Behaviour((10, 10)), warm=4)
    cluster.submit(tasks)
    cluster.run(until_s=1)
    busy = sum(bool(node.table.leases) for node in cluster.nodes.values())
    cluster.run()
    cluster.check_settled()
    return busy


def test_policies_are_what_decides() -> None:
    assert busy_nodes(SpreadPolicy(), 20) == 20
    assert busy_nodes(HybridPolicy(), 2) == 1
    assert busy_nodes(HybridPolicy(), 20) == 10  # half of every node, then the next
    assert busy_nodes(HybridPolicy(1.0), 20) == 5
    assert busy_nodes(HybridPolicy(), 80) == 20


def test_time_is_what_the_work_needs() -> None:
    """400 processor seconds on 40 processors, plus what messages and the start of workers take."""
    cluster = Cluster(10, cpus=4, behaviour=Behaviour((1, 1)), warm=4)
    cluster.submit(400)
    cluster.run()
    assert 10 <= cluster.clock.now < 10.5


def test_requests_of_several_cpus() -> None:
    cluster = Cluster(3, cpus=4, policy=SpreadPolicy(), behaviour=Behaviour((1, 1)))
    (owner,) = cluster.owners.values()
    owner.submit(30, ResourceRequest({"CPU": 3 * UNIT}))
    cluster.run(until_s=0.5)
    assert [len(node.table.leases) for node in cluster.nodes.values()] == [1, 1, 1]
    cluster.run()
    assert owner.done == 30
    cluster.check_settled()


def test_what_is_unfinished_is_told() -> None:
    cluster = Cluster(2)
    cluster.submit(10)
    cluster.fail_node("node0")
    cluster.fail_node("node1")
    with pytest.raises(AssertionError, match="owner0: 10 tasks"):
        cluster.check_settled()


def test_node_that_gives_more_than_it_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def generous(self: NodeResources, request: Any) -> Allocation:
        self._available.subtract(request)
        return Allocation(dict(request), {})

    monkeypatch.setattr(NodeResources, "try_acquire", generous)
    monkeypatch.setattr(HybridPolicy, "choose", lambda self, request, nodes: nodes[0].node_id)
    cluster = Cluster(1, cpus=2)
    cluster.submit(50)
    with pytest.raises(AssertionError, match="node0 gave more than it has"):
        cluster.run()


def test_credit_that_is_not_returned_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferenceTable, "take_back", lambda *facts: None)
    cluster = Cluster(2, behaviour=Behaviour(keep=0.5))
    cluster.submit(50)
    cluster.run()
    with pytest.raises(AssertionError, match="1 objects left"):
        cluster.check_settled()


# --- cost -------------------------------------------------------------------------------------------------------------


def calls_per_task(nodes: int, tasks: int) -> float:
    """Calls of functions, which no noise disturbs, in a cluster that is not full."""
    cluster = Cluster(nodes, owners=4, candidates=8, policy=SpreadPolicy(), warm=4)
    cluster.submit(50)
    cluster.run()
    profile = cProfile.Profile()
    profile.enable()
    cluster.submit(tasks)
    cluster.run()
    profile.disable()
    cluster.check_settled()
    return sum(entry.callcount for entry in profile.getstats()) / tasks


def test_cost_of_a_decision_does_not_grow_with_the_cluster() -> None:
    small, large = calls_per_task(100, 300), calls_per_task(5_000, 300)
    assert large < 1.25 * small


def test_cost_of_a_decision_does_not_grow_with_the_tasks() -> None:
    few, many = calls_per_task(50, 500), calls_per_task(50, 5_000)
    assert many < 1.25 * few


@pytest.mark.slow
def test_ten_thousand_nodes() -> None:
    cluster = Cluster(10_000, owners=8, candidates=16, policy=SpreadPolicy(), behaviour=Behaviour(keep=0.05))
    cluster.submit(4_000)
    cluster.run()
    assert sum(owner.done for owner in cluster.owners.values()) == 4_000
    cluster.check_settled()


@pytest.mark.slow
def test_a_hundred_thousand_tasks() -> None:
    cluster = Cluster(10_000, owners=16, candidates=16, behaviour=Behaviour(keep=0.01), quality=LinkQuality(loss=0.001))
    cluster.submit(100_000)
    cluster.run()
    assert sum(owner.done for owner in cluster.owners.values()) == 100_000
    cluster.check_settled()
