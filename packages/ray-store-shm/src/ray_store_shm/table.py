"""Objects, clients and who holds what: the broker's state, as a pure machine.

Methods are events; what they ask to be done is in ``effects`` afterwards, in order. Descriptors are opaque here.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from ray_store_shm import messages
from ray_store_shm.messages import Answer, Counted, Found, Listed, Refused, Reply, Reserved

#: Objects that an error names.
_NAMED = 5
MAX_SUBSCRIPTIONS = 1_000_000


class Violation(Exception):  # noqa: N818 - it is the client's, not an error of ours
    """A client has done what no client of ours does: it is to be disconnected."""


class Stored:
    """One object, from the request for room until nobody holds it."""

    __slots__ = ("creator", "deleted", "fd", "holders", "nbytes", "object_id", "serial")

    def __init__(self, serial: int, object_id: bytes, nbytes: int, creator: int) -> None:
        self.serial = serial
        self.object_id = object_id
        self.nbytes = nbytes
        #: The client that writes it; 0 once it is sealed.
        self.creator = creator
        #: Its memory, once it is sealed.
        self.fd = -1
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


class Send(NamedTuple):
    """Reply to a client, with a descriptor unless it is -1."""

    client: int
    reply: Reply
    fd: int = -1


class Tell(NamedTuple):
    """Notify a client."""

    client: int
    object_id: bytes
    nbytes: int


class Close(NamedTuple):
    """Nobody needs this memory any more."""

    fd: int


Effect: TypeAlias = Send | Tell | Close


class Table:
    """State of one store."""

    def __init__(self, capacity_bytes: int, full_timeout_s: float, max_objects: int = 1 << 40) -> None:
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
        self._last = 0

    # --- clients ------------------------------------------------------------------------------------------------------

    def join(self, client: int, pid: int) -> None:
        """A process has connected."""
        self.clients[client] = Client(pid)

    def lost(self, client: int) -> None:
        """It is gone: what it was writing never was, and it holds nothing."""
        left = self.clients.pop(client)
        self.waiting = deque(wish for wish in self.waiting if wish.client != client)
        for object_id in left.subscriptions:
            self._unsubscribe(client, object_id)
        for serial in left.creating:
            self._undo(self.entries[serial])
        for serial in left.holds:
            entry = self.entries[serial]
            del entry.holders[client]
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

    def reserve(
        self, client: int, number: int, object_id: bytes, nbytes: int, now: float, *, patient: bool = True
    ) -> None:
        """A client wants to make an object."""
        if object_id in self.live:
            self._send(client, Refused(number, "exists"))
        elif len(self.entries) + len(self.waiting) >= self.max_objects:
            self._send(client, Refused(number, "descriptors", str(self.max_objects), self.used_bytes))
        elif nbytes > self.capacity_bytes:
            self._refuse(Waiting(client, number, object_id, nbytes, now))
        elif not patient and not self.would_grant(object_id, nbytes):
            self._send(client, Refused(number, "wait"))
        else:
            self.waiting.append(Waiting(client, number, object_id, nbytes, now + self._full_timeout_s))
            self._grant()
            self.advance(now)

    def seal(self, client: int, serial: int, fd: int) -> None:
        """The object is written, and in the memory ``fd``, which is this table's from now on."""
        entry = self._own(client, serial)
        self.clients[client].creating.discard(serial)
        entry.creator, entry.fd = 0, fd
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

    def size_of(self, client: int, serial: int) -> int:
        """Size of an object that the client is writing."""
        return self._own(client, serial).nbytes

    def advance(self, now: float) -> None:
        """Refuse those who have waited for room for too long."""
        while self.waiting and self.waiting[0].deadline <= now:
            self._refuse(self.waiting.popleft())
            self._grant()

    def next_deadline(self) -> float | None:
        """When to call ``advance``."""
        return self.waiting[0].deadline if self.waiting else None

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
        self.effects.append(Send(client, reply, -1 if known == entry.serial else entry.fd))

    def contains(self, client: int, number: int, object_id: bytes) -> None:
        """Answer whether it is here."""
        self._send(client, Answer(number, self.has(object_id)))

    def release(self, client: int, serial: int, holds: int) -> None:
        """End holds."""
        entry = self.entries.get(serial)
        if entry is None or not 0 < holds <= entry.holders[client]:
            raise Violation(f"releases {serial}, which it does not hold so often")
        entry.holders[client] -= holds
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
        """Room for those who wait, first come first served."""
        while self.waiting and self.used_bytes + self.waiting[0].nbytes <= self.capacity_bytes:
            wish = self.waiting.popleft()
            if wish.object_id in self.live:
                self._send(wish.client, Refused(wish.number, "exists"))
                continue
            self._last += 1
            entry = Stored(self._last, wish.object_id, wish.nbytes, wish.client)
            self.entries[entry.serial] = self.live[entry.object_id] = entry
            self.clients[wish.client].creating.add(entry.serial)
            self.used_bytes += entry.nbytes
            self._send(wish.client, Reserved(wish.number, entry.serial))

    def _undo(self, entry: Stored) -> None:
        """As if it had never been reserved."""
        entry.creator = 0
        if not entry.deleted:
            entry.deleted = True
            del self.live[entry.object_id]
            self._tell(entry.object_id, -1)
        self._settle(entry)

    def _settle(self, entry: Stored) -> None:
        """Somebody has stopped using it; if it was the last and it is deleted, it goes."""
        if entry.deleted and not entry.creator and not entry.holders:
            del self.entries[entry.serial]
            self.used_bytes -= entry.nbytes
            if entry.fd >= 0:
                self.effects.append(Close(entry.fd))

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
        text = f"{len(self.entries)} objects, the biggest: {self._describe(biggest)}" if biggest else "it is empty"
        self._send(wish.client, Refused(wish.number, "full", text, self.used_bytes))

    def _describe(self, entries: Iterable[Stored]) -> str:
        return ", ".join(f"{entry.object_id.hex()} {entry.nbytes:,} bytes {self._use(entry)}" for entry in entries)

    def _use(self, entry: Stored) -> str:
        numbers = ", ".join(map(str, self._pids(entry)))
        if entry.creator:
            return f"being written by {numbers}"
        return f"held by {numbers}" if numbers else "held by nobody"

    def _pids(self, entry: Stored) -> list[int]:
        users = [entry.creator, *entry.holders] if entry.creator else entry.holders
        return sorted({self.clients[user].pid for user in users if user in self.clients})

    def _row(self, entry: Stored) -> tuple[bytes, int, str, list[int]]:
        state = "created" if entry.creator else "deleted" if entry.deleted else "sealed"
        return entry.object_id, entry.nbytes, state, self._pids(entry)[: messages.MAX_HOLDERS]

    def _send(self, client: int, reply: Reply) -> None:
        self.effects.append(Send(client, reply))
