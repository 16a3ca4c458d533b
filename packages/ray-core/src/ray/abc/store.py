"""Store seam: immutable objects, by id, created once, sealed, read by many.

Required is the small set of abstract methods; what else a store can do it declares in ``capabilities``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

#: Capability names. "shared": objects are visible to every process of the node that opens the store.
SHARED = "shared"
#: The store is a ``Notifier`` as well.
NOTIFICATIONS = "notifications"
#: The store is a ``Pinning`` as well.
PINNING = "pinning"
#: What does not fit is written to disk and comes back on ``get``: the store is a ``Spilling`` as well.
SPILLING = "spilling"
#: The store is a ``Listing`` as well.
LISTING = "listing"


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A snapshot of one store, in bytes and counts; ``capacity_bytes`` is 0 where there is no limit."""

    objects: int
    used_bytes: int
    capacity_bytes: int
    spilled_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as ``Listing.list`` shows it."""

    object_id: bytes
    nbytes: int
    state: str
    """``created`` (not sealed yet), ``sealed``, ``spilled``, or ``deleted`` (and still held)."""
    holders: tuple[int, ...] = ()
    """Pids of the processes that hold it; the creator's while it is not sealed."""


class Store(ABC):
    """A process's handle on a store. Safe from any thread. Ids are 20 bytes.

    Life of an object: ``create`` → write → ``seal`` (or ``abort``) → ``get``/``release`` by readers → ``delete``.
    """

    name: str
    capabilities: frozenset[str] = frozenset()

    @abstractmethod
    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        """Reserve ``nbytes`` and return the writable memory; only the creator sees it until ``seal``.

        Raises:
            ObjectExistsError: the id is created or sealed already.
            ObjectStoreFullError: there is no room even after eviction, spilling and waiting.
        """

    @abstractmethod
    def seal(self, object_id: bytes) -> None:
        """Make the object immutable and visible. The creator's memoryview is invalid afterwards.

        Raises:
            KeyError: the id was not created by this client, or is sealed already.
        """

    @abstractmethod
    def abort(self, object_id: bytes) -> None:
        """Undo ``create`` of an unsealed object. Raises KeyError as ``seal`` does."""

    @abstractmethod
    def get(self, object_id: bytes) -> memoryview | None:
        """Return the sealed object read-only, or None if it is not here. Waits for nothing but the store's disk.

        Each successful ``get`` holds the object in memory until the matching ``release``. What views still show then
        stays readable, and unchanged, until the last of them has gone.
        """

    def put(self, object_id: bytes, pieces: Sequence[bytes | memoryview], nbytes: int, *, patient: bool = True) -> None:
        """Create, write and seal in one step, for stores that can do that better than through ``create``.

        Args:
            object_id: the object.
            pieces: its bytes, in order; flat views of bytes. Their memory is the program's and may change as soon
                as this has returned.
            nbytes: their sum.
            patient: whether it may wait for room. Stores in which ``create`` never waits need not look at it.

        Raises:
            ObjectExistsError: as ``create``.
            ObjectStoreFullError: as ``create``.
            BlockingIOError: it is not ``patient``, and there is no room yet.
        """
        view = self.create(object_id, nbytes)
        try:
            position = 0
            for piece in pieces:
                end = position + len(piece)
                view[position:end] = piece
                position = end
        except BaseException:
            view.release()
            self.abort(object_id)
            raise
        view.release()
        self.seal(object_id)

    @abstractmethod
    def contains(self, object_id: bytes) -> bool:
        """Whether the object is sealed and here."""

    @abstractmethod
    def release(self, object_id: bytes) -> None:
        """End one hold of ``get``. Unknown ids are ignored (their store may have died first)."""

    @abstractmethod
    def delete(self, object_id: bytes) -> None:
        """Forget the object; memory returns when its last hold ends. Unknown ids are ignored."""

    @abstractmethod
    def stats(self) -> StoreStats:
        """Counts and bytes now."""

    @abstractmethod
    def close(self) -> None:
        """Drop every hold and disconnect. Idempotent."""

    def abandon(self) -> None:  # noqa: B027 - nothing to let go of by default
        """In a forked child: close inherited descriptors and send nothing. The store is of no use after."""


class Notifier(ABC):
    """What a store with ``NOTIFICATIONS`` also is: it tells of the objects that were asked for, and of no others."""

    @abstractmethod
    def subscribe(self, object_id: bytes) -> None:
        """Hear once when the object is sealed; at once if it is sealed already. Idempotent while it is unheard."""

    @abstractmethod
    def unsubscribe(self, object_id: bytes) -> None:
        """Do not hear of it. Unknown ids are ignored; a notification may be under way already."""

    @abstractmethod
    def notifications_fd(self) -> int:
        """A descriptor that is readable while ``notifications`` has something to return."""

    @abstractmethod
    def notifications(self) -> list[tuple[bytes, int]]:
        """What has happened since the last call: ``(object id, size in bytes)``. Never waits.

        Size -1 says that the creator aborted, or died, or that the object was deleted unsealed.
        """


class Pinning(ABC):
    """What a store with ``PINNING`` also is. Sealed objects are pinned: spilled if need be, but never dropped."""

    @abstractmethod
    def unpin(self, object_id: bytes) -> None:
        """Make it a mere cache copy: dropped, least recently used first, when room is needed and nobody holds it."""

    @abstractmethod
    def pin(self, object_id: bytes) -> bool:
        """Undo ``unpin``; False if the object is gone."""


class Spilling(ABC):
    """What a store with ``SPILLING`` also is."""

    @abstractmethod
    def get_at_once(self, object_id: bytes) -> memoryview | None:
        """``Store.get`` for callers that must not wait for the disk, such as event loops.

        Raises:
            BlockingIOError: the object is not in memory. ``get`` brings it back.
        """


class Listing(ABC):
    """What a store with ``LISTING`` also is."""

    @abstractmethod
    def list(self) -> list[StoredObject]:
        """Every object of the node's store, biggest first."""


class StoreServer(ABC):
    """What the node manager owns for a store; ``address`` is passed to ``ray_open_store`` in every process."""

    address: str
    #: The server's own process, a child of this one; its death is the end of the node. None: it has none.
    pid: int | None = None
    #: How many processes may have it open at a time; None: as many as there can be.
    max_clients: int | None = None

    def owner_lost(self, process_id: bytes) -> None:  # noqa: B027 - nothing to free by default
        """A process has died: delete every object whose id begins with its id. Never waits for long."""

    @abstractmethod
    def close(self) -> None:
        """Free everything and leave no file, process or shared memory behind. Idempotent."""
