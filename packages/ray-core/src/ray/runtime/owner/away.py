"""Values that are in the stores of other nodes: had brought here when they are read, and freed there.

A value that is away comes when somebody asks for it, and to the node, not to the process: the node manager is asked for
a copy in the node's store, and told when this process needs that no more. Only processes of nodes that share a store
among themselves have any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from ray.exceptions import GetTimeoutError, ObjectLostError, ObjectStoreFullError, RaySystemError, RemoteProtocolError
from ray.ids import MAX_EDITION, node_number, node_of, stored_id
from ray.ids import node_bytes as node_id
from ray.messages import node, objects, wire
from ray.messages.objects import GET
from ray.protocol.references import Place
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
            tell: tells it something.
            lock: the runtime's.
        """
        self._here = here
        self._table = table
        self._views = views
        self._timers = timers
        self._ask = ask
        self._tell = tell
        self._lock = lock
        #: Objects whose values were read here: their entries keep the copies.
        self._read: set[bytes] = set()
        #: (node, key) of what nobody holds any more and was not told of.
        self._freed: deque[tuple[bytes, bytes]] = deque()
        self._armed = False
        self._restoring = Restoring(self._read_place)

    # --- reading; without the lock ------------------------------------------------------------------------------------

    def blob(self, entry: ObjectEntry, timeout_s: float | None = None, urgency: int = GET) -> memoryview:
        """The value of an entry that is AWAY, brought here if need be.

        Raises:
            ObjectLostError: it is nowhere any more.
            ObjectStoreFullError: there is no room for it here.
            GetTimeoutError: the time is over first.
        """
        place = self._table.places.get(entry.id)
        if place is None or entry.id not in self._read:  # most are read again
            with self._lock:
                place = self._table.places.get(entry.id)
                if place is not None and not entry.freed:
                    self._read.add(entry.id)
        if place is None:
            raise ObjectLostError(entry.id, "nobody holds it any more")
        return self._blob(entry.id, place, timeout_s, urgency)

    def _blob(self, object_id: bytes, place: Place, timeout_s: float | None, urgency: int) -> memoryview:
        if place.node == node_of(self._here.process_id):
            view = self._views.view(place.key)
            if view is None:
                raise ObjectLostError(object_id, "it is not in the node's store any more")
            return view
        for _ in range(_TRIES):
            view = self._views.view(place.key)
            if view is not None:
                return view
            self._pull(object_id, place, timeout_s, urgency)
        raise ObjectLostError(object_id, "it left the node's store as soon as it was there")

    def _pull(self, object_id: bytes, place: Place, timeout_s: float | None, urgency: int) -> None:
        number = node_number(place.node)

        def make(request: int) -> objects.Pull:
            return objects.Pull(request, place.key, number, place.nbytes, urgency)

        try:
            answer = self._ask(make, timeout_s)
        except RaySystemError as error:
            if timeout_s is None or type(error) is not RaySystemError:
                raise
            raise GetTimeoutError(timeout_s, 1, 1, "It is on its way from another node.") from None
        if answer.ok:
            return
        if answer.data:
            needed, capacity, used = msgspec.msgpack.decode(answer.data, type=tuple[int, int, int])
            raise ObjectStoreFullError(needed, capacity, used, answer.error)
        raise ObjectLostError(object_id, answer.error)

    def begin(self, entries: Iterable[ObjectEntry]) -> None:
        """Have all of these brought here; nothing is waited for, and ``blob`` asks for each again."""
        own = node_of(self._here.process_id)
        with self._lock:
            for entry in entries:
                place = self._table.places.get(entry.id)
                if place is None or entry.id in self._read or place.node == own:
                    continue
                self._read.add(entry.id)
                self._tell(objects.Pull(_UNASKED, place.key, node_number(place.node), place.nbytes, GET))

    def at_once(self, entry: ObjectEntry) -> memoryview | None:
        """The same, if it is here and can be read now; with or without the lock."""
        place = self._table.places.get(entry.id)
        if place is None or (entry.id not in self._read and place.node != node_of(self._here.process_id)):
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

    def _read_place(self, object_id: bytes) -> memoryview:
        entry = self._table.entries.get(object_id)
        if entry is None:
            raise ObjectLostError(object_id, "nobody holds it any more")
        return self.blob(entry)

    # --- under the lock -----------------------------------------------------------------------------------------------

    def here(self, entry: ObjectEntry) -> wire.At:
        """Of a value of this process that is in the store of its node, for others."""
        return wire.At(node_number(self._here.process_id), entry.nbytes)

    def let_go(self, entry: ObjectEntry) -> None:
        """Nobody here holds the entry any more; its owner frees the value."""
        place = self._table.take_place(entry)
        if place is None:
            return
        if entry.id in self._read:
            self._read.discard(entry.id)
            self._views.drop(place.key)
            if place.node != node_of(self._here.process_id):
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


#: A copy may be deleted between the answer and the look: somebody else needed it no more.
_TRIES = 3
