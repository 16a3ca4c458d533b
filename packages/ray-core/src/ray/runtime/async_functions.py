"""Which functions need an event loop, and what to say where what they gave has none."""

from __future__ import annotations

import inspect
from typing import Any

from ray.runtime.interface import IN_THREAD


def is_async(function: Any) -> bool:
    """Whether it is an ``async def`` itself, with or without ``yield``."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def runs_on_loop(function: Any) -> bool:
    """Whether calling it gives something to await or to draw from with ``async for``, also through decorators."""
    return is_async(_as_written(function))


def streams_on_loop(function: Any) -> bool:
    """Whether it is an async generator function, also through decorators."""
    return inspect.isasyncgenfunction(_as_written(function))


def _as_written(function: Any) -> Any:
    """What is under decorators that call it and leave it to their caller to await the result.

    They say what they wrap, as ``functools.wraps`` does. One that awaits is an ``async def`` itself, and one that runs
    a loop of its own is marked to run on a thread.
    """
    while not is_async(function):
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is None or inspect.isgeneratorfunction(function) or getattr(function, IN_THREAD, False) is True:
            break
        function = wrapped
    return function


def check_awaited(name: str, result: Any, *, of_actor: bool) -> None:
    """See that a function that ran without an event loop has not left its work to one.

    Raises:
        TypeError: ``result`` is a coroutine, which is closed, or an async generator.
    """
    if inspect.iscoroutine(result):
        result.close()
        kind = "a coroutine, which nobody awaits"
    elif inspect.isasyncgen(result):
        kind = "an async generator, from which nobody draws"
    else:
        return
    if of_actor:
        raise TypeError(
            f"{name} returned {kind}: it did not run on an event loop, as methods do that are known as 'async def'. "
            "Where a decorator hides that, make the function that it returns an 'async def' too, or put "
            "functools.wraps over it. Where ray.init, the environment or ray.toml choose an executor for actors, it "
            "must be one with an event loop."
        )
    raise TypeError(
        f"{name} returned {kind}: a task has no event loop. Run it to its end with asyncio.run(...) in the task, or "
        "make it a method of an actor class, where 'async def' works."
    )


def check_streamed(name: str, num_returns: int) -> None:
    """See that the caller of an async generator wants what it yields.

    Raises:
        TypeError: it does not.
    """
    if num_returns < 2:
        raise TypeError(
            f"{name} gave an async generator, but was called with num_returns={num_returns}: with "
            'num_returns="streaming", in @ray.method or in .options(), the call gives a ref for each value that is '
            "yielded."
        )
