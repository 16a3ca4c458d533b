"""What to say of an object, or of the store, that is not there any more. Without the runtime's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic
from ray.exceptions import NodeDiedError, ObjectLostError, OwnerDiedError, RayConnectionError
from ray.ids import process_of
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.unreadable import FINALISED
from ray.runtime.process.own_faults import OutOfDescriptorsError
from ray.runtime.process.waiting import Waiter

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here
    from ray.runtime.process.peers import PeerTable

#: The store knows that a process has died before its peers do; these know it in this time.
_DEATH_S = 0.5


class Losses:
    """Waits for the reasons of losses, which others may hear of later than of the losses."""

    def __init__(
        self,
        here: Here,
        lock: Any,
        peers: PeerTable,
        wait: Callable[[Waiter, float | None], bool],
        node_death: Callable[[], str | None],
        cut_off: Callable[[RayConnectionError], None],
        store_death_s: float,
    ) -> None:
        """Make one.

        Args:
            here: this process.
            lock: the runtime's.
            peers: the others.
            wait: takes messages until a waiter is done, or for so many seconds.
            node_death: how the node manager has ended, if it has.
            cut_off: told that the store does not answer this process, though the node lives.
            store_death_s: how long the end of the store may precede the report of the end of the node.
        """
        self._here = here
        self._lock = lock
        self._peers = peers
        self._wait = wait
        self._node_death = node_death
        self._cut_off = cut_off
        self._store_death_s = store_death_s

    def of_entry(self, entry: ObjectEntry, error: ObjectLostError) -> ObjectLostError:
        """The error of a value that is not in the store: one that is borrowed has gone with its owner."""
        if entry.freed:
            return ObjectLostError(entry.id, FINALISED)
        return error if entry.owner is None else self.of_object(entry.id, entry.owner.address, error)

    def of_object(self, object_id: bytes, address: str, error: ObjectLostError) -> ObjectLostError:
        """The same of an object whose owner is to be dialled at that address."""
        if self._here.closed:
            return error
        try:
            with self._lock:
                peer = self._peers.reach(process_of(object_id), address)
        except OutOfDescriptorsError:
            return error
        except ConnectionError:
            return OwnerDiedError(object_id)
        end = monotonic() + _DEATH_S
        while monotonic() < end or not (peer.stands or peer.lost):
            if peer.lost or self._here.closed:
                return OwnerDiedError(object_id)
            self._wait(Waiter(1), 0.02)
        return OwnerDiedError(object_id) if peer.lost else error

    def of_store(self, error: RayConnectionError) -> RayConnectionError:
        """What to raise when the store does not answer: most likely the node is about to be reported dead."""
        end = monotonic() + self._store_death_s
        while self._node_death() is None and not self._here.closed and monotonic() < end:
            self._wait(Waiter(1), 0.05)
        reason = self._node_death()
        if reason is not None:
            return NodeDiedError(self._here.node_id, reason)
        self._cut_off(error)
        return error
