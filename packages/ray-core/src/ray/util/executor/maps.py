"""``map`` of an executor: items in chunks, whose results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

from ray.clock import left_until
from ray.util.chunking import ChunkSize, Outcome, cut, results_of, zipped
from ray.util.executor.calls import Calls
from ray.util.executor.futures import Call, RayFuture

Pack: TypeAlias = Callable[[Sequence[Any]], tuple[Any, ...]]


class Chunks:
    """The calls of one map, made as there is room for them: a ``Source``."""

    def __init__(self, calls: Calls, runs: Callable[..., Any], items: list[Any], pack: Pack, size: ChunkSize) -> None:
        """Make them.

        Args:
            calls: of the executor.
            runs: runs a chunk.
            items: taken by whichever thread starts calls.
            pack: makes arguments of a chunk of them.
            size: of the chunks.
        """
        self._calls = calls
        self._runs = runs
        self._pack = pack
        self._chunks = cut(items, size)
        #: Those the consumer waits for, and has not been given; in order.
        self._unstarted: deque[RayFuture[Outcome]] = deque()
        self._untaken: deque[RayFuture[Outcome]] = deque()
        self._cancelled = False

    def next(self) -> RayFuture[Outcome] | None:
        """See ``Source``."""
        if self._cancelled:
            return None
        if self._unstarted:
            return self._unstarted.popleft()
        future = self._cut()
        if future is not None:
            self._untaken.append(future)
        return future

    def take(self) -> RayFuture[Outcome] | None:
        """The next one for the consumer, started or not; None: there are no more."""
        with self._calls.lock:
            if self._untaken:
                return self._untaken.popleft()
            future = self._cut()
            if future is not None:
                if self._cancelled:
                    future.cancel()
                self._unstarted.append(future)
            return future

    def cancel(self) -> None:
        """See ``Source``."""
        with self._calls.lock:
            self._cancelled = True
            for future in (*self._unstarted, *self._untaken):
                future.cancel()

    def _cut(self) -> RayFuture[Outcome] | None:
        chunk = next(self._chunks, None)
        return None if chunk is None else RayFuture(self._calls, Call(self._runs, self._pack(chunk), {}))


def eager(
    calls: Calls, runs: Callable[..., Any], iterables: Sequence[Iterable[Any]], size: ChunkSize, end: float | None
) -> Iterator[Any]:
    """Results of items that are all taken now: chunks start as there is room, whether or not results are taken."""
    items, pack = zipped(iterables)
    source = Chunks(calls, runs, list(items), pack, size)
    calls.add(source)
    return _results(source, size, end)


def _results(source: Chunks, size: ChunkSize, end: float | None) -> Iterator[Any]:
    try:
        while (future := source.take()) is not None:
            outcome = future.result(left_until(end))
            size.learn(len(outcome.results), max(outcome.seconds, future.sent_s))
            del future
            yield from results_of(outcome)
    finally:
        source.cancel()


def buffered(
    calls: Calls,
    runs: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    size: ChunkSize,
    end: float | None,
    buffersize: int,
) -> Iterator[Any]:
    """Results of items that are taken as results are: at most ``buffersize`` chunks ahead of them."""
    items, pack = zipped(iterables)

    def submit(chunk: Sequence[Any]) -> RayFuture[Outcome]:
        future: RayFuture[Outcome] = RayFuture(calls, Call(runs, pack(chunk), {}))
        calls.add(future)
        return future

    futures = map(submit, cut(items, size))
    return _buffered(deque(islice(futures, buffersize)), futures, end)


def _buffered(
    ahead: deque[RayFuture[Outcome]], futures: Iterator[RayFuture[Outcome]], end: float | None
) -> Iterator[Any]:
    try:
        while ahead:
            outcome = ahead.popleft().result(left_until(end))
            ahead.extend(islice(futures, 1))
            yield from results_of(outcome)
    finally:
        for future in ahead:
            future.cancel()
