"""Control seam: small state of record for the cluster — keys, lists and change hints. Never on a task's path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable


class ControlStore(ABC):
    """A handle on the control store. Keys are text, values bytes that are never unpickled. Safe from any thread."""

    name: str

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The value, or None."""

    @abstractmethod
    def put(self, key: str, value: bytes, *, overwrite: bool = True) -> bool:
        """Store a value; with ``overwrite=False`` only if the key is free. Returns whether it was stored."""

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Remove a key or a list; returns whether it existed."""

    @abstractmethod
    def keys(self, prefix: str) -> list[str]:
        """Keys and lists that start with ``prefix``, sorted."""

    @abstractmethod
    def append(self, key: str, value: bytes, *, max_items: int = 1000) -> None:
        """Append to the list at ``key``; beyond ``max_items`` the oldest are dropped."""

    @abstractmethod
    def items(self, key: str) -> list[bytes]:
        """The list at ``key``, oldest first; empty if there is none."""

    @abstractmethod
    def subscribe(self, prefix: str, on_change: Callable[[str], None]) -> Callable[[], None]:
        """Hint ``on_change(key)`` after changes under ``prefix``; returns the function that ends it.

        Hints may be lost or merged: read the key for the truth. Called from a thread of the store's choosing.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect. Idempotent."""


class ControlServer(ABC):
    """What the head owns for a control store; ``address`` goes to ``ray_open_control``."""

    address: str

    @abstractmethod
    def close(self) -> None:
        """Stop and clean up. Idempotent."""
