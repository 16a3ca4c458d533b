"""Tasks and calls as the program submits them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.protocol.last_calls import TERMINATE
from ray.runtime.interface import ActorCore, FunctionDescriptor, MethodOptions, TaskOptions
from ray.runtime.lanes import check_group
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.actor_calls import ActorCalls
    from ray.runtime.owner.dependencies import Dependencies
    from ray.runtime.owner.exports import Exports
    from ray.runtime.owner.leasing import Leasing
    from ray.runtime.owner.recording import Recording
    from ray.runtime.owner.records import Export


class Submission:
    """The submitting half of an owner. Its methods are those of ``Runtime``."""

    def __init__(
        self,
        lock: Any,
        exports: Exports,
        recording: Recording,
        dependencies: Dependencies,
        leasing: Leasing,
        calls: ActorCalls,
        adopt: Callable[[ActorCore], ActorClient],
        cut_short: Callable[[TaskRecord], None],
    ) -> None:
        """Make it.

        Args:
            lock: the runtime's.
            exports: functions in pickled form.
            recording: makes records.
            dependencies: waits for arguments.
            leasing: takes tasks whose arguments are there.
            calls: takes calls.
            adopt: makes a handle that came from elsewhere one of this process.
            cut_short: told of a record that this thread cannot do more for.
        """
        self._lock = lock
        self._exports = exports
        self._recording = recording
        self._dependencies = dependencies
        self._leasing = leasing
        self._calls = calls
        self._adopt = adopt
        self._cut_short = cut_short

    def submit_task(
        self, function: FunctionDescriptor[Export], options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """See ``Runtime``."""
        export = self._exports.of(function)
        recording = self._recording
        record = recording.record(
            export.name, options.num_returns, options.max_retries, options.timeout_s, args, kwargs
        )
        record.export = export
        with self._lock:
            place = export.place
            if place is None or place[0] is not options:
                place = export.place = self._leasing.place(options)
            record.place = place[1]
            if not place[2]:
                record.options = options
                if options.name:
                    record.name = record.label = options.name
            try:
                refs = recording.register(record)
                if not (record.deps or record.stored):
                    self._leasing.enqueue(place[1], record)
                elif not record.deps or self._dependencies.are_ready(record):
                    self._leasing.enqueue(self._dependencies.nearest(place[1], record), record)
            except BaseException:  # hardly any call would succeed here: there is no room left for calls, or no memory
                self._cut_short(record)
                raise
        return refs

    def submit_call(
        self, actor: ActorCore, method: str, options: MethodOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """See ``Runtime``."""
        client = actor.client
        if type(client) is not ActorClient or client.calls is not self._calls:
            client = self._adopt(actor)
        retries = options.max_task_retries
        if retries is None:
            retries = actor.max_task_retries
        label, group = options.name, options.concurrency_group
        name = label or f"{actor.class_name}.{method}"
        if group is not None and client.callee.groups is not None:
            check_group(name, group, client.callee.groups)
        recording = self._recording
        record = recording.record(name, options.num_returns, retries, options.timeout_s, args, kwargs)
        record.actor = actor.actor_id
        record.method = method.encode()
        if label:
            record.label = label
        if group is not None:
            record.group = group
        with self._lock:
            if client.life is not None:  # pending calls keep the actor alive
                record.pins += (client.life,)
            try:
                refs = recording.register(record)
                if record.deps:
                    self._dependencies.are_ready(record)
                elif method is TERMINATE:
                    record.waiting = 1  # for the calls before it
                if not record.done:
                    self._calls.submit(client, record)
            except BaseException:  # as in ``submit_task``
                self._cut_short(record)
                raise
        return refs
