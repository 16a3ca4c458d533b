"""What the parts of a simulated cluster have around them, and in common, and the few messages that are its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.protocol.resources import UNIT
from ray.testing.virtual_time import VirtualClock

ONE_CPU = ResourceRequest({"CPU": UNIT})


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What tasks and their workers do. Probabilities are for each task."""

    task_s: tuple[float, float] = (0.01, 0.1)
    """Shortest and longest run; the times between have equal chances on a logarithmic scale."""
    keep: float = 0.0
    """The worker keeps the argument beyond the end of the task."""
    deaf: float = 0.0
    """The task keeps the interpreter: its worker takes no message before the task has ended."""
    blocks: float = 0.0
    """The task waits for others for a while, in its midst."""
    fails: float = 0.0
    """The task raises an error for which it is to be retried."""
    dies: float = 0.0
    """The worker dies in the midst of the task."""
    unsendable: float = 0.0
    """No message can hold the task."""
    dials: float = 0.0
    """Of each lease: the connection to its worker takes a while, and does not always come to stand."""
    tasks_per_worker: int = 0
    """A worker ends after so many tasks; 0: it does not."""
    hands_on: float = 0.0
    """Of each call: the actor calls another one, with refs that it has."""
    exits: float = 0.0
    """Of each call: the actor ends with it, by its own will."""
    refuses: float = 0.0
    """Of each actor: its ``__init__`` raises."""


@dataclass(frozen=True, slots=True)
class Load:
    """Node to owner, with a grant: what is free there now."""

    available: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """Nothing more comes from this address; it comes behind everything that was sent."""

    process: bytes = b""
    """Id of the one that has died, if it is a node that is told."""


@dataclass(frozen=True, slots=True)
class Returned:
    """Worker to owner: it no longer keeps the argument that it had kept."""

    object_id: bytes
    borrower: str
    node: str


class Links(Protocol):
    """Between all addresses: what is sent arrives once, and in order for each pair."""

    def join(self, address: str, receive: Callable[[str, Any], object]) -> None: ...
    def leave(self, address: str) -> None: ...
    def send(self, sender: str, to: str, message: Any) -> None: ...
    def cut(self, one: str, other: str, until_s: float) -> None: ...


class End(Protocol):
    """A process."""

    #: Its id.
    id: bytes

    def receive(self, sender: str, frames: Sequence[Any]) -> None:
        """A message of another process."""

    def hear(self, message: Any) -> None:
        """A message of a node."""

    def peer_lost(self, process: bytes) -> None:
        """There is no connection to that one any more."""

    def holds(self) -> list[tuple[str, bytes]]:
        """What it has borrowed and holds: addresses of owners and ids."""

    def owns(self, object_id: bytes) -> bool:
        """Whether it owns an object that is not freed."""

    def validate(self) -> None:
        """Raise AssertionError if something does not hold."""


class Ways(Protocol):
    """Connections of processes: see ``simulated_connections``."""

    #: {address: process there} of those that live.
    ends: dict[str, End]
    #: {address: process id}, also of the dead.
    ids: dict[str, bytes]
    #: Connections that broke while both lived, and processes that died with refs that were handed over and not sent.
    #: Owners then count credits for holds that are none, until the process ends that they are for.
    broken: int

    def join(self, address: str, end: End) -> None: ...
    def leave(self, address: str) -> None: ...
    def connect(self, here: str, there: str) -> None: ...
    def send(self, here: str, there: str, frames: Sequence[Any]) -> None: ...


class Node(Protocol):
    """What owners know of a node."""

    address: str
    id: bytes

    def view(self, *, is_home: bool) -> NodeView:
        """What an owner believes of it before it has heard anything."""


class World(Protocol):
    """``simulation.Cluster`` says what each attribute means."""

    clock: VirtualClock
    rng: random.Random
    network: Links
    policy: SchedulerPolicy
    candidates: int
    behaviour: Behaviour
    worker_start_s: float
    strict: bool
    decisions: int

    @property
    def connections(self) -> Ways:
        """Of processes."""

    def new_id(self) -> bytes:
        """Sixteen bytes that nothing else has."""

    def new_process_id(self) -> bytes:
        """One that no other process has, nor a node."""

    def lives(self, address: str) -> bool:
        """Whether the node is there still."""

    def ran(self, task: bytes, attempt: int) -> None:
        """A worker begins with a task."""

    def called(self, actor: bytes, call: bytes, attempt: int) -> None:
        """An actor begins with a call."""

    def ends(self, actor: bytes) -> None:
        """An actor begins with no more calls, in any process."""

    def did_not_start(self, call: bytes, attempt: int) -> None:
        """A caller is told that an actor has not begun with a call."""

    def record(self, *facts: bytes) -> None:
        """Make ``facts`` and the time part of the digest of the run."""

    def check(self, holds: bool, what: str) -> None:
        """Raise AssertionError with the time if something does not hold."""
