"""One simulated program: creates actors, calls them, hands them refs and handles, and lets go of all that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.messages import codec, node, wire
from ray.protocol.call_records import Callee
from ray.protocol.references import PENDING, READY, ObjectEntry
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.records import TaskRecord
from ray.testing.simulated_process import SimulatedProcess
from ray.testing.simulated_world import ONE_CPU, Node, World


class SimulatedProgram:
    """A driver with actors. What it does it is told to do; what it holds it drops at random, or in the end."""

    def __init__(self, world: World, number: int, home: Node) -> None:
        self._world = world
        self.id = world.new_process_id()
        self.address = f"program{number}"
        self.home = home.address
        self.process = SimulatedProcess(world, self.id, self.address, home.address)
        #: Objects, results and handles that the program holds.
        self.held: list[ObjectEntry] = []
        self._calls: dict[bytes, TaskRecord] = {}
        world.connections.join(self.address, self)

    # --- what it does -------------------------------------------------------------------------------------------------

    def create(self, *, places: int = 1, restarts: int = 0) -> None:
        """One more actor."""
        placement = dict(ONE_CPU.resources)
        spec = node.ActorSpec(
            self.process.new_id(), "Actor", b"", b"", b"", self.address, {}, placement, b"",
            max_concurrency=places, max_restarts=restarts,
        )  # fmt: skip
        self.held.append(self.process.create(spec))

    def put(self) -> None:
        """One more object, with refs to others in it."""
        objects = self._objects()
        rng = self._world.rng
        self.held.append(self.process.put(rng.sample(objects, min(len(objects), rng.choice([0, 0, 1, 2])))))

    def call(self, *, retries: int = 0, wait_s: float = 0.0) -> None:
        """Call one of the actors, with some of what is held."""
        handles, rng = self.process.handles(), self._world.rng
        if not handles:
            return
        client, _ = rng.choice(handles)
        others = [life for other, life in handles if other is not client]
        lives = rng.sample(others, min(len(others), rng.choice([0, 1, 2])))
        objects = self._objects()
        refs = rng.sample(objects, min(len(objects), rng.choice([0, 1, 2])))
        record = self.process.call(client, lives, refs, retries, wait_s)
        self._calls[record.id] = record
        self.held += record.entries
        self.process.collect()

    def _objects(self) -> list[ObjectEntry]:
        """What is held and no handle, and is made: a result that is not may come to hold what it is handed to."""
        by_life, held = self.process.calls.by_life, dict.fromkeys(self.held)
        return [entry for entry in held if entry.id not in by_life and (entry.owner or entry.status != PENDING)]

    def read(self) -> None:
        """Hold the refs in a value that is there, or ask for one."""
        objects = self._objects()
        if not objects:
            return
        entry = self._world.rng.choice(objects)
        if entry.status == PENDING:
            self.process.borrowing.want(entry)
        elif entry.status == READY:
            self.held += [self.process.take(inner) for inner in entry.contained]
        self.process.collect()

    def drop(self) -> None:
        """Let go of something."""
        if self.held:
            rng = self._world.rng
            self.process.drop(self.held.pop(rng.randrange(len(self.held))))
            self.process.collect()

    def cancel(self) -> None:
        """Cancel a call wherever it is."""
        pending = [record for record in self._calls.values() if not record.done]
        if not pending:
            return
        record = self._world.rng.choice(pending)
        record.cancelled, record.retries = True, 0
        callee: Any = record.place
        assert isinstance(callee, Callee)
        if record.id in callee.inflight:
            client = self.process.calls.clients[callee.actor_id]
            if client.peer is not None:
                client.peer.send(wire.Cancel(record.id))
        else:
            self.process.calls.cancel_unsent(record, callee)
        self.process.collect()

    def kill(self, *, no_restart: bool) -> None:
        """``ray.kill``."""
        handles = self.process.handles()
        if handles:
            client, _ = self._world.rng.choice(handles)
            self._kill(client, no_restart=no_restart)

    def _kill(self, client: ActorClient, *, no_restart: bool) -> None:
        callee, reason = client.callee, "ray.kill() was called"
        place = callee.place
        self.process.tell_node(node.KillActor(1, callee.actor_id, no_restart, reason))
        self.process.calls.killed(callee, place, node.ExitCause(reason=reason) if no_restart else None)
        self.process.collect()

    def finish(self) -> None:
        """Let go of everything."""
        while self.held:
            self.process.drop(self.held.pop())
        self.process.collect()

    @property
    def pending(self) -> int:
        """How many of its calls have not ended."""
        return sum(not record.done for record in self._calls.values())

    # --- what it is told ----------------------------------------------------------------------------------------------

    def hear(self, message: Any) -> None:
        """A message of the node manager."""
        self.process.hear(message)

    def receive(self, sender: str, frames: Sequence[Any]) -> None:
        """A message of an actor."""
        message = codec.decode(list(frames))
        self.process.receive(self._world.connections.ids[sender], sender, message, frames)
        self.process.collect()

    def peer_lost(self, process: bytes) -> None:
        """There is no connection to that one any more."""
        self.process.peer_lost(process)

    def holds(self) -> list[tuple[str, bytes]]:
        """What it has borrowed and holds: addresses of owners and ids."""
        return self.process.holds()

    def owns(self, object_id: bytes) -> bool:
        """Whether it owns an object that is not freed."""
        return object_id in self.process.table.entries

    def validate(self) -> None:
        """Raise AssertionError if an invariant does not hold."""
        self.process.validate()
