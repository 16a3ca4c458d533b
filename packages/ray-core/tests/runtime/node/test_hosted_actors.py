"""A node hosts processes of actors that directors keep, and tells them what becomes of these."""

from __future__ import annotations

from typing import Any

import pytest

from ray.abc.scheduler import ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.ids import directed, make_lease_ids, node_manager_of
from ray.messages import cluster, codec, node
from ray.protocol.actor_entries import ALIVE, DEAD, STARTING
from ray.protocol.leases import Grant, LeaseTable
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.node.actors import NodeActors
from ray.runtime.node.hosted_actors import HostedActors
from ray.runtime.process.timers import Timers

OWN = b"host"
ACTOR = directed(b"home" + bytes(12))
SPEC = node.ActorSpec(ACTOR, "C", b"f", b"code", b"", "unix:/owner", {}, {"CPU": UNIT}, b"handle", name="n")
CRASH = node.ExitCause(exit_code=1)


class Link:
    job, kind = "", "node"

    def __init__(self, id: bytes) -> None:
        self.id = id
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(codec.decode(message) if isinstance(message, list) else message)

    def take(self) -> list[Any]:
        taken, self.sent = self.sent, []
        return taken


class Worker:
    pid, address = 7, "addr"

    def __init__(self, id: bytes) -> None:
        self.id = id
        self.connection = Link(id)


class Host:
    """The parts of a host, with one worker that it has lent to a director."""

    def __init__(self) -> None:
        self.director = Link(node_manager_of(b"one_"))
        self.clients = {self.director.id: self.director}
        self.worker = Worker(OWN + b"work")
        self.workers = {self.worker.id: self.worker}
        self.killed: list[str] = []
        resources = NodeResources({"CPU": 2 * UNIT}, ())
        self.leases = LeaseTable(node_manager_of(OWN), resources, HybridPolicy(), make_lease_ids(OWN))
        timers: Any = Timers()
        clients: Any = self.clients
        self.actors = NodeActors(self, self.leases, clients, self, timers, node_manager_of(OWN), None)  # type: ignore[arg-type]
        self.hosted = HostedActors(self.leases, self.actors, self, self)  # type: ignore[arg-type]
        self.actors.records = self.hosted
        self.lease = self.lend(self.director, self.worker)

    def lend(self, home: Link, worker: Worker) -> bytes:
        self.workers[worker.id] = worker
        request = ResourceRequest({"CPU": UNIT})
        self.leases.demand((home.id, 1), request, 1, "C", "job", for_life=True, on_loan=True)
        effects = self.leases.worker_ready(worker.id, "job")
        (granted,) = [effect.lease for effect in effects if isinstance(effect, Grant)]
        return granted.id

    def start(self, term: int = 7, incarnation: int = 0, director: Link | None = None) -> None:
        order = cluster.StartDirected(term, self.lease, SPEC, incarnation, [], self.worker.id)
        self.hosted.start(director or self.director, order)  # type: ignore[arg-type]

    # --- a node manager -----------------------------------------------------------------------------------------------

    def apply(self, effects: Any) -> None: ...

    def attend(self) -> None: ...

    def actor_died(self, job: str) -> None: ...

    def send_to(self, process: bytes, message: Any) -> bool:
        if process in self.clients:
            self.clients[process].send(message)
        return process in self.clients

    def kill(self, worker: Worker, reason: str) -> None:
        self.killed.append(reason)

    def die(self) -> None:
        lease, _ = self.leases.worker_lost(self.worker.id)
        assert lease is not None
        assert lease.key[0] == self.leases.node_id
        self.actors.apply(self.actors.table.worker_lost(self.worker.id, CRASH))


def told(link: Link) -> list[tuple[str, int, bytes]]:
    (message,) = link.take()
    assert isinstance(message, cluster.Hosting)
    return [(each.state, each.incarnation, each.process) for each in message.actors]


def test_the_lease_is_the_hosts_own_and_outlives_the_director() -> None:
    host = Host()
    host.start()
    (start,) = host.worker.connection.take()
    assert (start.spec.id, start.incarnation) == (ACTOR, 0)
    assert host.leases.owner_lost(host.director.id) == []
    assert host.leases.leases[host.lease].key[0] == host.leases.node_id
    assert host.actors.table.actors[ACTOR].state == STARTING
    host.actors.apply(host.actors.table.started(host.worker.id, b""))
    assert told(host.director) == [(ALIVE, 0, host.worker.id)]


def test_a_director_is_told_of_ends_and_the_next_one_of_all() -> None:
    host = Host()
    host.start()
    host.actors.apply(host.actors.table.started(host.worker.id, b""))
    host.actors.exiting(host.worker.id, "it was asked to")
    assert [each.exiting for message in host.director.take() for each in message.actors] == ["", "it was asked to"]
    del host.clients[host.director.id]
    next_one = host.clients[b"two_" + bytes(4)] = Link(b"two_" + bytes(4))
    host.hosted.asked(next_one, cluster.AskHosted(9))  # type: ignore[arg-type]
    assert told(next_one) == [(ALIVE, 0, host.worker.id)]
    host.die()
    assert told(next_one) == [(DEAD, 0, host.worker.id)]
    third = host.clients[b"thre" + bytes(4)] = Link(b"thre" + bytes(4))
    host.hosted.asked(third, cluster.AskHosted(10))  # type: ignore[arg-type]
    assert told(third) == [(DEAD, 0, host.worker.id)]
    assert host.hosted.director == third.id


@pytest.mark.parametrize("order", ["start", "ask"])
def test_a_director_of_a_lower_term_is_not_obeyed(order: str) -> None:
    host = Host()
    new = Link(b"two_" + bytes(4))
    host.hosted.asked(new, cluster.AskHosted(9))  # type: ignore[arg-type]
    if order == "start":
        host.start()
        assert host.worker.connection.take() == []
        assert host.leases.leases[host.lease].key[0] == host.director.id
    else:
        host.hosted.asked(host.director, cluster.AskHosted(7))  # type: ignore[arg-type]
        assert host.director.take() == []
    assert host.hosted.director == new.id


def test_a_lease_that_is_not_the_directors_makes_no_actor() -> None:
    host = Host()
    host.start(director=Link(b"othr" + bytes(4)))
    assert host.worker.connection.take() == []
    assert ACTOR not in host.actors.table.actors


def test_a_worker_that_dies_before_it_is_to_be_the_actor() -> None:
    """The director has given up the lease already, and is told of the end by this."""
    host = Host()
    host.leases.worker_lost(host.worker.id)
    host.start()
    ((told_of,),) = [message.actors for message in host.director.take()]
    assert (told_of.id, told_of.state, told_of.process, told_of.begun) == (ACTOR, DEAD, host.worker.id, False)
    assert ACTOR not in host.actors.table.actors


def test_no_second_process_of_an_actor_begins_beside_the_first() -> None:
    host = Host()
    host.start()
    first = host.worker
    host.worker = Worker(OWN + b"wrk2")
    host.lease = host.lend(host.director, host.worker)
    host.start(incarnation=1)
    assert host.worker.connection.take() == []
    assert len(host.killed) == 1
    assert told(host.director) == [(DEAD, 1, host.worker.id)]
    assert host.actors.table.actors[ACTOR].worker == first.id
    host.hosted.asked(host.director, cluster.AskHosted(7))  # type: ignore[arg-type]
    assert (STARTING, 0, first.id) in told(host.director)
