"""The store of a process that shares nothing: objects are buffers in its own memory.

Every value then lives in its owner's process and travels to others through the transport. It is also the model that the
other stores are tested against.
"""

from __future__ import annotations

import contextlib
import heapq
import mmap
from typing import Any

from ray.abc.store import Store, StoreServer, StoreStats
from ray.builtin.warm_pages import WarmPages
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, RayConnectionError
from ray.units import counted

SCHEME = "heap:"
#: Objects of this size and more get pages of their own, so that buffers inside them are aligned as numpy likes.
ALIGNED_FROM_BYTES = 64 * 1024
#: From here on the kernel is asked for huge pages: touching them for the first time is several times faster.
_HUGE_FROM_BYTES = 4 * 1024 * 1024
_HOLDERS_NAMED = 5


class _Buffer:
    """One object and who uses it."""

    __slots__ = ("holds", "memory", "nbytes", "writable")

    def __init__(self, nbytes: int, memory: bytearray | mmap.mmap) -> None:
        self.nbytes = nbytes
        #: Unmapped when the last view of it has gone, whatever the accounting says.
        self.memory: bytearray | mmap.mmap | None = memory
        #: The creator's view; None once the object is sealed.
        self.writable: memoryview | None = memoryview(self.memory)
        self.holds = 0

    def __repr__(self) -> str:
        if self.writable is not None:
            return "not sealed"
        return f"held {self.holds} times" if self.holds else "not held"


class HeapStore(Store):
    """Objects in this process. A view stays valid as long as Python sees it, even after ``release``."""

    name = "heap"
    capabilities = frozenset[str]()

    def __init__(self, capacity_bytes: int = 0) -> None:
        """Make an empty store.

        Args:
            capacity_bytes: what its objects may take together; 0 for no limit.
        """
        # There is no lock: a finaliser that the garbage collector runs, or a signal handler, may interrupt what has it,
        # and wait for a thread that waits for it. So what is decided, and what is done about it, follow one another
        # without a call in between: nothing comes there, and no other thread.
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        #: {object id: buffer}, created or sealed
        self._objects: dict[bytes, _Buffer] = {}
        #: {object id: buffers deleted while held}, oldest first
        self._dying: dict[bytes, tuple[_Buffer, ...]] = {}
        self._warm = WarmPages()
        self._closed = False

    @classmethod
    def open(cls, address: str) -> HeapStore:
        """A store of this process, with the capacity that the node's ``HeapStoreServer`` was given."""
        if not address.startswith(SCHEME):
            raise ConnectionError(f"{address!r} is not the address of a heap store")
        return cls(int(address.removeprefix(SCHEME)))

    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        if self._closed:
            raise RayConnectionError("the heap store of this process is closed")
        if object_id in self._objects:
            raise ObjectExistsError(object_id)
        if self._capacity_bytes and self._used_bytes + nbytes > self._capacity_bytes:
            raise ObjectStoreFullError(nbytes, self._capacity_bytes, self._used_bytes, self._biggest_holders())
        self._used_bytes += nbytes
        try:
            memory = self._warm.take(nbytes) or _allocate(nbytes)
            buffer = _Buffer(nbytes, memory)
            if object_id in self._objects:  # another call was quicker
                raise ObjectExistsError(object_id)
            self._objects[object_id] = buffer
        except BaseException as error:
            self._used_bytes -= nbytes
            if not isinstance(error, OSError):
                raise
            capacity = self._capacity_bytes
            raise ObjectStoreFullError(nbytes, capacity, self._used_bytes, "the machine has no memory") from error
        assert buffer.writable is not None
        return buffer.writable

    def seal(self, object_id: bytes) -> None:
        buffer = self._unsealed(object_id)
        view, buffer.writable = buffer.writable, None
        _invalidate(view)

    def abort(self, object_id: bytes) -> None:
        buffer = self._unsealed(object_id)
        del self._objects[object_id]
        self._used_bytes -= buffer.nbytes
        _invalidate(buffer.writable)

    def get(self, object_id: bytes) -> memoryview | None:
        buffer = self._objects.get(object_id)
        if buffer is None or buffer.writable is not None:
            return None
        memory = buffer.memory
        if memory is None:  # it was deleted a moment ago
            return None
        buffer.holds += 1
        return memoryview(memory).toreadonly()

    def contains(self, object_id: bytes) -> bool:
        buffer = self._objects.get(object_id)
        return buffer is not None and buffer.writable is None

    def release(self, object_id: bytes) -> None:
        while True:
            before, current = self._dying.get(object_id, ()), self._objects.get(object_id)
            for buffer in (*before, current):
                if buffer is not None and buffer.holds:
                    buffer.holds -= 1
                    if not buffer.holds and buffer in before:
                        self._bury(object_id)
                        self._free(buffer)
                    return
            if (
                (self._dying[object_id] if object_id in self._dying else ()) is before  # noqa: SIM401 - no call
                and (self._objects[object_id] if object_id in self._objects else None) is current  # noqa: SIM401
            ):
                return

    def _bury(self, object_id: bytes) -> None:
        """Forget what was deleted and is not held."""
        while True:
            before = self._dying.get(object_id, ())
            after = tuple([buffer for buffer in before if buffer.holds])
            if (self._dying[object_id] if object_id in self._dying else ()) is before:  # noqa: SIM401 - that would be a call
                if after:
                    self._dying[object_id] = after
                elif before:
                    del self._dying[object_id]
                return

    def delete(self, object_id: bytes) -> None:
        while (buffer := self._objects.get(object_id)) is not None:
            before = self._dying.get(object_id, ())
            after = (*before, buffer)
            if (
                object_id in self._objects
                and self._objects[object_id] is buffer
                and (self._dying[object_id] if object_id in self._dying else ()) is before  # noqa: SIM401 - that would be a call
            ):
                del self._objects[object_id]
                if buffer.holds:
                    self._dying[object_id] = after
                    return
                view, buffer.writable = buffer.writable, None
                _invalidate(view)
                self._free(buffer)
                return

    def _free(self, buffer: _Buffer) -> None:
        memory, buffer.memory = buffer.memory, None
        if memory is None:
            return
        self._used_bytes -= buffer.nbytes
        if isinstance(memory, mmap.mmap):
            holder = [memory]
            del memory
            self._warm.give(holder)

    def stats(self) -> StoreStats:
        return StoreStats(len(self._objects), self._used_bytes, self._capacity_bytes)

    def close(self) -> None:
        self._closed = True
        self._objects.clear()
        self._dying.clear()
        self._warm.clear()
        self._used_bytes = 0

    def _unsealed(self, object_id: bytes) -> _Buffer:
        buffer = self._objects.get(object_id)
        if buffer is None or buffer.writable is None:
            state = "sealed already" if buffer else "not created here"
            raise KeyError(f"the object {object_id.hex()} is {state}")
        return buffer

    def _biggest_holders(self) -> str:
        everything = list(self._objects.items())
        everything += [(object_id, buffer) for object_id, dying in self._dying.items() for buffer in dying]
        biggest = heapq.nlargest(_HOLDERS_NAMED, everything, key=lambda item: item[1].nbytes)
        named = ", ".join(f"{object_id.hex()} {buffer.nbytes:,} bytes {buffer!r}" for object_id, buffer in biggest)
        return f"{counted(len(everything), 'object')}, the biggest: {named}" if everything else "it is empty"


class HeapStoreServer(StoreServer):
    """Owns nothing: it tells every process how much its own heap store may hold."""

    def __init__(self, capacity_bytes: int = 0) -> None:
        self.address = f"{SCHEME}{capacity_bytes}"

    def close(self) -> None:
        """Nothing to free."""


def _allocate(nbytes: int) -> bytearray | mmap.mmap:
    if nbytes < ALIGNED_FROM_BYTES:
        return bytearray(nbytes)
    # Private, where the platform can: an anonymous map is shared by default, and slower to touch.
    flags: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    memory = mmap.mmap(-1, nbytes, **flags)
    if nbytes >= _HUGE_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _invalidate(view: memoryview | None) -> None:
    """End the creator's view; where slices of it are still in use, they end with their users."""
    if view is not None:
        with contextlib.suppress(BufferError):
            view.release()
