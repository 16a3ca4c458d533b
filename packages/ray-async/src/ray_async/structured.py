"""Structured concurrency: what a block of code starts remotely ends with the block."""

from __future__ import annotations

import asyncio
import sys
import types
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Coroutine, Iterable
from typing import Any, Protocol, TypeVar, overload

import ray
from ray.runtime.completion import session_of
from ray_async.selectors import EpollSelector

#: What is wrong with a function that is mapped.
_NO_REFS = "map() needs a function that returns an object ref"

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")
A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


def as_coroutine(ref: ray.ObjectRef[R], cancel: bool = True) -> Coroutine[Any, Any, R]:
    """``ref.as_coroutine``, cancelling by default, as a function: for what takes a function and its arguments."""
    return ref.as_coroutine(cancel=cancel)


class TaskGroup(asyncio.TaskGroup):
    """``asyncio.TaskGroup`` whose children may be remote.

    The block ends when all children have ended. If one fails, or the block does, the others are cancelled, remote ones
    with ``ray.cancel``, and the failures are raised as an ``ExceptionGroup``.
    """

    def __init__(self, *, grace_s: float = 10.0) -> None:
        """Make a group.

        Args:
            grace_s: how long cancelled remote children have to end; one that then still runs is left behind, and is
                among the failures as a ``TimeoutError``. With 0 the block does not wait for them.
        """
        super().__init__()
        self._grace_s = grace_s

    def create_task(  # type: ignore[override]
        self,
        coro: ray.ObjectRef[R] | Coroutine[Any, Any, R],
        *,
        name: str | None = None,
        context: Any = None,
    ) -> asyncio.Task[R]:
        """Add a child: the ref of a remote task or actor call, or a coroutine.

        Raises:
            RuntimeError: the group has not been entered, or is ending. A remote child is cancelled then.
        """
        if not isinstance(coro, ray.ObjectRef):
            return super().create_task(coro, name=name, context=context)
        waiting = coro.as_coroutine(cancel=True, grace_s=self._grace_s)
        try:
            return super().create_task(waiting, name=name, context=context)
        except RuntimeError:
            waiting.close()
            _cancel([coro])
            raise


def as_completed(
    refs: Iterable[ray.ObjectRef[R]] | AsyncIterable[ray.ObjectRef[R]],
    *,
    limit: int | None = None,
    cancel: bool = False,
) -> AsyncGenerator[ray.ObjectRef[R], None]:
    """Yield refs in the order in which they become ready or fail; on asyncio and on trio.

    Args:
        refs: no two alike. With a generator that submits tasks, ``limit`` bounds how many are under way.
        limit: take the next ref only while fewer than so many are pending; None takes all at once.
        cancel: cancel what is still pending when the iteration is left; ``contextlib.aclosing`` makes that moment sure.

    Raises:
        ValueError: ``limit`` is below 1, a ref comes twice, or something that is no ref.
        TypeError: ``refs`` is nothing to iterate over.
    """
    _check_limit(limit)
    _check_iterable("as_completed()", "object refs", refs)
    if isinstance(refs, Collection):  # else it is noticed as they come
        _check_refs(refs)
    return _as_completed(refs, limit, cancel)


async def _as_completed(
    refs: Iterable[ray.ObjectRef[R]] | AsyncIterable[ray.ObjectRef[R]], limit: int | None, cancel: bool
) -> AsyncGenerator[ray.ObjectRef[R], None]:
    source = _each(refs)
    selector = EpollSelector()
    pending: dict[bytes, ray.ObjectRef[R]] = {}
    exhausted = False
    try:
        while True:
            while not exhausted and (limit is None or len(pending) < limit):
                try:
                    ref = await anext(source)
                except StopAsyncIteration:
                    exhausted = True
                else:
                    selector.register(ref)
                    pending[ref.binary()] = ref
            if not pending:
                return
            keys = selector.select(0, 1)
            if keys:
                selector.unregister(keys[0].fileobj)
                yield pending.pop(keys[0].fd)
            else:
                await _readable(selector.fileno())
    finally:
        selector.close()
        if cancel:
            _cancel(pending.values())
        await source.aclose()


class _Remote(Protocol[A_contra, R_co]):
    """A remote function or actor method that takes one value, by position, as checkers see it."""

    def remote(self, item: A_contra, /) -> ray.ObjectRef[R_co]: ...


@overload
def map(
    function: _Remote[A, R], items: Iterable[A] | AsyncIterable[A], *, limit: int = ...
) -> AsyncGenerator[R, None]: ...
@overload
def map(
    function: Callable[[A], ray.ObjectRef[R]], items: Iterable[A] | AsyncIterable[A], *, limit: int = ...
) -> AsyncGenerator[R, None]: ...
def map(function: Any, items: Iterable[Any] | AsyncIterable[Any], *, limit: int = 100) -> AsyncGenerator[Any, None]:
    """Yield the results of a remote function for each item, in the order of the items; on asyncio and on trio.

    Calls are made ahead of what is yielded. Those that are under way when the iteration fails or is left are cancelled;
    ``contextlib.aclosing`` makes that moment sure.

    Args:
        function: a remote function or actor method of one argument, or anything else that returns a ref.
        items: arguments; taken as they are needed.
        limit: how many calls there may be whose results have not been yielded.

    Raises:
        ValueError: ``limit`` is below 1.
        TypeError: ``items`` is nothing to iterate over, or ``function`` returns no ref.
        RayError: the first failure in the order of the items.
    """
    _check_limit(limit)
    _check_iterable("map()", "items", items)
    call = getattr(function, "remote", function)
    if not callable(call) or isinstance(call, (type, types.BuiltinFunctionType)):  # of others the first call tells
        raise TypeError(f"{_NO_REFS}, which {function!r} does not do: decorate it with @ray.remote")
    return _map(function, call, items, limit)


async def _map(
    function: Callable[[A], Any], call: Callable[[A], Any], items: Iterable[A] | AsyncIterable[A], limit: int
) -> AsyncGenerator[Any, None]:
    source = _each(items)
    ahead: deque[ray.ObjectRef[Any]] = deque()
    try:
        async for item in source:
            ref = call(item)
            if not isinstance(ref, ray.ObjectRef):
                raise TypeError(f"{_NO_REFS}; {function!r} returned {ref!r}")
            ahead.append(ref)
            if len(ahead) == limit:
                yield await _next(ahead)
        while ahead:
            yield await _next(ahead)
    finally:
        _cancel(ahead)
        await source.aclose()


async def _next(ahead: deque[ray.ObjectRef[Any]]) -> Any:
    value = await ahead[0]  # which stays there, to be cancelled, until it is done
    ahead.popleft()
    return value


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _readable(fd: int) -> None:
    """Wait until a descriptor is readable, on whatever loop this runs."""
    loop = asyncio._get_running_loop()
    if loop is None:
        await sys.modules["trio"].lowlevel.wait_readable(fd)
        return
    ready = loop.create_future()
    loop.add_reader(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _check_limit(limit: int | None) -> None:
    if limit is None:
        return
    if isinstance(limit, bool) or not hasattr(limit, "__index__"):
        raise TypeError(f"limit must be a whole number, not {limit!r}")
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit!r}")


def _check_iterable(caller: str, what: str, given: object) -> None:
    if isinstance(given, ray.ObjectRef):
        raise TypeError(f"{caller} needs an iterable of {what}, not one object ref: put it into a list")
    if not isinstance(given, (Iterable, AsyncIterable)):
        raise TypeError(f"{caller} needs an iterable of {what}, not {given!r} ({type(given).__name__})")


def _check_refs(refs: Collection[Any]) -> None:
    seen: set[ray.ObjectRef[Any]] = set()
    for ref in refs:
        if not isinstance(ref, ray.ObjectRef):
            raise ValueError(f"as_completed() needs object refs, and {ref!r} ({type(ref).__name__}) is no object ref")
        if ref in seen:
            raise ValueError(f"as_completed() got {ref!r} twice: it has already been registered")
        seen.add(ref)


def _cancel(refs: Iterable[ray.ObjectRef[Any]]) -> None:
    try:
        for ref in refs:
            session_of(ref).cancel(ref, False, True)
    except ConnectionError:  # their session has ended, and they with it
        pass
