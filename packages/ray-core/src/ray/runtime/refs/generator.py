"""Results one by one: what a task yields becomes an object at once, and its refs are drawn from a generator.

One object is always there for what comes next. When it is complete and nothing follows it, that was the end: either a
failure, whose ref is given like any other, or the end of the generator.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar

from ray.exceptions.base import cut_wait
from ray.headroom import SENDING, check
from ray.protocol.references import READY
from ray.runtime.refs.not_a_list import NotAList
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import session_of
from ray.units import counted
from ray.whole_imports import import_whole

T_co = TypeVar("T_co", covariant=True)

#: A task that waits for its consumer is told of progress after so many objects, or when there are no more.
TELL_EVERY = 16


class Stream:
    """What a task has yielded and nobody has taken. Held by the generator; the task's record refers to it weakly."""

    __slots__ = ("__weakref__", "full", "refs", "taken", "tell", "told", "turn")

    def __init__(self, refs: Iterable[ObjectRef[Any]], tell: Callable[[Stream], None]) -> None:
        #: In order; the last one is that of the object which comes next, or of the end.
        self.refs = deque(refs)
        #: Told of progress, if the task waits for that.
        self.tell = tell
        self.taken = 0
        #: The task waits until more are taken than it was ``told`` of.
        self.full = False
        self.told = 0
        #: Held by the thread or coroutine that waits for the next one.
        self.turn = allocate_lock()


class ObjectRefGenerator(NotAList, Generic[T_co]):
    """The refs of what a task yields, as soon as they are ready: ``for ref in``, or ``async for ref in``.

    A failure ends it: the last ref is that of the error, which ``ray.get`` raises. For one consumer, which may be slow:
    the task waits when it is far ahead. Dropping the generator, or ``close``, cancels the task.
    """

    __slots__ = ("_stream",)

    #: Read by ``ray.serialization.culprit``.
    _instead_of_pickling: ClassVar[str] = (
        "Give each of its references to a call, as in [f.remote(ref) for ref in stream], or all of them to one: "
        "f.remote(list(stream))."
    )

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ObjectRef[T_co]:
        refs = self._stream.refs
        if refs:
            self._begin()
            try:
                if refs:
                    runtime = session_of(refs[0])
                    if not runtime.is_done(refs[0]):
                        runtime.wait_for_next(refs[0])
                ref = self._take()
            except BaseException as error:
                cut_wait(error)
                raise
            finally:
                self._stream.turn.release()
            if ref is not None:
                return ref
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, ObjectRef[T_co]]:
        return self._next()

    async def _next(self) -> ObjectRef[T_co]:
        import_whole("ray.runtime.refs.awaiting")  # asyncio takes long
        from ray.runtime.refs.awaiting import wait_for_ref

        refs = self._stream.refs
        if refs:
            self._begin()
            try:
                if refs:
                    await wait_for_ref(refs[0])
                ref = self._take()
            finally:
                self._stream.turn.release()
            if ref is not None:
                return ref
        raise StopAsyncIteration

    def _begin(self) -> None:
        if not self._stream.turn.acquire(False):
            raise RuntimeError(
                "An ObjectRefGenerator has one consumer, and another one waits for its next ref: draw the refs in one "
                "place, and hand them on from there."
            )

    def _take(self) -> ObjectRef[T_co] | None:
        """The first ref, which is done; None at the end."""
        stream = self._stream
        if not stream.refs:  # it was closed, or another consumer came to its end
            return None
        if len(stream.refs) == 1:
            last = stream.refs.pop()
            return last if last._entry.status != READY else None
        if stream.full:
            check(SENDING)  # before the ref is out
        ref = stream.refs.popleft()
        stream.taken += 1
        if stream.full and (len(stream.refs) == 1 or stream.taken - stream.told >= TELL_EVERY):
            session_of(ref)  # which may have ended
            stream.tell(stream)
        return ref

    def close(self) -> None:
        """Cancel the task and forget what it has yielded; no effect at the end. Refs already given stay."""
        refs = self._stream.refs
        if refs:
            last = refs[-1]
            refs.clear()
            session_of(last).cancel(last, False, True)

    async def aclose(self) -> None:
        """``close``, for ``contextlib.aclosing``; it waits for nothing."""
        self.close()

    def __repr__(self) -> str:
        return f"<ObjectRefGenerator, {counted(len(self._stream.refs), 'ref')} ahead>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "An ObjectRefGenerator is a stream for one consumer, and cannot be pickled: pass on the refs that it gives."
        )
