"""Store seam: immutable objects, by id, created once, sealed, read by many.

Required is the small set of abstract methods; what else a store can do it declares in ``capabilities``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

#: Capability names. "shared": objects are visible to every process of the node that opens the store.
SHARED = "shared"
NOTIFICATIONS = "notifications"
PINNING = "pinning"
SPILLING = "spilling"


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A snapshot of one store, in bytes and counts; ``capacity_bytes`` is 0 where there is no limit."""

    objects: int
    used_bytes: int
    capacity_bytes: int
    spilled_bytes: int = 0


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
        """Return the sealed object read-only, or None if it is not here. Never waits.

        Each successful ``get`` holds the object in memory until the matching ``release``.
        """

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


class StoreServer(ABC):
    """What the node manager owns for a store; ``address`` is passed to ``ray_open_store`` in every process."""

    address: str

    @abstractmethod
    def close(self) -> None:
        """Free everything and leave no file, process or shared memory behind. Idempotent."""
