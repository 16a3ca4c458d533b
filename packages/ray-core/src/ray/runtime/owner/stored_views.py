"""Views of objects in the node's store that were read a moment ago: to read one again asks nobody."""

from __future__ import annotations

from collections.abc import Callable

from ray.abc.store import SPILLING, Spilling, Store
from ray.clock import monotonic
from ray.headroom import SENDING, check

#: How long a view that nobody asks for again keeps its hold. Short: what is held cannot be spilled.
KEPT_S = 0.05
#: How often to look.
TRIM_S = KEPT_S / 2


class StoredViews:
    """Holds on objects of a shared store, ended by ``trim``. Safe from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: {object id: (view, monotonic time of the last use)}; to be looked at only.
        self.held: dict[bytes, tuple[memoryview, float]] = {}
        self._next_trim = 0.0
        #: The same store, if it has a disk that a read may wait for.
        self._spilling = store if isinstance(store, Spilling) and SPILLING in store.capabilities else None

    def view(self, object_id: bytes) -> memoryview | None:
        """The object's memory, read-only, or None if it is not in the store. May wait for a disk."""
        return self._view(object_id, self._store.get)

    def at_once(self, object_id: bytes) -> memoryview | None:
        """The same, but None too where it would wait for a disk."""
        try:
            return self._view(object_id, self._store.get if self._spilling is None else self._spilling.get_at_once)
        except BlockingIOError:
            return None

    def is_spilled(self, object_id: bytes) -> bool:
        """Whether ``view`` would wait for a disk; if not, it is quick for the next moment."""
        if self._spilling is not None:
            try:
                self._view(object_id, self._spilling.get_at_once)
            except BlockingIOError:
                return True
        return False

    def _view(self, object_id: bytes, get: Callable[[bytes], memoryview | None]) -> memoryview | None:
        known = self.held.get(object_id)
        if known is not None:
            view = known[0]
        else:
            check(SENDING)  # a question to the store is not to end between its answer and what is done with that
            found = get(object_id)
            if found is None:
                return None
            view = found
        entry = (view, monotonic())
        if known is not None:
            if object_id in self.held:
                self.held[object_id] = entry
        elif self.held.setdefault(object_id, entry) is not entry:
            self._store.release(object_id)  # another thread was quicker: one hold is enough
        return view

    def drop(self, object_id: bytes) -> None:
        """End the hold, if there is one."""
        if self.held.pop(object_id, None) is not None:
            self._store.release(object_id)

    def close(self) -> None:
        """End every hold."""
        for object_id in list(self.held):
            self.drop(object_id)

    def trim(self) -> None:
        """End the holds of views that were not asked for lately; called often by the thread that polls."""
        now = monotonic()
        if now < self._next_trim:
            return
        self._next_trim = now + TRIM_S
        for object_id, (_, used) in list(self.held.items()):
            if now - used > KEPT_S:
                self.drop(object_id)
