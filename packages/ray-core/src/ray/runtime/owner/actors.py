"""Actors from their owners' side: creation, handles, ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ray.exceptions import RayConnectionError, RaySystemError, UnpicklableError
from ray.headroom import SENDING, TAKING, check
from ray.ids import FIRST_RETURN, random_id
from ray.messages import node, wire
from ray.protocol.references import FAILED, PENDING, READY, STORED, ObjectEntry
from ray.runtime.interface import ActorCore, ActorOptions, FunctionDescriptor, MethodOptions
from ray.runtime.owner.access import ObjectAccess
from ray.runtime.owner.exports import export_of
from ray.runtime.owner.handed_refs import ActorLife
from ray.runtime.owner.here import OwnerBase
from ray.runtime.owner.last_calls import TERMINATE
from ray.runtime.owner.records import TaskRecord
from ray.runtime.owner.ref_pickling import rebuild_ref
from ray.runtime.owner.submission import LARGE_BYTES
from ray.runtime.refs.ref import ObjectRef
from ray.serialization import deserialize, serialize

#: An owner that does not say for so long whether its actor is held is believed to be busy.
_OWNER_S = 5.0


class ActorOwner(ObjectAccess):
    """The actor methods of an owner."""

    def create_actor(
        self,
        cls: FunctionDescriptor,
        options: ActorOptions,
        methods: Mapping[str, MethodOptions],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_async: bool,
    ) -> ActorCore:
        self._check_open()
        check(TAKING)
        if is_async:
            self.composition.executor_part("asyncio")
        export = cls.export
        if export is None or export.runtime is not self:
            export = export_of(cls, self)
        elif export.captured is not None:
            export.captured.look()
        record = self._record(f"{cls.name}.__init__", 0, 0, None, args, kwargs)
        record.export = export
        if len(record.args) >= LARGE_BYTES and not options.detached:
            self._keep_arguments(record)
        record.pins += tuple(self._own_entry(ref) for ref in export.refs)
        actor_id = random_id(16)
        life: ObjectRef[Any] | None = None
        with self.lock:
            if not options.detached:
                life = ObjectRef(self.table.put(self._next_id() + FIRST_RETURN, ActorLife(actor_id)))
            core = ActorCore(actor_id, cls.name, methods, life, options.max_task_retries, is_async)
            concurrent = is_async or (options.max_concurrency or 1) > 1 or bool(options.concurrency_groups)
            client = core.client = self.calls.client(actor_id, cls.name, concurrent, watch=False)
            client.created_here = True
            client.creating = life
            client.groups = options.concurrency_groups
            if life is not None:
                self.calls.hold(client, life._entry)
            if record.pins:
                # The actor may be restarted at any time of its life: its arguments, and what its class refers to, live
                # as long as it does.
                self.table.pin(record.pins)
                client.creation = record.pins
        handle = _pack_handle(core, concurrent, self.address)

        def spec(ready: bool) -> node.ActorSpec:
            whole = _spec(self, core, export.hash, record, options, handle)
            if not ready:
                return whole
            return msgspec.structs.replace(
                whole, code=export.data, args=bytes(record.args), deps=_dependencies(self, record, options)
            )

        try:
            self._start_actor(core, record, options, spec)
        except BaseException as error:
            client.creating = None
            if life is not None:
                self.table.fill(life._entry, READY, b"")  # nothing was created that would have to be ended
            if isinstance(error, (ValueError, UnpicklableError)):  # refused, so that nobody will need the arguments
                with self.lock:
                    self.calls.let_creation_go(client)
                    self.calls.forget(actor_id)
            raise
        return core

    def _keep_arguments(self, record: TaskRecord) -> None:
        """Large arguments are fetched by the actor: the node manager, which passes on the rest, must not be held up."""
        entry = self.table.put(self._next_id() + FIRST_RETURN, record.args)
        record.args, record.stored = b"", entry.id
        record.pins += (entry,)

    def _start_actor(
        self, core: ActorCore, record: TaskRecord, options: ActorOptions, spec: Callable[[bool], node.ActorSpec]
    ) -> None:
        """Ask for the actor. Where its arguments are not there, that reserves its name, and it is placed when they are.

        Raises:
            ValueError: the name is taken.
            UnpicklableError: it holds what no message can hold.
        """
        ready = all(entry.status in (READY, STORED) for _, entry in record.deps)
        if options.name:
            self._collect_handles()
            answer = self.node.request(lambda number: node.CreateActor(number, spec(ready), ready))
            if not answer.ok:
                raise ValueError(answer.error)
        else:
            self.node.send(node.CreateActor(0, spec(ready), ready))
        if not ready:
            with self.lock:
                self._await_arguments(core, record, spec)

    def _await_arguments(self, core: ActorCore, record: TaskRecord, spec: Callable[[bool], node.ActorSpec]) -> None:
        """Have the actor placed when its arguments are there, or ended as soon as one has failed."""

        def look(_: ObjectEntry | None) -> None:
            failed = next((entry for _, entry in record.deps if entry.status == FAILED), None)
            if core.client.dead:
                pass
            elif failed is not None:
                reason = "an argument of its __init__ failed"
                self.failures.passed_on(failed, core.actor_id)
                self.node.send(node.KillActor(0, core.actor_id, True, reason, bytes(failed.value)))
            elif all(entry.status != PENDING for _, entry in record.deps):
                try:
                    self.node.send(node.CreateActor(0, spec(True)))
                except UnpicklableError as error:
                    envelope = self.failures.envelope(error, record.name, record.id, 0)
                    self.node.send(node.KillActor(0, core.actor_id, True, "it could not be sent", envelope))

        pending = {entry for _, entry in record.deps if entry.status == PENDING}
        for entry in pending:
            entry.call_when_done(look)
        for entry in pending:
            self.objects.want(entry)  # may fail it at once
        look(None)

    def adopt_actor(self, core: ActorCore) -> ActorCore:
        foreign = core.client is not None and core.client.calls is not self.calls
        if foreign or (core.life is not None and core.life._entry.table is not self.table):
            raise RayConnectionError(f"The handle of actor {core.class_name} belongs to a session that has ended.")
        if core.client is None:
            check(SENDING)
            with self.lock:
                core.client = self.calls.client(core.actor_id, core.class_name, core.is_async, watch=True)
                if core.life is not None:
                    self.calls.hold(core.client, core.life._entry)
        return core

    def actor_unheld(self, actor_id: bytes) -> None:
        """No process holds a handle any more; called under the lock."""
        self.node.send(node.ActorUnheld(actor_id))

    def kill_actor(self, actor: ActorCore, no_restart: bool) -> None:
        self._check_open()
        self.adopt_actor(actor)
        reason = "ray.kill() was called"
        with self.lock:
            client = self.calls.clients.get(actor.actor_id)
            place = None if client is None else client.place
        answer = self.node.request(lambda number: node.KillActor(number, actor.actor_id, no_restart, reason))
        if not answer.ok:  # it died long ago
            with self.lock:
                self.calls.updated(node.ActorUpdate(actor.actor_id, "dead", 0, cause=node.ExitCause(reason=reason)))
        elif client is not None:
            with self.lock:
                if client.place is place:  # else that process has ended already
                    client.window = 0  # nothing more is sent to it
                if no_restart and not client.closed:
                    self.calls.close(client, node.ExitCause(reason=reason))

    def terminate_actor(self, actor: ActorCore) -> ObjectRef[Any]:
        ref: ObjectRef[Any] = self.submit_call(actor, TERMINATE, MethodOptions(max_task_retries=0), (), {})
        return ref

    def exit_actor(self) -> None:
        raise RaySystemError("ray.exit_actor() works only inside an actor.")

    def get_named_actor(self, name: str, namespace: str | None) -> ActorCore:
        self._check_open()
        self._collect_handles()
        found = self.node.ask("actor", (namespace or self.namespace, name))
        core = None if found is None else self._adopt_packed(*found)
        if core is None or not self._is_held(core):
            raise ValueError(
                f"Failed to look up actor with name {name!r} in namespace {namespace or self.namespace!r}: "
                "it does not exist, or it has died."
            )
        return core

    def _collect_handles(self) -> None:
        """The node manager is to know which actors this process has let go of before it is asked for a name."""
        with self.lock:
            self.collect()

    def _is_held(self, core: ActorCore) -> bool:
        """Whether the actor of a handle that came by name goes on: its last handle may have gone at that moment."""
        if core.life is not None:
            life = core.life._entry
            if life.owner is not None:
                self._wait_entry(life, _OWNER_S)
            with self.lock:
                if life.status == FAILED or life.freed:
                    return False
        return not core.client.ends

    def own_actor(self) -> ActorCore:
        raise RaySystemError("There is no actor in this process.")

    def _adopt_packed(self, actor_id: bytes, handle: bytes) -> ActorCore:
        """A handle that came from the node manager: its hold on the actor's life is registered here."""
        core = _unpack_handle(actor_id, handle)
        if core.life is not None:
            with self.lock:
                entry = core.life._entry
                if entry.owner is not None:
                    self.table.hand_on(entry)
                    self.objects.send_to_owner(entry, wire.Credit(entry.id, self.address, 1))
        return self.adopt_actor(core)


def _pack_handle(core: ActorCore, concurrent: bool, address: str) -> bytes:
    """What ``get_actor`` gives to others; opaque to the node manager."""
    life = None
    if core.life is not None:
        life = core.life._entry.id, core.life._entry.owner or address
    state = (core.class_name, dict(core.methods), life, core.max_task_retries, concurrent)
    return serialize(state).to_bytes()


def _unpack_handle(actor_id: bytes, handle: bytes) -> ActorCore:
    class_name, methods, life, max_task_retries, concurrent = deserialize(handle)
    ref = None if life is None else rebuild_ref(*life)
    return ActorCore(actor_id, class_name, methods, ref, max_task_retries, concurrent)


def _spec(
    runtime: OwnerBase,
    core: ActorCore,
    function: bytes,
    record: TaskRecord,
    options: ActorOptions,
    handle: bytes,
) -> node.ActorSpec:
    """All but what its class and its arguments are, which are not needed before it is started."""
    address = runtime.address
    return node.ActorSpec(
        id=core.actor_id,
        class_name=core.class_name,
        function=function,
        code=b"",
        args=b"",
        owner=address,
        resources=dict(options.resources),
        placement=dict(options.placement_resources),
        handle=handle,
        refs=[wire.Ref(entry.id, entry.owner or address) for entry in record.refs],
        name=options.name or "",
        namespace=options.namespace or runtime.namespace,
        max_concurrency=options.max_concurrency or 0,
        max_restarts=options.max_restarts,
        detached=options.detached,
        is_async=core.is_async,
        groups=dict(options.concurrency_groups),
        depth=runtime.depth,
        stored=record.stored,
    )


def _dependencies(runtime: OwnerBase, record: TaskRecord, options: ActorOptions) -> list[wire.Dependency]:
    address = runtime.address
    deps = []
    for at, entry in record.deps:
        fetched = entry.status == STORED or (len(entry.value) >= LARGE_BYTES and not options.detached)
        data = None if fetched else bytes(entry.value)
        refs = [wire.Ref(inner.id, inner.owner or address) for inner in entry.contained]
        deps.append(wire.Dependency(at, data, entry.id, entry.owner or address, refs))
    return deps
