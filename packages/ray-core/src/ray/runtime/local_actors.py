"""Actors of local mode, an object of the driver's own process behind the usual handle, and the calls that run."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.clock import new_event_loop, wall_time
from ray.exceptions import RayActorError
from ray.protocol.actors import INIT_RAISED
from ray.runtime.actor_exit import Exit, exit_of
from ray.runtime.async_functions import check_awaited
from ray.runtime.interface import (
    IN_THREAD,
    RESOURCE_UNIT,
    STREAMING,
    ActorCore,
    ActorOptions,
    FunctionDescriptor,
    MethodOptions,
)
from ray.runtime.lanes import check_group
from ray.runtime.ref import ObjectRef
from ray.runtime.returns import pack, pack_returns
from ray.serialization import failed_start

if TYPE_CHECKING:
    import asyncio


class LocalActor:
    """One actor: its instance, or why it has none."""

    __slots__ = (
        "actor_id", "cls", "instance", "is_async", "loop", "made", "methods", "options", "reason", "restarts", "start",
    )  # fmt: skip

    def __init__(
        self,
        actor_id: bytes,
        cls: FunctionDescriptor,
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
        taken: Callable[[Any], Any] = lambda result: result,
    ) -> Any:
        """Run the constructor or a method to its end; on an event loop of the actor's own if it has ``async def``.

        Args:
            function: the one or the other.
            args: as given.
            kwargs: as given.
            taken: makes of the result what is returned, before anything else that is on the loop may change it.
        """
        if not self.is_async or getattr(function, IN_THREAD, False):
            return taken(function(*args, **kwargs))

        import asyncio  # Costs more than the rest of a session's start.

        async def run() -> Any:
            result = function(*args, **kwargs)
            if inspect.isawaitable(result) and type(result) is not ObjectRef:
                result = await result
            return taken(_replay(*await _run_out(result)) if inspect.isasyncgen(result) else result)

        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)  # the call is inline: the caller's loop stands still meanwhile
        try:
            if self.loop is None:
                self.loop = new_event_loop()
            if not self.loop.is_running():
                return self.loop.run_until_complete(run())
            inner = new_event_loop()  # the actor calls itself
            try:
                return inner.run_until_complete(run())
            finally:
                inner.close()
        finally:
            asyncio._set_running_loop(outer)

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


async def _run_out(values: AsyncIterable[Any]) -> tuple[list[Any], BaseException | None]:
    """What an async generator yields, each value as it is then, and what it raises at the end."""
    found = []
    try:
        async for value in values:
            found.append(pack(value))
    except BaseException as error:
        return found, error
    return found, None


def _replay(values: list[Any], error: BaseException | None) -> Iterator[Any]:
    yield from values
    if error is not None:
        raise error


@dataclass(slots=True)
class Frame:
    """A task or call that runs now."""

    task_id: bytes
    name: str
    resources: Mapping[str, int]
    actor: LocalActor | None = None
    attempt: int = 0
    outer: Frame | None = None
    num_returns: int = 1

    def packed(self, result: Any) -> Any:
        """A copy of each value that was returned, or the generator of them; nothing is left to a loop that is none."""
        check_awaited(self.name, result, of_actor=self.actor is not None)
        if self.num_returns == STREAMING:
            return result
        return [value.snapshot() for value in pack_returns(result, self.num_returns)]

    def exit_of(self, error: BaseException) -> Exit | None:
        """The end of its actor that a method asks for by ``error``."""
        return exit_of(error) if self.actor is not None and self.actor.made else None

    def record(self, message: str) -> dict[str, Any]:
        """The row of its failure in ``ray.error_info()``."""
        return {
            "type": "task",
            "message": message,
            "timestamp": wall_time(),
            "task_id": self.task_id.hex(),
            "actor_id": self.actor.actor_id.hex() if self.actor else "",
            "pid": os.getpid(),
            "function": self.name,
        }


def matches(error: BaseException, retry_on: bool | tuple[type[BaseException], ...]) -> bool:
    """Whether a task that failed so is to be retried."""
    if isinstance(retry_on, tuple):
        return isinstance(error, retry_on)
    return retry_on and isinstance(error, Exception)


def facts_of(frame: Frame | None) -> dict[str, Any]:
    """What ``Runtime.context`` says of the task or call that runs."""
    actor = None if frame is None else frame.actor
    held = {} if frame is None else frame.resources if actor is None else actor.options.resources
    return {
        "task_id": None if frame is None else frame.task_id,
        "task_name": None if frame is None else frame.name,
        "attempt": 0 if frame is None else frame.attempt,
        "actor_id": None if actor is None else actor.actor_id,
        "actor_name": None if actor is None else actor.options.name,
        "restarts": 0 if actor is None else actor.restarts,
        "gpu_ids": [str(index) for index in range(-(-held.get("GPU", 0) // RESOURCE_UNIT))],
        "resources": {name: amount / RESOURCE_UNIT for name, amount in held.items()},
    }


def _never(actor: LocalActor) -> None:
    """What a dead actor starts; lets the arguments of its constructor go."""
