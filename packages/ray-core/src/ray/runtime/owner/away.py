"""Values that are in the stores of other nodes: had brought here when they are read, and freed there.

A value that is away comes when somebody asks for it, and to the node, not to the process: the node manager is asked for
a copy in the node's store, and told when this process needs that no more. Only processes of nodes that share a store
among themselves have any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from ray.clock import monotonic
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    ObjectStoreFullError,
    RayError,
    RaySystemError,
    RemoteProtocolError,
)
from ray.ids import MAX_EDITION, node_number, node_of, stored_id
from ray.ids import node_bytes as node_id
from ray.messages import node, objects, wire
from ray.messages.objects import GET
from ray.protocol.references import STORED, Place
from ray.runtime.owner.arriving import OnDisk, Restoring

if TYPE_CHECKING:
    from ray.protocol.references import ObjectEntry, ReferenceTable
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.stored_views import StoredViews
    from ray.runtime.process.timers import Timers

#: From this size on a value is left where it is; what is smaller travels in messages.
AWAY_BYTES = 1 << 20
#: What is freed within this time is told together, and so many at a time.
_FREE_S, _MAX_FREED = 0.02, 512

#: The number of a request whose answer nobody waits for.
_UNASKED = 0

#: Asks the node manager, and waits for its answer.
Ask = Callable[[Callable[[int], Any], "float | None"], node.Answer]
#: Asks it, and has the answer taken.
AskLater = Callable[[Callable[[int], Any], Callable[[node.Answer], None]], None]


def place_of(object_id: bytes, at: wire.At) -> Place:
    """What a message says of where a value is.

    Raises:
        RemoteProtocolError: it is nowhere.
    """
    if at.edition > MAX_EDITION:
        raise RemoteProtocolError(f"edition {at.edition} of an object")
    return Place(node_id(at.node), stored_id(object_id, at.edition), at.nbytes, at.edition)


def at_of(place: Place) -> wire.At:
    """As a message says it."""
    return wire.At(node_number(place.node), place.nbytes, place.edition)


class Away:
    """Of one process. Methods say whether the runtime's lock is held."""

    def __init__(
        self,
        here: Here,
        table: ReferenceTable,
        views: StoredViews,
        timers: Timers,
        ask: Ask,
        ask_later: AskLater,
        tell: Callable[[Any], None],
        lock: Any,
    ) -> None:
        """There are none.

        Args:
            here: this process.
            table: its objects.
            views: on the node's store.
            timers: the runtime's.
            ask: asks the node manager, and waits.
            ask_later: asks it, and takes the answer when it comes.
            tell: tells it something.
            lock: the runtime's.
        """
        self._process = here
        self._table = table
        self._views = views
        self._timers = timers
        self._ask = ask
        self._ask_later = ask_later
        self._tell = tell
        self._lock = lock
        #: Objects whose values were read here: their entries keep the copies.
        self._read: set[bytes] = set()
        #: {object id: what to call when it is here, or cannot be} of those that are brought while nobody waits.
        self._coming: dict[bytes, list[Callable[[], None]]] = {}
        #: Those of which there is a copy here …
        self._here: set[bytes] = set()
        #: … and {object id: why there is none} of those that were brought last in vain.
        self._failed: dict[bytes, node.Answer] = {}
        #: (node, key) of what nobody holds any more and was not told of.
        self._freed: deque[tuple[bytes, bytes]] = deque()
        self._armed = False
        self._restoring = _Arrivals(self, Restoring(self._read_place))

    # --- reading; without the lock ------------------------------------------------------------------------------------

    def blob(
        self, entry: ObjectEntry, timeout_s: float | None = None, urgency: int = GET, end: float | None = None
    ) -> memoryview:
        """The value of an entry that is AWAY, brought here if need be.

        Args:
            entry: as it says.
            timeout_s: how long the caller waits in all; 0: it looks, and the value is brought for a later look.
            urgency: why it waits.
            end: when that time is over, if it has begun before this call.

        Raises:
            ObjectLostError: it is nowhere any more.
            ObjectStoreFullError: there is no room for it here.
            GetTimeoutError: the time is over first.
        """
        place = self._place_to_read(entry)
        if timeout_s and end is None:
            end = monotonic() + timeout_s
        for _ in range(_TRIES):
            view = self._views.view(place.key)
            if view is not None:
                return view
            if place.node == node_of(self._process.process_id):
                raise ObjectLostError(entry.id, "it is not in the node's store any more")
            self._pull(entry, place, timeout_s, urgency, end)
        raise ObjectLostError(entry.id, "it left the node's store as soon as it was there")

    def _place_to_read(self, entry: ObjectEntry) -> Place:
        """Where it is; from here on this process needs a copy."""
        place = self._table.places.get(entry.id)
        if place is None or entry.id not in self._read:  # most are read again
            with self._lock:
                place = self._table.places.get(entry.id)
                if place is not None and not entry.freed:
                    self._read.add(entry.id)
        if place is None:
            raise ObjectLostError(entry.id, "nobody holds it any more")
        return place

    def _pull(self, entry: ObjectEntry, place: Place, timeout_s: float | None, urgency: int, end: float | None) -> None:
        if timeout_s == 0:
            failed = self._failed.pop(entry.id, None)
            if failed is not None:
                raise _error_of(entry, failed)
            self.bring(entry, urgency)
        left_s = timeout_s if end is None else end - monotonic()
        if left_s is not None and left_s <= 0:
            raise _late(timeout_s)
        try:
            answer = self._ask(lambda request: _pull_of(request, place, urgency), left_s)
        except RaySystemError as error:
            if left_s is None or type(error) is not RaySystemError:
                raise
            raise _late(timeout_s) from None
        if not answer.ok:
            raise _error_of(entry, answer)
        self._note(entry, answer)

    def begin(self, entries: Iterable[ObjectEntry]) -> None:
        """Have all of these brought here; nothing is waited for, and ``blob`` asks for each again."""
        for entry in entries:
            place = self._table.places.get(entry.id)
            if place is not None and entry.id not in self._read and place.node != node_of(self._process.process_id):
                self.bring(entry, GET)

    def bring(self, entry: ObjectEntry, urgency: int, then: Callable[[], None] | None = None) -> None:
        """Have it brought here; ``then`` is called when it is here or cannot be, at once or under the lock."""
        with self._lock:
            try:
                place = self._place_to_read(entry)
            except ObjectLostError:
                place = None
            if place is None or place.node == node_of(self._process.process_id) or entry.id in self._here:
                if then is not None:
                    then()
                return
            mine = [] if then is None else [then]
            while True:
                waiting = self._coming.setdefault(entry.id, mine)
                if waiting is mine:
                    break
                waiting += mine
                if self._coming.get(entry.id) is waiting:  # else a call that has interrupted this one has ended it
                    self._tell(_pull_of(_UNASKED, place, urgency))  # it may be more urgent than before
                    return
            self._failed.pop(entry.id, None)
            found = place
            self._ask_later(
                lambda request: _pull_of(request, found, urgency), lambda answer: self._answered(entry, mine, answer)
            )

    def _answered(self, entry: ObjectEntry, waiting: list[Callable[[], None]], answer: node.Answer) -> None:
        with self._lock:
            if self._coming.get(entry.id) is not waiting:
                return
            del self._coming[entry.id]
            self._note(entry, answer)
        for then in waiting:
            then()

    def _note(self, entry: ObjectEntry, answer: node.Answer) -> None:
        with self._lock:
            if entry.freed or entry.id not in self._table.places:
                return
            if answer.ok:
                self._here.add(entry.id)
            else:
                self._failed[entry.id] = answer

    def is_here(self, entry: ObjectEntry) -> bool:
        """Whether a read of an entry that is AWAY does not wait for another node; with or without the lock.

        So it is where it was brought in vain: the next read says why, or begins anew.
        """
        if entry.id in self._here or entry.id in self._failed:
            return True
        place = self._table.places.get(entry.id)
        return place is not None and place.node == node_of(self._process.process_id)

    def at_once(self, entry: ObjectEntry) -> memoryview | None:
        """The same, if it is here and can be read now; with or without the lock."""
        place = self._table.places.get(entry.id)
        if place is None or (entry.id not in self._read and place.node != node_of(self._process.process_id)):
            return None
        try:
            return self._views.at_once(place.key)
        except RaySystemError:
            return None

    def arriving(self, entry: ObjectEntry) -> OnDisk | None:
        """The same for callers that may not wait, such as event loops; None: ``blob`` does not wait."""
        if self.at_once(entry) is not None:
            return None
        return OnDisk(entry.id, self._restoring)

    def entry_of(self, object_id: bytes) -> ObjectEntry | None:
        """That of an object that somebody here holds."""
        return self._table.entries.get(object_id)

    def _read_place(self, object_id: bytes) -> memoryview:
        entry = self.entry_of(object_id)
        if entry is None:
            raise ObjectLostError(object_id, "nobody holds it any more")
        return self.blob(entry)

    # --- under the lock -----------------------------------------------------------------------------------------------

    def here(self, entry: ObjectEntry) -> wire.At:
        """Of a value of this process that is in the store of its node, for others."""
        return wire.At(node_number(self._process.process_id), entry.nbytes)

    def nodes_of(self, entry: ObjectEntry) -> Collection[bytes]:
        """Those whose stores have a value, as far as this process knows."""
        own = node_of(self._process.process_id)
        if entry.status == STORED:
            return (own,)
        place = self._table.places.get(entry.id)
        if place is None:
            return ()
        return {place.node, own} if entry.id in self._here else (place.node,)

    def let_go(self, entry: ObjectEntry) -> None:
        """Nobody here holds the entry any more; its owner frees the value."""
        place = self._table.take_place(entry)
        if place is None:
            return
        if entry.id in self._read:
            self._read.discard(entry.id)
            self._here.discard(entry.id)
            self._coming.pop(entry.id, None)
            self._failed.pop(entry.id, None)
            self._views.drop(place.key)
            if place.node != node_of(self._process.process_id):
                self._tell(objects.LetGo([place.key]))
        if entry.owner is None:
            self.free(place.node, place.key)

    # --- freeing; under the lock --------------------------------------------------------------------------------------

    def free(self, node: bytes, key: bytes) -> None:
        """Nobody holds the value that a store has there, or it is one that nobody is told of."""
        self._freed.append((node, key))  # in one step: a call that interrupts this may free, and flush, as well
        if not self._armed:
            self._armed = True
            self._timers.after(_FREE_S, self.flush)

    def free_at(self, object_id: bytes, at: wire.At) -> None:
        """The same of what a message tells of."""
        place = place_of(object_id, at)
        self.free(place.node, place.key)

    def flush(self) -> None:
        """Tell of what was freed."""
        self._armed = False
        freed: dict[bytes, list[bytes]] = {}
        while True:
            try:
                at, key = self._freed.popleft()
            except IndexError:
                break
            freed.setdefault(at, []).append(key)
        for at, keys in freed.items():
            for start in range(0, len(keys), _MAX_FREED):
                self._tell(objects.FreeAt(node_number(at), keys[start : start + _MAX_FREED]))


def _pull_of(request: int, place: Place, urgency: int) -> objects.Pull:
    return objects.Pull(request, place.key, node_number(place.node), place.nbytes, urgency)


def _error_of(entry: ObjectEntry, answer: node.Answer) -> RayError:
    """Why there is no copy."""
    if answer.data:
        needed, capacity, used = msgspec.msgpack.decode(answer.data, type=tuple[int, int, int])
        return ObjectStoreFullError(needed, capacity, used, answer.error)
    return ObjectLostError(entry.id, answer.error)


def _late(timeout_s: float | None) -> GetTimeoutError:
    return GetTimeoutError(timeout_s, 1, 1, "It is on its way from another node.")


class _Arrivals:
    """Reads what has to come first: no thread waits meanwhile."""

    def __init__(self, away: Away, restoring: Restoring) -> None:
        self._away = away
        self._restoring = restoring

    def put(self, wanted: OnDisk) -> None:
        """See ``Reader``."""
        entry = self._away.entry_of(wanted.object_id)
        if entry is None:
            self._restoring.put(wanted)
        else:
            self._away.bring(entry, GET, lambda: self._restoring.put(wanted))


#: A copy may be deleted between the answer and the look: somebody else needed it no more.
_TRIES = 3
