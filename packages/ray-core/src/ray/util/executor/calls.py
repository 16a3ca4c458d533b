"""What an executor has to run: in order, so many at a time."""

from __future__ import annotations

import atexit
import queue
import sys
import threading
import weakref
from collections import deque
from typing import Any, Protocol

from ray.api.objects import wait
from ray.clock import perf_counter
from ray.exceptions import RayConnectionError
from ray.runtime.refs.ref import ObjectRef
from ray.threads import UnawaitedThread
from ray.util.executor.futures import Place, RayFuture
from ray.util.executor.window import Window

#: The thread that starts calls ends when none has waited for this long.
LINGER_S = 0.2


class Places(Protocol):
    """Where the calls of an executor run."""

    def find(self) -> Place:
        """A place for one more call, which is to be submitted there, or freed.

        Raises:
            BrokenExecutor: there are none any more.
        """


class Source(Protocol):
    """What makes calls by and by; asked under the lock of the calls."""

    def next(self) -> RayFuture[Any] | None:
        """One to start, or None: there are no more."""

    def cancel(self) -> None:
        """Make no more, and cancel what has not been started."""


class Calls:
    """Starts calls, as many at a time as there are to be. The rest waits.

    What starts them: the thread that submits one, the thread that waits for one, and one of its own while some wait.
    """

    def __init__(self, places: Places, window: Window, *, outlives: bool = True, keeps: bool = False) -> None:
        """Make it.

        Args:
            places: where calls run.
            window: how many at a time.
            outlives: whether what was added is run before the program ends.
            keeps: whether ``keep`` is going to be called.
        """
        self._places = places
        self._window = window
        #: User code may run under it, which pickles arguments, and finalisers.
        self.lock = threading.RLock()
        self._waiting: deque[RayFuture[Any] | Source] = deque()
        #: {id: future} of the calls that have been started and have not ended.
        self._running: dict[int, RayFuture[Any]] = {}
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        #: Futures of calls that have been started, if the program may ask for their results after the session's end.
        self._kept: weakref.WeakSet[RayFuture[Any]] | None = weakref.WeakSet() if keeps else None
        #: Why nothing more may be added.
        self._closed: Exception | None = None
        if outlives:
            _keep_in_mind(self)

    def add(self, work: RayFuture[Any] | Source) -> None:
        """Have it run.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenExecutor: it is broken.
        """
        with self.lock:
            if self._closed is not None:
                raise self._closed
            if isinstance(work, RayFuture) and not self._waiting and len(self._running) < self._window.size:
                self._start(work)
                return
            self._waiting.append(work)
            self.advance()
            if self._waiting:
                self._see_to_the_rest()
                for future in list(self._running.values()):
                    future.hurry()

    def advance(self) -> None:
        """See ``Owner``."""
        if not self._waiting:
            return
        with self.lock:
            while self._waiting and len(self._running) < self._window.size:
                first = self._waiting[0]
                if isinstance(first, RayFuture):
                    self._waiting.popleft()
                    self._start(first)
                    continue
                if len(self._running) >= self._window.chunks:
                    break
                future = first.next()
                if future is not None:
                    self._start(future)
                elif self._waiting and self._waiting[0] is first:
                    self._waiting.popleft()
            self._dismiss()

    def _start(self, future: RayFuture[Any]) -> None:
        if future.cancelled():
            return
        try:
            place = self._places.find()
        except Exception as error:
            future.fail(error)
            self.close(error, cancel=False)
            self._fail_waiting(error)
            return
        started = False
        try:
            started = future.start(place)
        finally:
            if not started:
                place.free()
        if not started:
            return
        if self._kept is not None:
            self._kept.add(future)
        self._running[id(future)] = future
        try:
            future.watch()
            if self._waiting:
                future.hurry()
        except RayConnectionError as error:  # the session has ended meanwhile
            future.fail(error)
            self.ended(future)

    def ended(self, future: RayFuture[Any]) -> None:
        """See ``Owner``."""
        place = future.place
        if place is not None:
            place.free()
        self._running.pop(id(future), None)
        try:
            first = self._waiting[0]
        except IndexError:
            return
        if isinstance(first, RayFuture):
            self._window.learn(perf_counter() - future.sent_at)
            if len(self._running) > self._window.low:
                return
        self._wakes.put(None)

    def running(self) -> list[ObjectRef[Any]]:
        """What the calls make that have been started and have not ended."""
        with self.lock:
            return [ref for future in list(self._running.values()) if (ref := future.ref) is not None]

    def close(self, reason: Exception, *, cancel: bool) -> None:
        """Refuse more with ``reason``; ``cancel``: what waits does not start any more."""
        with self.lock:
            if self._closed is None:
                self._closed = reason
            waiting = list(self._waiting) if cancel else []
            if cancel:
                self._waiting.clear()
                self._dismiss()
        for work in waiting:
            work.cancel()

    def _fail_waiting(self, error: Exception) -> None:
        while self._waiting:
            work = self._waiting.popleft()
            if isinstance(work, RayFuture):
                work.fail(error)
                continue
            while (future := work.next()) is not None:
                future.fail(error)
        self._dismiss()

    def keep(self) -> None:
        """Have the results here, as the session is about to end."""
        for future in list(self._kept or ()):
            future.keep()

    def wait(self) -> None:
        """Return when all has ended; what waits is started by and by."""
        while True:
            self.advance()
            with self.lock:
                if not self._running and not self._waiting:
                    return
                refs = self.running()
            try:
                wait(refs, len(refs))
            except RayConnectionError:  # the session has ended, and they with it
                return

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _see_to_the_rest(self) -> None:
        """Have the thread there; called under the lock."""
        if self._thread is None or not self._thread.is_alive():  # not alive: in a forked child
            thread = UnawaitedThread(target=self._run, name="ray-executor", daemon=True)
            thread.start()
            self._thread = thread

    def _dismiss(self) -> None:
        """Let the thread go if nothing waits; called under the lock."""
        if not self._waiting and self._thread is not None:
            self._wakes.put(None)

    def _run(self) -> None:
        while True:
            try:
                self._wakes.get(timeout=None if self._waiting else LINGER_S)
            except queue.Empty:
                with self.lock:
                    if not self._waiting:
                        self._thread = None
                        return
            try:
                self.advance()
            except BaseException:  # code of the program's, which runs as arguments are pickled
                sys.excepthook(*sys.exc_info())
                self._wakes.put(None)  # for the calls after that one


#: All of this process; those that have calls are held by these.
_calls: weakref.WeakSet[Calls] = weakref.WeakSet()
_registered = False


def _keep_in_mind(calls: Calls) -> None:
    global _registered
    _calls.add(calls)
    if not _registered:  # only now that there is a session, as what is registered last runs first
        _registered = True
        atexit.register(_finish)


def _finish() -> None:
    """As executors of the standard library do: what was submitted is run before the program ends.

    Not after Ctrl-C that nobody has caught: what runs ends with the session.
    """
    if issubclass(getattr(sys, "last_type", None) or object, KeyboardInterrupt):
        return
    for calls in list(_calls):
        calls.wait()
