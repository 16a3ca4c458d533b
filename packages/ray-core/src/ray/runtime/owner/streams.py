"""Results one by one: what a task yields becomes an object at once, and its refs are drawn from a generator.

One object is always there for what comes next. When it is complete and nothing follows it, that was the end: either a
failure, whose ref is given like any other, or the end of the generator.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Self, TypeVar

from ray.abc.transport import Frame
from ray.exceptions import RemoteProtocolError
from ray.exceptions.base import cut_wait
from ray.headroom import SENDING, check
from ray.ids import OBJECT_ID_BYTES, object_id
from ray.messages import codec, wire
from ray.protocol.references import PENDING, READY, STORED, ObjectEntry, complete
from ray.runtime.owner.here import OwnerBase
from ray.runtime.owner.records import Link, TaskRecord
from ray.runtime.refs.not_a_list import NotAList
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import session_of
from ray.units import counted
from ray.whole_imports import import_whole

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.process.peers import Peer

T_co = TypeVar("T_co", covariant=True)

#: A worker that waits for its consumer is told of progress after so many objects, or when there are no more.
TELL_EVERY = 16


class Stream:
    """What a task has yielded and nobody has taken. Held by the generator; the task's record refers to it weakly."""

    __slots__ = ("__weakref__", "full", "record", "refs", "taken", "told", "turn")

    def __init__(self, refs: Iterable[ObjectRef[Any]], record: TaskRecord | None = None) -> None:
        #: In order; the last one is that of the object which comes next, or of the end.
        self.refs = deque(refs)
        self.record = record
        self.taken = 0
        #: The worker waits until more are taken than it was ``told`` of.
        self.full = False
        self.told = 0
        #: Held by the thread or coroutine that waits for the next one.
        self.turn = allocate_lock()

    def resume(self, streamed: int) -> wire.Resume:
        """What the next attempt has to know; called under the lock."""
        self.full = True  # it may wait at once; before the look at what is there, which the consumer takes meanwhile
        ahead = [ref._entry for ref in list(self.refs)[:-1]]
        return wire.Resume(streamed, [nbytes_of(entry) for entry in ahead])


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
            session_of(ref).taken(stream)
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


def nbytes_of(entry: ObjectEntry) -> int:
    """The size of a value that a task has yielded."""
    nbytes: int = entry.value if entry.status == STORED else len(entry.value or b"")
    return nbytes


class Streaming(OwnerBase):
    """The streaming methods of an owner."""

    def register_stream(self, record: TaskRecord) -> ObjectRefGenerator[Any]:
        """A generator for the results of a new task; called under the lock."""
        import weakref

        entry = self.table.own(object_id(record.id))
        entry.task = record
        record.entries = (entry,)
        stream = Stream([ObjectRef(entry)], record)
        record.stream = weakref.ref(stream)
        return ObjectRefGenerator(stream)

    def on_yielded(
        self, peer: Peer, message: wire.Yielded, frames: Sequence[Frame], claim: Callable[[Sequence[Frame]], bool]
    ) -> None:
        """A task has yielded an object; called under the lock.

        A call that interrupts this handles the same message, and those behind it: objects come in order. ``claim`` says
        whether nobody has, and that nobody is to from now on.
        """
        record = peer.sink.inflight.get(message.task) if peer.sink is not None else None
        stream = record.stream() if record is not None and not record.done else None
        if record is None or stream is None or not stream.refs or message.index > record.streamed:
            if claim(frames):
                self._drop_yielded(peer, message)  # the consumer has left, or the lease of the worker has ended
            return
        data = None if message.data is None else codec.detach(message.data, frames)
        following = ObjectEntry(object_id(record.id, message.index + 1), self.table)
        ref: ObjectRef[Any] = ObjectRef(following)
        entries = (following,)
        if message.index < record.streamed:
            return  # a call that has interrupted this one, or was interrupted by it, takes it
        if record.done:
            if claim(frames):
                self._drop_yielded(peer, message)
            return
        # From here on no call comes between, until it is in the stream: before anybody is woken who looks what follows.
        entry = record.entries[0]
        record.streamed = message.index + 1
        record.entries = entries
        following.task = record
        self.table.entries[following.id] = following
        stream.full = message.full
        stream.refs.append(ref)
        self.objects.receive_refs(entry, message.refs, credits=1)
        if data is None:
            self.objects.stored(entry, message.nbytes)
        else:
            complete(entry, READY, data)
            if record.attempt:  # as ``finish`` does
                self.objects.discard([entry.id])
        entry.task = record.name

    def _drop_yielded(self, peer: Peer, message: wire.Yielded) -> None:
        id = object_id(message.task, message.index)
        if len(id) != OBJECT_ID_BYTES:
            raise RemoteProtocolError(f"a task with an id of {len(message.task)} bytes")
        entry = ObjectEntry(id, self.table, peer.address)
        entry.freed = True
        self.objects.receive_refs(entry, message.refs, credits=1)
        kept = self.table.entries.get(id)
        if (
            message.data is None
            and (kept is None or kept.status == PENDING)
            and not self._runs_elsewhere(peer, message)
        ):
            self.objects.discard([id])

    def _runs_elsewhere(self, peer: Peer, message: wire.Yielded) -> bool:
        """Whether the worker is heard late, and another attempt has come, which stores what has the same ids."""
        places: list[Link | ActorClient] = [*self.tasks.links.values(), *self.calls.clients.values()]
        return any(message.task in place.inflight and place is not peer.sink for place in places)

    def taken(self, stream: Stream) -> None:
        """The consumer has taken objects that the worker waits to hear of."""
        record = stream.record
        if record is None:
            return
        with self.lock:
            peer = None if record.done else getattr(record.link, "peer", None)
            if peer is not None:
                stream.told = stream.taken
                peer.send(wire.Taken(record.id, stream.taken))

    def unwanted(self, entry: ObjectEntry) -> None:
        """Nobody holds the object that comes next in a stream: nobody wants it; called under the lock."""
        self.cancel_entry(entry, False, True)
