"""What a client has mapped of others' objects, and for how long."""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from typing import Protocol

#: How often this process has forked, as far as Python was told.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


# After, too: another thread may have mapped something in between.
os.register_at_fork(before=_count_fork, after_in_parent=_count_fork)


class Holder(Protocol):
    """The clients that ``Held`` are of."""

    def end_holds(self, held: Held) -> None:
        """Nobody here needs the object. Takes no lock, never waits and never raises: destructors call it."""


class Held:
    """A sealed object that this process has mapped. Its holds end when it is released and its last view has gone."""

    __slots__ = ("_forks", "_memory", "_store", "_token", "holds", "object_id", "serial", "unreleased")

    def __init__(self, store: Holder, object_id: bytes, serial: int, memory: mmap.mmap) -> None:
        self.object_id = object_id
        self.serial = serial
        #: How often the broker has counted this process.
        self.holds = 1
        #: How many ``get`` have no ``release`` yet.
        self.unreleased = 1
        self._store = store
        self._token = [None]
        self._forks = _forks
        self._memory = weakref.ref(memory, self._unmapped)

    def memory(self) -> mmap.mmap | None:
        """The mapping, if some view of it is left."""
        return self._memory()

    def was_forked(self) -> bool:
        """Whether a child of this process may see it for longer."""
        return self._forks != _forks

    def settle(self) -> None:
        """Tell the broker when nobody needs it any more; once."""
        if not self.unreleased and self._memory() is None:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self._token.pop()
                self._store.end_holds(self)

    def _unmapped(self, memory: weakref.ref[mmap.mmap]) -> None:
        """The last view has gone; called on whatever thread that was, maybe by the garbage collector."""
        self.settle()
