"""The future of a call: of ``concurrent.futures``, and done without a thread as long as nobody wants to be told."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures._base import (
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from typing import Any, NamedTuple, Protocol, TypeVar

from ray.api.objects import get
from ray.clock import left_until, monotonic, perf_counter
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayConnectionError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.exceptions.base import cut_frames
from ray.runtime.completion import current_session, when_done
from ray.runtime.refs.futures import resolver
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import failure_of

R = TypeVar("R")
#: What a thread can wait for has an end.
_LONGEST_S = 1e9
#: What is told of a call whose worker has died.
_DEATHS = (WorkerCrashedError, OutOfMemoryError, RayActorError, NodeDiedError, ObjectLostError)


class Call(NamedTuple):
    """What runs, and with what."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Place(Protocol):
    """Where one call runs."""

    def submit(self, call: Call) -> ObjectRef[Any]:
        """Have it run there."""

    def free(self) -> None:
        """It has ended there; called under the runtime's lock."""


class Owner(Protocol):
    """What futures are of."""

    def advance(self) -> None:
        """Start what may start; returns at once."""

    def ended(self, future: RayFuture[Any]) -> None:
        """A call that was started has ended; called under the runtime's lock, on any thread."""


class RayFuture(concurrent.futures.Future[R]):
    """A ``concurrent.futures.Future``. While its call waits for a place it can be cancelled.

    ``result`` waits with ``ray.get``. That the call has ended is noted by one assignment, on the thread that takes the
    message. A thread of its own completes the future where others have asked to be told: by a callback, or in ``wait``
    and ``as_completed`` of ``concurrent.futures``.
    """

    def __init__(self, owner: Owner, call: Call) -> None:
        self._ended = False
        #: What the call came to, in a list, once it has been asked for.
        self._found: list[R] = []
        #: Why there is none, if that was kept.
        self._failure: BaseException | None = None
        #: Those who wait, as ``concurrent.futures`` notes them.
        self._told: list[Any] = []
        #: Whether the thread is to come; who takes the token out sends it.
        self._expected = False
        self._tokens: list[None] = []
        super().__init__()
        self._owner = owner
        self._call: Call | None = call
        self._ref: ObjectRef[R] | None = None
        self._hurried = False
        self._place: Place | None = None
        #: When the call was sent, and how long that took.
        self.sent_at = self.sent_s = 0.0

    # --- what ``concurrent.futures`` looks at -------------------------------------------------------------------------

    @property
    def _state(self) -> str:
        return FINISHED if self._ended else self._own_state

    @_state.setter
    def _state(self, state: str) -> None:
        self._own_state = state

    @property  # type: ignore[override]
    def _waiters(self) -> _Waiters:
        return _Waiters(self, self._told)

    @_waiters.setter
    def _waiters(self, waiters: list[Any]) -> None:
        self._told = waiters

    def _get_snapshot(self) -> tuple[bool, bool, R | None, BaseException | None]:
        """What asyncio copies from."""
        if not self.done() or self.cancelled():
            return self.done(), self.cancelled(), None, None
        error = self.exception(0)
        return True, False, None if error is not None else self.result(0), error

    def __repr__(self) -> str:
        state = self._state.lower().partition("_")[0]
        return f"<{type(self).__name__} at {id(self):#x} state={state}>"

    # --- what callers do ----------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Have the call not start; False if it has."""
        with self._condition:
            if self._state in (RUNNING, FINISHED):
                return False
            if self._state != PENDING:
                return True
            self._state = CANCELLED_AND_NOTIFIED
            self._call = None
            for waiter in self._told:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._settle()
        self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def result(self, timeout: float | None = None) -> R:
        """The value; as ``Future.result``.

        Raises:
            TimeoutError: not ready within ``timeout`` seconds.
            CancelledError: the call was cancelled before it started.
            BrokenExecutor: its worker has died.
            BlockingCallError: it would block the event loop of an async actor.
            RayError: as ``ray.get``; the error of a function is of its original type as well.
        """
        __tracebackhide__ = True
        if self._failure is not None:
            raise self._failure
        timeout = _bounded(timeout)
        ref = self._ref
        if not self._found:
            if ref is None:
                end = None if timeout is None else monotonic() + timeout
                self._await_start(timeout)
                ref = self._ref
                if ref is None:
                    return self._found[0] if self._found else super().result(0)
                timeout = left_until(end)
            try:
                self._found.append(get(ref, timeout))
            except RayError as error:
                cut_frames(error)
                if _is_death(error):
                    from ray.util.executor.broken import worker_died  # It takes multiprocessing.

                    raise worker_died(error) from error
                raise
            if self._ended:
                self._ref = None
        return self._found[0]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result`` would raise, or None; raises as it where the wait fails, or the call was cancelled."""
        timeout = _bounded(timeout)  # here: what is wrong with it is no error of the call
        try:
            self.result(timeout)
        except concurrent.futures.CancelledError as error:
            if self.cancelled():
                raise
            return error
        except TimeoutError as error:
            if type(error) is GetTimeoutError or not self.done():
                raise
            return error
        except Exception as error:
            return error
        return None

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> None:
        """Call ``fn`` with this future once it is done: at once if it is, else on a thread for such callbacks."""
        self._expect()
        super().add_done_callback(fn)
        if self.done():
            self._settle()

    # --- what the executor does ---------------------------------------------------------------------------------------

    def start(self, place: Place) -> bool:
        """Send the call; False if it was cancelled, or could not be sent, which is its error then."""
        with self._condition:
            call, self._call = self._call, None
            if call is None:
                return False
            self._state = RUNNING
            self._place = place
        self.sent_at = perf_counter()
        try:
            ref = place.submit(call)
        except BaseException as error:
            if isinstance(error, RayError) and _is_death(error):
                from ray.util.executor.broken import worker_died  # It takes multiprocessing.

                self.fail(worker_died(error))
                return False
            self.fail(error)
            if not isinstance(error, Exception):
                raise
            return False
        self.sent_s = perf_counter() - self.sent_at
        with self._condition:
            self._ref = ref
            self._condition.notify_all()
        return True

    def watch(self) -> None:
        """Have ``ended`` of the owner called, if only when this process takes messages anyway."""
        ref = self._ref
        if ref is not None:
            when_done(ref, self._has_ended, prompt=False)
            if self._expected:
                self.hurry()

    def hurry(self) -> None:
        """Have ``ended`` called without delay, if the call was started."""
        ref = self._ref
        if ref is not None and not (self._hurried or self._ended):
            self._hurried = True
            with contextlib.suppress(RayConnectionError):  # the session has ended, and the call with it
                when_done(ref, _nothing)

    def fail(self, error: BaseException) -> None:
        """The call cannot run, unless it was cancelled.

        The thread tells those who want to be told: this is called under the lock of the calls, which they may wait for.
        """
        with self._condition:
            if self.done():
                return
            self._call = None
            self._exception = error
            self._ended = True
            self._condition.notify_all()
        self._settle()

    def keep(self) -> None:
        """Have here what the call, which has ended, has come to."""
        try:
            self.result()
        except Exception as error:
            self._failure = error

    @property
    def ref(self) -> ObjectRef[R] | None:
        """Of the result, from when the call is sent until it has ended and was asked for."""
        return self._ref

    @property
    def place(self) -> Place | None:
        """Where it runs."""
        return self._place

    def _has_ended(self) -> None:
        self._ended = True
        if self._found:
            self._ref = None
        self._settle()
        self._owner.ended(self)

    def _await_start(self, timeout: float | None) -> None:
        """Wait until the call is sent, or will never be."""
        end = None if timeout is None else monotonic() + timeout
        self._owner.advance()
        if self._ref is None and timeout != 0 and not self.done():
            current_session().check_blocking("future.result")
        while not (self._is_sent() or self.done()):
            try:
                super().exception(left_until(end))
            except TimeoutError:
                if end is not None and monotonic() >= end and not self._is_sent():
                    raise
            except concurrent.futures.CancelledError:
                return

    def _is_sent(self) -> bool:
        return self._ref is not None

    # --- being told ---------------------------------------------------------------------------------------------------

    def _expect(self) -> None:
        """Have the thread there that completes this future."""
        with self._condition:
            if self._expected:
                return
            self._expected = True
        resolver.expect()
        self._tokens.append(None)
        self.hurry()

    def _settle(self) -> None:
        """Send the thread, once, if it is expected."""
        if self._tokens:
            try:
                self._tokens.pop()
            except IndexError:  # another thread has sent it
                return
            resolver.put(self)

    def resolve(self) -> None:
        """See ``Resolved``."""
        if not self._ended:  # it was cancelled
            return
        ref = self._ref  # None: the value is here, or there never will be one
        failed = self._exception is not None or (ref is not None and failure_of(ref) is not None)
        with self._condition:
            for waiter in self._told:
                if failed:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]


def _is_death(error: RayError) -> bool:
    return isinstance(error, _DEATHS) and not isinstance(error, RayTaskError)


def _bounded(timeout: float | None) -> float | None:
    """``timeout`` as something that can be waited for."""
    return None if timeout is None else min(_LONGEST_S, max(0.0, timeout))


def _nothing() -> None:
    """What is told is another callback."""


class _Waiters:
    """Who wants to be told of a future, as ``wait`` and ``as_completed`` of ``concurrent.futures`` use the list."""

    __slots__ = ("_future", "_told")

    def __init__(self, future: RayFuture[Any], told: list[Any]) -> None:
        self._future = future
        self._told = told

    def append(self, waiter: Any) -> None:
        future = self._future
        future._expect()
        self._told.append(waiter)
        if future.done():  # since it was looked at, or all of a list are to be told of
            future._settle()

    def remove(self, waiter: Any) -> None:
        self._told.remove(waiter)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._told)
