"""Actors from their creators' side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ray.exceptions import UnpicklableError
from ray.headroom import TAKING, check
from ray.ids import directed, task_of
from ray.messages import node, wire
from ray.protocol.references import LARGE_BYTES
from ray.runtime.interface import ActorCore, ActorOptions, FunctionDescriptor, MethodOptions
from ray.runtime.owner.entries import entry_in
from ray.runtime.owner.handed_refs import ActorLife, address_of_owner
from ray.runtime.owner.handles import pack_handle
from ray.runtime.owner.records import TaskRecord
from ray.runtime.refs.ref import ObjectRef

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.exports import Exports
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.recording import Recording
    from ray.runtime.owner.records import Export
    from ray.runtime.owner.starting import Starting


class Creating:
    """Makes actors."""

    def __init__(
        self,
        here: Here,
        lock: Any,
        table: ReferenceTable,
        exports: Exports,
        recording: Recording,
        calls: ActorCalls,
        starting: Starting,
        executor_part: Callable[[str], object],
    ) -> None:
        """Make it.

        Args:
            here: this process.
            lock: the runtime's.
            table: of the process.
            exports: classes in pickled form.
            recording: makes the record of the call of ``__init__``.
            calls: of this process.
            starting: asks the node manager.
            executor_part: finds what executor is installed under a name, or raises.
        """
        self._here = here
        self._lock = lock
        self._table = table
        self._exports = exports
        self._recording = recording
        self._calls = calls
        self._starting = starting
        self._executor_part = executor_part

    def create_actor(
        self,
        cls: FunctionDescriptor[Export],
        options: ActorOptions,
        methods: Mapping[str, MethodOptions],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        is_async: bool,
    ) -> ActorCore:
        """See ``Runtime``."""
        check(TAKING)
        if is_async:
            self._executor_part("asyncio")
        export = self._exports.of(cls)
        calls, table, recording = self._calls, self._table, self._recording
        record = recording.record(f"{cls.name}.__init__", 0, 0, None, args, kwargs)
        record.export = export
        if len(record.args) >= LARGE_BYTES and not options.detached:
            recording.keep_arguments(record)
        record.pins += tuple(entry_in(table, ref) for ref in export.refs)
        actor_id = task_of(recording.new_object_id())
        if options.name or options.detached:
            actor_id = directed(actor_id)
        life: ObjectRef[Any] | None = None
        with self._lock:
            if not options.detached:
                life = ObjectRef(table.put(recording.new_object_id(), None))
                life._entry.task = ActorLife(actor_id)
            core = ActorCore(actor_id, cls.name, methods, life, options.max_task_retries, is_async)
            concurrent = is_async or (options.max_concurrency or 1) > 1 or bool(options.concurrency_groups)
            client = core.client = calls.client(actor_id, cls.name, concurrent, watch=False)
            client.callee.created_here = True
            client.creating = life
            client.callee.groups = options.concurrency_groups
            if life is not None:
                calls.hold(client, life._entry)
            if record.pins:
                # The actor may be restarted at any time of its life: its arguments, and what its class refers to, live
                # as long as it does.
                table.pin(record.pins)
                client.creation = record.pins
        handle = pack_handle(core, concurrent, self._here.address)

        def spec(ready: bool) -> node.ActorSpec:
            whole = _spec(self._here, core, export.hash, record, options, handle)
            if not ready:
                return whole
            return msgspec.structs.replace(
                whole,
                code=export.data,
                args=bytes(record.args),
                deps=_dependencies(self._here.address, record, options),
            )

        try:
            self._starting.start(client, record, options, spec)
        except BaseException as error:
            client.creating = None
            if life is not None:
                life._entry.task = None  # nothing was created that would have to be ended
            if isinstance(error, (ValueError, UnpicklableError)):  # refused, so that nobody will need the arguments
                with self._lock:
                    calls.let_go(client)
            raise
        return core


def _spec(
    here: Here,
    core: ActorCore,
    function: bytes,
    record: TaskRecord,
    options: ActorOptions,
    handle: bytes,
) -> node.ActorSpec:
    """All but what its class and its arguments are, which are not needed before it is started."""
    address = here.address
    return node.ActorSpec(
        id=core.actor_id,
        class_name=core.class_name,
        function=function,
        code=b"",
        args=b"",
        address=address,
        resources=dict(options.resources),
        placement=dict(options.placement_resources),
        handle=handle,
        refs=[wire.Ref(entry.id, address_of_owner(entry, address)) for entry in record.refs],
        name=options.name or "",
        namespace=options.namespace or here.namespace,
        max_concurrency=options.max_concurrency or 0,
        max_restarts=options.max_restarts,
        detached=options.detached,
        is_async=core.is_async,
        groups=dict(options.concurrency_groups),
        depth=here.depth,
        stored=record.stored,
        where=options.placement,
    )


def _dependencies(address: str, record: TaskRecord, options: ActorOptions) -> list[wire.Dependency]:
    deps = []
    for at, entry in record.deps:
        value = entry.value  # None where the store has it
        data = None if value is None or (len(value) >= LARGE_BYTES and not options.detached) else bytes(value)
        refs = [wire.Ref(inner.id, address_of_owner(inner, address)) for inner in entry.contained]
        deps.append(wire.Dependency(at, data, entry.id, address_of_owner(entry, address), refs))
    return deps
