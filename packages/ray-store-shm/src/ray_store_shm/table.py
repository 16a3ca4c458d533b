"""Objects, clients and their holds: the broker's state, as a pure machine.

Methods are events; what they ask to be done is in ``effects`` afterwards, in order. Descriptors are opaque here.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from ray.units import counted
from ray_store_shm import messages
from ray_store_shm.effects import Close, Effect, Order, Send, Tell
from ray_store_shm.messages import Answer, Counted, Found, Listed, Refused, Reply, Reserve, Reserved
from ray_store_shm.spares import Segment, Spares

#: Objects that an error names.
_NAMED = 5
MAX_SUBSCRIPTIONS = 1_000_000


class Violation(Exception):  # noqa: N818 - it is the client's, not an error of ours
    """A client has done what no client of ours does: it is to be disconnected."""


class Stored:
    """One object, from the request for room until nobody holds it."""

    __slots__ = ("creator", "deleted", "holders", "nbytes", "object_id", "room", "segment", "serial")

    def __init__(self, serial: int, object_id: bytes, nbytes: int, creator: int) -> None:
        self.serial = serial
        self.object_id = object_id
        self.nbytes = nbytes
        #: The client that writes it; 0 once it is sealed.
        self.creator = creator
        #: Its memory; of a new segment only once it is sealed.
        self.segment: Segment | None = None
        #: What it takes: the size of the segment.
        self.room = nbytes
        #: The id is not its any more.
        self.deleted = False
        #: {client: how many holds}
        self.holders: Counter[int] = Counter()


class Client:
    """What one connection has."""

    __slots__ = ("creating", "holds", "pid", "subscriptions")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.creating: set[int] = set()
        self.holds: set[int] = set()
        self.subscriptions: set[bytes] = set()


class Waiting(NamedTuple):
    """A request for room."""

    client: int
    number: int
    object_id: bytes
    nbytes: int
    deadline: float
    afresh: bool = False


class Table:
    """State of one store."""

    def __init__(
        self, capacity_bytes: int, full_timeout_s: float, max_objects: int = 1 << 40, keep_s: float = 0.0
    ) -> None:
        """An empty store.

        Args:
            capacity_bytes: what objects and spare segments may take together.
            full_timeout_s: how long a request for room waits.
            max_objects: how many there may be, with spare segments.
            keep_s: how long a segment may be spare; 0 if none is used again.
        """
        self.capacity_bytes = capacity_bytes
        #: Each object takes a descriptor of this process.
        self.max_objects = max_objects
        self.used_bytes = 0
        self.effects: list[Effect] = []
        self.clients: dict[int, Client] = {}
        #: {serial: object}, in the order of serials
        self.entries: dict[int, Stored] = {}
        #: {object id: object} of those that are not deleted
        self.live: dict[bytes, Stored] = {}
        self.waiting: deque[Waiting] = deque()
        self._subscribers: dict[bytes, set[int]] = {}
        self._full_timeout_s = full_timeout_s
        self.keep_s = keep_s
        self.spares = Spares()
        self._last = 0

    # --- clients ------------------------------------------------------------------------------------------------------

    def join(self, client: int, pid: int) -> None:
        """A process has connected."""
        self.clients[client] = Client(pid)

    def keep(self, client: int, limit: int) -> None:
        """It is going to keep segments, so many at most."""
        if not self.keep_s or self.spares.can_keep(client) or not limit:
            raise Violation("keeps what it may not")
        self.spares.join(client, limit)

    def lost(self, client: int) -> None:
        """It is gone: what it was writing never was, and it holds nothing."""
        left = self.clients.pop(client)
        self.effects += [Close(segment.fd) for segment in self.spares.leave(client)]
        self.waiting = deque(wish for wish in self.waiting if wish.client != client)
        for object_id in left.subscriptions:
            self._unsubscribe(client, object_id)
        for serial in left.creating:
            self._undo(self.entries[serial])
        for serial in left.holds:
            entry = self.entries[serial]
            del entry.holders[client]
            self._use_once(entry)  # it may have left its views, to a child or to itself
            self._settle(entry)
        self._grant()

    def owner_lost(self, process_id: bytes) -> None:
        """The process is gone whose id begins these objects' ids."""
        for object_id in [object_id for object_id in self.live if object_id.startswith(process_id)]:
            self.delete(object_id)

    # --- creation -----------------------------------------------------------------------------------------------------

    def would_grant(self, object_id: bytes, nbytes: int) -> bool:
        """Whether ``reserve`` would give room at once."""
        return not (
            object_id in self.live
            or self.waiting
            or len(self.entries) >= self.max_objects
            or self.used_bytes + nbytes > self.capacity_bytes
        )

    def reserve(self, client: int, wish: Reserve, now: float) -> None:
        """A client wants to make an object."""
        number, object_id, nbytes = wish.number, wish.object_id, wish.nbytes
        if object_id in self.live:
            self._send(client, Refused(number, "exists"))
        elif len(self.entries) + len(self.waiting) >= self.max_objects:
            self._send(client, Refused(number, "descriptors", str(self.max_objects), self.used_bytes))
        elif nbytes > self.capacity_bytes:
            self._refuse(Waiting(client, number, object_id, nbytes, now))
        elif not wish.patient and not self.would_grant(object_id, nbytes):
            self._send(client, Refused(number, "wait"))
        else:
            deadline = now + self._full_timeout_s
            self.waiting.append(Waiting(client, number, object_id, nbytes, deadline, wish.afresh))
            self._grant()
            self.advance(now)

    def seal(self, client: int, serial: int, fd: int = -1, *, keeps: bool = False) -> None:
        """The object is written.

        Args:
            client: its creator.
            serial: its number.
            fd: its memory, which is this table's from now on; of a new segment only.
            keeps: whether the creator can use it again.
        """
        entry = self._own(client, serial)
        self.clients[client].creating.discard(serial)
        entry.creator = 0
        if entry.segment is None:
            entry.segment = Segment(serial, fd, entry.nbytes)
            excess = self.spares.keep(entry.segment, client) if keeps else None
            if excess is not None:
                self._discard(excess)
        entry.segment.is_written = False
        if entry.deleted:
            self._settle(entry)
        else:
            self._tell(entry.object_id, entry.nbytes)

    def abort(self, client: int, serial: int) -> None:
        """Its creator gives up."""
        entry = self._own(client, serial)
        self.clients[client].creating.discard(serial)
        self._undo(entry)
        self._grant()

    def awaits_memory(self, client: int, serial: int) -> int | None:
        """The size of the new segment in which the client is writing an object; None if it is in a used one."""
        entry = self._own(client, serial)
        return entry.nbytes if entry.segment is None else None

    def advance(self, now: float) -> None:
        """Refuse clients that have waited for room for too long, and let go of what has been spare for too long."""
        while self.waiting and self.waiting[0].deadline <= now:
            self._refuse(self.waiting.popleft())
            self._grant()
        for segment in self.spares.expired(now, self.keep_s):
            self._discard(segment)

    def next_deadline(self) -> float | None:
        """When to call ``advance``, which was called after the last event."""
        room = self.waiting[0].deadline if self.waiting else None
        spare = self.spares.next_deadline(self.keep_s)
        return spare if room is None else room if spare is None else min(room, spare)

    # --- sealed objects -----------------------------------------------------------------------------------------------

    def has(self, object_id: bytes) -> bool:
        """Whether it is sealed and here."""
        entry = self.live.get(object_id)
        return entry is not None and not entry.creator

    def get(self, client: int, number: int, object_id: bytes, known: int) -> None:
        """A client wants to read it; ``known`` is the serial of what it has mapped under that id."""
        if not self.has(object_id):
            self._send(client, Answer(number, False))
            return
        entry = self.live[object_id]
        entry.holders[client] += 1
        self.clients[client].holds.add(entry.serial)
        reply = Found(number, entry.serial, entry.nbytes)
        assert entry.segment is not None
        if entry.segment.is_open and entry.segment.keeper:
            entry.segment.is_open = False
            self.effects.append(Order(entry.segment.keeper, entry.segment.number, entry.serial))
        self.effects.append(Send(client, reply, -1 if known == entry.serial else entry.segment.fd))

    def contains(self, client: int, number: int, object_id: bytes) -> None:
        """Answer whether it is here."""
        self._send(client, Answer(number, self.has(object_id)))

    def release(self, client: int, serial: int, holds: int, *, forked: bool = False) -> None:
        """End holds; children of the client may see the object for longer if it has ``forked``."""
        entry = self.entries.get(serial)
        if entry is None or not 0 < holds <= entry.holders[client]:
            raise Violation(f"releases {serial}, which it does not hold so often")
        entry.holders[client] -= holds
        if forked:
            self._use_once(entry)
        if not entry.holders[client]:
            del entry.holders[client]
            self.clients[client].holds.discard(serial)
            self._settle(entry)
            self._grant()

    def delete(self, object_id: bytes) -> None:
        """Forget it; its memory goes with the last hold."""
        entry = self.live.pop(object_id, None)
        if entry is not None:
            entry.deleted = True
            if entry.creator:
                self._tell(object_id, -1)
            self._settle(entry)
            self._grant()

    def subscribe(self, client: int, object_id: bytes) -> None:
        """Tell once when it is sealed; at once if it is."""
        if self.has(object_id):
            self.effects.append(Tell(client, object_id, self.live[object_id].nbytes))
            return
        subscriptions = self.clients[client].subscriptions
        if len(subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Violation(f"subscribes to more than {MAX_SUBSCRIPTIONS} objects")
        subscriptions.add(object_id)
        self._subscribers.setdefault(object_id, set()).add(client)

    def unsubscribe(self, client: int, object_id: bytes) -> None:
        """Do not tell."""
        self.clients[client].subscriptions.discard(object_id)
        self._unsubscribe(client, object_id)

    # --- questions ----------------------------------------------------------------------------------------------------

    def stats(self, client: int, number: int) -> None:
        """Answer with the counts."""
        self._send(client, Counted(number, len(self.live), self.used_bytes, self.capacity_bytes))

    def list_objects(self, client: int, number: int, after: int) -> None:
        """Answer with some objects of higher serials."""
        serials = list(self.entries)
        start = bisect.bisect_right(serials, after)
        chosen = serials[start : start + messages.MAX_LISTED]
        more = start + len(chosen) < len(serials)
        rows = [self._row(self.entries[serial]) for serial in chosen]
        self._send(client, Listed(number, rows, chosen[-1] if more else 0))

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _own(self, client: int, serial: int) -> Stored:
        if serial not in self.clients[client].creating:
            raise Violation(f"seals or aborts {serial}, which it is not writing")
        return self.entries[serial]

    def _grant(self) -> None:
        """Room for the clients that wait, first come first served."""
        while self.waiting and self.used_bytes + self.waiting[0].nbytes <= self.capacity_bytes:
            wish = self.waiting.popleft()
            if wish.object_id in self.live:
                self._send(wish.client, Refused(wish.number, "exists"))
                continue
            self._last += 1
            entry = Stored(self._last, wish.object_id, wish.nbytes, wish.client)
            self.entries[entry.serial] = self.live[entry.object_id] = entry
            self.clients[wish.client].creating.add(entry.serial)
            if not wish.afresh:
                entry.segment = self.spares.take(wish.client, wish.nbytes, self.capacity_bytes - self.used_bytes)
            if entry.segment is not None:
                entry.room = entry.segment.nbytes
            self.used_bytes += entry.room
            self._make_room()
            number = entry.segment.number if entry.segment is not None else 0
            self._send(wish.client, Reserved(wish.number, entry.serial, number))

    def _undo(self, entry: Stored) -> None:
        """As if it had never been reserved."""
        entry.creator = 0
        if not entry.deleted:
            entry.deleted = True
            del self.live[entry.object_id]
            self._tell(entry.object_id, -1)
        self._settle(entry)

    def _settle(self, entry: Stored) -> None:
        """A client has stopped using it; if it was the last and it is deleted, it goes."""
        if entry.deleted and not entry.creator and not entry.holders:
            del self.entries[entry.serial]
            self.used_bytes -= entry.room
            if entry.segment is not None and entry.segment.keeper:
                self.spares.give(entry.segment)
            elif entry.segment is not None:
                self.effects.append(Close(entry.segment.fd))

    # --- segments that are used again ---------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Let go of spare segments until all is within the limits."""
        spares = self.spares
        while len(spares) and (
            self.used_bytes + spares.nbytes > self.capacity_bytes or len(self.entries) + len(spares) > self.max_objects
        ):
            self._discard(spares.oldest())

    def _use_once(self, entry: Stored) -> None:
        """Nobody uses its memory again."""
        if entry.segment is not None and entry.segment.keeper:
            self._discard(entry.segment)

    def _discard(self, segment: Segment) -> None:
        """Its creator forgets it, and so does this table if nothing is in it."""
        spare = segment in self.spares
        self.effects.append(Order(segment.keeper, segment.number))
        self.spares.forget(segment)
        if spare:
            self.effects.append(Close(segment.fd))

    def _tell(self, object_id: bytes, nbytes: int) -> None:
        for client in self._subscribers.pop(object_id, ()):
            self.clients[client].subscriptions.discard(object_id)
            self.effects.append(Tell(client, object_id, nbytes))

    def _unsubscribe(self, client: int, object_id: bytes) -> None:
        subscribers = self._subscribers.get(object_id)
        if subscribers is not None:
            subscribers.discard(client)
            if not subscribers:
                del self._subscribers[object_id]

    def _refuse(self, wish: Waiting) -> None:
        biggest = heapq.nlargest(_NAMED, self.entries.values(), key=lambda entry: entry.nbytes)
        text = f"{counted(len(self.entries), 'object')}, the biggest: {self._describe(biggest)}"
        self._send(wish.client, Refused(wish.number, "full", text if biggest else "it is empty", self.used_bytes))

    def _describe(self, entries: Iterable[Stored]) -> str:
        return ", ".join(f"{entry.object_id.hex()} {entry.nbytes:,} bytes {self._use(entry)}" for entry in entries)

    def _use(self, entry: Stored) -> str:
        numbers = ", ".join(map(str, self._pids(entry)))
        if entry.creator:
            return f"being written by {numbers}"
        return f"held by {numbers}" if numbers else "held by references alone"

    def _pids(self, entry: Stored) -> list[int]:
        users = [entry.creator, *entry.holders] if entry.creator else entry.holders
        return sorted({self.clients[user].pid for user in users if user in self.clients})

    def _row(self, entry: Stored) -> tuple[bytes, int, str, list[int]]:
        state = "created" if entry.creator else "deleted" if entry.deleted else "sealed"
        return entry.object_id, entry.nbytes, state, self._pids(entry)[: messages.MAX_HOLDERS]

    def _send(self, client: int, reply: Reply) -> None:
        self.effects.append(Send(client, reply))
