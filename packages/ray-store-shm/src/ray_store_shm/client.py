"""A process's handle on the shm store of its node."""

from __future__ import annotations

import builtins
import contextlib
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ray.abc.store import LISTING, NOTIFICATIONS, SHARED, Listing, Notifier, Store, StoredObject, StoreStats
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, RayConnectionError
from ray_store_shm import messages, segments
from ray_store_shm.link import Link
from ray_store_shm.messages import MAX_PACKET_BYTES, Answer, Counted, Found, Listed, Refused, Reserved
from ray_store_shm.process import SCHEME, raise_descriptor_limit
from ray_store_shm.segments import Piece, Segments


class _Unsealed(NamedTuple):
    serial: int
    fd: int
    memory: mmap.mmap
    view: memoryview


class Held:
    """A sealed object that this process has mapped. Its holds end when it is released and its last view has gone."""

    __slots__ = ("_memory", "_store", "_token", "holds", "object_id", "owed", "serial")

    def __init__(self, store: ShmStore, object_id: bytes, serial: int, memory: mmap.mmap) -> None:
        self.object_id = object_id
        self.serial = serial
        #: How often the broker has counted this process.
        self.holds = 1
        #: How many ``get`` have no ``release`` yet.
        self.owed = 1
        self._store = store
        self._token = [None]
        self._memory = weakref.ref(memory, self._unmapped)

    def memory(self) -> mmap.mmap | None:
        """The mapping, if some view of it is left."""
        return self._memory()

    def settle(self) -> None:
        """Tell the broker when nobody needs it any more; once."""
        if not self.owed and self._memory() is None:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self._token.pop()
                self._store.end_holds(self)

    def _unmapped(self, memory: weakref.ref[mmap.mmap]) -> None:
        """The last view has gone; called on whatever thread that was, maybe by the garbage collector."""
        self.settle()


class ShmStore(Store, Notifier, Listing):
    """Two connections for all threads of the process, so that who waits for room holds up nobody else."""

    name = "shm"
    capabilities = frozenset({SHARED, NOTIFICATIONS, LISTING})

    def __init__(self, address: str, kind: Segments | None = None) -> None:
        """Connect.

        Args:
            address: of a ``ShmStoreServer``.
            kind: how memory is made; as the server's.

        Raises:
            RayConnectionError: there is no broker.
        """
        if not address.startswith(SCHEME):
            raise RayConnectionError(f"{address!r} is not the address of a shm store")
        self._kind = kind or segments.of_this_system()
        self._limit = raise_descriptor_limit()
        path = address.removeprefix(SCHEME)
        self._reads = Link(path)
        try:
            self._makes = Link(path)
        except BaseException:
            self._reads.close()
            raise
        # Re-entrant: the garbage collector may run a destructor that releases or deletes while this thread has it.
        self._lock = threading.RLock()
        self._unsealed: dict[bytes, _Unsealed] = {}
        self._held: dict[bytes, Held] = {}
        #: {object id: what is deleted and not released}, oldest first
        self._dying: dict[bytes, builtins.list[Held]] = {}
        #: Everything that is mapped, so that it hears when its last view goes.
        self._mapped: set[Held] = set()
        #: Objects that nobody here needs any more since the last time somebody looked.
        self._gone: deque[Held] = deque()
        #: Those of them that the broker could not be told of, since the socket was full.
        self._unsaid: deque[Held] = deque()

    # --- making -------------------------------------------------------------------------------------------------------

    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        serial = self._reserve(object_id, nbytes)
        try:
            fd = self._kind.make(nbytes)
        except OSError as error:
            raise self._no_memory(serial, nbytes, error) from error
        memory = segments.map_for_writing(fd, nbytes)
        view = memoryview(memory)[:nbytes]
        with self._lock:
            self._unsealed[object_id] = _Unsealed(serial, fd, memory, view)
        return view

    def put(self, object_id: bytes, pieces: Sequence[Piece], nbytes: int) -> None:
        serial = self._reserve(object_id, nbytes)
        try:
            fd = self._kind.make(nbytes)
        except OSError as error:
            raise self._no_memory(serial, nbytes, error) from error
        try:
            segments.write(fd, pieces)
        except BaseException as error:
            os.close(self._kind.seal(fd))
            if isinstance(error, OSError):
                raise self._no_memory(serial, nbytes, error) from error
            self._makes.tell(messages.Abort(serial))
            raise
        self._pass_on(serial, fd)

    def seal(self, object_id: bytes) -> None:
        """See ``Store.seal``. Slices of the creator's view that are still in use must go first.

        Raises:
            BufferError: there are some; the object stays unsealed.
        """
        with self._lock:
            unsealed = self._find_unsealed(object_id)
            unsealed.view.release()
            try:
                unsealed.memory.close()
            except BufferError:
                view = memoryview(unsealed.memory)
                self._unsealed[object_id] = unsealed._replace(view=view)
                raise BufferError(
                    f"the object {object_id.hex()} cannot be sealed: slices of its memory are still in use"
                ) from None
            del self._unsealed[object_id]
        self._pass_on(unsealed.serial, unsealed.fd)

    def abort(self, object_id: bytes) -> None:
        with self._lock:
            unsealed = self._find_unsealed(object_id)
            del self._unsealed[object_id]
        self._let_go(unsealed)
        self._makes.tell(messages.Abort(unsealed.serial))

    def _find_unsealed(self, object_id: bytes) -> _Unsealed:
        unsealed = self._unsealed.get(object_id)
        if unsealed is None:
            raise KeyError(f"the object {object_id.hex()} is not being written here, or is sealed already")
        return unsealed

    def _reserve(self, object_id: bytes, nbytes: int) -> int:
        reply, _ = self._makes.ask(lambda number: messages.Reserve(number, object_id, nbytes))
        if isinstance(reply, Reserved):
            return reply.serial
        if not isinstance(reply, Refused):
            raise RayConnectionError(f"the shm store answers a request for room with {reply}")
        if reply.why == "exists":
            raise ObjectExistsError(object_id)
        if reply.why == "descriptors":
            text = (
                f"each object takes a descriptor, and its process may have {reply.text} for them; raise the hard limit "
                "of open files ('ulimit -Hn'), or use store='plasma'"
            )
        else:
            text = f"{reply.text}; objects are not spilled here: use store='plasma' for that"
        raise ObjectStoreFullError(nbytes, self.stats().capacity_bytes, reply.used_bytes, text)

    def _no_memory(self, serial: int, nbytes: int, error: OSError) -> ObjectStoreFullError:
        self._makes.tell(messages.Abort(serial))
        text = f"the system refuses: {error}"
        if error.errno in (23, 24):  # ENFILE, EMFILE
            text = (
                f"this process may have {self._limit} open files; raise the limit ('ulimit -n'), or use store='plasma'"
            )
        stats = self.stats()
        return ObjectStoreFullError(nbytes, stats.capacity_bytes, stats.used_bytes, text)

    def _pass_on(self, serial: int, fd: int) -> None:
        sealed = self._kind.seal(fd)
        try:
            self._makes.tell(messages.Seal(serial), sealed)
        finally:
            os.close(sealed)

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, object_id: bytes) -> memoryview | None:
        with self._lock:
            self._tidy()
            held = self._held.get(object_id)
            memory = held.memory() if held is not None else None  # keeps it from going meanwhile
            known = held.serial if held is not None and memory is not None else 0
            reply, fd = self._reads.ask(lambda number: messages.Get(number, object_id, known))
            if not isinstance(reply, Found):
                return None
            if held is not None and memory is not None and reply.serial == held.serial:
                held.holds += 1
                held.owed += 1
            else:
                try:
                    memory = segments.map_for_reading(fd, reply.nbytes)
                except OSError as error:
                    self._reads.tell(messages.Release(reply.serial, 1))
                    raise ObjectStoreFullError(reply.nbytes, 0, 0, f"it cannot be mapped: {error}") from error
                finally:
                    os.close(fd)
                self._put_aside(object_id)
                held = self._held[object_id] = Held(self, object_id, reply.serial, memory)
                self._mapped.add(held)
            return memoryview(memory)[: reply.nbytes]

    def contains(self, object_id: bytes) -> bool:
        reply, _ = self._reads.ask(lambda number: messages.Contains(number, object_id))
        return isinstance(reply, Answer) and reply.yes

    def release(self, object_id: bytes) -> None:
        with self._lock:
            self._tidy()
            dying = self._dying.get(object_id)
            held = dying[0] if dying else self._held.get(object_id)
            if held is None or not held.owed:
                return
            held.owed -= 1
            if not held.owed and dying:
                del dying[0]
                if not dying:
                    del self._dying[object_id]
            held.settle()

    def delete(self, object_id: bytes) -> None:
        with self._lock:
            unsealed = self._unsealed.pop(object_id, None)
            self._put_aside(object_id)
        with contextlib.suppress(RayConnectionError):
            if unsealed is not None:
                self._let_go(unsealed)
                self._makes.tell(messages.Abort(unsealed.serial))
            else:
                self._reads.tell(messages.Delete(object_id))

    def end_holds(self, held: Held) -> None:
        """Nobody here needs the object. Takes no lock, never waits and never raises: destructors call it."""
        self._gone.append(held)
        if not self._reads.mention(messages.Release(held.serial, held.holds)):
            self._unsaid.append(held)

    def _tidy(self) -> None:
        """Forget what has gone."""
        while self._gone:
            held = self._gone.popleft()
            self._mapped.discard(held)
            if self._held.get(held.object_id) is held:
                del self._held[held.object_id]
        while self._unsaid and self._reads.mention(messages.Release(self._unsaid[0].serial, self._unsaid[0].holds)):
            self._unsaid.popleft()

    def _put_aside(self, object_id: bytes) -> None:
        """The id may come to mean another object; what is held is released first."""
        held = self._held.pop(object_id, None)
        if held is not None and held.owed:
            self._dying.setdefault(object_id, []).append(held)

    def _let_go(self, unsealed: _Unsealed) -> None:
        with contextlib.suppress(BufferError):
            unsealed.view.release()
            unsealed.memory.close()
        os.close(self._kind.seal(unsealed.fd) if isinstance(self._kind, segments.NamedSegments) else unsealed.fd)

    # --- notifications ------------------------------------------------------------------------------------------------

    def subscribe(self, object_id: bytes) -> None:
        self._reads.tell(messages.Subscribe(object_id))

    def unsubscribe(self, object_id: bytes) -> None:
        self._reads.tell(messages.Unsubscribe(object_id))

    def notifications_fd(self) -> int:
        return self._reads.channel.fileno()

    def notifications(self) -> builtins.list[tuple[bytes, int]]:
        heard: list[tuple[bytes, int]] = []
        with contextlib.suppress(BlockingIOError, msgspec.MsgspecError, OSError):
            while packet := self._reads.channel.recv(MAX_PACKET_BYTES):
                heard += messages.decode_notifications(packet)
        return heard

    # --- questions ----------------------------------------------------------------------------------------------------

    def stats(self) -> StoreStats:
        reply, _ = self._reads.ask(messages.Stats)
        if not isinstance(reply, Counted):
            raise RayConnectionError(f"the shm store answers a question for its size with {reply}")
        return StoreStats(reply.objects, reply.used_bytes, reply.capacity_bytes)

    def list(self) -> builtins.list[StoredObject]:
        found: list[StoredObject] = []
        after = 0
        while True:
            reply, _ = self._reads.ask(lambda number, after=after: messages.List(number, after))  # type: ignore[misc]
            if not isinstance(reply, Listed):
                raise RayConnectionError(f"the shm store answers a question for its objects with {reply}")
            found += [StoredObject(id, nbytes, state, tuple(pids)) for id, nbytes, state, pids in reply.objects]
            after = reply.next
            if not after:
                return sorted(found, key=lambda entry: -entry.nbytes)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            unsealed, self._unsealed = list(self._unsealed.values()), {}
            self._held.clear()
            self._dying.clear()
            self._mapped.clear()
        for entry in unsealed:
            self._let_go(entry)
        self._makes.close()
        self._reads.close()

    def abandon(self) -> None:
        self._makes.abandon()
        self._reads.abandon()
