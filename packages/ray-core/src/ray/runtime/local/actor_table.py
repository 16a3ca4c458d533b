"""The actors of a session in local mode, by their ids and names: found, made anew, ended."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

from ray.config.spelling import did_you_mean
from ray.exceptions import RayConnectionError
from ray.ids import object_id, task_of
from ray.runtime.interface import ActorCore
from ray.runtime.local.actors import LocalActor
from ray.runtime.local.entries import Entries
from ray.runtime.refs.ref import ObjectRef


class ActorTable:
    """Safe from several threads, by the lock of the session's objects."""

    def __init__(self, entries: Entries, namespace: str) -> None:
        self._entries = entries
        self._lock = entries.lock
        self._namespace = namespace
        #: {actor id: actor}, dead ones too while there are handles on them.
        self._actors: dict[bytes, LocalActor] = {}
        #: {(namespace, name): actor id}
        self._names: dict[tuple[str, str], bytes] = {}
        self._cores: weakref.WeakValueDictionary[bytes, ActorCore] = weakref.WeakValueDictionary()

    def check_free(self, name: str | None, namespace: str | None) -> None:
        """Raise ValueError if an actor has that name."""
        key = (namespace or self._namespace, name)
        if name and key in self._names:
            raise ValueError(f"The actor name {name!r} is taken in namespace {key[0]!r}; ray.get_actor() finds it.")

    def enter(self, actor: LocalActor) -> ActorCore:
        """Have it found from now on; under the lock."""
        self._actors[actor.actor_id] = actor
        core = self.core(actor)
        if actor.options.name:
            self._names[actor.options.namespace or self._namespace, actor.options.name] = actor.actor_id
        return core

    def core(self, actor: LocalActor) -> ActorCore:
        """The one core of an actor, under the lock; made anew where its handles lie in objects only."""
        core = self._cores.get(actor.actor_id)
        if core is None:
            life: ObjectRef[None] = ObjectRef(self._entries.find(object_id(actor.actor_id)))
            core = self._cores[actor.actor_id] = actor.core(life)
        return core

    def adopt(self, core: ActorCore) -> ActorCore:
        """The one core of that actor."""
        with self._lock:
            core.client = self._actors.get(core.actor_id)
            return self._cores.setdefault(core.actor_id, core)

    def of(self, core: ActorCore) -> LocalActor:
        """The actor of a handle.

        Raises:
            RayConnectionError: it belongs to another session.
        """
        actor = core.client
        if not isinstance(actor, LocalActor) or self._actors.get(core.actor_id) is not actor:
            raise RayConnectionError(
                f"The handle of actor {core.class_name} belongs to a session that has ended; make a new actor."
            )
        return actor

    def named(self, name: str, namespace: str | None) -> ActorCore:
        """The core of the live actor of that name."""
        with self._lock:
            actor_id = self._names.get((namespace or self._namespace, name))
            if actor_id is None:
                raise ValueError(
                    f"There is no live actor named {name!r} in namespace {namespace or self._namespace!r}."
                    f"{did_you_mean(name, [known for _, known in self._names])}"
                )
            return self.core(self._actors[actor_id])

    def held(self) -> list[Mapping[str, int]]:
        """What live actors hold."""
        with self._lock:
            return [actor.options.resources for actor in self._actors.values() if actor.reason is None]

    def stop(self, actor: LocalActor, reason: str, *, restart: bool) -> None:
        """End it; with restarts left and allowed, make its instance anew."""
        if restart and actor.restarts != actor.options.max_restarts:
            actor.restarts += 1
            actor.start(actor)
        else:
            self.end(actor, reason)

    def end(self, actor: LocalActor, reason: str | bytes) -> None:
        """End it, and give its names away."""
        actor.end(reason)
        with self._lock:
            for key in [key for key, actor_id in self._names.items() if actor_id == actor.actor_id]:
                del self._names[key]

    def freed(self, id: bytes) -> None:
        """An object has gone. With the one that stands for an actor's life goes the actor."""
        actor = self._actors.pop(task_of(id), None)
        if actor is not None:
            self.end(actor, "its last handle has gone")

    def clear(self) -> list[LocalActor]:
        """Forget all of them; returns them, to be ended."""
        actors = list(self._actors.values())
        self._actors.clear()
        self._names.clear()
        return actors
