"""The values of objects: beside their entries, in the store, or on its disk.

Without the runtime's lock, unless a method says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from ray.abc.store import SHARED, SPILLING, Store
from ray.exceptions import BlockingCallError, ObjectExistsError, ObjectLostError, RayConnectionError, RayError
from ray.protocol.references import FAILED, READY, STORED, ObjectEntry, ReferenceTable
from ray.runtime.owner.arriving import OnDisk, Restoring, Wanted
from ray.runtime.owner.away import AWAY_BYTES, at_of, place_of
from ray.runtime.owner.unreadable import FINALISED, error_of, raise_unreadable_value
from ray.serialization import deserialize_aligned, deserialize_copy
from ray.serialization.blob import PICKLE, Blob, load_pickle

if TYPE_CHECKING:
    from ray.messages import wire
    from ray.runtime.owner.away import Away
    from ray.runtime.owner.stored_views import StoredViews
    from ray.runtime.process.peers import Peer
    from ray.serialization import Serialized


class Values:
    """The store of an owner, as its other parts use it."""

    def __init__(
        self,
        store: Store,
        views: StoredViews,
        table: ReferenceTable,
        retrieved: Callable[[ObjectEntry], None],
        why_lost: Callable[[ObjectEntry, ObjectLostError], ObjectLostError],
        store_lost: Callable[[RayConnectionError], RayConnectionError],
        may_wait: Callable[[], bool],
        away: Away,
    ) -> None:
        """Make one.

        Args:
            store: of the node, or of this process alone.
            views: on it.
            table: of the process.
            retrieved: told of a failure that is about to be raised.
            why_lost: what to raise for an object that is not in the store, where a plain loss is all that is known.
            store_lost: what to raise where the store does not answer; waits for the reason.
            may_wait: whether this thread may wait for room; if not, it runs an event loop.
            away: what is in the stores of other nodes.
        """
        self._store = store
        self._table = table
        self._retrieved = retrieved
        self._why_lost = why_lost
        self._store_lost = store_lost
        self._may_wait = may_wait
        #: Whether large values are in memory that every process of the node sees.
        self.shared = SHARED in store.capabilities
        #: Whether what does not fit into it goes to a disk.
        self.spills = SPILLING in store.capabilities
        self.views = views
        self.away = away
        #: Whether processes of other nodes may read what is in the node's store: then it stays there if it is large.
        self.serves = False
        self._restoring = Restoring(self.stored_blob)

    def value(
        self, entry: ObjectEntry, copy: bool = False, timeout_s: float | None = None, end: float | None = None
    ) -> Any:
        """The value of a complete entry, or raise its failure; it is not waited longer than ``timeout_s`` for it.

        ``end``: when that time is over, if it has begun already.
        """
        status = entry.status
        blob: Blob | None
        if status == READY:
            blob = entry.value
        elif status == FAILED:
            self._retrieved(entry)
            raise error_of(entry)
        else:
            try:
                blob = self.stored_blob(entry.id) if status == STORED else self.away.blob(entry, timeout_s, end=end)
            except ObjectLostError as error:
                raise self._why_lost(entry, error) from None
        try:
            if blob and blob[0] == PICKLE:  # most are: a pickle with nothing beside it
                return load_pickle(blob)
            if blob is None:  # it has been let go of
                raise ObjectLostError(entry.id, FINALISED)
            return deserialize_aligned(blob) if not copy else deserialize_copy(blob)
        except BaseException as error:
            raise_unreadable_value(error, entry)

    def stored_blob(self, object_id: bytes) -> memoryview:
        """An object in the node's store.

        Raises:
            ObjectLostError: it is not there (any more).
        """
        blob = self.view(object_id)
        if blob is None:
            raise ObjectLostError(object_id, "it is not in the node's store any more")
        return blob

    def on_disk(self, object_id: bytes) -> OnDisk | None:
        """An object of the node's store, for callers that may not wait for a disk; None: ``stored_blob`` will not."""
        try:
            if not self.views.is_spilled(object_id):
                return None
        except RayConnectionError:  # it may take a while to learn what has happened to the store
            pass
        except RayError:  # the later read raises the same error
            return None
        return OnDisk(object_id, self._restoring)

    def at_once(self, object_id: bytes) -> memoryview | None:
        """An object in the node's store, if it can be read now; with or without the lock.

        None where that would wait for a disk, and where the reason why it cannot be read is for ``read_later`` to find.
        """
        try:
            return self.views.at_once(object_id)
        except (RayError, RecursionError):
            return None

    def read_later(self, wanted: Wanted) -> None:
        """Have what cannot be read at once read on a thread; with or without the lock."""
        self._restoring.put(wanted)

    def view(self, object_id: bytes) -> memoryview | None:
        """An object in the node's store, or None if it is not there."""
        try:
            return self.views.view(object_id)
        except RayConnectionError as error:
            raise self._store_lost(error) from error

    def store_value(self, entry: ObjectEntry, serialized: Serialized) -> None:
        """Write a large value of this process into the store.

        Raises:
            BlockingCallError: the store would have to make room first, and this thread runs an event loop.
        """
        store = self._store
        try:
            store.put(entry.id, serialized.pieces(), serialized.nbytes, patient=self._may_wait())
        except BaseException as error:
            self._table.dropped.append(entry)  # nobody may ever hold it
            store.delete(entry.id)  # a signal handler may have raised when it was complete
            if isinstance(error, RayConnectionError):
                raise self._store_lost(error) from error
            if isinstance(error, BlockingIOError):
                raise BlockingCallError("ray.put") from error
            raise
        if self.shared:
            entry.table.fill_stored(entry, serialized.nbytes)
        else:
            entry.table.fill(entry, READY, store.get(entry.id))

    def store_result(self, object_id: bytes, serialized: Serialized, *, patient: bool = True) -> None:
        """Write a large value that another process will own into the shared store, as ``put``."""
        store = self._store
        try:
            try:
                store.put(object_id, serialized.pieces(), serialized.nbytes, patient=patient)
            except ObjectExistsError:  # left by an earlier attempt, whose process died before it could say so
                store.delete(object_id)
                store.put(object_id, serialized.pieces(), serialized.nbytes, patient=patient)
        except RayConnectionError as error:
            raise self._store_lost(error) from error

    def stored(self, entry: ObjectEntry, nbytes: int) -> None:
        """A worker has put the value into the node's store. Under the lock."""
        entry.table.complete_stored(entry, nbytes)
        if entry.freed:
            self._store.delete(entry.id)

    def came_away(self, entry: ObjectEntry, at: wire.At) -> None:
        """A worker of another node has put the value into the store of that one. Under the lock."""
        entry.table.complete_away(entry, place_of(entry.id, at))
        if entry.freed:
            self.away.let_go(entry)

    def at(self, entry: ObjectEntry, receiver: Peer) -> wire.At | None:
        """Where that process finds the value of an entry by itself; None: in its node's store, or nowhere.

        Under the lock.
        """
        if receiver.is_guest:
            return None
        if entry.status == STORED:
            large = self.serves and not receiver.near and entry.nbytes >= AWAY_BYTES
            return self.away.here(entry) if large else None
        place = entry.table.places.get(entry.id)
        return None if place is None else at_of(place)

    def nodes_of(self, entry: ObjectEntry) -> Collection[bytes]:
        """The nodes whose stores have the value of an entry, as far as this process knows. Under the lock."""
        return self.away.nodes_of(entry)

    def discard(self, ids: Iterable[bytes]) -> None:
        """Results that may be in the store though nobody will ever be told. Under the lock."""
        if self.shared:
            for id in ids:
                self._store.delete(id)

    def delete(self, entry: ObjectEntry) -> None:
        """Nobody holds an object of this process, which is in the node's store. Under the lock."""
        self._store.delete(entry.id)

    def release(self, entry: ObjectEntry) -> None:
        """The same of one that may be in the store of this process alone. Under the lock."""
        store = self._store
        if not self.shared and store.contains(entry.id):
            store.release(entry.id)
            store.delete(entry.id)
