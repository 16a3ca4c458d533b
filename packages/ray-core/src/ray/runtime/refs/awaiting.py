"""Refs on event loops: ``await``, callbacks and futures.

The thread that takes a message completes the object under the runtime's lock and leaves a note for the loop. A loop
that has notes is woken once, however many come, and takes a bounded number of them per turn. Values are unpickled where
they are asked for, never on the thread that took the message; what has gone to a disk is read back by other threads
first.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import weakref
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from ray.exceptions import RayError
from ray.exceptions.base import cut_frames, is_a
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.session import Arriving, Listener, Source, session_of, value_of

R = TypeVar("R")

#: Notes taken in one turn of a loop: what else is due there need not wait for thousands.
NOTES_PER_TURN = 100


class LoopNotes:
    """The notes for one loop; posted from any thread, taken on the loop's."""

    __slots__ = ("__weakref__", "_loop", "_posted", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: Weak, because the loop is the key under which this object is found.
        self._loop = weakref.ref(loop)
        self._posted: deque[LoopListener] = deque()
        #: The loop is about to look.
        self._woken = False

    def post(self, note: LoopListener) -> None:
        """Have ``note.arrived`` called on the loop; without effect if the loop is closed."""
        self._posted.append(note)
        if not self._woken:
            self._woken = True
            loop = self._loop()
            try:
                if loop is not None:
                    # A context of its own: it must not keep, or show, that of the thread that takes messages.
                    loop.call_soon_threadsafe(self._take, context=contextvars.Context())
                    return
            except RuntimeError:  # closed: nobody waits there any more
                pass
            self._posted.clear()
            self._woken = False

    def _take(self) -> None:
        posted = self._posted
        for _ in range(min(len(posted), NOTES_PER_TURN)):
            posted.popleft().arrived()
        if not posted:
            self._woken = False
            if not posted or self._woken:  # else one was posted just now, by a thread that saw the flag set
                return
            self._woken = True
        loop = self._loop()
        if loop is not None:
            loop.call_soon(self._take, context=contextvars.Context())


_notes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopNotes] = weakref.WeakKeyDictionary()


def notes_of(loop: asyncio.AbstractEventLoop) -> LoopNotes:
    """The one object per loop; called on the loop's thread."""
    notes = _notes.get(loop)
    if notes is None:
        notes = _notes[loop] = LoopNotes(loop)
    return notes


class LoopListener(Listener):
    """Is told of a completion on a loop."""

    __slots__ = ("_notes",)

    def __init__(self, ref: CountedRef[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(ref)
        self._notes = notes_of(loop)

    def told(self) -> None:
        self._notes.post(self)

    def arrived(self) -> None:
        """The object is ready or failed; called on the loop."""
        raise NotImplementedError


def _refuse(future: asyncio.Future[Any], error: Exception) -> None:
    def fail() -> None:
        if not future.done():
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed
        future.get_loop().call_soon_threadsafe(fail, context=contextvars.Context())


class _Awaiter(LoopListener):
    """Resolves a future that has no value: the coroutine that awaits it looks at the object."""

    __slots__ = ("_future",)

    def __init__(self, ref: CountedRef[Any], future: asyncio.Future[None]) -> None:
        super().__init__(ref, future.get_loop())
        self._future = future

    def future(self) -> asyncio.Future[Any]:
        return self._future

    def refuse(self, error: Exception) -> None:
        _refuse(self._future, error)

    def arrived(self) -> None:
        if not self._future.done():  # else its task was cancelled meanwhile
            self._future.set_result(None)


def await_ref(ref: CountedRef[R]) -> Generator[Any, None, R]:
    """What ``ref.__await__`` returns."""
    runtime = session_of(ref)
    if not runtime.is_done(ref):
        try:
            yield from _wait(ref, runtime)
        except BaseException as error:  # cancelled, most likely as another one has failed that is waited for beside it
            runtime.asked_for((ref,))
            cut_frames(error)
            raise
    spilled = runtime.on_disk(ref)
    if spilled is not None:
        yield from _wait(ref, spilled)
    try:
        value: R = runtime.get_one(ref, 0) if spilled is None else spilled.value()
    except RayError as error:
        cut_frames(error)
        raise
    return value


def _wait(ref: CountedRef[Any], source: Source) -> Generator[Any, Any, None]:
    """Wait until ``source`` tells a listener."""
    loop = asyncio._get_running_loop()
    if loop is None:
        from ray.runtime.refs.trio_await import await_on_trio

        yield from await_on_trio(ref, source)
        return
    future: asyncio.Future[None] = loop.create_future()
    listener = _Awaiter(ref, future)
    if source.subscribe(listener):
        try:
            yield from future
        finally:
            if not future.done() or future.cancelled():
                source.unsubscribe(listener)


class wait_for_ref:  # noqa: N801 - used like a coroutine function
    """Awaited until the object is ready or failed; looks into no value."""

    __slots__ = ("_ref",)

    def __init__(self, ref: CountedRef[Any]) -> None:
        self._ref = ref

    def __await__(self) -> Generator[Any, Any, None]:
        runtime = session_of(self._ref)
        if not runtime.is_done(self._ref):
            yield from _wait(self._ref, runtime)


def current_loop() -> asyncio.AbstractEventLoop:
    """The running loop, else the one that was set for this thread and is to run later. Makes none.

    Raises:
        RuntimeError: there is neither.
    """
    loop = asyncio._get_running_loop()
    if loop is None and sys.version_info >= (3, 14):
        loop = asyncio.get_event_loop()  # it makes none there
    elif loop is None:
        loop = getattr(getattr(asyncio.get_event_loop_policy(), "_local", None), "_loop", None)
    if loop is None:
        raise RuntimeError(
            "There is no running event loop, and none was set for this thread: call this in a coroutine, or after "
            "asyncio.set_event_loop(loop)."
        )
    return loop


class _DoneCallback(LoopListener):
    """A function that is to be called with the ref."""

    __slots__ = ("_context", "_loop", "function")

    def __init__(
        self,
        ref: CountedRef[Any],
        function: Callable[[Any], object],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        super().__init__(ref, loop)
        self.function = function
        self._loop = loop
        self._context = contextvars.copy_context() if context is None else context

    def arrived(self) -> None:
        # Not called from here: it may raise, and it may take long.
        self._loop.call_soon(self.function, self.ref, context=self._context)


def add_done_callback(
    ref: CountedRef[Any], function: Callable[[Any], object], context: contextvars.Context | None
) -> None:
    """See ``ObjectRef``."""
    loop = current_loop()
    listener = _DoneCallback(ref, function, loop, context)
    try:
        waits = session_of(ref).subscribe(listener)
    except ConnectionError:  # of an ended session: done, and its result says so
        waits = False
    if not waits:
        listener.arrived()


def remove_done_callback(ref: CountedRef[Any], function: Callable[[Any], object]) -> int:
    """See ``ObjectRef``."""
    found = [
        waiter
        for waiter in list(ref._entry.waiters or ())
        if type(waiter) is _DoneCallback and waiter.function == function
    ]
    for listener in found:
        session_of(ref).unsubscribe(listener)
    return len(found)


class _FutureListener(LoopListener):
    """Gives an asyncio future its value."""

    __slots__ = ("_future", "_spilled")

    def __init__(self, ref: CountedRef[Any], future: asyncio.Future[Any]) -> None:
        super().__init__(ref, future.get_loop())
        self._future = future
        #: Told by the session that the object is complete, it waits for this one.
        self._spilled: Arriving | None = None

    def future(self) -> asyncio.Future[Any]:
        return self._future

    def refuse(self, error: Exception) -> None:
        _refuse(self._future, error)

    def arrived(self) -> None:
        future = self._future
        if future.done():
            return
        try:
            if self._spilled is not None:
                future.set_result(self._spilled.value())
            elif (spilled := session_of(self.ref).on_disk(self.ref)) is None:
                future.set_result(value_of(self.ref))
            else:
                self._spilled = spilled
                spilled.subscribe(self)
                future.add_done_callback(lambda _: spilled.unsubscribe(self))
        except Exception as error:
            if is_a(error, RayError):
                cut_frames(error)
            future.set_exception(error)


def deliver(ref: CountedRef[Any], future: asyncio.Future[Any]) -> None:
    """See ``completion.deliver``."""
    runtime = session_of(ref)
    listener = _FutureListener(ref, future)
    if runtime.subscribe(listener):
        future.add_done_callback(lambda future: runtime.unsubscribe(listener) if future.cancelled() else None)
    else:
        listener.arrived()


def as_future(ref: CountedRef[R]) -> asyncio.Future[R]:
    """See ``ObjectRef``."""
    session_of(ref)
    future: asyncio.Future[R] = current_loop().create_future()
    deliver(ref, future)
    return future
