"""Coroutines that have been started: the same coroutine may be given to the async API again and again.

``wait`` returns the coroutines that have produced nothing yet, and what they produce is then asked for with the same
coroutine object, which asyncio would refuse to run twice.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Coroutine
from typing import Any

import ray

#: {coroutine: its task, or a copy of the finished one, which does not hold the coroutine}
_started: weakref.WeakKeyDictionary[Coroutine[Any, Any, Any], asyncio.Future[Any]] = weakref.WeakKeyDictionary()


def is_awaited(value: object) -> bool:
    """Whether the async API waits for ``value`` as for a coroutine or future, that is not as for a ref."""
    return not isinstance(value, ray.ObjectRef) and (asyncio.isfuture(value) or inspect.isawaitable(value))


def future_of(awaitable: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """The future of something awaitable, started on ``loop`` unless it has been before.

    Raises:
        TypeError: it is not awaitable.
        ValueError: it belongs to another loop.
    """
    known = _started.get(awaitable) if isinstance(awaitable, Coroutine) else None
    future: Any = awaitable if known is None else known
    if not asyncio.isfuture(future):
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"expected an object ref, a coroutine or a future, not {awaitable!r}")
        future = asyncio.ensure_future(awaitable, loop=loop)
        if isinstance(awaitable, Coroutine):
            _started[awaitable] = future
            reference = weakref.ref(awaitable)
            future.add_done_callback(lambda task: _keep_outcome(reference, task))
    if future.get_loop() is not loop:
        raise ValueError(f"futures are tied to different event loops: {awaitable!r} is not of the loop that waits")
    return future  # type: ignore[no-any-return]


def _keep_outcome(reference: weakref.ref[Coroutine[Any, Any, Any]], task: asyncio.Future[Any]) -> None:
    coroutine = reference()
    if coroutine is None:
        return
    outcome: asyncio.Future[Any] = task.get_loop().create_future()
    if task.cancelled():
        outcome.cancel()
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
        outcome.exception()  # whoever waited has been told already
    else:
        outcome.set_result(task.result())
    _started[coroutine] = outcome
