"""``Pool``: the interface of ``multiprocessing.Pool`` over tasks and actors."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from itertools import chain
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from ray.api.inspection import cluster_resources
from ray.api.options import whole_number
from ray.exceptions import RayConnectionError
from ray.util.chunking import ChunkSize, cut
from ray.util.executor.calls import Calls
from ray.util.executor.futures import Call, RayFuture
from ray.util.executor.places import TaskPlaces, shared_out
from ray.util.executor.window import OpenWindow, Window
from ray.util.executor.workers import ActorPlaces
from ray.util.multiprocessing.async_result import AsyncResult
from ray.util.multiprocessing.chunk_calls import ChunkCalls
from ray.util.multiprocessing.imap_iterator import IMapIterator, Reading
from ray.util.own_session import OwnSession

R = TypeVar("R")

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"
#: ``map`` makes so many chunks for each process.
CHUNKS = 4
#: ``imap`` is so many chunks for each process ahead of the results that were taken.
AHEAD = 4

#: ``imap`` submits so many chunks without a thread, of items that are at hand.
AT_ONCE = 256
_AT_HAND = frozenset((list, tuple, range, dict, set, frozenset, str, bytes))

Callback = Callable[[Any], object]


class Pool:
    """A ``multiprocessing.Pool`` whose calls run in the processes of a session, on all its nodes.

    With an initializer, or a limit of calls for each process, these are actors of this pool; else calls are tasks. A
    process that dies fails its calls with a ``BrokenExecutor``, and the pool goes on with another one.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] | None = (),
        maxtasksperchild: int | None = None,
        context: object = None,
        ray_address: str | None = None,
        ray_remote_args: Mapping[str, Any] | None = None,
    ) -> None:
        """Make one; where there is no session it starts one, and ends it when the pool ends.

        Args:
            processes: how many calls may run at a time; by default as many as the session has processors.
            initializer: called in each process before its first call. If it raises, all calls fail with its error.
            initargs: its arguments.
            maxtasksperchild: how many calls, or chunks, a process runs before it is replaced.
            context: taken for the sake of programs that pass it to ``multiprocessing.Pool``.
            ray_address: as ``ray.init`` takes it, where there is no session.
            ray_remote_args: options of ``ray.remote`` for the calls, or the actors: ``num_cpus``, ``resources`` …

        Raises:
            TypeError, ValueError: an argument that is wrong.
            RayError: as ``ray.init``.
        """
        self._state = ""  # for ``__del__``, if this raises
        if processes is not None and whole_number("processes", processes, least=-(1 << 62)) < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and not (type(maxtasksperchild) is int and maxtasksperchild > 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        options = dict(ray_remote_args or {})
        as_actors = initializer is not None or maxtasksperchild is not None
        places: TaskPlaces | ActorPlaces | None = None if as_actors else TaskPlaces(options)
        self._session = OwnSession(ray_address)
        try:
            cpus = cluster_resources().get("CPU", 0.0)
            self._processes = processes or max(1, int(cpus))
            if places is None:
                given = tuple(initargs or ())
                places = ActorPlaces(self._processes, initializer, given, maxtasksperchild, options)
            else:
                places = TaskPlaces(shared_out(options, cpus, self._processes))
        except BaseException:
            self._session.end()
            raise
        self._places = places
        free = not as_actors and self._processes >= cpus and "num_cpus" not in options
        self._calls = Calls(places, OpenWindow() if free else Window(self._processes, ahead=False), outlives=False)
        self._chunk_calls = ChunkCalls(places)
        self._readings: list[Reading] = []
        #: What has results that go with the session.
        self._results: weakref.WeakSet[AsyncResult[Any] | Reading] = weakref.WeakSet()
        self._state = RUN

    # --- one call -----------------------------------------------------------------------------------------------------

    def apply(self, func: Callable[..., R], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> R:
        """``func(*args, **kwds)`` in a process of the pool.

        Raises:
            ValueError: the pool is not running.
            BaseException: as ``AsyncResult.get``.
        """
        __tracebackhide__ = True
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[R]:
        """Have ``func(*args, **kwds)`` run; returns at once.

        Args:
            func: the function.
            args: its arguments.
            kwds: its keyword arguments.
            callback: called with the result.
            error_callback: called with the error instead.

        Raises:
            ValueError: the pool is not running.
        """
        self._check_running()
        future = self._submit(Call(func, tuple(args), dict(kwds or {})))
        return self._result([future], _only, callback, error_callback)

    # --- many ---------------------------------------------------------------------------------------------------------

    def map(self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int | None = None) -> list[R]:
        """``func`` of each item; returns when all have ended.

        Args:
            func: the function.
            iterable: the items; all are read first.
            chunksize: how many of them go together; by default there are four chunks for each process.

        Raises:
            ValueError: the pool is not running, or ``chunksize`` is less than 1.
            BaseException: as ``AsyncResult.get``.
        """
        __tracebackhide__ = True
        return self.map_async(func, iterable, chunksize).get()

    def starmap(
        self, func: Callable[..., R], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[R]:
        """As ``map``, with items that have the arguments of a call each: ``func(*item)``."""
        __tracebackhide__ = True
        return self.starmap_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[list[R]]:
        """As ``map``, returning at once; callbacks as those of ``apply_async``, with the whole list."""
        return self._map_async(func, iterable, chunksize, callback, error_callback, spread=False)

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult[list[R]]:
        """As ``starmap``, returning at once; callbacks as those of ``apply_async``, with the whole list."""
        return self._map_async(func, iterable, chunksize, callback, error_callback, spread=True)

    def _map_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callback | None,
        error_callback: Callback | None,
        *,
        spread: bool,
    ) -> AsyncResult[list[R]]:
        self._check_running()
        items: Any = iterable if isinstance(iterable, Sized) else list(iterable)
        if chunksize is None:
            size = max(1, -(-len(items) // (CHUNKS * self._processes)))
        else:
            size = whole_number("chunksize", chunksize, least=1)
        make = self._chunk_calls.of(func, spread=spread)
        futures = [self._submit(make(chunk)) for chunk in cut(items, ChunkSize(size, size))]
        return self._result(futures, _chained, callback, error_callback)

    def imap(self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator[R]:
        """As ``map``, with results one by one, in the order of the items, as they are there.

        Args:
            func: the function.
            iterable: the items. One without a length is read as results are taken, a few chunks ahead, until the pool
                is joined; the thread that reads it is not this one.
            chunksize: how many items go together.

        Raises:
            ValueError: the pool is not running, or ``chunksize`` is less than 1.
        """
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator[R]:
        """As ``imap``, with results in the order in which they are there."""
        return self._imap(func, iterable, chunksize, ordered=False)

    def _imap(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int, *, ordered: bool
    ) -> IMapIterator[R]:
        self._check_running()
        size = whole_number("chunksize", chunksize, least=1)
        make = self._chunk_calls.of(func, spread=False)
        reading = Reading(
            lambda chunk: self._submit(make(chunk)),
            cut(iterable, ChunkSize(size, size)),
            ahead=AHEAD * self._processes,
            lazy=not isinstance(iterable, Sized),
            ordered=ordered,
            at_once=type(iterable) in _AT_HAND and len(iterable) <= AT_ONCE * size,  # type: ignore[arg-type]
        )
        self._readings = [other for other in self._readings if not other.over]
        self._readings.append(reading)
        self._results.add(reading)
        return IMapIterator(reading)

    # --- its end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls; those that were taken run on. ``join`` waits for them."""
        if self._state == RUN:
            self._state = CLOSE

    def join(self) -> None:
        """Wait until all calls have ended, and give back what the pool has started.

        Raises:
            ValueError: the pool is running: ``close`` it, or ``terminate`` it.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state == CLOSE:
            for reading in self._readings:
                reading.finish()
            self._calls.wait()
            self._end()

    def terminate(self) -> None:
        """End at once, also calls that run. Results that are not there then raise ``TaskCancelledError``."""
        if self._state == TERMINATE:
            return
        self._state = TERMINATE
        for reading in self._readings:
            reading.stop()
        self._calls.close(ValueError("Pool not running"), cancel=True)
        with contextlib.suppress(RayConnectionError):  # the session has ended, and the calls with it
            self._places.end(self._calls.running())
        self._calls.wait()
        self._end()

    def _end(self) -> None:
        self._readings = []
        if self._session.is_own:
            for result in list(self._results):
                result.keep()
        self._places.close()
        self._session.end()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._state == RUN:
            _warn(f"unclosed running pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={self._processes}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # --- parts --------------------------------------------------------------------------------------------------------

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _submit(self, call: Call) -> RayFuture[Any]:
        future: RayFuture[Any] = RayFuture(self._calls, call)
        self._calls.add(future)
        return future

    def _result(
        self,
        futures: Sequence[RayFuture[Any]],
        joined: Callable[[list[Any]], R],
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> AsyncResult[R]:
        result = AsyncResult(futures, joined, callback, error_callback)
        if self._session.is_own:
            self._results.add(result)
        return result


def _only(values: list[Any]) -> Any:
    return values[0]


def _chained(values: list[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(values))
