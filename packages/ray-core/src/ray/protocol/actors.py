"""The life of actors, as a pure machine.

``TRANSITIONS`` has the states and what leads from one to the other; ``docs/states.md`` draws them.

The shell asks for a worker when told to, passes on what happens to it, and publishes every change.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ray.messages.node import ActorSpec, ExitCause
from ray.protocol.actor_entries import (
    ALIVE,
    DEAD,
    PLACING,
    RESTARTING,
    STARTING,
    ActorEntry,
    Effect,
    EndOrderly,
    ExpectEnd,
    KillWorker,
    Place,
    Publish,
    Settle,
    Unplace,
)
from ray.protocol.story import check

#: {(state, the state that follows): the events that bring it about}; None: the actor is not known yet. What restarts is
#: placed again, as a new process; a kill meanwhile counts as another restart.
TRANSITIONS: Mapping[tuple[str | None, str], tuple[str, ...]] = {
    (None, PLACING): ("create", "restore"),
    (None, STARTING): ("host", "restore"),
    (None, RESTARTING): ("restore",),
    (None, DEAD): ("bury",),
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
#: Processes in a row that may end before they have begun with an actor, at no cost to it.
FREE_PLACES = 3
#: Restarts of one actor beyond this many wait, ever longer.
FREE_RESTARTS = 3
MAX_RESTART_DELAY_S = 5.0


def restart_delay_s(restarts: int) -> float:
    """How long an actor's restart waits that is its ``restarts``-th: for none of the first, then longer each time."""
    excess = restarts - FREE_RESTARTS
    return min(MAX_RESTART_DELAY_S, 0.1 * 2.0 ** min(excess, 10)) if excess > 0 else 0.0


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
        #: Ids of actors whose names have become free since ``take_freed``.
        self._freed: list[bytes] = []
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

    def host(self, spec: ActorSpec, job: str, incarnation: int, worker: bytes, pid: int, address: str) -> None:
        """A process of this node is to be an actor that another node manager keeps.

        Raises:
            ValueError: an earlier one of the actor is here.
        """
        if spec.id in self._living:
            raise ValueError(f"There is a process of the actor {spec.id.hex()} already.")
        self._dead.pop(spec.id, None)
        entry = ActorEntry(spec, job, True, STARTING, incarnation, incarnation, hosted=True)
        self.actors[spec.id] = self._living[spec.id] = entry
        self.granted(spec.id, worker, pid, address)

    def restore(self, entry: ActorEntry) -> None:
        """Another table had this living actor, which is placed, is to be, or restarts."""
        spec = entry.spec
        self.actors[spec.id] = self._living[spec.id] = entry
        if spec.name and not entry.exiting:
            self.names[(spec.namespace, spec.name)] = spec.id
        if entry.worker is not None:
            self.by_worker[entry.worker] = spec.id

    def bury(self, entry: ActorEntry) -> None:
        """Another table had this actor, which is dead."""
        self.actors[entry.spec.id] = entry
        self._forget_oldest(entry.spec.id)

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
        if entry.hosted:
            entry.begun = begun
            return self._die(entry, cause)
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
        """A process died: the actors it made, other than detached ones, die with it, or end as they were about to.

        ``owner`` is its id, or the number of a node that has died with all of its processes.
        """
        effects: list[Effect] = []
        for entry in list(self._living.values()):
            if not entry.spec.id.startswith(owner) or (entry.spec.detached and entry.ready) or entry.hosted:
                continue
            if entry.exiting and entry.worker is not None:
                effects.append(ExpectEnd(entry.worker))
            else:
                effects += self.kill(entry.spec.id, True, "the process that created it has ended")
        return effects

    def outlives(self, job: str) -> bool:
        """Whether an actor of the job lives that does not need its creator, or whose end others decide."""
        return any(
            entry.job == job and ((entry.spec.detached and entry.ready) or entry.hosted)
            for entry in self._living.values()
        )

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
            if state not in states:
                raise AssertionError(f"an actor that is {state}")
            check((state != DEAD) == (id in self._living) == (id not in self._dead), "a dead actor is counted as alive")
            if (worker is not None) != (state in (STARTING, ALIVE)):
                raise AssertionError(f"an actor that is {state}, and its process")
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
            self._freed.append(spec.id)

    def take_freed(self) -> list[bytes]:
        """Ids of actors whose names have become free since the last call."""
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
        self._forget_oldest(spec.id)
        return [Publish(entry)] if placed else [Unplace(entry), Publish(entry)]

    def _forget_oldest(self, dead: bytes) -> None:
        """One more is dead: of those only so many are remembered."""
        self._dead[dead] = None
        if len(self._dead) > self._max_dead:
            oldest = next(iter(self._dead))
            del self._dead[oldest]
            self.actors.pop(oldest, None)
