"""What a worker does when it becomes an actor."""

from __future__ import annotations

import os
from _thread import get_ident
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from ray.exceptions.base import is_a
from ray.messages import node, wire
from ray.protocol.actors import INIT_RAISED, places_of
from ray.protocol.resources import UNIT
from ray.protocol.run_slot import RunSlot
from ray.runtime.interface import ActorCore
from ray.runtime.owner.last_calls import TERMINATE
from ray.runtime.owner.owner import OwnerRuntime
from ray.runtime.owner.unreadable import raise_unreadable
from ray.runtime.process.clean_signals import unblock_signals
from ray.runtime.worker.actor_exit import EXIT_ACTOR, ActorExit
from ray.runtime.worker.closing import TERMINATED
from ray.runtime.worker.code_cache import ArgumentCache, with_dependencies
from ray.runtime.worker.desk import Desk
from ray.runtime.worker.life import Life
from ray.runtime.worker.native_threads import NativeThreads
from ray.runtime.worker.own_class import method_of, name_own_class
from ray.serialization import deserialize_aligned, failed_start, load_function, make_envelope


class ActorHost(OwnerRuntime):
    """The actor half of a worker."""

    arguments: ArgumentCache
    desk: Desk
    life: Life
    #: Why the actor ends, once it has said so, and is never started anew.
    announced = ""
    #: {method: whether it asks to run on a thread}
    in_thread: dict[bytes, bool]
    #: Empty in a worker that is no actor.
    actor_id: bytes = b""
    actor_name: str = ""
    actor_resources: dict[str, float] = {}
    threads: NativeThreads
    #: Shared with the node manager.
    _slot: RunSlot
    #: {concurrency group: how many of its calls run at a time}
    groups: Mapping[str, int] = {}
    #: What made this process an actor.
    started_as: node.StartActor | None = None
    _instance: Any = None
    #: The thread that runs ``__init__``, or 0.
    creating_thread = 0
    #: What ``__init__`` raised, as an envelope.
    _failed: bytes = b""

    @abstractmethod
    def use_gpus(self, gpu_ids: list[str]) -> None:
        """Show the user's code the GPUs it was given, and no others."""

    @abstractmethod
    def guard_loop(self) -> None:
        """This thread runs the event loop of an async actor: from now on no call may wait on it."""

    @abstractmethod
    def leave(self) -> None:
        """The last call of this process has ended."""

    def on_start_actor(self, message: node.StartActor) -> None:
        """The node manager makes this worker an actor; called by the reader under the lock."""
        spec = message.spec
        self.started_as = message
        self.actor_id, self.actor_name = spec.id, spec.class_name
        self.actor_resources = {name: amount / UNIT for name, amount in spec.resources.items()}
        self.threads.set_for(spec.resources)
        self.here.depth = spec.depth + 1
        self.groups = spec.groups
        limit = places_of(spec)
        old = self.desk.executor
        if spec.is_async or limit > 1 or spec.groups:
            name = "asyncio" if spec.is_async else "threads"
            self.polling.shareable = self.polling.shareable and not spec.is_async  # the main thread waits elsewhere
            self.desk.run_by(self.composition.make_executor(name, limit, spec.groups))
        self.desk.executor.submit(ActorCreation(self, message))
        if self.desk.executor is not old:
            old.close()

    def on_terminate(self) -> None:
        """End after the calls received so far; called by the reader under the lock."""
        self.desk.closing.begin()
        self.desk.executor.submit(ActorEnd(self))

    def method_of(self, task: wire.Task) -> Any:
        """The bound method that a call names."""
        name = task.function.decode()
        if self._instance is None:
            facts = {"actor_class": self.actor_name, "actor_id": self.actor_id, "reason": INIT_RAISED, "method": name}
            raise failed_start(facts, self._failed)
        if name == TERMINATE:
            return self._terminate
        return method_of(self._instance, name)

    def own_actor(self) -> ActorCore:
        if self.started_as is None:
            return super().own_actor()
        return self.handles.adopt_packed(self.actor_id, self.started_as.spec.handle)

    def _terminate(self) -> None:
        self.announce_exit(TERMINATED)

    def announce_exit(self, reason: str) -> None:
        """The actor ends after this call, by its own will."""
        self.life.exiting = self.announced = reason
        self.node.send(node.ActorExiting(self.actor_id, reason))

    def drop_actor(self) -> None:
        """Let the instance's destructor run."""
        self._instance = None


class ActorCreation:
    """The call that runs ``__init__``; implements ``ray.abc.executor.Call``."""

    group: str | None = None
    is_async = True  # where there is a loop, it runs there
    in_thread = False

    def __init__(self, worker: ActorHost, message: node.StartActor) -> None:
        self._worker = worker
        self._message = message
        self.name = f"{message.spec.class_name}.__init__"

    def run(self) -> None:
        """Make the instance and tell the node manager."""
        worker, spec = self._worker, self._message.spec
        worker._slot.begin_actor()
        unblock_signals()  # a task before may have left some blocked
        if self._message.gpu_ids:
            worker.use_gpus(self._message.gpu_ids)
        try:
            cls = load_function(spec.code)
            name_own_class(cls)
            blob_of = worker.access.blob_of
            args, kwargs = self._arguments(blob_of(spec.stored, spec.owner) if spec.stored else spec.args)
            if spec.deps:
                values = worker.arguments.take(spec.deps, ())
                args, kwargs = with_dependencies(
                    (args, kwargs), spec.deps, values, lambda dependency: blob_of(dependency.id, dependency.owner)
                )
            worker.creating_thread = get_ident()
            worker._instance = cls(*args, **kwargs)
            del args, kwargs
        except BaseException as problem:
            if is_a(problem, ActorExit):
                worker.announce_exit(EXIT_ACTOR)
                worker.leave()
                return
            self._failed(problem)
        else:
            worker.node.send(node.ActorStarted(spec.id))
        finally:
            worker.creating_thread = 0

    def fail(self, error: Exception) -> None:
        """See ``Call``."""
        self._failed(error)

    def _failed(self, problem: BaseException) -> None:
        worker = self._worker
        error = worker._failed = make_envelope(
            problem,
            function=self.name,
            task_id=self._message.spec.id,
            attempt=self._message.incarnation,
            pid=os.getpid(),
            node=worker.node_id,
        )
        worker.node.send(node.ActorStarted(self._message.spec.id, error))

    def _arguments(self, data: Any) -> Any:
        try:
            return deserialize_aligned(data)
        except BaseException as error:
            raise_unreadable(error, f"an argument of {self.name}")

    async def run_async(self) -> None:
        """As ``run``, on the loop, so that what ``__init__`` makes belongs to it."""
        self.run()
        self._worker.guard_loop()


class ActorEnd:
    """The call that ends an actor whose handles are gone."""

    group: str | None = None
    is_async = True
    in_thread = False
    name = TERMINATE

    def __init__(self, worker: ActorHost) -> None:
        self._worker = worker

    def run(self) -> None:
        """Leave the executor after what came before."""
        self._worker._terminate()
        self._worker.leave()

    def fail(self, error: Exception) -> None:
        """Leave all the same."""
        self.run()

    async def run_async(self) -> None:
        """As ``run``."""
        self.run()
