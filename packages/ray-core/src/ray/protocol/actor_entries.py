"""Actors as a table of them knows each, and what it decides about them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ray.messages.node import ActorSpec, ActorUpdate, ExitCause

#: What an actor may be; ``ray.protocol.actors`` has what leads from one to the other.
PLACING, STARTING, ALIVE, RESTARTING, DEAD = "placing", "starting", "alive", "restarting", "dead"
#: Calls that an actor with an event loop runs at a time, unless it says otherwise.
DEFAULT_PLACES = 1000


class ActorEntry(msgspec.Struct):
    """One actor. ``incarnation`` counts processes, from 0."""

    spec: ActorSpec
    #: The job that it is of: that of its creator.
    job: str = ""
    #: Its arguments are there: it may be placed.
    ready: bool = True
    state: str = PLACING
    incarnation: int = 0
    restarts: int = 0
    #: Processes in a row that ended before they had begun with it.
    unbegun: int = 0
    worker: bytes | None = None
    address: str = ""
    pid: int = 0
    cause: ExitCause | None = None
    error: bytes = b""
    #: What no node has that it needs, while that is so: a predicate.
    lack: str = ""
    #: The actor announced its own end: the death that follows is not a failure and not restarted. Its name is free.
    exiting: str = ""
    #: Another node manager keeps the actor: this is its process, which is of this node, and no other follows it here.
    hosted: bool = False
    #: A hosted one that is dead had come to its own code.
    begun: bool = True
    #: {home: number of its last order to end a process that another one follows}, where a director keeps the actor.
    kills: dict[bytes, int] = msgspec.field(default_factory=dict)
    #: Processes that asked to be told, by process id.
    watchers: set[bytes] = msgspec.field(default_factory=set)

    def update(self) -> ActorUpdate:
        """The state as others may see it."""
        spec = self.spec
        places = places_of(spec)
        return ActorUpdate(
            spec.id, self.state, self.incarnation, self.address, self.pid, self.cause, self.error, spec.class_name,
            spec.is_async or places > 1 or bool(spec.groups), self.lack, places,
            list(spec.groups), self.worker or b"",
        )  # fmt: skip


def places_of(spec: ActorSpec) -> int:
    """How many calls the actor runs at a time, besides those of concurrency groups."""
    return spec.max_concurrency or (DEFAULT_PLACES if spec.is_async else 1)


class Place(msgspec.Struct, frozen=True):
    """Get the actor a worker, after ``delay_s``."""

    actor: ActorEntry
    delay_s: float = 0.0


class Unplace(msgspec.Struct, frozen=True):
    """The actor needs no worker any more."""

    actor: ActorEntry


class Publish(msgspec.Struct, frozen=True):
    """Tell the watchers."""

    actor: ActorEntry


class Settle(msgspec.Struct, frozen=True):
    """The actor runs: keep only what it holds for life."""

    actor: ActorEntry


class KillWorker(msgspec.Struct, frozen=True):
    """End the process now."""

    worker: bytes
    reason: str


class EndOrderly(msgspec.Struct, frozen=True):
    """Tell the process to end after the calls it has received."""

    worker: bytes


class ExpectEnd(msgspec.Struct, frozen=True):
    """The process is ending in order: see that it comes to that."""

    worker: bytes


Effect: TypeAlias = Place | Unplace | Publish | Settle | KillWorker | EndOrderly | ExpectEnd
