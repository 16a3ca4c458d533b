"""Selector seam: readiness of object ids, after ``selectors.BaseSelector``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple


class SelectorKey(NamedTuple):
    """What ``register`` returns and ``select`` reports."""

    fileobj: Any
    fd: bytes
    events: int | None
    data: Any


class ObjectSelector(ABC):
    """Watches object ids; level-triggered. Not thread-safe: one loop owns it."""

    name: str

    @abstractmethod
    def register(self, fileobj: Any, events: int | None = None, data: Any = None) -> SelectorKey:
        """Watch an id. Ids that are ready, or failed, already are reported by the next ``select``.

        Raises:
            ValueError: it is registered already.
        """

    @abstractmethod
    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching; KeyError if it is not registered."""

    @abstractmethod
    def select(self, timeout_s: float | None = None) -> list[SelectorKey]:
        """Keys whose objects are ready; waits up to ``timeout_s`` (0 polls, None waits for one)."""

    @abstractmethod
    def get_map(self) -> Mapping[bytes, SelectorKey]:
        """Registered keys by object id."""

    @abstractmethod
    def get_key(self, fileobj: Any) -> SelectorKey:
        """The key; KeyError if it is not registered."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Idempotent."""
