"""A director and what it keeps, for unit tests: its node manager offers nothing, and all others are stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.abc.control_operations import Keys, Operation, Put
from ray.builtin.embedded_state import EmbeddedState
from ray.builtin.schedulers import HybridPolicy
from ray.exceptions import ControlTimeoutError
from ray.ids import directed, make_lease_ids, node_manager_of
from ray.messages import cluster, codec, node
from ray.protocol.director import DIRECTOR
from ray.protocol.leases import LeaseTable
from ray.protocol.resources import NodeResources
from ray.runtime.cluster.actor_book import ActorBook
from ray.runtime.cluster.sealing import Seal
from ray.runtime.node.actors import NodeActors
from ray.runtime.node.directed_actors import DirectedActors
from ray.runtime.process.timers import Timers

OWN, HOME, HOST, OTHER = b"node", b"home", b"host", b"othr"


class Store:
    """A control store that answers when told to."""

    def __init__(self) -> None:
        self._state = EmbeddedState(lambda: 0.0)
        self.is_there = True
        self.waiting: list[tuple[Operation[Any], Callable[[Any], object]]] = []
        self.do(Put(DIRECTOR, b"one"))

    def ask(self, op: Operation[Any], on_answer: Callable[[Any], object], *, timeout_s: float = 0.0) -> None:
        self.waiting.append((op, on_answer))

    def do(self, op: Operation[Any]) -> Any:
        return self._state.do(op)[0]

    def deliver(self) -> None:
        while self.is_there and self.waiting:
            op, on_answer = self.waiting.pop(0)
            on_answer(self.do(op))

    def fail(self) -> None:
        """What was asked is not answered in time."""
        for _, on_answer in self.waiting[:]:
            del self.waiting[0]
            on_answer(ControlTimeoutError("Commit", "director", 2.0, "10.0.0.9:6379 has not been there for 3 s"))

    def names(self) -> list[str]:
        return self.do(Keys("name:"))


class Link:
    """A home or a host, as a connection of its own or as a member."""

    kind, job = "node", ""

    def __init__(self, number: bytes) -> None:
        self.id, self.node, self.stands = node_manager_of(number), number, True
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def take(self, kind: type) -> list[Any]:
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return found


class Processes:
    """Those of a node; all of them live."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, Any]] = []

    def send_to(self, process: bytes, message: Any) -> bool:
        self.told.append((process, message))
        return True


class Desk:
    """The parts of a node manager that offers nothing itself."""

    def apply(self, effects: Any) -> None: ...

    def attend(self) -> None: ...

    def actor_died(self, job: str) -> None: ...


class Pool:
    workers: dict[bytes, Any] = {}


class Elsewhere:
    def __init__(self) -> None:
        self.killed: list[bytes] = []
        self.ended: list[bytes] = []

    def kill(self, worker: bytes, reason: str) -> None:
        self.killed.append(worker)

    def end_orderly(self, worker: bytes) -> None:
        self.ended.append(worker)

    def expect_end(self, worker: bytes) -> None: ...

    def settle(self, worker: bytes, resources: dict[str, int]) -> None: ...


class Members:
    def __init__(self, *links: Link) -> None:
        self.members = {link.node: link for link in links}

    def send(self, node: bytes, message: Any) -> bool:
        if node in self.members:
            self.members[node].send(message)
        return node in self.members

    def is_there(self, node: bytes) -> bool:
        return node in self.members


class Director:
    """One of them, with the parts of its node manager, over a store that others have used."""

    def __init__(
        self, store: Store, right: bytes = b"one", alive: tuple[bytes, ...] = (HOME, HOST, OTHER), term: int = 7
    ) -> None:
        self.number, self.config = term, b"config"
        self.store, self.right, self.nodes = store, right, {OWN, *alive}
        store.do(Put(DIRECTOR, right))
        self.home, self.host, self.other = Link(HOME), Link(HOST), Link(OTHER)
        known = {link.node: link for link in (self.home, self.host, self.other)}
        self.links = {number: known.get(number) or Link(number) for number in alive}
        self.timers = Timers()
        leases = LeaseTable(node_manager_of(OWN), NodeResources({}, ()), HybridPolicy(), make_lease_ids(OWN))
        clients: Any = {link.id: link for link in self.links.values()}
        self.actors = NodeActors(Desk(), leases, clients, Pool(), self.timers, node_manager_of(OWN), None)  # type: ignore[arg-type]
        self.elsewhere = self.actors.elsewhere = Elsewhere()
        self.book = ActorBook(store, Seal(b"key", "s"), self.timers, lambda: self.right, 60.0, self.said)  # type: ignore[arg-type]
        self.directed = DirectedActors(self.actors, self.book, Members(*self.links.values()), self, self, self)  # type: ignore[arg-type]
        self.actors.records = self.directed
        self.given_back: list[bytes] = []
        self.jobs: list[str] = []
        self.adopted: list[tuple[bytes, str]] = []
        self.texts: list[str] = []
        self.numbers = iter(range(1, 1000))
        self.directed.begin()
        store.deliver()

    def said(self, text: str) -> None:
        self.texts.append(text)

    # --- what it is told of the rest ----------------------------------------------------------------------------------

    def term(self) -> int:
        return self.number

    def alive(self) -> set[bytes]:
        return self.nodes

    def config_of(self, job: str) -> bytes:
        return self.config

    def take_over(self, job: str, config: bytes) -> None:
        self.jobs.append(job)

    def let_go(self, job: str) -> None: ...

    def give_back(self, lease: bytes) -> None:
        self.given_back.append(lease)

    def taken(self, lease: bytes) -> None: ...

    def adopt_at(self, node: bytes, job: str) -> None:
        self.adopted.append((node, job))

    # --- what happens -------------------------------------------------------------------------------------------------

    def order(self, message: Any, home: Link | None = None, number: int = 0) -> int:
        number = number or next(self.numbers)
        self.directed.take(home or self.home, cluster.Order(number, "job", codec.encode(message)))
        return number

    def create(self, spec: node.ActorSpec, ready: bool = True) -> int:
        return self.order(node.CreateActor(1, spec, ready))

    def lend(self, actor: bytes, process: bytes, lease: bytes = b"") -> None:
        """A worker is lent for the actor that waits."""
        number = next(number for number, placing in self.actors._placing.items() if actor in placing.waiting)
        granted = node.Granted(number, lease or process[:4] + b"lease123", "addr", 7, [], process)
        order = self.actors.granted_elsewhere(number, granted)
        assert order is not None
        self.directed.start(granted, order)

    def says(self, actor: bytes, process: bytes, state: str, number: int = 0, whole: bool = False, **more: Any) -> None:
        told = cluster.HostedActor(actor, number, process, state, **more)
        self.hosts(process[:4], [told], whole)

    def hosts(self, number: bytes, told: list[cluster.HostedActor], whole: bool = True) -> None:
        """A host tells what it has, as the answer to the question that it was asked last."""
        asked = self.directed._asked[number][0] if whole else 0
        self.directed.hosting(self.links[number], cluster.Hosting(told, whole, asked))  # type: ignore[arg-type]

    def first(self, actor: bytes) -> bytes:
        """The actor that has waited for longest of those that want the same."""
        return next(iter(self.actors._waiting[actor].waiting))

    def state(self, actor: bytes) -> tuple[str, int]:
        entry = self.actors.table.actors[actor]
        self.actors.table.validate()
        return entry.state, entry.incarnation

    def waits(self, actor: bytes) -> bool:
        return actor in self.actors._waiting


def spec(number: int = 1, owner: bytes = HOME + b"proc", **fields: Any) -> node.ActorSpec:
    id = directed(owner + number.to_bytes(8, "big"))
    fields = {"name": f"n{number}", "namespace": "default", "max_restarts": 1, "resources": {}, **fields}
    code = b"f", b"code", b"args"
    return node.ActorSpec(id, "C", *code, address="unix:/owner", placement={"CPU": 1}, handle=b"handle", **fields)
