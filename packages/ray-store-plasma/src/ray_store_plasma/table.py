"""The objects of a node: which client creates, holds, wants to hear of and deletes what.

Pure: methods take what has happened and append what is to be done to ``effects``. Times are monotonic seconds, given by
the caller; clients are positive numbers that are never used again. Methods raise ``Violation`` for what no sound client
does; the caller then reports the client as lost.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable

from ray.units import counted
from ray_store_plasma import messages, objects
from ray_store_plasma.messages import Answer, Counted, Found, Granted, Listed, Refused
from ray_store_plasma.objects import (
    COMES_IN,
    CREATED,
    LOST,
    SEALED,
    STILL,
    WAITING,
    Client,
    Effect,
    Mark,
    Send,
    Stored,
    Tell,
    Violation,
)
from ray_store_plasma.room import Room

#: Bounds on what one client, and all together, can make the server remember.
MAX_UNSEALED = 4096
MAX_SUBSCRIPTIONS = 1 << 18
MAX_OBJECTS = 1 << 20
#: Nobody is refused room that the disk is making, unless it takes longer than this.
DISK_S = 30.0
_NAMED = 5


class Table:
    """All state of one store."""

    def __init__(
        self, capacity_bytes: int, *, full_timeout_s: float = 0.0, spill: bool = True, spill_limit_bytes: int = 0
    ) -> None:
        """Empty.

        Args:
            capacity_bytes: of the arena.
            full_timeout_s: how long a request waits for room.
            spill: whether objects may go to the disk.
            spill_limit_bytes: of the spill file; 0 for none.
        """
        #: What is to be done, in order; the caller takes it away.
        self.effects: list[Effect] = []
        self.room = Room(capacity_bytes, self.effects, self._evicted, spill=spill, spill_limit_bytes=spill_limit_bytes)
        self.clients: dict[int, Client] = {}
        #: {object id: object} as clients see them
        self.live: dict[bytes, Stored] = {}
        #: {serial: object}, deleted ones that a client uses included; serials grow
        self.entries: dict[int, Stored] = {}
        #: {object id: clients that want to hear of it}
        self.subscribers: dict[bytes, set[int]] = {}
        self._full_timeout_s = full_timeout_s
        self._serial = 0

    # Clients.

    def join(self, client: int, pid: int) -> None:
        """A client has connected."""
        self.clients[client] = Client(pid)

    def leave(self, client: int) -> None:
        """It closes: what it has not sealed is undone, what it holds it goes on holding."""
        state = self.clients[client]
        for object_id in list(state.subscriptions):
            self.unsubscribe(client, object_id)
        for serial in list(state.creating):
            self._undo(self.entries[serial])

    def lost(self, client: int, now: float) -> None:
        """It is gone."""
        self.leave(client)
        for serial in list(self.clients[client].holds):
            entry = self.entries[serial]
            del entry.holders[client]
            self._used_less(entry)
        del self.clients[client]
        self.advance(now)

    def owner_lost(self, process_id: bytes, now: float) -> None:
        """Delete what it owned: the ids that begin with its."""
        for object_id in [object_id for object_id in self.live if object_id.startswith(process_id)]:
            self.delete(object_id, now)

    # Creating.

    def create(
        self, client: int, number: int, object_id: bytes, nbytes: int, now: float, *, patient: bool = True
    ) -> None:
        """Reserve room, now or, if it is ``patient``, as soon as there is some."""
        state = self.clients[client]
        if len(state.creating) >= MAX_UNSEALED:
            raise Violation(f"creates more than {MAX_UNSEALED} objects at a time")
        known = self.live.get(object_id)
        if known is not None:
            if known.state != LOST:
                self._send(client, Refused(number, "exists"))
                return
            self.delete(object_id, now)
        if not self.room.fits(nbytes):
            memory = self.room.memory  # the error says by itself what exceeds the capacity without its head
            why = "" if nbytes > memory.capacity else "with its head it is larger than the store"
            self._send(client, Refused(number, "full", why, nbytes, memory.used))
            return
        if len(self.entries) >= MAX_OBJECTS:
            self._refuse_full(client, number, nbytes, f"there are {MAX_OBJECTS:,} objects, which is the limit")
            return
        self._serial += 1
        entry = Stored(self._serial, object_id, nbytes, client, number)
        self.live[object_id] = self.entries[entry.serial] = entry
        state.creating.add(entry.serial)
        self.room.want(entry, now + self._full_timeout_s)
        self.advance(now)
        if not patient and entry.serial in self.room.waiting:  # what was to go to the disk for it goes
            self._undo(entry, tell=False)
            self._send(client, Refused(number, "wait"))

    def seal(self, client: int, serial: int, now: float) -> None:
        """The creator is done."""
        entry = self._own(client, serial)
        self.clients[client].creating.discard(serial)
        entry.state, entry.creator = SEALED, 0
        if entry.deleted:
            self._used_less(entry)
        else:
            self._tell(entry.object_id, entry.nbytes)
            self.room.settle(entry)
        self.advance(now)

    def abort(self, client: int, serial: int, now: float) -> None:
        """The creator gives up."""
        self._undo(self._own(client, serial))
        self.advance(now)

    # Reading.

    def has(self, object_id: bytes) -> bool:
        """Whether it is sealed and here, be it on the disk."""
        entry = self.live.get(object_id)
        return entry is not None and entry.state == SEALED

    def get(self, client: int, number: int, object_id: bytes, now: float, *, patient: bool = True) -> None:
        """Hold it, if it is in memory or, for the ``patient``, once it has been read from the disk."""
        entry = self.live.get(object_id)
        if entry is None or entry.state in (WAITING, CREATED):
            self._send(client, Answer(number, False))
        elif entry.state == LOST:
            self._send(client, Refused(number, "lost"))
        elif entry.offset is not None and entry.moving != COMES_IN:
            self._hold(client, number, entry)
        elif not patient:
            self._send(client, Refused(number, "wait"))
        else:
            entry.answers.append((client, number))
            if entry.moving == STILL and entry.serial not in self.room.waiting:
                self.room.want(entry, now + self._full_timeout_s)
                self.advance(now)

    def release(self, client: int, serials: Iterable[int], now: float) -> None:
        """End holds, one for each time that a serial is named."""
        for serial in serials:
            entry = self.entries.get(serial)
            if entry is None or not entry.holders[client]:
                raise Violation(f"releases {serial}, which it does not hold")
            entry.holders[client] -= 1
            if not entry.holders[client]:
                del entry.holders[client]
                self.clients[client].holds.discard(serial)
                self._used_less(entry)
        self.advance(now)

    def contains(self, client: int, number: int, object_id: bytes) -> None:
        """Answer whether it is here."""
        self._send(client, Answer(number, self.has(object_id)))

    # The life of a sealed object.

    def delete(self, object_id: bytes, now: float) -> None:
        """Forget it; its memory stays while a client uses it."""
        entry = self.live.pop(object_id, None)
        if entry is None:
            return
        entry.deleted = True
        self._unmark(entry)
        if entry.state in (WAITING, CREATED):
            self._tell(object_id, -1)
        else:
            for client, number in entry.answers:
                self._send(client, Answer(number, False))
            entry.answers.clear()
            self._used_less(entry)
        self.advance(now)

    def unpin(self, object_id: bytes) -> None:
        """It may be dropped."""
        if self.has(object_id):
            entry = self.live[object_id]
            entry.pinned = False
            self.room.settle(entry)

    def pin(self, client: int, number: int, object_id: bytes) -> None:
        """It may not."""
        here = self.has(object_id)
        if here:
            entry = self.live[object_id]
            entry.pinned = True
            self.room.settle(entry)
        self._send(client, Answer(number, here))

    def subscribe(self, client: int, object_id: bytes) -> None:
        """Tell once when it is sealed; at once if it is."""
        subscriptions = self.clients[client].subscriptions
        if self.has(object_id):
            self.effects.append(Tell(client, object_id, self.live[object_id].nbytes))
            return
        if len(subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Violation(f"subscribes to more than {MAX_SUBSCRIPTIONS} objects")
        subscriptions.add(object_id)
        self.subscribers.setdefault(object_id, set()).add(client)

    def unsubscribe(self, client: int, object_id: bytes) -> None:
        """Do not tell."""
        self.clients[client].subscriptions.discard(object_id)
        subscribers = self.subscribers.get(object_id)
        if subscribers is not None:
            subscribers.discard(client)
            if not subscribers:
                del self.subscribers[object_id]

    # Asking.

    def stats(self, client: int, number: int) -> None:
        """Answer with the counts."""
        memory = self.room.memory
        self._send(client, Counted(number, len(self.live), memory.used, memory.capacity, self.room.spilled_bytes))

    def list_objects(self, client: int, number: int, after: int) -> None:
        """Answer with some objects of higher serials."""
        serials = list(self.entries)
        start = bisect.bisect_right(serials, after)
        chosen = serials[start : start + messages.MAX_LISTED]
        more = start + len(chosen) < len(serials)
        rows = [self._row(self.entries[serial]) for serial in chosen]
        self._send(client, Listed(number, rows, chosen[-1] if more else 0))

    # Room, disk and time.

    def advance(self, now: float) -> None:
        """Give room to the requests that wait for it; refuse those whose time is over."""
        if not self.room.waiting:
            return
        for entry in self.room.grant():
            if entry.state == WAITING:
                entry.state = CREATED
                assert entry.offset is not None
                cold = self.room.touch(entry.offset, entry.nbytes)
                self.effects.append(Mark(entry.offset, 0 if entry.deleted else entry.serial))
                place = entry.offset + messages.HEAD_BYTES
                self._send(entry.creator, Granted(entry.number, entry.serial, place, entry.nbytes, cold))
            else:
                self.room.bring_in(entry)
        more_s = DISK_S if self.room.is_writing else 0.0
        for entry in [entry for entry in self.room.waiting.values() if entry.deadline + more_s <= now]:
            self._time_is_over(entry)

    def next_deadline(self) -> float | None:
        """When to call ``advance`` at the latest; None: when something happens."""
        more_s = DISK_S if self.room.is_writing else 0.0
        return min((entry.deadline + more_s for entry in self.room.waiting.values()), default=None)

    def written(self, serial: int, checksum: int | None, now: float) -> None:
        """``WriteOut`` is done; None: the disk did not take it."""
        entry = self.entries[serial]
        entry.checksum = checksum or 0
        self.room.written_out(entry, ok=checksum is not None)
        self._used_less(entry)
        self.advance(now)

    def read(self, serial: int, now: float, *, ok: bool) -> None:
        """``ReadBack`` is done; or the disk did not have what was written."""
        entry = self.entries[serial]
        self.room.brought_in(entry, ok=ok)
        answers, entry.answers = entry.answers, []
        if ok and not entry.deleted:
            assert entry.offset is not None
            self.effects.append(Mark(entry.offset, serial))
        elif not entry.deleted:
            entry.state = LOST
        for client, number in answers:
            if client not in self.clients:
                continue
            if ok:
                self._hold(client, number, entry)
            else:
                self._send(client, Refused(number, "lost"))
        self._used_less(entry)
        self.advance(now)

    def _hold(self, client: int, number: int, entry: Stored) -> None:
        assert entry.offset is not None
        entry.holders[client] += 1
        self.clients[client].holds.add(entry.serial)
        self.room.settle(entry)
        place = entry.offset + messages.HEAD_BYTES
        self._send(client, Found(number, entry.serial, place, entry.nbytes))

    def _used_less(self, entry: Stored) -> None:
        """A client has stopped using it; if it was the last and it is deleted, it goes."""
        if not entry.deleted:
            self.room.settle(entry)
        elif not entry.holders and not entry.creator:
            self.room.forget(entry)
            if entry.moving == STILL:
                del self.entries[entry.serial]

    def _undo(self, entry: Stored, *, tell: bool = True) -> None:
        """As if it had never been created."""
        self.clients[entry.creator].creating.discard(entry.serial)
        entry.creator = 0
        if not entry.deleted:
            entry.deleted = True
            del self.live[entry.object_id]
            self._unmark(entry)
            if tell:
                self._tell(entry.object_id, -1)
        self._used_less(entry)

    def _own(self, client: int, serial: int) -> Stored:
        if serial not in self.clients[client].creating or self.entries[serial].state != CREATED:
            raise Violation(f"seals or aborts {serial}, which it is not creating")
        return self.entries[serial]

    def _evicted(self, entry: Stored) -> None:
        del self.live[entry.object_id]
        entry.deleted = True
        self._unmark(entry)
        self._used_less(entry)

    def _unmark(self, entry: Stored) -> None:
        if entry.offset is not None:
            self.effects.append(Mark(entry.offset, 0))

    def _time_is_over(self, entry: Stored) -> None:
        del self.room.waiting[entry.serial]
        answers, entry.answers = entry.answers, []
        if entry.state == WAITING:
            answers = [(entry.creator, entry.number)]
            self._undo(entry, tell=False)
        for client, number in answers:
            if entry.disk_refused:
                self._send(client, Refused(number, "disk", "", entry.nbytes))
            else:
                self._refuse_full(client, number, entry.nbytes, "")

    def _refuse_full(self, client: int, number: int, nbytes: int, why: str) -> None:
        if not why:
            resident = [entry for entry in self.entries.values() if entry.offset is not None]
            biggest = heapq.nlargest(_NAMED, resident, key=lambda entry: entry.nbytes)
            why = f"{counted(len(resident), 'object')}, the biggest: {objects.describe(biggest, self.clients)}"
            if self.room.memory.capacity - self.room.memory.used > nbytes + messages.HEAD_BYTES:
                why = f"what is free is not in one piece; {why}"
        self._send(client, Refused(number, "full", why, nbytes, self.room.memory.used))

    def _tell(self, object_id: bytes, nbytes: int) -> None:
        for client in self.subscribers.pop(object_id, ()):
            self.clients[client].subscriptions.discard(object_id)
            self.effects.append(Tell(client, object_id, nbytes))

    def _row(self, entry: Stored) -> tuple[bytes, int, str, list[int]]:
        if entry.deleted:
            state = "deleted"
        elif entry.state == SEALED:
            state = "spilled" if entry.offset is None or entry.moving == COMES_IN else "sealed"
        else:
            state = CREATED if entry.state == WAITING else entry.state
        return entry.object_id, entry.nbytes, state, objects.pids(entry, self.clients)[: messages.MAX_HOLDERS]

    def _send(self, client: int, reply: messages.Reply) -> None:
        self.effects.append(Send(client, reply))
