"""A process's handle on the plasma store of its node."""

from __future__ import annotations

import builtins
import contextlib
import errno
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ray.abc.store import (
    LISTING,
    NOTIFICATIONS,
    PINNING,
    SHARED,
    SPILLING,
    Listing,
    Notifier,
    Pinning,
    Spilling,
    Store,
    StoredObject,
    StoreStats,
)
from ray.exceptions import ObjectExistsError, ObjectLostError, ObjectStoreFullError, OutOfDiskError, RayConnectionError
from ray.held_objects import HeldObjects
from ray_store_plasma import messages
from ray_store_plasma.holds import Held
from ray_store_plasma.link import Link
from ray_store_plasma.mapping import Mapping
from ray_store_plasma.messages import MAX_PACKET_BYTES, Answer, Counted, Found, Granted, Listed, Refused, Reply

SCHEME = "plasma:"
#: Drop what is known of objects whose views have gone when so many have come since the last time.
_TIDY_EVERY = 256


class _Unsealed(NamedTuple):
    serial: int
    view: memoryview


class _Open(NamedTuple):
    link: Link
    mapping: Mapping


class PlasmaStore(Store, Notifier, Pinning, Spilling, Listing):
    """One connection and one mapping of the arena for all threads of the process."""

    name = "plasma"
    capabilities = frozenset({SHARED, NOTIFICATIONS, PINNING, SPILLING, LISTING})

    def __init__(self, address: str, *, memcopy_threads: int = 2) -> None:
        """Connect.

        Args:
            address: of a ``PlasmaStoreServer``.
            memcopy_threads: how many may copy a value of 16 MiB or more.

        Raises:
            RayConnectionError: there is no server.
        """
        if not address.startswith(SCHEME):
            raise RayConnectionError(f"{address!r} is not the address of a plasma store")
        link = Link(address.removeprefix(SCHEME))
        #: None once it is closed; what is still held has its own references.
        self._open: _Open | None = _Open(link, Mapping(link.arena, link.capacity_bytes, memcopy_threads))
        self._unsealed: dict[bytes, _Unsealed] = {}
        self._held: HeldObjects[Held] = HeldObjects()
        self._until_tidy = _TIDY_EVERY

    @property
    def _link(self) -> Link:
        return self._parts().link

    @property
    def _mapping(self) -> Mapping:
        return self._parts().mapping

    def _parts(self) -> _Open:
        if self._open is None:
            raise RayConnectionError("the plasma store is closed in this process")
        return self._open

    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        granted = self._reserve(object_id, nbytes)
        try:
            view = self._mapping.writable(granted.offset, nbytes, cold=granted.cold)
        except BaseException:
            self._undo(granted)
            raise
        self._unsealed[object_id] = _Unsealed(granted.serial, view)
        return view

    def put(self, object_id: bytes, pieces: Sequence[bytes | memoryview], nbytes: int, *, patient: bool = True) -> None:
        granted = self._reserve(object_id, nbytes, patient=patient)
        try:
            self._mapping.write(granted.offset, pieces, nbytes, cold=granted.cold)
        except BaseException:
            self._undo(granted)
            raise
        self._link.tell(messages.Seal(granted.serial))

    def seal(self, object_id: bytes) -> None:
        self._link.tell(messages.Seal(self._take_unsealed(object_id)))

    def abort(self, object_id: bytes) -> None:
        self._link.tell(messages.Abort(self._take_unsealed(object_id)))

    def get(self, object_id: bytes) -> memoryview | None:
        """See ``Store.get``. An object that was spilled is read from the disk first.

        Raises:
            ObjectLostError: its copy on the disk is damaged.
            ObjectStoreFullError: it was spilled, and there is no room to bring it back.
            OutOfDiskError: the same, and what is there cannot be spilled in its place.
        """
        return self._get(object_id, patient=True)

    def get_at_once(self, object_id: bytes) -> memoryview | None:
        return self._get(object_id, patient=False)

    def _get(self, object_id: bytes, *, patient: bool) -> memoryview | None:
        view = self._show(object_id)
        if view is not None:
            return view
        reply = self._ask(lambda number: messages.Get(number, object_id, patient), object_id)
        if not isinstance(reply, Found):
            return None
        held = self._held.current.get(object_id)
        if held is not None and held.serial == reply.serial:
            view = self._shown(held)
            if view is not None:
                held.owed += 1
                return view
        held = Held(object_id, reply, self._link, self._mapping)
        view = held.view
        self._held.becomes(object_id, held)
        self._tidy()
        return view[:] if view is not None else None

    def contains(self, object_id: bytes) -> bool:
        if self._current(object_id) is not None:
            return True
        reply = self._ask(lambda number: messages.Contains(number, object_id), object_id)
        return isinstance(reply, Answer) and reply.yes

    def release(self, object_id: bytes) -> None:
        held = self._held.release(object_id)
        if held is not None:
            self._released(held)

    def _released(self, held: Held) -> None:
        if not held.unreleased:
            held.view = None
            if not held.is_seen:
                self._held.forget(held.object_id, held)

    def delete(self, object_id: bytes) -> None:
        unsealed = self._unsealed.pop(object_id, None)
        self._held.put_aside(object_id)
        try:
            if unsealed is not None:
                _invalidate(unsealed.view)
                self._link.tell(messages.Abort(unsealed.serial))
            else:
                self._link.tell(messages.Delete(object_id))
        except RayConnectionError:
            pass

    def stats(self) -> StoreStats:
        reply = self._ask(messages.Stats)
        assert isinstance(reply, Counted)
        return StoreStats(reply.objects, reply.used_bytes, reply.capacity_bytes, reply.spilled_bytes)

    def subscribe(self, object_id: bytes) -> None:
        self._link.tell(messages.Subscribe(object_id))

    def unsubscribe(self, object_id: bytes) -> None:
        self._link.tell(messages.Unsubscribe(object_id))

    def notifications_fd(self) -> int:
        assert self._link.channel is not None
        return self._link.channel.fileno()

    def notifications(self) -> builtins.list[tuple[bytes, int]]:
        """See ``Notifier``. Raises RayConnectionError once the server is gone."""
        heard: builtins.list[tuple[bytes, int]] = []
        assert self._link.channel is not None
        with contextlib.suppress(BlockingIOError):
            while packet := self._link.channel.recv(MAX_PACKET_BYTES):
                heard += messages.decode_notifications(packet)
            if not heard:
                raise RayConnectionError("the plasma store of this node has ended")
        return heard

    def unpin(self, object_id: bytes) -> None:
        self._link.tell(messages.Unpin(object_id))

    def pin(self, object_id: bytes) -> bool:
        reply = self._ask(lambda number: messages.Pin(number, object_id))
        return isinstance(reply, Answer) and reply.yes

    def list(self) -> builtins.list[StoredObject]:
        found: builtins.list[StoredObject] = []
        after = 0
        while True:
            reply = self._ask(lambda number, after=after: messages.List(number, after))  # type: ignore[misc]
            assert isinstance(reply, Listed)
            found += [StoredObject(id, nbytes, state, tuple(pids)) for id, nbytes, state, pids in reply.objects]
            after = reply.next
            if not after:
                return sorted(found, key=lambda stored: stored.nbytes, reverse=True)

    def close(self) -> None:
        parts, self._open = self._open, None
        for held in self._held.all():
            held.view = None
        for unsealed in self._unsealed.copy().values():
            _invalidate(unsealed.view)
        self._unsealed.clear()
        self._held.clear()
        if parts is None:
            return
        if parts.link.seen:
            # The last view closes the connection; until then the server must not give its memory to others.
            with contextlib.suppress(RayConnectionError):
                parts.link.tell(messages.Leave())
            parts.link.close_channel()
        else:
            parts.link.close()

    def abandon(self) -> None:
        parts, self._open = self._open, None
        if parts is not None:
            parts.link.abandon()

    def _reserve(self, object_id: bytes, nbytes: int, *, patient: bool = True) -> Granted:
        reply = self._ask(lambda number: messages.Create(number, object_id, nbytes, patient), object_id)
        assert isinstance(reply, Granted)
        return reply

    def _undo(self, granted: Granted) -> None:
        with contextlib.suppress(RayConnectionError):
            self._link.tell(messages.Abort(granted.serial))

    def _ask(self, make: messages.Make, object_id: bytes = b"") -> Reply:
        reply = self._link.ask(make)
        if isinstance(reply, Refused):
            self._raise(reply, object_id)
        return reply

    def _raise(self, refused: Refused, object_id: bytes) -> NoReturn:
        if refused.why == "exists":
            raise ObjectExistsError(object_id)
        if refused.why == "wait":
            raise BlockingIOError(errno.EAGAIN, "the plasma store has to make room, or to read from the disk, first")
        if refused.why == "lost":
            raise ObjectLostError(object_id, f"its copy under {self._link.spill_dir} is damaged")
        if refused.why == "disk":
            raise OutOfDiskError(self._link.spill_dir, refused.needed_bytes)
        raise ObjectStoreFullError(refused.needed_bytes, self._link.capacity_bytes, refused.used_bytes, refused.text)

    def _take_unsealed(self, object_id: bytes) -> int:
        unsealed = self._unsealed.pop(object_id, None)
        if unsealed is None:
            raise KeyError(f"the object {object_id.hex()} is not being created by this client")
        _invalidate(unsealed.view)
        return unsealed.serial

    def _current(self, object_id: bytes) -> Held | None:
        """What is held of the object that has this id now."""
        held = self._held.current.get(object_id)
        if held is None or not held.is_seen:
            return None
        if self._mapping.mark(held.mark) != held.serial:
            self._held.put_aside(object_id)
            return None
        return held

    def _show(self, object_id: bytes) -> memoryview | None:
        held = self._current(object_id)
        return None if held is None else self._shown(held)

    def _shown(self, held: Held) -> memoryview | None:
        """A view, and a hold for it; None if the last view has gone, or the object was deleted meanwhile."""
        view = held.show()
        known = (self._held.current.get(held.object_id), *self._held.aside.get(held.object_id, ()))
        if view is not None and held not in known:
            held.unreleased -= 1
            self._held.bury(held.object_id)
            self._released(held)
            return None
        return view

    def _tidy(self) -> None:
        """Forget what was released before its views had gone."""
        self._until_tidy -= 1
        if self._until_tidy <= 0:
            self._until_tidy = max(_TIDY_EVERY, len(self._held.current))
            for object_id, held in self._held.current.copy().items():
                if not held.is_seen:
                    self._held.forget(object_id, held)


def _invalidate(view: memoryview) -> None:
    """End the creator's view; where something was made of it, that ends with its users."""
    with contextlib.suppress(BufferError):
        view.release()
