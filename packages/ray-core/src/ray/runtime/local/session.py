"""``local_mode``: the whole system in the calling thread, for breakpoints and for tests.

A task runs to its end inside ``remote``, a stream until it is far ahead of its consumer. Everything else is as usual:
references, values copied through the serializer, failures that show at ``get``. There is no other process or thread, so
nothing is pending, ``cancel`` finds nothing to cancel but streams, ``timeout_s`` is noticed when the task has ended,
and resources are counted but never waited for.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ray.clock import monotonic
from ray.config.spelling import did_you_mean
from ray.exceptions import RayConnectionError, RayError, RaySystemError, RayTaskError, TaskTimeoutError
from ray.exceptions.base import comes_from_handler, is_a
from ray.ids import object_id, random_id, task_of
from ray.plugins.compose import Composition
from ray.protocol.references import FAILED, ObjectEntry
from ray.protocol.resources import UNIT
from ray.runtime.interface import STREAMING, ActorCore, ActorOptions, FunctionDescriptor, MethodOptions, TaskOptions
from ray.runtime.local.actors import LocalActor
from ray.runtime.local.frames import Frame, facts_of, running
from ray.runtime.local.objects import LocalObjects, Packed, Unread
from ray.runtime.local.streams import LocalStream
from ray.runtime.owner.reports import print_failure
from ray.runtime.process.hardware import described, gpu_ids
from ray.runtime.process.interrupts import may_interrupt
from ray.runtime.process.signal_guard import SignalGuard
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.start_options import StartOptions, offered
from ray.runtime.worker.actor_exit import EXIT_ACTOR, ActorExit, Exit
from ray.runtime.worker.own_class import method_of
from ray.serialization import ORDERLY, make_envelope, read_envelope, register_reducer

_NODE = "local"
#: As many as a node manager keeps.
_MAX_ERRORS = 1000


class LocalRuntime(LocalObjects):
    """A session without other processes. Safe from several threads; each runs what it submits."""

    is_worker = False
    is_local_mode = True

    def __init__(self, options: StartOptions) -> None:
        super().__init__()
        self._signals = SignalGuard()
        self.session_id = random_id(8).hex()
        self._job_id, self._node_id, self._worker_id = random_id(4), random_id(), random_id()
        self._namespace = options.namespace
        self._totals = offered(options, len(gpu_ids()) if options.num_gpus is None else 0)
        self._errors: deque[dict[str, Any]] = deque(maxlen=_MAX_ERRORS)
        #: {actor id: actor}, dead ones too while there are handles on them.
        self._actors: dict[bytes, LocalActor] = {}
        #: {(namespace, name): actor id}
        self._names: dict[tuple[str, str], bytes] = {}
        self._cores: weakref.WeakValueDictionary[bytes, ActorCore] = weakref.WeakValueDictionary()
        self.composition = Composition(options.plan)
        self.composition.lifecycle("plan_resolved", {})
        for cls, reducer in self.composition.serializers():
            register_reducer(cls, reducer)
        self.address_info: dict[str, Any] = {
            "address": "local",
            "node_ip_address": "127.0.0.1",
            "redis_address": None,
            "object_store_address": None,
            "raylet_socket_name": None,
            "webui_url": None,
            "session_dir": None,
            "node_id": self._node_id.hex(),
        }
        self.composition.lifecycle("runtime_started", self._plugin_info())
        self._signals.install()

    def _plugin_info(self) -> dict[str, Any]:
        return {"session_id": self.session_id, "node_id": self._node_id.hex(), "kind": "driver", "address": "local"}

    # --- tasks ------------------------------------------------------------------------------------------------------

    def submit_task(
        self, function: FunctionDescriptor, options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the function and return refs to what it gave."""
        packed = self._pack(args, kwargs)
        frame = Frame(self._next_task_id(), options.name or function.name, options.resources)
        frame.timeout_s, frame.retry_on = options.timeout_s, options.retry_exceptions
        frame.retries = options.max_retries if options.retry_exceptions else 0

        def call() -> Any:
            given, named = self._unpack(packed, frame.name)
            return frame.packed(function.target(*given, **named))

        may_interrupt(call.__code__)
        return self._run(frame, call, options.num_returns)

    def _run(self, frame: Frame, call: Callable[[], Any], num_returns: int) -> Any:
        frame.num_returns = num_returns
        if num_returns == STREAMING:
            return LocalStream(self, frame, call).begin()
        with self._lock:
            entries = [self._table.own(object_id(frame.task_id, index)) for index in range(num_returns)]
            refs: list[ObjectRef[Any]] = [ObjectRef(entry) for entry in entries]
        self.attempt(frame, entries, lambda: self.fill(entries, call(), frame.name))
        return refs[0] if num_returns == 1 else refs or None

    def attempt(self, frame: Frame, entries: list[ObjectEntry], run: Callable[[], None]) -> None:
        """Have ``run`` make objects, more than once if the task is to be retried; they fail as it does."""
        frame.outer = running.get()
        token = running.set(frame)
        try:
            while True:
                try:
                    started = monotonic()
                    run()
                    frame.spent_s += monotonic() - started
                    if frame.timeout_s is not None and frame.spent_s > frame.timeout_s:
                        raise TaskTimeoutError(frame.name, frame.timeout_s)
                except BaseException as error:
                    if is_a(error, KeyboardInterrupt) or comes_from_handler(error):
                        raise  # from the keyboard, or a timer of the program's: the user is in this very thread
                    left = frame.exit_of(error)
                    if left is not None:
                        self._left(entries, frame, left)
                        break
                    if frame.is_last(error):
                        self.fail(entries, frame, error)
                        break
                    frame.attempt += 1
                    frame.spent_s = 0.0
                else:
                    break
        finally:
            running.reset(token)
            frame.outer = None
            if frame.actor is not None and frame.actor.reason is not None:
                frame.actor.close_loop()
            self._collect()

    def _left(self, entries: list[ObjectEntry], frame: Frame, left: Exit) -> None:
        """A method has ended its actor."""
        assert frame.actor is not None
        error = frame.actor.left_by(left, frame.name)
        self.fail(entries, frame, error, "" if left.code else ORDERLY)
        self._stop(frame.actor, left.reason, restart=left.code != 0)

    def fail(self, entries: list[ObjectEntry], frame: Frame, error: BaseException, kind: str = "") -> None:
        """The task has failed, and so have its objects."""
        if frame.actor is not None and type(frame.actor.reason) is bytes:
            self._retrieved(object_id(frame.actor.actor_id))  # this call tells of it
        system = is_a(error, RayError) and not is_a(error, RayTaskError)
        blob = make_envelope(
            error,
            function=frame.name,
            task_id=frame.task_id,
            attempt=frame.attempt,
            pid=os.getpid(),
            node=_NODE,
            kind=kind or ("system" if system else "user"),
        )
        self._fail_with(entries, frame, blob)

    def _fail_with(self, entries: list[ObjectEntry], frame: Frame, blob: bytes) -> None:
        facts = read_envelope(blob)
        message = f"{facts.summary or facts.cause_type} in {frame.name}\n{facts.traceback or facts.message}".rstrip()
        with self._lock:
            for entry in entries:
                entry.table.fill(entry, FAILED, blob)
            if facts.kind == ORDERLY:
                return
            self._errors.append(frame.record(message))
            unread = Unread(message, len(entries))
            self._unread.update((entry.id, unread) for entry in entries)
        if not entries:
            print_failure(message)

    # --- actors -----------------------------------------------------------------------------------------------------

    def create_actor(
        self,
        cls: FunctionDescriptor,
        options: ActorOptions,
        methods: Mapping[str, MethodOptions],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_async: bool,
    ) -> ActorCore:
        """Make the instance; a failing constructor shows in every call."""
        packed = self._pack(args, kwargs)
        self._collect()
        with self._lock:
            key = (options.namespace or self._namespace, options.name) if options.name else None
            if key is not None and key in self._names:
                raise ValueError(
                    f"The actor name {key[1]!r} is taken in namespace {key[0]!r}; ray.get_actor() finds it."
                )
            life = self._table.own(object_id(self._next_task_id()))
            actor = LocalActor(task_of(life.id), cls, options, methods, is_async, self._starter(packed))
            self._actors[actor.actor_id] = actor
            core = self._core(actor)
            if key is not None:
                self._names[key] = actor.actor_id
            if options.detached:
                self._kept.append(core)
        try:
            actor.start(actor)
        except BaseException:  # of the program's signal handler: nobody else may find half an actor
            self._end(actor, "its constructor was interrupted")
            raise
        return core

    def _starter(self, packed: Packed) -> Callable[[LocalActor], None]:
        def start(actor: LocalActor) -> None:
            frame = Frame(self._next_task_id(), f"{actor.cls.name}.__init__", actor.options.resources, actor)

            def call() -> Any:
                args, kwargs = self._unpack(packed, frame.name)
                actor.made = False
                actor.instance = actor.call(actor.cls.target, tuple(args), kwargs)
                actor.made = True
                return frame.packed(None)

            made = self._run(frame, call, 1)
            if made._entry.status == FAILED:
                self._end(actor, made._entry.value)
                unread = self._unread.pop(made._entry.id, None)
                if unread is not None:  # its calls tell of it, or its end
                    self._unread[object_id(actor.actor_id)] = unread

        return start

    def submit_call(
        self, actor: ActorCore, method: str, options: MethodOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the method and return refs to what it gave."""
        local = self._local(actor)
        name = local.name_of(method, options)
        packed = self._pack(args, kwargs)
        frame = Frame(self._next_task_id(), name, {}, local, method, actor)
        frame.timeout_s, frame.restarts = options.timeout_s, local.restarts

        def call() -> Any:
            frame.check_actor()
            given, named = self._unpack(packed, name)
            return local.call(method_of(local.instance, method), tuple(given), named, frame)

        return self._run(frame, call, options.num_returns)

    def _local(self, core: ActorCore) -> LocalActor:
        actor = core.client
        if not isinstance(actor, LocalActor) or self._actors.get(core.actor_id) is not actor:
            raise RayConnectionError(
                f"The handle of actor {core.class_name} belongs to a session that has ended; make a new actor."
            )
        return actor

    def _core(self, actor: LocalActor) -> ActorCore:
        """The one core of an actor, under the lock; made anew where its handles lie in objects only."""
        core = self._cores.get(actor.actor_id)
        if core is None:
            core = self._cores[actor.actor_id] = actor.core(ObjectRef(self.find_entry(object_id(actor.actor_id))))
        return core

    def adopt_actor(self, core: ActorCore) -> ActorCore:
        """The one core of that actor."""
        with self._lock:
            core.client = self._actors.get(core.actor_id)
            return self._cores.setdefault(core.actor_id, core)

    def kill_actor(self, actor: ActorCore, no_restart: bool) -> None:
        """End the actor; with restarts left and allowed, make its instance anew."""
        local = self._local(actor)
        if local.reason is not None:
            return
        self._stop(local, "ray.kill() was called", restart=not no_restart)

    def _stop(self, local: LocalActor, reason: str, *, restart: bool) -> None:
        if restart and local.restarts != local.options.max_restarts:
            local.restarts += 1
            local.start(local)
        else:
            self._end(local, reason)

    def terminate_actor(self, actor: ActorCore) -> ObjectRef[Any]:
        """End the actor; no call is pending."""
        self._end(self._local(actor), "its __ray_terminate__ was called")
        return self.put(None)

    def exit_actor(self) -> NoReturn:
        """End the actor that runs now, and leave its method."""
        frame = running.get()
        if frame is None or frame.actor is None:
            raise TypeError("exit_actor() was called outside of an actor.")
        self._end(frame.actor, EXIT_ACTOR)
        raise ActorExit

    def _freed(self, id: bytes) -> None:
        """The object that stands for an actor's life goes with it."""
        super()._freed(id)
        actor = self._actors.pop(task_of(id), None)
        if actor is not None:
            self._end(actor, "its last handle has gone")

    def _end(self, actor: LocalActor, reason: str | bytes) -> None:
        actor.end(reason)
        with self._lock:
            for key in [key for key, actor_id in self._names.items() if actor_id == actor.actor_id]:
                del self._names[key]

    def get_named_actor(self, name: str, namespace: str | None) -> ActorCore:
        """The core of the live actor of that name."""
        self._collect()
        with self._lock:
            actor_id = self._names.get((namespace or self._namespace, name))
            if actor_id is None:
                raise ValueError(
                    f"There is no live actor named {name!r} in namespace {namespace or self._namespace!r}."
                    f"{did_you_mean(name, [known for _, known in self._names])}"
                )
            return self._core(self._actors[actor_id])

    def own_actor(self) -> ActorCore:
        """The core of the actor that runs now."""
        frame = running.get()
        if frame is None or frame.actor is None:
            raise RaySystemError("own_actor() was called outside of an actor.")
        with self._lock:
            return self._core(frame.actor)

    # --- questions ---------------------------------------------------------------------------------------------------

    def errors(self) -> list[dict[str, Any]]:
        """See ``Runtime``."""
        self._collect()
        with self._lock:
            return [dict(record) for record in self._errors]

    def nodes(self) -> list[dict[str, Any]]:
        """See ``Runtime``."""
        return [described(self._node_id.hex(), "127.0.0.1", self.cluster_resources())]

    def cluster_resources(self) -> dict[str, float]:
        """See ``Runtime``."""
        return {name: amount / UNIT for name, amount in self._totals.items()}

    def available_resources(self) -> dict[str, float]:
        """See ``Runtime``: totals without what running tasks and live actors hold."""
        free = dict(self._totals)
        with self._lock:
            holders = [actor.options.resources for actor in self._actors.values() if actor.reason is None]
        frame = running.get()
        while frame is not None:
            if frame.actor is None:
                holders.append(frame.resources)
            frame = frame.outer
        for held in holders:
            for name, amount in held.items():
                free[name] = max(0, free.get(name, 0) - amount)
        return {name: amount / UNIT for name, amount in free.items() if amount}

    def context(self) -> dict[str, Any]:
        """See ``Runtime``."""
        ids = {"job_id": self._job_id, "node_id": self._node_id, "worker_id": self._worker_id}
        return {**ids, "namespace": self._namespace, **facts_of(running.get())}

    def shutdown(self) -> None:
        """See ``Runtime``."""
        self.composition.lifecycle("runtime_stopping", self._plugin_info())
        try:
            self._close_streams()
        finally:
            self._signals.remove()
        with self._lock:
            actors = list(self._actors.values())
            self._actors.clear()
            self._names.clear()
            self._kept.clear()
            self._table.close()
        for actor in actors:
            actor.end("the session has ended")
        for id in list(self._unread):
            self._tell(id)
