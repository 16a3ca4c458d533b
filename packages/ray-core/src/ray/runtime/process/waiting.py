"""Threads that wait: by a lock that is released when the last of what they wait for has happened."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Collection

from ray.protocol.references import FAILED, PENDING, ObjectEntry


class Waiter:
    """Counts completions of the entries it was added to. Called under the runtime's lock, waited for without it."""

    __slots__ = ("_gate", "entries", "needed", "wake")

    #: What the user has called, as errors say it.
    call = "ray.get"

    def __init__(self, needed: int, entries: Collection[ObjectEntry] = ()) -> None:
        self.needed = needed
        #: What it waits for, where that is objects.
        self.entries = entries
        #: Set while the waiting thread polls: makes it look at ``needed``.
        self.wake: Callable[[], None] | None = None
        self._gate = allocate_lock()
        self._gate.acquire()

    def __call__(self, entry: ObjectEntry) -> None:
        self.count()

    def count(self) -> None:
        """One of the awaited things has happened."""
        self.needed -= 1
        if not self.needed:
            self.leave()
            if self.wake is not None:
                self.wake()

    def leave(self) -> None:
        """Have ``block`` return, now or when it is called, with or without the lock. Idempotent."""
        try:
            self._gate.release()
        except RuntimeError:
            pass  # it does already

    def block(self, timeout_s: float | None) -> bool:
        """Wait without the lock until enough are complete; False when the time is over. Interruptible by signals."""
        if timeout_s is None:
            return self._gate.acquire()
        return self._gate.acquire(timeout=min(timeout_s, 1e6))


class NextWaiter(Waiter):
    """Waits for what comes next in a stream."""

    __slots__ = ()

    call = "next(stream)"


class GroupWaiter(Waiter):
    """Waits for ``needed`` of a set of entries; listed with the table instead of with each entry."""

    __slots__ = ()

    call = "ray.wait"

    def __init__(self, entries: set[ObjectEntry], needed: int) -> None:
        super().__init__(needed, entries)

    def completed(self, entry: ObjectEntry) -> None:
        """Some entry of the table is complete."""
        if entry in self.entries and self.needed:
            self.count()


class AllOrFailureWaiter(GroupWaiter):
    """Waits for all of a set of entries, or until one of them has failed."""

    __slots__ = ()

    call = "ray.get"

    def completed(self, entry: ObjectEntry) -> None:
        """Some entry of the table is complete."""
        if entry in self.entries:
            needed = self.needed
            if needed > 1 and entry.status != FAILED:
                self.needed = needed - 1  # as ``count``, with no call before the last one
            elif needed:
                self.needed = 1
                self.count()


def remove_waiter(entry: ObjectEntry, waiter: Callable[[ObjectEntry], None]) -> None:
    """No longer have ``waiter`` called, after a time-out or an interrupt."""
    waiters = entry.waiters
    if entry.status == PENDING and waiters is not None:
        try:
            waiters.remove(waiter)
        except ValueError:
            pass
