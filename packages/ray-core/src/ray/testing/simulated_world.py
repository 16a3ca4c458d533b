"""What the parts of a simulated cluster have around them, and in common, and the few messages that are its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
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


@dataclass(frozen=True, slots=True)
class Load:
    """Node to owner, with a grant: what is free there now."""

    available: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """Nothing more comes from this address; it comes behind everything that was sent."""


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

    def new_id(self) -> bytes:
        """Sixteen bytes that nothing else has."""

    def lives(self, address: str) -> bool:
        """Whether the node is there still."""

    def ran(self, task: bytes, attempt: int) -> None:
        """A worker begins with a task."""

    def record(self, *facts: bytes) -> None:
        """Make ``facts`` and the time part of the digest of the run."""

    def check(self, holds: bool, what: str) -> None:
        """Raise AssertionError with the time if something does not hold."""
