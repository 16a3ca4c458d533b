"""What ``apply_async``, ``map_async`` and ``starmap_async`` of a pool return."""

from __future__ import annotations

import concurrent.futures
import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ray.api.objects import get
from ray.clock import left_until, monotonic
from ray.exceptions import RayError, TaskCancelledError
from ray.runtime.process.interrupts import may_interrupt
from ray.util.executor.futures import RayFuture
from ray.util.multiprocessing.timeouts import ResultTimeoutError

R = TypeVar("R")


class AsyncResult(Generic[R]):
    """The result of calls that were started.

    It is ready once all of them have ended, and the callback has been called. If calls have failed, it is the error of
    the first one in the order of the items.
    """

    def __init__(
        self,
        futures: Sequence[RayFuture[Any]],
        joined: Callable[[list[Any]], R],
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        """Make it.

        Args:
            futures: of the calls.
            joined: what makes the result of the values of all of them.
            callback: called with the result, on a thread for such callbacks.
            error_callback: called with the error instead.
        """
        self._futures = futures
        self._joined = joined
        self._callback = callback
        self._error_callback = error_callback
        #: The value, or the error, once it was looked at.
        self._outcome: tuple[R, None] | tuple[None, BaseException] | None = None
        self._calling: _Calling | None = None
        if futures and (callback is not None or error_callback is not None):
            self._calling = _Calling(self, len(futures))
            for future in futures:
                future.add_done_callback(self._calling.one_ended)

    def get(self, timeout: float | None = None) -> R:
        """The result; waits for it.

        Raises:
            multiprocessing.TimeoutError: it is not there within ``timeout`` seconds.
            TaskCancelledError: the pool was terminated.
            BrokenExecutor: the worker of a call has died; ``terminate`` of a pool with an initializer ends it, too.
            RayError: as ``ray.get``; the error of a function is of its original type as well.
        """
        __tracebackhide__ = True
        if not self._await(timeout):
            raise ResultTimeoutError(timeout, len(self._futures), len(self._futures))
        outcome = self._outcome
        assert outcome is not None
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is ready, or for ``timeout`` seconds."""
        self._await(timeout)

    def ready(self) -> bool:
        """Whether ``get`` would return, or raise, at once."""
        if self._calling is not None and not self._calling.over():
            return False
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Whether there is no error.

        Raises:
            ValueError: it is not ready.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._await(None)
        return self._outcome is not None and self._outcome[1] is None

    def keep(self) -> None:
        """Have the outcome here, as the session is about to end."""
        self._look(None)

    def _await(self, timeout: float | None) -> bool:
        end = None if timeout is None else monotonic() + max(0.0, timeout)
        if not self._look(end):
            return False
        return self._calling is None or self._calling.wait(left_until(end))

    def _look(self, end: float | None) -> bool:
        """Wait for the calls; False: they have not all ended in time."""
        if self._outcome is not None:
            return True
        futures = self._futures
        if end is None and len(futures) > 1:
            refs = [ref for future in futures if (ref := future.ref) is not None]
            if len(refs) == len(futures):
                with contextlib.suppress(RayError):  # those that fail are told apart below
                    self._outcome = self._joined(get(refs)), None  # at once, which costs less than one by one
                    self._futures = ()
                    return True
        values, first = [], None
        for future in futures:
            try:
                error = failure(future, left_until(end))
            except TimeoutError:
                return False
            if error is None:
                values.append(future.result(0))
            first = first or error
        try:
            self._outcome = (self._joined(values), None) if first is None else (None, first)
        finally:
            self._futures = ()
        return True

    def call(self) -> None:
        """Have the callback called."""
        self._look(None)
        outcome = self._outcome
        assert outcome is not None
        if outcome[1] is None:
            if self._callback is not None:
                self._callback(outcome[0])
        elif self._error_callback is not None:
            self._error_callback(outcome[1])


class _Calling:
    """Has the callback of a result called, once, after the last call; the result is ready after that."""

    def __init__(self, result: AsyncResult[Any], left: int) -> None:
        #: The program may have dropped it, and wants the callback nevertheless.
        self._result: AsyncResult[Any] | None = result
        self._left = left
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = 0

    def one_ended(self, _: object) -> None:
        with self._lock:
            self._left -= 1
            result = self._result
            if self._left or result is None:
                return
            self._result = None
        self._thread = threading.get_ident()
        try:
            result.call()
        except BaseException:  # the program's code; the thread calls others as well
            sys.excepthook(*sys.exc_info())
        finally:
            self._over.set()

    def over(self) -> bool:
        return self._over.is_set() or self._thread == threading.get_ident()

    def wait(self, timeout: float | None) -> bool:
        """Until it was called; not in the callback itself."""
        return self.over() or self._over.wait(timeout)


may_interrupt(_Calling.wait.__code__)


def failure(future: RayFuture[Any], timeout: float | None) -> BaseException | None:
    """Why a call has failed, or None; waits for its end.

    Raises:
        TimeoutError: not within ``timeout`` seconds.
    """
    try:
        return future.exception(timeout)
    except concurrent.futures.CancelledError:
        return TaskCancelledError(reason="its pool was terminated before it started")
