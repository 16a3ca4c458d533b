"""Stores of other nodes of this machine: what is complete there is copied from memory to memory.

They answer as quickly as the store of this node, or they do not: whatever keeps one from it, the object comes over a
data connection then, as from any other machine.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from ray.abc.store import Store
from ray.exceptions import RayError
from ray.threads import Flag, UnawaitedThread

#: A store that does not answer for so long is not asked again.
PATIENCE_S = 3.0


class Neighbours:
    """Those that this process has read from. Safe from any thread."""

    def __init__(self, open_store: Callable[[str], Store], patience_s: float = PATIENCE_S) -> None:
        """``open_store`` opens a handle on the store at an address."""
        self._open_store = open_store
        self._patience_s = patience_s
        self._lock = threading.Lock()
        #: {node: its store, which may not be open yet}
        self._known: dict[bytes, _Neighbour] = {}

    def meet(self, node: bytes, address: str) -> None:
        """The store of that node is at that address of this machine; no effect but the first time."""
        with self._lock:
            if node not in self._known:
                self._known[node] = _Neighbour(self._open_store, address)

    @contextlib.contextmanager
    def reading(self, node: bytes, key: bytes) -> Iterator[memoryview | None]:
        """The object in that node's store, as long as the block takes; None: it cannot be had from there."""
        with self._lock:
            neighbour = self._known.get(node)
        if neighbour is None or neighbour.is_given_up:
            yield None
            return
        look = _Look(neighbour, key)
        if not look.is_done(self._patience_s):
            neighbour.is_given_up = True
        found = look.take()
        try:
            yield found
        finally:
            if found is not None:
                found.release()
                neighbour.release(key)

    def gone(self, node: bytes) -> None:
        """That node is dead."""
        with self._lock:
            neighbour = self._known.pop(node, None)
        if neighbour is not None:
            neighbour.leave()

    def close(self) -> None:
        """Let go of all."""
        for node in list(self._known):
            self.gone(node)


class _Neighbour:
    """The store of one node, which is opened when it is first read."""

    def __init__(self, open_store: Callable[[str], Store], address: str) -> None:
        self._open_store = open_store
        self._address = address
        #: It has not answered in time.
        self.is_given_up = False
        self._lock = threading.Lock()
        self._store: Store | None = None

    def get(self, key: bytes) -> memoryview | None:
        """As the store does; None also where it cannot be opened, or has ended."""
        try:
            with self._lock:
                if self._store is None:
                    self._store = self._open_store(self._address)
            return self._store.get(key)
        except (RayError, OSError):
            return None

    def release(self, key: bytes) -> None:
        """As the store does."""
        store = self._store
        if store is not None:
            with contextlib.suppress(RayError, OSError):
                store.release(key)

    def leave(self) -> None:
        """Close it, for which nobody waits: it may be the store of a node that stands still."""
        with contextlib.suppress(RuntimeError):  # there is no room for one more thread
            UnawaitedThread(target=self._close, name="ray-data", daemon=True).start()

    def _close(self) -> None:
        with self._lock, contextlib.suppress(RayError, OSError):
            if self._store is not None:
                self._store.close()


class _Look:
    """One look into a store, on a thread of its own: the store may stand still."""

    def __init__(self, neighbour: _Neighbour, key: bytes) -> None:
        self._neighbour = neighbour
        self._key = key
        self._lock = threading.Lock()
        self._done = Flag()
        self._is_taken = False
        self._found: memoryview | None = None
        try:
            UnawaitedThread(target=self._run, name="ray-data", daemon=True).start()
        except RuntimeError:  # there is no room for one more thread
            self._done.set()

    def is_done(self, patience_s: float) -> bool:
        """Wait for it."""
        return self._done.wait(patience_s)

    def take(self) -> memoryview | None:
        """What was found so far. What is found later is let go of."""
        with self._lock:
            self._is_taken = True
            return self._found

    def _run(self) -> None:
        found = self._neighbour.get(self._key)
        with self._lock:
            if not self._is_taken:
                self._found = found
                self._done.set()
                return
        if found is not None:
            found.release()
            self._neighbour.release(self._key)
