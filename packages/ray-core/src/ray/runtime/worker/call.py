"""One task or actor call inside a worker: from the wire to the user's function and back."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ray.abc.transport import Frame
from ray.clock import perf_counter_ns
from ray.ids import node_number
from ray.messages import wire
from ray.protocol.references import LARGE_BYTES
from ray.runtime.async_functions import check_awaited, check_streamed, runs_on_loop
from ray.runtime.interface import IN_THREAD, STREAMING
from ray.runtime.owner.away import AWAY_BYTES
from ray.runtime.process.forked import end_forked_child
from ray.runtime.process.interrupts import handles_interrupt, interrupt_of
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.returns import pack_returns
from ray.runtime.worker.outcome import Outcome, success
from ray.runtime.worker.storing import leave_results, store_results, store_results_on_loop
from ray.runtime.worker.yielding import Host as YieldsHost
from ray.runtime.worker.yielding import Yielding, first_of, yielding_of
from ray.serialization import (
    Serialized,
    serialize_small,
)

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

    from ray.protocol.references import ObjectEntry
    from ray.runtime.owner.cancelling import Cancelling
    from ray.runtime.process.peers import Peer
    from ray.runtime.worker.arguments import SpilledArguments

CallArguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

#: The call that runs in this context; executors that interleave calls rely on it.
current_call: contextvars.ContextVar[TaskCall | None] = contextvars.ContextVar("ray_call", default=None)


class Desk(Protocol):
    """Where the calls of a worker are."""

    concurrent: bool
    running: dict[bytes, TaskCall]


class Prepares(Protocol):
    """Finds what a call runs, and with what."""

    #: {method: whether it asks to run on a thread}
    in_thread: dict[bytes, bool]

    def target_of(self, task: wire.Task) -> Any: ...
    def prepare(self, call: TaskCall) -> tuple[Any, CallArguments]: ...
    def fetch(self, call: TaskCall) -> None: ...


class Fails(Protocol):
    """Makes failures of what a call has raised."""

    def outcome_of(self, call: TaskCall, error: BaseException) -> Outcome: ...


class CallHost(YieldsHost, Protocol):
    """The worker that runs a call."""

    is_forked: bool
    cancelling: Cancelling
    spilled_arguments: SpilledArguments

    @property
    def desk(self) -> Desk: ...
    @property
    def preparing(self) -> Prepares: ...
    @property
    def failing(self) -> Fails: ...
    def begin(self, call: TaskCall) -> bool: ...
    def end(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None: ...


class TaskCall:
    """Implements ``ray.abc.executor.Call``."""

    __slots__ = (
        "abandoned", "cancelled", "cleans_up", "coroutine", "frames", "gpu_ids", "group", "held", "interruptible",
        "name", "noticed", "peer", "recursive", "resources", "stream", "task", "timed_out", "values", "worker",
    )  # fmt: skip

    def __init__(self, worker: CallHost, peer: Peer, task: wire.Task, frames: Sequence[Frame], push: wire.Push) -> None:
        self.worker = worker
        self.peer = peer
        self.task = task
        self.frames = frames
        self.gpu_ids = push.gpu_ids
        self.resources = push.resources
        self.group = task.group or None
        self.name = ""
        #: Blobs of the arguments that were refs, in the order of ``task.deps``.
        self.values: list[Any] = []
        #: Refs in the arguments that this process must return; pinned until the call ends, or is given back.
        self.held: Sequence[ObjectEntry] = ()
        self.cancelled = False
        self.timed_out = False
        #: The user's code has been interrupted, as one of the two asks for, and is left alone while it cleans up.
        self.noticed = False
        #: It has been, if only once; what it submitted until then is ``recursive``ly cancelled with it.
        self.cleans_up = self.recursive = False
        #: It goes on beyond its limit, and its caller has been answered.
        self.abandoned = False
        #: The user's code runs, and may be interrupted.
        self.interruptible = False
        #: The loop and the asyncio task that run it.
        self.coroutine: tuple[AbstractEventLoop, Task[Any]] | None = None
        #: What it yields, if its results are streamed.
        self.stream: Yielding | None = None

    @property
    def is_async(self) -> bool:
        """Whether the target has to run on a loop, or cannot be found, which ``run_async`` reports."""
        try:
            target = self.worker.preparing.target_of(self.task)
        except Exception:
            return True
        return runs_on_loop(target)

    @property
    def in_thread(self) -> bool:
        """Whether ``@ray.method(in_thread=True)`` is over the target."""
        preparing, name = self.worker.preparing, self.task.function
        known = preparing.in_thread
        if name not in known:
            try:
                known[name] = getattr(preparing.target_of(self.task), IN_THREAD, False) is True
            except Exception:
                return False
        return known[name]

    def interrupt(self) -> None:
        """Cancel the coroutine, once; no effect when it has ended. Any thread."""
        running = self.coroutine
        if running is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                running[0].call_soon_threadsafe(self._cancel, running[1])

    def _cancel(self, task: Task[object]) -> None:
        """Called on the loop, where no code of the call runs before it sees the cancellation."""
        if not self.noticed:
            self.notice()
            task.cancel()

    def check_on_loop(self) -> None:
        """The same as ``check`` for a coroutine, if it is what runs here."""
        import asyncio  # Only async actors need it.

        task = None if self.noticed or not asyncio._get_running_loop() else asyncio.current_task()
        if task is not None and self.coroutine is not None and self.coroutine[1] is task:
            self.notice()
            raise asyncio.CancelledError

    def check(self) -> None:
        """Interrupt the user's code, which this thread runs or is about to, if that is asked for and not done."""
        if (self.cancelled or self.timed_out) and not self.noticed:
            self.notice()
            if not handles_interrupt(self.task.id):
                raise interrupt_of(self.task.id)

    def notice(self) -> None:
        """The user's code is interrupted next."""
        is_first, self.noticed, self.cleans_up = not self.cleans_up, True, True
        if is_first and self.recursive:  # what it has submitted since its process heard of that
            with self.worker.lock:
                self.worker.cancelling.cancel_children(self.task.id)

    def run(self) -> None:
        """Run the function on this thread, and reply."""
        worker = self.worker
        if not worker.begin(self):
            return
        token = current_call.set(self) if worker.desk.concurrent else None
        started = perf_counter_ns()
        try:
            function, call = worker.preparing.prepare(self)
            self.interruptible = True
            try:
                if self.cancelled or self.timed_out:
                    self.check()  # while it was prepared
                result = function(*call[0], **call[1])
                if self.task.num_returns == STREAMING:
                    check_awaited(self.name, result, of_actor=bool(self.task.actor))
                    yielding_of(self).drain(result)
            finally:
                self.interruptible = False
                if worker.is_forked:
                    end_forked_child(sys.exc_info()[1])
            call = ((), {})
            outcome = self._succeed(result)
            result = None
            if outcome.large:
                if outcome.away:
                    leave_results(worker.values, outcome, patient=worker.values.spills)
                else:
                    store_results(worker.values, outcome.large)
        except BaseException as error:
            call, result = ((), {}), None  # kept refs are looked for next, and these would count
            outcome = worker.failing.outcome_of(self, error)
        duration_us = (perf_counter_ns() - started) // 1000
        if token is not None:
            current_call.reset(token)
        worker.end(self, outcome, duration_us)

    async def run_async(self) -> None:
        """Run the coroutine function on this loop, and reply."""
        import asyncio  # Only async actors need it.

        worker, task = self.worker, asyncio.current_task()
        assert task is not None
        self.coroutine = task.get_loop(), task  # before it counts as running: no cancel finds it without
        if not worker.begin(self):
            return
        current_call.set(self)
        started = perf_counter_ns()
        try:
            if self.task.stored or self.task.deps or worker.spilled_arguments:
                ids = self._stored_ids()
                comes = ids and (not self.peer.near or any(dependency.away for dependency in self.task.deps))
                fetch = partial(worker.preparing.fetch, self) if comes else None
                held = await worker.spilled_arguments.read(self.group, ids, fetch)
                function, call = worker.preparing.prepare(self)
                held.clear()
            else:
                function, call = worker.preparing.prepare(self)
            try:
                if self.cancelled or self.timed_out:
                    raise asyncio.CancelledError  # while it was prepared
                result = function(*call[0], **call[1])
                if inspect.isawaitable(result) and type(result) is not ObjectRef:
                    result = await result
                if self.task.num_returns == STREAMING:
                    await yielding_of(self).drain_async(result)
                elif inspect.isasyncgen(result):
                    check_streamed(self.name, self.task.num_returns)
                    result = await first_of(result, self.task.num_returns)
            finally:
                if worker.is_forked:
                    end_forked_child(sys.exc_info()[1])
            call = ((), {})
            outcome = self._succeed(result)
            result = None
            if outcome.away:
                leave_results(worker.values, outcome, patient=False)
            elif outcome.large:
                await store_results_on_loop(worker.values, outcome.large)  # a cancellation comes too late
        except BaseException as error:
            call, result = ((), {}), None  # kept refs are looked for next, and these would count
            outcome = worker.failing.outcome_of(self, error)
        worker.end(self, outcome, (perf_counter_ns() - started) // 1000)
        self.coroutine = None

    def fail(self, error: Exception) -> None:
        """See ``Call``."""
        worker = self.worker
        if worker.desk.running.get(self.task.id) is self or worker.begin(self):
            worker.end(self, worker.failing.outcome_of(self, error), 0)

    def _stored_ids(self) -> list[bytes]:
        """Of the arguments that are in the node's store."""
        task = self.task
        ids = [dependency.id for dependency, blob in zip(task.deps, self.values, strict=True) if blob is None]
        return [task.stored, *ids] if task.stored else ids

    def _succeed(self, result: Any) -> Outcome:
        """The outcome, with a copy of the value; but what is large is not stored yet."""
        task = self.task
        if task.num_returns == STREAMING:
            return Outcome(True, [_END])
        blob = serialize_small(result) if task.num_returns == 1 else None
        if blob is not None and len(blob) < LARGE_BYTES:  # most are
            return Outcome(True, [blob])
        if blob is None:
            check_awaited(self.name, result, of_actor=bool(task.actor))
            values = pack_returns(result, task.num_returns)
        else:
            values = [Serialized(blob, [])]
        store = self.worker.values
        if self.peer.near:
            return success(task, values, LARGE_BYTES if store.shared else 0)
        serves = store.serves and not self.peer.is_guest
        return success(task, values, AWAY_BYTES if serves else 0, node_number(self.worker.here.process_id))


#: What completes the object that would have come next.
_END = serialize_small(None)
