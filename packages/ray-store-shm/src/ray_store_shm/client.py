"""A process's handle on the shm store of its node."""

from __future__ import annotations

import builtins
import contextlib
import errno
import mmap
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from ray.abc.store import LISTING, NOTIFICATIONS, SHARED, Listing, Notifier, Store, StoredObject, StoreStats
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, RayConnectionError
from ray.held_objects import HeldObjects
from ray_store_shm import descriptors, messages, segments, systems
from ray_store_shm.held import Held
from ray_store_shm.kept import Kept
from ray_store_shm.link import Link
from ray_store_shm.messages import MAX_PACKET_BYTES, Answer, Counted, Found, Listed, Refused, Reserved
from ray_store_shm.segments import Piece, Segments


class _Unsealed(NamedTuple):
    serial: int
    nbytes: int
    fd: int
    memory: mmap.mmap
    view: memoryview


class ShmStore(Store, Notifier, Listing):
    """One connection for all threads of the process."""

    name = "shm"
    capabilities = frozenset({SHARED, NOTIFICATIONS, LISTING})

    def __init__(self, address: str, kind: Segments | None = None, *, memcopy_threads: int = 2) -> None:
        """Connect.

        Args:
            address: of a ``ShmStoreServer``.
            kind: how memory is made; as the server's.
            memcopy_threads: how many may copy a value of 16 MiB or more.

        Raises:
            RayConnectionError: there is no broker.
        """
        try:
            system, path = systems.of_address(address)
        except ValueError as error:
            raise RayConnectionError(str(error)) from None
        self._kind = kind or segments.of_this_system()
        descriptors.raise_limit()
        self._link = Link(system, path)
        self._kept = Kept(self._link, memcopy_threads)
        self._unsealed: dict[bytes, _Unsealed] = {}
        self._held: HeldObjects[Held] = HeldObjects()
        #: Everything that is mapped, so that it hears when its last view goes.
        self._mapped: set[Held] = set()
        #: Objects that nothing here needs any more since the last look.
        self._gone: deque[Held] = deque()
        #: Those of them that the broker could not be told of, since the socket was full.
        self._unsaid: deque[Held] = deque()

    # --- making -------------------------------------------------------------------------------------------------------

    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        serial = self._reserve(object_id, nbytes, afresh=True).serial
        with self._undone_on_error(serial, nbytes):
            fd = self._kind.make(nbytes)
            try:
                memory = segments.map_for_writing(fd, nbytes)
            except BaseException:
                self._kind.discard(fd)
                raise
        view = memoryview(memory)[:nbytes]
        self._unsealed[object_id] = _Unsealed(serial, nbytes, fd, memory, view)
        return view

    def put(self, object_id: bytes, pieces: Sequence[Piece], nbytes: int, *, patient: bool = True) -> None:
        """See ``Store.put``. Raises ValueError if the pieces are not ``nbytes`` together."""
        total = sum(map(len, pieces))
        if total != nbytes:
            raise ValueError(f"the pieces of the object {object_id.hex()} have {total} bytes, not {nbytes}")
        reserved = self._reserve(object_id, nbytes, patient=patient)
        serial = reserved.serial
        if reserved.segment:
            with self._undone_on_error(serial, nbytes):
                self._kept.write(reserved.segment, serial, pieces, nbytes)
            self._link.tell(messages.Seal(serial))
            return
        with self._undone_on_error(serial, nbytes):
            fd = self._kind.make(nbytes)
            try:
                self._kind.write(fd, pieces)
                keeps = self._kept.keep(serial, fd, nbytes)
            except BaseException:
                self._kind.discard(fd)
                raise
        self._pass_on(serial, fd, nbytes, keeps=keeps)

    def seal(self, object_id: bytes) -> None:
        """See ``Store.seal``. Slices of the creator's view that are still in use must go first.

        Raises:
            BufferError: there are some; the object stays unsealed.
        """
        unsealed = self._find_unsealed(object_id)
        try:
            unsealed.view.release()
            unsealed.memory.close()
        except BufferError:
            raise BufferError(
                f"the object {object_id.hex()} cannot be sealed: slices of its memory are still in use; let go of "
                "them, then seal it again"
            ) from None
        del self._unsealed[object_id]
        self._pass_on(unsealed.serial, unsealed.fd, unsealed.nbytes)

    def abort(self, object_id: bytes) -> None:
        unsealed = self._find_unsealed(object_id)
        del self._unsealed[object_id]
        self._let_go(unsealed)
        self._link.tell(messages.Abort(unsealed.serial))

    def _find_unsealed(self, object_id: bytes) -> _Unsealed:
        unsealed = self._unsealed.get(object_id)
        if unsealed is None:
            raise KeyError(f"the object {object_id.hex()} is not being written here, or is sealed already")
        return unsealed

    def _reserve(self, object_id: bytes, nbytes: int, *, patient: bool = True, afresh: bool = False) -> Reserved:
        while self._unsaid:  # else it might wait for room that this process has no use for
            self._link.await_space()
            self._tidy()
        reply, _ = self._link.ask(lambda number: messages.Reserve(number, object_id, nbytes, patient, afresh))
        if isinstance(reply, Reserved):
            return reply
        if not isinstance(reply, Refused):
            raise RayConnectionError(f"the shm store answers a request for room with {reply}")
        if reply.why == "exists":
            raise ObjectExistsError(object_id)
        if reply.why == "wait":
            raise BlockingIOError(errno.EAGAIN, "the shm store has no room yet")
        if reply.why == "descriptors":
            text = (
                f"each object takes a descriptor, and the store's process has {reply.text} for them; raise the hard "
                "limit of open files ('ulimit -Hn', LimitNOFILE= of a service), or use store='plasma'"
            )
        elif nbytes > self.stats().capacity_bytes:  # neither an object less nor a disk would make room
            text = ""
        else:
            text = f"{reply.text}; objects are not spilled here: use store='plasma' for that"
        raise ObjectStoreFullError(nbytes, self.stats().capacity_bytes, reply.used_bytes, text)

    @contextlib.contextmanager
    def _undone_on_error(self, serial: int, nbytes: int) -> Iterator[None]:
        """What the system refuses is an error of a full store; whatever happens, the room is given back."""
        try:
            yield
        except BaseException as error:
            self._link.tell(messages.Abort(serial))
            if isinstance(error, OSError) and error.errno is not None:  # None: of a signal handler
                raise self._refused(nbytes, error) from error
            raise

    def _refused(self, nbytes: int, error: OSError) -> ObjectStoreFullError:
        stats = self.stats()
        return ObjectStoreFullError(nbytes, stats.capacity_bytes, stats.used_bytes, descriptors.explain(error))

    def _pass_on(self, serial: int, fd: int, nbytes: int, *, keeps: bool = False) -> None:
        sealed = self._kind.seal(fd)
        try:
            self._link.tell(messages.Seal(serial, keeps), sealed)
        except OSError as error:
            self._kept.forget(serial)
            if error.errno != errno.ETOOMANYREFS:
                raise
            self._link.tell(messages.Abort(serial))
            raise self._refused(nbytes, error) from error
        finally:
            os.close(sealed)

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, object_id: bytes) -> memoryview | None:
        """See ``Store.get``. It is mapped once for all views of the process.

        Raises:
            ObjectStoreFullError: this process may not have more descriptors or mappings; the text says which.
        """
        self._tidy()
        held = self._held.current.get(object_id)
        memory = held.memory() if held is not None else None  # keeps it from going meanwhile
        known = held.serial if held is not None and memory is not None else 0
        reply, fd = self._link.ask(lambda number: messages.Get(number, object_id, known))
        if not isinstance(reply, Found):
            return None
        if held is not None and memory is not None and reply.serial == held.serial:
            held.holds += 1
            held.unreleased += 1
        else:
            memory = self._map(reply, fd)
            held = Held(self, object_id, reply.serial, memory)
            self._mapped.add(held)
        self._held.becomes(object_id, held)
        return memoryview(memory)[: reply.nbytes]

    def _map(self, found: Found, fd: int) -> mmap.mmap:
        """Map what was found, and close its descriptor."""
        try:
            if fd < 0:  # there was no room for it here; -1 would be mapped, but as memory of nothing
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return segments.map_for_reading(fd, found.nbytes)
        except OSError as error:
            self._link.tell(messages.Release(found.serial, 1))
            raise self._refused(found.nbytes, error) from error
        finally:
            if fd >= 0:
                os.close(fd)

    def contains(self, object_id: bytes) -> bool:
        reply, _ = self._link.ask(lambda number: messages.Contains(number, object_id))
        return isinstance(reply, Answer) and reply.yes

    def release(self, object_id: bytes) -> None:
        self._tidy()
        held = self._held.release(object_id)
        if held is not None:
            held.settle()

    def delete(self, object_id: bytes) -> None:
        unsealed = self._unsealed.pop(object_id, None)
        self._held.put_aside(object_id)
        with contextlib.suppress(RayConnectionError):
            if unsealed is not None:
                self._let_go(unsealed)
                self._link.tell(messages.Abort(unsealed.serial))
            else:
                self._link.tell(messages.Delete(object_id))

    def end_holds(self, held: Held) -> None:
        """Nobody here needs the object. Takes no lock, never waits and never raises: destructors call it."""
        self._gone.append(held)
        if not self._mention_end(held):
            self._unsaid.append(held)

    def _mention_end(self, held: Held) -> bool:
        return self._link.mention(messages.Release(held.serial, held.holds, held.was_forked()))

    def _tidy(self) -> None:
        """Forget what has gone."""
        with contextlib.suppress(IndexError):
            while True:
                held = self._gone.popleft()
                self._mapped.discard(held)
                self._held.forget(held.object_id, held)
        with contextlib.suppress(IndexError):
            while True:
                held = self._unsaid.popleft()
                if not self._mention_end(held):
                    self._unsaid.appendleft(held)
                    break

    def _let_go(self, unsealed: _Unsealed) -> None:
        with contextlib.suppress(BufferError):  # slices are in use: it goes with them, and is nobody else's
            unsealed.view.release()
            unsealed.memory.close()
        self._kind.discard(unsealed.fd)

    # --- notifications ------------------------------------------------------------------------------------------------

    def subscribe(self, object_id: bytes) -> None:
        self._link.tell(messages.Subscribe(object_id))

    def unsubscribe(self, object_id: bytes) -> None:
        self._link.tell(messages.Unsubscribe(object_id))

    def notifications_fd(self) -> int:
        return self._link.channel.fileno()

    def notifications(self) -> builtins.list[tuple[bytes, int]]:
        """See ``Notifier``. Raises RayConnectionError once the broker is gone and everything is told."""
        heard: list[tuple[bytes, int]] = []
        try:
            while packet := self._link.channel.recv(MAX_PACKET_BYTES):
                heard += messages.decode_notifications(packet)
        except BlockingIOError:
            return heard
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise RayConnectionError(f"the shm store tells nothing any more: {error}") from error
        if not heard:  # an end that would keep the descriptor readable for ever
            raise RayConnectionError("the shm store of this node has ended")
        return heard

    # --- questions ----------------------------------------------------------------------------------------------------

    def stats(self) -> StoreStats:
        reply, _ = self._link.ask(messages.Stats)
        if not isinstance(reply, Counted):
            raise RayConnectionError(f"the shm store answers a question for its size with {reply}")
        return StoreStats(reply.objects, reply.used_bytes, reply.capacity_bytes)

    def list(self) -> builtins.list[StoredObject]:
        found: list[StoredObject] = []
        after = 0
        while True:
            reply, _ = self._link.ask(lambda number, after=after: messages.List(number, after))  # type: ignore[misc]
            if not isinstance(reply, Listed):
                raise RayConnectionError(f"the shm store answers a question for its objects with {reply}")
            found += [StoredObject(id, nbytes, state, tuple(pids)) for id, nbytes, state, pids in reply.objects]
            after = reply.next
            if not after:
                return sorted(found, key=lambda entry: -entry.nbytes)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        unsealed, self._unsealed = list(self._unsealed.values()), {}
        self._held.clear()
        self._mapped.clear()
        for entry in unsealed:
            self._let_go(entry)
        self._kept.close()
        self._link.close()

    def abandon(self) -> None:
        self._kept.abandon()
        self._link.abandon()
