"""Coroutines that have been started: the same coroutine may be given to the async API again and again.

``wait`` returns the coroutines that have produced nothing yet, and what they produce is then asked for with the same
coroutine object, which asyncio would refuse to run twice.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import weakref
from collections.abc import Coroutine
from typing import Any

import ray

#: {coroutine: its task, or what the finished one came to, which does not hold the coroutine}
_started: weakref.WeakKeyDictionary[Coroutine[Any, Any, Any], asyncio.Future[Any] | _Outcome] = (
    weakref.WeakKeyDictionary()
)


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
    future: Any = awaitable if known is None else known.future() if isinstance(known, _Outcome) else known
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
    if coroutine is not None:
        _started[coroutine] = _Outcome(task)


class _Outcome:
    """What a coroutine came to.

    Of an error it keeps a copy that is never raised itself: the frames of the code that it is raised in hold the
    coroutine, which would then live for ever.
    """

    __slots__ = ("_cancelled", "_error", "_loop", "_result")

    def __init__(self, task: asyncio.Future[Any]) -> None:
        self._loop = task.get_loop()
        self._cancelled = task.cancelled()
        error = None if self._cancelled else task.exception()
        self._error = None if error is None else _copy(error)
        self._result = None if self._cancelled or error is not None else task.result()

    def future(self) -> asyncio.Future[Any]:
        """A finished future with it."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._cancelled:
            future.cancel()
        elif self._error is not None:
            future.set_exception(_copy(self._error))
            future.exception()  # the code that waited for the task has been told already
        else:
            future.set_result(self._result)
        return future


def _copy(error: BaseException) -> BaseException:
    try:
        twin = copy.copy(error)
        if type(twin) is type(error):
            twin.__cause__, twin.__suppress_context__ = error.__cause__, error.__suppress_context__
            return twin.with_traceback(None)
    except Exception:  # its class takes other arguments than it keeps
        pass
    return RuntimeError(f"the coroutine has failed before, with an error that cannot be copied: {error!r}")
