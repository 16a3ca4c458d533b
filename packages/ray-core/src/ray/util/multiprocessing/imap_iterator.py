"""What ``imap`` and ``imap_unordered`` of a pool return, and the thread that reads what they are given."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, Self, TypeVar

from ray.clock import left_until, monotonic
from ray.runtime.process.interrupts import may_interrupt
from ray.threads import UnawaitedThread
from ray.util.executor.futures import RayFuture
from ray.util.multiprocessing.async_result import failure
from ray.util.multiprocessing.timeouts import ResultTimeoutError

R = TypeVar("R")


class Reading:
    """Submits the chunks of an iterable, on a thread of its own, so many ahead of those whose results were taken.

    The iterable may take as long as it likes: it may wait for the results of what it has given before.
    """

    def __init__(
        self,
        submit: Callable[[tuple[Any, ...]], RayFuture[list[Any]]],
        chunks: Iterator[tuple[Any, ...]],
        *,
        ahead: int,
        lazy: bool,
        ordered: bool,
        at_once: bool,
    ) -> None:
        """Make it, and start reading.

        Args:
            submit: has a chunk run.
            chunks: what the iterable is cut into.
            ahead: how many chunks may be under way that have not been taken, if ``lazy``.
            lazy: whether reading waits until results are taken.
            ordered: whether they are taken in the order of the chunks.
            at_once: read on this thread, as all items are at hand.
        """
        self._submit = submit
        self._chunks = chunks
        self._ahead = ahead
        self._lazy = lazy
        self._ordered = ordered
        self._changed = threading.Condition()
        #: What has not been taken: all in order; else what has ended.
        self._untaken: deque[RayFuture[list[Any]]] = deque()
        #: How many have not ended, of those for which that is noted.
        self._under_way = 0
        self._stopped = False
        self._abandoned = False
        #: Whether all was read, and what the iterable has raised.
        self._read = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if at_once:
            self._run()
            return
        self._thread = UnawaitedThread(target=self._run, name="ray-pool-imap", daemon=True)
        self._thread.start()

    # --- for the iterator ---------------------------------------------------------------------------------------------

    def take(self, timeout: float | None) -> RayFuture[list[Any]] | None:
        """The next chunk, which has ended unless they come in order; None: there are no more.

        Raises:
            multiprocessing.TimeoutError: there is none within ``timeout`` seconds.
            BaseException: what the iterable has raised, once.
        """
        with self._changed:
            if not _wait_for(self._changed, self._may_take, timeout):
                raise ResultTimeoutError(timeout, 1, 1)
            if self._untaken:
                future = self._untaken.popleft()
                if self._lazy:
                    self._changed.notify_all()
                return future
            error, self._error = self._error, None
            if error is not None:
                raise error
            return None

    def give_back(self, future: RayFuture[list[Any]]) -> None:
        """It has not ended in time: it comes next again."""
        self._untaken.appendleft(future)

    def _may_take(self) -> bool:
        return bool(self._untaken) or (self._read and not self._under_way)

    def abandon(self) -> None:
        """Nobody takes results any more: they are not kept."""
        with self._changed:
            self._abandoned = True
            self._untaken.clear()
            self._changed.notify_all()

    # --- for the pool -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Read no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def finish(self) -> None:
        """Read all, whether or not results are taken; waits for it."""
        with self._changed:
            self._lazy = False
            self._changed.notify_all()
            thread = self._thread
            if thread is not None:
                _wait_for(self._changed, lambda: self._read or not thread.is_alive(), None)

    def keep(self) -> None:
        """Have the results here, as the session is about to end."""
        with self._changed:
            untaken = list(self._untaken)
        for future in untaken:
            failure(future, None)

    @property
    def over(self) -> bool:
        """Whether all was read."""
        return self._read

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._await_room():
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._start(chunk)
        except BaseException as error:  # of the iterable, or the pool is broken: for the code that takes results
            self._error = error
        finally:
            with self._changed:
                self._read = True
                self._changed.notify_all()

    def _await_room(self) -> bool:
        with self._changed:
            if not self._has_room():
                self._changed.wait_for(self._has_room)
            return not self._stopped

    def _has_room(self) -> bool:
        if self._stopped:
            return True
        if self._abandoned:
            return self._under_way < self._ahead
        return not self._lazy or len(self._untaken) + self._under_way < self._ahead

    def _start(self, chunk: tuple[Any, ...]) -> None:
        future = self._submit(chunk)
        with self._changed:
            if self._ordered and not self._abandoned:
                self._untaken.append(future)
                self._changed.notify_all()
                return
            self._under_way += 1
        future.add_done_callback(self._one_ended)

    def _one_ended(self, future: Any) -> None:
        with self._changed:
            self._under_way -= 1
            if not self._ordered and not self._abandoned:
                self._untaken.append(future)
            self._changed.notify_all()


class IMapIterator(Generic[R]):
    """The results of a pool, as they are there. ``next`` takes a timeout."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._results: deque[R] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it is not there within ``timeout`` seconds; it can be asked for again.
            BaseException: what its call, or the iterable, has raised; the results after it can be asked for.
        """
        __tracebackhide__ = True
        end = None if timeout is None else monotonic() + timeout
        while not self._results:
            future = self._reading.take(left_until(end))
            if future is None:
                raise StopIteration
            try:
                error = failure(future, left_until(end))
            except TimeoutError:
                self._reading.give_back(future)
                raise ResultTimeoutError(timeout, 1, 1) from None
            except BaseException:  # Ctrl-C
                self._reading.give_back(future)
                raise
            if error is not None:
                raise error
            self._results.extend(future.result(0))
        return self._results.popleft()

    def __del__(self) -> None:
        reading = getattr(self, "_reading", None)
        if reading is not None:
            reading.abandon()


def _wait_for(changed: threading.Condition, holds: Callable[[], bool], timeout: float | None) -> bool:
    return changed.wait_for(holds, timeout)


may_interrupt(_wait_for.__code__)
