"""A store that fails on purpose: see ``ray.testing.faults``."""

from __future__ import annotations

import builtins
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from ray.abc.store import Listing, Notifier, Pinning, Spilling, Store, StoredObject, StoreStats
from ray.clock import sleep
from ray.exceptions import ObjectStoreFullError, RayConnectionError

T = TypeVar("T")


class FaultyStore(Store, Notifier, Pinning, Spilling, Listing):
    """Is full, slow or cut off, or has lost an object, now and then. ``injected`` counts what was done, by kind.

    What the wrapped store can do beyond the required methods it can do too. ``release``, ``delete``, ``close`` and
    ``abandon`` are never disturbed: destructors call them.
    """

    def __init__(
        self,
        inner: Store,
        *,
        seed: int = 0,
        full: float = 0.0,
        lost: float = 0.0,
        cut: float = 0.0,
        max_delay_s: float = 0.0,
    ) -> None:
        """Wrap a store client, which the wrapper owns from now on.

        Args:
            inner: a store that keeps its contract.
            seed: decides which calls are hit.
            full: probability that ``create`` or ``put`` raises ObjectStoreFullError.
            lost: probability that ``get`` of an object that is there finds it gone, for good.
            cut: probability that a call loses the connection, before or after the store has done what it asks.
            max_delay_s: each call takes up to this much longer.
        """
        self.name = inner.name
        self.capabilities = inner.capabilities
        self.inner = inner
        self.full = full
        self.lost = lost
        self.cut_rate = cut
        self.max_delay_s = max_delay_s
        #: {"full" | "lost" | "cut" | "delay": count}
        self.injected: Counter[str] = Counter()
        self._chance = random.Random(seed)
        # Re-entrant: the garbage collector may run a destructor that comes here while this thread has it.
        self._lock = threading.RLock()
        self._is_cut = False

    def cut(self) -> None:
        """Lose the connection, as if this process had died for the store: every later call says so."""
        with self._lock:
            if self._is_cut:
                return
            self._is_cut = True
            self.injected["cut"] += 1
        self.inner.close()

    def create(self, object_id: bytes, nbytes: int) -> memoryview:
        self._may_be_full(nbytes)
        return self._disturbed(lambda: self.inner.create(object_id, nbytes))

    def put(self, object_id: bytes, pieces: Sequence[bytes | memoryview], nbytes: int, *, patient: bool = True) -> None:
        self._may_be_full(nbytes)
        self._disturbed(lambda: self.inner.put(object_id, pieces, nbytes, patient=patient))

    def seal(self, object_id: bytes) -> None:
        self._disturbed(lambda: self.inner.seal(object_id))

    def abort(self, object_id: bytes) -> None:
        self._disturbed(lambda: self.inner.abort(object_id))

    def get(self, object_id: bytes) -> memoryview | None:
        return self._get(object_id, self.inner.get)

    def get_at_once(self, object_id: bytes) -> memoryview | None:
        assert isinstance(self.inner, Spilling)
        return self._get(object_id, self.inner.get_at_once)

    def _get(self, object_id: bytes, get: Callable[[bytes], memoryview | None]) -> memoryview | None:
        def get_or_lose() -> memoryview | None:
            if self.lost and self.inner.contains(object_id) and self._hit("lost", self.lost):
                self.inner.delete(object_id)
            return get(object_id)

        return self._disturbed(get_or_lose)

    def contains(self, object_id: bytes) -> bool:
        return self._disturbed(lambda: self.inner.contains(object_id))

    def release(self, object_id: bytes) -> None:
        if not self._is_cut:
            self.inner.release(object_id)

    def delete(self, object_id: bytes) -> None:
        if not self._is_cut:
            self.inner.delete(object_id)

    def stats(self) -> StoreStats:
        return self._disturbed(self.inner.stats)

    def subscribe(self, object_id: bytes) -> None:
        self._disturbed(lambda: self._notifier.subscribe(object_id))

    def unsubscribe(self, object_id: bytes) -> None:
        self._disturbed(lambda: self._notifier.unsubscribe(object_id))

    def notifications_fd(self) -> int:
        return self._disturbed(self._notifier.notifications_fd)

    def notifications(self) -> builtins.list[tuple[bytes, int]]:
        return self._disturbed(self._notifier.notifications)

    def unpin(self, object_id: bytes) -> None:
        self._disturbed(lambda: self._pinning.unpin(object_id))

    def pin(self, object_id: bytes) -> bool:
        return self._disturbed(lambda: self._pinning.pin(object_id))

    def list(self) -> builtins.list[StoredObject]:
        assert isinstance(self.inner, Listing)
        return self._disturbed(self.inner.list)

    def close(self) -> None:
        if not self._is_cut:
            self.inner.close()

    def abandon(self) -> None:
        self.inner.abandon()

    @property
    def _notifier(self) -> Notifier:
        assert isinstance(self.inner, Notifier)
        return self.inner

    @property
    def _pinning(self) -> Pinning:
        assert isinstance(self.inner, Pinning)
        return self.inner

    def _may_be_full(self, nbytes: int) -> None:
        if self._hit("full", self.full):
            stats = self.inner.stats()
            raise ObjectStoreFullError(nbytes, stats.capacity_bytes, stats.used_bytes, "injected by a test")

    def _disturbed(self, call: Callable[[], T]) -> T:
        """Do it: late, or with the connection lost before or after it, or as it should be."""
        if self.max_delay_s:
            with self._lock:
                self.injected["delay"] += 1
                delay_s = self._chance.random() * self.max_delay_s
            sleep(delay_s)
        hit = self._hit("", self.cut_rate)
        with self._lock:
            is_done = self._chance.random() < 0.5
        if hit and not is_done:
            self.cut()
        if self._is_cut:
            raise _lost_connection()
        try:
            result = call()
        except Exception as error:
            if self._is_cut:  # by another thread, meanwhile
                raise _lost_connection() from error
            raise
        if hit:
            del result
            self.cut()
            raise _lost_connection()
        return result

    def _hit(self, kind: str, rate: float) -> bool:
        with self._lock:
            hit = self._chance.random() < rate
            if hit and kind:
                self.injected[kind] += 1
            return hit


def _lost_connection() -> RayConnectionError:
    return RayConnectionError("the connection to the store was cut by a test")
