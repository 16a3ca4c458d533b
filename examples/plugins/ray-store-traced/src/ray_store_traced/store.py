"""A store in a dict that counts what is asked of it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import threading
from collections import Counter

from ray.abc.store import Store, StoreServer, StoreStats
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, RayConnectionError

SCHEME = "traced:"
#: Objects start at a multiple of this, as arrays like it.
ALIGNMENT_BYTES = 64

_log = logging.getLogger("ray_store_traced")


class _Object:
    """One object: its memory, and how many times it is held."""

    def __init__(self, nbytes: int) -> None:
        memory = bytearray(nbytes + ALIGNMENT_BYTES)
        start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % ALIGNMENT_BYTES
        self.view = memoryview(memory)[start : start + nbytes]
        self.writable: memoryview | None = self.view[:]
        self.holds = 0

    def end_writing(self) -> None:
        if self.writable is not None:
            with contextlib.suppress(BufferError):  # The creator still has a view of the view.
                self.writable.release()
            self.writable = None


class TracedStore(Store):
    """Objects of this process, in a dict. ``counts`` tells how often each operation was asked for."""

    name = "traced"

    def __init__(self, address: str, *, log: bool = False, report: str = "") -> None:
        """Open an empty store.

        Args:
            address: from a ``TracedStoreServer``.
            log: whether to log every operation.
            report: file to append the counts to when the store is closed; empty for none.
        """
        if not address.startswith(SCHEME):
            raise RayConnectionError(f"{address!r} is not the address of a traced store")
        #: {operation: how often}
        self.counts: Counter[str] = Counter()
        self._capacity_bytes = int(address.removeprefix(SCHEME))
        self._used_bytes = 0
        self._log = log
        self._report = report
        self._closed = False
        # Destructors of views may run anywhere, so also inside these methods.
        self._lock = threading.RLock()
        #: {object id: object}, created or sealed
        self._objects: dict[bytes, _Object] = {}
        #: {object id: objects deleted while held}, oldest first
        self._dying: dict[bytes, list[_Object]] = {}

    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        with self._lock:
            self._trace("create", object_id)
            if self._closed:
                raise RayConnectionError("the traced store of this process is closed")
            if object_id in self._objects:
                raise ObjectExistsError(object_id)
            if self._capacity_bytes and self._used_bytes + nbytes > self._capacity_bytes:
                raise ObjectStoreFullError(nbytes, self._capacity_bytes, self._used_bytes)
            created = self._objects[object_id] = _Object(nbytes)
            self._used_bytes += nbytes
            assert created.writable is not None
            return created.writable

    def seal(self, object_id: bytes) -> None:
        with self._lock:
            self._trace("seal", object_id)
            self._unsealed(object_id).end_writing()

    def abort(self, object_id: bytes) -> None:
        with self._lock:
            self._trace("abort", object_id)
            aborted = self._unsealed(object_id)
            aborted.end_writing()
            del self._objects[object_id]
            self._used_bytes -= aborted.view.nbytes

    def get(self, object_id: bytes) -> memoryview | None:
        with self._lock:
            self._trace("get", object_id)
            if not self._is_sealed(object_id):
                return None
            found = self._objects[object_id]
            found.holds += 1
            return found.view.toreadonly()

    def contains(self, object_id: bytes) -> bool:
        with self._lock:
            self._trace("contains", object_id)
            return self._is_sealed(object_id)

    def release(self, object_id: bytes) -> None:
        with self._lock:
            self._trace("release", object_id)
            dying = self._dying.get(object_id)
            if dying is None:
                held = self._objects.get(object_id)
                if held is not None and held.holds:
                    held.holds -= 1
                return
            dying[0].holds -= 1
            if not dying[0].holds:
                self._used_bytes -= dying.pop(0).view.nbytes
            if not dying:
                del self._dying[object_id]

    def delete(self, object_id: bytes) -> None:
        with self._lock:
            self._trace("delete", object_id)
            deleted = self._objects.pop(object_id, None)
            if deleted is None:
                return
            deleted.end_writing()
            if deleted.holds:
                self._dying.setdefault(object_id, []).append(deleted)
            else:
                self._used_bytes -= deleted.view.nbytes

    def stats(self) -> StoreStats:
        with self._lock:
            return StoreStats(len(self._objects), self._used_bytes, self._capacity_bytes)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._objects.clear()
            self._dying.clear()
            self._used_bytes = 0
            line = json.dumps({"pid": os.getpid(), **self.counts})
        if self._report:
            # One write to a file opened for appending: lines of several processes do not mix.
            with open(self._report, "ab", buffering=0) as file:
                file.write(f"{line}\n".encode())

    def _trace(self, operation: str, object_id: bytes) -> None:
        self.counts[operation] += 1
        if self._log:
            _log.info("%s %s", operation, object_id.hex())

    def _is_sealed(self, object_id: bytes) -> bool:
        found = self._objects.get(object_id)
        return found is not None and found.writable is None

    def _unsealed(self, object_id: bytes) -> _Object:
        found = self._objects.get(object_id)
        if found is None or found.writable is None:
            raise KeyError(f"the object {object_id.hex()} is not being created here")
        return found


class TracedStoreServer(StoreServer):
    """Owns nothing: its address tells every process how much its own store may hold."""

    def __init__(self, capacity_bytes: int) -> None:
        self.address = f"{SCHEME}{capacity_bytes}"

    def close(self) -> None:
        """Nothing to free."""
