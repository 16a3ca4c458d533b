"""Selector seam: readiness of object ids, after ``selectors.BaseSelector``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ray.clock import sleep


class SelectorKey(NamedTuple):
    """What ``register`` returns and ``select`` reports."""

    fileobj: Any
    """What was registered."""
    fd: bytes
    """The object id."""
    events: int | None
    data: Any


class ObjectSelector(ABC):
    """Watches object ids; level-triggered. Not thread-safe: one loop owns it.

    What is registered, a *fileobj*, is a ref or has one as its attribute ``object_id``. A failed object is as ready as
    any other: to read it is what raises.
    """

    name: str

    @abstractmethod
    def register(self, fileobj: Any, events: int | None = None, data: Any = None) -> SelectorKey:
        """Watch an object; it is kept until it is unregistered. ``events`` and ``data`` are the caller's.

        Objects that are ready, or failed, already are reported by the next ``select``.

        Raises:
            ValueError: its id is registered already, or ``fileobj`` has none.
            RayConnectionError: the ref belongs to a session that has ended.
            RuntimeError: the selector is closed.
        """

    @abstractmethod
    def unregister(self, fileobj: Any) -> SelectorKey:
        """Stop watching; KeyError if it is not registered."""

    def modify(self, fileobj: Any, events: int | None = None, data: Any = None) -> SelectorKey:
        """Replace ``events`` and ``data`` of what is registered; KeyError if it is not."""
        key = self.unregister(fileobj)
        return self.register(key.fileobj, events, data)

    @abstractmethod
    def select(self, timeout_s: float | None = None, max_keys: int | None = None) -> list[SelectorKey]:
        """Keys whose objects are ready.

        Waits for the first one for up to ``timeout_s``; 0 looks and returns, and None waits for as long as it takes.
        With nothing registered it waits for ``timeout_s`` all the same, but with None not at all: nothing could end it.

        Args:
            timeout_s: seconds.
            max_keys: report no more than so many; those that stay registered take turns.

        Raises:
            RuntimeError: the selector is closed.
        """

    def fileno(self) -> int | None:
        """A descriptor that is readable while ``select(0)`` would report something, for the kernel's selectors.

        None: there is none, and a loop that waits for other things as well has to look again and again.
        """
        return None

    @abstractmethod
    def get_map(self) -> Mapping[bytes, SelectorKey]:
        """Registered keys by object id: a live view."""

    @abstractmethod
    def get_key(self, fileobj: Any) -> SelectorKey:
        """The key of what is registered, or of an id; KeyError if it is not registered."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Idempotent."""


class KeyedSelector(ObjectSelector):
    """The keys of a selector, for implementations to inherit: they add ``select``, ``_begin`` and ``_end``."""

    def __init__(self) -> None:
        #: {object id: key}
        self._keys: dict[bytes, SelectorKey] = {}
        self._closed = False

    def register(self, fileobj: Any, events: int | None = None, data: Any = None) -> SelectorKey:
        self._check_open()
        ref = getattr(fileobj, "object_id", fileobj)
        key = SelectorKey(fileobj, _id_of(fileobj), events, data)
        if ref.is_nil():
            raise ValueError(f"{fileobj!r} stands for no object")
        if key.fd in self._keys:
            raise ValueError(f"{fileobj!r} has already been registered")
        self._begin(key.fd, ref)
        self._keys[key.fd] = key
        return key

    def unregister(self, fileobj: Any) -> SelectorKey:
        key = self._keys.pop(_id_of(fileobj), None)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        self._end(key.fd)
        return key

    def modify(self, fileobj: Any, events: int | None = None, data: Any = None) -> SelectorKey:
        key = self.get_key(fileobj)._replace(events=events, data=data)
        self._keys[key.fd] = key
        return key

    def get_map(self) -> Mapping[bytes, SelectorKey]:
        return MappingProxyType(self._keys)

    def get_key(self, fileobj: Any) -> SelectorKey:
        try:
            return self._keys[fileobj if isinstance(fileobj, bytes) else _id_of(fileobj)]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for id in list(self._keys):
                del self._keys[id]
                self._end(id)

    @abstractmethod
    def _begin(self, id: bytes, ref: Any) -> None:
        """Watch an object; if this raises, it is not registered."""

    @abstractmethod
    def _end(self, id: bytes) -> None:
        """Watch it no more."""

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the selector is closed")

    def _wait_for_nothing(self, timeout_s: float | None) -> list[SelectorKey]:
        """What ``select`` does with nothing registered."""
        if timeout_s is not None and timeout_s > 0:
            sleep(timeout_s)
        return []


def _id_of(fileobj: Any) -> bytes:
    ref = getattr(fileobj, "object_id", fileobj)
    try:
        id: bytes = ref.binary()
    except AttributeError:
        raise ValueError(f"{fileobj!r} is no object ref, and has none as its object_id") from None
    return id
