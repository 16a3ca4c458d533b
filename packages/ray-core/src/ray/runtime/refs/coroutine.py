"""``ref.as_coroutine()``: for what takes coroutines only, and to have a task cancelled with its coroutine."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from ray.exceptions import RayConnectionError
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.session import session_of

R = TypeVar("R")


class RefCoroutine(Coroutine[Any, Any, R]):
    """Awaits a ref. An object, because a coroutine function does not see that it is cancelled before its first step."""

    def __init__(self, ref: CountedRef[R], cancel: bool, grace_s: float) -> None:
        self._ref = ref
        self._cancel = cancel
        self._grace_s = grace_s
        self._inner: Coroutine[Any, Any, R] = _result(ref, cancel, grace_s)
        self.__name__ = self.__qualname__ = repr(ref)

    def send(self, value: object) -> Any:
        return self._inner.send(value)

    def throw(self, kind: Any, value: object = None, traceback: TracebackType | None = None) -> Any:
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        try:
            if self._cancel and inspect.getcoroutinestate(self._inner) == inspect.CORO_CREATED:
                self._inner.close()
                self._inner = _cancelled(self._ref, self._grace_s, error)
                return self._inner.send(None)
            return self._inner.throw(error if traceback is None else error.with_traceback(traceback))
        finally:
            del kind, value, traceback, error  # see ``_cancelled``

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._inner.send(None)


async def _result(ref: CountedRef[R], cancel: bool, grace_s: float) -> R:
    try:
        return await ref
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:  # what ends a wait from outside, in asyncio as in trio; refs fail with Exceptions
        if cancel:
            await _cancelled(ref, grace_s, error)
        raise


async def _cancelled(ref: CountedRef[R], grace_s: float, error: BaseException) -> R:
    """Cancel the task, give it time to end, and raise ``error``.

    It goes through this frame, which therefore must not have it any more: both would stay until a collection, with the
    frames of the program that wait here and all that they hold.
    """
    _cancel_task(ref)
    if grace_s > 0:
        import asyncio

        from ray.runtime.refs.awaiting import wait_for_ref

        try:
            async with asyncio.timeout(grace_s):
                await wait_for_ref(ref)
        except TimeoutError:
            ends = "ray.kill(actor) ends its actor" if _is_call(ref) else "ray.cancel(ref, force=True) ends its process"
            raise TimeoutError(
                f"{ref!r} was cancelled with the coroutine that awaited it, but still runs after {grace_s:g} s; {ends}"
            ) from None
        except RayConnectionError:
            pass
    try:
        raise error
    finally:
        del error


def _is_call(ref: CountedRef[Any]) -> bool:
    try:
        session_of(ref).check_force(ref)
    except ValueError:
        return True
    except RayConnectionError:
        pass
    return False


def _cancel_task(ref: CountedRef[Any]) -> None:
    try:
        session_of(ref).cancel(ref, False, True)
    except RayConnectionError:  # the session has ended, and the task with it
        pass
