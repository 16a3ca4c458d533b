"""Tasks of local mode: each runs to its end in the call that submits it, more than once if it is to be retried."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ray.clock import monotonic
from ray.exceptions import RayError, RayTaskError, TaskTimeoutError
from ray.exceptions.base import comes_from_handler, is_a
from ray.ids import object_id
from ray.protocol.references import ObjectEntry
from ray.runtime.interface import STREAMING, FunctionDescriptor, TaskOptions
from ray.runtime.local.actor_table import ActorTable
from ray.runtime.local.entries import Entries
from ray.runtime.local.failures import Failures
from ray.runtime.local.frames import Frame, running
from ray.runtime.local.streams import LocalStream
from ray.runtime.local.values import Values
from ray.runtime.process.interrupts import may_interrupt
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.worker.actor_exit import Exit
from ray.serialization import ORDERLY, make_envelope, read_envelope

_NODE = "local"


class Tasks:
    """Of one session; calls of actors run by it, too. Safe from several threads: each runs what it submits."""

    def __init__(
        self, entries: Entries, failures: Failures, values: Values, actors: ActorTable, collect: Callable[[], None]
    ) -> None:
        self._entries = entries
        self._failures = failures
        self._values = values
        self._actors = actors
        self._collect = collect
        self.own_entry, self.fill = entries.own, entries.fill

    def submit_task(
        self, function: FunctionDescriptor[Any], options: TaskOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the function and return refs to what it gave."""
        packed = self._values.pack(args, kwargs)
        frame = Frame(self._entries.next_task_id(), options.name or function.name, options.resources)
        frame.timeout_s, frame.retry_on = options.timeout_s, options.retry_exceptions
        frame.retries = options.max_retries if options.retry_exceptions else 0

        def call() -> Any:
            given, named = self._values.unpack(packed, frame.name)
            return frame.packed(function.target(*given, **named))

        may_interrupt(call.__code__)
        return self.run(frame, call, options.num_returns)

    def run(self, frame: Frame, call: Callable[[], Any], num_returns: int) -> Any:
        """Have ``call`` make what refs are returned to."""
        frame.num_returns = num_returns
        if num_returns == STREAMING:
            return LocalStream(self, frame, call).begin()
        with self._entries.lock:
            entries = [self._entries.own(object_id(frame.task_id, index)) for index in range(num_returns)]
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
        self._actors.stop(frame.actor, left.reason, restart=left.code != 0)

    def fail(self, entries: list[ObjectEntry], frame: Frame, error: BaseException, kind: str = "") -> None:
        """The task has failed, and so have its objects."""
        if frame.actor is not None and type(frame.actor.reason) is bytes:
            self._failures.asked_for(object_id(frame.actor.actor_id))  # this call tells of it
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
        with self._entries.lock:
            self._entries.fail(entries, blob)
            if facts.kind == ORDERLY:
                return
            self._failures.note(frame.record(message), [entry.id for entry in entries])
        if not entries:
            self._failures.tell_now(message)
