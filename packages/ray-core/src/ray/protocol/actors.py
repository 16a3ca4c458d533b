"""The life of actors, as a pure machine.

``TRANSITIONS`` has the states and what leads from one to the other; ``docs/states.md`` draws them.

The shell asks for a worker when told to, passes on what happens to it, and publishes every change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from ray.ids import process_of
from ray.messages.node import ActorSpec, ActorUpdate, ExitCause
from ray.protocol.story import check

PLACING, STARTING, ALIVE, RESTARTING, DEAD = "placing", "starting", "alive", "restarting", "dead"
#: {(state, the state that follows): the events that bring it about}; None: the actor is not known yet. What restarts is
#: placed again, as a new process; a kill meanwhile counts as another restart.
TRANSITIONS: Mapping[tuple[str | None, str], tuple[str, ...]] = {
    (None, PLACING): ("create",),
    (PLACING, STARTING): ("granted",),
    (STARTING, ALIVE): ("started",),
    (STARTING, PLACING): ("worker_lost",),
    (STARTING, RESTARTING): ("worker_lost", "kill"),
    (ALIVE, RESTARTING): ("worker_lost", "kill"),
    (PLACING, RESTARTING): ("kill",),
    (RESTARTING, RESTARTING): ("kill",),
    (RESTARTING, STARTING): ("granted",),
    (PLACING, DEAD): ("kill", "unheld", "owner_lost", "unplaceable"),
    (STARTING, DEAD): ("started", "worker_lost", "kill", "owner_lost"),
    (ALIVE, DEAD): ("worker_lost", "kill", "owner_lost"),
    (RESTARTING, DEAD): ("kill", "unheld", "owner_lost", "unplaceable"),
}
#: Why an actor is dead whose constructor failed.
INIT_RAISED = "its __init__ raised"
#: Calls that an actor with an event loop runs at a time, unless it says otherwise.
DEFAULT_PLACES = 1000
#: Processes in a row that may end before they have begun with an actor, at no cost to it.
FREE_PLACES = 3
#: Restarts of one actor beyond this many wait, ever longer.
FREE_RESTARTS = 3
MAX_RESTART_DELAY_S = 5.0


def restart_delay_s(restarts: int) -> float:
    """How long an actor's restart waits that is its ``restarts``-th: for none of the first, then longer each time."""
    excess = restarts - FREE_RESTARTS
    return min(MAX_RESTART_DELAY_S, 0.1 * 2.0 ** min(excess, 10)) if excess > 0 else 0.0


@dataclass(slots=True)
class ActorEntry:
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
    #: Processes that asked to be told, by process id.
    watchers: set[bytes] = field(default_factory=set)

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


@dataclass(frozen=True, slots=True)
class Place:
    """Get the actor a worker, after ``delay_s``."""

    actor: ActorEntry
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Unplace:
    """The actor needs no worker any more."""

    actor: ActorEntry


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the watchers."""

    actor: ActorEntry


@dataclass(frozen=True, slots=True)
class Settle:
    """The actor runs: keep only what it holds for life."""

    actor: ActorEntry


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the process now."""

    worker: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class EndOrderly:
    """Tell the process to end after the calls it has received."""

    worker: bytes


@dataclass(frozen=True, slots=True)
class ExpectEnd:
    """The process is ending in order: see that it comes to that."""

    worker: bytes


Effect: TypeAlias = Place | Unplace | Publish | Settle | KillWorker | EndOrderly | ExpectEnd


class ActorTable:
    """All actors of one node. Dead actors are remembered for later questions, up to ``max_dead``."""

    def __init__(self, max_dead: int = 10_000) -> None:
        #: {actor id: entry}
        self.actors: dict[bytes, ActorEntry] = {}
        #: {(namespace, name): actor id} of actors that are not dead, nor about to end
        self.names: dict[tuple[str, str], bytes] = {}
        #: {worker id: actor id}
        self.by_worker: dict[bytes, bytes] = {}
        #: Those that are not dead, by id.
        self._living: dict[bytes, ActorEntry] = {}
        self._dead: dict[bytes, None] = {}
        #: (namespace, name, actor id) of names that have become free since ``take_freed``.
        self._freed: list[tuple[str, str, bytes]] = []
        self._max_dead = max_dead

    def create(self, spec: ActorSpec, job: str = "", *, ready: bool = True) -> list[Effect]:
        """Add an actor of a job, or, where that was done before its arguments were there, have it placed.

        Raises:
            ValueError: the name is taken, or the id.
        """
        known = self.actors.get(spec.id)
        if known is not None:
            if known.spec.address != spec.address:
                raise ValueError(f"There is an actor of the id {spec.id.hex()} already.")
            if known.state == DEAD or known.ready:
                return []
            known.spec, known.ready = spec, True
            return [Place(known)]
        if spec.name:
            key = (spec.namespace, spec.name)
            if key in self.names:
                raise ValueError(
                    f"The name {spec.name!r} is already taken by a live actor in namespace {spec.namespace!r}."
                )
            self.names[key] = spec.id
        entry = self.actors[spec.id] = self._living[spec.id] = ActorEntry(spec, job, ready)
        return [Place(entry)] if ready else []

    def named(self, namespace: str, name: str) -> ActorEntry | None:
        """The actor of that name that lives, and is not about to end."""
        actor = self.names.get((namespace, name))
        return None if actor is None else self.actors[actor]

    def granted(self, actor: bytes, worker: bytes, pid: int, address: str) -> list[Effect]:
        """A worker is there: the shell sends it the spec."""
        entry = self.actors[actor]
        entry.state, entry.worker, entry.pid, entry.address, entry.lack = STARTING, worker, pid, address, ""
        self.by_worker[worker] = actor
        return []

    def infeasible(self, actor: bytes, lack: str) -> list[Effect]:
        """No node has what it needs: its callers may know."""
        entry = self.actors[actor]
        entry.lack = lack
        return [Publish(entry)]

    def unplaceable(self, actor: bytes, lack: str) -> list[Effect]:
        """No node can ever have it where it is to be."""
        return self._die(self.actors[actor], ExitCause(reason=lack, unplaced=True))

    def started(self, worker: bytes, error: bytes) -> list[Effect]:
        """``__init__`` has ended; with an error the actor is dead."""
        entry = self._of(worker)
        if entry is None or entry.state != STARTING:
            return []
        if error:
            entry.error = error
            del self.by_worker[worker]
            entry.worker = None
            return [
                *self._die(entry, ExitCause(reason=INIT_RAISED)),
                KillWorker(worker, "actor failed to start"),
            ]
        entry.state, entry.unbegun = ALIVE, 0
        return [Settle(entry), Publish(entry)]

    def worker_lost(self, worker: bytes, cause: ExitCause, *, begun: bool = True) -> list[Effect]:
        """The actor's process has died.

        Args:
            worker: its id.
            cause: how it ended.
            begun: it had come to the actor's own code. Else the actor has nothing to do with it, and gets another one;
                but not for ever, as nobody is told.
        """
        entry = self._of(worker)
        if entry is None:
            return []
        del self.by_worker[worker]
        entry.worker = None
        if entry.state == DEAD:
            return []
        if entry.exiting:
            reason = f"{entry.exiting}; {cause.reason}" if cause.reason else entry.exiting
            return self._die(entry, ExitCause(reason=reason, pid=cause.pid, running=cause.running))
        if not begun and entry.state == STARTING and entry.unbegun < FREE_PLACES:
            entry.unbegun += 1
            entry.state, entry.address, entry.pid = RESTARTING if entry.incarnation else PLACING, "", 0
            return [Place(entry)]
        entry.unbegun = 0
        return self._restart(entry, cause)

    def kill(self, actor: bytes, no_restart: bool, reason: str, error: bytes = b"", began: bytes = b"") -> list[Effect]:
        """End the process now; killing a dead actor has no effect. One that has no process yet loses that to come.

        ``began``: a call that the process has started.
        """
        entry = self.actors.get(actor)
        if entry is None or entry.state == DEAD:
            return []
        worker = entry.worker
        cause = ExitCause(reason=reason, began=began)
        entry.error = error or entry.error
        no_restart = no_restart or bool(entry.exiting)
        if worker is None:
            effects = self._die(entry, cause) if no_restart else self._restart(entry, cause)
            return [effect for effect in effects if type(effect) is not Place]  # it is being placed, or to be, already
        del self.by_worker[worker]
        entry.worker = None
        effects = self._die(entry, cause) if no_restart else self._restart(entry, cause)
        return [*effects, KillWorker(worker, reason)]

    def exiting(self, worker: bytes, reason: str) -> None:
        """The actor says that it ends by its own will."""
        entry = self._of(worker)
        if entry is not None:
            self._ends(entry, reason)

    def unheld(self, actor: bytes) -> list[Effect]:
        """No handle is left: let it finish what it has, then end."""
        entry = self.actors.get(actor)
        if entry is None or entry.state == DEAD or entry.spec.detached:
            return []
        self._ends(entry, "all handles to it went out of scope")
        if entry.worker is None:
            return self._die(entry, ExitCause(reason=entry.exiting))
        return [EndOrderly(entry.worker)]

    def owner_lost(self, owner: bytes) -> list[Effect]:
        """A process died: the actors it made, other than detached ones, die with it, or end as they were about to."""
        effects: list[Effect] = []
        for entry in list(self._living.values()):
            if process_of(entry.spec.id) != owner or (entry.spec.detached and entry.ready):
                continue
            if entry.exiting and entry.worker is not None:
                effects.append(ExpectEnd(entry.worker))
            else:
                effects += self.kill(entry.spec.id, True, "the process that created it has ended")
        return effects

    def outlives(self, job: str) -> bool:
        """Whether an actor of the job lives that does not need its creator."""
        return any(entry.job == job and entry.spec.detached and entry.ready for entry in self._living.values())

    def watcher_lost(self, process: bytes) -> None:
        """A process died: it need not be told any more."""
        for entry in self._living.values():
            entry.watchers.discard(process)

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            AssertionError: one does not hold.
        """
        states = {state for _, state in TRANSITIONS}
        for id, entry in self.actors.items():
            state, worker, spec = entry.state, entry.worker, entry.spec
            check(spec.id == id, "an actor is kept by another one's id")
            check(state in states, f"an actor that is {state}")
            check((state != DEAD) == (id in self._living) == (id not in self._dead), "a dead actor is counted as alive")
            check((worker is not None) == (state in (STARTING, ALIVE)), f"an actor that is {state}, and its process")
            check(worker is None or self.by_worker[worker] == id, "an actor is not found by its process")
            check(state != RESTARTING or entry.incarnation > 0, "an actor restarts that has had no process")
            check(state != PLACING or not entry.incarnation, "an actor that was restarted is placed as a new one")
            check(entry.restarts == entry.incarnation, "a process that was no restart")
            check(state == DEAD or entry.restarts <= spec.max_restarts or spec.max_restarts < 0, "too many restarts")
            check(entry.unbegun <= FREE_PLACES, "too many processes that have not begun")
        check(len(self.by_worker) == len({*self.by_worker.values()}), "an actor has two processes")
        check({*self.by_worker.values()} <= self._living.keys(), "a dead actor has a process")
        for (namespace, name), id in self.names.items():
            known = self._living[id].spec
            check((known.namespace, known.name) == (namespace, name), "an actor is found by another one's name")
            check(not self._living[id].exiting, "an actor that is about to end has its name")

    def _ends(self, entry: ActorEntry, reason: str) -> None:
        """It is about to end: nobody finds it any more, and another one may have its name."""
        entry.exiting = reason
        self._free_name(entry.spec)

    def _free_name(self, spec: ActorSpec) -> None:
        if spec.name and self.names.get((spec.namespace, spec.name)) == spec.id:
            del self.names[(spec.namespace, spec.name)]
            self._freed.append((spec.namespace, spec.name, spec.id))

    def take_freed(self) -> list[tuple[str, str, bytes]]:
        """(namespace, name, actor id) of names that have become free since the last call."""
        freed, self._freed = self._freed, []
        return freed

    def _of(self, worker: bytes) -> ActorEntry | None:
        actor = self.by_worker.get(worker)
        return None if actor is None else self.actors[actor]

    def _restart(self, entry: ActorEntry, cause: ExitCause) -> list[Effect]:
        limit = entry.spec.max_restarts
        entry.address, entry.pid = "", 0
        if limit >= 0 and entry.restarts >= limit:
            return self._die(entry, msgspec.structs.replace(cause, restarts=entry.restarts))
        entry.restarts += 1
        entry.incarnation += 1
        entry.state, entry.cause = RESTARTING, cause
        return [Publish(entry), Place(entry, restart_delay_s(entry.restarts))]

    def _die(self, entry: ActorEntry, cause: ExitCause) -> list[Effect]:
        placed = entry.worker is not None or entry.state == STARTING
        entry.state, entry.cause, entry.address = DEAD, cause, ""
        spec = entry.spec
        self._free_name(spec)
        # What is only needed to restart goes; what answers later questions stays.
        entry.spec = ActorSpec(
            spec.id, spec.class_name, b"", b"", b"", spec.address, {}, {}, b"", name=spec.name, namespace=spec.namespace
        )
        self._living.pop(spec.id, None)
        self._dead[spec.id] = None
        if len(self._dead) > self._max_dead:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            self.actors.pop(oldest, None)
        return [Publish(entry)] if placed else [Unplace(entry), Publish(entry)]
