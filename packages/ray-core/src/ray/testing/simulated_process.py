"""One simulated process with references and calls: the parts of an owner as the runtime has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from itertools import count
from types import SimpleNamespace
from typing import Any

from ray.ids import FIRST_RETURN
from ray.messages import node, wire
from ray.protocol.references import ObjectEntry, ReferenceTable
from ray.runtime.owner.actor_calls import ActorCalls
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.borrowing import Borrowing
from ray.runtime.owner.handed_refs import ActorLife
from ray.runtime.owner.handing_over import HandingOver
from ray.runtime.owner.here import Here
from ray.runtime.owner.lending import Lending
from ray.runtime.owner.letting_go import LettingGo
from ray.runtime.owner.outcomes import Outcomes
from ray.runtime.owner.records import TaskRecord
from ray.runtime.owner.unreached_actors import UnreachedActors
from ray.runtime.process.peers import Peer
from ray.testing.simulated_peers import SimulatedPeers
from ray.testing.simulated_reports import SimulatedReports
from ray.testing.simulated_world import World

#: What stands for the code and the arguments of every call.
_METHOD = b"method"


class SimulatedProcess:
    """What a program and an actor have in common: they hold refs and handles, and call actors.

    Stand-ins are the connections, the store, which there is none of, and what is printed. ``ActorCalls`` with its
    ``CallTable``, ``Borrowing`` with its ``ReferenceTable``, ``Outcomes`` and ``LettingGo`` are the runtime's.
    """

    def __init__(
        self, world: World, id: bytes, address: str, home: str, before_send: Callable[[Peer], None] = lambda peer: None
    ) -> None:
        """Make one.

        Args:
            world: around it.
            id: its own.
            address: its own.
            home: address of its node.
            before_send: sends what is to come before any word to an owner.
        """
        self._world = world
        self.id = id
        self.address = address
        self._home = home
        self._numbers = count(1)
        here = Here("simulation", id, "")
        here.address = address
        self.table = ReferenceTable()
        self.peers = SimulatedPeers(world, address)
        peers: Any = self.peers
        timers: Any = SimpleNamespace(after=self.after, soon=self.after)
        values: Any = SimpleNamespace(shared=False, discard=lambda ids: None, views=None, release=lambda entry: None)
        reports: Any = SimulatedReports(world)
        events: Any = SimpleNamespace(wanted=False)
        lock = nullcontext()
        self.borrowing = Borrowing(here, self.table, peers, reports, timers, None, before_send, lock)
        moving: Any = None  # no store is shared
        self._outcomes = Outcomes(self.table, values, self.borrowing, reports, events, moving, [])
        handing = HandingOver(self.borrowing, self._outcomes, lambda id: None)
        self._lending = Lending(self.table, values, self.borrowing, reports, lock)
        shortage: Any = None  # of descriptors
        unreached = UnreachedActors(shortage)
        self.calls = ActorCalls(here, peers, timers, self.tell_node, self._outcomes, handing, unreached, lambda: True)
        self._letting_go = LettingGo(
            here, self.table, values, self.borrowing, peers, self.calls,
            lambda actor: self.tell_node(node.ActorUnheld(actor)), lambda entry: None,
        )  # fmt: skip

    @property
    def lives(self) -> bool:
        """Whether it has not died."""
        return self._world.connections.ends.get(self.address) is not None

    def after(self, delay_s: float, callback: Callable[[], object]) -> None:
        """Call it then, if the process lives still."""
        self._world.clock.after(delay_s, self._due, callback)

    def _due(self, callback: Callable[[], object]) -> None:
        if self.lives:
            callback()
            self.collect()

    def tell_node(self, message: Any) -> None:
        """Send to the node manager."""
        self._world.network.send(self.address, self._home, message)

    # --- refs and handles ---------------------------------------------------------------------------------------------

    def new_id(self) -> bytes:
        """An id that nothing else has, and that is higher than those before it."""
        return self.id + next(self._numbers).to_bytes(8, "big")

    def put(self, inner: Iterable[ObjectEntry] = ()) -> ObjectEntry:
        """A new object, which is held, with refs in its value."""
        entry = self.table.put(self.new_id() + FIRST_RETURN, b"value")
        self.table.set_contained(entry, inner)
        entry.local = 1
        return entry

    def take(self, entry: ObjectEntry) -> ObjectEntry:
        """Hold an object."""
        entry.local += 1
        return entry

    def drop(self, entry: ObjectEntry) -> None:
        """Hold it no more."""
        entry.local -= 1
        if not entry.local:
            self.table.dropped.append(entry)

    def collect(self) -> None:
        """Free what nobody holds."""
        self._letting_go.collect()

    def adopt(self, actor: bytes, life: ObjectEntry) -> None:
        """A handle has come here; ``life`` counts those of this process, and is held."""
        self.calls.hold(self.calls.client(actor, "Actor", False, watch=True), life)

    def handles(self) -> list[tuple[ActorClient, ObjectEntry]]:
        """The actors that this process has handles to, and what counts them."""
        found = ((client, client.life) for client in self.calls.clients.values())
        return [(client, life) for client, life in found if life is not None and life.local]

    # --- calls --------------------------------------------------------------------------------------------------------

    def create(self, spec: node.ActorSpec) -> ObjectEntry:
        """Create an actor, by whose id its ``spec`` is told; returns what counts the handles to it, which is held."""
        concurrent = spec.max_concurrency > 1
        life = self.table.put(self.new_id() + FIRST_RETURN, None)
        life.task, life.local = ActorLife(spec.id), 1
        client = self.calls.client(spec.id, "Actor", concurrent, watch=False)
        client.callee.created_here = True
        self.calls.hold(client, life)
        self.tell_node(node.CreateActor(0, spec))
        return life

    def call(
        self,
        client: ActorClient,
        lives: Sequence[ObjectEntry],
        refs: Sequence[ObjectEntry],
        retries: int,
        wait_s: float = 0.0,
    ) -> TaskRecord:
        """Call an actor.

        Args:
            client: the way to it.
            lives: of the handles that are among the arguments.
            refs: the refs that are among them.
            retries: of the call.
            wait_s: for arguments that are not there.
        """
        actors = b"".join(self.calls.by_life[life.id] for life in lives)
        record = TaskRecord(self.new_id(), "method", actors, 1, retries, None)
        record.actor, record.method = client.callee.actor_id, _METHOD
        record.refs = (*lives, *refs)
        assert client.life is not None
        record.pins = (*record.refs, client.life)
        self.table.pin(record.pins)
        entry = self.table.own(record.id + FIRST_RETURN)
        entry.task, entry.local = record, 1
        record.entries = (entry,)
        if wait_s:
            record.waiting = 1
            self.after(wait_s, lambda: self._arguments_came(client, record))
        self.calls.submit(client, record)
        return record

    def _arguments_came(self, client: ActorClient, record: TaskRecord) -> None:
        record.waiting = 0
        self.calls.pump(client.callee)

    # --- messages -----------------------------------------------------------------------------------------------------

    def hear(self, message: Any) -> None:
        """A message of the node manager."""
        if isinstance(message, node.ActorUpdate):
            self.calls.updated(message)
        self.collect()

    def receive(self, sender: bytes, address: str, message: Any, frames: Sequence[Any]) -> None:
        """A message of another process about refs, or replies to calls."""
        peer = self.peers.of(sender, address)
        match message:
            case wire.Replies():
                if isinstance(peer.sink, ActorClient):
                    self.calls.on_replies(peer.sink, message, frames)
                else:  # what became of its calls is decided: see ``peer_handlers``
                    self.borrowing.take_late(message.done, peer)
            case wire.Credit():
                self.borrowing.on_credit(peer, message, frames)
            case wire.Fetch() if address not in self._world.connections.ends:
                pass  # a dead process asks, which is known to be dead
            case wire.Fetch():
                self._lending.on_fetch(peer, message, frames)
            case wire.Fetched():
                self.borrowing.on_fetched(peer, message, frames)
            case _:
                raise AssertionError(f"a process was sent {message!r}")

    def peer_lost(self, process: bytes) -> None:
        """There is no connection to that one any more."""
        peer = self.peers.forget(process)
        if peer is not None and isinstance(peer.sink, ActorClient):
            self.calls.peer_lost(peer.sink, peer)
        self.borrowing.peer_lost(process)
        self.collect()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def is_needed(self) -> bool:
        """Whether others hold what this process owns."""
        return any(entry.credits for entry in self.table.entries.values())

    def is_settled(self) -> bool:
        """Whether nothing is left, neither objects nor handles nor calls."""
        return not (self.table.entries or self.calls.clients or self.calls.by_life or self.calls.table.callees)

    def holds(self) -> list[tuple[str, bytes]]:
        """What it has borrowed and holds: addresses of owners and ids."""
        entries = self.table.entries.values()
        return [(entry.owner.address, entry.id) for entry in entries if entry.owner is not None]

    def validate(self) -> None:
        """Raise AssertionError if an invariant does not hold."""
        self.calls.table.validate()
        self.table.validate()
