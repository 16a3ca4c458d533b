"""The control store inside the head's node manager: dictionaries, and no other process.

Handles can be opened only in the process of the server; everybody else asks the node manager.
"""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable

from ray.abc.control import ControlServer, ControlStore
from ray.exceptions import RayConnectionError

SCHEME = "embedded:"

_log = logging.getLogger("ray")
_numbers = itertools.count(1)
#: {address: server} of this process
_servers: weakref.WeakValueDictionary[str, EmbeddedControlServer] = weakref.WeakValueDictionary()


class EmbeddedControlServer(ControlServer):
    """Owns the state; lives as long as the head's node manager."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        #: {key: value, or the list's items}
        self.entries: dict[str, bytes | deque[bytes]] = {}
        #: {subscription: (prefix, callback)}
        self.subscribers: dict[object, tuple[str, Callable[[str], None]]] = {}
        self.closed = False
        self.address = f"{SCHEME}{next(_numbers)}"
        _servers[self.address] = self

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self.entries.clear()
            self.subscribers.clear()
        _servers.pop(self.address, None)


class EmbeddedControlStore(ControlStore):
    """A handle. Change hints are given on the thread that made the change."""

    name = "embedded"

    def __init__(self, address: str) -> None:
        """Open a handle on the server of this process.

        Raises:
            RayConnectionError: no server of this process has that address.
        """
        server = _servers.get(address)
        if server is None:
            raise RayConnectionError(f"no control store {address!r} in this process: ask the head's node manager")
        self._server = server
        self._subscriptions: set[object] = set()
        self._closed = False

    def get(self, key: str) -> bytes | None:
        with self._server.lock:
            value = self._state().get(key)
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes, *, overwrite: bool = True) -> bool:
        with self._server.lock:
            entries = self._state()
            if not overwrite and key in entries:
                return False
            entries[key] = bytes(value)
        self._changed(key)
        return True

    def delete(self, key: str) -> bool:
        with self._server.lock:
            existed = self._state().pop(key, None) is not None
        if existed:
            self._changed(key)
        return existed

    def keys(self, prefix: str) -> list[str]:
        with self._server.lock:
            return sorted(key for key in self._state() if key.startswith(prefix))

    def append(self, key: str, value: bytes, *, max_items: int = 1000) -> None:
        with self._server.lock:
            items = self._state().setdefault(key, deque())
            if isinstance(items, bytes):
                raise ValueError(f"{key!r} holds a value, not a list")
            items.append(bytes(value))
            while len(items) > max_items:
                items.popleft()
        self._changed(key)

    def items(self, key: str) -> list[bytes]:
        with self._server.lock:
            items = self._state().get(key)
            return list(items) if isinstance(items, deque) else []

    def subscribe(self, prefix: str, on_change: Callable[[str], None]) -> Callable[[], None]:
        subscription = object()
        with self._server.lock:
            self._state()
            self._server.subscribers[subscription] = (prefix, on_change)
            self._subscriptions.add(subscription)

        def unsubscribe() -> None:
            with self._server.lock:
                self._server.subscribers.pop(subscription, None)
                self._subscriptions.discard(subscription)

        return unsubscribe

    def close(self) -> None:
        with self._server.lock:
            self._closed = True
            for subscription in self._subscriptions:
                self._server.subscribers.pop(subscription, None)
            self._subscriptions.clear()

    def _state(self) -> dict[str, bytes | deque[bytes]]:
        """The entries; the caller holds the lock."""
        if self._closed or self._server.closed:
            raise RayConnectionError("the control store is closed")
        return self._server.entries

    def _changed(self, key: str) -> None:
        with self._server.lock:
            interested = [hint for prefix, hint in self._server.subscribers.values() if key.startswith(prefix)]
        for hint in interested:
            try:
                hint(key)
            except Exception:
                _log.exception("a subscriber to changes of %r failed", key)
