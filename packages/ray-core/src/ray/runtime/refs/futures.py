"""``ref.future()``: refs as futures of ``concurrent.futures``.

Their callbacks are the user's code, which may take long and may call ``ray``: one thread per process runs them, for as
long as there are such futures. Results are unpickled on the thread that asks for them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import sys
import threading
from typing import Any, Generic, Protocol, TypeVar

from ray.clock import left_until, monotonic
from ray.exceptions import GetTimeoutError, RayError
from ray.exceptions.base import cut_frames
from ray.headroom import SENDING, check
from ray.protocol.references import FAILED, PENDING
from ray.runtime.process.interrupts import may_interrupt
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.session import Listener, session_of, value_of
from ray.threads import UnawaitedThread

R = TypeVar("R")
Ref = TypeVar("Ref", bound=CountedRef[Any])

may_interrupt(concurrent.futures.Future.exception.__code__)

#: The thread ends when there has been no future for this long.
LINGER_S = 0.2
#: Stands for any failure until it is asked for; never seen by the user.
_FAILED = RuntimeError("the object has failed")


class RefFuture(concurrent.futures.Future[R], Generic[R, Ref]):
    """The future of an object. Cancelling it leaves the task alone; it never says that it is running."""

    def __init__(self, ref: Ref) -> None:
        check(SENDING)
        super().__init__()
        self.object_ref = ref
        self._found: list[R] = []
        self._runtime = session_of(ref)
        #: Until this future is done; the two hold each other.
        self._listener: _FutureListener | None = _FutureListener(self)
        resolver.expect()
        try:
            waits = self._runtime.subscribe(self._listener)
        except BaseException:  # the session is about to end
            resolver.put(self)
            raise
        if not waits:
            resolver.put(self)

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return f"<RefFuture of {self.object_ref!r}, {state}>"

    def cancel(self) -> bool:
        """Give up this future, not the task. False if it, or the object, is done."""
        if self.object_ref._entry.status != PENDING and not self.cancelled():
            return False  # the thread that says so to this future may still have to come to it
        check(SENDING)
        if not super().cancel():
            return False
        listener = self._listener
        if listener is not None and self._runtime.unsubscribe(listener):
            self.set_running_or_notify_cancel()
            resolver.put(self)
        return True

    def result(self, timeout: float | None = None) -> R:
        """The value; as ``Future.result``.

        Raises:
            TimeoutError: not ready within ``timeout`` seconds.
            CancelledError: this future was cancelled.
            BlockingCallError: it would block the event loop of an async actor.
            RayError: as ``ray.get``.
        """
        end = None if timeout is None else monotonic() + timeout
        self._await(timeout)
        if not self._found:
            try:
                self._found.append(value_of(self.object_ref, left_until(end)))
            except RayError as error:
                cut_frames(error)
                raise
        return self._found[0]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result`` would raise, or None; raises as it where the wait fails."""
        end = None if timeout is None else monotonic() + timeout
        self._await(timeout)
        try:
            self.result(left_until(end))
        except Exception as error:
            if type(error) is GetTimeoutError:  # its way from another node takes longer
                raise
            cut_frames(error)  # see ``failure_of``
            return error
        return None

    def _await(self, timeout: float | None) -> None:
        if timeout != 0 and not self.done():
            self._runtime.check_blocking("future().result")
            if resolver.is_this_thread():  # in a callback: nobody else would complete this future
                if self.object_ref._entry.status == PENDING:
                    self._runtime.wait([self.object_ref], 1, timeout)
                if self.object_ref._entry.status != PENDING:
                    self.resolve()
                timeout = 0
            elif timeout is None:
                self._runtime.wait_for_future(self.object_ref, self._is_done_in)
        super().exception(timeout)

    def _is_done_in(self, timeout: float | None) -> bool:
        try:
            super().exception(timeout)
        except TimeoutError:
            return False
        return True

    def resolve(self) -> None:
        """See ``Resolved``."""
        self._listener = None
        failed = self.object_ref._entry.status in (FAILED, PENDING)  # pending: never made, in local mode
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled
            if failed:
                self.set_exception(_FAILED)
            else:
                self.set_result(None)  # type: ignore[arg-type]


class _FutureListener(Listener):
    __slots__ = ("_future",)

    def __init__(self, future: RefFuture[Any, Any]) -> None:
        super().__init__(future.object_ref)
        self._future = future

    def told(self) -> None:
        resolver.put(self._future)


class Resolved(Protocol):
    """A future that the thread completes."""

    def resolve(self) -> None:
        """Complete it, unless it is, and run its callbacks."""


class _Resolver:
    """The thread that completes futures, and the futures that it is to complete."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Resolved] = queue.SimpleQueue()
        self._lock = threading.RLock()  # a finaliser may come while a thread is started
        self._thread: threading.Thread | None = None
        #: Futures that will be put into the queue.
        self._expected = 0

    def expect(self) -> None:
        """A future will be put once."""
        with self._lock:
            self._expected += 1
            if self._thread is None or not self._thread.is_alive():  # not alive: in a forked child
                thread = UnawaitedThread(target=self._run, name="ray-futures", daemon=True)
                try:
                    thread.start()
                except BaseException:
                    self._expected -= 1
                    raise
                self._thread = thread

    def is_this_thread(self) -> bool:
        """Whether a callback runs here."""
        return threading.current_thread() is self._thread

    def put(self, future: Resolved) -> None:
        """Have ``future`` completed, unless it is cancelled. Never blocks."""
        self._queue.put(future)

    def _run(self) -> None:
        while True:
            try:
                future = self._queue.get(timeout=None if self._expected else LINGER_S)
            except queue.Empty:
                with self._lock:
                    if not self._expected:
                        self._thread = None
                        return
                continue
            with self._lock:
                self._expected -= 1
            try:
                future.resolve()
            except BaseException:  # a callback of the user's tried to end the program
                sys.excepthook(*sys.exc_info())
            del future  # it holds the object


resolver = _Resolver()
