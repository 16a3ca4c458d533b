"""``get`` and ``wait`` over refs, coroutines and futures, on any event loop of asyncio.

On the event loop over objects, refs are waited for through its selector; on others, through their callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import ray
from ray.clock import monotonic, perf_counter, wait_until
from ray.runtime.completion import current_session, is_done, value_of
from ray_async.object_loop import ObjectEventLoop
from ray_async.started import future_of, is_awaited

Loop: TypeAlias = asyncio.AbstractEventLoop

#: Work on thousands of refs leaves the loop to others this often.
TURN_S = 0.001


class _Turn:
    """How long a piece of work has kept the loop to itself."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + TURN_S

    def is_over(self) -> bool:
        return perf_counter() > self._end

    async def next(self) -> None:
        await asyncio.sleep(0)
        self._end = perf_counter() + TURN_S


def on_done(loop: Loop, ref: ray.ObjectRef[Any], callback: Callable[[Any], object]) -> Callable[[], object]:
    """Have ``loop``, which is running, call ``callback`` once the object is ready or failed; returns what undoes it."""
    if not isinstance(loop, ObjectEventLoop):
        ref.add_done_callback(callback)
        return functools.partial(ref.remove_done_callback, callback)
    future = loop.object_future(ref)
    future.add_done_callback(callback)

    def undo() -> None:
        future.remove_done_callback(callback)
        future.dec_refcount()

    return undo


# --- get --------------------------------------------------------------------------------------------------------------


async def get_values(loop: Loop, object_ids: Any) -> Any:
    """See ``async_api.get``."""
    current_session()
    if not isinstance(object_ids, list):
        return await _get_value(loop, object_ids)
    if all(isinstance(each, ray.ObjectRef) for each in object_ids):
        refs = object_ids[:]
        with _asked_for(refs):
            await _all_done(loop, refs)
            values, turn = [], _Turn()
            for ref in refs:
                if turn.is_over():
                    await turn.next()
                values.append(await ref)
            return values
    return list(await asyncio.gather(*(_get_value(loop, each) for each in object_ids)))


async def _get_value(loop: Loop, value: Any) -> Any:
    while is_awaited(value):
        value = await future_of(value, loop)
    if not isinstance(value, ray.ObjectRef):
        return value
    with _asked_for([value]):
        await _all_done(loop, [value])
        return await value


@contextlib.contextmanager
def _asked_for(refs: Sequence[ray.ObjectRef[Any]]) -> Iterator[None]:
    """Nobody need be told of failures of ``refs`` where the wait for all of them ends early."""
    session = current_session()
    try:
        yield
    except BaseException:
        session.asked_for(refs)
        raise


async def _all_done(loop: Loop, refs: Sequence[ray.ObjectRef[Any]]) -> None:
    """Return when all are ready or failed; when one fails before, raise its error."""
    pending = {ref for ref in refs if not is_done(ref)}
    if not pending:
        return
    over = loop.create_future()

    #: For each that is waited for.
    undo: dict[ray.ObjectRef[Any], Callable[[], object]] = {}

    def done(ref: ray.ObjectRef[Any], _: object = None) -> None:
        pending.discard(ref)
        if ref in undo:
            undo.pop(ref)()
        if not over.done() and (not pending or ref.exception() is not None):
            over.set_result(None)

    turn = _Turn()
    try:
        for ref in refs:
            if ref not in pending:
                done(ref)
        for ref in list(pending):
            if turn.is_over():
                await turn.next()
            undo[ref] = on_done(loop, ref, functools.partial(done, ref))
        await over
    finally:
        for each in undo.values():
            each()
    if pending:
        value_of(next(ref for ref in refs if ref not in pending and ref.exception() is not None))


# --- wait -------------------------------------------------------------------------------------------------------------


def check_wait(inputs: Any, num_returns: int, *, unique: bool = True) -> None:
    """The checks of ``ray.wait``, for a list that may also hold coroutines and futures.

    Args:
        inputs: what the user gave.
        num_returns: how many to wait for.
        unique: whether an input may not be repeated.

    Raises:
        TypeError: not a list, or an element that cannot be waited for.
        ValueError: repeated elements, or a ``num_returns`` below 1 or above the length of the list.
        RayConnectionError: there is no session.
    """
    if not isinstance(inputs, list):
        single = "; put it in a list" if isinstance(inputs, ray.ObjectRef) or is_awaited(inputs) else ""
        raise TypeError(f"wait() expected a list of object refs, coroutines and futures, not {inputs!r}{single}")
    for at, each in enumerate(inputs):
        if not isinstance(each, ray.ObjectRef) and not is_awaited(each):
            raise TypeError(f"wait() expected object refs, coroutines and futures, but element {at} is {each!r}")
    current_session()
    if not inputs:
        return
    if unique and len(set(inputs)) != len(inputs):
        raise ValueError("wait() requires a list of unique object refs, coroutines and futures.")
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"num_returns must be a whole number, not {num_returns!r}")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}: num_returns must be at least 1.")
    if num_returns > len(inputs):
        raise ValueError(
            "num_returns cannot be greater than the number of objects provided to wait(): "
            f"{num_returns} of {len(inputs)}."
        )


async def wait_ready(
    loop: Loop, inputs: list[Any], num_returns: int, timeout_s: float | None, *, exact: bool = True
) -> tuple[list[Any], list[Any]]:
    """See ``async_api.wait``; the arguments have been checked."""
    if not inputs:
        return [], []
    waiting = _Waiting(loop, inputs, num_returns)
    end = None if timeout_s is None else monotonic() + timeout_s
    try:
        await waiting.start()
        await wait_until(end, waiting.over)
        if waiting.over.done():
            waiting.over.result()
        return waiting.split(num_returns if exact else len(inputs))
    finally:
        waiting.release()


class _Waiting:
    """One call of ``wait``."""

    def __init__(self, loop: Loop, inputs: list[Any], needed: int) -> None:
        self._loop = loop
        #: For each input its ref, or what is to produce it.
        self._items: list[Any] = inputs[:]
        #: What ``pending`` shows for each: the input until it has produced a ref.
        self._shown = inputs[:]
        self._needed = needed
        self._ready: set[int] = set()
        #: {index: ends the wait for it}
        self._undo: dict[int, Callable[[], object]] = {}
        self.over: asyncio.Future[None] = loop.create_future()

    async def start(self) -> None:
        """Begin to wait for each."""
        turn = _Turn()
        for index in range(len(self._items)):
            if turn.is_over():
                await turn.next()
            self._advance(index)

    def _advance(self, index: int) -> None:
        """Wait for the ref of this input, or for what is to produce it."""
        item = self._items[index]
        if isinstance(item, ray.ObjectRef):
            self._shown[index] = item
            if is_done(item):
                self._is_ready(index)
            else:
                callback = functools.partial(self._is_ready, index)
                self._undo[index] = on_done(self._loop, item, callback)
            return
        future = future_of(item, self._loop)
        if future.done():
            self._produced(index, future)
        else:
            produced = functools.partial(self._produced, index)
            future.add_done_callback(produced)
            self._undo[index] = functools.partial(future.remove_done_callback, produced)

    def _produced(self, index: int, future: asyncio.Future[Any]) -> None:
        if self.over.done():
            return
        if future.cancelled():
            self.over.set_exception(asyncio.CancelledError(f"{self._shown[index]!r} was cancelled"))
        elif (error := future.exception()) is not None:
            self.over.set_exception(error)
        elif isinstance(result := future.result(), ray.ObjectRef) or is_awaited(result):
            self._items[index] = result
            self._advance(index)
        else:
            text = f"{self._shown[index]!r} returned {result!r}, which is no object ref and cannot be waited for"
            self.over.set_exception(TypeError(text))

    def _is_ready(self, index: int, _: object = None) -> None:
        self._ready.add(index)
        if index in self._undo:
            self._undo.pop(index)()
        if len(self._ready) >= self._needed and not self.over.done():
            self.over.set_result(None)

    def split(self, limit: int) -> tuple[list[Any], list[Any]]:
        """At most ``limit`` ready ones, and the rest, both in the order of the inputs."""
        ready = sorted(self._ready)[:limit]
        chosen = set(ready)
        rest = [shown for index, shown in enumerate(self._shown) if index not in chosen]
        return [self._shown[index] for index in ready], rest

    def release(self) -> None:
        """Wait for nothing any more."""
        for undo in self._undo.values():
            undo()
        if self.over.done():
            self.over.exception()  # if it was not raised, an error before it was
