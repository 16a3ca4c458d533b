"""Directors, hosts and the words between them, at random: whatever is lost, no actor ever has two processes."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from tests.directors import HOME, Director, Link, Store, spec

from ray.ids import node_of
from ray.messages import cluster, node
from ray.protocol import actors
from ray.protocol.actor_entries import ALIVE, DEAD

HOSTS = (b"hst1", b"hst2", b"hst3")
CRASH = node.ExitCause(exit_code=1)


class Host:
    """A node with processes, as it is: what it has been told, and what it has said, may be on the way."""

    def __init__(self, number: bytes) -> None:
        self.number = number
        self.term = 0
        #: {process: what is said of it}
        self.runs: dict[bytes, cluster.HostedActor] = {}
        self.ended: list[cluster.HostedActor] = []
        #: Leases of a director that has not taken the worker yet.
        self.lent: set[bytes] = set()
        self.to, self.back = deque[Any](), deque[Any]()
        self.is_connected = True

    def take(self, message: Any) -> None:
        if isinstance(message, cluster.StartDirected):
            process = message.lease
            if message.term >= self.term and process in self.lent:
                self.term = message.term
                self.lent.discard(process)
                actor = message.spec.id
                self.runs[process] = cluster.HostedActor(actor, message.incarnation, process, ALIVE)
                self.back.append(cluster.Hosting([self.runs[process]]))
        elif isinstance(message, cluster.AskHosted):
            if message.term >= self.term:
                self.term = message.term
                self.back.append(cluster.Hosting([*self.ended, *self.runs.values()], whole=True, number=message.number))
        elif message in self.runs:
            self.end(message)

    def end(self, process: bytes) -> None:
        was = self.runs.pop(process)
        over = cluster.HostedActor(was.id, was.incarnation, process, DEAD, CRASH)
        self.ended.append(over)
        if self.is_connected:
            self.back.append(cluster.Hosting([over]))

    def cut(self) -> None:
        self.to.clear()
        self.back.clear()
        self.lent.clear()
        self.is_connected = False


class Wire(Link):
    """A director's connection to a host."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.number)
        self.host = host

    def send(self, message: Any) -> None:
        if isinstance(message, (cluster.StartDirected, cluster.AskHosted)):
            self.host.to.append(message)


class Kills:
    """Orders of a director to end processes."""

    def __init__(self, life: Life) -> None:
        self.life = life

    def kill(self, worker: bytes, reason: str) -> None:
        host = self.life.hosts.get(node_of(worker))
        if host is not None and host.is_connected:
            host.to.append(worker)

    def end_orderly(self, worker: bytes) -> None: ...

    def expect_end(self, worker: bytes) -> None: ...

    def settle(self, worker: bytes, resources: dict[str, int]) -> None: ...


class Life:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = Store()
        self.hosts = {number: Host(number) for number in HOSTS}
        self.count = 0
        self.term = 6
        self.specs: list[node.ActorSpec] = []
        self.begin()

    def begin(self) -> None:
        """Another director begins: what was said to the one before is lost, what it had asked of the store may be."""
        for host in self.hosts.values():
            host.cut()
        for op, _ in self.store.waiting:
            if self.rng.random() < 0.5:
                self.store.do(op)
        self.store.waiting.clear()
        self.term += 1
        self.right = b"term %d" % self.term
        self.director = Director(self.store, self.right, (HOME, *self.hosts), term=self.term)
        self.director.elsewhere = self.director.actors.elsewhere = Kills(self)  # type: ignore[assignment]
        self.store.deliver()
        for number in self.hosts:
            self.connect(number)

    def connect(self, number: bytes) -> None:
        host = self.hosts[number]
        host.is_connected = True
        wire = self.director.links[number] = Wire(host)
        self.director.directed._members.members[number] = wire  # type: ignore[assignment]
        self.director.directed.node_up(wire)  # type: ignore[arg-type]

    def lose(self, number: bytes) -> None:
        self.hosts[number].cut()
        self.director.directed._members.members.pop(number, None)
        for lease, worker in list(self.director.directed._starting.items()):
            if node_of(worker) == number:
                self.director.directed.lease_ended(lease, CRASH)

    def step(self) -> None:
        rng, director = self.rng, self.director
        host = self.hosts[rng.choice(sorted(self.hosts))]
        match rng.choices(range(10), [1, 5, 6, 6, 3, 1, 1, 0.3, 0.2, 4])[0]:
            case 0 if len(self.specs) < 6:
                self.specs.append(spec(len(self.specs) + 1, detached=True, max_restarts=-1))
                director.create(self.specs[-1])
            case 1 if host.is_connected:
                waiting = [made.id for made in self.specs if director.waits(made.id)]
                if waiting:
                    self.count += 1
                    process = host.number + b"%04d" % self.count
                    host.lent.add(process)
                    director.lend(director.first(waiting[0]), process, lease=process)
            case 2 if host.to:
                host.take(host.to.popleft())
            case 3 if host.back:
                director.directed.hosting(Wire(host), host.back.popleft())  # type: ignore[arg-type]
            case 4 if host.runs:
                host.end(rng.choice(sorted(host.runs)))
            case 5 if self.specs:
                made = rng.choice(self.specs)
                director.order(node.KillActor(1, made.id, False, "killed"))
            case 6:
                self.lose(host.number) if host.is_connected else self.connect(host.number)
            case 7 if len(self.hosts) > 1:
                self.lose(host.number)
                del self.hosts[host.number]  # it has ended with all of its processes
                director.nodes.discard(host.number)
                director.directed.node_dead(host.number, CRASH)
                new = b"h%03d" % self.count
                if new not in self.hosts:
                    self.hosts[new] = Host(new)
                    director.nodes.add(new)
                    self.connect(new)
            case 8:
                self.begin()
            case 9:
                self.store.deliver()
        self.check()

    def check(self) -> None:
        self.director.actors.table.validate()
        running = [each.id for host in self.hosts.values() for each in host.runs.values()]
        assert len(running) == len(set(running)), "an actor has two processes"

    def settle(self) -> None:
        """All that is on the way arrives; then each actor has one process, or waits for one."""
        for number, host in self.hosts.items():
            if not host.is_connected:
                self.connect(number)
        for _ in range(6):
            self.store.deliver()
            for host in self.hosts.values():
                while host.to:
                    host.take(host.to.popleft())
                while host.back:
                    self.director.directed.hosting(Wire(host), host.back.popleft())  # type: ignore[arg-type]
            self.check()
        running = {each.id: process for host in self.hosts.values() for process, each in host.runs.items()}
        for made in self.specs:
            entry = self.director.actors.table.actors.get(made.id)
            if entry is None:  # its creation was lost with a director, and its home orders it again
                assert made.id not in running
            elif made.id in running:
                assert (entry.state, entry.worker) == (ALIVE, running[made.id])
            else:
                assert self.director.waits(made.id), entry


@pytest.mark.parametrize("block", range(6))
def test_no_actor_ever_has_two_processes(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "restart_delay_s", lambda restarts: 0.0)
    for seed in range(block, 240, 6):
        life = Life(seed)
        try:
            for _ in range(150):
                life.step()
            life.settle()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
