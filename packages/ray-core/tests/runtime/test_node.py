"""The node manager's loop, without processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ray.abc.control import ControlStore
from ray.abc.control_operations import Put
from ray.builtin.embedded_control import EmbeddedControlServer, EmbeddedControlStore
from ray.builtin.heap_store import HeapStoreServer
from ray.messages import codec, node
from ray.plugins.compose import Composition
from ray.plugins.planning import resolve_plan
from ray.protocol import handshake
from ray.protocol.run_slot import SLOT_BYTES, RunSlot
from ray.runtime.node import actors as node_actors
from ray.runtime.node.client import Client
from ray.runtime.node.node import NodeManager
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.node_start import NodeConfig
from ray.testing.contracts._expect import eventually
from ray.testing.faults import FaultyControlStore


class Link:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.context: Any = None
        self.closed = False
        self.sent: list[Any] = []

    def send(self, frames: Any) -> None:
        self.sent.append(codec.decode(frames))

    def abort(self) -> None:
        self.closed = True


class Polls:
    """A transport that hands out prepared batches, and runs what is to happen while it polls."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def contacts(self, address):
        return (address,)

    def poll(self, timeout_s: float | None) -> list[Any]:
        return self.batches.pop(0)()

    def unwatch(self, fd: int) -> None:
        pass


def make(control: ControlStore) -> NodeManager:
    plan = resolve_plan()
    config = NodeConfig(
        session="5", session_dir="/nowhere", plan=plan.to_json().decode(), resources={"CPU": 10_000}, gpu_ids=[],
        store_bytes=0, sys_path=[], preload=[], owner_pid=os.getpid(),
    )  # fmt: skip
    policy = Composition(plan).make_scheduler()
    return NodeManager(config, Polls(), control, policy, HeapStoreServer(), [])  # type: ignore[arg-type]


@pytest.fixture
def control() -> Iterator[FaultyControlStore]:
    server = EmbeddedControlServer()
    store = FaultyControlStore(EmbeddedControlStore(server.address))
    yield store
    store.close()
    server.close()


@pytest.fixture
def manager(control: FaultyControlStore) -> NodeManager:
    return make(control)


def join(manager: NodeManager) -> tuple[Link, WorkerProcess]:
    """A worker that has said hello and nothing else."""
    worker = WorkerProcess(b"w" * 8, [], slot=0, note=RunSlot(memoryview(bytearray(SLOT_BYTES))), job="00000001")
    worker.pid = 12345
    manager.pool.workers[worker.id] = worker
    link = worker.connection = Link()  # type: ignore[assignment]
    hello = handshake.hello(handshake.Membership("5"), "worker", worker.id, "a", worker.pid)
    peer = link.context = Client(link, hello, hello.process, worker.job, worker)  # type: ignore[arg-type]
    manager.peers[peer.id] = peer
    return link, worker


def run(manager: NodeManager, batch: list[Any], meanwhile: Any = lambda: None) -> None:
    """Let the loop take one batch; ``meanwhile`` happens while it polls."""

    def poll() -> list[Any]:
        meanwhile()
        manager.stop()
        return batch

    manager.transport.batches.append(poll)  # type: ignore[attr-defined]
    manager.stopping = False
    manager.run()


def frames(message: Any) -> list[Any]:
    return [codec.encode(message)]


def test_messages_of_a_dead_worker_are_dropped(manager: NodeManager) -> None:
    link, worker = join(manager)
    dead = node.ExitCause(None, 9)
    run(manager, [(link, frames(node.Ready(worker.id, "a")))], meanwhile=lambda: manager.pool._forget(worker, dead))
    assert not manager.leases.idle
    assert not worker.ready


def test_the_loop_goes_on_while_the_control_store_says_nothing(
    manager: NodeManager, control: FaultyControlStore
) -> None:
    link, _ = join(manager)
    batch: list[Any] = [
        node.RecordError(node.ErrorRecord("task", "it failed", 1.0)),
        node.Question(1, "errors"),
        node.Ping(2),
    ]
    with control.silent():
        run(manager, [(link, frames(message)) for message in batch])
        assert link.sent == [node.Pong(2)]

    def answered() -> bool:
        control.deliver()
        return len(link.sent) == 2

    eventually(answered, "the question is answered")
    answer = link.sent[1]
    assert (answer.request, answer.ok) == (1, True)
    assert [row["message"] for row in msgspec.msgpack.decode(answer.data)] == ["it failed"]
    control.ask(Put("errors:00000001", b"no list"), lambda answer: None)
    run(manager, [(link, frames(node.Question(3, "errors")))])
    eventually(lambda: (control.deliver(), len(link.sent) == 3)[1], "the question is answered")
    assert (link.sent[2].request, link.sent[2].ok) == (3, False)
    assert "a value, not a list" in link.sent[2].error


def test_last_messages_come_before_the_death(manager: NodeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    link, worker = join(manager)
    order = []
    monkeypatch.setattr(manager.pool, "reap", lambda: order.append(bool(manager.leases.idle)))

    def child_ends() -> None:
        manager.reap_due = True

    run(manager, [(link, frames(node.Ready(worker.id, "a")))], meanwhile=child_ends)
    assert order == [True]
    assert not manager.reap_due


def test_whoever_asks_for_an_actor_that_never_comes_is_answered(
    manager: NodeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation that is late would have come by then; nothing is kept of the question."""
    monkeypatch.setattr(node_actors, "EARLY_S", 0.0)
    link, _ = join(manager)
    actor = b"a" * 16
    run(manager, [(link, frames(node.WatchActor(actor))), (link, frames(node.KillActor(7, actor, True, "why")))])
    update, answer = link.sent
    assert (update.id, update.state) == (actor, "dead")
    assert "no such actor" in update.cause.reason
    assert answer == node.Answer(7, False)
    assert not manager.actors._early
