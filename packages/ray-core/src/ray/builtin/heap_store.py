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
from ray.held_objects import HeldObjects
from ray.units import counted

SCHEME = "heap:"
#: Objects of this size and more get pages of their own, so that buffers inside them are aligned as numpy likes.
ALIGNED_FROM_BYTES = 64 * 1024
#: From here on the kernel is asked for huge pages: touching them for the first time is several times faster.
_HUGE_FROM_BYTES = 4 * 1024 * 1024
_HOLDERS_NAMED = 5


class _Buffer:
    """One object and its users."""

    __slots__ = ("memory", "nbytes", "unreleased", "writable")

    def __init__(self, nbytes: int, memory: bytearray | mmap.mmap) -> None:
        self.nbytes = nbytes
        #: Unmapped when the last view of it has gone, whatever the accounting says.
        self.memory: bytearray | mmap.mmap | None = memory
        #: The creator's view; None once the object is sealed.
        self.writable: memoryview | None = memoryview(self.memory)
        self.unreleased = 0

    def __repr__(self) -> str:
        if self.writable is not None:
            return "not sealed"
        return f"held {self.unreleased} times" if self.unreleased else "not held"


class HeapStore(Store):
    """Objects in this process. A view stays valid as long as Python sees it, even after ``release``."""

    name = "heap"
    capabilities = frozenset[str]()

    def __init__(self, capacity_bytes: int = 0) -> None:
        """Make an empty store.

        Args:
            capacity_bytes: what its objects may take together; 0 for no limit.
        """
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._held: HeldObjects[_Buffer] = HeldObjects()
        #: {object id: buffer}, created or sealed; what is deleted while it is held is put aside.
        self._objects = self._held.current
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
            holders = "" if nbytes > self._capacity_bytes else self._biggest_holders()
            raise ObjectStoreFullError(nbytes, self._capacity_bytes, self._used_bytes, holders)
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
        buffer.unreleased += 1
        return memoryview(memory).toreadonly()

    def contains(self, object_id: bytes) -> bool:
        buffer = self._objects.get(object_id)
        return buffer is not None and buffer.writable is None

    def release(self, object_id: bytes) -> None:
        buffer = self._held.release(object_id)
        if buffer is not None and not buffer.unreleased and self._objects.get(object_id) is not buffer:
            self._free(buffer)

    def delete(self, object_id: bytes) -> None:
        buffer = self._held.put_aside(object_id)
        if buffer is not None and not buffer.unreleased:
            view, buffer.writable = buffer.writable, None
            _invalidate(view)
            self._free(buffer)

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
        self._held.clear()
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
        everything += [(object_id, buffer) for object_id, aside in self._held.aside.items() for buffer in aside]
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
