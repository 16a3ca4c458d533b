"""The worker's side of a stream: each object goes to its owner at once, and the task waits for a slow consumer."""

from __future__ import annotations

import contextlib
import inspect
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ray.ids import edition_of, node_number, object_id, stored_id
from ray.messages import codec, wire
from ray.protocol.references import LARGE_BYTES
from ray.runtime.owner.away import AWAY_BYTES
from ray.runtime.process.waiting import Waiter
from ray.runtime.returns import pack, streamable
from ray.runtime.worker.outcome import NOTHING_LARGE, Large
from ray.runtime.worker.storing import leave_result, store_results_on_loop
from ray.serialization import Serialized, serialize, serialize_small

if TYPE_CHECKING:
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.values import Values
    from ray.runtime.process.peers import Peer

#: How far a task may be ahead of its consumer: each object counts 1, and 1 more per ``_UNIT_BYTES``.
MAX_AHEAD = 256
_UNIT_BYTES = 1 << 16

_FROM_THE_START = wire.Resume(0, [])


def size_ahead(nbytes: int) -> int:
    """What an object of that size counts."""
    return 1 + nbytes // _UNIT_BYTES


class Host(Protocol):
    """The process of a task that yields."""

    here: Here
    lock: Any
    values: Values
    borrowing: Borrowing

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool: ...


class Call(Protocol):
    """The task that yields, as it runs."""

    task: wire.Task
    peer: Peer
    stream: Yielding | None
    cancelled: bool
    timed_out: bool
    noticed: bool
    interruptible: bool

    @property
    def worker(self) -> Host: ...
    @property
    def coroutine(self) -> object: ...
    def notice(self) -> None: ...


class Yielding:
    """What one call has yielded, and earlier attempts before it."""

    __slots__ = ("_ahead", "_call", "_count", "_sizes", "_skipped", "_taken", "_waiter")

    def __init__(self, call: Call) -> None:
        resumed = call.task.resume or _FROM_THE_START
        self._call = call
        self._count = 0
        #: So many are there already, from earlier attempts.
        self._skipped = resumed.streamed
        self._taken = resumed.streamed - len(resumed.ahead)
        #: What each object that is not taken counts, and their sum.
        self._sizes = deque(size_ahead(nbytes) for nbytes in resumed.ahead)
        self._ahead = sum(self._sizes)
        self._waiter: Waiter | None = None

    def drain(self, values: Any) -> None:
        """Send what a generator yields, on this thread."""
        call = self._call
        for value in streamable(values):
            call.interruptible = False  # an object must not be lost half-way between this process and its owner
            self._send(value)
            call.interruptible = True
            self._check()  # an interrupt that came meanwhile was ignored
            while self._is_full():
                self._wait()

    async def drain_async(self, values: Any) -> None:
        """Send what a generator, of either kind, yields; on a loop, which has its turns in between."""
        import asyncio

        if not hasattr(values, "__aiter__"):
            for value in streamable(values):
                large = self._send_small(value)
                if large:
                    await self._send_large(large)
                await asyncio.sleep(0)
                while self._is_full():
                    await self._wait_async()
            return
        try:
            async for value in values:
                large = self._send_small(value)
                if large:
                    await self._send_large(large)
                while self._is_full():
                    await self._wait_async()
        finally:
            if inspect.isasyncgen(values):
                await values.aclose()

    def _send(self, value: object) -> None:
        values = self._call.worker.values
        for id, large in self._send_small(value):
            if self._call.peer.near:
                values.store_result(id, large)
                self._tell(None, large.refs, large.nbytes)
            else:
                self._leave(id, large, patient=values.spills)

    def _leave(self, id: bytes, large: Serialized, *, patient: bool) -> None:
        """Store a value for an owner on another node, which reads it here; without room for it, it goes there now."""
        left = leave_result(self._call.worker.values, id, large, patient=patient)
        self._tell(None if left else large.to_bytes(), large.refs, large.nbytes)

    async def _send_large(self, large: Large) -> None:
        """Send a value that goes into the node's store, for whose room the loop does not wait."""
        import asyncio

        values = self._call.worker.values
        id, value = large[0]
        if not self._call.peer.near:
            self._leave(id, value, patient=False)
            return
        refs, nbytes = value.refs, value.nbytes
        del value  # it borrows memory of the user's
        if await store_results_on_loop(values, large):
            values.discard([id])
            raise asyncio.CancelledError
        self._tell(None, refs, nbytes)

    def _send_small(self, value: object) -> Large:
        """Send a value, unless it is to be in the node's store before: then it is returned, with the object's id."""
        if self._count < self._skipped:
            self._count += 1
            return NOTHING_LARGE
        blob = serialize_small(value)
        if blob is not None and len(blob) < LARGE_BYTES:
            self._tell(blob, [], len(blob))
            return NOTHING_LARGE
        serialized = serialize(value) if blob is None else Serialized(blob, [])
        values, peer = self._call.worker.values, self._call.peer
        kept = values.shared if peer.near else values.serves and not peer.is_guest
        if kept and serialized.nbytes >= (LARGE_BYTES if peer.near else AWAY_BYTES):
            return [(self._next_key(), serialized)]
        self._tell(serialized.to_bytes(), serialized.refs, serialized.nbytes)
        return NOTHING_LARGE

    def _next_key(self) -> bytes:
        """What the node's store has the next object under."""
        return stored_id(object_id(self._call.task.id, self._count), self._edition())

    def _edition(self) -> int:
        return 0 if self._call.peer.near else edition_of(self._call.task.attempt)

    def _tell(self, blob: bytes | None, inner: list[Any], nbytes: int) -> None:
        """Tell the owner of the next object, whose value is this, or in the node's store."""
        worker, peer = self._call.worker, self._call.peer
        frames: list[Any] = [b""]
        data = None if blob is None else codec.attach(blob, frames)
        with worker.lock:
            try:
                self._check()
            except BaseException:
                if data is None:
                    worker.values.discard([self._next_key()])
                raise
            self._sizes.append(size_ahead(nbytes))
            self._ahead += self._sizes[-1]
            refs = worker.borrowing.hand_over([ref._entry for ref in inner], peer)
            full = self._ahead >= MAX_AHEAD
            away = None
            if data is None and not peer.near:
                away = wire.At(node_number(worker.here.process_id), nbytes, self._edition())
            peer.send(wire.Yielded(self._call.task.id, self._count, data, refs, nbytes, full, away), frames)
        self._count += 1

    def _check(self) -> None:
        """Raise if nobody wants more. On a loop, where the task is cancelled too, only when it has seen that."""
        call = self._call
        if call.peer.lost:
            raise ConnectionError("the process that consumes this generator is gone")
        if call.noticed or (call.coroutine is None and (call.cancelled or call.timed_out)):
            call.notice()
            raise KeyboardInterrupt

    def _is_full(self) -> bool:
        return self._ahead >= MAX_AHEAD and self._count >= self._skipped

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        worker = self._call.worker
        with worker.lock:
            self._check()
            if not self._is_full():
                return
            waiter = self._waiter = Waiter(1)
        worker.block(waiter, None)
        self._check()

    async def _wait_async(self) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        worker, gate = self._call.worker, asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(gate.set)

        with worker.lock:
            self._check()
            if not self._is_full():
                return
            waiter = self._waiter = Waiter(1)
            waiter.wake = wake
        await gate.wait()
        self._check()

    def taken(self, count: int) -> None:
        """The consumer has taken so many in all; called under the lock."""
        while self._taken < count and self._sizes:
            self._taken += 1
            self._ahead -= self._sizes.popleft()
        if self._ahead < MAX_AHEAD:
            self.look()

    def look(self) -> None:
        """A task that waits for its consumer is to look again; called under the lock."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.count()


def yielding_of(call: Call) -> Yielding:
    """What a call yields, or will: its consumer may take what earlier attempts have yielded before it begins."""
    with call.worker.lock:
        if call.stream is None:
            call.stream = Yielding(call)
        return call.stream


async def first_of(values: Any, count: int) -> Iterator[Any]:
    """The first ``count`` values of an async generator, each as it was yielded, and one more; it is closed then."""
    found: list[Any] = []
    try:
        while len(found) <= count:
            found.append(pack(await anext(values)))
    except StopAsyncIteration:
        pass
    finally:
        await values.aclose()
    return iter(found)
