"""Actors of local mode, as the API makes, calls and ends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ray.exceptions import RaySystemError
from ray.ids import object_id, task_of
from ray.protocol.references import FAILED
from ray.runtime.interface import ActorCore, ActorOptions, FunctionDescriptor, MethodOptions
from ray.runtime.local.actor_table import ActorTable
from ray.runtime.local.actors import LocalActor
from ray.runtime.local.entries import Entries
from ray.runtime.local.failures import Failures
from ray.runtime.local.frames import Frame, running
from ray.runtime.local.tasks import Tasks
from ray.runtime.local.values import Packed, Values
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.worker.actor_exit import EXIT_ACTOR, ActorExit
from ray.runtime.worker.own_class import method_of


class Calls:
    """Of one session. Safe from several threads; each runs what it submits."""

    def __init__(
        self,
        entries: Entries,
        failures: Failures,
        values: Values,
        actors: ActorTable,
        tasks: Tasks,
        collect: Callable[[], None],
    ) -> None:
        self._entries = entries
        self._failures = failures
        self._values = values
        self._actors = actors
        self._tasks = tasks
        self._collect = collect

    def create_actor(
        self,
        cls: FunctionDescriptor[Any],
        options: ActorOptions,
        methods: Mapping[str, MethodOptions],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_async: bool,
    ) -> ActorCore:
        """Make the instance; a failing constructor shows in every call."""
        packed = self._values.pack(args, kwargs)
        self._collect()
        with self._entries.lock:
            self._actors.check_free(options.name, options.namespace)
            life = self._entries.own(object_id(self._entries.next_task_id()))
            actor = LocalActor(task_of(life.id), cls, options, methods, is_async, self._starter(packed))
            core = self._actors.enter(actor)
            if options.detached:
                self._entries.kept.append(core)
        try:
            actor.start(actor)
        except BaseException:  # of the program's signal handler: nobody else may find half an actor
            self._actors.end(actor, "its constructor was interrupted")
            raise
        return core

    def _starter(self, packed: Packed) -> Callable[[LocalActor], None]:
        def start(actor: LocalActor) -> None:
            frame = Frame(self._entries.next_task_id(), f"{actor.cls.name}.__init__", actor.options.resources, actor)

            def call() -> Any:
                args, kwargs = self._values.unpack(packed, frame.name)
                actor.made = False
                actor.instance = actor.call(actor.cls.target, tuple(args), kwargs)
                actor.made = True
                return frame.packed(None)

            made = self._tasks.run(frame, call, 1)
            if made._entry.status == FAILED:
                self._actors.end(actor, made._entry.value)
                self._failures.passed_on(made._entry.id, object_id(actor.actor_id))  # its calls tell of it, or its end

        return start

    def submit_call(
        self, actor: ActorCore, method: str, options: MethodOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the method and return refs to what it gave."""
        local = self._actors.of(actor)
        name = local.name_of(method, options)
        packed = self._values.pack(args, kwargs)
        frame = Frame(self._entries.next_task_id(), name, {}, local, method, actor)
        frame.timeout_s, frame.restarts = options.timeout_s, local.restarts

        def call() -> Any:
            frame.check_actor()
            given, named = self._values.unpack(packed, name)
            return local.call(method_of(local.instance, method), tuple(given), named, frame)

        return self._tasks.run(frame, call, options.num_returns)

    def kill_actor(self, actor: ActorCore, no_restart: bool) -> None:
        """End the actor; with restarts left and allowed, make its instance anew."""
        local = self._actors.of(actor)
        if local.reason is not None:
            return
        self._actors.stop(local, "ray.kill() was called", restart=not no_restart)

    def terminate_actor(self, actor: ActorCore) -> ObjectRef[Any]:
        """End the actor; no call is pending."""
        self._actors.end(self._actors.of(actor), "its __ray_terminate__ was called")
        return self._values.put(None)

    def exit_actor(self) -> NoReturn:
        """End the actor that runs now, and leave its method."""
        frame = running.get()
        if frame is None or frame.actor is None:
            raise TypeError("exit_actor() was called outside of an actor.")
        self._actors.end(frame.actor, EXIT_ACTOR)
        raise ActorExit

    def get_named_actor(self, name: str, namespace: str | None) -> ActorCore:
        """The core of the live actor of that name."""
        self._collect()
        return self._actors.named(name, namespace)

    def own_actor(self) -> ActorCore:
        """The core of the actor that runs now."""
        frame = running.get()
        if frame is None or frame.actor is None:
            raise RaySystemError("own_actor() was called outside of an actor.")
        with self._entries.lock:
            return self._actors.core(frame.actor)
