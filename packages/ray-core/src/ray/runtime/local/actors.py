"""Actors of local mode: an object of the driver's own process behind the usual handle."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ray.clock import new_event_loop
from ray.exceptions import RayActorError
from ray.protocol.actors import INIT_RAISED
from ray.runtime.async_functions import check_streamed
from ray.runtime.interface import (
    IN_THREAD,
    STREAMING,
    ActorCore,
    ActorOptions,
    Client,
    FunctionDescriptor,
    MethodOptions,
)
from ray.runtime.lanes import check_group
from ray.runtime.process.interrupts import may_interrupt
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.returns import pack
from ray.runtime.worker.actor_exit import Exit
from ray.runtime.worker.yielding import MAX_AHEAD, first_of, size_ahead
from ray.serialization import failed_start

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType


#: What stands for the end of an async generator.
_END = object()


class ActorCall(Protocol):
    """A call, as its actor sees it."""

    name: str
    num_returns: int

    def packed(self, result: Any) -> Any:
        """A copy of each value that was returned, or the generator of them."""


class LocalActor(Client):
    """One actor: its instance, or why it has none."""

    __slots__ = (
        "actor_id", "cls", "instance", "is_async", "loop", "made", "methods", "options", "reason", "restarts", "start",
    )  # fmt: skip

    def __init__(
        self,
        actor_id: bytes,
        cls: FunctionDescriptor[Any],
        options: ActorOptions,
        methods: Mapping[str, MethodOptions],
        is_async: bool,
        start: Callable[[LocalActor], None],
    ) -> None:
        self.actor_id = actor_id
        self.cls = cls
        self.options = options
        self.methods = methods
        self.is_async = is_async
        #: Makes the instance anew, from the arguments of the first time.
        self.start = start
        self.instance: Any = None
        #: Its constructor has ended.
        self.made = False
        #: Why the actor is dead: a clause, or the envelope of what its constructor raised; None while it lives.
        self.reason: str | bytes | None = None
        self.restarts = 0
        self.loop: asyncio.AbstractEventLoop | None = None

    def core(self, life: ObjectRef[Any]) -> ActorCore:
        """What handles on it have in common; ``life`` stands for its life."""
        core = ActorCore(self.actor_id, self.cls.name, self.methods, life, self.options.max_task_retries, self.is_async)
        core.client = self
        return core

    def call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        frame: ActorCall | None = None,
    ) -> Any:
        """Run the constructor or a method; on an event loop of the actor's own if it has ``async def``.

        Args:
            function: the one or the other.
            args: as given.
            kwargs: as given.
            frame: the call, which makes of the result what is returned, before anything else on the loop changes it.
        """
        taken = frame.packed if frame is not None else _as_it_is
        if not self.is_async or getattr(function, IN_THREAD, False):
            return taken(function(*args, **kwargs))

        async def run() -> Any:
            try:
                result = function(*args, **kwargs)
            except StopIteration as error:  # which no coroutine can raise
                return _Stopped(error)
            if inspect.isawaitable(result) and type(result) is not ObjectRef:
                result = await result
            if inspect.isasyncgen(result) and frame is not None:
                if frame.num_returns == STREAMING:
                    return self._drawn(result, *await _first_ahead(result))
                check_streamed(frame.name, frame.num_returns)
                result = await first_of(result, frame.num_returns)
            return taken(result)

        found = self._run(run())
        if type(found) is _Stopped:
            raise found.error
        return found

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """What it returns; it runs to its end on the actor's loop, in this call."""
        import asyncio  # Costs more than the rest of a session's start.

        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)  # the call is inline: the caller's loop stands still meanwhile
        try:
            if self.loop is None:
                self.loop = new_event_loop()
            if not self.loop.is_running():
                return _run_out(self.loop, coroutine)
            inner = new_event_loop()  # the actor calls itself
            try:
                return _run_out(inner, coroutine)
            finally:
                inner.close()
        finally:
            asyncio._set_running_loop(outer)

    def _drawn(self, values: Any, found: list[Any], error: BaseException | None) -> Iterator[Any]:
        """What an async generator yields: what was found, then each when it is asked for, unless it has ended."""
        try:
            yield from found
            if error is None:
                while (value := self._run(_next_of(values))) is not _END:
                    yield value
            elif not isinstance(error, StopAsyncIteration):
                raise error
        finally:
            if self.reason is None:
                self._run(values.aclose())

    def name_of(self, method: str, options: MethodOptions) -> str:
        """What messages call a call; raises ValueError if it is for a concurrency group that there is not."""
        name = options.name or f"{self.cls.name}.{method}"
        if options.concurrency_group is not None:
            check_group(name, options.concurrency_group, self.options.concurrency_groups)
        return name

    def left_by(self, left: Exit, method: str) -> RayActorError:
        """What the call gets that has ended its actor."""
        return RayActorError(
            self.cls.name, self.actor_id, left.reason, method=method, fate="ended it", exit_code=left.code
        )

    def death(self, reason: str | bytes, method: str) -> RayActorError:
        """What a call of ``method`` raises that comes too late; ``reason`` is text or what ``__init__`` raised."""
        facts: dict[str, Any] = {"actor_class": self.cls.name, "actor_id": self.actor_id, "method": method}
        facts["fate"] = "did not start"
        if isinstance(reason, bytes):
            return failed_start(facts | {"reason": INIT_RAISED}, reason)
        return RayActorError(**facts, reason=reason)

    def end(self, reason: str | bytes) -> None:
        """Let the instance go; the first reason stays."""
        if self.reason is None:
            self.reason = reason
        self.instance = None
        self.start = _never
        self.close_loop()

    def close_loop(self) -> None:
        """Close the event loop of an actor that has ended, unless a call still runs on it."""
        if self.loop is not None and not self.loop.is_running():
            self.loop.close()
            self.loop = None


class _Stopped:
    """What a plain function has raised."""

    __slots__ = ("error",)

    def __init__(self, error: StopIteration) -> None:
        self.error = error


def _as_it_is(result: Any) -> Any:
    return result


async def _next_of(values: Any) -> Any:
    value = await anext(values, _END)
    return value if value is _END else pack(value)


async def _first_ahead(values: Any) -> tuple[list[Any], BaseException | None]:
    """What an async generator yields until it is far ahead, each value as it is then, and what has ended it before."""
    found: list[Any] = []
    ahead = 0
    try:
        while ahead < MAX_AHEAD:
            found.append(pack(await anext(values)))
            ahead += size_ahead(found[-1].nbytes)
    except BaseException as error:
        return found, error
    return found, None


def _run_out(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    from asyncio import gather

    task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    except BaseException as error:
        if task.done():
            if not task.cancelled() and task.exception() is error:  # asyncio would print it, unless it was asked for
                error.__traceback__ = _inside(error.__traceback__)
        else:  # a signal handler has raised, and the loop was in no code of the task's
            task.cancel()
            loop.run_until_complete(gather(task, return_exceptions=True))
        raise


def _inside(trace: TracebackType | None) -> TracebackType | None:
    """The part of the program's coroutine, without the loop that runs it."""
    while trace is not None and trace.tb_frame.f_code.co_name in ("_run_out", "run_until_complete"):
        trace = trace.tb_next
    return trace


def _never(actor: LocalActor) -> None:
    """What a dead actor starts; lets the arguments of its constructor go."""


for _code in (LocalActor.call.__code__, _run_out.__code__):
    may_interrupt(_code)  # they only call the program's code, or wait for its loop
