"""What stands in for the collaborators of a worker's parts: no process, no thread, no socket."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from tests.owners import Owner, Wire

from ray.messages import node, wire
from ray.protocol.resources import UNIT
from ray.protocol.run_slot import SLOT_BYTES, RunSlot
from ray.runtime.process.peers import Peer
from ray.runtime.worker.actor_host import ActorHost
from ray.runtime.worker.desk import Desk
from ray.runtime.worker.life import Life


class Calls:
    """An executor that runs nothing."""

    name = "serial"

    def __init__(self) -> None:
        self.submitted: list[Any] = []
        self.closed = False
        self.busy = False

    def submit(self, call: Any) -> None:
        self.submitted.append(call)

    def idle(self) -> bool:
        return not self.busy

    def close(self) -> None:
        self.closed = True


class Call:
    """A call as the parts see it; code that runs nothing."""

    def __init__(self, peer: Peer, id: bytes, **facts: Any) -> None:
        self.peer = peer
        self.task = wire.Task(id=id, **{"function": b"f", "args": b"", **facts})
        self.name = "f"
        self.group: str | None = None
        self.held: Any = ()
        self.stream: Any = None
        self.coroutine: Any = None
        self.gpu_ids: list[str] = []
        self.resources: dict[str, int] = {}
        self.abandoned = self.cancelled = self.timed_out = self.noticed = False
        self.cleans_up = self.recursive = self.interruptible = False
        self.interrupted = 0

    def interrupt(self) -> None:
        self.interrupted += 1


def id_of(number: int) -> bytes:
    return b"process1" + number.to_bytes(8, "big")


def actor_to_start(gpu_ids: Sequence[str] = (), **facts: Any) -> node.StartActor:
    """What makes a worker an actor."""
    spec: dict[str, Any] = {"class_name": "A", "resources": {"CPU": UNIT}, "placement": {}, "handle": b""}
    spec |= {"function": b"", "code": b"", "args": b"", "address": "me", **facts}
    return node.StartActor(spec=node.ActorSpec(id=b"actor", **spec), incarnation=2, gpu_ids=list(gpu_ids))


class Worker:
    """The parts at the bottom of a worker, wired as in a process."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.here, self.table, self.clock = self.owner.here, self.owner.table, self.owner.clock
        #: What the node manager was told.
        self.told = self.owner.told
        self.lock = threading.RLock()
        self.life = Life()
        self.executor = Calls()
        executor: Any = self.executor
        self.desk = Desk(self.lock, self.table, self.life, executor)
        self.actor = ActorHost(self.life, self.told.append)
        self.slot = RunSlot(memoryview(bytearray(SLOT_BYTES)))
        self.peer = self.peer_at("owner")

    def become_actor(self) -> None:
        """Have this worker be an actor."""
        self.actor.become(actor_to_start())

    def peer_at(self, address: str, *, near: bool = True) -> Peer:
        connection: Any = Wire()
        return Peer(connection, address.encode().ljust(8), address, near=near)

    def call(self, number: int, peer: Peer | None = None, **facts: Any) -> Any:
        return Call(peer or self.peer, id_of(number), **facts)

    def queue(self, number: int, peer: Peer | None = None, **facts: Any) -> Any:
        """A call that was sent, and has not begun."""
        call = self.call(number, peer, **facts)
        self.desk.queued[call.task.id] = call
        return call

    def start(self, number: int, peer: Peer | None = None, **facts: Any) -> Any:
        """A call that runs."""
        call = self.call(number, peer, **facts)
        self.desk.running[call.task.id] = self.desk.call = call
        return call


def sent(peer: Peer, kind: type = object) -> list[Any]:
    """What a peer was sent."""
    connection: Any = peer.connection
    return [message for message in connection.sent if isinstance(message, kind)]
