"""``ref.as_coroutine()``: for what takes coroutines only, and to have a task cancelled with whoever awaits it."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ray.exceptions import RayConnectionError
from ray.runtime.completion import session_of

if TYPE_CHECKING:
    from ray.runtime.ref import ObjectRef

R = TypeVar("R")


class RefCoroutine(Coroutine[Any, Any, R]):
    """Awaits a ref. An object, because a coroutine function does not see that it is cancelled before its first step."""

    def __init__(self, ref: ObjectRef[R], cancel: bool) -> None:
        self._ref = ref
        self._cancel = cancel
        self._inner = _result(ref, cancel)
        self.__name__ = self.__qualname__ = repr(ref)

    def send(self, value: Any) -> Any:
        return self._inner.send(value)

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None) -> Any:
        if self._cancel and inspect.getcoroutinestate(self._inner) == inspect.CORO_CREATED:
            _cancel_task(self._ref)
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        return self._inner.throw(error if traceback is None else error.with_traceback(traceback))

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._inner.send(None)


async def _result(ref: ObjectRef[R], cancel: bool) -> R:
    try:
        return await ref
    except (Exception, GeneratorExit):
        raise
    except BaseException:  # what ends a wait from the outside, in asyncio as in trio; failures of refs are Exceptions
        if cancel:
            _cancel_task(ref)
        raise


def _cancel_task(ref: ObjectRef[Any]) -> None:
    try:
        session_of(ref).cancel(ref, False, True)
    except RayConnectionError:  # the session has ended, and the task with it
        pass
